//! Messages: in an inbox until a turn takes them, in an outbox until a receiver does (A29, A30).

use std::sync::Arc;

use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;

use super::commits::call;
use super::{Owner, done, instance, name, refused};
use crate::{Error, Group, Section, Store};

fn send(to: &InstanceId, text: &str) -> ActionKind {
    ActionKind::SendEvent {
        instance: to.clone(),
        name: name("Hi"),
        input: Some(Payload::text(text)),
    }
}

fn child(id: &InstanceId) -> ActionKind {
    ActionKind::CreateSubOrchestration {
        instance: Some(id.clone()),
        name: name("Child"),
        version: Some(name("1.0")),
        input: Some(Payload::text("7")),
        tags: Tags::from([("team".to_owned(), "blue".to_owned())]),
    }
}

/// The receiver's commit removes the item, wherever it runs.
pub fn an_outbox_item_stays_until_its_receiver_took_it(store: &dyn Store) {
    let mut owner = Owner::new(store, "Outbox", 4);
    let (from, to) = (instance("sender"), instance("receiver"));
    owner.start(&to);
    owner.start(&from);
    owner.turn(&from, vec![send(&to, "1"), send(&to, "2"), send(&to, "3")]);
    owner.check();
    while owner.deliver() {
        owner.check();
    }
    assert_eq!(owner.state(&to).map(|state| state.inbox.len()), Some(4));
}

/// Within the node a message usually never needs a row.
pub fn an_item_that_comes_and_goes_in_one_group_leaves_nothing(store: &dyn Store) {
    let mut owner = Owner::new(store, "Outbox", 4);
    let (from, to) = (instance("sender"), instance("receiver"));
    owner.start(&to);
    owner.start(&from);
    owner.flush();
    owner.turn(&from, vec![send(&to, "1"), send(&to, "2"), call("SayHello")]);
    owner.deliver();
    owner.check();
    assert_eq!(owner.outbox.len(), 1);
}

/// Purging the sender loses no message.
pub fn an_outbox_outlives_its_purged_sender(store: &dyn Store) {
    let mut owner = Owner::new(store, "Outbox", 2);
    let (from, to) = (instance("sender"), instance("receiver"));
    owner.start(&to);
    owner.start(&from);
    owner.turn(
        &from,
        vec![
            send(&to, "1"),
            ActionKind::CompleteOrchestration(Completion::Completed(None)),
        ],
    );
    owner.with(&from, |state, _| control::purge(state).ok());
    owner.check();
    assert_eq!(owner.outbox.len(), 1);
    owner.deliver();
    owner.check();
}

/// A message to nobody is taken note of, and that is all (R81).
pub fn a_receiver_that_is_missing_still_takes_the_item(store: &dyn Store) {
    let mut owner = Owner::new(store, "Outbox", 2);
    let from = instance("sender");
    owner.start(&from);
    owner.turn(
        &from,
        vec![send(&instance("nobody"), "1"), send(&instance("nobody"), "2")],
    );
    owner.flush();
    owner.deliver();
    owner.check();
    owner.deliver();
    owner.check();
    assert!(owner.outbox.is_empty());
    assert_eq!(owner.state(&instance("nobody")), None);
}

/// Start, run, and news of the end, in groups of every cut (R69).
pub fn a_child_runs_and_its_parent_hears_of_it(store: &dyn Store) {
    let mut owner = Owner::new(store, "Children", 4);
    for checks in 0..4_u8 {
        let (parent, id) = (
            instance(&format!("parent-{checks}")),
            instance(&format!("child-{checks}")),
        );
        let check = |owner: &mut Owner<'_>, place: u8| {
            if checks & place != 0 {
                owner.check();
            }
        };
        owner.start(&parent);
        owner.turn(&parent, vec![child(&id)]);
        check(&mut owner, 1);
        owner.deliver();
        check(&mut owner, 2);
        owner.complete(&id, Some(Payload::text("49")));
        check(&mut owner, 1);
        owner.deliver();
        check(&mut owner, 2);
        owner.complete(&parent, None);
        owner.check();
        assert!(
            owner
                .state(&parent)
                .is_some_and(|state| state.info.status == RuntimeStatus::Completed)
        );
    }
}

/// Numbers are never reset, and a turn takes any set of them (A30).
pub fn an_inbox_is_kept_in_order_with_its_numbers(store: &dyn Store) {
    let mut owner = Owner::new(store, "Inbox", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, vec![call("SayHello")]);
    owner.flush();
    for number in 0..20 {
        let input = Some(Payload::text(&number.to_string()));
        owner.wait(1);
        owner.with(&id, |state, now| {
            control::raise_event(state, name("Go"), input, None, now).unwrap_or(None)
        });
        if number == 7 {
            owner.check();
        }
        if number == 12 {
            owner.turn(&id, Vec::new());
        }
    }
    owner.check();
    assert_eq!(owner.state(&id).map(|state| state.inbox.len()), Some(7));
    owner.answer_task(&id, Outcome::Completed(None));
    owner.turn(&id, Vec::new());
    owner.check();
    assert_eq!(owner.state(&id).map(|state| state.inbox.len()), Some(0));
}

/// What the next execution takes over is inside its start message (R89).
pub fn carried_events_are_kept_with_the_start_message(store: &dyn Store) {
    let mut owner = Owner::new(store, "Carried", 1);
    let id = instance("order-1");
    owner.start(&id);
    let event = |text: &str| {
        let kind = EventKind::EventRaised {
            name: name("Go"),
            input: Some(Payload::text(text)),
        };
        HistoryEvent::inbound(taskhub_core::time::Timestamp::from_micros(9), kind)
    };
    let carried: Vec<HistoryEvent> = ["1", "2", "3"].map(event).into();
    owner.turn(
        &id,
        vec![ActionKind::CompleteOrchestration(Completion::ContinuedAsNew {
            input: None,
            version: None,
            carried: carried.clone(),
        })],
    );
    owner.check();
    let start = owner.state(&id).and_then(|state| state.start_message().cloned());
    assert_eq!(start.map(|message| message.carried), Some(carried));
    owner.turn(&id, Vec::new());
    owner.check();
}

/// What a crash or a lost answer can repeat is told from damage: nothing of the group is left, and the first delivery counts.
pub fn a_message_that_is_delivered_twice_is_recognised(store: &dyn Store) {
    let mut owner = Owner::new(store, "Outbox", 4);
    let (from, missing) = (instance("sender"), instance("nobody"));
    owner.start(&from);
    owner.turn(&from, vec![send(&missing, "1"), send(&missing, "2"), call("SayHello")]);
    owner.flush();
    let at = owner.outbox.keys().next().copied();
    assert!(owner.deliver());
    let once = owner.take_group();
    let again = |count: u64| {
        let mut section = once.sections[0].clone();
        section.first_seq = Seq(section.first_seq.0 + count);
        section
    };
    let is_stale = |sections: Vec<Section>| {
        let error = refused(store.commit(Arc::new(Group { sections })));
        assert!(
            matches!(&error, Error::Stale { partition, at: found }
                if *partition == once.sections[0].partition && Some(*found) == at),
            "{error}"
        );
    };
    is_stale(vec![again(0), again(1)]);
    done(store.commit(Arc::new(Group {
        sections: once.sections.clone(),
    })));
    is_stale(vec![again(1)]);
    assert!(owner.deliver());
    owner.flush();
    is_stale(vec![again(2)]);
    owner.check();
}
