//! JSON as it comes from people and their editors: its text, and what stands in it beside the values.

use std::borrow::Cow;

use thiserror::Error;

/// The bytes are not text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("byte {at} is not {encoding}")]
pub struct NoText {
    /// The first one that does not fit.
    pub at: usize,
    /// What it should have been.
    pub encoding: &'static str,
}

/// The text of a file or a body: UTF-8, or UTF-16 with a byte-order mark; the mark is removed.
///
/// # Errors
///
/// If a byte does not fit.
pub fn text(bytes: &[u8]) -> Result<Cow<'_, str>, NoText> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        _ => {
            let mark = b"\xef\xbb\xbf";
            let rest = bytes.strip_prefix(mark).unwrap_or(bytes);
            let text = std::str::from_utf8(rest).map_err(|error| NoText {
                at: bytes.len() - rest.len() + error.valid_up_to(),
                encoding: "UTF-8",
            })?;
            Ok(Cow::Borrowed(text))
        }
    }
}

/// Decodes what stands behind a mark of two bytes.
fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, NoText> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    let mut at = 2;
    let no_text = |at| NoText { at, encoding: "UTF-16" };
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let character = character.map_err(|_| no_text(at))?;
        text.push(character);
        at += 2 * character.len_utf16();
    }
    if odd.is_empty() {
        Ok(Cow::Owned(text))
    } else {
        Err(no_text(at))
    }
}

/// Replaces comments, and commas after the last item of a list or object, by blanks, so that positions in the text do
/// not change. An unterminated comment and everything after it stay unchanged.
pub fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The last significant character, and its position if it is a comma after an item.
    let (mut last, mut last_comma) = ('[', None);
    while let Some(first) = rest.chars().next() {
        let Some(length) = part(rest) else { break };
        let (here, behind) = rest.split_at(length);
        rest = behind;
        if first == '/' && length > 1 {
            out.extend(here.chars().flat_map(|letter| {
                let blank = if letter == '\n' { '\n' } else { ' ' };
                std::iter::repeat_n(blank, letter.len_utf8())
            }));
            continue;
        }
        if let ('}' | ']', Some(at)) = (first, last_comma) {
            out.replace_range(at..=at, " ");
        }
        if !first.is_whitespace() {
            let is_behind_item = first == ',' && !matches!(last, '[' | '{' | ',' | ':');
            last_comma = is_behind_item.then_some(out.len());
            last = first;
        }
        out.push_str(here);
    }
    out.push_str(rest);
    out
}

/// Length of the string, comment or other character that a text begins with; `None` for a comment without an end.
fn part(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [b'"', inner @ ..] => {
            let mut is_escaped = false;
            let end = inner.iter().position(|byte| {
                let is_end = *byte == b'"' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_end
            });
            Some(end.map_or(text.len(), |end| end + 2))
        }
        [b'/', b'/', ..] => Some(text.find('\n').unwrap_or(text.len())),
        [b'/', b'*', inner @ ..] => inner.windows(2).position(|end| end == b"*/").map(|end| end + 4),
        _ => text.chars().next().map(char::len_utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_its_mark_says() {
        let little = |text: &str| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect()
        };
        let big = |text: &str| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(u16::to_be_bytes).collect()
        };
        let given = "{\"é\": \"𝄞\"}\r\n";
        for bytes in [
            given.as_bytes().to_vec(),
            format!("\u{feff}{given}").into_bytes(),
            little(given),
            big(given),
        ] {
            assert_eq!(text(&bytes).unwrap(), given);
        }
        for empty in [&b""[..], b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"] {
            assert_eq!(text(empty).unwrap(), "");
        }
        assert!(matches!(text(b"[1]"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn a_byte_that_does_not_fit_is_named() {
        for (bytes, said) in [
            (&b"[1\xff]"[..], "byte 2 is not UTF-8"),
            (b"\xef\xbb\xbf\xff", "byte 3 is not UTF-8"),
            (b"\xff\xfe[\0\x00\xd8]\0", "byte 4 is not UTF-16"),
            (b"\xfe\xff\0[\0", "byte 4 is not UTF-16"),
        ] {
            assert_eq!(text(bytes).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn comments_and_surplus_commas_become_blanks() {
        for (given, left) in [
            ("{\"a\":1}", "{\"a\":1}"),
            ("1 // one", "1       "),
            ("/* é */1", "        1"),
            ("[1,\n// two\n]", "[1 \n      \n]"),
            ("[1, /* , */ ]", "[1          ]"),
            ("{\"a\":[1,],}", "{\"a\":[1 ] }"),
            ("\"// no /* comment, ]\"", "\"// no /* comment, ]\""),
            (r#"["\"//",]"#, r#"["\"//" ]"#),
            ("[1,,]", "[1,,]"),
            ("[,]", "[,]"),
            ("{\"a\":,}", "{\"a\":,}"),
            ("1/2", "1/2"),
            (r#"["\\",] // x"#, r#"["\\" ]     "#),
            ("/**/ 1", "     1"),
        ] {
            assert_eq!(without_comments(given), left);
            assert_eq!(left.len(), given.len());
        }
        for open in ["1 /* open", "/*/", "\"open // no end"] {
            assert_eq!(without_comments(open), open);
        }
        assert_eq!(without_comments("[1,] /* // ,]"), "[1 ] /* // ,]");
    }
}
