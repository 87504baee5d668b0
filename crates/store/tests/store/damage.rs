//! Damage is found, by the check and by the reader that meets it, and never taken for data (P7).
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;
use std::time::Duration;

use crate::common::OFF;
use crate::scratch::Scratch;
use rusqlite::Connection;
use taskhub_core::action::ActionKind;
use taskhub_core::control;
use taskhub_core::event::Tags;
use taskhub_core::id::{IdempotencyKey, InstanceId};
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_store::conformance::{Owner, block_on, instance, name, refused};
use taskhub_store::embedded::{EmbeddedStore, resum};
use taskhub_store::{Error, ExecutionKey, HistoryRange, Recovered, Selection, Store};

/// A store with something in every table, and what the check says after a change behind its back, of rows whose checksums
/// are made right again or left as they were.
fn problems(damage: &str, is_resummed: bool) -> Vec<String> {
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
    if is_resummed {
        resum(&file);
    }
    drop(file);
    match block_on(store.verify()) {
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
        ("DELETE FROM history WHERE first > 0", "row says"),
        ("DELETE FROM history WHERE first = 0", "gap"),
        ("DELETE FROM history", "is missing"),
        ("UPDATE history SET events = events + 1", "gap"),
        ("UPDATE pending SET kind = 9", "contradict its body"),
        ("UPDATE payload SET body = zeroblob(20000)", "out of date"),
        ("DELETE FROM payload", "a payload of instance number "),
        ("DELETE FROM pending", "are missing"),
        ("DELETE FROM outbox", "messages in its outbox, found 0"),
        ("UPDATE hub SET partitions = 2", "should have 2 partitions, found 1"),
        ("UPDATE instance SET status = 0 WHERE status = 1", "Running"),
        (
            "UPDATE instance SET status = 1, completed_at = 1 WHERE status = 0",
            "S-atomic-status",
        ),
        (
            "UPDATE instance SET completed_at = NULL",
            "contradicts completion time None",
        ),
        ("UPDATE instance SET history_bytes = 7", "its row says 7"),
        ("UPDATE instance SET status = 9", "unknown status"),
        ("UPDATE instance SET info = x'07'", "version"),
        ("UPDATE instance SET input = 'text'", "unexpected SQLite type"),
        ("UPDATE instance SET hub = 7", "have no owner"),
        ("DELETE FROM instance WHERE id = 'order-1'", "have no owner"),
        ("DELETE FROM part", "have no owner"),
        ("UPDATE part SET next_seq = 1", "would assign commit number 1"),
        ("UPDATE part SET next_number = 6", "would assign instance number 6"),
        // The last numbers that were given.
        (
            "UPDATE part SET next_seq = (SELECT max(seq) FROM outbox)",
            "would assign commit number",
        ),
        (
            "UPDATE part SET next_number = (SELECT max(inst) & 0xFFFFFFFFFF FROM instance)",
            "would assign instance number",
        ),
    ];
    for (damage, expected) in cases {
        let found = problems(damage, true);
        assert!(found.iter().any(|line| line.contains(expected)), "{damage}: {found:?}");
    }
}

/// Whatever is changed in a row, its checksum tells.
#[test]
fn the_check_finds_a_change_of_any_column() {
    let scratch = Scratch::new();
    drop(EmbeddedStore::open(scratch.path(), OFF).unwrap());
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let sql =
        "SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'";
    let mut columns = file.prepare(sql).unwrap();
    let columns: Vec<(String, String, String, i64)> = columns
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    assert!(columns.len() > 70);
    for (table, column, kind, _) in columns {
        // One row only: others may be there already with the key that it gets.
        let one = format!("WHERE ({column}) = (SELECT max({column}) FROM {table})");
        let damage = match (table.as_str(), column.as_str(), kind.as_str()) {
            // There is one row, whose key is fixed.
            ("store", "only", _) => continue,
            ("instance", "completed_at" | "stalled_at" | "stalled_attempts", _) | (_, "deliveries" | "due_at", _) => {
                format!("UPDATE {table} SET {column} = coalesce({column}, 0) + 7")
            }
            ("instance", "stalled_reason", _) => {
                "UPDATE instance SET stalled_at = 1, stalled_attempts = 1, stalled_reason = 'x'".to_owned()
            }
            ("instance", "custom" | "output", _) => format!("UPDATE instance SET {column} = x'07'"),
            ("instance", "input", _) => "UPDATE instance SET input = input + 1".to_owned(),
            ("instance", "version", _) => "UPDATE instance SET version = 'x'".to_owned(),
            ("instance", "info", _) => "UPDATE instance SET info = x'07'".to_owned(),
            ("instance", "execution", _) => "UPDATE instance SET execution = zeroblob(16)".to_owned(),
            (_, "is_clean" | "is_cut" | "is_open", _) => format!("UPDATE {table} SET {column} = 1 - {column}"),
            (_, _, "TEXT") => format!("UPDATE {table} SET {column} = {column} || 'x' {one}"),
            (_, _, "BLOB") => format!("UPDATE {table} SET {column} = CAST({column} || 'x' AS BLOB)"),
            _ => format!("UPDATE {table} SET {column} = {column} + 1 {one}"),
        };
        // No key was used.
        if table == "seen_key" {
            continue;
        }
        let found = problems(&damage, false);
        assert!(!found.is_empty(), "{damage}");
    }
}

#[test]
fn a_history_whose_last_events_are_missing_is_not_taken_for_a_whole_one() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Damage", 1);
    let id = instance("order-1");
    owner.start(&id);
    owner.turn(&id, Vec::new());
    owner.flush();
    owner.with(&id, |state, now| {
        control::raise_event(state, name("Go"), None, None, now).unwrap_or(None)
    });
    owner.complete(&id, None);
    owner.flush();
    let state = owner.state(&id).unwrap();
    let execution = ExecutionKey {
        partition: owner.lease(0).partition.clone(),
        number: state.number,
        ordinal: 0,
    };
    let events = state.history_events;
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let last = "DELETE FROM history WHERE first = (SELECT max(first) FROM history)";
    assert_eq!(file.execute(last, []).unwrap(), 1);
    drop(file);
    for range in [HistoryRange::ALL, HistoryRange::from(events - 1)] {
        let error = refused(store.history(&execution, range));
        assert!(
            matches!(&error, Error::Corrupt { what, .. } if what.contains(&format!("expected {events} events"))),
            "{error}"
        );
    }
}

/// Without it a request that was accepted would be accepted once more.
#[test]
fn an_idempotency_key_that_is_missing_is_noticed() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Damage", 1);
    let id = instance("order-1");
    owner.start_with(&StartRequest {
        key: IdempotencyKey::new("once").ok(),
        ..Owner::request(&id)
    });
    owner.flush();
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    assert_eq!(file.execute("DELETE FROM seen_key", []).unwrap(), 1);
    drop(file);
    let error = refused(store.load(&owner.lease(0).partition, std::slice::from_ref(&id)));
    assert!(
        matches!(&error, Error::Corrupt { what, .. } if what.contains("expected 1 in `seen_key`, found 0")),
        "{error}"
    );
}

/// Otherwise the next count would be as wrong, with a checksum that is right.
#[test]
fn a_count_that_is_damaged_is_not_counted_on() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Damage", 1);
    owner.start(&instance("order-1"));
    owner.flush();
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    assert_eq!(file.execute("UPDATE status_count SET n = n + 1", []).unwrap(), 1);
    drop(file);
    owner.start(&instance("order-2"));
    let error = refused(store.commit(Arc::new(owner.take_group())));
    assert!(
        matches!(&error, Error::Corrupt { what, .. } if what.contains("the count of instances")),
        "{error}"
    );
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
    let error = block_on(store.history(&key(number), HistoryRange::ALL)).unwrap_err();
    let Error::Corrupt { place, what, .. } = &error else {
        panic!("{error}")
    };
    assert!(place.ends_with("store.db"), "{place}");
    assert!(what.contains("checksum"), "{what}");
    // One row's trouble is no other's (R187).
    assert_eq!(
        block_on(store.history(&key(number.next()), HistoryRange::ALL))
            .unwrap()
            .len(),
        1
    );
}

/// Three instances that each wait for an activity and a timer, have a message that is not taken in, and sent one.
fn busy(store: &EmbeddedStore) -> Owner<'_> {
    let mut owner = Owner::new(store, "Damage", 1);
    for number in 1..=3 {
        let id = instance(&format!("order-{number}"));
        owner.start(&id);
        let call = ActionKind::ScheduleTask {
            name: name("SayHello"),
            version: None,
            input: None,
            tags: Tags::new(),
        };
        let fire_at = owner.now.plus(Duration::from_mins(1));
        let timer = ActionKind::CreateTimer { fire_at };
        let event = ActionKind::SendEvent {
            instance: instance("nobody"),
            name: name("Hi"),
            input: None,
        };
        owner.turn(&id, vec![call, timer, event]);
        owner.with(&id, |state, now| {
            control::raise_event(state, name("Go"), None, None, now).unwrap()
        });
    }
    owner.check();
    owner
}

/// Everything there is in the tables of open work.
fn contents(file: &Connection) -> Vec<String> {
    let sql = "SELECT format('%d/%d/%d/%d/%d/%s', inst, lane, ev, kind, sum, hex(body)) FROM pending \
         UNION ALL SELECT format('%d/%d/%d/%d/%s', part, seq, ix, sum, hex(body)) FROM outbox \
         UNION ALL SELECT format('%d/%s', inst, id) FROM instance";
    let mut statement = file.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// What is wrong with an item, and of which instance it is, if it is a damaged one.
fn damage_in(item: &Recovered) -> Option<(Option<&str>, &str, &str)> {
    match item {
        Recovered::Damaged { instance, place, what } => Some((instance.as_ref().map(InstanceId::as_str), place, what)),
        _ => None,
    }
}

/// The same whatever the length of what is unread, which may be damaged.
pub(crate) fn without_bytes(item: &Recovered) -> Recovered {
    match item.clone() {
        Recovered::Inbox { instance, name, .. } => Recovered::Inbox {
            instance,
            name,
            bytes: 0,
        },
        other => other,
    }
}

/// One row is damaged: the item it would have been is reported, with its instance if that can be told, and
/// all others are recovered (R187).
#[test]
fn a_damaged_row_of_open_work_costs_that_row() {
    let second = "inst = (SELECT inst FROM instance WHERE id = 'order-2')";
    let task = format!("WHERE {second} AND kind = 1");
    let timer = format!("WHERE {second} AND kind = 2");
    let outbox = "WHERE seq = (SELECT max(seq) FROM outbox)";
    let (its_own, nobodys) = (Some("order-2"), None);
    let cases = [
        (
            format!("UPDATE pending SET body = zeroblob(9) {task}"),
            its_own,
            "checksum",
        ),
        (format!("UPDATE pending SET sum = 0 {timer}"), its_own, "checksum"),
        (format!("UPDATE pending SET body = x'07' {task}"), its_own, "version"),
        (
            format!("UPDATE pending SET kind = 2 {task}"),
            its_own,
            "contradict its body",
        ),
        (
            format!("UPDATE pending SET kind = 9 {timer}"),
            its_own,
            "contradict its body",
        ),
        (
            format!("UPDATE pending SET due_at = 1 {timer}"),
            its_own,
            "contradict its body",
        ),
        (
            format!("UPDATE pending SET ev = 99 {task}"),
            its_own,
            "contradict its body",
        ),
        (format!("UPDATE pending SET lane = 7 {task}"), its_own, "unknown lane"),
        (
            format!("UPDATE pending SET deliveries = -1 {task}"),
            its_own,
            "out of range",
        ),
        (
            format!("UPDATE outbox SET body = zeroblob(9) {outbox}"),
            nobodys,
            "checksum",
        ),
        (format!("UPDATE outbox SET ix = -1 {outbox}"), nobodys, "out of range"),
        (format!("UPDATE outbox SET body = x'07' {outbox}"), nobodys, "version"),
    ];
    for (damage, expected_instance, expected) in cases {
        let scratch = Scratch::new();
        let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
        let mut owner = busy(&store);
        owner.claim();
        let lease = owner.lease(0).clone();
        let whole = block_on(store.recover(&lease)).unwrap();
        assert!(whole.iter().all(|item| damage_in(item).is_none()));
        let file = Connection::open(scratch.path().join("store.db")).unwrap();
        assert_eq!(file.execute(&damage, []).unwrap(), 1, "{damage}");
        if expected != "checksum" {
            resum(&file);
        }
        let before = contents(&file);
        let found = block_on(store.recover(&lease)).unwrap_or_else(|error| panic!("{damage}: {error}"));
        let damaged: Vec<_> = found.iter().filter_map(damage_in).collect();
        let [(of, place, what)] = damaged[..] else {
            panic!("{damage}: {damaged:?}")
        };
        assert_eq!(of, expected_instance, "{damage}");
        assert!(
            place.contains("row ") && what.contains(expected),
            "{damage}: {place}: {what}"
        );
        let others = found.iter().filter(|item| damage_in(item).is_none());
        let whole: Vec<Recovered> = whole.iter().map(without_bytes).collect();
        assert!(
            others.clone().all(|item| whole.contains(&without_bytes(item))),
            "{damage}: {found:?}"
        );
        assert_eq!(others.count(), whole.len() - 1, "{damage}");
        for id in ["order-1", "order-2", "order-3"] {
            let loaded = block_on(store.load(&lease.partition, &[instance(id)]));
            assert_eq!(loaded.is_err(), Some(id) == expected_instance, "{damage}: {id}");
        }
        assert_eq!(contents(&file), before, "what cannot be read stays ({damage})");
    }
}

#[test]
fn open_work_without_a_readable_instance_keeps_no_other_from_being_recovered() {
    for (damage, expected) in [
        (
            "UPDATE instance SET id = '' WHERE id = 'order-2'",
            "its instance is missing or unreadable",
        ),
        (
            "DELETE FROM instance WHERE id = 'order-2'",
            "its instance is missing or unreadable",
        ),
    ] {
        let scratch = Scratch::new();
        let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
        let owner = busy(&store);
        let whole = block_on(store.recover(owner.lease(0))).unwrap();
        let file = Connection::open(scratch.path().join("store.db")).unwrap();
        assert_eq!(file.execute(damage, []).unwrap(), 1, "{damage}");
        let found = block_on(store.recover(owner.lease(0))).unwrap();
        let damaged: Vec<_> = found.iter().filter_map(damage_in).collect();
        assert_eq!(damaged.len(), 3, "a task, a timer and a message: {damaged:?}");
        for (of, place, what) in damaged {
            assert_eq!(of, None);
            assert!(what.contains(expected), "{damage}: {place}: {what}");
        }
        assert_eq!(found.len(), whole.len());
    }
}

#[test]
fn a_message_that_is_missing_is_told_when_work_is_recovered() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let owner = busy(&store);
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let sql = "DELETE FROM outbox WHERE seq = (SELECT min(seq) FROM outbox)";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    let found = block_on(store.recover(owner.lease(0))).unwrap();
    let damaged: Vec<_> = found.iter().filter_map(damage_in).collect();
    let [(None, _, what)] = damaged[..] else {
        panic!("{damaged:?}")
    };
    assert_eq!(what, "expected 3 messages in the outbox, found 2");
}

#[test]
fn a_listing_shows_what_is_left() {
    for damage in [
        "UPDATE instance SET info = x'07' WHERE id = 'order-2'",
        "UPDATE instance SET input = 'text' WHERE id = 'order-2'",
        "UPDATE instance SET id = '' WHERE id = 'order-2'",
        "UPDATE instance SET status = 9 WHERE id = 'order-2'",
    ] {
        let scratch = Scratch::new();
        let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
        let owner = busy(&store);
        let file = Connection::open(scratch.path().join("store.db")).unwrap();
        assert_eq!(file.execute(damage, []).unwrap(), 1, "{damage}");
        for rows_max in 1..4 {
            let rows = listed(&owner, rows_max);
            assert_eq!(rows, ["order-1", "order-3"], "{damage}, by {rows_max}");
        }
    }
}

/// What is purged by its id is what the row says, and not what a damaged one says.
#[test]
fn ids_of_damaged_rows_are_left_out() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let owner = busy(&store);
    let file = Connection::open(scratch.path().join("store.db")).unwrap();
    let damage = "UPDATE instance SET created_at = created_at + 1 WHERE id = 'order-2'";
    assert_eq!(file.execute(damage, []).unwrap(), 1);
    let all = Selection {
        hub: owner.hub().clone(),
        filter: Filter::default(),
        after: None,
        rows_max: 100,
    };
    let ids = block_on(store.list_ids(&all)).unwrap().ids;
    assert_eq!(ids, ["order-1", "order-3"].map(instance));
    assert_eq!(listed(&owner, 100), ["order-1", "order-3"]);
}

/// Ids of all rows, page by page; a page may be empty and not the last.
fn listed(owner: &Owner<'_>, rows_max: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = owner.page(&Filter::default(), after.as_ref(), rows_max);
        ids.extend(page.rows.iter().map(|row| row.instance.to_string()));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
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
            Ok(store) => block_on(store.verify()).map(|report| report.problems),
            Err(error) => Err(error),
        };
        match found {
            Ok(problems) => assert!(!problems.is_empty(), "page {page} of {pages} was zeroed unnoticed"),
            Err(error) => assert_eq!(error.code(), "store-corrupt", "page {page}: {error}"),
        }
    }
}
