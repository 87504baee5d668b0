//! What one instance's commits leave behind, whether they come one by one or all at once.

use std::sync::Arc;

use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::InstanceId;
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_core::status::{RuntimeStatus, Stall};

use super::{Owner, done, instance, name};
use crate::{Group, Store};

/// A call of an activity.
pub(super) fn call(activity: &str) -> ActionKind {
    ActionKind::ScheduleTask {
        name: name(activity),
        version: None,
        input: Some(Payload::text("\"Tokyo\"")),
        tags: Tags::new(),
    }
}

fn hello() -> Outcome {
    Outcome::Completed(Some(Payload::text("\"Hello Tokyo!\"")))
}

/// Nothing to do is not an error.
pub fn an_empty_group_changes_nothing(store: &dyn Store) {
    let mut owner = Owner::new(store, "Empty", 2);
    done(store.commit(Arc::new(Group::default())));
    owner.flush();
    owner.check();
}

/// The first commit of an instance.
pub fn a_created_instance_loads_as_core_made_it(store: &dyn Store) {
    let mut owner = Owner::new(store, "Creation", 2);
    owner.start(&instance("order-1"));
    owner.check();
}

/// Answers line up with questions, and what does not exist is `None`.
pub fn states_come_in_the_order_asked_for(store: &dyn Store) {
    let mut owner = Owner::new(store, "Order", 1);
    let ids: Vec<InstanceId> = (0..10).map(|number| instance(&format!("order-{number}"))).collect();
    for id in &ids {
        owner.start(id);
    }
    owner.flush();
    let mut asked: Vec<InstanceId> = ids.iter().rev().cloned().collect();
    asked.insert(3, instance("missing"));
    asked.push(ids[4].clone());
    let found = done(store.load(&owner.lease(0).partition, &asked));
    let found: Vec<Option<InstanceId>> = found
        .into_iter()
        .map(|state| state.map(|state| state.info.instance))
        .collect();
    let expected: Vec<Option<InstanceId>> = asked
        .into_iter()
        .map(|id| Some(id).filter(|id| id.as_str() != "missing"))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(done(store.load(&owner.lease(0).partition, &[])), []);
}

fn sequence<'s>(owner: &mut Owner<'s>, id: &InstanceId, after_each: impl Fn(&mut Owner<'s>)) {
    owner.start(id);
    after_each(owner);
    owner.turn(id, vec![call("SayHello")]);
    after_each(owner);
    for activity in 0..3 {
        owner.wait(10);
        owner.answer_task(id, hello());
        after_each(owner);
        if activity < 2 {
            owner.turn(id, vec![call("SayHello")]);
        } else {
            owner.complete(id, Some(Payload::text("[]")));
        }
        after_each(owner);
    }
}

/// Folding a group must lead to what its commits lead to one after the other.
pub fn a_sequence_of_activities_is_the_same_commit_by_commit_and_as_one_group(store: &dyn Store) {
    let mut owner = Owner::new(store, "Sequence", 2);
    sequence(&mut owner, &instance("by-commit"), Owner::check);
    sequence(&mut owner, &instance("at-once"), |_| ());
    owner.check();
}

/// A read that follows a commit shows it (R16).
pub fn what_a_commit_did_is_visible_when_it_returns(store: &dyn Store) {
    let mut owner = Owner::new(store, "Visible", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.flush();
    for round in 1..50_u32 {
        owner.turn(&id, vec![call("Step")]);
        owner.answer_task(&id, hello());
        owner.flush();
        let found = done(store.load(&owner.lease(0).partition, std::slice::from_ref(&id)));
        assert_eq!(found[0].as_ref(), owner.state(&id), "round {round}");
    }
}

/// Every status there is, and the way between them (R6, A26).
pub fn statuses_follow_suspend_resume_and_terminate(store: &dyn Store) {
    let mut owner = Owner::new(store, "Statuses", 2);
    let id = instance("order-1");
    let reason = Some(Payload::text("maintenance"));
    owner.start(&id);
    owner.check();
    owner.with(&id, |state, now| {
        control::suspend(state, reason.clone(), now).unwrap_or(None)
    });
    owner.check();
    owner.with(&id, |state, now| control::resume(state, None, now).unwrap_or(None));
    owner.check();
    owner.turn(&id, vec![call("SayHello")]);
    owner.with(&id, |state, now| control::suspend(state, None, now).unwrap_or(None));
    owner.check();
    owner.with(&id, |state, now| {
        control::terminate(state, reason.as_ref(), false, now).ok()
    });
    owner.check();
    let failed = instance("order-2");
    owner.start(&failed);
    let failure = Failure::new("TimeoutError", "too late").caused_by(Failure::new("IoError", "no answer"));
    owner.turn(
        &failed,
        vec![ActionKind::CompleteOrchestration(Completion::Failed(Box::new(failure)))],
    );
    owner.check();
    assert_eq!(
        owner.state(&failed).map(|state| state.info.status),
        Some(RuntimeStatus::Failed)
    );
}

/// Absent is unchanged, empty clears (R96).
pub fn custom_status_is_set_kept_and_cleared(store: &dyn Store) {
    let mut owner = Owner::new(store, "Custom", 1);
    let id = instance("order-1");
    owner.start(&id);
    let steps = [
        Some(Payload::text("{\"done\": 1}")),
        None,
        Some(Payload::text("2")),
        Some(Payload::default()),
    ];
    for (round, custom) in (0..).zip(steps) {
        owner.answer(
            &id,
            vec![Action {
                id: round,
                kind: call("Step"),
            }],
            custom,
        );
        owner.check();
        owner.answer_task(&id, hello());
    }
    // Several changes within one group: the last one counts.
    for (round, custom) in (10..).zip(["3", "", "4"]) {
        owner.answer(
            &id,
            vec![Action {
                id: round,
                kind: call("Step"),
            }],
            Some(Payload::text(custom)),
        );
        owner.answer_task(&id, hello());
    }
    owner.check();
}

/// Why turns of an instance fail (R42).
pub fn a_stall_is_set_and_ends(store: &dyn Store) {
    let mut owner = Owner::new(store, "Stalls", 1);
    let (id, at_once) = (instance("order-1"), instance("order-2"));
    for id in [&id, &at_once] {
        owner.start(id);
    }
    owner.flush();
    for attempts in [1, 2] {
        let since = owner.now;
        let stall = Stall {
            since,
            reason: "no worker knows `Hello`".to_owned(),
            attempts,
        };
        owner.with(&id, |state, now| control::stall(state, Some(stall.clone()), now));
        owner.check();
        owner.with(&at_once, |state, now| control::stall(state, Some(stall), now));
        owner.with(&at_once, |state, now| control::stall(state, None, now));
        owner.check();
    }
    owner.complete(&id, None);
    owner.check();
    assert!(owner.state(&id).is_some_and(|state| state.info.stalled.is_none()));
    // Created, stalled and ended within one group.
    let brief = instance("order-3");
    owner.start(&brief);
    let (since, reason) = (owner.now, String::new());
    let stall = Stall {
        since,
        reason,
        attempts: 1,
    };
    owner.with(&brief, |state, now| control::stall(state, Some(stall), now));
    owner.with(&brief, |state, now| control::terminate(state, None, false, now).ok());
    owner.check();
}

/// Lost deliveries are counted with the task (R183).
pub fn delivery_counts_are_kept(store: &dyn Store) {
    let mut owner = Owner::new(store, "Deliveries", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call("Slow"), call("Quick")]);
    let Some(task) = owner.open_task(&id) else {
        panic!("a task is open")
    };
    // In the group that opens it, alone, and in the group that closes it.
    owner.with(&id, |state, now| control::redeliver_task(state, task, 1, now));
    owner.check();
    owner.with(&id, |state, now| control::redeliver_task(state, task, 2, now));
    owner.check();
    owner.with(&id, |state, now| control::redeliver_task(state, task, 3, now));
    owner.answer_task(&id, hello());
    owner.check();
}

/// A thousand activities, their answers in one group, and the one turn that takes them (R167).
pub fn a_wide_fan_out_is_taken_in_and_answered(store: &dyn Store) {
    const WIDTH: usize = 1_000;
    let mut owner = Owner::new(store, "FanOut", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, (0..WIDTH).map(|number| call(&format!("Part{number}"))).collect());
    owner.check();
    for _ in 0..WIDTH / 2 {
        owner.answer_task(&id, hello());
    }
    owner.check();
    for _ in 0..WIDTH / 2 {
        owner.answer_task(&id, hello());
    }
    owner.turn(&id, vec![call("Last")]);
    owner.check();
    owner.answer_task(&id, hello());
    owner.complete(&id, None);
    owner.check();
}

/// Work is what benchmarks and tests count instead of time.
pub fn work_is_counted(store: &dyn Store) {
    let mut owner = Owner::new(store, "Work", 1);
    let before = store.work();
    for number in 0..5 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        owner.complete(&id, None);
        owner.flush();
    }
    let work = store.work();
    assert_eq!((work.groups - before.groups, work.commits - before.commits), (5, 10));
}

/// Upkeep of a hub in use finds nothing wrong and changes nothing.
pub fn upkeep_finds_nothing_wrong(store: &dyn Store) {
    let mut owner = Owner::new(store, "Upkeep", 2);
    for number in 0..30 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        if number % 3 > 0 {
            owner.turn(&id, vec![call("SayHello")]);
        }
        if number % 3 > 1 {
            owner.answer_task(&id, hello());
            owner.complete(&id, None);
        }
        if number % 6 == 5 {
            owner.with(&id, |state, _| control::purge(state).ok());
        }
        owner.flush();
    }
    let none: [String; 0] = [];
    assert_eq!(done(store.verify()).problems, none);
    owner.check();
    let before = done(store.space());
    let after = done(store.compact());
    assert!(after.free_bytes <= before.free_bytes, "{before:?} {after:?}");
    done(store.find_room());
    assert_eq!(done(store.verify()).problems, none);
    owner.check();
}
