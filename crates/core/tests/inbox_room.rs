//! An inbox that is never read stays within its bounds, whatever comes (R86, P8).

#![expect(clippy::unwrap_used, reason = "a broken sample fails its test")]

use taskhub_core::commit::{Change, Commit};
use taskhub_core::control::{self, Started};
use taskhub_core::event::Tags;
use taskhub_core::id::{ExecutionId, InstanceId, InstanceNumber, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxBody, OutboxItem, Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::time::Timestamp;
use taskhub_core::{Ids, limits};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

struct One;

impl Ids for One {
    fn execution(&mut self) -> ExecutionId {
        ExecutionId::new([1; 16])
    }

    fn instance_number(&mut self) -> InstanceNumber {
        InstanceNumber(1)
    }
}

/// An instance that nobody runs.
fn unread() -> InstanceState {
    let request = StartRequest {
        instance: InstanceId::new("flooded").unwrap(),
        name: Name::stored("Work"),
        version: None,
        input: None,
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    };
    let Ok(Started::New(commit)) = control::create(None, &request, &mut One, NOW) else {
        unreachable!("nothing is in the way")
    };
    let Some(Change::Create(creation)) = &commit.change else {
        unreachable!("a new instance is created")
    };
    InstanceState::created(commit.number, creation)
}

/// Applies what is asked until it is refused for want of room.
fn until_full(state: &mut InstanceState, ask: impl Fn(&InstanceState) -> Result<Option<Commit>, Refusal>) {
    loop {
        match ask(state) {
            Ok(commit) => state.apply(&commit.unwrap()),
            Err(Refusal::InboxFull { messages, .. }) => return assert_eq!(messages, state.inbox.len()),
            Err(other) => panic!("{other}"),
        }
        assert!(state.inbox.len() < 2 * limits::INBOX_MESSAGES_MAX, "it grows and grows");
    }
}

#[test]
fn events_suspends_and_resumes_together_stay_within_the_limit() {
    let mut state = unread();
    until_full(&mut state, |state| {
        control::raise_event(state, Name::stored("Go"), None, None, NOW)
    });
    assert_eq!(state.inbox.len(), limits::INBOX_MESSAGES_MAX);
    // A flooded instance can still be set aside, and what is set aside can always go on.
    until_full(&mut state, |state| {
        let suspended = control::suspend(state, None, NOW)?;
        if suspended.is_some() {
            Ok(suspended)
        } else {
            control::resume(state, None, NOW)
        }
    });
    let most = limits::INBOX_MESSAGES_MAX + limits::INBOX_CONTROL_MESSAGES;
    assert!((most..=most + 1).contains(&state.inbox.len()), "{}", state.inbox.len());
    assert!(
        control::resume(&state, None, NOW).unwrap().is_none(),
        "it is not suspended"
    );
    assert!(
        control::terminate(&state, None, false, NOW).is_ok(),
        "ending it needs no room"
    );
}

#[test]
fn unread_events_count_by_their_bytes_too_and_control_passes() {
    const BYTES: usize = 60 << 20;
    // One payload that all of them share.
    let payload = Payload::new(vec![b'0'; BYTES]);
    let raise = |state: &InstanceState, payload: &Payload| {
        control::raise_event(state, Name::stored("Go"), Some(payload.clone()), None, NOW)
    };
    let mut state = unread();
    until_full(&mut state, |state| raise(state, &payload));
    assert_eq!(state.inbox.len(), 1 + limits::INBOX_BYTES_MAX / BYTES);
    let refused = raise(&state, &payload).unwrap_err().to_string();
    assert!(refused.contains(&format!("{} bytes", state.inbox_bytes())), "{refused}");
    assert!(
        refused.contains(&format!("{} bytes may wait", limits::INBOX_BYTES_MAX)),
        "{refused}"
    );
    let sent = OutboxItem {
        target: state.info.instance.clone(),
        body: OutboxBody::Event {
            name: Name::stored("Go"),
            input: Some(payload.clone()),
        },
    };
    assert!(!control::has_room_for(Some(&state), &sent), "events of others wait");

    // What fits beside the rest is taken, to the last byte.
    let left = limits::INBOX_BYTES_MAX - state.inbox_bytes();
    let name = "Go".len();
    assert!(raise(&state, &Payload::new(vec![b'0'; left - name + 1])).is_err());
    let commit = raise(&state, &Payload::new(vec![b'0'; left - name])).unwrap();
    state.apply(&commit.unwrap());

    assert!(
        control::suspend(&state, Some(payload.clone()), NOW).is_err(),
        "a reason may be as large as an event"
    );
    let reason = Payload::text("too much at once");
    let suspended = control::suspend(&state, Some(reason), NOW).unwrap();
    state.apply(&suspended.unwrap());
    let resumed = control::resume(&state, None, NOW).unwrap();
    state.apply(&resumed.unwrap());
    assert!(control::terminate(&state, None, false, NOW).is_ok());
}

#[test]
fn an_instance_that_is_suspended_with_a_full_inbox_can_be_resumed() {
    let mut state = unread();
    state.apply(&control::suspend(&state, None, NOW).unwrap().unwrap());
    until_full(&mut state, |state| {
        control::raise_event(state, Name::stored("Go"), None, None, NOW)
    });
    state.apply(&control::resume(&state, None, NOW).unwrap().unwrap());
    assert!(state.is_ready(NOW));
}
