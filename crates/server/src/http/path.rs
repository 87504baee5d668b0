//! Paths: split at the slashes first, then decoded segment by segment (H8).

use taskhub_api::percent::decode_strictly;

/// Decodes a segment; `None` if it is not valid UTF-8 or has an invalid percent sequence.
pub(crate) type Segment = Option<String>;

/// The segments of a raw path, without the slashes at both ends.
pub(crate) fn split(path: &str) -> Vec<Segment> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Vec::new();
    }
    path.split('/').map(decode_strictly).collect()
}

/// Whether a segment is one of the fixed words, whose letter case does not matter (H2).
pub(crate) fn is(segment: Option<&Segment>, word: &str) -> bool {
    segment
        .and_then(Option::as_ref)
        .is_some_and(|text| text.eq_ignore_ascii_case(word))
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
    }
}
