//! JSON with its members in the order given, which is what scripts compare (L32).

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Number(i64),
    Text(String),
    /// Stored JSON, byte for byte; in single-line output, newlines in it become blanks.
    Raw(String),
    /// Several.
    Array(Vec<Json>),
    /// Members.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// A text, null if absent.
    pub(crate) fn text(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    /// On several lines, each level two blanks further in; the first line where one is already.
    pub(crate) fn pretty(&self, level: usize) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(level));
        out
    }

    /// On one line without blanks.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    fn write(&self, out: &mut String, level: Option<usize>) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            // Line ends occur in JSON only between its parts, where they say nothing.
            Self::Raw(json) if level.is_none() => out.push_str(&json.replace(['\n', '\r'], " ")),
            Self::Raw(json) => out.push_str(json),
            Self::Array(items) => list(out, level, ('[', ']'), items, |out, level, item| item.write(out, level)),
            Self::Object(members) => list(out, level, ('{', '}'), members, |out, level, (name, value)| {
                out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                out.push_str(if level.is_some() { ": " } else { ":" });
                value.write(out, level);
            }),
        }
    }
}

fn list<T>(
    out: &mut String,
    level: Option<usize>,
    (open, close): (char, char),
    items: &[T],
    write: impl Fn(&mut String, Option<usize>, &T),
) {
    let inner = level.map(|level| level + 1);
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        new_line(out, inner);
        write(out, inner, item);
    }
    if !items.is_empty() {
        new_line(out, level);
    }
    out.push(close);
}

fn new_line(out: &mut String, level: Option<usize>) {
    if let Some(level) = level {
        out.push('\n');
        out.push_str(&"  ".repeat(level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_texts_are_not_escaped_more_than_needed() {
        let value = Json::object([
            ("Z", Json::Text("é \"q\" /\n".to_owned())),
            (
                "A",
                Json::Array(vec![Json::Number(-1), Json::Raw("[1.0,\n2]".to_owned())]),
            ),
            ("N", Json::text(None::<String>)),
            ("E", Json::Array(Vec::new())),
            ("O", Json::object([])),
            ("B", Json::Bool(true)),
        ]);
        let pretty = "{\n  \"Z\": \"é \\\"q\\\" /\\n\",\n  \"A\": [\n    -1,\n    [1.0,\n2]\n  ],\n  \"N\": null,\n  \"E\": [],\n  \
                      \"O\": {},\n  \"B\": true\n}";
        assert_eq!(value.pretty(0), pretty);
        assert_eq!(
            value.compact(),
            r#"{"Z":"é \"q\" /\n","A":[-1,[1.0, 2]],"N":null,"E":[],"O":{},"B":true}"#
        );
    }
}
