//! How often a group is offered to the store, as a value: it is told how the store answered, and says whether to try again (A43).

use std::time::Duration;

use taskhub_store::Error;

/// How long a group is tried again while the store is out of reach.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// How long one is tried again while the store is full. Who waits for it hears then that there is no room.
const FULL_MAX: Duration = Duration::from_secs(1);
/// Pause between such tries.
pub const PAUSE: Duration = Duration::from_millis(100);

/// A group that the store is asked to make durable.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    began: Duration,
    has_waited: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is durable.
    Durable,
    /// Offer the same group again after [`PAUSE`].
    Again,
    /// It is given up.
    Failed,
}

impl Attempt {
    /// It is offered first at this time, since any moment that stays the same.
    pub fn new(now: Duration) -> Self {
        Self {
            began: now,
            has_waited: false,
        }
    }

    /// The store has answered. Partitions that were claimed without room have nothing to wait for.
    pub fn answered(&mut self, answer: Result<(), &Error>, now: Duration, is_out_of_room: bool) -> Next {
        let patience = match answer {
            Ok(()) => return Next::Durable,
            Err(Error::Full) if is_out_of_room => Duration::ZERO,
            Err(Error::Full) => FULL_MAX,
            Err(Error::Unavailable { .. }) => UNAVAILABLE_MAX,
            // What was done is not known, or it will not be taken however often it is offered.
            Err(_) => Duration::ZERO,
        };
        if now.saturating_sub(self.began) >= patience {
            return Next::Failed;
        }
        self.has_waited = true;
        Next::Again
    }

    /// Whether it was offered more than once.
    pub fn has_waited(&self) -> bool {
        self.has_waited
    }
}
