//! Opaque bytes of user code: inputs, outputs, event payloads, custom status (A14, R29).

use std::fmt;

use bytes::Bytes;

use crate::limits;

/// A payload, stored and returned verbatim. Absent is `Option::None`; empty is a payload of no bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Payload(Bytes);

impl Payload {
    /// Wraps bytes without looking at them.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Wraps a text.
    pub fn text(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes as text; invalid UTF-8 is shown with replacement characters.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The nesting depth, if it is more than all clients can read. The result is meaningless for bytes that are not
    /// JSON.
    pub fn levels_beyond_limit(&self) -> Option<usize> {
        let most = limits::PAYLOAD_LEVELS_MAX;
        // Every level has two ends, so nearly all payloads need no look.
        let levels = if self.len() > 2 * most { levels(&self.0) } else { 0 };
        (levels > most).then_some(levels)
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_text())
    }
}

/// How deep a JSON text is nested.
fn levels(text: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Bytes of an optional payload.
pub(crate) fn size(payload: Option<&Payload>) -> usize {
    payload.map_or(0, Payload::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_of_texts() {
        for (text, deepest) in [
            (&br#"["[[[", "\"[", {"a":[]}]"#[..], 3),
            (b"[{},[],{}]", 2),
            (b"7", 0),
            (br#""[[""#, 0),
            (br#"{"\\":[1]}"#, 2),
        ] {
            assert_eq!(levels(text), deepest);
        }
    }

    #[test]
    fn a_hundred_and_twenty_levels_are_not_too_many() {
        let nested = |levels: usize| Payload::new(format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        assert_eq!(nested(120).levels_beyond_limit(), None);
        assert_eq!(nested(121).levels_beyond_limit(), Some(121));
        assert_eq!(nested(1_000).levels_beyond_limit(), Some(1_000));
        let wide = Payload::new(format!("[{}0]", "[],".repeat(1_000)));
        assert_eq!(wide.levels_beyond_limit(), None);
    }
}
