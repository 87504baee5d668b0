//! Why a command ended without its answer: exit code, message and hints (L35, L37).

use taskhub_core::refusal::Refusal;
use taskhub_engine::{Error as HubError, chain};
use taskhub_store::Error as StoreError;

/// Exit codes (L37); those of single commands are where they arise.
pub(crate) mod exit {
    /// Refused or failed.
    pub(crate) const FAILED: u8 = 1;
    /// The command line is not understood.
    pub(crate) const USAGE: u8 = 2;
    /// Server unreachable, store locked or broken.
    pub(crate) const UNAVAILABLE: u8 = 3;
    /// No such instance or hub.
    pub(crate) const NOT_FOUND: u8 = 4;
    /// Instance exists, precondition gone.
    pub(crate) const CONFLICT: u8 = 5;
    /// Not authenticated or not allowed.
    pub(crate) const NOT_ALLOWED: u8 = 6;
    /// Ctrl-C.
    pub(crate) const INTERRUPTED: u8 = 130;
    /// Asked to end.
    pub(crate) const TERMINATED: u8 = 143;
    /// The reader of the output is gone.
    pub(crate) const BROKEN_PIPE: u8 = 141;
}

/// The end of a command that gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Exit code of the process.
    pub(crate) exit: u8,
    /// Stable word of the condition (A10).
    pub(crate) code: &'static str,
    /// The message; empty if the answer already contains it.
    pub(crate) message: String,
    /// Whether the message is one of Core Tools, which stands alone on its line (L35).
    pub(crate) is_plain: bool,
    /// Text before the hints: the usage line of L13.
    pub(crate) usage: Option<String>,
    /// What helps; at most two.
    pub(crate) hints: Vec<String>,
}

/// Result of a command and its parts.
pub(crate) type Result<T> = std::result::Result<T, Stop>;

impl Stop {
    /// An error of ours, said as `error[code]: message`.
    pub(crate) fn error(exit: u8, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code,
            message: message.into(),
            is_plain: false,
            usage: None,
            hints: Vec::new(),
        }
    }

    /// An error with a text of Core Tools.
    pub(crate) fn plain(exit: u8, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_plain: true,
            ..Self::error(exit, code, message)
        }
    }

    /// A command line that is not understood (L13).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::error(exit::USAGE, "usage", message)
    }

    /// A part of the documents that this version does not have.
    pub(crate) fn not_yet(what: &str) -> Self {
        let message = format!("{what} is not available yet");
        Self::error(exit::USAGE, "not-available-yet", message)
    }

    /// Settings that cannot be used (L22, L25).
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::plain(exit::FAILED, "configuration", message)
    }

    /// The end of a command that has said all in its answer.
    pub(crate) fn silent(exit: u8) -> Self {
        Self::error(exit, "", "")
    }

    /// The same with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What a store says.
    pub(crate) fn from_store(attempt: &str, error: &StoreError) -> Self {
        let message = format!("{attempt}: {}", chain(error));
        let exit = match error {
            StoreError::NoSuchHub { .. } => exit::NOT_FOUND,
            StoreError::HubExists { .. } => exit::CONFLICT,
            _ => exit::UNAVAILABLE,
        };
        let code = error.code();
        Self::error(exit, code, message).hint(format!("`taskhub errors {code}` tells more"))
    }

    /// What a hub says.
    pub(crate) fn from_hub(attempt: &str, error: &HubError) -> Self {
        match error {
            HubError::Refused(refusal) => refusal.into(),
            HubError::Store(error) => Self::from_store(attempt, error),
            other => Self::error(exit::UNAVAILABLE, other.code(), format!("{attempt}: {other}")),
        }
    }
}

impl From<&Refusal> for Stop {
    fn from(refusal: &Refusal) -> Self {
        let (exit, code) = match refusal {
            Refusal::InstanceNotFound { .. } => (exit::NOT_FOUND, refusal.code()),
            Refusal::InstanceExists { .. } | Refusal::IdempotencyConflict { .. } => (exit::CONFLICT, refusal.code()),
            Refusal::InvalidInstanceId { .. } => (exit::USAGE, "bad-instance-id"),
            Refusal::InvalidHubName { .. } | Refusal::InvalidName { .. } | Refusal::InvalidIdempotencyKey { .. } => {
                (exit::USAGE, refusal.code())
            }
            _ => (exit::FAILED, refusal.code()),
        };
        Self::error(exit, code, refusal.to_string())
    }
}

impl From<std::io::Error> for Stop {
    /// An error of our own streams: the reader closed them because it has read enough, which is not a failure (L36).
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::silent(exit::BROKEN_PIPE)
        } else {
            Self::error(
                exit::FAILED,
                "output-failed",
                format!("cannot write the output: {error}"),
            )
        }
    }
}
