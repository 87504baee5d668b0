//! Errors of user code: what orchestrators and activities return, and what a failed call gives back.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

pub use taskhub_core::failure::Failure;

/// Error type of an input, result or payload that is not what the code expects.
pub const DESERIALIZATION: &str = "DeserializationError";
/// Error type of a value that cannot be written as JSON.
pub const SERIALIZATION: &str = "SerializationError";
/// Error type of a call by a name that no name can be.
pub const INVALID_NAME: &str = "InvalidName";
/// Error type of a call with an option that does not go with it.
pub const INVALID_OPTION: &str = "InvalidOption";
/// Error type an orchestration fails with that did not handle the failure of a call (R57).
pub const TASK_FAILED: &str = "TaskFailed";
/// Error type of a panic in an activity (A38).
pub const PANIC: &str = "Panic";
/// Error type of an activity that took too long (R59).
pub const ACTIVITY_TIMEOUT: &str = "ActivityTimeout";
/// Error type of a call of an activity that is not registered (R58).
pub const ACTIVITY_NOT_REGISTERED: &str = "ActivityNotRegisteredError";
/// Error type of an instance whose orchestrator is not registered (R166).
pub const ORCHESTRATOR_NOT_REGISTERED: &str = "OrchestratorNotRegisteredError";
/// Error type of an orchestrator that awaits something its context did not make (R44, A37).
pub const FOREIGN_AWAIT: &str = "ForeignAwaitError";

/// Result of user code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of an orchestrator or activity, ready to become a [`Failure`] in a history.
///
/// The `?` operator makes it from any error of the standard kind, keeping the type's name, the
/// message and the chain of causes; [`Error::from_boxed`] does so for boxed and dynamic ones. For the
/// `?` to work it is no [`std::error::Error`] itself, but it can be turned into a boxed one.
///
/// ```
/// use taskhub::{Error, Result};
///
/// fn parse(text: &str) -> Result<u32> {
///     if text.is_empty() {
///         return Err(Error::new("EmptyText", "there is nothing to read").non_retriable());
///     }
///     Ok(text.parse()?)
/// }
///
/// assert_eq!(parse("").unwrap_err().error_type(), "EmptyText");
/// assert_eq!(parse("x").unwrap_err().message(), "invalid digit found in string");
/// ```
#[derive(Clone)]
pub struct Error {
    failure: Box<Failure>,
    ends_execution: bool,
}

impl Error {
    /// An error of a type of the caller's choice, which handlers and retry policies can tell by it.
    pub fn new(error_type: &str, message: impl Into<String>) -> Self {
        Self::from_failure(Failure::new(error_type, message))
    }

    /// An error from a failure, for instance one that is passed on.
    pub fn from_failure(failure: Failure) -> Self {
        Self {
            failure: Box::new(failure),
            ends_execution: false,
        }
    }

    /// An error without a type of its own.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self::new("Error", message.to_string())
    }

    /// The same, marked so that no policy retries it.
    #[must_use]
    pub fn non_retriable(mut self) -> Self {
        self.failure.non_retriable = true;
        self
    }

    /// The same with a cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Error>) -> Self {
        self.failure.inner = Some(cause.into().failure);
        self
    }

    /// From an error that comes boxed, or from a type such as `anyhow::Error` that turns into one.
    pub fn from_boxed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::of_boxed(error.into(), "Error")
    }

    /// Name of the error's type.
    pub fn error_type(&self) -> &str {
        &self.failure.error_type
    }

    /// Text for people.
    pub fn message(&self) -> &str {
        &self.failure.message
    }

    /// The cause, if it is known.
    pub fn inner(&self) -> Option<&Failure> {
        self.failure.inner.as_deref()
    }

    /// Whether retry policies must not try again.
    pub fn is_non_retriable(&self) -> bool {
        self.failure.non_retriable
    }

    /// All of it, as it goes into the history.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// What an orchestrator returns to end the execution after a continue-as-new; no failure.
    pub(crate) fn continued() -> Self {
        Self {
            failure: Box::new(Failure::new("ContinuedAsNew", "the execution continues as new")),
            ends_execution: true,
        }
    }

    pub(crate) fn is_continued(&self) -> bool {
        self.ends_execution
    }

    pub(crate) fn into_failure(self) -> Failure {
        *self.failure
    }

    /// The error a function of any kind returned, named after `E` where that says something.
    pub(crate) fn of<E: Into<Box<dyn StdError + Send + Sync>>>(error: E) -> Self {
        let name = std::any::type_name::<E>();
        let is_dynamic =
            name.contains("dyn ") || name.contains("anyhow") || name.contains("::String") || name == "&str";
        Self::of_boxed(error.into(), if is_dynamic { "Error" } else { name })
    }

    fn of_boxed(error: Box<dyn StdError + Send + Sync>, error_type: &str) -> Self {
        match error.downcast::<Boxed>() {
            Ok(ours) => ours.0,
            Err(error) => Self::of_std(error.as_ref(), error_type),
        }
    }

    fn of_std(error: &(dyn StdError + 'static), error_type: &str) -> Self {
        if let Some(ours) = error.downcast_ref::<Boxed>() {
            return ours.0.clone();
        }
        if let Some(failed) = error.downcast_ref::<TaskFailed>() {
            return Self::from_failure(failed.to_failure());
        }
        let mut failure = Failure::new(error_type, error.to_string());
        if let Some(source) = error.source() {
            let inner = Self::of_std(source, "Error").failure;
            failure.non_retriable = inner.non_retriable;
            failure.inner = Some(inner);
        }
        Self::from_failure(failure)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self::of_std(&error, std::any::type_name::<E>())
    }
}

impl From<Error> for Box<dyn StdError + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(Boxed(error))
    }
}

impl From<Error> for Box<dyn StdError> {
    fn from(error: Error) -> Self {
        Box::new(Boxed(error))
    }
}

impl fmt::Display for Error {
    /// The text for people; the type is [`Error::error_type`].
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.failure.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.failure)?;
        let mut cause = self.inner();
        while let Some(failure) = cause {
            write!(out, "\n  caused by {failure}")?;
            cause = failure.inner.as_deref();
        }
        Ok(())
    }
}

/// An [`Error`] on its way through a boxed one.
struct Boxed(Error);

impl fmt::Display for Boxed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl StdError for Boxed {}

/// What an orchestrator waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// An activity.
    Activity,
    /// A sub-orchestration.
    SubOrchestration,
    /// An external event.
    Event,
}

impl fmt::Display for Awaited {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Activity => "activity",
            Self::SubOrchestration => "sub-orchestration",
            Self::Event => "event",
        })
    }
}

/// A call that an orchestrator awaited has failed, with the failure as it happened there (R57).
///
/// ```
/// # use taskhub::{OrchestrationContext, Result};
/// async fn pay(ctx: OrchestrationContext, order: String) -> Result<String> {
///     match ctx.call_activity::<String>("Charge", &order).await {
///         Err(failed) if failed.error_type() == "CardDeclined" => Ok("declined".to_owned()),
///         receipt => Ok(receipt?),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct TaskFailed(Box<FailedCall>);

#[derive(Clone)]
struct FailedCall {
    awaited: Awaited,
    name: String,
    failure: Failure,
}

impl TaskFailed {
    pub(crate) fn new(awaited: Awaited, name: &str, failure: Failure) -> Self {
        Self(Box::new(FailedCall {
            awaited,
            name: name.to_owned(),
            failure,
        }))
    }

    /// What was awaited.
    pub fn awaited(&self) -> Awaited {
        self.0.awaited
    }

    /// Name of the activity, orchestrator or event.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Name of the error's type.
    pub fn error_type(&self) -> &str {
        &self.0.failure.error_type
    }

    /// Text for people.
    pub fn message(&self) -> &str {
        &self.0.failure.message
    }

    /// The cause, if it is known.
    pub fn inner(&self) -> Option<&Failure> {
        self.0.failure.inner.as_deref()
    }

    /// Whether retry policies must not try again.
    pub fn is_non_retriable(&self) -> bool {
        self.0.failure.non_retriable
    }

    /// All of it.
    pub fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// The failure of an orchestration that did not handle this one. The mark that forbids retries
    /// stays on: whoever repeats the whole repeats the part too.
    fn to_failure(&self) -> Failure {
        Failure {
            non_retriable: self.is_non_retriable(),
            ..Failure::new(TASK_FAILED, self.to_string()).caused_by(self.0.failure.clone())
        }
    }
}

impl fmt::Display for TaskFailed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} `{}` failed: {}", self.awaited(), self.name(), self.failure())
    }
}

impl fmt::Debug for TaskFailed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl StdError for TaskFailed {}

/// The message of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_standard_error_keeps_its_type_message_and_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the number")]
        struct Unreadable(#[source] std::num::ParseIntError);

        let error = Error::from(Unreadable("x".parse::<u8>().unwrap_err()));
        assert!(error.error_type().ends_with("Unreadable"), "{}", error.error_type());
        assert_eq!(error.message(), "cannot read the number");
        assert_eq!(error.inner().unwrap().message, "invalid digit found in string");
    }

    #[test]
    fn an_error_survives_the_way_through_a_box() {
        let boxed: Box<dyn StdError + Send + Sync> = Error::new("Declined", "no funds").non_retriable().into();
        let error = Error::from_boxed(boxed);
        assert_eq!((error.error_type(), error.is_non_retriable()), ("Declined", true));
        assert_eq!(Error::from_boxed("plain text").error_type(), "Error");
        assert_eq!(Error::of("plain text").error_type(), "Error");
    }

    #[test]
    fn an_unhandled_failure_is_kept_as_the_cause() {
        let failed = TaskFailed::new(
            Awaited::Activity,
            "Charge",
            Failure::new("Declined", "no funds").non_retriable(),
        );
        let error = Error::from(failed);
        assert_eq!(error.error_type(), TASK_FAILED);
        assert_eq!(error.message(), "activity `Charge` failed: Declined: no funds");
        assert_eq!(error.inner().unwrap().error_type, "Declined");
        assert!(error.is_non_retriable());
    }
}
