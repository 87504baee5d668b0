//! Replacement, purge, and one execution after the other.

use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::InstanceId;
use taskhub_core::limits;
use taskhub_core::message::{Outcome, ReusePolicy};
use taskhub_core::payload::Payload;

use super::commits::call;
use super::{Owner, done, instance, name};
use crate::{ExecutionKey, HistoryRange, Store};

fn continue_as_new(input: &str) -> ActionKind {
    let carried = EventKind::EventRaised {
        name: name("Late"),
        input: None,
    };
    ActionKind::CompleteOrchestration(Completion::ContinuedAsNew {
        input: Some(Payload::text(input)),
        version: Some(name("2.0")),
        carried: vec![HistoryEvent::inbound(
            taskhub_core::time::Timestamp::from_micros(7),
            carried,
        )],
    })
}

/// An instance with something in every place.
fn busy(owner: &mut Owner<'_>, id: &InstanceId) {
    owner.start(id);
    owner.turn(
        id,
        vec![
            call("SayHello"),
            ActionKind::CreateTimer {
                fire_at: owner.now.plus(std::time::Duration::from_mins(1)),
            },
            ActionKind::SendEvent {
                instance: instance("elsewhere"),
                name: name("Hi"),
                input: None,
            },
        ],
    );
    owner.with(id, |state, now| {
        control::raise_event(state, name("Go"), None, None, now).unwrap_or(None)
    });
}

fn history_of(owner: &Owner<'_>, id: &InstanceId) -> ExecutionKey {
    let Some(state) = owner.state(id) else {
        panic!("`{id}` exists")
    };
    let partition = owner.lease(owner.partition_of(id)).partition.clone();
    ExecutionKey {
        partition,
        number: state.number,
        ordinal: state.info.ordinal,
    }
}

fn replace(owner: &mut Owner<'_>, id: &InstanceId) {
    let request = taskhub_core::message::StartRequest {
        reuse: ReusePolicy::ReplaceAny,
        ..Owner::request(id)
    };
    owner.wait(1);
    owner.start_with(&request);
}

/// No output, inbox, timer, key or history of the old one is left (R137).
pub fn replacing_leaves_nothing_of_the_old(store: &dyn Store) {
    let mut owner = Owner::new(store, "Replace", 2);
    let id = instance("order-1");
    busy(&mut owner, &id);
    owner.check();
    let old = history_of(&owner, &id);
    replace(&mut owner, &id);
    owner.check();
    assert_eq!(
        done(store.history(&old, HistoryRange::ALL)),
        [],
        "the old history is gone"
    );
    owner.complete(&id, None);
    replace(&mut owner, &id);
    owner.check();
}

/// The same when the old one was never stored.
pub fn replacing_within_one_group_leaves_nothing_of_the_old(store: &dyn Store) {
    let mut owner = Owner::new(store, "Replace", 1);
    let id = instance("order-1");
    for _ in 0..3 {
        busy(&mut owner, &id);
        replace(&mut owner, &id);
        owner.complete(&id, None);
        owner.wait(1);
    }
    owner.check();
}

/// A purged instance is unknown (R129).
pub fn purging_leaves_nothing(store: &dyn Store) {
    let mut owner = Owner::new(store, "Purge", 2);
    let (id, other) = (instance("order-1"), instance("order-2"));
    busy(&mut owner, &id);
    busy(&mut owner, &other);
    owner.check();
    let old = history_of(&owner, &id);
    owner.with(&id, |state, now| control::terminate(state, None, false, now).ok());
    owner.flush();
    owner.with(&id, |state, _| control::purge(state).ok());
    owner.check();
    assert_eq!(done(store.history(&old, HistoryRange::ALL)), []);
    // In one group with its end.
    owner.with(&other, |state, now| control::terminate(state, None, false, now).ok());
    owner.with(&other, |state, _| control::purge(state).ok());
    owner.check();
}

/// Rows of the old one must not be in the way of the new one.
pub fn an_instance_may_come_go_and_come_again_in_one_group(store: &dyn Store) {
    let mut owner = Owner::new(store, "Again", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.flush();
    for _ in 0..3 {
        owner.complete(&id, None);
        owner.with(&id, |state, _| control::purge(state).ok());
        owner.start(&id);
    }
    owner.check();
    owner.complete(&id, None);
    owner.with(&id, |state, _| control::purge(state).ok());
    owner.check();
}

/// Each execution has a history of its own (R87), and the created time stays (R10).
pub fn continue_as_new_keeps_earlier_histories_apart(store: &dyn Store) {
    let mut owner = Owner::new(store, "Continue", 1);
    let id = instance("order-1");
    owner.start(&id);
    for round in 0..3 {
        owner.turn(&id, vec![call("SayHello")]);
        owner.check();
        owner.answer_task(&id, Outcome::Completed(None));
        owner.wait(1_000);
        owner.turn(&id, vec![continue_as_new(&round.to_string())]);
        owner.check();
    }
}

/// Older ones go with the commit that makes them too old.
pub fn only_the_newest_earlier_executions_are_kept(store: &dyn Store) {
    let mut owner = Owner::new(store, "Archive", 1);
    let id = instance("order-1");
    owner.start(&id);
    for round in 0..limits::ARCHIVED_EXECUTIONS_MAX + 5 {
        owner.turn(&id, vec![continue_as_new(&round.to_string())]);
        owner.flush();
    }
    owner.check();
    let number = owner.state(&id).map(|state| state.number).unwrap_or_default();
    let events = |ordinal| owner.stored_history(&id, number, ordinal, 0).len();
    assert_eq!(events(4), 0, "the fifth is too old");
    assert!(events(5) > 0, "the sixth is not");
}

/// Generations that begin and end within a group.
pub fn continue_as_new_works_within_one_group(store: &dyn Store) {
    let mut owner = Owner::new(store, "Continue", 1);
    let (stored, fresh) = (instance("order-1"), instance("order-2"));
    owner.start(&stored);
    owner.turn(&stored, vec![call("SayHello")]);
    owner.answer_task(&stored, Outcome::Completed(None));
    owner.flush();
    owner.start(&fresh);
    for id in [&stored, &fresh] {
        for round in 0..limits::ARCHIVED_EXECUTIONS_MAX + 3 {
            owner.turn(id, vec![continue_as_new(&round.to_string())]);
        }
    }
    owner.check();
    owner.turn(&stored, vec![call("SayHello")]);
    owner.complete(&fresh, None);
    owner.check();
}

/// The input of each execution is in its history and, of the last one, in the status record, however long it is and
/// wherever a group ends (R9, R134).
pub fn inputs_of_every_length_are_kept_over_generations(store: &dyn Store) {
    let mut owner = Owner::new(store, "Inputs", 2);
    // Each execution has another one, or all have the same.
    let inputs: [fn(usize, u32) -> Vec<u8>; 2] = [
        |length, round| format!("{round}{}", "x".repeat(length)).into_bytes(),
        |length, _| "x".repeat(length + 1).into_bytes(),
    ];
    let lengths = [0, 126, 127, 128, 200, 8_190, 8_191, 8_192, 100_000];
    for (number, length) in (0..).zip(lengths) {
        // A group ends after the start of an execution, after its first turn, after both, or after neither.
        for (groups, input) in (0..8_u8).zip(inputs.iter().cycle()) {
            let id = instance(&format!("order-{number}-{groups}"));
            let groups = groups / 2;
            owner.start_with(&taskhub_core::message::StartRequest {
                input: Some(Payload::new(input(length, 0))),
                ..Owner::request(&id)
            });
            for round in 1..=3 {
                if groups & 1 != 0 {
                    owner.check();
                }
                owner.turn(&id, vec![call("SayHello")]);
                owner.answer_task(&id, Outcome::Completed(None));
                if groups & 2 != 0 {
                    owner.check();
                }
                let text = String::from_utf8_lossy(&input(length, round)).into_owned();
                owner.turn(&id, vec![continue_as_new(&text)]);
            }
            owner.check();
            owner.turn(&id, vec![call("SayHello")]);
            owner.check();
            let mut key = history_of(&owner, &id);
            for ordinal in 0..=3 {
                key.ordinal = ordinal;
                let chunks = done(store.history(&key, HistoryRange::ALL));
                let events = crate::decode_history(&chunks).unwrap_or_default();
                let found = events.iter().find_map(|event| match &event.kind {
                    EventKind::ExecutionStarted(started) => started.input.clone(),
                    _ => None,
                });
                let expected = Some(Payload::new(input(length, ordinal)));
                assert!(found == expected, "{id}, execution {ordinal}");
            }
        }
    }
}

/// An old execution's activities may still run (A30).
pub fn activities_of_an_earlier_execution_stay_open(store: &dyn Store) {
    let mut owner = Owner::new(store, "Continue", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call("Long"), continue_as_new("1")]);
    owner.turn(&id, vec![call("Long")]);
    owner.check();
    for _ in 0..2 {
        owner.answer_task(&id, Outcome::Completed(None));
        owner.check();
    }
    assert_eq!(owner.open_task(&id), None);
}
