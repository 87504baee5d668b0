//! Payloads on the command line (L12): inline, from a file, from standard input. Kept byte for byte, apart
//! from outer white space.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::ValueEnum;
use serde::de::IgnoredAny;
use taskhub_core::json;
use taskhub_core::limits;
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;

use crate::stop::{Result, Stop, exit};

/// Said when a payload is not JSON.
const NOT_JSON: &str = "Could not deserialize the input to the orchestration instance into a valid JSON object.";

/// White space of JSON.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// How an inline value is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// As JSON if it is valid JSON, else as a JSON string.
    #[default]
    Auto,
    /// As JSON; anything else is an error.
    Json,
    /// As a JSON string, even with a leading @.
    #[value(name = "string")]
    Text,
}

/// Reads the value of the option called `what`; paths begin at `folder`.
pub(crate) fn read(value: Option<&str>, kind: Type, what: &str, folder: &Path) -> Result<Option<Payload>> {
    let Some(value) = value else { return Ok(None) };
    match value.strip_prefix('@').filter(|_| kind != Type::Text) {
        Some("") => {
            Err(Stop::usage(format!("`--{what} @` does not name a file"))
                .hint("write `@path`, or `@-` for standard input"))
        }
        Some("-") => from_reader(std::io::stdin().lock(), "-", what),
        Some(path) => from_file(path, folder, what),
        None => inline(value, kind, what).map(Some),
    }
}

fn inline(value: &str, kind: Type, what: &str) -> Result<Payload> {
    check_size(value.len() as u64, what)?;
    let trimmed = value.trim_matches(BLANKS);
    match (kind, check(trimmed)) {
        (Type::Auto | Type::Json, Ok(())) => shallow(Payload::text(trimmed), what),
        (Type::Json, Err(error)) => Err(not_json(&format!("--{what}"), &error)),
        (Type::Auto | Type::Text, _) => Ok(Payload::text(&serde_json::Value::from(value).to_string())),
    }
}

/// The warning for a value that begins like JSON but is not valid, and is therefore used as text.
pub(crate) fn doubt(value: Option<&str>, kind: Type, what: &str, type_option: &str) -> Option<String> {
    let trimmed = value.filter(|_| kind == Type::Auto)?.trim_matches(BLANKS);
    let error = check(trimmed).err().filter(|_| trimmed.starts_with(['{', '[', '"']))?;
    let (line, column, reason) = (error.line(), error.column(), reason(&error));
    Some(format!(
        "Warning: --{what} looks like JSON but is not valid JSON ({line}:{column}: {reason}); it is used as text. To say \
         that text is meant, add --{type_option} string."
    ))
}

fn from_file(path: &str, folder: &Path, what: &str) -> Result<Option<Payload>> {
    let missing = || {
        Stop::plain(
            exit::FAILED,
            "file-not-found",
            format!("Could not find input file at '{path}'"),
        )
    };
    let file = File::open(folder.join(path)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => missing().hint(error.to_string()),
    })?;
    let metadata = file.metadata().map_err(|error| missing().hint(error.to_string()))?;
    if metadata.is_dir() {
        return Err(missing().hint("it is a folder"));
    }
    // Said before anything is read.
    check_size(metadata.len(), what)?;
    from_reader(file, path, what)
}

fn from_reader(reader: impl Read, path: &str, what: &str) -> Result<Option<Payload>> {
    let mut bytes = Vec::new();
    // One more than allowed, and room for a mark, so that too much is seen as such.
    let most = limits::PAYLOAD_BYTES_MAX as u64 + 4;
    reader.take(most).read_to_end(&mut bytes).map_err(|error| {
        Stop::plain(
            exit::FAILED,
            "file-not-found",
            format!("Could not find input file at '{path}'"),
        )
        .hint(error.to_string())
    })?;
    check_size(bytes.len() as u64, what)?;
    let text = json::text(&bytes)
        .map_err(|error| Stop::plain(exit::FAILED, "invalid-argument", NOT_JSON).hint(format!("{path}: {error}")))?;
    if text.trim_matches(BLANKS).is_empty() {
        return Ok(None);
    }
    // Of the whole text, so that a message names the line in the file.
    let plain = match check(&text) {
        Ok(()) => text,
        Err(error) => {
            let plain = json::without_comments(&text);
            check(&plain).map_err(|_| not_json(path, &error))?;
            plain.into()
        }
    };
    shallow(Payload::text(plain.trim_matches(BLANKS)), what).map(Some)
}

/// A payload that is JSON, unless it is nested deeper than all clients can read (H16).
fn shallow(payload: Payload, what: &str) -> Result<Payload> {
    let Some(levels) = payload.levels_beyond_limit() else {
        return Ok(payload);
    };
    let what = format!("the {what}");
    Err(Stop::from(&Refusal::PayloadTooDeep { what, levels }))
}

fn check(text: &str) -> std::result::Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}

fn not_json(place: &str, error: &serde_json::Error) -> Stop {
    let (line, column) = (error.line(), error.column());
    let reason = reason(error);
    Stop::plain(exit::FAILED, "invalid-argument", NOT_JSON).hint(format!("{place}:{line}:{column}: {reason}"))
}

/// What is wrong, without the place.
fn reason(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split(" at line ").next().unwrap_or_default().to_owned()
}

fn check_size(bytes: u64, what: &str) -> Result<()> {
    if bytes <= limits::PAYLOAD_BYTES_MAX as u64 {
        return Ok(());
    }
    let most = limits::PAYLOAD_BYTES_MAX;
    let message = format!("the {what} has {bytes} bytes, and at most {most} are accepted");
    Err(Stop::error(exit::FAILED, "payload-too-large", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline_text(value: &str, kind: Type) -> String {
        read(Some(value), kind, "input", Path::new("."))
            .unwrap()
            .unwrap()
            .to_text()
    }

    #[test]
    fn inline_values_are_json_or_become_json_strings() {
        let number = "123456789012345678901234567890123456789012345678901234567890.10";
        for (value, kind, payload) in [
            (r#"{"b":1,  "a":[1.0]}"#, Type::Auto, r#"{"b":1,  "a":[1.0]}"#),
            (" 3 ", Type::Auto, "3"),
            (number, Type::Auto, number),
            ("null", Type::Auto, "null"),
            ("add", Type::Auto, r#""add""#),
            ("", Type::Auto, r#""""#),
            (r#"say "hi" é"#, Type::Auto, r#""say \"hi\" é""#),
            ("3", Type::Text, r#""3""#),
            ("@x", Type::Text, r#""@x""#),
            ("[1,2]", Type::Json, "[1,2]"),
        ] {
            assert_eq!(inline_text(value, kind), payload, "{value:?}");
        }
        let stop = read(Some("{a}"), Type::Json, "input", Path::new(".")).unwrap_err();
        assert_eq!((stop.message.as_str(), stop.exit), (NOT_JSON, 1));
        assert_eq!(stop.hints, ["--input:1:2: key must be a string"]);
        assert_eq!(read(None, Type::Auto, "input", Path::new(".")), Ok(None));
    }

    #[test]
    fn nesting_may_be_as_deep_as_all_clients_can_read() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(inline_text(&nested(120), Type::Auto), nested(120));
        assert_eq!(inline_text(&nested(121), Type::Text), format!("\"{}\"", nested(121)));
        for kind in [Type::Auto, Type::Json] {
            let stop = read(Some(&nested(121)), kind, "input", Path::new(".")).unwrap_err();
            assert_eq!((stop.code, stop.exit), ("payload-too-deep", 1));
            assert_eq!(
                stop.message,
                "the input is nested 121 levels deep, and at most 120 are accepted"
            );
        }
    }

    #[test]
    fn a_file_may_have_a_mark_comments_and_surplus_commas() {
        let of = |bytes: &[u8]| {
            from_reader(bytes, "x.json", "input").map(|payload| payload.map(|payload| payload.to_text()))
        };
        let utf_16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(bytes).collect()
        };
        let text = "{\"é\": 1.10}\r\n";
        for bytes in [utf_16(text, u16::to_le_bytes), utf_16(text, u16::to_be_bytes)] {
            assert_eq!(of(&bytes).unwrap().unwrap(), "{\"é\": 1.10}");
        }
        assert_eq!(of(b"// one\n[1,\n]").unwrap().unwrap(), "[1 \n]");
        for empty in [&b""[..], b"\xef\xbb\xbf \n", b"\xff\xfe"] {
            assert_eq!(of(empty).unwrap(), None);
        }
        for (bad, hint) in [
            (&b"{'a':1}"[..], "x.json:1:2: key must be a string"),
            (b"{a:1}", "x.json:1:2: key must be a string"),
            (b"[NaN]", "x.json:1:2: expected value"),
            (b"// none\n", "x.json:1:1: expected value"),
            (b"[1\xff]", "x.json: byte 2 is not UTF-8"),
            (b"\xff\xfe[", "x.json: byte 2 is not UTF-16"),
        ] {
            let stop = of(bad).unwrap_err();
            assert_eq!((stop.message.as_str(), stop.hints), (NOT_JSON, vec![hint.to_owned()]));
        }
    }
}
