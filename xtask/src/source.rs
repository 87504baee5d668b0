//! Rust source seen without its comments and strings, or as its comments only.
//!
//! The checks look for words and braces, which mean nothing inside a string. This is a scanner, not
//! a parser: it knows exactly as much of the language as telling code, comment and literal apart
//! needs. All views keep the length and the lines of the original.

use std::ops::Range;

/// A source file and its views.
#[derive(Debug)]
pub(crate) struct Source {
    /// The text as written.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy looks at raw text"))]
    pub(crate) raw: String,
    /// Comments and the content of literals replaced by spaces.
    pub(crate) code: String,
    /// Everything but comments replaced by spaces.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy looks at comments"))]
    pub(crate) comments: String,
    /// For each line, whether it belongs to tests.
    pub(crate) is_test: Vec<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Source {
    /// Scans one file; the path tells whether it is a test as a whole.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let kinds = classify(text.as_bytes());
        let code = view(text, &kinds, Kind::Code);
        let comments = view(text, &kinds, Kind::Comment);
        let mut is_test = vec![is_test_file(path); text.lines().count()];
        for lines in test_modules(&code) {
            for flag in is_test.iter_mut().take(lines.end).skip(lines.start) {
                *flag = true;
            }
        }
        Self {
            raw: text.to_owned(),
            code,
            comments,
            is_test,
        }
    }

    /// The functions of the file: name and the bytes from the name to the closing brace.
    pub(crate) fn functions(&self) -> Vec<(&str, Range<usize>)> {
        words(&self.code, "fn")
            .filter_map(|at| function_at(&self.code, at))
            .collect()
    }

    /// The index of the line that holds this byte.
    pub(crate) fn line_of(&self, byte: usize) -> usize {
        self.code.get(..byte).map_or(0, |before| before.matches('\n').count())
    }
}

/// Whether a file consists of tests as a whole.
pub(crate) fn is_test_file(path: &str) -> bool {
    let folders = ["/tests/", "/conformance/", "crates/e2e/"];
    path.ends_with("/tests.rs") || folders.iter().any(|part| path.contains(part))
}

/// Where a word stands in the text, as a whole word.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        !is_word(before) && !is_word(bytes.get(at + word.len()))
    })
}

/// The identifier that starts at or after this byte, spaces skipped.
pub(crate) fn identifier_after(code: &str, at: usize) -> Option<&str> {
    let rest = code.get(at..)?.trim_start();
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

fn function_at(code: &str, at: usize) -> Option<(&str, Range<usize>)> {
    let name = identifier_after(code, at + 2)?;
    let mut depth = 0_i32;
    for (offset, byte) in code.as_bytes().get(at..)?.iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => {
                let start = at + offset;
                return Some((name, at..closing_brace(code, start)?));
            }
            _ => {}
        }
    }
    None
}

fn closing_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (offset, byte) in code.as_bytes().get(open..)?.iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + offset + 1);
        }
    }
    None
}

/// Line ranges of the modules marked as tests.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    let line_of = |byte: usize| code.get(..byte).map_or(0, |before| before.matches('\n').count());
    let mut found = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let after = at + attribute.len();
        let Some(rest) = code.get(after..) else {
            continue;
        };
        let Some(open) = rest.find(['{', ';']) else {
            continue;
        };
        let end = match rest.as_bytes().get(open) {
            Some(b'{') => closing_brace(code, after + open),
            _ => Some(after + open),
        };
        if let Some(end) = end {
            found.push(line_of(at)..line_of(end) + 1);
        }
    }
    found
}

/// The bytes of one kind; others become spaces, but for line ends and the quotes around literals.
fn view(text: &str, kinds: &[Kind], wanted: Kind) -> String {
    let mut out = Vec::with_capacity(text.len());
    for (byte, kind) in text.bytes().zip(kinds) {
        out.push(if *kind == wanted || byte == b'\n' { byte } else { b' ' });
    }
    // Runs of one kind begin and end at ASCII bytes, so a view is UTF-8 as the text is.
    String::from_utf8_lossy(&out).into_owned()
}

fn classify(bytes: &[u8]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(bytes.len());
    while let Some(rest) = bytes.get(kinds.len()..).filter(|rest| !rest.is_empty()) {
        let previous = kinds.len().checked_sub(1).and_then(|i| bytes.get(i)).copied();
        let (kind, length, quotes) = next_run(rest, previous);
        let inner = length.saturating_sub(quotes.0 + quotes.1);
        kinds.extend(std::iter::repeat_n(Kind::Code, quotes.0.min(length)));
        kinds.extend(std::iter::repeat_n(kind, inner));
        kinds.extend(std::iter::repeat_n(
            Kind::Code,
            quotes.1.min(length - quotes.0.min(length)),
        ));
    }
    kinds
}

/// The kind and length of what comes next, and how much of it at both ends is punctuation.
fn next_run(rest: &[u8], previous: Option<u8>) -> (Kind, usize, (usize, usize)) {
    let in_word = previous.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => {
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            (Kind::Comment, end, (0, 0))
        }
        [b'/', b'*', ..] => (Kind::Comment, block_comment(rest), (0, 0)),
        [b'"', ..] => (Kind::Literal, quoted(rest, b'"'), (1, 1)),
        [b'r', b'"' | b'#', ..] if !in_word => raw_string(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !in_word => raw_string(rest, 2),
        [b'\'', b'\\', ..] => (Kind::Literal, quoted(rest, b'\''), (1, 1)),
        [b'\'', ..] => match char_literal(rest) {
            Some(length) => (Kind::Literal, length, (1, 1)),
            None => (Kind::Code, 1, (0, 0)),
        },
        _ => (Kind::Code, 1, (0, 0)),
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b if *b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw identifier (`r#type`) begins like a raw string and is code.
fn raw_string(rest: &[u8], prefix: usize) -> (Kind, usize, (usize, usize)) {
    let hashes = rest.iter().skip(prefix).take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return (Kind::Code, prefix, (0, 0));
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let tail = rest.get(open + 1..).unwrap_or_default();
    let end = tail.windows(close.len()).position(|window| window == close.as_slice());
    let length = end.map_or(rest.len(), |end| open + 1 + end + close.len());
    (Kind::Literal, length, (open + 1, close.len()))
}

/// `'x'` is a literal, `'x` a lifetime.
fn char_literal(rest: &[u8]) -> Option<usize> {
    let first = *rest.get(1)?;
    let width = match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("src/a.rs", text).code
    }

    #[test]
    fn comments_and_literals_leave_the_code_view() {
        let text = "let a = \"x // y\"; // why \"q\"\nlet b = '{'; /* { /* } */ */ c()";
        let seen = code(text);
        assert_eq!(seen.len(), text.len());
        assert_eq!(
            seen.split_whitespace().collect::<Vec<_>>().join(" "),
            "let a = \" \"; let b = ' '; c()"
        );
    }

    #[test]
    fn raw_strings_lifetimes_and_escapes_are_told_apart() {
        let text = "fn f<'a>(x: &'a str) { g(r#\"\"}\"#, '\\'', \"\\\"}\", 'é', r#type) }";
        assert_eq!(code(text).matches('}').count(), 1);
        assert!(code(text).contains("r#type"));
    }

    #[test]
    fn the_comment_view_holds_nothing_else() {
        let source = Source::new("src/a.rs", "let a = \"TO\"; // DO\n");
        assert_eq!(source.comments.trim(), "// DO");
    }

    #[test]
    fn lines_of_test_modules_are_marked() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("src/a.rs", text);
        assert_eq!(source.is_test, [false, true, true, true, true, false]);
        assert!(
            Source::new("crates/x/tests/a.rs", text)
                .is_test
                .iter()
                .all(|flag| *flag)
        );
    }

    #[test]
    fn functions_are_found_with_their_bodies() {
        let text = "trait T { fn none(&self); }\nfn one(a: [u8; 3]) -> u8 { if x { y } }\n";
        let source = Source::new("src/a.rs", text);
        let found: Vec<_> = source
            .functions()
            .into_iter()
            .map(|(name, span)| (name, &text[span]))
            .collect();
        assert_eq!(found, [("one", "fn one(a: [u8; 3]) -> u8 { if x { y } }")]);
    }
}
