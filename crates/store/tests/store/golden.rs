//! Stores written by earlier versions open, tell what they told then, and go on (P9).
//!
//! `UPDATE=1 cargo test -p taskhub-store --test store golden` makes the store of the current format anew, and
//! the text of what is in it. That must not be done any more once a release has written the format: a
//! store then stays as it is, and the next format gets one of its own.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::scratch::Scratch;
use rusqlite::Connection;
use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::IdempotencyKey;
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::{Filter, Payloads};
use taskhub_core::status::Stall;
use taskhub_core::time::Timestamp;
use taskhub_store::conformance::{NODE, Owner, done, instance, name};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, stop_migration_after};
use taskhub_store::{
    Claim, ExecutionKey, Group, HistoryRange, HubInfo, PartitionKey, Previous, Recovered, Section, Selection, Store,
    partition_of,
};

/// The store of a format.
fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/store/v{format}"))
}

fn open(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, EmbeddedOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[expect(clippy::disallowed_methods, reason = "asked for by the person who runs the tests")]
fn is_update() -> bool {
    std::env::var("UPDATE").is_ok_and(|value| value == "1")
}

#[test]
fn a_store_of_format_1_is_written_anew_and_goes_on() {
    goes_on(1);
}

#[test]
fn a_store_of_format_2_is_read_and_goes_on() {
    if is_update() {
        write(&golden(2));
    }
    goes_on(2);
}

fn goes_on(format: u32) {
    let scratch = Scratch::new();
    std::fs::copy(golden(format).join("store.db"), scratch.path().join("store.db")).unwrap();
    check(scratch.path(), format);
}

/// A store tells what it told then, nothing in it contradicts the rest, and all that is in it can be ended.
fn check(folder: &Path, format: u32) {
    let store = open(folder);
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    let expected = std::fs::read_to_string(golden(format).join("expected.txt")).unwrap();
    let found = describe(&store);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
    end_all(&store);
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
}

/// Wherever the door is shut in the middle, the next opener goes through it, and finds what was there.
#[test]
fn a_migration_that_was_cut_short_at_any_step_begins_again() {
    let copy = || {
        let scratch = Scratch::new();
        std::fs::copy(golden(1).join("store.db"), scratch.path().join("store.db")).unwrap();
        scratch
    };
    let scratch = copy();
    stop_migration_after(u64::MAX);
    drop(open(scratch.path()));
    let steps = u64::MAX - stop_migration_after(u64::MAX);
    assert!(steps > 50, "{steps}");
    for step in 0..steps {
        let scratch = copy();
        // Twice, since what one attempt leaves is in the way of the next.
        for step in [step, step / 2] {
            stop_migration_after(step);
            let opened = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default());
            stop_migration_after(u64::MAX);
            let is_done = opened.is_ok();
            assert!(!is_done || step + 1 >= steps / 2, "step {step} of {steps}");
        }
        check(scratch.path(), 1);
        let files = std::fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(files.into_iter().all(|name| name != "store.db-new"));
    }
}

/// What was damaged before is damaged afterwards, and nothing else is.
#[test]
fn a_migration_carries_damage_over() {
    let cases = [
        (
            "history",
            "UPDATE history SET body = zeroblob(9) WHERE first = 0",
            "a history chunk",
        ),
        (
            "pending",
            "UPDATE pending SET body = zeroblob(9)",
            "a message or open item",
        ),
        ("outbox", "UPDATE outbox SET sum = sum + 1", "an outbox item"),
        ("payload", "UPDATE payload SET body = zeroblob(9)", "a payload"),
    ];
    for (table, damage, expected) in cases {
        let scratch = Scratch::new();
        std::fs::copy(golden(1).join("store.db"), scratch.path().join("store.db")).unwrap();
        let file = Connection::open(scratch.path().join("store.db")).unwrap();
        let rows = file.execute(damage, []).unwrap();
        assert!(rows > 0, "{table}");
        drop(file);
        let problems = done(open(scratch.path()).verify()).problems;
        assert!(!problems.is_empty(), "{table}");
        assert!(
            problems.iter().any(|line| line.contains(expected)),
            "{table}: {problems:?}"
        );
    }
}

/// Makes the store and the text anew.
fn write(folder: &Path) {
    let scratch = Scratch::new();
    let store = open(scratch.path());
    fill(&store);
    drop(store);
    let file = scratch.path().join("store.db");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(&file, folder.join("store.db")).unwrap();
    // After the copy: it claims partitions, which is a change.
    std::fs::write(folder.join("expected.txt"), describe(&open(scratch.path()))).unwrap();
}

/// Two hubs with something of everything.
fn fill(store: &dyn Store) {
    let mut owner = Owner::new(store, "Golden", 2);
    ended(&mut owner);
    owner.check();
    waiting(&mut owner);
    owner.check();
    generations(&mut owner);
    owner.check();
    done(store.release(&[owner.lease(0).clone()]));
    let mut other = Owner::new(store, "Other", 1);
    other.start(&instance("golden"));
    other.check();
}

fn call(input: Option<Payload>) -> ActionKind {
    ActionKind::ScheduleTask {
        name: name("SayHello"),
        version: Some(name("1.0")),
        input,
        tags: Tags::from([("call".to_owned(), "yes".to_owned())]),
    }
}

fn end(completion: Completion) -> Vec<ActionKind> {
    vec![ActionKind::CompleteOrchestration(completion)]
}

fn ended(owner: &mut Owner<'_>) {
    let id = instance("completed");
    owner.start(&id);
    for output in ["\"Hello Tokyo!\"", "null", ""] {
        owner.turn(&id, vec![call(Some(Payload::text("\"Tokyo\"")))]);
        owner.wait(1_500);
        owner.answer_task(&id, Outcome::Completed(Some(Payload::text(output))));
        owner.flush();
    }
    owner.complete(&id, Some(Payload::text("{\"b\": 1, \"a\": 12345678901234567890}")));
    let id = instance("failed");
    owner.start(&id);
    let mut failure = Failure::new("TimeoutError", "too late").non_retriable();
    failure.stack_trace = Some("at line 1".to_owned());
    failure.properties.insert("code".to_owned(), vec![0, 255]);
    owner.turn(&id, vec![call(None)]);
    owner.answer_task(&id, Outcome::Failed(Box::new(failure.clone())));
    owner.flush();
    owner.turn(
        &id,
        end(Completion::Failed(Box::new(
            Failure::new("Error", "no").caused_by(failure),
        ))),
    );
    let id = instance("terminated");
    owner.start_with(&StartRequest {
        input: Some(Payload::new(vec![0xff, 0x00, 0xfe])),
        ..Owner::request(&id)
    });
    let reason = Payload::text("no longer needed");
    owner.with(&id, |state, now| {
        control::terminate(state, Some(&reason), false, now).ok()
    });
}

fn waiting(owner: &mut Owner<'_>) {
    let id = instance("planned é");
    owner.start_with(&StartRequest {
        version: Some(name("2.1")),
        tags: Tags::from([("team".to_owned(), "blue".to_owned())]),
        scheduled_start: Some(owner.now.plus(Duration::from_hours(1))),
        key: IdempotencyKey::new("start once").ok(),
        ..Owner::request(&id)
    });
    let id = instance("running");
    owner.start(&id);
    let child = ActionKind::CreateSubOrchestration {
        instance: Some(instance("child")),
        name: name("Child"),
        version: None,
        input: Some(Payload::text("7")),
        tags: Tags::new(),
    };
    let send = ActionKind::SendEvent {
        instance: instance("nobody"),
        name: name("Hi"),
        input: None,
    };
    let fire_at = owner.now.plus(Duration::from_mins(5));
    owner.turn(
        &id,
        vec![call(None), call(None), ActionKind::CreateTimer { fire_at }, child, send],
    );
    owner.deliver();
    owner.flush();
    let task = owner.open_task(&id);
    owner.with(&id, |state, now| control::redeliver_task(state, task?, 2, now));
    for key in ["first", "second"] {
        let key = IdempotencyKey::new(key).ok();
        owner.with(&id, |state, now| {
            control::raise_event(state, name("Go"), None, key.as_ref(), now).unwrap_or(None)
        });
    }
    let id = instance("suspended");
    owner.start(&id);
    let custom = Some(Payload::text("{\"step\": 1}"));
    owner.answer(
        &id,
        vec![Action {
            id: 0,
            kind: call(None),
        }],
        custom,
    );
    owner.with(&id, |state, now| {
        control::suspend(state, Some(Payload::text("wait")), now).unwrap_or(None)
    });
    let id = instance("stalled");
    owner.start(&id);
    let since = owner.now;
    let reason = "no worker knows `Hello`".to_owned();
    let stall = Stall {
        since,
        reason,
        attempts: 3,
    };
    owner.with(&id, |state, now| control::stall(state, Some(stall), now));
}

fn generations(owner: &mut Owner<'_>) {
    let id = instance("generations");
    owner.start(&id);
    for generation in 0..3 {
        let kind = EventKind::EventRaised {
            name: name("Late"),
            input: None,
        };
        let carried = vec![HistoryEvent::inbound(owner.now, kind)];
        let input = Some(Payload::text(&generation.to_string()));
        owner.turn(
            &id,
            end(Completion::ContinuedAsNew {
                input,
                version: Some(name("3.0")),
                carried,
            }),
        );
        owner.flush();
    }
    // Large enough to have a row of its own.
    let id = instance("large");
    owner.start_with(&StartRequest {
        input: Some(Payload::new(vec![b'x'; 9_000])),
        ..Owner::request(&id)
    });
    // Long enough to be stored once: of an execution that has ended, of one that runs, and of one that has not begun.
    for (id, length) in [("long", 200), ("longer", 9_000)] {
        let id = instance(id);
        let input = |byte| Some(Payload::new(vec![byte; length]));
        owner.start_with(&StartRequest {
            input: input(b'a'),
            ..Owner::request(&id)
        });
        owner.turn(&id, vec![call(None)]);
        owner.flush();
        let next = Completion::ContinuedAsNew {
            input: input(b'b'),
            version: None,
            carried: Vec::new(),
        };
        owner.answer_task(&id, Outcome::Completed(None));
        owner.turn(&id, end(next));
        owner.flush();
        if length == 200 {
            owner.turn(&id, vec![call(None)]);
        }
    }
}

/// Everything the store tells, one thing a line.
fn describe(store: &dyn Store) -> String {
    let mut text = String::new();
    for hub in done(store.list_hubs()) {
        let HubInfo {
            name,
            partitions,
            created_at,
        } = &hub;
        line(
            &mut text,
            format_args!("hub {name} partitions={partitions} created={created_at}"),
        );
        let counts = done(store.counts(name));
        line(&mut text, format_args!("Counts({counts:?})"));
        for (partition, state) in states(store, &hub) {
            describe_instance(&mut text, store, &partition, &state);
        }
        describe_recovery(&mut text, store, &hub);
    }
    text
}

/// A line of plain text, however large and odd its payloads are.
fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    const CHARS_MAX: usize = 1_500;
    let content = content.to_string();
    for character in content.chars().take(CHARS_MAX) {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    if content.chars().count() > CHARS_MAX {
        let (bytes, sum) = (content.len(), xxhash_rust::xxh3::xxh3_64(content.as_bytes()));
        write!(text, "… {bytes} bytes, {sum:016x}").unwrap_or_else(|error| panic!("{error}"));
    }
    text.push('\n');
}

fn states(store: &dyn Store, hub: &HubInfo) -> Vec<(PartitionKey, InstanceState)> {
    let all = Selection {
        hub: hub.name.clone(),
        filter: Filter::default(),
        after: None,
        rows_max: 1000,
    };
    let page = done(store.list(&all, Payloads::ALL)).page;
    let load = |row: taskhub_core::status::InstanceInfo| {
        let index = partition_of(&row.instance, hub.partitions);
        let hub = hub.name.clone();
        let partition = PartitionKey { hub, index };
        let state = done(store.load(&partition, std::slice::from_ref(&row.instance)))
            .pop()
            .flatten();
        let Some(state) = state else {
            panic!("`{}` is listed and not there", row.instance)
        };
        assert_eq!(state.info, row, "a listing and a load tell the same");
        (partition, state)
    };
    page.rows.into_iter().map(load).collect()
}

fn describe_instance(text: &mut String, store: &dyn Store, partition: &PartitionKey, state: &InstanceState) {
    let info = &state.info;
    line(text, format_args!("instance {info:?}"));
    let (number, index) = (state.number, partition.index);
    let (events, bytes) = (state.history_events, state.history_bytes);
    let (message, occurrence) = (state.next_message, state.next_occurrence);
    line(
        text,
        format_args!("  number={number} partition={index} history={events}/{bytes} next={message}/{occurrence}"),
    );
    for message in state.inbox.values() {
        line(text, format_args!("  inbox {message:?}"));
    }
    for open in state.open.values() {
        line(text, format_args!("  open {open:?}"));
    }
    for key in state.keys.iter() {
        line(text, format_args!("  key {key:?}"));
    }
    for ordinal in 0..=info.ordinal {
        let key = ExecutionKey {
            partition: partition.clone(),
            number,
            ordinal,
        };
        for chunk in done(store.history(&key, HistoryRange::ALL)) {
            let events = chunk.decode().unwrap_or_else(|error| panic!("{error}"));
            for (position, event) in (chunk.first..).zip(events) {
                line(text, format_args!("  event {ordinal}/{position} {event:?}"));
            }
        }
    }
}

/// A claim is needed for that, and shows whether the last stop was clean.
fn describe_recovery(text: &mut String, store: &dyn Store, hub: &HubInfo) {
    for index in 0..hub.partitions {
        let hub = hub.name.clone();
        let claim = Claim::new(NODE, &[PartitionKey { hub, index }], Timestamp::from_micros(1));
        let leases = done(store.claim(&claim)).leases;
        let is_clean = leases[0].previous == Previous::Nobody;
        line(text, format_args!("partition {index} clean={is_clean}"));
        for item in done(store.recover(&leases[0])) {
            match item {
                // Its name stands with its status, and its length is that of the format.
                Recovered::Inbox { instance, .. } => line(text, format_args!("  Inbox {{ instance: {instance:?} }}")),
                item => line(text, format_args!("  {item:?}")),
            }
        }
    }
}

/// Ends all that is live, as a later version would go on with it.
fn end_all(store: &dyn Store) {
    for hub in done(store.list_hubs()) {
        for (partition, state) in states(store, &hub).into_iter().filter(|(_, state)| state.is_live()) {
            let claim = Claim::new(NODE, &[partition], state.info.updated_at);
            let lease = done(store.claim(&claim)).leases.remove(0);
            let Some(Recovered::Counters { next_seq, .. }) = done(store.recover(&lease)).into_iter().next() else {
                panic!("counters come first")
            };
            let commit = control::terminate(&state, None, false, state.info.updated_at);
            let section = Section {
                partition: lease.partition,
                epoch: lease.epoch,
                first_seq: next_seq,
                commits: vec![commit.unwrap_or_else(|refusal| panic!("{refusal}"))],
            };
            done(store.commit(Arc::new(Group {
                sections: vec![section],
            })));
        }
        assert!(states(store, &hub).iter().all(|(_, state)| !state.is_live()));
    }
}
