//! A history for tests of those that show it.
#![expect(clippy::unwrap_used, reason = "the ids are written here")]

use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name};
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

fn at(second: i64) -> Timestamp {
    Timestamp::from_parts(1_519_795_129 + second, 345_237_200)
}

fn event(id: i32, second: i64, kind: EventKind) -> HistoryEvent {
    HistoryEvent {
        id,
        at: at(second),
        kind,
    }
}

fn payload(text: &str) -> Payload {
    Payload::text(text)
}

/// One of nearly everything: answered, failed and open calls, an id used twice, a timer, an event.
pub fn history() -> Vec<HistoryEvent> {
    let started = ExecutionStarted {
        name: Name::stored("E1_HelloSequence"),
        version: None,
        input: None,
        instance: InstanceId::new("i").unwrap(),
        execution: ExecutionId::new([1; 16]),
        parent: None,
        scheduled_start: None,
        tags: Tags::new(),
    };
    let schedule = |name: &str, input: &str| EventKind::TaskScheduled {
        name: Name::stored(name),
        version: None,
        input: Some(payload(input)),
        tags: Tags::new(),
    };
    let done = |result: &str| EventKind::TaskCompleted {
        task_scheduled_id: 0,
        result: Some(payload(result)),
    };
    let child = InstanceId::new("i:0001").unwrap();
    let broken = Failure::new("Boom", "it broke").caused_by(Failure::new("Root", "why"));
    vec![
        event(-1, 0, EventKind::OrchestratorStarted),
        event(-1, 0, EventKind::ExecutionStarted(Box::new(started))),
        event(0, 1, schedule("E1_SayHello", "\"Tokyo\"")),
        event(-1, 2, done("\"Hello Tokyo!\"")),
        event(-1, 2, EventKind::OrchestratorStarted),
        event(0, 3, schedule("Again", "1")),
        event(-1, 4, done("2")),
        event(
            1,
            4,
            EventKind::SubOrchestrationInstanceCreated {
                instance: child,
                name: Name::stored("Child"),
                version: None,
                input: None,
                tags: Tags::new(),
            },
        ),
        event(
            -1,
            5,
            EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id: 1,
                failure: Box::new(broken),
            },
        ),
        event(2, 6, schedule("StillOpen", "3")),
        event(3, 6, EventKind::TimerCreated { fire_at: at(9) }),
        event(
            -1,
            7,
            EventKind::EventRaised {
                name: Name::stored("Go"),
                input: Some(payload("[1]")),
            },
        ),
        event(
            -1,
            8,
            EventKind::ExecutionCompleted {
                status: RuntimeStatus::Completed,
                result: Some(payload("[\"Hello Tokyo!\"]")),
                failure: None,
            },
        ),
    ]
}
