//! What a caller of the hub can be told besides an answer.

use taskhub_core::refusal::Refusal;
use taskhub_store::Error as StoreError;
use thiserror::Error as ThisError;

/// Why a call gave no answer.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The request was refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not do it.
    #[error("the hub's store failed")]
    Store(#[from] StoreError),
    /// The partition lost its memory while the call was under way; whether it took effect is unknown. Call again.
    #[error("the hub restarted its work while the call was under way; it may or may not have taken effect")]
    Unavailable,
    /// Work is begun anew from the store, which refused or failed a write, and the call was not begun or was taken back.
    /// Call again.
    #[error("the hub restarted its work before the call was done; nothing came of it")]
    Displaced,
    /// Not durable within the time allowed; whether it takes effect is unknown (R191).
    #[error("the store did not answer the call in time; it may or may not take effect")]
    TimedOut,
    /// Too much is waiting already (P8).
    #[error("the hub has {waiting} requests waiting and takes no more for the moment")]
    Overloaded {
        /// Requests in the queue.
        waiting: usize,
    },
    /// As many hubs are open as may be (P8).
    #[error("{open} hubs are open here, and no more are opened; stop using one and restart, or raise the limit")]
    TooManyHubs {
        /// How many.
        open: usize,
    },
    /// The hub is shutting down or has shut down.
    #[error("the hub is stopped")]
    Stopped,
}

impl Error {
    /// The stable word of the condition (A10).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Store(error) => error.code(),
            Self::Unavailable | Self::Displaced => "store-unavailable",
            Self::Stopped => "hub-stopped",
            Self::TimedOut => "timed-out",
            Self::Overloaded { .. } | Self::TooManyHubs { .. } => "overloaded",
        }
    }
}

/// An error with what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_each_cause_once() {
        let source = std::io::Error::other("the disk is gone").into();
        let error = Error::Store(StoreError::Unavailable { source });
        assert_eq!(
            chain(&error),
            "the hub's store failed: the store cannot be reached; nothing was changed: the disk is gone"
        );
    }
}
