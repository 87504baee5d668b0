//! Nothing in the repository belongs to one machine or one network.

use super::{Finding, over_text};

/// Folders of one machine. In pieces, so that this file passes its own check.
const FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// Where packages come from by default; anything else is somebody's mirror.
const REGISTRIES: [&str; 4] = [
    "https://github.com/rust-lang/crates.io-index",
    "https://index.crates.io/",
    "https://crates.io/",
    "https://registry.npmjs.org/",
];

/// Settings that send a package tool elsewhere.
const REDIRECTS: [&str; 4] = [
    concat!("replace-", "with"),
    concat!("index-", "url"),
    concat!("extra-", "index"),
    concat!("GOPRO", "XY="),
];

fn check(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(line, content)| Some(Finding::at(path, line, wrong(content)?)))
        .collect()
}

fn wrong(line: &str) -> Option<String> {
    if let Some(folder) = FOLDERS.iter().find(|folder| has_absolute(line, folder)) {
        return Some(format!("`{folder}` is a path of one machine"));
    }
    if let Some(word) = REDIRECTS.iter().find(|word| line.contains(**word)) {
        return Some(format!("`{word}` points a package tool at a mirror"));
    }
    let kinds = [concat!("regis", "try+"), concat!("spar", "se+"), "\"resolved\": \""];
    let mut sources = kinds
        .iter()
        .filter_map(|kind| line.split_once(kind).map(|(_, source)| source));
    let foreign = |source: &&str| !REGISTRIES.iter().any(|known| source.starts_with(known));
    sources
        .find(foreign)
        .map(|source| format!("`{source}` is not a public package registry"))
}

/// Whether the folder stands at the start of a path and not in the middle of one.
fn has_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~}>*".contains(c))
    })
}

#[test]
fn paths_of_one_machine_are_found() {
    let [folder, ..] = FOLDERS;
    assert_eq!(check("a.md", &format!("see {folder}x\nand `{folder}`\n")).len(), 2);
    assert_eq!(check("a.md", &format!("target{folder}x, ~{folder}x\n")), []);
}

#[test]
fn mirrors_are_found() {
    let kind = concat!("source = \"regis", "try+");
    let [own, ..] = REGISTRIES;
    assert_eq!(check("Cargo.lock", &format!("{kind}{own}\"\n")), []);
    assert_eq!(
        check("Cargo.lock", &format!("{kind}https://mirror.example/\"\n")).len(),
        1
    );
    let [redirect, ..] = REDIRECTS;
    assert_eq!(
        check(".cargo/config.toml", &format!("{redirect} = \"mirror\"\n")).len(),
        1
    );
}

#[test]
fn the_repository_is_clean() {
    over_text(check);
}
