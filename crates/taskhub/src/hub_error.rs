//! The errors of a hub's calls. Errors of user code are in `error`.

use taskhub_core::failure::Failure;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::Error as EngineError;
use taskhub_store::Error as StoreError;
use thiserror::Error as ThisError;

/// Why a call to a hub gave no answer, or an instance no result.
///
/// What callers handle is a variant with its data; [`HubError::code`] has the stable word of every condition.
///
/// ```
/// use taskhub::{Client, HubError};
///
/// async fn start_once(client: &Client) -> Result<bool, HubError> {
///     match client.start("Order", ()).id("order-17").await {
///         Ok(_) => Ok(true),
///         Err(HubError::InstanceExists { .. }) => Ok(false),
///         Err(error) => Err(error),
///     }
/// }
/// ```
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum HubError {
    /// The instance does not exist.
    #[error("{}", Refusal::InstanceNotFound { instance: id.clone() })]
    InstanceNotFound {
        /// The id that was given.
        id: InstanceId,
    },
    /// There is an instance with the id, and it may not be replaced.
    #[error("{}", Refusal::InstanceExists { instance: id.clone(), status: *status })]
    InstanceExists {
        /// Its id.
        id: InstanceId,
        /// Its status.
        status: RuntimeStatus,
    },
    /// The instance has ended, so nothing can happen to it any more.
    #[error("{}", Refusal::InstanceNotLive { instance: id.clone(), status: *status })]
    InstanceNotLive {
        /// Its id.
        id: InstanceId,
        /// Its status.
        status: RuntimeStatus,
    },
    /// The instance has not ended, so it cannot be purged.
    #[error("{}", Refusal::InstanceLive { instance: id.clone(), status: *status })]
    InstanceLive {
        /// Its id.
        id: InstanceId,
        /// Its status.
        status: RuntimeStatus,
    },
    /// The idempotency key stands for another request.
    #[error("{}", Refusal::IdempotencyConflict { key: key.clone(), instance: id.clone(), used: used.clone() })]
    IdempotencyConflict {
        /// The key.
        key: IdempotencyKey,
        /// The instance it was used for.
        id: InstanceId,
        /// What for, for people.
        used: String,
    },
    /// A payload is larger than payloads may be.
    #[error("{}", Refusal::PayloadTooLarge { what, bytes: *bytes, bytes_max: *bytes_max })]
    PayloadTooLarge {
        /// What it is the payload of.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size.
        bytes_max: usize,
    },
    /// The instance has so many unread messages that it takes no more until it reads some.
    #[error("{}", Refusal::InboxFull { instance: id.clone(), messages: *messages, bytes: *bytes })]
    InboxFull {
        /// Its id.
        id: InstanceId,
        /// The messages.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// A name, an id, a key or a payload is not what it may be, as [`HubError::code`] tells.
    #[error(transparent)]
    Invalid(Refusal),
    /// The hub does not exist.
    #[error("{}", StoreError::NoSuchHub { hub: hub.clone() })]
    HubNotFound {
        /// The name that was given.
        hub: HubName,
    },
    /// The hub is stopping or has stopped.
    #[error("{}", EngineError::Stopped)]
    Stopped,
    /// So much waits already that no more is taken for the moment.
    #[error("{}", EngineError::Overloaded { waiting: *waiting })]
    Overloaded {
        /// Requests that wait.
        waiting: usize,
    },
    /// The call was not durable in time; it may take effect or not (R191).
    #[error("{}", EngineError::TimedOut)]
    TimedOut,
    /// The store has no room left; nothing was changed. Ended instances can be purged nevertheless.
    #[error("{}", StoreError::Full)]
    Full,
    /// The store's folder is in use by a process, which may be this one.
    #[error("{}", StoreError::Locked { folder: folder.clone(), pid: *pid })]
    Locked {
        /// The folder.
        folder: String,
        /// The process.
        pid: u32,
    },
    /// Another error of the store, or the hub had to reload from it; the text says whether the call may have taken
    /// effect.
    #[error(transparent)]
    Unavailable(EngineError),
    /// The store cannot be used: it is damaged, of another format, or gone.
    #[error(transparent)]
    Store(StoreError),
    /// Functions cannot be registered so.
    #[error("the functions cannot be registered: {problems}")]
    Registry {
        /// All of them, for people.
        problems: String,
    },
    /// A value cannot be written or read as what it should be.
    #[error("{}", .failure.message)]
    Codec {
        /// What is wrong with it.
        failure: Box<Failure>,
    },
    /// An argument is not what it should be.
    #[error("{what}")]
    Argument {
        /// What is wrong with it.
        what: String,
    },
    /// The hub has no server, so there are no links to its instances.
    #[error("the hub is not served over HTTP, so there are no links to its instances")]
    NotServed,
    /// The signals that end the process cannot be listened to.
    #[cfg(feature = "signal")]
    #[error("cannot install the handlers for termination signals: {0}")]
    Signal(#[source] std::io::Error),
    /// The hub cannot be served.
    #[cfg(feature = "server")]
    #[error(transparent)]
    Server(#[from] taskhub_server::Error),
    /// The instance that was waited for failed.
    #[error("instance `{id}` failed: {failure}")]
    Failed {
        /// Its id.
        id: InstanceId,
        /// Its failure.
        failure: Box<Failure>,
    },
    /// The instance that was waited for was terminated.
    #[error("instance `{id}` was terminated{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Terminated {
        /// Its id.
        id: InstanceId,
        /// Why, if it was said.
        reason: Option<String>,
    },
}

impl HubError {
    /// The stable word of the condition (A10); each has a page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InstanceNotFound { .. } => "instance-not-found",
            Self::InstanceExists { .. } => "instance-exists",
            Self::InstanceNotLive { .. } => "instance-not-live",
            Self::InstanceLive { .. } => "instance-live",
            Self::IdempotencyConflict { .. } => "idempotency-conflict",
            Self::PayloadTooLarge { .. } => "payload-too-large",
            Self::InboxFull { .. } => "inbox-full",
            Self::HubNotFound { .. } => "hub-not-found",
            Self::Stopped => "hub-stopped",
            Self::Overloaded { .. } => "overloaded",
            Self::TimedOut => "timed-out",
            Self::Full => "store-full",
            Self::Locked { .. } => "store-locked",
            Self::Invalid(refusal) => refusal.code(),
            Self::Unavailable(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Registry { .. } | Self::Codec { .. } | Self::Argument { .. } => "invalid-argument",
            Self::NotServed => "not-served",
            #[cfg(feature = "signal")]
            Self::Signal(_) => "signal-unavailable",
            #[cfg(feature = "server")]
            Self::Server(error) => error.code(),
            Self::Failed { .. } => "instance-failed",
            Self::Terminated { .. } => "instance-terminated",
        }
    }
}

impl From<Refusal> for HubError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InstanceNotFound { instance: id } => Self::InstanceNotFound { id },
            Refusal::InstanceExists { instance: id, status } => Self::InstanceExists { id, status },
            Refusal::InstanceNotLive { instance: id, status } => Self::InstanceNotLive { id, status },
            Refusal::InstanceLive { instance: id, status } => Self::InstanceLive { id, status },
            Refusal::IdempotencyConflict {
                key,
                instance: id,
                used,
            } => Self::IdempotencyConflict { key, id, used },
            Refusal::PayloadTooLarge { what, bytes, bytes_max } => Self::PayloadTooLarge { what, bytes, bytes_max },
            Refusal::InboxFull {
                instance: id,
                messages,
                bytes,
            } => Self::InboxFull { id, messages, bytes },
            refusal => Self::Invalid(refusal),
        }
    }
}

impl From<EngineError> for HubError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Store(StoreError::Full) => Self::Full,
            EngineError::Store(StoreError::NoSuchHub { hub }) => Self::HubNotFound { hub },
            EngineError::Stopped => Self::Stopped,
            EngineError::TimedOut => Self::TimedOut,
            EngineError::Overloaded { waiting } => Self::Overloaded { waiting },
            error => Self::Unavailable(error),
        }
    }
}

impl From<StoreError> for HubError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::NoSuchHub { hub } => Self::HubNotFound { hub },
            StoreError::Locked { folder, pid } => Self::Locked { folder, pid },
            error => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_flat_error_keeps_code_and_text_of_what_it_was_made_from() {
        let id = InstanceId::new("one").unwrap();
        let status = RuntimeStatus::Running;
        let refusals = || {
            [
                Refusal::InstanceNotFound { instance: id.clone() },
                Refusal::InstanceExists {
                    instance: id.clone(),
                    status,
                },
                Refusal::InstanceNotLive {
                    instance: id.clone(),
                    status,
                },
                Refusal::InstanceLive {
                    instance: id.clone(),
                    status,
                },
                Refusal::IdempotencyConflict {
                    key: IdempotencyKey::new("k").unwrap(),
                    instance: id.clone(),
                    used: "for a start".to_owned(),
                },
                Refusal::PayloadTooLarge {
                    what: "input",
                    bytes: 2,
                    bytes_max: 1,
                },
                Refusal::InboxFull {
                    instance: id.clone(),
                    messages: 1,
                    bytes: 2,
                },
                Refusal::InvalidName { given: String::new() },
            ]
        };
        for refusal in refusals() {
            let (code, text) = (refusal.code(), refusal.to_string());
            for error in [HubError::from(refusal.clone()), EngineError::from(refusal).into()] {
                assert_eq!((error.code(), error.to_string()), (code, text.clone()));
                assert_eq!(matches!(error, HubError::Invalid(_)), code == "invalid-name");
            }
        }
        let busy = EngineError::Overloaded { waiting: 3 };
        for error in [
            EngineError::Stopped,
            EngineError::TimedOut,
            busy,
            EngineError::Displaced,
        ] {
            let (code, text) = (error.code(), error.to_string());
            let error = HubError::from(error);
            assert_eq!((error.code(), error.to_string()), (code, text));
            assert_eq!(matches!(error, HubError::Unavailable(_)), code == "store-unavailable");
        }
        let hub = HubName::new("Orders").unwrap();
        let locked = StoreError::Locked {
            folder: "f".to_owned(),
            pid: 1,
        };
        for error in [StoreError::Full, StoreError::NoSuchHub { hub }, locked] {
            let (code, text) = (error.code(), error.to_string());
            let error = HubError::from(error);
            assert_eq!((error.code(), error.to_string()), (code, text));
            assert!(!matches!(error, HubError::Store(_)));
        }
    }

    #[test]
    fn the_cause_of_a_failed_store_stays_its_source() {
        let source = std::io::Error::other("the disk is gone").into();
        let error = HubError::from(EngineError::Store(StoreError::Unavailable { source }));
        assert!(matches!(error, HubError::Unavailable(_)));
        let cause = error.source().and_then(std::error::Error::source);
        assert_eq!(cause.unwrap().to_string(), "the disk is gone");
    }
}
