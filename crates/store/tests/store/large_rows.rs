//! Rows that are large are not read on the way to others: counted in pages, never timed.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;

use taskhub_core::action::ActionKind;
use taskhub_core::control;
use taskhub_core::id::InstanceId;
use taskhub_core::message::Outcome;
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
