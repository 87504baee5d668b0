//! The bytes are the protocol's: computed by hand from its field numbers, and read from what others write.
//!
//! In the comments, `StringValue` is google.protobuf.StringValue, whose value is field 1 (`0a`).

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use bytes::Bytes;
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name, Occurrence};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_proto::{DecodeError, decode_chunk, encode_chunk};

/// eventId −1 and timestamp { seconds: 1 }, as every inbound event below has them.
const INBOUND: &str = "08 ff ff ff ff ff ff ff ff ff 01  12 02 08 01";

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

/// The bytes as member `key` of a message; short enough for a length of one byte.
fn member(key: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80);
    [&[key, length], content].concat()
}

fn inbound(kind: EventKind) -> HistoryEvent {
    HistoryEvent::inbound(Timestamp::from_micros(1_000_000), kind)
}

/// A chunk of one event: version byte, then HistoryChunk.events = 1.
fn chunk(event: &[u8]) -> Bytes {
    let mut body = vec![1, 0x0a];
    let mut length = event.len();
    while length >= 0x80 {
        body.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    body.push(u8::try_from(length).unwrap());
    body.extend_from_slice(event);
    body.into()
}

#[track_caller]
fn check(event: &HistoryEvent, expected: &[u8]) {
    let expected = chunk(expected);
    assert_eq!(
        format!("{:02x?}", &*encode_chunk(std::slice::from_ref(event))),
        format!("{:02x?}", &*expected)
    );
    assert_eq!(decode_chunk(&expected).unwrap(), std::slice::from_ref(event));
}

#[track_caller]
fn check_inbound(kind: EventKind, expected: &str) {
    check(&inbound(kind), &bytes(&format!("{INBOUND} {expected}")));
}

#[test]
fn absent_empty_and_given_payloads_are_string_values() {
    let completed = |result| EventKind::TaskCompleted {
        task_scheduled_id: 3,
        result,
    };
    // taskCompleted = 7 (3a) { taskScheduledId = 1 (08), result = 2 (12): StringValue }
    check_inbound(completed(None), "3a 02  08 03");
    check_inbound(completed(Some(Payload::default())), "3a 04  08 03  12 00");
    check_inbound(completed(Some(Payload::text("ok"))), "3a 08  08 03  12 04 0a 02 6f 6b");
    check_inbound(
        completed(Some(Payload::new(&b"\xff"[..]))),
        "3a 07  08 03  12 03 0a 01 ff",
    );
}

#[test]
fn an_action_event_carries_its_id_and_tags() {
    let event = HistoryEvent {
        id: 0,
        at: Timestamp::from_parts(1, 500),
        kind: EventKind::TaskScheduled {
            name: Name::stored("Hi"),
            version: Some(Name::stored("1")),
            input: None,
            tags: Tags::from([("a".to_owned(), "b".to_owned())]),
        },
    };
    // The id 0 is the default and is not written. timestamp = 2 (12) { seconds = 1, nanos = 2 (10): 500 }
    // taskScheduled = 6 (32) { name = 1 (0a), version = 2 (12): StringValue, tags = 5 (2a): entry { 1, 2 } }
    check(
        &event,
        &bytes("12 05 08 01 10 f4 03  32 11  0a 02 48 69  12 03 0a 01 31  2a 06 0a 01 61 12 01 62"),
    );
}

#[test]
fn events_have_the_numbers_of_the_protocol() {
    let fire_at = Timestamp::from_parts(2, 0);
    check_inbound(EventKind::OrchestratorStarted, "72 00");
    check_inbound(EventKind::TimerCreated { fire_at }, "62 04  0a 02 08 02");
    check_inbound(
        EventKind::TimerFired { timer_id: 5, fire_at },
        "6a 06  0a 02 08 02  10 05",
    );
    check_inbound(
        EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id: 0,
            result: None,
        },
        "52 00",
    );
    let (name, instance) = (Name::stored("n"), InstanceId::new("i").unwrap());
    check_inbound(
        EventKind::SubOrchestrationInstanceCreated {
            instance: instance.clone(),
            name: name.clone(),
            version: None,
            input: Some(Payload::text("x")),
            tags: Tags::new(),
        },
        "4a 0b  0a 01 69  12 01 6e  22 03 0a 01 78",
    );
    check_inbound(
        EventKind::EventSent {
            instance,
            name: name.clone(),
            input: None,
        },
        "82 01 06  0a 01 69  12 01 6e",
    );
    check_inbound(EventKind::EventRaised { name, input: None }, "8a 01 03  0a 01 6e");
    check_inbound(EventKind::ExecutionSuspended { reason: None }, "aa 01 00");
    check_inbound(EventKind::ExecutionResumed { reason: None }, "b2 01 00");
    check_inbound(
        EventKind::ExecutionTerminated {
            reason: Some(Payload::default()),
            recurse: true,
        },
        "2a 04  0a 00  10 01",
    );
    check_inbound(
        EventKind::ExecutionCompleted {
            status: taskhub_core::status::RuntimeStatus::Terminated,
            result: None,
            failure: None,
        },
        "22 02  08 05",
    );
}

#[test]
fn a_failure_is_the_protocols_with_its_properties_left_encoded() {
    let mut failure = Failure::new("T", "m").non_retriable().caused_by(Failure::new("I", ""));
    failure.stack_trace = Some("s".to_owned());
    // google.protobuf.Value { bool_value = 4: true }
    failure.properties.insert("k".to_owned(), bytes("20 01"));
    let failure = Box::new(failure);
    let details = "0a 01 54  12 01 6d  1a 03 0a 01 73  22 03 0a 01 49  28 01  32 07 0a 01 6b 12 02 20 01";
    check_inbound(
        EventKind::TaskFailed {
            task_scheduled_id: 1,
            failure: failure.clone(),
        },
        &format!("42 1f  08 01  12 1b {details}"),
    );
    check_inbound(
        EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id: 1,
            failure,
        },
        &format!("5a 1f  08 01  12 1b {details}"),
    );
}

#[test]
fn a_start_names_both_ids_and_its_parents_occurrence_is_ours() {
    let execution = ExecutionId::new([0xab; 16]);
    let started = inbound(EventKind::ExecutionStarted(Box::new(ExecutionStarted {
        name: Name::stored("n"),
        version: None,
        input: None,
        instance: InstanceId::new("i").unwrap(),
        execution,
        parent: Some(Parent {
            instance: InstanceId::new("p").unwrap(),
            execution,
            task_id: 0,
            occurrence: Occurrence(1),
            name: Name::stored("m"),
            version: None,
        }),
        scheduled_start: Some(Timestamp::from_parts(2, 0)),
        tags: Tags::new(),
    })));
    let ids = |instance: &[u8]| {
        let execution_id = member(0x0a, "ab".repeat(16).as_bytes());
        [member(0x0a, instance), member(0x12, &execution_id)].concat()
    };
    // name = 2 (12): StringValue, orchestrationInstance = 4 (22), ours = 1000 (c0 3e)
    let parent = [bytes("12 03 0a 01 6d"), member(0x22, &ids(b"p")), bytes("c0 3e 01")].concat();
    // name = 1 (0a), orchestrationInstance = 4 (22), parentInstance = 5 (2a), scheduledStartTimestamp = 6 (32)
    let content = [
        member(0x0a, b"n"),
        member(0x22, &ids(b"i")),
        member(0x2a, &parent),
        bytes("32 02 08 02"),
    ]
    .concat();
    // executionStarted = 3 (1a)
    let expected = [bytes(INBOUND), member(0x1a, &content)].concat();
    check(&started, &expected);
}

#[test]
fn members_nobody_knows_are_skipped() {
    // taskCompleted with a field 99 (9a 06), the event with a field 200 (c0 0c), the chunk with a field 15 (7a)
    let event = bytes(&format!("{INBOUND} 3a 07  08 03  9a 06 02 00 00  c0 0c 05"));
    let body = Bytes::from([&*chunk(&event), &bytes("7a 01 00")].concat());
    let expected = inbound(EventKind::TaskCompleted {
        task_scheduled_id: 3,
        result: None,
    });
    assert_eq!(decode_chunk(&body).unwrap(), [expected]);
}

#[test]
fn trace_contexts_are_skipped() {
    // taskScheduled { name = 1, parentTraceContext = 4 (22) { traceParent = 1 } }
    let event = bytes(&format!("{INBOUND} 32 08  0a 01 6e  22 03 0a 01 74"));
    let decoded = decode_chunk(&chunk(&event)).unwrap();
    assert_eq!(decoded[0].kind.name(), "TaskScheduled");
}

#[test]
fn kinds_core_does_not_have_are_named() {
    let kinds = [
        ("7a 00", "OrchestratorCompleted"),
        ("92 01 00", "GenericEvent"),
        ("9a 01 00", "HistoryState"),
        ("a2 01 00", "ContinueAsNew"),
        ("ba 01 00", "EntityOperationSignaled"),
        ("c2 01 00", "EntityOperationCalled"),
        ("ca 01 00", "EntityOperationCompleted"),
        ("d2 01 00", "EntityOperationFailed"),
        ("da 01 00", "EntityLockRequested"),
        ("e2 01 00", "EntityLockGranted"),
        ("ea 01 00", "EntityUnlockSent"),
        ("f2 01 00", "ExecutionRewound"),
    ];
    for (hex, name) in kinds {
        let event = bytes(&format!("{INBOUND} {hex}"));
        let error = decode_chunk(&chunk(&event)).unwrap_err();
        assert!(
            matches!(error, DecodeError::UnsupportedEvent { kind } if kind == name),
            "{name}: {error}"
        );
    }
}

#[test]
fn what_must_be_there_is_missed() {
    let missing = [
        ("72 00", "HistoryEvent", "timestamp"),
        ("12 00", "HistoryEvent", "eventType"),
        ("12 00 fa 01 00", "HistoryEvent", "eventType"),
        ("12 00 42 00", "TaskFailedEvent", "failureDetails"),
        ("12 00 62 00", "TimerCreatedEvent", "fireAt"),
        ("12 00 1a 00", "ExecutionStartedEvent", "orchestrationInstance"),
    ];
    for (hex, in_message, of) in missing {
        let error = decode_chunk(&chunk(&bytes(hex))).unwrap_err();
        assert!(
            matches!(error, DecodeError::Missing { message, field } if (message, field) == (in_message, of)),
            "{hex}: {error}"
        );
    }
}

#[test]
fn values_core_does_not_take_are_refused() {
    let decode = |hex| decode_chunk(&chunk(&bytes(hex))).unwrap_err();
    let status = decode("12 00 22 02 08 08");
    assert!(matches!(status, DecodeError::RuntimeStatus { number: 8 }));
    let instance = decode("12 00 82 01 03 0a 01 40");
    assert!(matches!(instance, DecodeError::InstanceId { .. }));
    let version = decode("12 00 32 05 12 03 0a 01 ff");
    assert!(matches!(version, DecodeError::NotText { field: "version", .. }));
    let execution = decode("12 00 1a 07 22 05 12 03 0a 01 61");
    assert!(matches!(execution, DecodeError::ExecutionId { given } if given == "a"));
    let name = decode("12 00 32 03 0a 01 ff");
    assert!(matches!(
        name,
        DecodeError::Malformed {
            message: "HistoryChunk",
            ..
        }
    ));
}
