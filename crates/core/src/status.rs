//! What can be said of an instance from outside: its status record.

use std::fmt;

use crate::event::{Parent, Tags};
use crate::failure::Failure;
use crate::id::{ExecutionId, InstanceId, Name};
use crate::payload::Payload;
use crate::time::Timestamp;

/// Status of an instance, with the protocol's numbers (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RuntimeStatus {
    /// At least one turn was committed.
    Running = 0,
    /// Ended with a result.
    Completed = 1,
    /// Final status of an archived execution only; an instance never rests in it (R7).
    ContinuedAsNew = 2,
    /// Ended with a failure.
    Failed = 3,
    /// Accepted in filters, never produced.
    Canceled = 4,
    /// Ended by request.
    Terminated = 5,
    /// Created, no turn committed yet.
    Pending = 6,
    /// Set aside until resumed.
    Suspended = 7,
}

impl RuntimeStatus {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Completed,
        Self::ContinuedAsNew,
        Self::Failed,
        Self::Canceled,
        Self::Terminated,
        Self::Pending,
        Self::Suspended,
    ];

    /// The status with a number of the protocol.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number of the protocol.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether the instance has ended (R5).
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated | Self::Canceled)
    }

    /// Whether an instance in this status may move to `next` within one execution (R6).
    pub fn may_become(self, next: Self) -> bool {
        LEGAL.contains(&(self, next))
    }
}

impl fmt::Display for RuntimeStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// The legal transitions but creation, replacement and purge (R6).
pub const LEGAL: &[(RuntimeStatus, RuntimeStatus)] = {
    use RuntimeStatus::{Completed, Failed, Pending, Running, Suspended, Terminated};
    &[
        (Pending, Running),
        (Pending, Suspended),
        (Pending, Completed),
        (Pending, Failed),
        (Pending, Terminated),
        (Running, Running),
        (Running, Suspended),
        (Running, Completed),
        (Running, Failed),
        (Running, Terminated),
        (Suspended, Pending),
        (Suspended, Running),
        (Suspended, Completed),
        (Suspended, Failed),
        (Suspended, Terminated),
    ]
};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_protocols() {
        for status in RuntimeStatus::ALL {
            assert_eq!(RuntimeStatus::from_number(status.number()), Some(status));
        }
        assert_eq!(RuntimeStatus::from_number(8), None);
        assert_eq!(RuntimeStatus::Pending.number(), 6);
    }

    #[test]
    fn nothing_leaves_a_terminal_status() {
        for (from, _) in LEGAL {
            assert!(!from.is_terminal());
        }
    }
}
