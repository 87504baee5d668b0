//! Retries of a group, as a value: its input is the answer of the store, its output says whether to retry (A43).

use std::time::Duration;

use taskhub_store::Error;

/// Time limit for retries while the store is unreachable.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// Time limit for retries while the store is full. After it, the waiting callers get `Full`.
const FULL_MAX: Duration = Duration::from_secs(1);
/// Pause between two attempts.
pub const PAUSE: Duration = Duration::from_millis(100);

/// The attempts to make one group durable.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    began: Duration,
    has_waited: bool,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The group is durable.
    Durable,
    /// Offer the same group again after [`PAUSE`].
    Again,
    /// The group is given up.
    Failed,
}

impl Attempt {
    /// Begins at this time, measured from any fixed moment.
    pub fn new(now: Duration) -> Self {
        Self {
            began: now,
            has_waited: false,
        }
    }

    /// Takes the answer of the store. Partitions in limited service, because the store is already full, do not wait for
    /// space.
    pub fn answered(&mut self, answer: Result<(), &Error>, now: Duration, is_out_of_room: bool) -> Next {
        let patience = match answer {
            Ok(()) => return Next::Durable,
            Err(Error::Full) if is_out_of_room => Duration::ZERO,
            Err(Error::Full) => FULL_MAX,
            Err(Error::Unavailable { .. }) => UNAVAILABLE_MAX,
            // The outcome is unknown, or the store would refuse the group again.
            Err(_) => Duration::ZERO,
        };
        if now.saturating_sub(self.began) >= patience {
            return Next::Failed;
        }
        self.has_waited = true;
        Next::Again
    }

    /// Whether the group was offered more than once.
    pub fn has_waited(&self) -> bool {
        self.has_waited
    }
}
