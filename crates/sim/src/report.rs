//! What the program prints, and the list of seeds that once failed.

use std::fmt::Write as _;

use crate::Violation;
use crate::disk::Medium;
use crate::fault::{Fault, Tally};
use crate::shrink::shrink;
use crate::world::Config;

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

/// What runs a seed again and prints everything that happens.
pub fn command(seed: u64, medium: Medium) -> String {
    format!("cargo run -p taskhub-sim -- --seed {seed} --store {medium} --trace")
}

/// What a seed violated, what runs it again, and the smallest scenario that still does the same.
pub fn failure(config: &Config, step: u64, violation: &Violation) -> String {
    let Config { seed, medium, .. } = config;
    let smallest = shrink(config).map_or_else(String::new, |smallest| smallest.to_string());
    let again = command(*seed, *medium);
    format!("seed {seed} on {medium}, step {step}: {violation}\nrepeat with: {again}\n{smallest}")
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
