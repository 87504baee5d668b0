//! A damaged store is written anew with what is whole of it, and goes on.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::path::Path;

use rusqlite::Connection;
use taskhub_core::action::ActionKind;
use taskhub_core::control;
use taskhub_core::event::Tags;
use taskhub_core::id::IdempotencyKey;
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_store::conformance::{Owner, done, instance, name};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, repair, stop_migration_after};
use taskhub_store::mem::MemStore;
use taskhub_store::{Error, Store};

use crate::scratch::Scratch;

const INSTANCES: u64 = 40;

fn fill(store: &EmbeddedStore) {
    let mut owner = Owner::new(store, "Rebuilt", 1);
    for number in 0..INSTANCES {
        owner.start(&instance(&format!("order-{number}")));
    }
    owner.flush();
}

/// A store with forty instances, one of which is damaged, as `kill -9` leaves it or as it is closed.
fn damaged(is_closed: bool) -> Scratch {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    fill(&store);
    done(store.compact());
    let copy = Scratch::new();
    if is_closed {
        drop(store);
    }
    for name in ["store.db", "store.db-wal"] {
        if scratch.path().join(name).exists() {
            std::fs::copy(scratch.path().join(name), copy.path().join(name)).unwrap();
        }
    }
    let file = copy.path().join("store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|text| text == b"order-17").unwrap();
    bytes[at + 7] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    copy
}

fn rebuild(folder: &Path) -> Result<repair::Rebuilt, Error> {
    repair::rebuild(folder, &mut |_| {})
}

fn instances(folder: &Path) -> u64 {
    let store = EmbeddedStore::open(folder, EmbeddedOptions::default()).unwrap();
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    let hub = done(store.list_hubs()).pop().unwrap().name;
    done(store.counts(&hub)).iter().map(|(_, count)| count).sum()
}

#[test]
fn all_but_what_is_damaged_is_in_the_store_that_is_written_anew() {
    for is_closed in [true, false] {
        let scratch = damaged(is_closed);
        let before = std::fs::read(scratch.path().join("store.db")).unwrap();
        let rebuilt = rebuild(scratch.path()).unwrap();
        assert_eq!(rebuilt.instances, INSTANCES - 1);
        let [left_out] = rebuilt.left_out.as_slice() else {
            panic!("{:?}", rebuilt.left_out)
        };
        assert!(left_out.contains("hub `Rebuilt`, instance `order-1"), "{left_out}");
        assert!(left_out.contains("checksum"), "{left_out}");
        assert_eq!(rebuilt.kept, scratch.path().join("store.db.damaged"));
        let kept = std::fs::read(&rebuilt.kept).unwrap();
        assert_eq!(kept.len(), before.len());
        assert!(is_closed || kept != before, "the old file is marked as closed");
        assert_eq!(instances(scratch.path()), INSTANCES - 1);
        // A store that is whole may be written anew as well, and nothing that was kept is lost.
        let again = rebuild(scratch.path()).unwrap();
        assert_eq!((again.instances, again.left_out), (INSTANCES - 1, Vec::new()));
        assert_eq!(again.kept, scratch.path().join("store.db.damaged.2"));
        assert!(std::fs::read(&rebuilt.kept).unwrap() == kept);
        assert_eq!(instances(scratch.path()), INSTANCES - 1);
    }
}

/// What an instance waits for, messages on their way, keys and counters go with it, and no epoch is given out again.
#[test]
fn nothing_is_lost_of_a_store_that_is_whole() {
    let (scratch, mem) = (Scratch::new(), MemStore::empty());
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    let mut gone = Owner::new(&store, "Gone", 1);
    (0..10).for_each(|_| gone.claim());
    let old_epoch = gone.lease(0).epoch;
    let name_of_gone = gone.hub().clone();
    done(store.delete_hub(&name_of_gone));
    let mut owner = Owner::new(&store, "Rebuilt", 2);
    let key = |text: &str| IdempotencyKey::new(text).ok();
    for number in 0..6 {
        let id = instance(&format!("order-{number}"));
        owner.start_with(&StartRequest {
            input: Some(Payload::new(vec![b' '; 20_000])),
            key: key("start"),
            ..Owner::request(&id)
        });
        let call = ActionKind::ScheduleTask {
            name: name("SayHello"),
            version: None,
            input: None,
            tags: Tags::new(),
        };
        let timer = ActionKind::CreateTimer { fire_at: owner.now };
        let event = ActionKind::SendEvent {
            instance: instance("nobody"),
            name: name("Hi"),
            input: None,
        };
        owner.turn(&id, vec![call, timer, event]);
        owner.with(&id, |state, now| {
            control::raise_event(state, name("Go"), None, key("event").as_ref(), now).unwrap()
        });
    }
    // The last ones of their partitions.
    for number in 3..6 {
        let id = instance(&format!("order-{number}"));
        owner.with(&id, |state, now| control::terminate(state, None, false, now).ok());
        owner.with(&id, |state, _| control::purge(state).ok());
    }
    owner.check();
    let owner = owner.over(&mem);
    drop(store);
    let rebuilt = rebuild(scratch.path()).unwrap();
    assert_eq!((rebuilt.instances, rebuilt.left_out), (3, Vec::new()));
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    let mut owner = owner.over(&store);
    owner.check();
    owner.start(&instance("new"));
    owner.check();
    let again = Owner::new(&store, "Gone", 1);
    assert!(again.lease(0).epoch > old_epoch);
}

/// Until the new store has the place of the old one, the old one is what there is.
#[test]
fn a_store_whose_rewriting_is_cut_short_is_as_it_was_or_is_new() {
    stop_migration_after(u64::MAX);
    rebuild(damaged(false).path()).unwrap();
    let steps = u64::MAX - stop_migration_after(u64::MAX);
    assert!(steps > 2, "{steps}");
    for step in 0..steps {
        let scratch = damaged(false);
        stop_migration_after(step);
        let error = rebuild(scratch.path());
        stop_migration_after(u64::MAX);
        assert!(error.is_err(), "{step}");
        assert!(!scratch.path().join("store.db-new").exists(), "{step}");
        // It can be opened, and written anew.
        drop(EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap());
        match rebuild(scratch.path()) {
            Ok(rebuilt) => assert_eq!(rebuilt.instances, INSTANCES - 1),
            Err(error) => panic!("step {step}: {error}"),
        }
        assert_eq!(instances(scratch.path()), INSTANCES - 1, "{step}");
    }
}

#[test]
fn a_store_whose_log_has_lost_something_is_left_as_it_is() {
    let scratch = damaged(false);
    std::fs::remove_file(scratch.path().join("store.db-wal")).unwrap();
    let before = std::fs::read(scratch.path().join("store.db")).unwrap();
    let error = rebuild(scratch.path()).unwrap_err();
    assert!(error.to_string().contains("--accept-loss"), "{error}");
    assert!(std::fs::read(scratch.path().join("store.db")).unwrap() == before);
    repair::accept_loss(scratch.path()).unwrap().unwrap();
    rebuild(scratch.path()).unwrap();
}

/// A crash between the second name of the old file and the first of the new one.
#[test]
fn a_second_name_that_a_crash_has_left_is_taken_away() {
    let scratch = damaged(true);
    let (file, second) = (scratch.path().join("store.db"), scratch.path().join("store.db.damaged"));
    std::fs::hard_link(&file, &second).unwrap();
    drop(EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap());
    assert!(!second.exists() && file.exists());
    // Any other is somebody's.
    std::fs::hard_link(&file, scratch.path().join("mine")).unwrap();
    let error = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap_err();
    assert!(format!("{error:?}").contains("2 names"), "{error:?}");
}

/// Empties the first page of a table or an index.
fn empty(folder: &Path, name: &str) {
    const PAGE: usize = 8 << 10;
    let file = folder.join("store.db");
    let connection = Connection::open(&file).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: i64 = connection.query_row(sql, [name], |row| row.get(0)).unwrap();
    let page = usize::try_from(page).unwrap();
    drop(connection);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[(page - 1) * PAGE..page * PAGE].fill(0);
    std::fs::write(&file, bytes).unwrap();
}

fn whole() -> Scratch {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    fill(&store);
    drop(store);
    scratch
}

#[test]
fn an_index_that_is_damaged_costs_no_instance() {
    let indexes = [
        "sqlite_autoindex_pending_1",
        "sqlite_autoindex_history_1",
        "sqlite_autoindex_payload_1",
        "sqlite_autoindex_outbox_1",
        "sqlite_autoindex_part_1",
        "instance_id",
        "instance_created",
        "instance_open",
    ];
    for index in indexes {
        let scratch = whole();
        empty(scratch.path(), index);
        let rebuilt = rebuild(scratch.path()).unwrap();
        assert_eq!(
            (rebuilt.instances, rebuilt.left_out),
            (INSTANCES, Vec::new()),
            "{index}"
        );
        assert_eq!(instances(scratch.path()), INSTANCES, "{index}");
    }
}

#[test]
fn a_store_of_which_nothing_would_be_left_is_left_as_it_is() {
    let scratch = whole();
    empty(scratch.path(), "instance");
    let before = std::fs::read(scratch.path().join("store.db")).unwrap();
    let error = rebuild(scratch.path()).unwrap_err();
    assert!(error.to_string().contains("the new store would be empty"), "{error}");
    assert!(std::fs::read(scratch.path().join("store.db")).unwrap() == before);
    assert!(!scratch.path().join("store.db-new").exists());
}

#[test]
fn instances_whose_rows_cannot_be_reached_are_named() {
    let scratch = whole();
    empty(scratch.path(), "pending");
    // They wait for their first turn, with nothing to begin it.
    let error = rebuild(scratch.path()).unwrap_err();
    assert!(error.to_string().contains("the new store would be empty"), "{error}");
    let scratch = damaged(true);
    let rebuilt = rebuild(scratch.path()).unwrap();
    assert_eq!(rebuilt.left_out.len(), 1, "{:?}", rebuilt.left_out);
}

/// The log of the time before must not be put back.
#[test]
fn a_log_beside_a_store_that_was_written_anew_is_refused() {
    let scratch = damaged(false);
    let log = std::fs::read(scratch.path().join("store.db-wal")).unwrap();
    rebuild(scratch.path()).unwrap();
    std::fs::write(scratch.path().join("store.db-wal"), &log).unwrap();
    let error = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap_err();
    assert!(error.to_string().contains("do not belong together"), "{error}");
    repair::accept_loss(scratch.path()).unwrap().unwrap();
    assert_eq!(instances(scratch.path()), INSTANCES - 1);
}
