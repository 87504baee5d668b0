//! Each bug that a decision guards against, put in on purpose, is found within a few seeds, by the rule that it breaks, and the
//! run that finds it is made smaller.

use taskhub_sim::{Bug, Config, Medium, SHRINK_RUNS_MAX, run, shrink};

/// Seeds within which a bug must be found. Most are within a few.
const SEEDS_MAX: u64 = 3000;
/// Runs that find it, each of which must name the rule.
const FINDS: usize = 2;
/// Requests and steps of plans that are left of such a run.
const STEPS_MAX: usize = 8;

fn with(bug: Bug, seed: u64) -> Config {
    let medium = match bug {
        Bug::FailedSealPasses => Medium::Embedded,
        _ => Medium::Mem,
    };
    Config {
        bug: Some(bug),
        ..Config::new(seed, medium)
    }
}

/// Seeds that find the bug, all by a rule that it breaks.
fn found(bug: Bug) -> Vec<u64> {
    // Broken assertions are findings here; their reports would only hide the result.
    std::panic::set_hook(Box::new(|_| {}));
    let failures = (0..SEEDS_MAX).filter_map(|seed| Some((seed, run(&with(bug, seed)).failure?)));
    let found: Vec<_> = failures.take(FINDS).collect();
    let _previous = std::panic::take_hook();
    assert!(!found.is_empty(), "{bug:?} was not found within {SEEDS_MAX} seeds");
    for (seed, (step, violation)) in &found {
        assert!(
            bug.found_by().contains(&violation.invariant),
            "{bug:?}, seed {seed}, step {step}: {violation}"
        );
        #[expect(clippy::print_stdout, reason = "shown with --nocapture")]
        {
            println!("{bug:?}: step {step} of seed {seed}: {violation}");
        }
    }
    found.into_iter().map(|(seed, _)| seed).collect()
}

/// A run that finds the bug is made small, and still breaks the same rule whenever it is run.
fn shrinks(bug: Bug) {
    for seed in found(bug) {
        let config = with(bug, seed);
        std::panic::set_hook(Box::new(|_| {}));
        let invariant = run(&config).failure.map(|(_, violation)| violation.invariant);
        let Some(smallest) = shrink(&config) else {
            panic!("seed {seed} fails one time and not the next");
        };
        let again = smallest.run(&config).failure.map(|(_, violation)| violation);
        let _previous = std::panic::take_hook();
        assert_eq!(again.as_ref(), Some(&smallest.violation), "seed {seed}: {smallest}");
        assert_eq!(invariant, Some(smallest.violation.invariant), "seed {seed}: {smallest}");
        assert!(smallest.steps() <= STEPS_MAX, "seed {seed}: {smallest}");
        assert!(smallest.runs <= SHRINK_RUNS_MAX);
        #[expect(clippy::print_stdout, reason = "shown with --nocapture")]
        {
            println!("{bug:?}, seed {seed}: {smallest}");
        }
    }
}

#[test]
fn an_epoch_that_is_used_again_is_found() {
    found(Bug::EpochReused);
}

#[test]
fn live_orchestrators_that_survive_a_reload_are_found() {
    found(Bug::LiveOverReload);
}

#[test]
fn a_terminate_that_waits_is_found() {
    shrinks(Bug::TerminateWaitsForTurn);
}

#[test]
fn messages_that_skip_the_outbox_are_found() {
    shrinks(Bug::MessagesSkipOutbox);
}

#[test]
fn a_receipt_that_keeps_its_message_is_found() {
    shrinks(Bug::ReceiptKeepsMessage);
}

#[test]
fn messages_that_are_not_kept_for_a_partition_that_is_read_anew_are_found() {
    found(Bug::AwayLosesMessages);
}

#[test]
fn messages_that_are_taken_in_a_second_time_are_found() {
    found(Bug::RepetitionsPass);
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
    found(Bug::HalfGroup);
}

#[test]
fn half_a_commit_is_found() {
    shrinks(Bug::HalfCommit);
}

#[test]
fn effects_before_their_commits_are_found() {
    shrinks(Bug::EarlyRelease);
}

#[test]
fn a_read_that_failed_and_is_forgotten_is_found() {
    found(Bug::FailedReadIsForgotten);
}

#[test]
fn timers_that_fire_late_are_found() {
    shrinks(Bug::LateTicks);
}

#[test]
fn a_group_that_the_disk_refused_and_that_is_acknowledged_is_found() {
    found(Bug::FailedSealPasses);
}
