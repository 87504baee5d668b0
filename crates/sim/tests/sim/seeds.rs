//! Seeds that failed once, then fresh ones, on both stores.

use taskhub_sim::{Config, Fault, Medium, Tally, run, seeds_with_reasons, table};

/// Fresh seeds on the reference store.
const FRESH_MEM: u64 = 3_000;
/// Fresh seeds on the embedded store, which takes ten times as long.
const FRESH_EMBEDDED: u64 = 150;

fn passes(seed: u64, medium: Medium) -> Tally {
    let outcome = run(&Config::new(seed, medium));
    if let Some((step, violation)) = outcome.failure {
        panic!(
            "seed {seed} on {medium}, step {step}: {violation}\nrepeat with: cargo run -p taskhub-sim -- --seed {seed} --store {medium} --trace"
        );
    }
    outcome.tally
}

#[test]
fn seeds_that_failed_once_pass() {
    for (seed, _) in seeds_with_reasons() {
        passes(seed, Medium::Mem);
        passes(seed, Medium::Embedded);
    }
}

#[test]
fn every_kind_of_fault_strikes_fresh_seeds_in_memory_and_none_breaks_a_rule() {
    let mut tally = Tally::default();
    for seed in 0..FRESH_MEM {
        tally.add(&passes(seed, Medium::Mem));
    }
    let idle: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| tally.of(*fault) == 0).collect();
    assert!(idle.is_empty(), "{idle:?} never struck:\n{}", table(&tally));
}

#[test]
fn every_kind_of_fault_strikes_fresh_seeds_on_disk_and_none_breaks_a_rule() {
    let mut tally = Tally::default();
    for seed in 0..FRESH_EMBEDDED {
        tally.add(&passes(seed, Medium::Embedded));
    }
    let idle: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| tally.of(*fault) == 0).collect();
    assert!(idle.is_empty(), "{idle:?} never struck:\n{}", table(&tally));
}
