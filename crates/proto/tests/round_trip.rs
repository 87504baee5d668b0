//! What is encoded comes back as it was, whatever bytes are in it; what is damaged comes back as an error.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use bytes::Bytes;
use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, MessageNumber, Name, Occurrence};
use taskhub_core::message::{ChildStart, Message, OutboxBody, OutboxItem, Outcome};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;
use taskhub_proto::{
    DecodeError, decode_chunk, decode_info, decode_message, decode_open, decode_outbox_item, encode_chunk, encode_info,
    encode_message, encode_open, encode_outbox_item,
};

const KINDS: usize = 16;

/// Draws values of core's types, edge cases more often than chance would have it.
struct Draw(fastrand::Rng);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.0.bool().then(|| draw(self))
    }

    fn text(&mut self) -> String {
        const LETTERS: [char; 5] = ['a', 'Z', ' ', 'é', '🦀'];
        let length = self.0.usize(1..20);
        (0..length).map(|_| LETTERS[self.0.usize(0..LETTERS.len())]).collect()
    }

    fn payload(&mut self) -> Option<Payload> {
        match self.0.u8(0..4) {
            0 => None,
            1 => Some(Payload::default()),
            2 => Some(Payload::new(&b"\xff\x00\xfe"[..])),
            _ => Some(Payload::text(&self.text())),
        }
    }

    fn number(&mut self) -> i32 {
        *self.0.choice(&[-1, 0, 1, 7, i32::MIN, i32::MAX]).unwrap()
    }

    fn time(&mut self) -> Timestamp {
        match self.0.u8(0..4) {
            0 => Timestamp::MAX,
            1 => Timestamp::default(),
            2 => Timestamp::from_ticks(-1),
            _ => Timestamp::from_ticks(self.0.i64(0..Timestamp::MAX.ticks())),
        }
    }

    fn name(&mut self) -> Name {
        Name::stored(&self.text())
    }

    fn version(&mut self) -> Option<Name> {
        match self.0.u8(0..3) {
            0 => None,
            1 => Some(Name::stored("")),
            _ => Some(self.name()),
        }
    }

    fn instance(&mut self) -> InstanceId {
        InstanceId::new(&format!("i{}", self.text())).unwrap()
    }

    fn execution(&mut self) -> ExecutionId {
        ExecutionId::new(self.0.u128(..).to_be_bytes())
    }

    fn tags(&mut self) -> Tags {
        let mut tags: Tags = (0..self.0.usize(0..3)).map(|_| (self.text(), self.text())).collect();
        if self.0.bool() {
            tags.insert(String::new(), String::new());
        }
        tags
    }

    fn failure(&mut self) -> Failure {
        Failure {
            error_type: self.text(),
            message: self.text(),
            stack_trace: self.maybe(Self::text),
            inner: self.maybe(|draw| Box::new(draw.failure())),
            non_retriable: self.0.bool(),
            properties: (0..self.0.usize(0..3)).map(|_| (self.text(), vec![0xff, 0])).collect(),
        }
    }

    fn parent(&mut self) -> Parent {
        Parent {
            instance: self.instance(),
            execution: self.execution(),
            task_id: self.number(),
            occurrence: Occurrence(self.0.u64(..)),
            name: self.name(),
            version: self.version(),
        }
    }

    fn status(&mut self) -> RuntimeStatus {
        *self.0.choice(&RuntimeStatus::ALL).unwrap()
    }

    fn started(&mut self) -> Box<ExecutionStarted> {
        Box::new(ExecutionStarted {
            name: self.name(),
            version: self.version(),
            input: self.payload(),
            instance: self.instance(),
            execution: self.execution(),
            parent: self.maybe(Self::parent),
            scheduled_start: self.maybe(Self::time),
            tags: self.tags(),
        })
    }

    #[rustfmt::skip]
    fn kind(&mut self, index: usize) -> EventKind {
        match index {
            0 => EventKind::ExecutionStarted(self.started()),
            1 => EventKind::OrchestratorStarted,
            2 => EventKind::TaskScheduled { name: self.name(), version: self.version(), input: self.payload(), tags: self.tags() },
            3 => EventKind::TaskCompleted { task_scheduled_id: self.number(), result: self.payload() },
            4 => EventKind::TaskFailed { task_scheduled_id: self.number(), failure: Box::new(self.failure()) },
            5 => EventKind::TimerCreated { fire_at: self.time() },
            6 => EventKind::TimerFired { timer_id: self.number(), fire_at: self.time() },
            7 => EventKind::SubOrchestrationInstanceCreated {
                instance: self.instance(), name: self.name(), version: self.version(), input: self.payload(), tags: self.tags(),
            },
            8 => EventKind::SubOrchestrationInstanceCompleted { task_scheduled_id: self.number(), result: self.payload() },
            9 => EventKind::SubOrchestrationInstanceFailed { task_scheduled_id: self.number(), failure: Box::new(self.failure()) },
            10 => EventKind::EventSent { instance: self.instance(), name: self.name(), input: self.payload() },
            11 => EventKind::EventRaised { name: self.name(), input: self.payload() },
            12 => EventKind::ExecutionSuspended { reason: self.payload() },
            13 => EventKind::ExecutionResumed { reason: self.payload() },
            14 => EventKind::ExecutionTerminated { reason: self.payload(), recurse: self.0.bool() },
            15 => EventKind::ExecutionCompleted {
                status: self.status(), result: self.payload(), failure: self.maybe(|draw| Box::new(draw.failure())),
            },
            _ => unreachable!("there are {KINDS} kinds"),
        }
    }

    fn event(&mut self, index: usize) -> HistoryEvent {
        HistoryEvent {
            id: self.number(),
            at: self.time(),
            kind: self.kind(index),
        }
    }

    /// One event of every kind.
    fn history(&mut self) -> Vec<HistoryEvent> {
        (0..KINDS).map(|index| self.event(index)).collect()
    }

    fn message(&mut self) -> Message {
        let index = self.0.usize(0..KINDS);
        Message {
            number: MessageNumber(self.0.u64(..)),
            event: self.event(index),
            carried: self.maybe(Self::history).unwrap_or_default(),
        }
    }

    fn outbox_item(&mut self) -> OutboxItem {
        let body = match self.0.u8(0..5) {
            0 => OutboxBody::Start(Box::new(ChildStart {
                name: self.name(),
                version: self.version(),
                input: self.payload(),
                tags: self.tags(),
                parent: self.maybe(Self::parent),
            })),
            1 => OutboxBody::Event {
                name: self.name(),
                input: self.payload(),
            },
            2 => self.child_ended(Outcome::Failed),
            3 => OutboxBody::Terminate {
                reason: self.payload(),
                recurse: self.0.bool(),
                child_of: self.0.bool().then(|| ExecutionId::new(self.0.u128(..).to_be_bytes())),
            },
            _ => {
                let result = self.payload();
                self.child_ended(|_| Outcome::Completed(result))
            }
        };
        OutboxItem {
            target: self.instance(),
            body,
        }
    }

    fn child_ended(&mut self, outcome: impl FnOnce(Box<Failure>) -> Outcome) -> OutboxBody {
        OutboxBody::ChildEnded {
            execution: self.execution(),
            task_id: self.number(),
            occurrence: Occurrence(self.0.u64(..)),
            outcome: outcome(Box::new(self.failure())),
        }
    }

    fn open(&mut self) -> Open {
        let kind = match self.0.u8(0..3) {
            0 => OpenKind::Task {
                name: self.name(),
                version: self.version(),
                input: self.payload(),
                tags: self.tags(),
                deliveries: self.0.u32(..),
            },
            1 => OpenKind::Timer { fire_at: self.time() },
            _ => OpenKind::Child {
                instance: self.instance(),
            },
        };
        Open {
            occurrence: Occurrence(self.0.u64(..)),
            event_id: self.number(),
            ordinal: self.0.u32(..),
            kind,
        }
    }

    fn info(&mut self) -> InstanceInfo {
        InstanceInfo {
            instance: self.instance(),
            execution: self.execution(),
            ordinal: self.0.u32(..),
            name: self.name(),
            version: self.version(),
            status: self.status(),
            created_at: self.time(),
            updated_at: self.time(),
            completed_at: self.maybe(Self::time),
            scheduled_start: self.maybe(Self::time),
            input: self.payload(),
            output: self.payload(),
            custom_status: self.payload(),
            failure: self.maybe(|draw| Box::new(draw.failure())),
            tags: self.tags(),
            parent: self.maybe(|draw| Box::new(draw.parent())),
            stalled: self.maybe(|draw| {
                Box::new(Stall {
                    since: draw.time(),
                    reason: draw.text(),
                    attempts: draw.0.u32(..),
                })
            }),
        }
    }
}

/// A decoder whose result is dropped.
type Decode = fn(&Bytes) -> Result<(), DecodeError>;

/// Every encoded form, with values of one seed, beside its decoder.
fn forms(seed: u64) -> Vec<(Bytes, Decode)> {
    let mut draw = Draw::new(seed);
    vec![
        (encode_chunk(&draw.history()), |body| decode_chunk(body).map(drop)),
        (encode_message(&draw.message()).into(), |body| {
            decode_message(body).map(drop)
        }),
        (encode_outbox_item(&draw.outbox_item()).into(), |body| {
            decode_outbox_item(body).map(drop)
        }),
        (encode_open(&draw.open()).into(), |body| decode_open(body).map(drop)),
        (encode_info(&draw.info()).into(), |body| decode_info(body).map(drop)),
    ]
}

#[test]
fn every_kind_of_event_comes_back_as_it_was() {
    for seed in 0..500 {
        let history = Draw::new(seed).history();
        assert_eq!(decode_chunk(&encode_chunk(&history)).unwrap(), history, "seed {seed}");
    }
    assert_eq!(decode_chunk(&encode_chunk(&[])).unwrap(), []);
}

#[test]
fn every_payload_comes_back_as_it_was() {
    let payloads = [
        None,
        Some(Payload::default()),
        Some(Payload::text("null")),
        Some(Payload::new(&b"\xff"[..])),
    ];
    for payload in payloads {
        let event = HistoryEvent::inbound(
            Timestamp::MAX,
            EventKind::TaskCompleted {
                task_scheduled_id: i32::MIN,
                result: payload,
            },
        );
        let history = [event];
        assert_eq!(decode_chunk(&encode_chunk(&history)).unwrap(), history);
    }
}

#[test]
fn what_the_store_keeps_comes_back_as_it_was() {
    for seed in 0..500 {
        let mut draw = Draw::new(seed);
        let message = draw.message();
        assert_eq!(
            decode_message(&encode_message(&message)).unwrap(),
            message,
            "seed {seed}"
        );
        let item = draw.outbox_item();
        assert_eq!(
            decode_outbox_item(&encode_outbox_item(&item)).unwrap(),
            item,
            "seed {seed}"
        );
        let open = draw.open();
        assert_eq!(decode_open(&encode_open(&open)).unwrap(), open, "seed {seed}");
    }
}

#[test]
fn a_status_record_comes_back_without_its_payloads() {
    for seed in 0..500 {
        let info = Draw::new(seed).info();
        let expected = InstanceInfo {
            input: None,
            output: None,
            custom_status: None,
            ..info.clone()
        };
        assert_eq!(decode_info(&encode_info(&info)).unwrap(), expected, "seed {seed}");
    }
}

#[test]
fn payloads_of_a_chunk_are_not_copied() {
    let event = HistoryEvent::inbound(
        Timestamp::default(),
        EventKind::ExecutionResumed {
            reason: Some(Payload::text("shared")),
        },
    );
    let body = encode_chunk(&[event]);
    let decoded = decode_chunk(&body).unwrap();
    let EventKind::ExecutionResumed { reason: Some(reason) } = &decoded[0].kind else {
        panic!("another event came back: {decoded:?}");
    };
    assert!(body.as_ptr_range().contains(&reason.bytes().as_ptr()));
}

#[test]
fn a_failure_with_too_many_causes_loses_the_deepest_and_stays_readable() {
    let chain = |depth| {
        // As another program may send it, which has other limits.
        (0..depth).fold(Failure::new("E", "0"), |inner, _| Failure {
            inner: Some(Box::new(inner)),
            ..Failure::new("E", "n")
        })
    };
    let event = |failure| {
        HistoryEvent::inbound(
            Timestamp::default(),
            EventKind::TaskFailed {
                task_scheduled_id: 1,
                failure: Box::new(failure),
            },
        )
    };
    let message = |depth| Message {
        number: MessageNumber(1),
        event: event(chain(depth)),
        carried: vec![event(chain(depth))],
    };
    assert_eq!(decode_message(&encode_message(&message(64))).unwrap(), message(64));
    let cut = decode_message(&encode_message(&message(1_000))).unwrap();
    let EventKind::TaskFailed { failure, .. } = &cut.event.kind else {
        panic!("another event came back: {cut:?}");
    };
    let depth = std::iter::successors(Some(failure), |failure| failure.inner.as_ref()).count();
    assert_eq!(depth, 65);
}

#[test]
fn cut_off_bytes_are_an_error() {
    for seed in 0..20 {
        for (body, decode) in forms(seed) {
            decode(&body).unwrap();
            assert!(matches!(decode(&Bytes::new()), Err(DecodeError::Empty)));
            // A cut between two members leaves a message without the later ones, which may be optional.
            // The last member, though, is cut itself.
            assert!(decode(&body.slice(..body.len() - 1)).is_err(), "seed {seed}");
            for length in 1..body.len() {
                let _ = decode(&body.slice(..length));
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        for (body, decode) in forms(seed) {
            let mut damaged = body.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..damaged.len());
                damaged[at] = rng.u8(..);
            }
            let _ = decode(&damaged.into());
            let mut noise = vec![1; rng.usize(1..200)];
            rng.fill(&mut noise[1..]);
            let _ = decode(&noise.into());
        }
    }
}

#[test]
fn another_version_is_named() {
    for (body, decode) in forms(1) {
        let mut other = body.to_vec();
        other[0] = 9;
        let error = decode(&other.into()).unwrap_err();
        assert!(matches!(error, DecodeError::UnknownVersion { found: 9, known: 1 }));
        assert_eq!(
            error.to_string(),
            "the envelope has version 9; this program reads version 1"
        );
    }
}
