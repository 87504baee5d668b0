//! What the program prints, and the list of seeds that once failed.

use std::fmt::Write as _;

use crate::fault::{Fault, Tally};

/// Seeds that failed once, each with the reason.
const SEEDS: &str = include_str!("../seeds.txt");

/// The seeds that failed once and are run first for ever, each with the reason.
pub fn seeds_with_reasons() -> Vec<(u64, &'static str)> {
    let lines = SEEDS
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(seed, why)| Some((seed.parse().ok()?, why.trim())))
        .collect()
}

/// The kinds of fault and how often each struck, and what else happened.
pub fn table(tally: &Tally) -> String {
    let mut out = String::new();
    for fault in Fault::ALL {
        let _infallible = writeln!(out, "{:<18}{:>10}", format!("{fault:?}"), tally.of(fault));
    }
    let rest = [
        ("runs", tally.runs),
        ("steps", tally.steps),
        ("turns", tally.turns),
        ("commits", tally.commits),
        ("groups", tally.groups),
        ("instances", tally.instances),
        ("requests", tally.requests),
        ("reloads", tally.reloads),
        ("crashes", tally.crashes),
    ];
    for (name, count) in rest {
        let _infallible = writeln!(out, "{name:<18}{count:>10}");
    }
    out
}
