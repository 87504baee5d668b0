//! A store gives room back by itself: bytes are counted, and nobody waits for more than a step.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;

use rusqlite::Connection;
use taskhub_core::control;
use taskhub_core::id::InstanceId;
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_store::conformance::{NODE, Owner, block_on, instance};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};
use taskhub_store::{Claim, PartitionKey, Space, Store};

use crate::common::OFF;
use crate::scratch::Scratch;

const PAGE: u64 = 8 << 10;
/// Pages given back in one step.
const STEP_BYTES: u64 = 128 * PAGE;
/// Calls after which no store of these tests has anything left to do.
const CALLS_MAX: usize = 1_000;

/// Instances that have ended, with 100,000 bytes each.
fn fill(owner: &mut Owner<'_>, count: usize) -> Vec<InstanceId> {
    let ids: Vec<InstanceId> = (0..count).map(|number| instance(&format!("order-{number}"))).collect();
    for id in &ids {
        owner.start_with(&StartRequest {
            input: Some(Payload::new(vec![7; 100_000])),
            ..Owner::request(id)
        });
        owner.complete(id, None);
        owner.flush();
    }
    ids
}

fn purge(owner: &mut Owner<'_>, ids: &[InstanceId]) {
    for id in ids {
        owner.with(id, |state, _| control::purge(state).ok());
    }
    owner.flush();
}

fn space(store: &EmbeddedStore) -> Space {
    block_on(store.space()).unwrap()
}

/// Makes calls to the writer, between which it has time, until it has nothing left to do; answers how much was free after each.
fn watch(store: &EmbeddedStore) -> Vec<u64> {
    let mut free = vec![space(store).free_bytes];
    let mut unchanged = 0;
    while unchanged < 5 {
        assert!(free.len() < CALLS_MAX, "{free:?}");
        block_on(store.list_hubs()).unwrap();
        let now = space(store).free_bytes;
        unchanged = if free.last() == Some(&now) { unchanged + 1 } else { 0 };
        free.push(now);
    }
    free
}

/// A store that keeps no more than 1 MiB free, if that is more than a fifth of it.
fn open(scratch: &Scratch) -> EmbeddedStore {
    let options = EmbeddedOptions {
        free_bytes_max: Some(1 << 20),
        ..OFF
    };
    EmbeddedStore::open(scratch.path(), options).unwrap()
}

#[test]
fn what_a_purge_has_left_free_is_given_back_without_another_word() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let mut owner = Owner::new(&store, "Shrinking", 1);
    let ids = fill(&mut owner, 60);
    let full = space(&store);
    assert!(full.bytes > 6_000_000, "{full:?}");

    // A few leave little free, which is kept for what comes.
    purge(&mut owner, &ids[..5]);
    let free = watch(&store);
    assert!(
        free.iter().all(|bytes| *bytes == free[0] && *bytes > 400_000),
        "{free:?}"
    );
    assert_eq!(space(&store).bytes, full.bytes);

    purge(&mut owner, &ids[5..50]);
    watch(&store);
    let small = space(&store);
    let allowed = (1 << 20).max(small.bytes / 5);
    assert!(small.free_bytes <= allowed, "{small:?}");
    assert!(
        small.free_bytes + STEP_BYTES > allowed,
        "no more than is needed: {small:?}"
    );
    assert!(small.bytes < full.bytes / 2, "{full:?} {small:?}");
    // The disk has it too, and not only the log.
    let file = std::fs::metadata(scratch.path().join("store.db")).unwrap().len();
    assert_eq!(file, small.bytes);
    owner.check();
    assert_eq!(block_on(store.verify()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_store_that_is_busy_gives_room_back_between_groups() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let mut owner = Owner::new(&store, "Shrinking", 1);
    let ids = fill(&mut owner, 60);
    let full = space(&store).bytes;
    purge(&mut owner, &ids);
    // Groups go on, each of which is durable when it says so.
    for number in 0..20 {
        owner.start(&instance(&format!("next-{number}")));
        block_on(store.commit(Arc::new(owner.take_group()))).unwrap();
    }
    watch(&store);
    let small = space(&store);
    assert!(small.bytes < full / 2, "{full} {small:?}");
    drop(store);
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let hub = taskhub_store::conformance::hub("Shrinking");
    let count: u64 = block_on(store.counts(&hub))
        .unwrap()
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(count, 20);
    assert_eq!(block_on(store.verify()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_fifth_of_a_large_file_stays_free_for_what_comes() {
    let scratch = Scratch::new();
    let options = EmbeddedOptions {
        free_bytes_max: Some(0),
        ..OFF
    };
    let store = EmbeddedStore::open(scratch.path(), options).unwrap();
    let mut owner = Owner::new(&store, "Shrinking", 1);
    let ids = fill(&mut owner, 400);
    purge(&mut owner, &ids[..200]);
    watch(&store);
    let small = space(&store);
    assert!(small.free_bytes * 5 <= small.bytes, "{small:?}");
    assert!((small.free_bytes + STEP_BYTES) * 5 > small.bytes, "{small:?}");
}

#[test]
fn a_hub_that_is_deleted_leaves_no_large_file() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let mut owner = Owner::new(&store, "Shrinking", 1);
    fill(&mut owner, 60);
    let full = space(&store);
    block_on(store.delete_hub(owner.hub())).unwrap();
    watch(&store);
    let small = space(&store);
    assert!(small.bytes < full.bytes / 3, "{full:?} {small:?}");
}

/// Pages that are given back go through the log, which cannot be begun anew while somebody reads from it.
#[test]
fn a_long_read_costs_no_more_than_a_long_log() {
    const LONG: u64 = 32 << 20;
    let scratch = Scratch::new();
    let store = open(&scratch);
    let mut owner = Owner::new(&store, "Shrinking", 1);
    let ids = fill(&mut owner, 900);
    let full = space(&store).bytes;
    let reader = Connection::open(scratch.path().join("store.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM hub").unwrap();
    // Those that stay are at the end of the file, so that their pages move.
    purge(&mut owner, &ids[..450]);
    watch(&store);
    let log = |scratch: &Scratch| std::fs::metadata(scratch.path().join("store.db-wal")).unwrap().len();
    let held_up = log(&scratch);
    assert!((LONG..LONG + 4 * STEP_BYTES).contains(&held_up), "{held_up}");
    drop(reader);
    owner.start(&instance("next"));
    owner.flush();
    watch(&store);
    let small = space(&store);
    assert!(small.bytes < full * 2 / 3, "{full} {small:?}");
    owner.check();
}

/// Whoever purged had no time for it.
#[test]
fn what_an_earlier_owner_has_left_free_is_given_back_when_the_log_is_written_back() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Shrinking", 1);
    let ids = fill(&mut owner, 70);
    purge(&mut owner, &ids);
    let left = space(&store);
    assert!(left.free_bytes > 6_000_000, "less than is kept: {left:?}");
    let now = owner.now;
    drop(store);
    let store = open(&scratch);
    assert_eq!(space(&store), left, "who only looks changes nothing");
    let hub = taskhub_store::conformance::hub("Shrinking");
    // As much as makes a log long, in few pages of the file.
    let keys = [PartitionKey { hub, index: 0 }];
    let page_writes = (16 << 20) / PAGE;
    for _ in 0..page_writes {
        block_on(store.claim(&Claim::new(NODE, &keys, now))).unwrap();
    }
    let mut owner = Owner::new(&store, "Other", 1);
    owner.start(&instance("order-1"));
    owner.flush();
    watch(&store);
    let small = space(&store);
    assert!(small.bytes < left.bytes / 2, "{left:?} {small:?}");
    owner.check();
}
