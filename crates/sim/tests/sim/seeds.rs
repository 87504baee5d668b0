//! Seeds that failed once, fixed seeds under which every fault strikes, and fresh ones, on both stores.

use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use taskhub_sim::{Bug, Config, Fault, Medium, Tally, command, failure, run, seeds_with_reasons, table};

/// Fixed seeds on the reference store.
const FIXED_MEM: u64 = 1_500;
/// Fixed seeds on the embedded store, which takes ten times as long.
const FIXED_EMBEDDED: u64 = 100;
/// Fresh seeds of each run.
const FRESH_MEM: u64 = 1_500;
const FRESH_EMBEDDED: u64 = 50;
/// Fresh seeds are below this, so that they can be typed.
const FRESH_BELOW: u64 = 1 << 40;

/// Runs a seed; if it breaks a rule, says all that helps to find out why.
fn passes(config: &Config) -> Result<Tally, String> {
    let outcome = run(config);
    match &outcome.failure {
        None => Ok(outcome.tally),
        Some((step, violation)) => Err(failure(config, *step, violation)),
    }
}

/// Where seeds are kept that failed in this working copy, until they pass.
fn kept_in(medium: Medium) -> PathBuf {
    let folder = env!("CARGO_TARGET_TMPDIR"); // tidy:allow: what is kept outlives the run, and a test writes only its own file
    Path::new(folder).join(format!("failed-seeds-{medium}.txt"))
}

fn kept(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn keep(file: &Path, seeds: &[u64]) {
    let lines: Vec<String> = seeds.iter().map(u64::to_string).collect();
    if let Err(error) = fs::write(file, lines.join("\n")) {
        panic!("{}: {error}", file.display());
    }
}

/// Runs the seeds that failed before and then fresh ones. What fails is kept, what passes again is not any more.
fn hunt(file: &Path, fresh: Range<u64>, config: impl Fn(u64) -> Config) -> Result<(), String> {
    let before = kept(file);
    for seed in before.iter().copied().chain(fresh) {
        if let Err(what) = passes(&config(seed)) {
            let mut failing: Vec<u64> = before.iter().copied().skip_while(|kept| *kept != seed).collect();
            failing.extend((!before.contains(&seed)).then_some(seed));
            keep(file, &failing);
            return Err(format!(
                "{what}\nthe seed is kept in {} and run first until it passes; then add it to crates/sim/seeds.txt",
                file.display()
            ));
        }
    }
    if !before.is_empty() {
        keep(file, &[]);
    }
    Ok(())
}

fn hunt_fresh(medium: Medium, count: u64) {
    let first = fastrand::u64(..FRESH_BELOW);
    let last = first + count - 1;
    // Past the test harness, which shows only what failing tests print.
    let _unseen = writeln!(io::stderr(), "simulator: fresh seeds {first} to {last} on {medium}");
    if let Err(what) = hunt(&kept_in(medium), first..first + count, |seed| Config::new(seed, medium)) {
        panic!("{what}");
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    for (seed, _) in seeds_with_reasons() {
        for medium in [Medium::Mem, Medium::Embedded] {
            passes(&Config::new(seed, medium)).unwrap_or_else(|what| panic!("{what}"));
        }
    }
}

fn every_fault_strikes(count: u64, medium: Medium) {
    let mut tally = Tally::default();
    for seed in 0..count {
        let one = passes(&Config::new(seed, medium)).unwrap_or_else(|what| panic!("{what}"));
        tally.add(&one);
    }
    let idle: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| tally.of(*fault) == 0 && (medium == Medium::Embedded || !fault.is_of_disk()))
        .collect();
    assert!(idle.is_empty(), "{idle:?} never struck:\n{}", table(&tally));
}

#[test]
fn every_kind_of_fault_strikes_fixed_seeds_in_memory_and_none_breaks_a_rule() {
    every_fault_strikes(FIXED_MEM, Medium::Mem);
}

#[test]
fn every_kind_of_fault_strikes_fixed_seeds_on_disk_and_none_breaks_a_rule() {
    every_fault_strikes(FIXED_EMBEDDED, Medium::Embedded);
}

#[test]
fn fresh_seeds_in_memory_break_no_rule() {
    hunt_fresh(Medium::Mem, FRESH_MEM);
}

#[test]
fn fresh_seeds_on_disk_break_no_rule() {
    hunt_fresh(Medium::Embedded, FRESH_EMBEDDED);
}

#[test]
fn a_seed_that_fails_is_kept_and_run_first_until_it_passes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failed-seeds.txt");
    let has_bug = |seed| Config {
        bug: Some(Bug::EarlyRelease),
        ..Config::new(seed, Medium::Mem)
    };
    let sound = |seed| Config::new(seed, Medium::Mem);
    let told = hunt(&file, 0..1_000, has_bug).unwrap_err();
    let failed = kept(&file);
    assert_eq!(failed.len(), 1, "{told}");
    assert!(told.contains(&command(failed[0], Medium::Mem)), "{told}");
    assert!(told.contains("smallest of "), "{told}");
    assert!(told.contains(&file.display().to_string()), "{told}");
    assert!(hunt(&file, 0..0, has_bug).is_err(), "it is run without any fresh seeds");
    assert_eq!(kept(&file), failed);
    hunt(&file, 0..0, sound).unwrap();
    assert_eq!(kept(&file), [0_u64; 0]);
}
