//! Damage is found, by the check and by the reader that meets it, and never taken for data (P7).
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod scratch;

use rusqlite::Connection;
use scratch::Scratch;
use taskhub_core::action::ActionKind;
use taskhub_core::event::Tags;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_store::conformance::{Owner, block_on, instance, name};
use taskhub_store::embedded::{EmbeddedStore, Options, Synchronous};
use taskhub_store::{Error, ExecutionKey, Job, Store};

const OFF: Options = Options {
    synchronous: Synchronous::Off,
    bytes_max: None,
};

/// A store with something in every table, and what the check says after a change behind its back.
fn problems(damage: &str) -> Vec<String> {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Damage", 1);
    let call = ActionKind::ScheduleTask {
        name: name("SayHello"),
        version: None,
        input: None,
        tags: Tags::new(),
    };
    let event = ActionKind::SendEvent {
        instance: instance("nobody"),
        name: name("Hi"),
        input: None,
    };
    for number in 0..6 {
        let id = instance(&format!("order-{number}"));
        owner.start_with(&StartRequest {
            input: Some(Payload::new(vec![b' '; 20_000])),
            ..Owner::request(&id)
        });
        owner.turn(&id, vec![call.clone(), event.clone()]);
        owner.flush();
        owner.answer_task(&id, Outcome::Completed(None));
        if number % 2 == 0 {
            owner.turn(&id, vec![call.clone()]);
            owner.flush();
            owner.answer_task(&id, Outcome::Completed(None));
            owner.complete(&id, None);
        }
    }
    owner.check();
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let changed = file
        .execute(damage, [])
        .unwrap_or_else(|error| panic!("{damage}: {error}"));
    assert!(changed > 0, "{damage}");
    drop(file);
    match block_on(store.maintain(Job::Verify)) {
        Ok(report) => report.problems,
        Err(Error::Corrupt { what, .. }) => vec![what],
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_check_finds_every_kind_of_contradiction() {
    let cases = [
        ("UPDATE status_count SET n = n + 1 WHERE status = 1", "I8"),
        ("DELETE FROM status_count", "I8"),
        ("DELETE FROM history WHERE first > 0", "its row says"),
        ("DELETE FROM history WHERE first = 0", "gap"),
        ("DELETE FROM history", "is missing"),
        ("UPDATE history SET events = events + 1", "gap"),
        (
            "UPDATE history SET body = substr(body, 1, 10)",
            "checksum of a history chunk",
        ),
        (
            "UPDATE pending SET body = CAST(body || 'x' AS BLOB)",
            "checksum of a message",
        ),
        ("UPDATE pending SET sum = 0", "checksum"),
        ("UPDATE payload SET body = zeroblob(20000)", "checksum of a payload"),
        ("DELETE FROM payload", "a payload of instance number 1 is missing"),
        ("UPDATE instance SET status = 0 WHERE status = 1", "Running"),
        (
            "UPDATE instance SET status = 1, completed_at = 1 WHERE status = 0",
            "S-atomic-status",
        ),
        ("UPDATE instance SET completed_at = NULL", "its end is at None"),
        ("UPDATE instance SET history_bytes = 7", "its row says 7"),
        ("UPDATE instance SET status = 9", "is no status"),
        ("UPDATE instance SET info = x'07'", "version"),
        ("UPDATE instance SET input = 'text'", "another type"),
        ("UPDATE instance SET hub = 7", "belong to nothing"),
        ("DELETE FROM instance WHERE id = 'order-1'", "belong to nothing"),
        ("DELETE FROM part", "belong to nothing"),
        ("UPDATE part SET next_seq = 1", "would give commit number 1"),
        ("UPDATE part SET next_number = 6", "would give instance number 6"),
    ];
    for (damage, expected) in cases {
        let found = problems(damage);
        assert!(found.iter().any(|line| line.contains(expected)), "{damage}: {found:?}");
    }
}

#[test]
fn a_reader_that_meets_damage_names_the_file() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Damage", 1);
    let (id, other) = (instance("order-1"), instance("order-2"));
    for id in [&id, &other] {
        owner.start(id);
        owner.flush();
        owner.turn(id, Vec::new());
    }
    owner.check();
    let partition = owner.lease(0).partition.clone();
    let number = owner.state(&id).map(|state| state.number).unwrap();
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let sql = "UPDATE history SET body = CAST(body || 'x' AS BLOB) WHERE inst = (SELECT inst FROM instance WHERE id = 'order-1')";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    let key = |number| ExecutionKey {
        partition: partition.clone(),
        number,
        ordinal: 0,
    };
    let error = block_on(store.history(&key(number), 0)).unwrap_err();
    let Error::Corrupt { place, what } = &error else {
        panic!("{error}")
    };
    assert!(place.ends_with("store.db"), "{place}");
    assert!(what.contains("checksum"), "{what}");
    // One row's trouble is no other's (R187).
    assert_eq!(block_on(store.history(&key(number.next()), 0)).unwrap().len(), 1);
}

#[test]
fn damaged_pages_are_found() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Damage", 1);
    for number in 0..300 {
        owner.start(&instance(&format!("order-{number}")));
    }
    owner.check();
    drop(store);
    let file = scratch.path().join("store.db");
    let whole = std::fs::read(&file).unwrap();
    let pages = whole.len() / 16_384;
    assert!(pages > 10);
    for page in 0..pages {
        let mut damaged = whole.clone();
        damaged[page * 16_384..(page + 1) * 16_384].fill(0);
        // A page that was never used may be zero already.
        if damaged == whole {
            continue;
        }
        std::fs::write(&file, &damaged).unwrap();
        let found = match EmbeddedStore::open(scratch.path(), OFF) {
            Ok(store) => block_on(store.maintain(Job::Verify)).map(|report| report.problems),
            Err(error) => Err(error),
        };
        match found {
            Ok(problems) => assert!(!problems.is_empty(), "page {page} of {pages} was zeroed unnoticed"),
            Err(error) => assert_eq!(error.code(), "store-corrupt", "page {page}: {error}"),
        }
    }
}
