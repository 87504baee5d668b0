//! Where an instance stands: the status, its numbers and its legal transitions.

use std::fmt;

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
