//! `cargo xtask rules`: compares what the code cites with what the lists hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::process::ExitCode;

use crate::citations::{Citations, OPEN, RULES, SCENARIOS};
use crate::{prune, tree};

/// Prints the differences. Fails on a citation that leads nowhere; the rest is for information.
pub(crate) fn report() -> ExitCode {
    let all = match tree::read() {
        Ok(files) => Citations::collect(&files),
        Err(error) => return unreadable(&error),
    };
    let missing_rules = missing(&all.cited_rules, &all.rules);
    let missing_scenarios = missing(&all.cited_scenarios, &all.scenarios);
    print_places(&format!("cited, not in {RULES}"), &missing_rules);
    print_places(&format!("cited, not in {SCENARIOS}"), &missing_scenarios);
    print_names(
        &format!("in {RULES}, cited nowhere"),
        uncited(&all.rules, &all.cited_rules),
    );
    print_names(
        &format!("in {SCENARIOS}, cited nowhere"),
        uncited(&all.scenarios, &all.cited_scenarios),
    );
    print_names(
        &format!("in {OPEN}, though covered"),
        all.open.intersection(&all.covered),
    );
    if missing_rules.is_empty() && missing_scenarios.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Rewrites the lists. A scenario that is still owed a test keeps its row, unless `drop_open`.
pub(crate) fn prune(drop_open: bool) -> ExitCode {
    match try_prune(drop_open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unreadable(&error),
    }
}

fn try_prune(drop_open: bool) -> io::Result<()> {
    let all = Citations::collect(&tree::read()?);
    let is_cited = |name: &str| all.cited_scenarios.contains_key(name);
    let is_open = |name: &str| all.open.contains(name) && !all.covered.contains(name);
    let keep_scenario = |name: &str| is_cited(name) || (is_open(name) && !drop_open);
    rewrite(RULES, |text| {
        prune::rows(text, |name| all.cited_rules.contains_key(name))
    })?;
    rewrite(SCENARIOS, |text| prune::rows(text, keep_scenario))?;
    rewrite(OPEN, |text| {
        prune::names(text, |name| {
            all.scenarios.contains(name) && is_open(name) && keep_scenario(name)
        })
    })
}

fn rewrite(path: &str, change: impl Fn(&str) -> String) -> io::Result<()> {
    let path = tree::root().join(path);
    let before = fs::read_to_string(&path)?;
    let after = change(&before);
    let lines = before.lines().count() - after.lines().count().min(before.lines().count());
    println!("{}: {lines} lines fewer", path.display());
    if after == before {
        Ok(())
    } else {
        fs::write(path, after)
    }
}

/// Cited names without a row, each with a file that cites it.
pub(crate) fn missing<'a>(cited: &'a BTreeMap<String, String>, listed: &BTreeSet<String>) -> Vec<(&'a str, &'a str)> {
    let absent = cited.iter().filter(|(name, _)| !listed.contains(*name));
    // Single letters with a number are common; only these two kinds are ours beyond doubt.
    let ours = absent.filter(|(name, _)| !name.starts_with(['P', 'I']));
    ours.map(|(name, path)| (name.as_str(), path.as_str())).collect()
}

fn uncited<'a>(listed: &'a BTreeSet<String>, cited: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a String> {
    listed.iter().filter(|name| !cited.contains_key(*name))
}

fn print_places(title: &str, places: &[(&str, &str)]) {
    println!("{title}: {}", places.len());
    for (name, path) in places {
        println!("  {name}  ({path})");
    }
}

fn print_names<'a>(title: &str, names: impl Iterator<Item = &'a String>) {
    let names: Vec<&str> = names.map(String::as_str).collect();
    println!("{title}: {}", names.len());
    if !names.is_empty() {
        println!("  {}", names.join(" "));
    }
}

fn unreadable(error: &io::Error) -> ExitCode {
    eprintln!("error: cannot read or write the repository's files: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_our_own_letters_are_missed() {
        let cited = ["R1", "R9", "P99", "S-x"].map(|name| (name.to_owned(), "a.rs".to_owned()));
        let listed = BTreeSet::from(["R1".to_owned()]);
        assert_eq!(
            missing(&BTreeMap::from(cited), &listed),
            [("R9", "a.rs"), ("S-x", "a.rs")]
        );
    }
}
