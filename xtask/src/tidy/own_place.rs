//! Tests and examples have a place of their own: nothing they use is anybody else's, be it another test of the same
//! process, another process, or what an earlier one with the same id left behind.

use super::{Finding, over_text};
use crate::tree;

/// What two of them can share, and what to do instead. In pieces, so that this file passes its own check.
const SHARED: [(&str, &str); 3] = [
    (
        concat!("temp_", "dir()"),
        "this folder is shared with others; use `tempfile::tempdir()`",
    ),
    (
        concat!("process", "::id()"),
        "a name made of it is not unique, because tests share a process and process ids are reused; use \
        `tempfile::tempdir()`",
    ),
    (
        concat!("CARGO_TARGET_", "TMPDIR"),
        "this folder is shared with others; use `tempfile::tempdir_in`",
    ),
];

/// Makes a folder of its own in one that is shared.
const OWN: &str = "tempdir_in(";

fn check(path: &str, text: &str) -> Vec<Finding> {
    if !["rs", "md"].contains(&tree::extension(path)) {
        return Vec::new();
    }
    let is_shared = |line: &&str, word: &str| {
        let is_own = word == SHARED[2].0 && text.contains(OWN);
        line.contains(word) && !is_own && !line.contains("tidy:allow")
    };
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (word, instead) in SHARED {
            if is_shared(&line, word) {
                findings.push(Finding::at(path, number, format!("`{word}`: {instead}")));
            }
        }
        if has_port(line) && path.contains("/tests/") {
            let what = "another program may use this port; port 0 picks a free one";
            findings.push(Finding::at(path, number, what));
        }
    }
    findings
}

/// Whether a line listens on a port by its number.
fn has_port(line: &str) -> bool {
    let numbered = |text: &str| text.starts_with(|c: char| ('1'..='9').contains(&c));
    let behind = |word: &str| line.split(word).skip(1).any(numbered);
    behind("bind(\"127.0.0.1:") || behind("\"--port\", \"") || behind("--port ")
}

#[test]
fn folders_and_names_that_others_can_have_are_found() {
    let [(temporary, _), (id, _), (target, _)] = SHARED;
    for (path, line, count) in [
        ("crates/a/tests/b.rs", format!("std::env::{temporary}.join(\"x\")"), 1),
        ("docs/a.md", format!("format!(\"hubs-{{}}\", std::{id})"), 1),
        ("crates/a/tests/b.rs", format!("env!(\"{target}\")"), 1),
        ("crates/a/tests/b.rs", format!("tempfile::{OWN}env!(\"{target}\"))"), 0),
        (
            "crates/a/src/b.rs",
            format!("write(std::{id}) // tidy:allow: it is told"),
            0,
        ),
        ("CHANGELOG.txt", format!("`{id}`"), 0),
    ] {
        assert_eq!(check(path, &line).len(), count, "{line}");
    }
}

#[test]
fn ports_by_number_are_found_in_tests() {
    for (line, count) in [
        (concat!("TcpListener::bind(\"127.0.0.1:", "7071\")"), 1),
        (concat!("[\"dev\", \"--port\", \"", "7071\"]"), 1),
        (concat!("$ taskhub dev --port ", "7071"), 1),
        ("TcpListener::bind(\"127.0.0.1:0\")", 0),
        ("[\"dev\", \"--port\", \"0\"]", 0),
        ("taskhub dev --port $PORT", 0),
    ] {
        assert_eq!(check("crates/a/tests/b.rs", line).len(), count, "{line}");
        assert_eq!(check("crates/a/src/b.rs", line).len(), 0, "{line}");
    }
}

#[test]
fn everything_has_a_place_of_its_own() {
    over_text(check);
}
