//! Nothing half done, nothing switched off, nothing that waits for the wall clock.

use super::{Finding, is_allowed, over_rust};
use crate::source::Source;

/// Code that must not be there, and what to do instead.
const CODE: [(&str, &str); 4] = [
    ("todo!(", "write it, or return a refusal"),
    ("unimplemented!(", "write it, or return a refusal"),
    (
        "#[ignore",
        "assert what happens today, with a note that names the issue",
    ),
    ("[allow(", "use `expect`, which tells when it is no longer needed"),
];

const SLEEPS: [&str; 2] = ["thread::sleep", "time::sleep"];

const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

fn check(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, (code, comment)) in source.code.lines().zip(source.comments.lines()).enumerate() {
        if is_allowed(source, line) {
            continue;
        }
        for (word, instead) in CODE {
            let is_attribute_of_ours = word != "[allow(" || code.contains("#[allow(") || code.contains("#![allow(");
            if code.contains(word) && is_attribute_of_ours {
                findings.push(Finding::at(path, line, format!("`{word}`: {instead}")));
            }
        }
        if NOTES.iter().any(|note| has_open_note(comment, note)) {
            findings.push(Finding::at(path, line, "a note to ourselves without its issue, `(#N)`"));
        }
        let is_timed = source.is_test.get(line).copied().unwrap_or_default() && !path.starts_with("crates/e2e/");
        if is_timed && SLEEPS.iter().any(|sleep| code.contains(sleep)) {
            findings.push(Finding::at(
                path,
                line,
                "a test sleeps; wait for the event, or use a virtual clock",
            ));
        }
    }
    findings
}

fn has_open_note(comment: &str, note: &str) -> bool {
    comment.match_indices(note).any(|(at, _)| {
        let rest = comment.get(at + note.len()..).unwrap_or_default();
        let number = rest.strip_prefix("(#").and_then(|rest| rest.split(')').next());
        !number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
fn count(path: &str, text: &str) -> usize {
    check(path, &Source::new(path, text)).len()
}

#[test]
fn unfinished_code_is_found() {
    assert_eq!(
        count("src/a.rs", "fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }\n"),
        2
    );
    assert_eq!(count("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"), 1);
    assert_eq!(count("src/a.rs", "#[allow(dead_code)]\n#![allow(unused)]\n"), 2);
    assert_eq!(
        count(
            "src/a.rs",
            "#[expect(dead_code, reason = \"x\")]\nlet a = \"todo!()\";\n"
        ),
        0
    );
}

#[test]
fn notes_need_an_issue() {
    let [first, second] = NOTES;
    assert_eq!(
        count("src/a.rs", &format!("// {first}: later\n// {second} (#1) too far\n")),
        2
    );
    assert_eq!(
        count("src/a.rs", &format!("// {first}(#12): later\nlet a = \"{second}\";\n")),
        0
    );
}

#[test]
fn sleeping_is_found_in_tests_only() {
    let text = "fn a() { thread::sleep(d); }\n#[cfg(test)]\nmod tests {\n    fn b() { tokio::time::sleep(d); }\n}\n";
    assert_eq!(count("crates/x/src/a.rs", text), 1);
    assert_eq!(count("crates/x/tests/a.rs", text), 2);
    assert_eq!(count("crates/e2e/tests/a.rs", text), 0);
}

#[test]
fn nothing_is_left_unfinished() {
    over_rust(check);
}
