//! Histories in full: every event with all its members (H57), as tools read them and as one server tells the next program.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use taskhub_core::event::{self, EventKind, HistoryEvent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name, Occurrence};
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::failure::FailureDetails;
use crate::payload::{Text, payload_of, stored_text};
use crate::{Unreadable, execution, status, time};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// What happened.
    #[serde(flatten)]
    pub kind: Kind<'a>,
    /// Its number; -1 if it has none.
    #[serde(rename = "EventId")]
    pub id: i32,
    /// Always false, as in the public protocol.
    #[serde(rename = "IsPlayed", default)]
    pub is_played: bool,
    /// When it happened.
    #[serde(rename = "Timestamp", with = "time")]
    pub at: Timestamp,
}

/// What happened. The names are those of [`EventKind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "EventType")]
#[expect(missing_docs, reason = "the variants are those of `EventKind`")]
pub enum Kind<'a> {
    ExecutionStarted(Box<Started<'a>>),
    OrchestratorStarted,
    /// The end of a turn, which is not stored.
    OrchestratorCompleted,
    TaskScheduled(Scheduled<'a>),
    TaskCompleted(Completed<'a>),
    TaskFailed(Failed<'a>),
    #[serde(rename_all = "PascalCase")]
    TimerCreated {
        #[serde(with = "time")]
        fire_at: Timestamp,
    },
    #[serde(rename_all = "PascalCase")]
    TimerFired {
        timer_id: i32,
        #[serde(with = "time")]
        fire_at: Timestamp,
    },
    SubOrchestrationInstanceCreated(Scheduled<'a>),
    SubOrchestrationInstanceCompleted(Completed<'a>),
    SubOrchestrationInstanceFailed(Failed<'a>),
    EventSent(External<'a>),
    EventRaised(External<'a>),
    ExecutionSuspended(Because<'a>),
    ExecutionResumed(Because<'a>),
    #[serde(rename_all = "PascalCase")]
    ExecutionTerminated {
        /// The reason.
        input: Text<'a>,
        recurse: bool,
    },
    #[serde(rename_all = "PascalCase")]
    ExecutionCompleted {
        #[serde(with = "status")]
        orchestration_status: RuntimeStatus,
        result: Text<'a>,
        failure_details: Option<FailureDetails<'a>>,
    },
}

/// The start of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Started<'a> {
    /// The execution itself.
    pub orchestration_instance: Execution<'a>,
    /// Who started it, if it is a child.
    pub parent_instance: Option<ParentInstance<'a>>,
    /// Name of the orchestrator.
    pub name: Cow<'a, str>,
    /// Its version.
    pub version: Text<'a>,
    /// Its input.
    pub input: Text<'a>,
    /// Its labels; absent if it has none.
    pub tags: Option<Cow<'a, Tags>>,
    /// When it was to start, if not at once.
    #[serde(with = "time::option", default)]
    pub scheduled_start_time: Option<Timestamp>,
}

/// A call of an activity or of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Scheduled<'a> {
    /// What is called.
    pub name: Cow<'a, str>,
    /// Its version.
    pub version: Text<'a>,
    /// The child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Text<'a>,
    /// Its input.
    pub input: Text<'a>,
    /// Its labels; absent if it has none.
    pub tags: Option<Cow<'a, Tags>>,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Completed<'a> {
    /// Number of the event that called.
    pub task_scheduled_id: i32,
    /// The result.
    pub result: Text<'a>,
}

/// The failure of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failed<'a> {
    /// Number of the event that called.
    pub task_scheduled_id: i32,
    /// The message alone.
    pub reason: Cow<'a, str>,
    /// The failure and its causes as one text.
    pub details: Cow<'a, str>,
    /// The same as members.
    pub failure_details: FailureDetails<'a>,
}

/// An event for an orchestrator, sent or received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct External<'a> {
    /// Who gets it, if it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Text<'a>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it brings.
    pub input: Text<'a>,
}

/// Why an execution was suspended or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Because<'a> {
    /// The reason that was given.
    pub reason: Text<'a>,
}

/// An execution of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution<'a> {
    /// The instance.
    pub instance_id: Cow<'a, str>,
    /// Its execution.
    #[serde(with = "execution")]
    pub execution_id: ExecutionId,
}

/// Who started a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ParentInstance<'a> {
    /// Name of its orchestrator.
    pub name: Cow<'a, str>,
    /// The execution that called.
    pub orchestration_instance: Execution<'a>,
    /// Number of the event by which it called.
    pub task_schedule_id: i32,
    /// Version of its orchestrator.
    pub version: Text<'a>,
}

impl Event<'_> {
    /// The end of a turn, whose last event this is.
    pub fn end_of_turn(last: &HistoryEvent) -> Self {
        Self {
            kind: Kind::OrchestratorCompleted,
            id: -1,
            is_played: false,
            at: last.at,
        }
    }
}

/// Every event of a history, with the end of each turn put in, which is not stored (A16).
pub fn full(events: &[HistoryEvent]) -> Vec<Event<'_>> {
    let mut shown = Vec::with_capacity(events.len() + events.len() / 2);
    for (index, event) in events.iter().enumerate() {
        shown.push(Event::from(event));
        if ends_turn(events, index) {
            shown.push(Event::end_of_turn(event));
        }
    }
    shown
}

/// Whether the event with this index is the last one of its turn.
pub fn ends_turn(events: &[HistoryEvent], index: usize) -> bool {
    let next = events.get(index + 1).map(|next| &next.kind);
    matches!(next, None | Some(EventKind::OrchestratorStarted))
}

impl<'a> From<&'a HistoryEvent> for Event<'a> {
    fn from(event: &'a HistoryEvent) -> Self {
        Self {
            kind: Kind::from(&event.kind),
            id: event.id,
            is_played: false,
            at: event.at,
        }
    }
}

impl<'a> From<&'a EventKind> for Kind<'a> {
    fn from(kind: &'a EventKind) -> Self {
        match kind {
            EventKind::ExecutionStarted(started) => Self::ExecutionStarted(Box::new(started.as_ref().into())),
            EventKind::OrchestratorStarted => Self::OrchestratorStarted,
            EventKind::TaskScheduled {
                name,
                version,
                input,
                tags,
            } => Self::TaskScheduled(Scheduled::new(name, version.as_ref(), None, input.as_ref(), tags)),
            EventKind::SubOrchestrationInstanceCreated {
                instance,
                name,
                version,
                input,
                tags,
            } => {
                let child = Some(Cow::Borrowed(instance.as_str()));
                Self::SubOrchestrationInstanceCreated(Scheduled::new(
                    name,
                    version.as_ref(),
                    child,
                    input.as_ref(),
                    tags,
                ))
            }
            EventKind::TaskCompleted {
                task_scheduled_id: call,
                result,
            } => Self::TaskCompleted(Completed::new(*call, result.as_ref())),
            EventKind::SubOrchestrationInstanceCompleted {
                task_scheduled_id: call,
                result,
            } => Self::SubOrchestrationInstanceCompleted(Completed::new(*call, result.as_ref())),
            EventKind::TaskFailed {
                task_scheduled_id: call,
                failure,
            } => Self::TaskFailed(Failed::new(*call, failure)),
            EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id: call,
                failure,
            } => Self::SubOrchestrationInstanceFailed(Failed::new(*call, failure)),
            EventKind::TimerCreated { fire_at } => Self::TimerCreated { fire_at: *fire_at },
            EventKind::TimerFired { timer_id, fire_at } => Self::TimerFired {
                timer_id: *timer_id,
                fire_at: *fire_at,
            },
            EventKind::EventRaised { name, input } => Self::EventRaised(External::new(None, name, input.as_ref())),
            EventKind::EventSent { instance, name, input } => {
                let receiver = Some(Cow::Borrowed(instance.as_str()));
                Self::EventSent(External::new(receiver, name, input.as_ref()))
            }
            EventKind::ExecutionTerminated { reason, recurse } => Self::ExecutionTerminated {
                input: stored_text(reason.as_ref()),
                recurse: *recurse,
            },
            EventKind::ExecutionSuspended { reason } => Self::ExecutionSuspended(Because::new(reason.as_ref())),
            EventKind::ExecutionResumed { reason } => Self::ExecutionResumed(Because::new(reason.as_ref())),
            EventKind::ExecutionCompleted {
                status,
                result,
                failure,
            } => Self::ExecutionCompleted {
                orchestration_status: *status,
                result: stored_text(result.as_ref()),
                failure_details: failure.as_deref().map(Into::into),
            },
        }
    }
}

pub(crate) fn name(name: &Name) -> Cow<'_, str> {
    Cow::Borrowed(name.as_str())
}

fn labels(tags: &Tags) -> Option<Cow<'_, Tags>> {
    (!tags.is_empty()).then_some(Cow::Borrowed(tags))
}

impl<'a> From<&'a event::ExecutionStarted> for Started<'a> {
    fn from(started: &'a event::ExecutionStarted) -> Self {
        Self {
            orchestration_instance: Execution::new(&started.instance, started.execution),
            parent_instance: started.parent.as_ref().map(Into::into),
            name: name(&started.name),
            version: started.version.as_ref().map(name),
            input: stored_text(started.input.as_ref()),
            tags: labels(&started.tags),
            scheduled_start_time: started.scheduled_start,
        }
    }
}

impl<'a> Scheduled<'a> {
    fn new(
        called: &'a Name,
        version: Option<&'a Name>,
        instance_id: Text<'a>,
        input: Option<&'a Payload>,
        tags: &'a Tags,
    ) -> Self {
        Self {
            name: name(called),
            version: version.map(name),
            instance_id,
            input: stored_text(input),
            tags: labels(tags),
        }
    }
}

impl<'a> Completed<'a> {
    fn new(task_scheduled_id: i32, result: Option<&'a Payload>) -> Self {
        Self {
            task_scheduled_id,
            result: stored_text(result),
        }
    }
}

impl<'a> Failed<'a> {
    fn new(task_scheduled_id: i32, failure: &'a Failure) -> Self {
        Self {
            task_scheduled_id,
            reason: Cow::Borrowed(&failure.message),
            details: Cow::Owned(failure.long_text()),
            failure_details: failure.into(),
        }
    }
}

impl<'a> External<'a> {
    fn new(instance_id: Text<'a>, event: &'a Name, input: Option<&'a Payload>) -> Self {
        Self {
            instance_id,
            name: name(event),
            input: stored_text(input),
        }
    }
}

impl<'a> Because<'a> {
    fn new(reason: Option<&'a Payload>) -> Self {
        Self {
            reason: stored_text(reason),
        }
    }
}

impl<'a> Execution<'a> {
    /// An execution of an instance.
    pub fn new(instance: &'a InstanceId, execution_id: ExecutionId) -> Self {
        Self {
            instance_id: Cow::Borrowed(instance.as_str()),
            execution_id,
        }
    }
}

impl<'a> From<&'a event::Parent> for ParentInstance<'a> {
    fn from(parent: &'a event::Parent) -> Self {
        Self {
            name: name(&parent.name),
            orchestration_instance: Execution::new(&parent.instance, parent.execution),
            task_schedule_id: parent.task_id,
            version: parent.version.as_ref().map(name),
        }
    }
}

impl TryFrom<Event<'_>> for HistoryEvent {
    type Error = Unreadable;

    /// Converts the event to core's type. Members that the HTTP surface does not have stay empty: the properties of
    /// failures, and the occurrence of the parent's call that a child answers.
    fn try_from(event: Event<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: event.id,
            at: event.at,
            kind: event.kind.try_into()?,
        })
    }
}

impl TryFrom<Kind<'_>> for EventKind {
    type Error = Unreadable;

    fn try_from(kind: Kind<'_>) -> Result<Self, Unreadable> {
        let payload = |text: Text<'_>| text.map(payload_of);
        let failure = |failed: Failed<'_>| Box::new(Failure::from(failed.failure_details));
        Ok(match kind {
            Kind::ExecutionStarted(started) => Self::ExecutionStarted(Box::new((*started).try_into()?)),
            Kind::OrchestratorStarted => Self::OrchestratorStarted,
            Kind::OrchestratorCompleted => return Err(Unreadable("the end of a turn, which is not an event")),
            Kind::TaskScheduled(call) => Self::TaskScheduled {
                name: read_name(&call.name)?,
                version: read_version(call.version),
                input: payload(call.input),
                tags: read_labels(call.tags),
            },
            Kind::SubOrchestrationInstanceCreated(call) => Self::SubOrchestrationInstanceCreated {
                instance: read_instance(call.instance_id)?,
                name: read_name(&call.name)?,
                version: read_version(call.version),
                input: payload(call.input),
                tags: read_labels(call.tags),
            },
            Kind::TaskCompleted(done) => Self::TaskCompleted {
                task_scheduled_id: done.task_scheduled_id,
                result: payload(done.result),
            },
            Kind::SubOrchestrationInstanceCompleted(done) => Self::SubOrchestrationInstanceCompleted {
                task_scheduled_id: done.task_scheduled_id,
                result: payload(done.result),
            },
            Kind::TaskFailed(failed) => Self::TaskFailed {
                task_scheduled_id: failed.task_scheduled_id,
                failure: failure(failed),
            },
            Kind::SubOrchestrationInstanceFailed(failed) => Self::SubOrchestrationInstanceFailed {
                task_scheduled_id: failed.task_scheduled_id,
                failure: failure(failed),
            },
            Kind::TimerCreated { fire_at } => Self::TimerCreated { fire_at },
            Kind::TimerFired { timer_id, fire_at } => Self::TimerFired { timer_id, fire_at },
            Kind::EventSent(sent) => Self::EventSent {
                instance: read_instance(sent.instance_id)?,
                name: read_name(&sent.name)?,
                input: payload(sent.input),
            },
            Kind::EventRaised(raised) => Self::EventRaised {
                name: read_name(&raised.name)?,
                input: payload(raised.input),
            },
            Kind::ExecutionSuspended(because) => Self::ExecutionSuspended {
                reason: payload(because.reason),
            },
            Kind::ExecutionResumed(because) => Self::ExecutionResumed {
                reason: payload(because.reason),
            },
            Kind::ExecutionTerminated { input, recurse } => Self::ExecutionTerminated {
                reason: payload(input),
                recurse,
            },
            Kind::ExecutionCompleted {
                orchestration_status: status,
                result,
                failure_details,
            } => Self::ExecutionCompleted {
                status,
                result: payload(result),
                failure: failure_details.map(|details| Box::new(details.into())),
            },
        })
    }
}

impl TryFrom<Started<'_>> for event::ExecutionStarted {
    type Error = Unreadable;

    fn try_from(started: Started<'_>) -> Result<Self, Unreadable> {
        let own = started.orchestration_instance;
        Ok(Self {
            name: read_name(&started.name)?,
            version: read_version(started.version),
            input: started.input.map(payload_of),
            instance: read_instance(Some(own.instance_id))?,
            execution: own.execution_id,
            parent: started.parent_instance.map(TryInto::try_into).transpose()?,
            scheduled_start: started.scheduled_start_time,
            tags: read_labels(started.tags),
        })
    }
}

impl TryFrom<ParentInstance<'_>> for event::Parent {
    type Error = Unreadable;

    fn try_from(parent: ParentInstance<'_>) -> Result<Self, Unreadable> {
        let own = parent.orchestration_instance;
        Ok(Self {
            instance: read_instance(Some(own.instance_id))?,
            execution: own.execution_id,
            task_id: parent.task_schedule_id,
            // Of use to the engine alone.
            occurrence: Occurrence(0),
            name: read_name(&parent.name)?,
            version: read_version(parent.version),
        })
    }
}

pub(crate) fn read_name(text: &str) -> Result<Name, Unreadable> {
    Name::new(text).map_err(|_| Unreadable("a name"))
}

pub(crate) fn read_instance(text: Text<'_>) -> Result<InstanceId, Unreadable> {
    let id = text.and_then(|text| InstanceId::new(&text).ok());
    id.ok_or(Unreadable("an instance id"))
}

pub(crate) fn read_version(text: Text<'_>) -> Option<Name> {
    text.map(|text| Name::stored(&text))
}

fn read_labels(tags: Option<Cow<'_, Tags>>) -> Tags {
    tags.map(Cow::into_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InstanceId {
        InstanceId::new(text).unwrap()
    }

    fn named(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn json() -> Payload {
        Payload::text(r#"{"n": 1.10}"#)
    }

    fn tags() -> Tags {
        Tags::from([("k".to_owned(), "v".to_owned())])
    }

    fn due() -> Timestamp {
        Timestamp::parse("2026-11-23T00:00:00Z").unwrap()
    }

    /// Events, each with the members that its JSON has in front of its number.
    type Expected = Vec<(EventKind, &'static str)>;

    fn starts() -> Expected {
        let started = |parent| event::ExecutionStarted {
            name: named("F"),
            version: None,
            input: None,
            instance: id("i"),
            execution: ExecutionId::new([1; 16]),
            parent,
            scheduled_start: None,
            tags: Tags::new(),
        };
        let child = event::ExecutionStarted {
            version: Some(named("2")),
            input: Some(json()),
            scheduled_start: Some(due()),
            tags: tags(),
            ..started(Some(event::Parent {
                instance: id("p"),
                execution: ExecutionId::new([2; 16]),
                task_id: 4,
                occurrence: Occurrence(0),
                name: named("P"),
                version: None,
            }))
        };
        vec![
            (EventKind::OrchestratorStarted, r#""EventType":"OrchestratorStarted""#),
            (
                EventKind::ExecutionStarted(Box::new(started(None))),
                r#""EventType":"ExecutionStarted","OrchestrationInstance":{"InstanceId":"i","ExecutionId":"01010101010101010101010101010101"},"ParentInstance":null,"Name":"F","Version":null,"Input":null,"Tags":null,"ScheduledStartTime":null"#,
            ),
            (
                EventKind::ExecutionStarted(Box::new(child)),
                r#""EventType":"ExecutionStarted","OrchestrationInstance":{"InstanceId":"i","ExecutionId":"01010101010101010101010101010101"},"ParentInstance":{"Name":"P","OrchestrationInstance":{"InstanceId":"p","ExecutionId":"02020202020202020202020202020202"},"TaskScheduleId":4,"Version":null},"Name":"F","Version":"2","Input":"{\"n\": 1.10}","Tags":{"k":"v"},"ScheduledStartTime":"2026-11-23T00:00:00Z""#,
            ),
        ]
    }

    fn calls() -> Expected {
        let failure = Failure {
            stack_trace: Some("at x".to_owned()),
            ..Failure::new("E", "broken").caused_by(Failure::new("I", "inner").non_retriable())
        };
        vec![
            (
                EventKind::TaskScheduled {
                    name: named("A"),
                    version: None,
                    input: Some(json()),
                    tags: Tags::new(),
                },
                r#""EventType":"TaskScheduled","Name":"A","Version":null,"Input":"{\"n\": 1.10}","Tags":null"#,
            ),
            (
                EventKind::TaskCompleted {
                    task_scheduled_id: 0,
                    result: Some(json()),
                },
                r#""EventType":"TaskCompleted","TaskScheduledId":0,"Result":"{\"n\": 1.10}""#,
            ),
            (
                EventKind::TaskFailed {
                    task_scheduled_id: 0,
                    failure: Box::new(failure),
                },
                r#""EventType":"TaskFailed","TaskScheduledId":0,"Reason":"broken","Details":"E: broken\n ---> I: inner\nat x","FailureDetails":{"ErrorType":"E","ErrorMessage":"broken","StackTrace":"at x","InnerFailure":{"ErrorType":"I","ErrorMessage":"inner","StackTrace":null,"InnerFailure":null,"IsNonRetriable":true},"IsNonRetriable":false}"#,
            ),
            (
                EventKind::SubOrchestrationInstanceCreated {
                    instance: id("c"),
                    name: named("C"),
                    version: Some(named("2")),
                    input: None,
                    tags: tags(),
                },
                r#""EventType":"SubOrchestrationInstanceCreated","Name":"C","Version":"2","InstanceId":"c","Input":null,"Tags":{"k":"v"}"#,
            ),
            (
                EventKind::SubOrchestrationInstanceCompleted {
                    task_scheduled_id: 1,
                    result: None,
                },
                r#""EventType":"SubOrchestrationInstanceCompleted","TaskScheduledId":1,"Result":null"#,
            ),
            (
                EventKind::SubOrchestrationInstanceFailed {
                    task_scheduled_id: 1,
                    failure: Box::new(Failure::new("E", "x")),
                },
                r#""EventType":"SubOrchestrationInstanceFailed","TaskScheduledId":1,"Reason":"x","Details":"E: x","FailureDetails":{"ErrorType":"E","ErrorMessage":"x","StackTrace":null,"InnerFailure":null,"IsNonRetriable":false}"#,
            ),
        ]
    }

    fn others() -> Expected {
        let fire_at = due();
        vec![
            (
                EventKind::TimerCreated { fire_at },
                r#""EventType":"TimerCreated","FireAt":"2026-11-23T00:00:00Z""#,
            ),
            (
                EventKind::TimerFired { timer_id: 2, fire_at },
                r#""EventType":"TimerFired","TimerId":2,"FireAt":"2026-11-23T00:00:00Z""#,
            ),
            (
                EventKind::EventRaised {
                    name: named("E"),
                    input: Some(json()),
                },
                r#""EventType":"EventRaised","Name":"E","Input":"{\"n\": 1.10}""#,
            ),
            (
                EventKind::EventSent {
                    instance: id("o"),
                    name: named("E"),
                    input: None,
                },
                r#""EventType":"EventSent","InstanceId":"o","Name":"E","Input":null"#,
            ),
            (
                EventKind::ExecutionSuspended {
                    reason: Some(Payload::text("why")),
                },
                r#""EventType":"ExecutionSuspended","Reason":"why""#,
            ),
            (
                EventKind::ExecutionResumed { reason: None },
                r#""EventType":"ExecutionResumed","Reason":null"#,
            ),
            (
                EventKind::ExecutionTerminated {
                    reason: Some(Payload::text("why")),
                    recurse: true,
                },
                r#""EventType":"ExecutionTerminated","Input":"why","Recurse":true"#,
            ),
            (
                EventKind::ExecutionCompleted {
                    status: RuntimeStatus::Completed,
                    result: Some(json()),
                    failure: None,
                },
                r#""EventType":"ExecutionCompleted","OrchestrationStatus":"Completed","Result":"{\"n\": 1.10}","FailureDetails":null"#,
            ),
        ]
    }

    #[test]
    fn each_kind_of_event_is_written_in_full_and_read_back() {
        let at = Timestamp::parse("2026-11-22T23:40:12.5Z").unwrap();
        for (kind, members) in [starts(), calls(), others()].concat() {
            let event = HistoryEvent { id: 3, at, kind };
            let json = serde_json::to_string(&Event::from(&event)).unwrap();
            let expected =
                format!(r#"{{{members},"EventId":3,"IsPlayed":false,"Timestamp":"2026-11-22T23:40:12.5Z"}}"#);
            assert_eq!(json, expected);
            let read: Event<'_> = serde_json::from_str(&json).unwrap();
            assert_eq!(HistoryEvent::try_from(read), Ok(event));
        }
    }

    #[test]
    fn the_end_of_each_turn_is_put_in() {
        let event = |kind| HistoryEvent {
            id: -1,
            at: Timestamp::from_ticks(0),
            kind,
        };
        let resumed = || event(EventKind::ExecutionResumed { reason: None });
        let turn = || event(EventKind::OrchestratorStarted);
        let events = [turn(), resumed(), turn(), resumed(), resumed()];
        let ends: Vec<usize> = (0..events.len()).filter(|index| ends_turn(&events, *index)).collect();
        assert_eq!(ends, [1, 4]);
        let full = full(&events);
        assert_eq!(full.len(), 7);
        let last = full.last().unwrap().clone();
        assert_eq!(last.kind, Kind::OrchestratorCompleted);
        assert!(HistoryEvent::try_from(last).is_err());
    }
}
