//! S-crash-everywhere: small plans, with a crash at every single call of the store.

use taskhub_sim::{Medium, crash_everywhere};

fn survives(seeds: std::ops::Range<u64>, medium: Medium) -> u64 {
    let mut calls = 0;
    for seed in seeds {
        let result = crash_everywhere(seed, medium);
        if let Some(((call, is_after), outcome)) = result.failure {
            let moment = if is_after { "after" } else { "before" };
            panic!(
                "seed {seed} on {medium}, crash {moment} call {call}: {:?}",
                outcome.failure
            );
        }
        calls += result.calls;
    }
    calls
}

#[test]
fn s_crash_everywhere_in_memory() {
    let calls = survives(0..30, Medium::Mem);
    assert!(calls > 1_000, "{calls}");
}

#[test]
fn s_crash_everywhere_on_disk() {
    let calls = survives(0..4, Medium::Embedded);
    assert!(calls > 100, "{calls}");
}
