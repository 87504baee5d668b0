//! A file is read in one sitting.

use super::{Finding, over_rust};
use crate::source::Source;

const LINES_MAX: usize = 700;

/// Counts code: no comments, no empty lines, no tests.
fn check(path: &str, source: &Source) -> Vec<Finding> {
    let lines = source.code.lines().zip(&source.is_test);
    let count = lines
        .filter(|(line, is_test)| !**is_test && !line.trim().is_empty())
        .count();
    if count <= LINES_MAX {
        return Vec::new();
    }
    vec![Finding::of(
        path,
        format!("{count} lines of code; split it, the limit is {LINES_MAX}"),
    )]
}

#[test]
fn a_long_file_is_found_and_its_tests_and_comments_do_not_count() {
    let long = "fn a() {}\n".repeat(LINES_MAX);
    let quiet = format!("{long}\n// why\n\n#[cfg(test)]\nmod tests {{\n    fn b() {{}}\n}}\n");
    assert_eq!(check("src/a.rs", &Source::new("src/a.rs", &quiet)), []);
    let loud = format!("{long}fn b() {{}}\n");
    assert_eq!(check("src/a.rs", &Source::new("src/a.rs", &loud)).len(), 1);
}

#[test]
fn files_are_short() {
    over_rust(check);
}
