//! Citations lead somewhere, and a scenario is either tested or listed as open.

use super::{Finding, assert_clean, files};
use crate::citations::{Citations, OPEN, RULES, SCENARIOS};
use crate::rules::missing;
use std::collections::{BTreeMap, BTreeSet};

fn dead_citations(cited: &BTreeMap<String, String>, listed: &BTreeSet<String>, list: &str) -> Vec<Finding> {
    let places = missing(cited, listed).into_iter();
    places
        .map(|(name, path)| Finding::of(path, format!("`{name}` is not in {list}")))
        .collect()
}

fn open_scenarios(all: &Citations) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in all
        .scenarios
        .difference(&all.covered)
        .filter(|name| !all.open.contains(*name))
    {
        findings.push(Finding::of(
            SCENARIOS,
            format!("`{name}` has no test and is not in {OPEN}"),
        ));
    }
    for name in all.open.intersection(&all.covered) {
        let what = format!("`{name}` has a test now; `cargo xtask rules --prune` takes it out");
        findings.push(Finding::of(OPEN, what));
    }
    for name in all.open.difference(&all.scenarios) {
        findings.push(Finding::of(OPEN, format!("`{name}` is not in {SCENARIOS}")));
    }
    findings
}

#[test]
fn a_dead_citation_is_found() {
    let cited = BTreeMap::from([("R300".to_owned(), "src/a.rs".to_owned())]);
    let found = dead_citations(&cited, &BTreeSet::new(), RULES);
    assert_eq!(found, [Finding::of("src/a.rs", "`R300` is not in docs/rules.md")]);
}

#[test]
fn scenarios_are_covered_or_open_and_never_both() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let all = Citations {
        scenarios: set(&["S-covered", "S-open", "S-both", "S-neither"]),
        covered: set(&["S-covered", "S-both"]),
        open: set(&["S-open", "S-both", "S-unknown"]),
        ..Citations::default()
    };
    let found: Vec<String> = open_scenarios(&all).into_iter().map(|finding| finding.0).collect();
    assert_eq!(found.len(), 3);
    assert!(
        ["S-neither", "S-both", "S-unknown"]
            .iter()
            .zip(&found)
            .all(|(name, what)| what.contains(name))
    );
}

#[test]
fn cited_rules_exist() {
    let all = Citations::collect(&files());
    assert_clean(dead_citations(&all.cited_rules, &all.rules, RULES));
}

#[test]
fn cited_scenarios_exist() {
    let all = Citations::collect(&files());
    assert_clean(dead_citations(&all.cited_scenarios, &all.scenarios, SCENARIOS));
}

#[test]
fn scenarios_are_tested_or_open() {
    assert_clean(open_scenarios(&Citations::collect(&files())));
}
