//! Payloads in responses: as JSON values, or as strings that contain the stored text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use taskhub_core::payload::Payload;

/// A text that may be absent, which is `null`.
pub type Text<'a> = Option<Cow<'a, str>>;

/// A payload as it appears in an answer.
#[derive(Clone, Debug, Default)]
pub enum Shown<'a> {
    /// The payload is absent or not shown: `null`.
    #[default]
    Absent,
    /// JSON, verbatim.
    Json(Cow<'a, RawValue>),
    /// A JSON string.
    Text(Cow<'a, str>),
}

impl<'a> Shown<'a> {
    /// A payload verbatim if it is JSON that all clients can read, and as a JSON string otherwise (H51). A string is also
    /// what was stored before there was a limit of levels, and a reason that happens to be such JSON: one of them would
    /// keep a client from reading a whole list.
    ///
    /// It looks through the whole payload.
    pub fn new(payload: Option<&'a Payload>) -> Self {
        let Some(payload) = payload else { return Self::Absent };
        let text = String::from_utf8_lossy(payload.bytes());
        if text.trim().is_empty() {
            return Self::Text(Cow::Borrowed(""));
        }
        match serde_json::from_slice::<&RawValue>(payload.bytes()) {
            Ok(json) if payload.levels_beyond_limit().is_none() => Self::Json(Cow::Borrowed(json)),
            Ok(_) | Err(_) => Self::Text(text),
        }
    }

    /// A payload as a JSON string that contains the stored text, so that distinctions which JSON does not make are
    /// kept.
    pub fn stored(payload: Option<&'a Payload>) -> Self {
        stored_text(payload).map_or(Self::Absent, Self::Text)
    }

    /// The stored text, from a response in which payloads are strings; also `None` if the value is not a string.
    pub fn into_stored(self) -> Option<Payload> {
        match self {
            Self::Absent | Self::Json(_) => None,
            Self::Text(text) => Some(payload_of(text)),
        }
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Json(json) => json.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Shown<'_> {
    /// A JSON string is read as the text in it, unless that is not Unicode.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(json) = Option::<Box<RawValue>>::deserialize(deserializer)? else {
            return Ok(Self::Absent);
        };
        Ok(match serde_json::from_str(json.get()) {
            Ok(text) => Self::Text(Cow::Owned(text)),
            Err(_) => Self::Json(Cow::Owned(json)),
        })
    }
}

/// The stored text; bytes that are not UTF-8 become replacement characters.
pub(crate) fn stored_text(payload: Option<&Payload>) -> Text<'_> {
    payload.map(|payload| String::from_utf8_lossy(payload.bytes()))
}

/// The payload that a text stands for.
pub(crate) fn payload_of(text: Cow<'_, str>) -> Payload {
    Payload::new(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        serde_json::to_string(&Shown::new(Some(&Payload::text(text)))).unwrap()
    }

    #[test]
    fn a_payload_is_shown_as_json_or_as_text() {
        assert_eq!(shown("1.10"), "1.10");
        assert_eq!(shown(r#"{"b":1, "a":2}"#), r#"{"b":1, "a":2}"#);
        assert_eq!((shown(""), shown(" \n")), ("\"\"".to_owned(), "\"\"".to_owned()));
        assert_eq!(shown("no longer \"needed\""), r#""no longer \"needed\"""#);
        assert_eq!(serde_json::to_string(&Shown::new(None)).unwrap(), "null");
    }

    #[test]
    fn what_is_stored_deeper_is_shown_as_a_text() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(shown(&nested(120)), nested(120));
        assert_eq!(shown(&nested(121)), format!("\"{}\"", nested(121)));
    }

    #[test]
    fn what_is_stored_comes_back_from_its_text() {
        for text in ["", " ", "null", "\"a\"", "{\"b\": 1.10}", "It was time."] {
            let payload = Payload::text(text);
            let json = serde_json::to_string(&Shown::stored(Some(&payload))).unwrap();
            let read: Shown<'_> = serde_json::from_str(&json).unwrap();
            assert_eq!(read.into_stored(), Some(payload));
        }
        let read: Shown<'_> = serde_json::from_str("null").unwrap();
        assert_eq!(read.into_stored(), None);
    }

    #[test]
    fn json_is_read_and_written_again_as_it_was() {
        for json in [
            "1.10",
            "12345678901234567890",
            r#"{"b" : [ ]}"#,
            r#""\ud800""#,
            "\"a\"",
            "null",
        ] {
            let read: Shown<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
    }
}
