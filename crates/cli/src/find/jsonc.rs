//! JSON as people and their editors write it into settings files: with comments, with commas too many, in UTF-16 (L25).

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use taskhub_core::json;

use crate::files;

/// Reads a settings file; errors contain line and column.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = files::read(path).map_err(|error| error.to_string())?;
    let text = json::text(&bytes).map_err(|wrong| {
        if wrong.encoding != "UTF-8" {
            return format!("its {wrong}, as the mark at its begin promises");
        }
        let read = bytes.get(..wrong.at).unwrap_or_default();
        let lines: Vec<&[u8]> = read.split(|byte| *byte == b'\n').collect();
        let (line, column) = (lines.len(), lines.last().map_or(0, |last| last.len()) + 1);
        format!("it is not UTF-8 at line {line} column {column}")
    })?;
    parse(&text).map_err(|error| error.to_string())
}

/// Reads the text of one. Places in messages are those of the file, since what is not JSON is blanked out.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(&json::without_comments(text))
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
        let text = "{ // one\n \"a\": [1, 2, /* three, */ ], \"b\": \"x // y, }\\\"\", }";
        let value: Value = parse(text).unwrap();
        assert_eq!(value, serde_json::json!({"a": [1, 2], "b": "x // y, }\""}));
        let error = parse::<Value>("{\n  // é\n  \"a\": x\n}").unwrap_err();
        assert_eq!((error.line(), error.column()), (3, 8));
        assert!(parse::<Value>("{\"a\": 1,, }").is_err());
    }

    #[test]
    fn files_are_utf_8_or_utf_16_behind_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.json");
        let text = "{ // é\n \"a\": \"漢\" }";
        let units = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let marked = std::iter::once(0xfeff).chain(text.encode_utf16());
            marked.flat_map(bytes).collect()
        };
        let marked = format!("\u{feff}{text}").into_bytes();
        for bytes in [text.into(), marked, units(u16::to_le_bytes), units(u16::to_be_bytes)] {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read::<Value>(&path), Ok(serde_json::json!({"a": "漢"})), "{bytes:?}");
        }
        for (bytes, said) in [
            (&b"{\n \xff"[..], "it is not UTF-8 at line 2 column 2"),
            (
                &[0xff, 0xfe, 0x00, 0xd8][..],
                "its byte 2 is not UTF-16, as the mark at its begin promises",
            ),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read::<Value>(&path), Err(said.to_owned()));
        }
    }

    #[test]
    fn members_are_found_without_regard_to_case() {
        let value: Value = parse(r#"{"HubName": "X"}"#).unwrap();
        assert_eq!(member(value.as_object().unwrap(), "hubName"), Some(&Value::from("X")));
    }
}
