//! Texts as parts of a URL: percent sequences, written and read.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but letters, digits and `- . _ ~`, which no URL needs encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a segment of a path or a value of a query: all but letters, digits and `- . _ ~` is encoded (H54).
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The text that was encoded, decoded once; a `%` without two hex digits stands for itself. `None` if it is not UTF-8.
pub fn decode(encoded: &str) -> Option<String> {
    let text = percent_decode_str(encoded).decode_utf8().ok()?;
    Some(text.into_owned())
}

/// The same, and `None` as well if a `%` is not followed by two hex digits.
pub fn decode_strictly(encoded: &str) -> Option<String> {
    let is_whole = |sequence: &str| sequence.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let is_well_formed = encoded.split('%').skip(1).all(is_whole);
    is_well_formed.then(|| decode(encoded)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding() {
        let text = "a b/ü+%~._-@$&=1";
        assert_eq!(encode(text), "a%20b%2F%C3%BC%2B%25~._-%40%24%26%3D1");
        assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        assert_eq!(decode_strictly(&encode(text)).as_deref(), Some(text));
    }

    #[test]
    fn a_text_is_decoded_once() {
        assert_eq!(decode_strictly("%2541%f0%9F%9a%80+").as_deref(), Some("%41🚀+"));
    }

    #[test]
    fn a_percent_sign_without_digits_is_kept_or_refused() {
        for broken in ["100%", "%4", "%zz", "%%41", "a%4/b"] {
            assert_eq!(decode_strictly(broken), None, "{broken}");
        }
        assert_eq!(decode("100%").as_deref(), Some("100%"));
        assert_eq!(decode("%%41%z").as_deref(), Some("%A%z"));
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        assert_eq!((decode("%ff"), decode_strictly("%ff")), (None, None));
    }
}
