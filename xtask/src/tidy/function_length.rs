//! A function fits on a screen or two.

use super::{Finding, code_lines, over_rust};
use crate::source::Source;

const LINES_MAX: usize = 120;

fn check(path: &str, source: &Source) -> Vec<Finding> {
    let lengths = source.functions().into_iter().map(|(name, span)| {
        let first = source.line_of(span.start);
        (name, first, code_lines(source, first..source.line_of(span.end) + 1))
    });
    let long = lengths.filter(|(_, _, count)| *count > LINES_MAX);
    let describe = |name, count| format!("`{name}` has {count} lines of code; the limit is {LINES_MAX}");
    long.map(|(name, line, count)| Finding::at(path, line, describe(name, count)))
        .collect()
}

#[test]
fn a_long_function_is_found() {
    let body = "    a();\n".repeat(LINES_MAX - 1);
    let loud = Source::new("a.rs", &format!("fn short() {{}}\nfn long() {{\n{body}}}\n"));
    let found = check("a.rs", &loud);
    assert_eq!(
        found,
        [Finding::at("a.rs", 1, "`long` has 121 lines of code; the limit is 120")]
    );
}

#[test]
fn comments_and_blank_lines_are_free() {
    let body = "    // why\n\n".repeat(LINES_MAX);
    let quiet = Source::new("a.rs", &format!("fn long() {{\n{body}}}\n"));
    assert_eq!(check("a.rs", &quiet), []);
}

#[test]
fn functions_are_short() {
    over_rust(check);
}
