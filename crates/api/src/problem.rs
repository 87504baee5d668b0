//! Error answers: those of the management API, and those of our own.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What an error of the management API says, always with these four (H41).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Problem<'a> {
    /// The sentence of its kind.
    pub message: Cow<'a, str>,
    /// What was wrong here.
    pub exception_message: Cow<'a, str>,
    /// For clients an opaque text.
    pub exception_type: Cow<'a, str>,
    /// Always absent.
    pub stack_trace: Option<Cow<'a, str>>,
}

/// A refusal of our own API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody<'a> {
    /// What was refused.
    pub error: Words<'a>,
}

/// The word of a condition, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words<'a> {
    /// The stable word (A10).
    pub code: Cow<'a, str>,
    /// The sentence.
    pub message: Cow<'a, str>,
}

impl<'a> RefusalBody<'a> {
    /// A refusal by its word and sentence.
    pub fn new(code: &'a str, message: &'a str) -> Self {
        Self {
            error: Words {
                code: Cow::Borrowed(code),
                message: Cow::Borrowed(message),
            },
        }
    }
}

/// What an error answer of any form says (H41); absent if that is not understood.
pub fn reason(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let places = ["", "/error/message", "/ExceptionMessage", "/message", "/Message"];
    let mut said = places.into_iter().filter_map(|place| value.pointer(place)?.as_str());
    said.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_whatever_an_error_is_told_in() {
        for (body, told) in [
            (r#"{"error":{"code":"overloaded","message":"later"}}"#, Some("later")),
            (r#"{"Message":"no","ExceptionMessage":"because"}"#, Some("because")),
            (r#"{"message":"no"}"#, Some("no")),
            (r#"{"Message":"no"}"#, Some("no")),
            (r#""text""#, Some("text")),
            ("<html>", None),
            ("{}", None),
        ] {
            assert_eq!(reason(body.as_bytes()).as_deref(), told);
        }
    }
}
