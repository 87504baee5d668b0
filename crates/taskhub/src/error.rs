//! Errors of user code: what orchestrators and activities return, and what a failed call gives back.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;

pub use taskhub_core::failure::Failure;
use taskhub_core::limits;

use crate::reveal;

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

/// Error type of an error whose type is not known.
const UNTYPED: &str = "Error";

/// Result of user code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of an orchestrator or activity, ready to become a [`Failure`] in a history.
///
/// The `?` operator makes it from any error: of the standard kind, boxed, a text, or one of `anyhow`. The type's name,
/// the message and the chain of causes are kept. It is an error of the standard kind itself, so `?` turns it into the
/// errors of others too; when it comes back from a box, from `anyhow` or from an enum that passes on what it says, it is
/// what it was. One thing `?` cannot do: turn an error that holds one of ours by value ([`Error::other`] does).
///
/// ```
/// use taskhub::{Error, Result};
///
/// fn parse(text: &str) -> Result<u32> {
///     if text.is_empty() {
///         return Err(Error::new("EmptyText", "the value is missing").non_retriable());
///     }
///     Ok(text.parse()?)
/// }
///
/// fn add(one: &str, other: &str) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Ok(parse(one)? + parse(other)?)
/// }
///
/// assert_eq!(parse("").unwrap_err().error_type(), "EmptyText");
/// assert_eq!(parse("x").unwrap_err().message(), "invalid digit found in string");
/// assert_eq!(Error::from(add("1", "").unwrap_err()).error_type(), "EmptyText");
/// ```
#[derive(Clone)]
pub struct Error {
    failure: Box<Failure>,
    ends_execution: bool,
    _ours: Ours<AnErrorThatHoldsOursByValue>,
}

/// Distinguishes [`Error`] from all other error types. `Error` implements the standard error trait and can also be made
/// from every standard error; without this distinction, the two would conflict with `impl From<T> for T`. All other
/// errors are `Unpin` unless they contain an `Error` by value. The names of these types appear in the compiler's
/// message for an error that cannot be converted.
#[derive(Clone, Copy)]
struct Ours<T>(PhantomData<T>);

#[derive(Clone, Copy)]
enum AnErrorThatHoldsOursByValue {}

/// Which nothing is.
#[diagnostic::on_unimplemented(
    message = "an error that holds a `taskhub::Error` by value does not become one by `?` or `from`",
    note = "say `.map_err(taskhub::Error::other)?`, or let it hold a `Box<taskhub::Error>`"
)]
trait TurnedByErrorOtherAlone {}

impl<T: TurnedByErrorOtherAlone> Unpin for Ours<T> {}

/// Text of [`Error::continued`].
const CONTINUED: &str = "the execution continues as new";

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
            _ours: Ours(PhantomData),
        }
    }

    /// An error without a type of its own.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self::new(UNTYPED, message.to_string())
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

    /// From an error of any kind, as `?` does. For those that `?` does not turn: errors that hold one of ours by value.
    pub fn other(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::of(error)
    }

    /// From an error that is only known as one, for instance that in a `Box<dyn Error>` which is not `Send`. Where `?`
    /// works it says more, as it knows the type's name.
    pub fn from_dyn(error: &(dyn StdError + 'static)) -> Self {
        Self::of_std(error, UNTYPED)
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
            ends_execution: true,
            ..Self::new("ContinuedAsNew", CONTINUED)
        }
    }

    pub(crate) fn is_continued(&self) -> bool {
        self.ends_execution
    }

    pub(crate) fn into_failure(self) -> Failure {
        *self.failure
    }

    /// The error that a user function returned; its type is the name of `E` if that is meaningful.
    pub(crate) fn of<E: Into<Box<dyn StdError + Send + Sync>>>(error: E) -> Self {
        let name = type_name::<E>();
        let texts = [
            type_name::<&str>(),
            type_name::<String>(),
            type_name::<Cow<'static, str>>(),
        ];
        let says_nothing =
            name.contains("dyn ") || ["anyhow::Error", "eyre::Report"].contains(&name) || texts.contains(&name);
        match error.into().downcast::<Self>() {
            Ok(ours) => *ours,
            Err(error) => Self::of_std(error.as_ref(), if says_nothing { UNTYPED } else { name }),
        }
    }

    /// Takes the causes as far as they go, or as far as a history takes them.
    fn of_std(error: &(dyn StdError + 'static), error_type: &str) -> Self {
        let mut outer: Vec<Failure> = Vec::new();
        let mut next = Some((error, error_type));
        let mut innermost = None;
        while let Some((error, error_type)) = next
            && outer.len() <= limits::FAILURE_CAUSES_MAX + 1
        {
            innermost = Self::known(error);
            if innermost.is_some() {
                break;
            }
            let message = error.to_string();
            let (source, held) = reveal::source_of(error);
            // One that says what ours says is ours by another name.
            if held.as_ref().is_none_or(|held| held.message() != message) {
                outer.push(Failure::new(error_type, message));
            }
            innermost = held;
            next = source.filter(|_| innermost.is_none()).map(|source| (source, UNTYPED));
        }
        // Of one that nothing reveals, the text comes back.
        let is_hidden = outer.iter().any(|failure| failure.message == CONTINUED);
        let ends_execution = is_hidden || innermost.as_ref().is_some_and(Self::is_continued);
        let mut failure = innermost.map(|known| known.failure);
        for mut around in outer.into_iter().rev() {
            around.non_retriable = failure.as_ref().is_some_and(|inner| inner.non_retriable);
            around.inner = failure;
            failure = Some(Box::new(around));
        }
        Self {
            ends_execution,
            ..Self::from_failure(*failure.unwrap_or_default())
        }
    }

    /// The same error, if it is one that we know.
    fn known(error: &(dyn StdError + 'static)) -> Option<Self> {
        if let Some(ours) = error.downcast_ref::<Self>() {
            return Some(ours.clone());
        }
        if let Some(failed) = error.downcast_ref::<TaskFailed>() {
            return Some(failed.to_error());
        }
        let failure = error.downcast_ref::<Failure>()?;
        Some(Self::from_failure(failure.clone()))
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>> + Unpin> From<E> for Error {
    fn from(error: E) -> Self {
        Self::of(error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        reveal::answer(|| self.clone());
        self.inner().map(|inner| inner as _)
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

/// What an orchestrator waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
///     match ctx.call_activity::<String, _>("Charge", &order).await {
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
    /// Attempts of the retry policy, if it had one.
    attempts: Option<u32>,
}

impl TaskFailed {
    pub(crate) fn new(awaited: Awaited, name: &str, failure: Failure) -> Self {
        Self(Box::new(FailedCall {
            awaited,
            name: name.to_owned(),
            failure,
            attempts: None,
        }))
    }

    /// The same at the end of a retry policy that made so many attempts.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        self.0.attempts = Some(attempts);
        self
    }

    /// What was awaited.
    pub fn awaited(&self) -> Awaited {
        self.0.awaited
    }

    /// How many attempts were made: that of the call itself, and those of its retry policy. The failure is that of the
    /// last one.
    pub fn attempts(&self) -> u32 {
        self.0.attempts.unwrap_or(1)
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

    /// The error of an orchestration that did not handle this one. It keeps the `non_retriable` mark, because retrying
    /// the orchestration would repeat the failed call too.
    fn to_error(&self) -> Error {
        Error::from_failure(Failure {
            non_retriable: self.is_non_retriable(),
            ..Failure::new(TASK_FAILED, self.to_string()).caused_by(self.0.failure.clone())
        })
    }
}

impl fmt::Display for TaskFailed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} `{}` failed", self.awaited(), self.name())?;
        match self.0.attempts {
            None => {}
            Some(1) => out.write_str(" after 1 attempt")?,
            Some(attempts) => write!(out, " after {attempts} attempts")?,
        }
        write!(out, ": {}", self.failure())
    }
}

impl fmt::Debug for TaskFailed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl StdError for TaskFailed {
    /// The cause of the failure, as the text tells the failure itself.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        reveal::answer(|| self.to_error());
        self.inner().map(|inner| inner as _)
    }
}

/// The message of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the panic has no message".to_owned())
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
