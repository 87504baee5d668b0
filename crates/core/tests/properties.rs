//! What holds whatever happens, in whatever order: random programs, each commit checked by a second
//! fold of its own.

mod program;

use program::{Moves, Program};
use taskhub_core::status::LEGAL;

const SEEDS: u64 = 4_000;
const STEPS: usize = 250;

/// Runs one seed, so that a failure names it.
fn run(seed: u64) -> Moves {
    let outcome = std::panic::catch_unwind(|| {
        let mut program = Program::new(seed);
        program.run(STEPS);
        program.moves
    });
    outcome.unwrap_or_else(|_| panic!("seed {seed} fails"))
}

#[test]
fn every_commit_of_random_programs_folds_to_the_live_state_and_moves_are_legal() {
    let seen: Moves = (0..SEEDS).flat_map(run).collect();
    let legal: Moves = LEGAL.iter().copied().collect();
    assert_eq!(
        seen, legal,
        "the moves seen are those of the table, no more and no fewer (R6)"
    );
}
