//! What an owner is told before its first step.

use std::time::Duration;

use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::id::{InstanceNumber, Seq};
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;

use super::commits::call;
use super::owner::counters;
use super::{Owner, done, instance};
use crate::{Recovered, Store};

/// Nothing but where to begin.
pub fn a_new_partition_counts_from_the_start(store: &dyn Store) {
    let owner = Owner::new(store, "New", 2);
    for partition in 0..2 {
        let items = done(store.recover(owner.lease(partition)));
        assert_eq!(items.len(), 1, "{items:?}");
        let (next_seq, next_instance) = counters(store, owner.lease(partition));
        assert_eq!(next_seq, Seq(1));
        assert_ne!(next_instance, InstanceNumber(0), "0 says \"nothing yet\"");
    }
}

/// A number is not given twice, not even after its instance was purged.
pub fn counters_go_on_and_never_back(store: &dyn Store) {
    let mut owner = Owner::new(store, "Counters", 1);
    let (_, InstanceNumber(first)) = counters(store, owner.lease(0));
    for round in 0..3 {
        let id = instance(&format!("order-{round}"));
        owner.start(&id);
        owner.complete(&id, None);
        owner.with(&id, |state, _| control::purge(state).ok());
        owner.flush();
        owner.claim();
        let items = done(store.recover(owner.lease(0)));
        let next = round + 1;
        let counters = Recovered::Counters {
            next_seq: Seq(1 + 3 * next),
            next_instance: InstanceNumber(first + next),
            horizon: vec![Seq(1 + 3 * next)],
        };
        assert_eq!(items, [counters]);
    }
}

fn timer(owner: &Owner<'_>, seconds: u64) -> ActionKind {
    ActionKind::CreateTimer {
        fire_at: owner.now.plus(Duration::from_secs(seconds)),
    }
}

/// Activities, timers, messages: each once, with what is needed to go on.
pub fn open_work_is_listed_exactly(store: &dyn Store) {
    let mut owner = Owner::new(store, "Recovery", 3);
    for number in 0..12 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        if number % 2 == 0 {
            let child = ActionKind::CreateSubOrchestration {
                instance: Some(instance(&format!("child-{number}"))),
                name: super::name("Child"),
                version: None,
                input: None,
                tags: taskhub_core::event::Tags::new(),
            };
            owner.turn(
                &id,
                vec![call("One"), timer(&owner, 5), child, call("Two"), timer(&owner, 60)],
            );
        }
        if number % 4 == 0 {
            owner.answer_task(&id, Outcome::Completed(None));
        }
        if number % 3 == 0 {
            owner.check();
        }
    }
    owner.check();
    owner.claim();
    owner.check();
}

/// Fired and withdrawn timers, answered activities, and all that an end discards.
pub fn finished_work_is_not_listed(store: &dyn Store) {
    let mut owner = Owner::new(store, "Recovery", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(
        &id,
        vec![call("One"), timer(&owner, 1), timer(&owner, 3), timer(&owner, 60)],
    );
    owner.check();
    owner.now = owner.now.plus(Duration::from_secs(2));
    let due: Vec<_> = owner
        .state(&id)
        .map(|state| state.open.keys().copied().collect())
        .unwrap_or_default();
    owner.with(&id, |state, now| control::fire_timers(state, &due[1..2], now));
    owner.check();
    owner.answer(
        &id,
        vec![Action {
            id: 9,
            kind: ActionKind::CancelTimer { timer_id: 2 },
        }],
        None,
    );
    owner.check();
    owner.with(&id, |state, now| {
        control::raise_event(state, super::name("Late"), None, None, now).unwrap_or(None)
    });
    owner.flush();
    owner.turn(
        &id,
        vec![ActionKind::CompleteOrchestration(Completion::Completed(None))],
    );
    owner.check();
    let items = done(store.recover(owner.lease(0)));
    assert_eq!(
        items.len(),
        2,
        "the counters, and the activity that still runs (R28): {items:?}"
    );
    owner.answer_task(&id, Outcome::Completed(None));
    owner.check();
    assert_eq!(done(store.recover(owner.lease(0))).len(), 1);
}

/// How much there is to read is known before it is read.
pub fn unread_messages_are_counted_in_bytes(store: &dyn Store) {
    const BYTES: usize = 100_000;
    let mut owner = Owner::new(store, "Sizes", 1);
    for id in ["large", "small", "read"].map(instance) {
        owner.start(&id);
        owner.turn(&id, vec![call("One")]);
    }
    for (id, bytes) in [("large", BYTES), ("small", 1)] {
        let payload = Payload::new(vec![b'1'; bytes]);
        owner.with(&instance(id), |state, now| {
            control::raise_event(state, super::name("Told"), Some(payload), None, now).unwrap_or(None)
        });
    }
    owner.flush();
    let items = done(store.recover(owner.lease(0)));
    let sizes = items.iter().filter_map(|item| match item {
        Recovered::Inbox { instance, bytes, .. } => Some((instance.as_str(), *bytes >= BYTES as u64)),
        _ => None,
    });
    let sizes: std::collections::BTreeMap<&str, bool> = sizes.collect();
    assert_eq!(
        sizes.into_iter().collect::<Vec<_>>(),
        [("large", true), ("small", false)]
    );
}

/// A partition is told of its own instances only.
pub fn recovery_is_by_partition(store: &dyn Store) {
    let mut owner = Owner::new(store, "Recovery", 4);
    let mut other = Owner::new(store, "Other", 4);
    for number in 0..16 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        owner.turn(&id, vec![call("One")]);
        other.start(&id);
    }
    other.flush();
    owner.check();
    other.check();
}
