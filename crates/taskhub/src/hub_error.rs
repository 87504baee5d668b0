//! What a caller of a hub can be told besides an answer. Errors of user code are in `error`.

use taskhub_core::failure::Failure;
use taskhub_core::id::InstanceId;
use taskhub_core::refusal::Refusal;
use taskhub_engine::Error as EngineError;
use taskhub_store::Error as StoreError;
use thiserror::Error as ThisError;

/// Why a call to a hub gave no answer, or an instance no result.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum HubError {
    /// The hub refused or could not do it.
    #[error(transparent)]
    Hub(#[from] EngineError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// No server is in front of the hub, so there are no links to its instances.
    #[error("the hub is not served over HTTP, so there are no links to its instances")]
    NotServed,
    /// The signals that end the process cannot be listened to.
    #[cfg(feature = "signal")]
    #[error("cannot listen to the signals that end the process: {0}")]
    Signal(#[source] std::io::Error),
    /// The instance that was waited for failed.
    #[error("instance `{instance}` failed: {failure}")]
    Failed {
        /// The instance.
        instance: InstanceId,
        /// Its failure.
        failure: Box<Failure>,
    },
    /// The instance that was waited for was terminated.
    #[error("instance `{instance}` was terminated{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Terminated {
        /// The instance.
        instance: InstanceId,
        /// Why, if it was said.
        reason: Option<String>,
    },
}

impl HubError {
    /// The stable word of the condition (A10); each has a page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Hub(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Registry { .. } | Self::Codec { .. } | Self::Argument { .. } => "invalid-argument",
            Self::NotServed => "not-served",
            #[cfg(feature = "signal")]
            Self::Signal(_) => "signal-unavailable",
            Self::Failed { .. } => "instance-failed",
            Self::Terminated { .. } => "instance-terminated",
        }
    }
}

impl From<Refusal> for HubError {
    fn from(refusal: Refusal) -> Self {
        Self::Hub(refusal.into())
    }
}
