//! One concept, one word: names that say nothing, and words the glossary replaces.

use super::{Finding, is_allowed, over_rust};
use crate::source::{self, Source};

/// Words that `docs/glossary.md` has another word for.
const REPLACED: [(&str, &str); 4] = [
    ("episode", "turn"),
    ("mailbox", "inbox"),
    ("shard", "partition"),
    ("poisoned", "stalled"),
];

const EMPTY_SUFFIXES: [&str; 3] = ["Manager", "Helper", "Impl"];

fn check(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = types(path, source);
    findings.extend(functions(path, source));
    for (line, code) in source.code.lines().enumerate() {
        // The standard library calls a lock poisoned, and there the word is right.
        let is_lock = code.contains("PoisonError");
        for (word, ours) in REPLACED {
            if has_part(code, word) && !is_lock && !is_allowed(source, line) {
                findings.push(Finding::at(
                    path,
                    line,
                    format!("the glossary uses `{ours}`, not `{word}`"),
                ));
            }
        }
    }
    findings
}

fn types(path: &str, source: &Source) -> Vec<Finding> {
    let keywords = ["struct", "enum", "trait", "type", "union"];
    let mut findings = Vec::new();
    for keyword in keywords {
        for at in source::words(&source.code, keyword) {
            let name = source::identifier_after(&source.code, at + keyword.len()).unwrap_or_default();
            if let Some(suffix) = EMPTY_SUFFIXES.iter().find(|suffix| name.ends_with(**suffix)) {
                let what = format!("`{name}`: `{suffix}` says nothing, name what it does");
                findings.push(Finding::at(path, source.line_of(at), what));
            }
        }
    }
    findings
}

fn functions(path: &str, source: &Source) -> Vec<Finding> {
    let is_empty_name =
        |name: &str| name.starts_with("do_") || name.starts_with("process_") || name.ends_with("_inner");
    let names = source::words(&source.code, "fn")
        .filter_map(|at| Some((at, source::identifier_after(&source.code, at + 2)?)))
        .filter(|(_, name)| is_empty_name(name));
    let what = |name| format!("`{name}`: a function is a verb that says what it does");
    names
        .map(|(at, name)| Finding::at(path, source.line_of(at), what(name)))
        .collect()
}

/// Whether an identifier in the line has the word, or its plural, as a part.
fn has_part(code: &str, word: &str) -> bool {
    let identifiers = code.split(|c: char| !c.is_alphanumeric());
    identifiers.flat_map(parts).any(|part| {
        let part = part.to_lowercase();
        part.strip_prefix(word)
            .is_some_and(|ending| ["", "s", "es"].contains(&ending))
    })
}

/// `ShardCount` is made of `Shard` and `Count`.
fn parts(identifier: &str) -> Vec<&str> {
    let mut cuts: Vec<usize> = vec![0];
    let bytes = identifier.as_bytes();
    let starts = bytes.windows(2).enumerate().filter_map(|(at, pair)| match pair {
        [before, after] if before.is_ascii_lowercase() && after.is_ascii_uppercase() => Some(at + 1),
        _ => None,
    });
    cuts.extend(starts);
    cuts.push(identifier.len());
    cuts.windows(2)
        .filter_map(|cut| identifier.get(*cut.first()?..*cut.last()?))
        .collect()
}

#[test]
fn empty_type_and_function_names_are_found() {
    let text = "struct HubManager;\ntrait ReadHelper {}\ntype X = u8;\nfn do_it() {}\nfn process_all() {}\nfn read_inner();\nfn redo_it() {}\n";
    assert_eq!(check("a.rs", &Source::new("a.rs", text)).len(), 5);
}

#[test]
fn replaced_words_are_found_as_parts_of_identifiers() {
    let found = |text| check("a.rs", &Source::new("a.rs", text)).len();
    assert_eq!(found("let shard_count = self.mailboxes(EpisodeKind::New);"), 3);
    assert_eq!(found("let sharded = \"shard\"; // an episode"), 0);
    assert_eq!(found("lock.is_poisoned() // tidy:allow: std's word"), 0);
    assert_eq!(found("lock.is_poisoned()"), 1);
}

#[test]
fn names_say_something() {
    over_rust(check);
}
