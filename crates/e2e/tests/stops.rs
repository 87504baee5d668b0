//! How a program ends, and what the next one is told of it: a clean stop, a kill, a store that is in use.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use taskhub_e2e::checker::{Expected, check_folder};
use taskhub_e2e::facts::Fact;
use taskhub_e2e::life::Life;
use taskhub_e2e::target::Target;
use tempfile::TempDir;

const JOBS: u32 = 60;
/// Activities that run at once. They are fewer than those that are held, so there is always work left.
const ACTIVITIES: usize = 40;

/// A program with a store of its own, which is to run so many jobs.
fn target(scratch: &TempDir) -> Target {
    let starts = scratch.path().join("starts");
    let list: Vec<String> = (0..JOBS).map(|job| job.to_string()).collect();
    std::fs::write(&starts, list.join("\n")).unwrap();
    let mut target = Target::new(scratch.path().join("store"));
    target.starts = Some(starts);
    target.wave = 20;
    target.hold = Some(hold(scratch));
    target.activities_max = ACTIVITIES;
    target
}

/// The file until which activities do not end.
fn hold(scratch: &TempDir) -> PathBuf {
    scratch.path().join("go on")
}

fn begin(target: &Target) -> Life {
    Life::begin(target.command(Path::new(env!("CARGO_BIN_EXE_kill-target")))).unwrap()
}

/// Runs the program until as many activities as can are in the middle of their work, and stay there.
fn until_at_work(life: &Life) -> Vec<Fact> {
    let mut facts = life.facts_until(|fact| *fact == Fact::Ready).unwrap();
    let mut held = 0;
    while held < ACTIVITIES {
        let fact = life.fact().unwrap().unwrap();
        held += usize::from(matches!(fact, Fact::Begun(_, 1.., _)));
        facts.push(fact);
    }
    facts
}

/// Activity calls that began, with their deliveries.
fn begun(facts: &[Fact]) -> BTreeSet<(u32, u32, u32)> {
    let begun = facts.iter().filter_map(|fact| match fact {
        Fact::Begun(job, step, delivery) => Some((*job, *step, *delivery)),
        _ => None,
    });
    begun.collect()
}

/// Activity calls that ended.
fn done(facts: &[Fact]) -> BTreeSet<(u32, u32)> {
    let done = facts.iter().filter_map(|fact| match fact {
        Fact::Done(job, step) => Some((*job, *step)),
        _ => None,
    });
    done.collect()
}

/// Starts that were acknowledged.
fn expected(facts: &[Fact]) -> Expected {
    let acked = facts.iter().filter_map(|fact| match fact {
        Fact::Acked(job, instance) => Some((*job, instance.clone())),
        _ => None,
    });
    Expected {
        acked: acked.collect(),
        unknown: (0..JOBS).collect(),
        is_finished: true,
    }
}

/// The next run starts nothing and sees to the end what is there.
fn finish(mut target: Target) -> Vec<Fact> {
    target.starts = None;
    let (status, facts) = begin(&target).end().unwrap();
    assert!(status.success());
    assert_eq!(facts.last(), Some(&Fact::Finished));
    facts
}

fn check(target: &Target, facts: &[Fact]) {
    let checked = check_folder(&target.folder, &expected(facts)).unwrap();
    assert_eq!(checked.violations, Vec::<String>::new());
    assert!(checked.instances >= 20);
}

#[test]
fn after_a_stop_signal_the_program_ends_well_and_nothing_is_handed_out_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let target = target(&scratch);
    let life = begin(&target);
    let mut facts = until_at_work(&life);
    life.terminate().unwrap();
    facts.extend(life.facts_until(|fact| *fact == Fact::Stopping).unwrap());
    std::fs::write(hold(&scratch), "").unwrap();
    let (status, rest) = life.end().unwrap();
    assert_eq!(status.code(), Some(0), "it ended with {status}");
    assert_eq!(rest.last(), Some(&Fact::Stopped));
    facts.extend(rest);
    // Those that ran were given the time to end.
    let first = begun(&facts);
    assert_eq!(first.len(), done(&facts).len());

    let rest = finish(target.clone());
    let second = begun(&rest);
    assert!(!second.is_empty(), "the stop left nothing to do");
    assert!(first.iter().chain(&second).all(|(_, _, delivery)| *delivery == 1));
    assert_eq!(first.intersection(&second).count(), 0, "handed out twice (A35)");
    facts.extend(rest);
    check(&target, &facts);
}

#[test]
fn after_a_kill_what_may_have_been_running_is_handed_out_as_the_second_delivery() {
    let scratch = tempfile::tempdir().unwrap();
    let target = target(&scratch);
    let life = begin(&target);
    let mut facts = until_at_work(&life);
    facts.extend(life.kill().unwrap());
    let (first, ended) = (begun(&facts), done(&facts));
    let running: BTreeSet<_> = first
        .iter()
        .filter(|(job, step, _)| !ended.contains(&(*job, *step)))
        .collect();
    assert_eq!(running.len(), ACTIVITIES);
    std::fs::write(hold(&scratch), "").unwrap();

    let rest = finish(target.clone());
    let second = begun(&rest);
    for (job, step, _) in running {
        assert!(second.contains(&(*job, *step, 2)), "job {job}, step {step}");
    }
    facts.extend(rest);
    check(&target, &facts);
}

#[test]
fn a_store_that_another_process_has_is_refused_with_that_process_named() {
    let scratch = tempfile::tempdir().unwrap();
    let target = target(&scratch);
    let first = begin(&target);
    first.facts_until(|fact| *fact == Fact::Ready).unwrap();
    let (status, facts) = begin(&target).end().unwrap();
    assert!(!status.success());
    let [Fact::Closed(code, text)] = &facts[..] else {
        panic!("{facts:?}")
    };
    assert_eq!(code, "store-locked");
    assert!(text.contains(&format!("process {}", first.pid())), "{text}");

    first.kill().unwrap();
    let next = begin(&target);
    next.facts_until(|fact| *fact == Fact::Ready).unwrap();
}
