//! Each bug that a decision guards against, put in on purpose, is found within a few seeds.

use taskhub_sim::{Bug, Config, Medium, Violation, run};

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 300;

/// Runs seeds until one finds the bug, and answers what it violates.
fn found(bug: Bug) -> Violation {
    // Broken assertions are findings here; their reports would only hide the result.
    std::panic::set_hook(Box::new(|_| {}));
    let mut seeds = 0..SEEDS_MAX;
    let found = seeds.find_map(|seed| {
        run(&Config {
            bug: Some(bug),
            ..Config::new(seed, Medium::Mem)
        })
        .failure
    });
    let _previous = std::panic::take_hook();
    let (step, violation) = found.unwrap_or_else(|| panic!("{bug:?} was not found within {SEEDS_MAX} seeds"));
    #[expect(clippy::print_stdout, reason = "shown with --nocapture")]
    {
        println!("{bug:?}: step {step} of seed {}: {violation}", seeds.start - 1);
    }
    violation
}

#[test]
fn an_epoch_that_is_used_again_is_found() {
    found(Bug::EpochReused);
}

#[test]
fn live_orchestrators_that_survive_a_reload_are_found() {
    assert_eq!(found(Bug::LiveOverReload).invariant, "liveness");
}

#[test]
fn a_terminate_that_waits_is_found() {
    assert_eq!(found(Bug::TerminateWaitsForTurn).invariant, "I1");
}

#[test]
fn messages_that_skip_the_outbox_are_found() {
    assert_eq!(found(Bug::MessagesSkipOutbox).invariant, "R188");
}

#[test]
fn a_receipt_that_keeps_its_message_is_found() {
    assert_eq!(found(Bug::ReceiptKeepsMessage).invariant, "I5");
}

#[test]
fn messages_to_partitions_that_are_not_there_yet_are_found() {
    assert_eq!(found(Bug::AdoptsOneByOne).invariant, "I5");
}

#[test]
fn groups_behind_one_that_failed_are_found() {
    assert_eq!(found(Bug::WritesAfterFailure).invariant, "I4");
}

#[test]
fn half_a_group_is_found() {
    assert_eq!(found(Bug::HalfGroup).invariant, "I10");
}

#[test]
fn half_a_commit_is_found() {
    assert_eq!(found(Bug::HalfCommit).invariant, "I10");
}

#[test]
fn effects_before_their_commits_are_found() {
    assert_eq!(found(Bug::EarlyRelease).invariant, "I1");
}
