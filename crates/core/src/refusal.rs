//! The reasons core says no to a caller. Each has a stable word with a page in `docs/errors/`.

use thiserror::Error;

use crate::id::{IdempotencyKey, InstanceId};
use crate::limits;
use crate::runtime_status::RuntimeStatus;

/// A request that was refused; nothing changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant's message says what it means; members are the data in it"
)]
pub enum Refusal {
    #[error("no instance `{instance}` exists")]
    InstanceNotFound { instance: InstanceId },
    #[error("cannot start `{instance}`: it already exists and is {status}")]
    InstanceExists {
        instance: InstanceId,
        status: RuntimeStatus,
    },
    #[error("instance `{instance}` has ended: it is {status}")]
    InstanceNotLive {
        instance: InstanceId,
        status: RuntimeStatus,
    },
    #[error("cannot purge `{instance}`: it is {status}, and only ended instances are purged")]
    InstanceLive {
        instance: InstanceId,
        status: RuntimeStatus,
    },
    #[error("invalid instance id `{given}`: {why}")]
    InvalidInstanceId { given: String, why: &'static str },
    #[error("invalid hub name `{given}`: expected 3 to 50 ASCII letters and digits, starting with a letter")]
    InvalidHubName { given: String },
    #[error("invalid name `{given}`: expected 1 to 1024 characters and no control characters")]
    InvalidName { given: String },
    #[error("an idempotency key has 1 to 256 characters, and this one has {chars}: `{given}`")]
    InvalidIdempotencyKey { given: String, chars: usize },
    #[error(
        "the idempotency key `{key}` of instance `{instance}` was used {used}: a key stands for one request, so another \
         request needs another key"
    )]
    IdempotencyConflict {
        key: IdempotencyKey,
        instance: InstanceId,
        used: String,
    },
    #[error("the {what} has {bytes} bytes, and at most {bytes_max} are accepted")]
    PayloadTooLarge {
        what: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
    #[error(
        "{what} is nested {levels} levels deep, and at most {} are accepted",
        limits::PAYLOAD_LEVELS_MAX
    )]
    PayloadTooDeep { what: String, levels: usize },
    #[error(
        "instance `{instance}` has {messages} unread messages of {bytes} bytes and takes no more until it reads some: at \
         most {} messages of {} bytes may wait",
        limits::INBOX_MESSAGES_MAX,
        limits::INBOX_BYTES_MAX
    )]
    InboxFull {
        instance: InstanceId,
        messages: usize,
        bytes: usize,
    },
    #[error("the answer carries an old token: the work was handed out again or is no longer wanted")]
    StaleAnswer,
}

impl Refusal {
    /// The stable word of the condition, the same on every surface (A10).
    pub fn code(&self) -> &'static str {
        match self {
            Self::InstanceNotFound { .. } => "instance-not-found",
            Self::InstanceExists { .. } => "instance-exists",
            Self::InstanceNotLive { .. } => "instance-not-live",
            Self::InstanceLive { .. } => "instance-live",
            Self::InvalidInstanceId { .. } => "invalid-instance-id",
            Self::InvalidHubName { .. } => "invalid-hub-name",
            Self::InvalidName { .. } => "invalid-name",
            Self::InvalidIdempotencyKey { .. } => "invalid-idempotency-key",
            Self::IdempotencyConflict { .. } => "idempotency-conflict",
            Self::PayloadTooLarge { .. } => "payload-too-large",
            Self::PayloadTooDeep { .. } => "payload-too-deep",
            Self::InboxFull { .. } => "inbox-full",
            Self::StaleAnswer => "stale-answer",
        }
    }
}
