//! A sync that fails leaves its outcome unknown, and nothing is acknowledged on top of what may not be on disk.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::path::Path;
use std::sync::Arc;

use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_store::blocking::{Reader as _, Writer as _};
use taskhub_store::conformance::{NODE, Owner, done, instance};
use taskhub_store::embedded::{EmbeddedOptions, SqliteReader, SqliteWriter, fail_syncs, repair};
use taskhub_store::inline::Inline;
use taskhub_store::{Claim, Error, Store};

use crate::scratch::Scratch;

fn store(folder: &Path) -> Inline<SqliteWriter, SqliteReader> {
    let writer = SqliteWriter::open(folder, EmbeddedOptions::default()).unwrap();
    let reader = SqliteReader::open(folder).unwrap();
    Inline::new(writer, reader)
}

fn count(store: &dyn Store) -> u64 {
    let hub = done(store.list_hubs()).remove(0).name;
    done(store.counts(&hub)).iter().map(|(_, count)| count).sum()
}

/// The instances that are in the file itself, whatever becomes of the log.
fn count_without_log(folder: &Path) -> u64 {
    let copy = Scratch::new();
    std::fs::copy(folder.join("store.db"), copy.path().join("store.db")).unwrap();
    repair::accept_loss(copy.path()).unwrap().unwrap();
    let mut reader = SqliteReader::open(copy.path()).unwrap();
    let hub = taskhub_store::conformance::hub("Syncs");
    reader.counts(&hub).unwrap().iter().map(|(_, count)| count).sum()
}

#[test]
fn after_a_failed_sync_all_is_in_the_file_before_anything_is_acknowledged() {
    let scratch = Scratch::new();
    let store = store(scratch.path());
    let mut owner = Owner::new(&store, "Syncs", 1);
    for number in 0..5 {
        owner.start(&instance(&format!("order-{number}")));
        owner.flush();
    }
    owner.start(&instance("unknown"));
    let group = Arc::new(owner.take_group());
    fail_syncs(1);
    let error = taskhub_store::conformance::refused(store.commit(group));
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    // While it cannot be settled nothing is accepted.
    for _ in 0..2 {
        fail_syncs(1);
        let keys = [owner.lease(0).partition.clone()];
        let error = taskhub_store::conformance::refused(store.claim(&Claim::new(NODE, &keys, owner.now)));
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    fail_syncs(0);
    owner.claim();
    let there = count(&store);
    assert!((5..=6).contains(&there), "either wholly there or not at all: {there}");
    assert_eq!(
        count_without_log(scratch.path()),
        there,
        "nothing rests on the log that was in doubt"
    );
}

#[test]
fn a_failed_sync_is_no_longer_in_doubt_once_it_is_settled() {
    let scratch = Scratch::new();
    let mut writer = SqliteWriter::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    let mut create = |name| {
        writer.create_hub(
            &taskhub_store::conformance::hub(name),
            1,
            taskhub_core::time::Timestamp::default(),
        )
    };
    fail_syncs(1);
    assert!(matches!(create("First"), Err(Error::Unknown { .. })));
    create("Second").unwrap();
    create("Third").unwrap();
    drop(writer);
    let names: Vec<_> = done(store(scratch.path()).list_hubs())
        .into_iter()
        .map(|hub| hub.name.to_string())
        .collect();
    assert!(names.ends_with(&["Second".to_owned(), "Third".to_owned()]), "{names:?}");
}

/// Pages that are given back are written to the log like anything else.
#[test]
fn a_failed_sync_of_a_compaction_is_in_doubt_as_that_of_a_group_is() {
    let scratch = Scratch::new();
    let store = store(scratch.path());
    let mut owner = Owner::new(&store, "Syncs", 1);
    let ids: Vec<_> = (0..40).map(|number| instance(&format!("order-{number}"))).collect();
    for id in &ids {
        owner.start_with(&StartRequest {
            input: Some(Payload::new(vec![7; 5_000])),
            ..Owner::request(id)
        });
        owner.complete(id, None);
    }
    owner.flush();
    for id in &ids[5..] {
        owner.with(id, |state, _| taskhub_core::control::purge(state).ok());
    }
    owner.flush();
    assert!(done(store.space()).free_bytes > 0);
    fail_syncs(1);
    let error = taskhub_store::conformance::refused(store.compact());
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    fail_syncs(1);
    let keys = [owner.lease(0).partition.clone()];
    let error = taskhub_store::conformance::refused(store.claim(&Claim::new(NODE, &keys, owner.now)));
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    fail_syncs(0);
    owner.claim();
    assert_eq!(count_without_log(scratch.path()), 5);
}
