//! Paths: split at the slashes first, then decoded segment by segment (H8).

/// A segment as text; absent if it is no well-formed UTF-8 or has a broken percent sequence.
pub(crate) type Segment = Option<String>;

/// The segments of a raw path, without the slashes at both ends.
pub(crate) fn split(path: &str) -> Vec<Segment> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Vec::new();
    }
    path.split('/').map(|raw| decode(raw, BadPercent::Refused)).collect()
}

/// Whether a segment is one of the fixed words, whose letter case does not matter (H2).
pub(crate) fn is(segment: Option<&Segment>, word: &str) -> bool {
    segment
        .and_then(Option::as_ref)
        .is_some_and(|text| text.eq_ignore_ascii_case(word))
}

/// What becomes of a `%` that is not followed by two hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPercent {
    /// The text is refused.
    Refused,
    /// It stands for itself.
    Kept,
}

/// Decodes percent sequences, once.
pub(crate) fn decode(raw: &str, bad: BadPercent) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        match (tail, bad) {
            ([high, low, after @ ..], _) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            (_, BadPercent::Kept) => bytes.push(b'%'),
            (_, BadPercent::Refused) => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> u8 {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
        .unwrap_or_default()
}

/// Encodes everything but letters, digits and `- . _ ~` (H54).
pub(crate) fn encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |value: u8| DIGITS.get(usize::from(value)).map_or('0', |digit| char::from(*digit));
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str) -> Vec<String> {
        split(path).into_iter().map(|segment| segment.unwrap()).collect()
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        assert_eq!(texts("//instances/a%2Fb/"), ["instances", "a/b"]);
        assert_eq!(texts("/instances/a+b%20c/%F0%9F%9A%80"), ["instances", "a+b c", "🚀"]);
        assert_eq!(texts("instances//x"), ["instances", "", "x"]);
        assert_eq!(texts("/"), Vec::<String>::new());
        assert_eq!(texts("/%2541"), ["%41"]);
    }

    #[test]
    fn broken_segments_are_told_apart_from_the_others() {
        assert_eq!(split("/a/%ff"), [Some("a".to_owned()), None]);
        assert_eq!(split("/%4/%zz/%"), [None, None, None]);
        assert_eq!(decode("100%", BadPercent::Kept).unwrap(), "100%");
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let text = "a b/ü+%~._-@$";
        assert_eq!(encode(text), "a%20b%2F%C3%BC%2B%25~._-%40%24");
        assert_eq!(decode(&encode(text), BadPercent::Refused).unwrap(), text);
    }
}
