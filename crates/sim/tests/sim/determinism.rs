//! The same seed gives the same trace, to the byte.

use taskhub_sim::{Config, Medium, Trace, run};

#[test]
fn a_seed_repeats_its_trace_on_both_stores() {
    for medium in [Medium::Mem, Medium::Embedded] {
        for seed in 0..12 {
            let config = Config {
                trace: Trace::text(),
                ..Config::new(seed, medium)
            };
            let (first, second) = (run(&config).trace.to_string(), run(&config).trace.to_string());
            let differing = first.lines().zip(second.lines()).position(|(one, other)| one != other);
            assert!(
                first == second,
                "seed {seed} on {medium} goes another way at line {differing:?}"
            );
            assert!(
                first.lines().count() > 20,
                "seed {seed} on {medium} does next to nothing"
            );
        }
    }
}

#[test]
fn many_seeds_repeat_the_hash_of_their_trace() {
    let hash = |seed| {
        run(&Config {
            trace: Trace::hash(),
            ..Config::new(seed, Medium::Mem)
        })
        .trace
    };
    for seed in 100..200 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
}
