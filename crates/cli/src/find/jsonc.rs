//! JSON as people write it into settings files: with comments and with commas too many (L25).

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use taskhub_core::json::without_comments;

/// Reads a settings file; what is wrong with it is said with line and column.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let read = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let lines: Vec<&[u8]> = read.split(|byte| *byte == b'\n').collect();
        let (line, column) = (lines.len(), lines.last().map_or(0, |last| last.len()) + 1);
        format!("it is not UTF-8 at line {line} column {column}")
    })?;
    parse(&text).map_err(|error| error.to_string())
}

/// Reads the text of one. Places in messages are those of the file, since what is not JSON is blanked out.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
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
        let value: Value = parse(text).unwrap();
        assert_eq!(value, serde_json::json!({"a": [1, 2], "b": "x // y, }\""}));
        let error = parse::<Value>("{\n  // é\n  \"a\": x\n}").unwrap_err();
        assert_eq!((error.line(), error.column()), (3, 8));
        assert!(parse::<Value>("{\"a\": 1,, }").is_err());
    }

    #[test]
    fn members_are_found_without_regard_to_case() {
        let value: Value = parse(r#"{"HubName": "X"}"#).unwrap();
        assert_eq!(member(value.as_object().unwrap(), "hubName"), Some(&Value::from("X")));
    }
}
