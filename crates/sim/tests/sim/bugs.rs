//! Each bug that a decision guards against, put in on purpose, is found within a few seeds.

use taskhub_sim::{Bug, Config, Medium, Violation, run};

/// Seeds within which a bug must be found. Most are within a few.
const SEEDS_MAX: u64 = 3000;

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
    assert_eq!(found(Bug::MessagesSkipOutbox).invariant, "I5");
}

#[test]
fn a_receipt_that_keeps_its_message_is_found() {
    assert_eq!(found(Bug::ReceiptKeepsMessage).invariant, "I5");
}

#[test]
fn messages_that_are_not_kept_for_a_partition_that_is_read_anew_are_found() {
    assert_eq!(found(Bug::AwayLosesMessages).invariant, "liveness");
}

#[test]
fn messages_that_are_taken_in_a_second_time_are_found() {
    assert_eq!(found(Bug::RepetitionsPass).invariant, "R188");
}

#[test]
fn partitions_that_are_claimed_before_all_of_theirs_is_written_are_found() {
    found(Bug::ClaimsBeforeFlush);
}

#[test]
fn what_is_made_on_top_of_a_failed_group_and_written_is_found() {
    found(Bug::AcceptsAfterFailure);
}

#[test]
fn half_a_group_is_found() {
    assert_eq!(found(Bug::HalfGroup).invariant, "I10");
}

#[test]
fn half_a_commit_is_found() {
    let invariant = found(Bug::HalfCommit).invariant;
    assert!(
        ["I1", "I10"].contains(&invariant),
        "{invariant}: its state, or what is recovered, is another one"
    );
}

#[test]
fn effects_before_their_commits_are_found() {
    assert_eq!(found(Bug::EarlyRelease).invariant, "I1");
}
