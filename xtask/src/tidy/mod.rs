//! The house rules that neither compiler nor clippy checks, as ordinary tests.
//!
//! Each check is a pure function from a path and its text to findings, with tests that show it
//! failing; its last test runs it over the repository. To let one line pass, say why in a comment
//! on that line that contains `tidy:allow`.

mod crates;
mod error_pages;
mod file_length;
mod function_length;
mod hygiene;
mod links;
mod lists;
mod module_header;
mod names;
mod own_place;
mod packages;
mod size;
mod unfinished;

use crate::source::Source;
use crate::tree::{self, File};

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding(String);

impl Finding {
    /// A finding about a file as a whole.
    fn of(path: &str, what: impl AsRef<str>) -> Self {
        Self(format!("{path}: {}", what.as_ref()))
    }

    /// A finding at a line, counted from 0.
    fn at(path: &str, line: usize, what: impl AsRef<str>) -> Self {
        Self(format!("{path}:{}: {}", line + 1, what.as_ref()))
    }
}

/// The files of the repository.
fn files() -> Vec<File> {
    tree::read().expect("the repository is readable")
}

/// Runs a check over every Rust file that people wrote.
fn over_rust(check: impl Fn(&str, &Source) -> Vec<Finding>) {
    over_text(|path, text| {
        if tree::extension(path) == "rs" && !is_generated(path) {
            check(path, &Source::new(path, text))
        } else {
            Vec::new()
        }
    });
}

/// Runs a check over every text file.
fn over_text(check: impl Fn(&str, &str) -> Vec<Finding>) {
    let files = files();
    let texts = files
        .iter()
        .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)));
    assert_clean(texts.flat_map(|(path, text)| check(path, text)).collect());
}

fn assert_clean(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.into_iter().map(|finding| finding.0).collect();
    assert!(lines.is_empty(), "{} findings\n{}", lines.len(), lines.join("\n"));
}

fn is_generated(path: &str) -> bool {
    path.contains("generated")
}

/// Whether a line is exempt, by a comment that says so.
fn is_allowed(source: &Source, line: usize) -> bool {
    source
        .raw
        .lines()
        .nth(line)
        .is_some_and(|text| text.contains("tidy:allow"))
}

/// Lines of code in this range of lines: not empty, not comment.
fn code_lines(source: &Source, lines: std::ops::Range<usize>) -> usize {
    let range = source.code.lines().skip(lines.start).take(lines.len());
    range.filter(|line| !line.trim().is_empty()).count()
}
