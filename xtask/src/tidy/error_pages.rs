//! Every error code has a page that says what to do.

use super::{Finding, assert_clean, files};
use crate::source::Source;

/// The codes without a page: the string literals in functions named `code`, but for the names of features in attributes.
fn check(path: &str, source: &Source, has_page: impl Fn(&str) -> bool) -> Vec<Finding> {
    let functions = source.functions().into_iter().filter(|(name, _)| *name == "code");
    let codes = functions.flat_map(|(_, span)| literals(source, span));
    let missing = codes.filter(|code| is_code(code) && !has_page(code));
    missing
        .map(|code| Finding::of(path, format!("`{code}` has no page docs/errors/{code}.md")))
        .collect()
}

fn literals(source: &Source, span: std::ops::Range<usize>) -> Vec<&str> {
    let quotes = source.code.get(span.clone()).unwrap_or_default().match_indices('"');
    let quotes: Vec<usize> = quotes.map(|(at, _)| span.start + at).collect();
    let pairs = quotes.chunks_exact(2);
    let is_value = |at: usize| {
        !source
            .code
            .get(..at)
            .is_some_and(|before| before.trim_end().ends_with('='))
    };
    pairs
        .filter(|pair| pair.first().is_some_and(|at| is_value(*at)))
        .filter_map(|pair| source.raw.get(pair.first()? + 1..*pair.last()?))
        .collect()
}

fn is_code(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// The files of a crate that hold its conditions.
fn holds_codes(path: &str) -> bool {
    let files = ["/src/refusal.rs", "/src/error.rs", "/src/hub_error.rs"];
    path.starts_with("crates/") && files.iter().any(|file| path.ends_with(file))
}

#[test]
fn a_code_without_page_is_found() {
    let text = "fn code(&self) -> &'static str {\n    match self {\n        Self::A => \"no-page\", // \"why\"\n        \
                #[cfg(feature = \"feature\")]\n        Self::B => \"has-page\",\n    }\n}\nfn other() { \"no-code\" }\n";
    let found = check("a.rs", &Source::new("a.rs", text), |code| code == "has-page");
    assert_eq!(
        found,
        [Finding::of("a.rs", "`no-page` has no page docs/errors/no-page.md")]
    );
}

#[test]
fn codes_have_pages() {
    let files = files();
    let has_page = |code: &str| files.iter().any(|file| file.path == format!("docs/errors/{code}.md"));
    let sources = files.iter().filter(|file| holds_codes(&file.path));
    let checked = sources.filter_map(|file| {
        let source = Source::new(&file.path, file.text.as_deref()?);
        Some(check(&file.path, &source, has_page))
    });
    assert_clean(checked.flatten().collect());
}
