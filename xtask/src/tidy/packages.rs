//! Packages of others come from the registry alone, under licences that let us ship a binary with them.
//!
//! `cargo deny` could say the same and more, but is itself four hundred packages to build. What it adds, a look for known
//! vulnerabilities, needs the network, so it is not a test.

use std::process::Command;

use super::{Finding, assert_clean, files};
use crate::tree;

/// Licences that ask for no more than that their text goes along.
const LICENCES: [&str; 9] = [
    "Apache-2.0",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an expression of licences is met by those above: each part that all of it needs, by one of its choices.
fn is_accepted(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let mut parts = plain.split(" AND ");
    let is_known = |choice: &str| LICENCES.contains(&choice.trim());
    parts.all(|part| part.split(" OR ").any(is_known))
}

/// Findings among lines of a package and its licence.
fn check_licences(lines: &str) -> Vec<Finding> {
    let packages = lines.lines().filter_map(|line| line.split_once('|'));
    packages
        .filter(|(_, licence)| !is_accepted(licence))
        .map(|(package, licence)| {
            let licence = if licence.is_empty() { "none" } else { licence };
            let what =
                format!("`{package}` has the licence `{licence}`, which is not in the list of `tidy/packages.rs`");
            Finding::of("Cargo.lock", what)
        })
        .collect()
}

/// Findings among the sources that a lock file names.
fn check_sources(lock: &str) -> Vec<Finding> {
    let sources = lock
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("source = "));
    let foreign = sources.filter(|(_, line)| !line.contains(concat!("regis", "try+")));
    foreign
        .map(|(line, source)| Finding::at("Cargo.lock", line, format!("{source} is not the crates.io registry")))
        .collect()
}

/// All packages that any build on any system takes in.
fn packages() -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(tree::root()).args([
        "tree",
        "--locked",
        "--workspace",
        "--all-features",
        "--target",
        "all",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}|{l}",
    ]);
    let output = cargo.output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("cargo writes text");
    let lines: std::collections::BTreeSet<&str> = lines.lines().collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_licence_must_be_in_the_list_or_leave_a_choice_that_is() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
    ] {
        assert!(is_accepted(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND MPL-2.0"] {
        assert!(!is_accepted(bad), "{bad}");
    }
    assert_eq!(check_licences("a v1.0.0|MIT\nb v2.0.0|GPL-3.0\nc v1.0.0|").len(), 2);
}

#[test]
fn a_package_from_elsewhere_is_found() {
    let lock = "[[package]]\nname = \"a\"\nsource = \"git+https://example.com/a\"\n";
    assert_eq!(check_sources(lock).len(), 1);
}

#[test]
fn packages_of_others_have_accepted_licences_and_come_from_the_registry() {
    let lock = files().into_iter().find(|file| file.path == "Cargo.lock");
    let mut findings = check_sources(&lock.and_then(|lock| lock.text).expect("there is a lock file"));
    let packages = packages();
    assert!(packages.lines().count() > 100, "{packages}");
    findings.extend(check_licences(&packages));
    assert_clean(findings);
}
