//! JSON as people write it into settings files: with comments and with commas too many (L25).

use serde_json::{Map, Value};
use taskhub_core::json::without_comments;

/// Reads a settings file. Places in messages are those of the file, since what is not JSON is blanked out.
pub(crate) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(&without_comments(text))
}

/// A member of an object, by its name without regard to case.
pub(crate) fn member<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    object.get(name).or_else(|| {
        let found = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_surplus_commas_are_no_obstacle() {
        let text = "\u{feff}{ // one\n \"a\": [1, 2, /* three, */ ], \"b\": \"x // y, }\\\"\", }";
        let value = parse(text).unwrap();
        assert_eq!(value, serde_json::json!({"a": [1, 2], "b": "x // y, }\""}));
        let error = parse("{\n  // é\n  \"a\": x\n}").unwrap_err();
        assert_eq!((error.line(), error.column()), (3, 8));
        assert!(parse("{\"a\": 1,, }").is_err());
    }

    #[test]
    fn members_are_found_without_regard_to_case() {
        let value = parse(r#"{"HubName": "X"}"#).unwrap();
        assert_eq!(member(value.as_object().unwrap(), "hubName"), Some(&Value::from("X")));
    }
}
