//! Failure of user code, as data: a value in history. It is a Rust error only as the cause of one.

use std::collections::BTreeMap;
use std::fmt;

/// Error type of an answer that cannot be applied (R36).
pub const INVALID_RESPONSE: &str = "InvalidOrchestratorResponse";
/// Error type of a payload above the limit (R170).
pub const PAYLOAD_TOO_LARGE: &str = "PayloadTooLarge";
/// Error type of a payload that is nested too deep (H16).
pub const PAYLOAD_TOO_DEEP: &str = "PayloadTooDeep";
/// Error type a parent sees when its child's id is live (R71).
pub const ALREADY_EXISTS: &str = "OrchestrationAlreadyExists";
/// Error type a parent sees when its child was terminated (R69).
pub const TERMINATED: &str = "OrchestrationTerminated";
/// Error type of an activity whose every delivery was lost (R184).
pub const POISON: &str = "PoisonMessage";
/// Error type of code that takes another path on replay (R40).
pub const NON_DETERMINISM: &str = "NonDeterministicOrchestrationError";

/// What went wrong in user code (protocol `TaskFailureDetails`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Name of the error's type, as the language of the code calls it.
    pub error_type: String,
    /// Text for people.
    pub message: String,
    /// Stack trace, if the language gives one.
    pub stack_trace: Option<String>,
    /// The cause.
    pub inner: Option<Box<Failure>>,
    /// Whether retry policies must not try again.
    pub non_retriable: bool,
    /// Free-form members, forwarded unchanged; values are encoded protobuf `Value` messages.
    pub properties: BTreeMap<String, Vec<u8>>,
}

impl Failure {
    /// A failure of a type with a message.
    pub fn new(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// The same, marked so that no policy retries it.
    #[must_use]
    pub fn non_retriable(mut self) -> Self {
        self.non_retriable = true;
        self
    }

    /// The same with a cause.
    #[must_use]
    pub fn caused_by(mut self, inner: Failure) -> Self {
        self.inner = Some(Box::new(inner));
        self
    }

    /// All of it as one text for people: what it is, what caused it, and where it happened.
    pub fn long_text(&self) -> String {
        let mut long = self.to_string();
        let mut inner = self.inner.as_deref();
        while let Some(cause) = inner {
            long = format!("{long}\n ---> {cause}");
            inner = cause.inner.as_deref();
        }
        match &self.stack_trace {
            Some(stack) => format!("{long}\n{stack}"),
            None => long,
        }
    }

    /// Bytes of text it holds, for limits and budgets.
    pub fn size(&self) -> usize {
        let properties: usize = self.properties.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.error_type.len()
            + self.message.len()
            + self.stack_trace.as_ref().map_or(0, String::len)
            + self.inner.as_ref().map_or(0, |inner| inner.size())
            + properties
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.as_deref().map(|inner| inner as _)
    }
}

impl fmt::Display for Failure {
    /// `ErrorType: message`, the text that becomes an instance's output (R9).
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.error_type, self.message)
    }
}
