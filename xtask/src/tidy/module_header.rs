//! Each file says first what it is for.

use super::{Finding, over_rust};
use crate::source::Source;

fn check(path: &str, source: &Source) -> Vec<Finding> {
    if !path.contains("src/") {
        return Vec::new();
    }
    let first = source.raw.lines().map(str::trim).find(|line| !line.is_empty());
    let is_header = |line: &str| line.starts_with("//!") || line.starts_with("#![doc");
    if first.is_some_and(is_header) {
        return Vec::new();
    }
    vec![Finding::of(path, "has no `//!` header that says what the file is for")]
}

#[test]
fn a_file_without_header_is_found() {
    let found = |path, text| check(path, &Source::new(path, text)).len();
    assert_eq!(found("crates/a/src/b.rs", "use std::fmt;\n//! late\n"), 1);
    assert_eq!(found("crates/a/src/b.rs", ""), 1);
    assert_eq!(found("crates/a/src/b.rs", "//! One turn.\n"), 0);
    assert_eq!(found("crates/a/src/lib.rs", "#![doc = include_str!(\"lib.md\")]\n"), 0);
    assert_eq!(found("crates/a/tests/b.rs", "use std::fmt;\n"), 0);
}

#[test]
fn files_have_headers() {
    over_rust(check);
}
