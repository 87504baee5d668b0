//! What may arrive: messages in an instance's inbox, and what a partition's outbox says to others.

use crate::event::{HistoryEvent, Parent, Tags};
use crate::failure::Failure;
use crate::id::{ExecutionId, InstanceId, MessageNumber, Name, Occurrence, Seq};
use crate::payload::{Payload, size};
use crate::time::Timestamp;

/// One inbox item: accepted, not yet in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number, per instance and never reset (A30).
    pub number: MessageNumber,
    /// The event it becomes, stamped when it was accepted (A27).
    pub event: HistoryEvent,
    /// For the start message of a new execution: events it takes over, delivered right after it (R89).
    pub carried: Vec<HistoryEvent>,
}

impl Message {
    /// Bytes of payload and names in it and what it carries, for limits and budgets.
    pub fn size(&self) -> usize {
        self.event.size() + self.carried.iter().map(HistoryEvent::size).sum::<usize>()
    }
}

/// Place of an outbox item: partition, commit, position in the commit (A29).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxRef {
    /// The sender's partition.
    pub partition: u16,
    /// The sender's commit.
    pub seq: Seq,
    /// Position among the items of that commit.
    pub index: u32,
}

/// A message to another instance, kept in the sender's outbox until the receiver's commit names it (A29).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxItem {
    /// The receiver.
    pub target: InstanceId,
    /// What it is told.
    pub body: OutboxBody,
}

impl OutboxItem {
    /// Bytes of payload and names in it, for limits and budgets.
    pub fn size(&self) -> usize {
        const ENVELOPE: usize = 64;
        let body = match &self.body {
            OutboxBody::Start(start) => start.name.as_str().len() + size(start.input.as_ref()),
            OutboxBody::Event { name, input } => name.as_str().len() + size(input.as_ref()),
            OutboxBody::ChildEnded { outcome, .. } => match outcome {
                Outcome::Completed(result) => size(result.as_ref()),
                Outcome::Failed(failure) => failure.size(),
            },
            OutboxBody::Terminate { reason, .. } => size(reason.as_ref()),
        };
        ENVELOPE + self.target.as_str().len() + body
    }
}

/// What one instance may tell another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxBody {
    /// Start a child (R69).
    Start(Box<ChildStart>),
    /// Raise an event (R77).
    Event {
        /// Name of the event.
        name: Name,
        /// Payload of the event.
        input: Option<Payload>,
    },
    /// A child has ended, or could not be started.
    ChildEnded {
        /// The parent execution that waits.
        execution: ExecutionId,
        /// Event id of its SubOrchestrationInstanceCreated.
        task_id: i32,
        /// The occurrence this answers.
        occurrence: Occurrence,
        /// How it ended.
        outcome: Outcome,
    },
    /// Terminate (R104).
    Terminate {
        /// The reason, which becomes the output.
        reason: Option<Payload>,
        /// Whether the children end too.
        recurse: bool,
        /// Deliver only if the receiver is a child of this execution, because another instance may use the id after the
        /// child has ended or was refused. Absent: deliver to any instance with the id.
        child_of: Option<ExecutionId>,
    },
}

/// The start of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStart {
    /// Name of the orchestrator.
    pub name: Name,
    /// Its version.
    pub version: Option<Name>,
    /// Its input.
    pub input: Option<Payload>,
    /// Labels.
    pub tags: Tags,
    /// The link back; absent for a detached child (R75).
    pub parent: Option<Parent>,
}

/// How an activity or a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Completed(Option<Payload>),
    /// With a failure.
    Failed(Box<Failure>),
}

/// A client's wish to start an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// Id of the instance.
    pub instance: InstanceId,
    /// Name of the orchestrator.
    pub name: Name,
    /// Version to run under.
    pub version: Option<Name>,
    /// Input.
    pub input: Option<Payload>,
    /// Labels.
    pub tags: Tags,
    /// Not to start before (R15).
    pub scheduled_start: Option<Timestamp>,
    /// The execution id the client proposes (R3).
    pub execution: Option<ExecutionId>,
    /// What may become of an existing instance with the id.
    pub reuse: ReusePolicy,
    /// Makes a repeated start a no-op (R139).
    pub key: Option<crate::id::IdempotencyKey>,
    /// What the key makes of a start whose instance has ended.
    pub repeats: Repeats,
}

/// For how long a start with a key that was seen is the repetition of that one (R139).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeats {
    /// Also when the instance has ended: a client whose answer was lost hears that it was started.
    #[default]
    Always,
    /// Only while the instance is live; once it has ended, the start is a new one. For those who start again and again
    /// under one id, and make the same key each time.
    WhileLive,
}

/// What may become of an existing instance when its id is started again (R136).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReusePolicy {
    /// Replaced when it has ended, refused while it is live (A7).
    #[default]
    ReplaceEnded,
    /// Replaced in these statuses only; an empty list replaces nothing.
    Replace(Vec<crate::status::RuntimeStatus>),
    /// Replaced in any status; a live one is terminated first.
    ReplaceAny,
}
