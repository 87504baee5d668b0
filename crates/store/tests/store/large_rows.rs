//! Rows that are large are not read on the way to others, counted in pages, and go with what they belong to, counted in rows.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;

use rusqlite::Connection;
use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::id::InstanceId;
use taskhub_core::limits;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_store::Store;
use taskhub_store::conformance::{Owner, done, instance, name};
use taskhub_store::embedded::{EmbeddedStore, pages_read};

use crate::common::{OFF, call_with};
use crate::scratch::Scratch;

/// Of a value: some 2,500 pages.
const LARGE: usize = 20 << 20;
/// What a few rows and the way to them take.
const FEW: u64 = 100;

fn large() -> Payload {
    Payload::new(vec![b'7'; LARGE])
}

fn raise(owner: &mut Owner<'_>, id: &InstanceId, input: Option<Payload>) {
    owner.with(id, |state, now| {
        control::raise_event(state, name("Go"), input, None, now).unwrap()
    });
}

/// Three neighbours, the middle one of which has a large event, a large activity, a large message to another, or a large result
/// in its history.
fn neighbours(owner: &mut Owner<'_>, ids: &[InstanceId; 3]) {
    for id in ids {
        owner.start(id);
        let input = (*id == ids[1]).then(large);
        let event = ActionKind::SendEvent {
            instance: instance("nobody"),
            name: name("Hi"),
            input: input.clone(),
        };
        owner.turn(id, vec![call_with(input.clone()), call_with(None), event]);
        if *id == ids[1] {
            owner.answer_task(id, Outcome::Completed(Some(large())));
            owner.turn(id, vec![call_with(Some(large()))]);
            raise(owner, id, Some(large()));
        }
        owner.flush();
    }
}

#[test]
fn a_large_row_is_not_read_on_the_way_to_its_neighbours() {
    let scratch = Scratch::new();
    let ids = ["order-1", "order-2", "order-3"].map(instance);
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Large", 1);
    neighbours(&mut owner, &ids);
    // What the three do next, made before the store is opened anew with nothing of it in memory.
    let mut groups = Vec::new();
    for id in &ids {
        raise(&mut owner, id, Some(Payload::text("1")));
        let next = if *id == ids[1] {
            Vec::new()
        } else {
            vec![call_with(None)]
        };
        owner.turn(id, next);
        groups.push(Arc::new(owner.take_group()));
    }
    drop(store);
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    for (id, group) in ids.iter().zip(groups) {
        let before = pages_read();
        done(store.commit(group));
        let read = pages_read() - before;
        assert!(read <= FEW, "{id}: {read} pages");
    }
}

/// Rows of payloads that are too large for the row of their instance.
fn payload_rows(scratch: &Scratch) -> i64 {
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let sql = "SELECT count(*) FROM payload";
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Too large for a row of an instance.
fn apart(fill: u8) -> Payload {
    Payload::new(vec![fill; 9_000])
}

fn start_with(owner: &mut Owner<'_>, id: &InstanceId, input: Payload) {
    owner.start_with(&StartRequest {
        input: Some(input),
        ..Owner::request(id)
    });
}

fn continue_as_new(input: Option<Payload>) -> ActionKind {
    ActionKind::CompleteOrchestration(Completion::ContinuedAsNew {
        input,
        version: None,
        carried: Vec::new(),
    })
}

#[test]
fn a_large_custom_status_goes_with_the_next_one() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Custom", 1);
    let id = instance("order-1");
    owner.start(&id);
    let large = Payload::text(&"状".repeat(limits::CUSTOM_STATUS_UNITS_MAX));
    for (status, rows) in [(large.clone(), 1), (large, 1), (Payload::text("1"), 0)] {
        let kind = call_with(None);
        owner.answer(&id, vec![Action { id: 0, kind }], Some(status));
        owner.flush();
        assert_eq!(payload_rows(&scratch), rows);
        owner.answer_task(&id, Outcome::Completed(None));
    }
    owner.check();
}

/// An execution whose history comes in one piece with its end has its input there.
#[test]
fn a_large_input_that_waits_for_its_first_turn_goes_with_it() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Inputs", 1);
    let id = instance("order-1");
    start_with(&mut owner, &id, apart(0));
    for round in 1..5 {
        owner.flush();
        assert_eq!(payload_rows(&scratch), 1, "what execution {round} is to begin with");
        owner.turn(&id, vec![continue_as_new(Some(apart(round)))]);
    }
    owner.turn(&id, vec![continue_as_new(None)]);
    owner.check();
    assert_eq!(payload_rows(&scratch), 0);
}

/// Those of earlier executions are kept for as long as their histories.
#[test]
fn large_inputs_of_executions_that_are_forgotten_go_with_them() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Archive", 1);
    let id = instance("order-1");
    start_with(&mut owner, &id, apart(0));
    for round in 1..=limits::ARCHIVED_EXECUTIONS_MAX + 3 {
        owner.turn(&id, vec![call_with(None)]);
        owner.flush();
        owner.answer_task(&id, Outcome::Completed(None));
        owner.turn(&id, vec![continue_as_new(Some(apart(1)))]);
        owner.flush();
        let executions = 1 + round.min(limits::ARCHIVED_EXECUTIONS_MAX);
        assert_eq!(payload_rows(&scratch), i64::from(executions), "after execution {round}");
    }
    owner.check();
    owner.complete(&id, None);
    owner.with(&id, |state, _| control::purge(state).ok());
    owner.flush();
    assert_eq!(payload_rows(&scratch), 0);
}
