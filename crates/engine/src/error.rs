//! The errors of a hub's calls.

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
    #[error("the hub reloaded its state during the call; the call may or may not have taken effect")]
    Unavailable,
    /// The hub reloads from the store after a failed write; the call was not begun or was undone. Call again.
    #[error("the hub reloaded its state before the call was processed; the call had no effect")]
    Displaced,
    /// Not durable within the time allowed; whether it takes effect is unknown (R191).
    #[error("the store did not confirm the call in time; the call may or may not take effect")]
    TimedOut,
    /// Too much is waiting already (P8).
    #[error("the hub has {waiting} waiting requests and temporarily accepts no more")]
    Overloaded {
        /// Requests in the queue.
        waiting: usize,
    },
    /// As many hubs are open as may be (P8).
    #[error("{open} hubs are open, which is the limit; restart without using one of them, or raise the limit")]
    TooManyHubs {
        /// How many.
        open: usize,
    },
    /// The hub is shutting down or has shut down.
    #[error("the hub has stopped")]
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
