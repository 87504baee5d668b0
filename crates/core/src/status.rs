//! What can be said of an instance from outside: its status record.

use crate::event::{Parent, Tags};
use crate::failure::Failure;
use crate::id::{ExecutionId, InstanceId, Name};
use crate::payload::Payload;
use crate::time::Timestamp;

pub use crate::runtime_status::{LEGAL, RuntimeStatus};

/// Why an instance was set aside (R42, R184).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Since when.
    pub since: Timestamp,
    /// The last error, for people.
    pub reason: String,
    /// Deliveries without an accepted answer.
    pub attempts: u32,
}

impl Stall {
    /// Whether it is retried automatically, with growing pauses, or only on an operator's order (R184).
    pub fn is_final(&self) -> bool {
        self.attempts >= crate::limits::DELIVERIES_MAX
    }
}

/// The status record of an instance (R8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its id.
    pub instance: InstanceId,
    /// The execution that runs or ran last.
    pub execution: ExecutionId,
    /// 0 for the first execution; continue-as-new adds one.
    pub ordinal: u32,
    /// Name of the orchestrator.
    pub name: Name,
    /// Version of the current execution.
    pub version: Option<Name>,
    /// Where it stands.
    pub status: RuntimeStatus,
    /// When the create request was accepted; does not move on continue-as-new (R10).
    pub created_at: Timestamp,
    /// Time of the last turn or control operation, never decreasing (R11).
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Not to start before (R15).
    pub scheduled_start: Option<Timestamp>,
    /// Input of the current execution.
    pub input: Option<Payload>,
    /// Result, failure text or termination reason (R9).
    pub output: Option<Payload>,
    /// Last custom status set (R96).
    pub custom_status: Option<Payload>,
    /// Structured failure, when Failed.
    pub failure: Option<Box<Failure>>,
    /// Labels.
    pub tags: Tags,
    /// The parent, for a child.
    pub parent: Option<Box<Parent>>,
    /// Set while deliveries of its turns fail (R42).
    pub stalled: Option<Box<Stall>>,
}

impl InstanceInfo {
    /// Bytes of payload and text in it, for budgets.
    pub fn size(&self) -> usize {
        let payloads: usize = [&self.input, &self.output, &self.custom_status]
            .into_iter()
            .flatten()
            .map(Payload::len)
            .sum();
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        size_of::<Self>() + self.instance.as_str().len() + self.name.as_str().len() + payloads + tags
    }
}
