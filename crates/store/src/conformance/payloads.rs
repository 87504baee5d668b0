//! Bytes and texts come back as they went in (A14).

use std::collections::BTreeMap;
use std::time::Duration;

use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::control;
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::refusal::Refusal;

use super::{Owner, instance, name};
use crate::Store;

fn odd() -> Vec<Option<Payload>> {
    vec![
        None,
        Some(Payload::default()),
        Some(Payload::text("null")),
        Some(Payload::text("\0")),
        Some(Payload::new(vec![0xff, 0x00, 0xfe, 0x80])),
        Some(Payload::text("{\"b\": 1, \"a\": 12345678901234567890}")),
        Some(Payload::text("'; DROP TABLE instance; --")),
        Some(Payload::text("𝄞 Grüße\r\n")),
    ]
}

/// Absent, empty, null, NUL and bytes that are no text, wherever a payload can be (R29).
pub fn absent_empty_and_odd_payloads_stay_apart(store: &dyn Store) {
    let mut owner = Owner::new(store, "Payloads", 2);
    for (number, payload) in (0..).zip(odd()) {
        let id = instance(&format!("order-{number}"));
        owner.start_with(&StartRequest {
            input: payload.clone(),
            ..Owner::request(&id)
        });
        owner.check();
        let activity = ActionKind::ScheduleTask {
            name: name("Echo"),
            version: None,
            input: payload.clone(),
            tags: Tags::from([(String::new(), "\0".to_owned())]),
        };
        let event = ActionKind::SendEvent {
            instance: instance("order-0"),
            name: name("Hi"),
            input: payload.clone(),
        };
        let actions = [activity, event].into_iter().enumerate();
        let actions = actions
            .map(|(id, kind)| Action {
                id: i32::try_from(id).unwrap_or(0),
                kind,
            })
            .collect();
        owner.answer(&id, actions, payload.clone());
        owner.check();
        owner.answer_task(&id, Outcome::Completed(payload.clone()));
        owner.with(&id, |state, now| {
            control::raise_event(state, name("Raise"), payload.clone(), None, now).unwrap_or(None)
        });
        owner.check();
        while number > 0 && owner.deliver() {}
        owner.complete(&id, payload);
        owner.check();
        if number == 0 {
            owner.start(&id);
        }
    }
}

/// Version, tags, planned start, parent, failure with properties.
pub fn every_member_of_a_status_record_comes_back(store: &dyn Store) {
    let mut owner = Owner::new(store, "Records", 2);
    let id = instance("order-1");
    owner.start_with(&StartRequest {
        version: Some(name("1.2.3")),
        tags: Tags::from([("a".to_owned(), "1".to_owned()), ("ü".to_owned(), String::new())]),
        scheduled_start: Some(owner.now.plus(Duration::from_nanos(1_234_567_800))),
        ..Owner::request(&id)
    });
    owner.check();
    let mut failure = Failure::new("TimeoutError", "too late").non_retriable();
    failure.stack_trace = Some("at line 1".to_owned());
    failure.properties = BTreeMap::from([("code".to_owned(), vec![0, 255])]);
    let failure = Failure::new("OuterError", "").caused_by(failure);
    let child = ActionKind::CreateSubOrchestration {
        instance: None,
        name: name("Child"),
        version: None,
        input: None,
        tags: Tags::new(),
    };
    owner.turn(
        &id,
        vec![
            child,
            ActionKind::CompleteOrchestration(Completion::Failed(Box::new(failure))),
        ],
    );
    owner.check();
    while owner.deliver() {
        owner.check();
    }
    let parents = owner
        .ids()
        .into_iter()
        .filter(|id| owner.state(id).is_some_and(|state| state.info.parent.is_some()));
    assert_eq!(parents.count(), 1, "the child knows its parent");
}

/// Large payloads in every place, and many turns beside them.
pub fn large_payloads_come_back_whole(store: &dyn Store) {
    let mut owner = Owner::new(store, "Large", 1);
    let id = instance("order-1");
    let large = |fill: u8| {
        Some(Payload::new(
            (0..3_000_000_u32)
                .map(|at| fill ^ at.to_le_bytes()[1])
                .collect::<Vec<u8>>(),
        ))
    };
    owner.start_with(&StartRequest {
        input: large(1),
        ..Owner::request(&id)
    });
    owner.check();
    let custom = Some(Payload::text(&"状".repeat(limits::CUSTOM_STATUS_UNITS_MAX)));
    let call = ActionKind::ScheduleTask {
        name: name("Echo"),
        version: None,
        input: large(2),
        tags: Tags::new(),
    };
    owner.answer(&id, vec![Action { id: 0, kind: call }], custom);
    owner.check();
    owner.answer_task(&id, Outcome::Completed(large(3)));
    owner.check();
    owner.turn(
        &id,
        vec![ActionKind::CompleteOrchestration(Completion::ContinuedAsNew {
            input: large(4),
            version: None,
            carried: Vec::new(),
        })],
    );
    owner.check();
    owner.complete(&id, large(5));
    owner.check();
    owner.with(&id, |state, _| control::purge(state).ok());
    owner.check();
}

/// Idempotency keys of a start and of events (R83, R139).
pub fn keys_come_back_oldest_first_and_expire(store: &dyn Store) {
    let mut owner = Owner::new(store, "Keys", 1);
    let id = instance("order-1");
    let key = |text: &str| IdempotencyKey::new(text).ok();
    owner.start_with(&StartRequest {
        key: key("start"),
        ..Owner::request(&id)
    });
    owner.check();
    let raise = |owner: &mut Owner<'_>, text: &str| {
        let key = key(text);
        owner.with(&id, |state, now| {
            control::raise_event(state, name("Go"), None, key.as_ref(), now).unwrap_or(None)
        })
    };
    // Not in the order of the alphabet, and two of them at the same moment.
    for text in ["z", "a", "m", "it's"] {
        assert!(raise(&mut owner, text));
        assert!(!raise(&mut owner, text), "a repetition is a no-op");
    }
    // What a key was used for comes back too: a start's keys are not those of events.
    assert!(raise(&mut owner, "start"));
    owner.check();
    let same = key("start");
    let again = |state: &InstanceState, payload: &str, now| {
        control::raise_event(state, name("Go"), Some(Payload::text(payload)), same.as_ref(), now)
    };
    let found = owner.state(&id).map(|state| again(state, "1", owner.now));
    assert!(
        matches!(found, Some(Err(Refusal::IdempotencyConflict { .. }))),
        "{found:?}"
    );
    owner.now = owner.now.plus(Duration::from_hours(23));
    raise(&mut owner, "b");
    owner.check();
    owner.now = owner.now.plus(Duration::from_hours(2));
    raise(&mut owner, "c");
    owner.check();
    assert_eq!(
        owner.state(&id).map(|state| state.keys.len()),
        Some(2),
        "those of the first day are forgotten"
    );
    // At the very moment at which the time of the last one is over.
    owner.now = owner.now.plus(Duration::from_hours(24));
    raise(&mut owner, "at the end");
    owner.check();
    owner.now = owner.now.plus(Duration::from_hours(48));
    raise(&mut owner, "d");
    raise(&mut owner, "e");
    owner.check();
    // The same within one group.
    for text in ["f", "g", "h"] {
        raise(&mut owner, text);
        owner.now = owner.now.plus(Duration::from_hours(13));
    }
    owner.check();
    assert_eq!(owner.state(&id).map(|state| state.keys.len()), Some(2));
}

/// Ids and names are compared byte for byte and mean nothing to the store (R1).
pub fn ids_are_opaque_text(store: &dyn Store) {
    let mut owner = Owner::new(store, "Ids", 3);
    let longest = "é".repeat(limits::INSTANCE_ID_CHARS_MAX);
    let texts = [
        "a", "A", " a", "a ", "%", "_", "'", "\"", "\\", "a/b#c?d", "...", "null", "0", "ｅ", "é", "e\u{301}", &longest,
    ];
    for text in texts {
        owner.wait(1);
        let request = StartRequest {
            name: Name::stored(text),
            ..Owner::request(&instance(text))
        };
        owner.start_with(&request);
    }
    owner.check();
    for text in texts {
        owner.check_listing(&Filter {
            name: Some(text.to_owned()),
            ..Filter::default()
        });
        owner.check_listing(&Filter {
            id_prefix: Some(text.to_owned()),
            ..Filter::default()
        });
    }
    let ids: Vec<InstanceId> = owner.ids();
    assert_eq!(ids.len(), texts.len());
}
