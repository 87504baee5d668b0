//! Links in Markdown lead to files that exist.

use super::{Finding, over_text};
use crate::tree;

/// Checks relative links; `exists` takes a path from the root.
fn check(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_block = false;
    for (line, content) in text.lines().enumerate() {
        if content.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        let targets = targets(content).into_iter().filter(|_| !in_block);
        for target in targets.filter(|target| is_relative(target)) {
            let file = target.split('#').next().unwrap_or_default();
            if !resolve(path, file).is_some_and(|resolved| exists(&resolved)) {
                findings.push(Finding::at(path, line, format!("the target `{target}` does not exist")));
            }
        }
    }
    findings
}

/// What stands in the parentheses of `[text](target "title")`, outside inline code.
fn targets(line: &str) -> Vec<&str> {
    let prose = |at: usize| {
        line.get(..at)
            .is_some_and(|before| before.matches('`').count() % 2 == 0)
    };
    let links = line.match_indices("](").filter(|(at, _)| prose(*at));
    links
        .filter_map(|(at, open)| {
            line.get(at + open.len()..)?
                .split(')')
                .next()?
                .split_whitespace()
                .next()
        })
        .collect()
}

/// Not a web address, not a place on the same page, not a path inside Rust documentation.
fn is_relative(target: &str) -> bool {
    !target.contains(':') && !target.starts_with('#')
}

/// The path from the root, or nothing if it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[test]
fn a_dead_link_is_found() {
    let text = "[a](b.md) [c](../x.md#part) ![d](gone.svg \"t\") [e](../../out.md)\n";
    let found = check("docs/a.md", text, |path| ["docs/b.md", "x.md"].contains(&path));
    let wanted =
        ["gone.svg", "../../out.md"].map(|t| Finding::at("docs/a.md", 0, format!("the target `{t}` does not exist")));
    assert_eq!(found, wanted);
}

#[test]
fn addresses_anchors_and_code_are_left_alone() {
    let text = "[a](https://x.y/z) [b](#c) [d](crate::Hub) `[e](f)`\n```\n[g](h.md)\n```\n";
    assert_eq!(check("a.md", text, |_| false), []);
}

#[test]
fn links_resolve() {
    let root = tree::root();
    over_text(|path, text| {
        if tree::extension(path) == "md" {
            check(path, text, |target| root.join(target).exists())
        } else {
            Vec::new()
        }
    });
}
