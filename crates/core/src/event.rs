//! History events, with the names and meanings of the public protocol (gRPC §3.6, §5.4).

use std::collections::BTreeMap;
use std::fmt;

use crate::failure::Failure;
use crate::id::{ExecutionId, InstanceId, Name, Occurrence};
use crate::payload::{Payload, size};
use crate::runtime_status::RuntimeStatus;
use crate::time::Timestamp;

/// Free-form labels of an instance or a task.
pub type Tags = BTreeMap<String, String>;

/// One record of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEvent {
    /// The action's id for events caused by an action, otherwise −1 (R20).
    pub id: i32,
    /// When it was accepted or made (A27); informational but for OrchestratorStarted (R30).
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened. Completion events point back by `task_scheduled_id` or `timer_id` (R32).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "members carry the protocol's names; gRPC §3.6 says what they mean"
)]
pub enum EventKind {
    /// First non-bookend event of every execution (R18).
    ExecutionStarted(Box<ExecutionStarted>),
    /// Start of a turn; its timestamp is the logical time (R17).
    OrchestratorStarted,
    TaskScheduled {
        name: Name,
        version: Option<Name>,
        input: Option<Payload>,
        tags: Tags,
    },
    TaskCompleted {
        task_scheduled_id: i32,
        result: Option<Payload>,
    },
    TaskFailed {
        task_scheduled_id: i32,
        failure: Box<Failure>,
    },
    TimerCreated {
        fire_at: Timestamp,
    },
    TimerFired {
        timer_id: i32,
        fire_at: Timestamp,
    },
    SubOrchestrationInstanceCreated {
        instance: InstanceId,
        name: Name,
        version: Option<Name>,
        input: Option<Payload>,
        tags: Tags,
    },
    SubOrchestrationInstanceCompleted {
        task_scheduled_id: i32,
        result: Option<Payload>,
    },
    SubOrchestrationInstanceFailed {
        task_scheduled_id: i32,
        failure: Box<Failure>,
    },
    EventSent {
        instance: InstanceId,
        name: Name,
        input: Option<Payload>,
    },
    EventRaised {
        name: Name,
        input: Option<Payload>,
    },
    ExecutionSuspended {
        reason: Option<Payload>,
    },
    ExecutionResumed {
        reason: Option<Payload>,
    },
    ExecutionTerminated {
        reason: Option<Payload>,
        recurse: bool,
    },
    /// Last event of an execution (R17).
    ExecutionCompleted {
        status: RuntimeStatus,
        result: Option<Payload>,
        failure: Option<Box<Failure>>,
    },
}

/// How an execution began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionStarted {
    /// Name of the orchestrator.
    pub name: Name,
    /// Version the execution runs under (R159).
    pub version: Option<Name>,
    /// Input of the orchestrator.
    pub input: Option<Payload>,
    /// The instance.
    pub instance: InstanceId,
    /// The execution.
    pub execution: ExecutionId,
    /// The parent, for a child that reports back.
    pub parent: Option<Parent>,
    /// Not to start before (R15).
    pub scheduled_start: Option<Timestamp>,
    /// Labels.
    pub tags: Tags,
}

/// Link from a child to the parent's open occurrence (R69).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The parent's id.
    pub instance: InstanceId,
    /// The execution that waits; any other has no use for the result (R35, R73).
    pub execution: ExecutionId,
    /// Event id of the parent's SubOrchestrationInstanceCreated.
    pub task_id: i32,
    /// The open occurrence the result answers (R34).
    pub occurrence: Occurrence,
    /// Name of the parent's orchestrator.
    pub name: Name,
    /// Version of the parent.
    pub version: Option<Name>,
}

impl HistoryEvent {
    /// An inbound event, which carries the id −1 (R20).
    pub fn inbound(at: Timestamp, kind: EventKind) -> Self {
        Self { id: -1, at, kind }
    }

    /// Bytes of payload and names in it, for limits and budgets.
    pub fn size(&self) -> usize {
        const ENVELOPE: usize = 16;
        ENVELOPE + self.kind.size()
    }
}

impl EventKind {
    /// The protocol's name of the event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ExecutionStarted(_) => "ExecutionStarted",
            Self::OrchestratorStarted => "OrchestratorStarted",
            Self::TaskScheduled { .. } => "TaskScheduled",
            Self::TaskCompleted { .. } => "TaskCompleted",
            Self::TaskFailed { .. } => "TaskFailed",
            Self::TimerCreated { .. } => "TimerCreated",
            Self::TimerFired { .. } => "TimerFired",
            Self::SubOrchestrationInstanceCreated { .. } => "SubOrchestrationInstanceCreated",
            Self::SubOrchestrationInstanceCompleted { .. } => "SubOrchestrationInstanceCompleted",
            Self::SubOrchestrationInstanceFailed { .. } => "SubOrchestrationInstanceFailed",
            Self::EventSent { .. } => "EventSent",
            Self::EventRaised { .. } => "EventRaised",
            Self::ExecutionSuspended { .. } => "ExecutionSuspended",
            Self::ExecutionResumed { .. } => "ExecutionResumed",
            Self::ExecutionTerminated { .. } => "ExecutionTerminated",
            Self::ExecutionCompleted { .. } => "ExecutionCompleted",
        }
    }

    /// Whether the event belongs to one execution and means nothing to another (R35).
    pub fn is_bound_to_execution(&self) -> bool {
        match self {
            Self::EventRaised { .. }
            | Self::ExecutionSuspended { .. }
            | Self::ExecutionResumed { .. }
            | Self::ExecutionTerminated { .. } => false,
            Self::ExecutionStarted(_)
            | Self::OrchestratorStarted
            | Self::TaskScheduled { .. }
            | Self::TaskCompleted { .. }
            | Self::TaskFailed { .. }
            | Self::TimerCreated { .. }
            | Self::TimerFired { .. }
            | Self::SubOrchestrationInstanceCreated { .. }
            | Self::SubOrchestrationInstanceCompleted { .. }
            | Self::SubOrchestrationInstanceFailed { .. }
            | Self::EventSent { .. }
            | Self::ExecutionCompleted { .. } => true,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::ExecutionStarted(started) => started.name.as_str().len() + size(started.input.as_ref()) + 64,
            Self::OrchestratorStarted | Self::TimerCreated { .. } | Self::TimerFired { .. } => 0,
            Self::TaskScheduled { name, input, .. }
            | Self::SubOrchestrationInstanceCreated { name, input, .. }
            | Self::EventSent { name, input, .. }
            | Self::EventRaised { name, input } => name.as_str().len() + size(input.as_ref()),
            Self::TaskCompleted { result, .. } | Self::SubOrchestrationInstanceCompleted { result, .. } => {
                size(result.as_ref())
            }
            Self::TaskFailed { failure, .. } | Self::SubOrchestrationInstanceFailed { failure, .. } => failure.size(),
            Self::ExecutionSuspended { reason }
            | Self::ExecutionResumed { reason }
            | Self::ExecutionTerminated { reason, .. } => size(reason.as_ref()),
            Self::ExecutionCompleted { result, failure, .. } => {
                size(result.as_ref()) + failure.as_ref().map_or(0, |failure| failure.size())
            }
        }
    }
}

impl fmt::Display for HistoryEvent {
    /// One line: the protocol's name, the id of an action, and what tells the event from its likes.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.kind.name())?;
        if self.id >= 0 {
            write!(out, " #{}", self.id)?;
        }
        match &self.kind {
            EventKind::OrchestratorStarted => Ok(()),
            EventKind::ExecutionStarted(started) => write!(out, " {}{}", started.name, Shown(started.input.as_ref())),
            EventKind::TaskScheduled { name, input, .. } | EventKind::EventRaised { name, input } => {
                write!(out, " {name}{}", Shown(input.as_ref()))
            }
            EventKind::SubOrchestrationInstanceCreated {
                instance, name, input, ..
            }
            | EventKind::EventSent { instance, name, input } => {
                write!(out, " {name} to {instance}{}", Shown(input.as_ref()))
            }
            EventKind::TaskCompleted {
                task_scheduled_id,
                result,
            }
            | EventKind::SubOrchestrationInstanceCompleted {
                task_scheduled_id,
                result,
            } => {
                write!(out, " of #{task_scheduled_id}{}", Shown(result.as_ref()))
            }
            EventKind::TaskFailed {
                task_scheduled_id,
                failure,
            }
            | EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id,
                failure,
            } => {
                write!(out, " of #{task_scheduled_id} {failure}")
            }
            EventKind::TimerCreated { fire_at } => write!(out, " {fire_at}"),
            EventKind::TimerFired { timer_id, fire_at } => write!(out, " of #{timer_id} {fire_at}"),
            EventKind::ExecutionSuspended { reason }
            | EventKind::ExecutionResumed { reason }
            | EventKind::ExecutionTerminated { reason, .. } => write!(out, "{}", Shown(reason.as_ref())),
            EventKind::ExecutionCompleted {
                status,
                result,
                failure,
            } => match failure {
                Some(failure) => write!(out, " {status} {failure}"),
                None => write!(out, " {status}{}", Shown(result.as_ref())),
            },
        }
    }
}

/// A payload behind a space; long ones by their length alone.
struct Shown<'a>(Option<&'a Payload>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES_MAX: usize = 120;
        match self.0 {
            None => Ok(()),
            Some(payload) if payload.len() > SHOWN_BYTES_MAX => write!(out, " <{} bytes>", payload.len()),
            Some(payload) => write!(out, " {}", payload.to_text()),
        }
    }
}
