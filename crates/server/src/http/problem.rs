//! Error responses: a kind, a sentence and a status (H41). The log and the caller get different texts; the caller's
//! text contains no paths, SQL or addresses.

use std::borrow::Cow;

use http::StatusCode;
use taskhub_core::refusal::Refusal;
use taskhub_engine::{Error as EngineError, chain};
use taskhub_store::{Error as StoreError, Extent};
use uuid::Uuid;

use super::respond::{self, Response};

const ARGUMENT: &str = "System.ArgumentException";
const NOT_IMPLEMENTED: &str = "System.NotImplementedException";
const INVALID_OPERATION: &str = "System.InvalidOperationException";
const TIMEOUT: &str = "System.TimeoutException";
const NOT_JSON: &str = "Newtonsoft.Json.JsonReaderException";
const IN_USE: &str = "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException";

const WRONG: &str = "Something went wrong while processing your request";

/// Seconds after which a caller that was turned away may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The fixed sentence of the kind.
    message: String,
    /// What was wrong here.
    exception: String,
    /// For clients an opaque text; kept so that existing log filters work.
    exception_type: &'static str,
    retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, message: &str, exception: impl Into<String>, exception_type: &'static str) -> Self {
        Self {
            status,
            message: message.to_owned(),
            exception: exception.into(),
            exception_type,
            retry_after: None,
        }
    }

    /// A bad id, hub, name, time or number.
    pub(crate) fn argument(what: impl Into<String>) -> Self {
        let message = "One or more of the arguments submitted is incorrect";
        Self::new(StatusCode::BAD_REQUEST, message, what, ARGUMENT)
    }

    /// The body is not a JSON value.
    pub(crate) fn not_json(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Invalid JSON content", what, NOT_JSON)
    }

    /// A body of another kind.
    pub(crate) fn content_type(given: &str) -> Self {
        let message = "Only application/json request content is supported";
        let what = format!("the content type is `{given}`");
        Self::new(StatusCode::BAD_REQUEST, message, what, ARGUMENT)
    }

    /// A body above the limit (H19).
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let what = format!("at most {bytes_max} bytes are accepted");
        let message = "The payload is larger than the limit.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message, what, ARGUMENT)
    }

    /// A body that does not arrive.
    pub(crate) fn body_timeout() -> Self {
        let what = "the body of the request did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, WRONG, what, TIMEOUT)
    }

    /// What this server cannot do yet.
    pub(crate) fn not_implemented(what: &str) -> Self {
        let message = format!("{what} is not supported by the underlying storage provider.");
        let detail = "this version of the server does not support it";
        Self::new(StatusCode::NOT_IMPLEMENTED, &message, detail, NOT_IMPLEMENTED)
    }

    /// The response to `makeprimary`: there is no lease to move (H95).
    pub(crate) fn no_lease() -> Self {
        let what = "Cannot make current app primary. This app is not using the AppLease feature.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, WRONG, what, INVALID_OPERATION)
    }

    /// Too much at once, or shutting down.
    pub(crate) fn busy(what: impl Into<String>) -> Self {
        let message = "The server cannot take the request now.";
        Self {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message, what, INVALID_OPERATION)
        }
    }

    /// An unexpected error. The log has the details, together with the id that the caller receives.
    fn unexpected(error: &EngineError) -> Self {
        let request = Uuid::new_v4().simple().to_string();
        tracing::error!(request, error = %chain(error), "a request failed");
        let what = format!("the server's log has the details under request {request}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, WRONG, what, "System.Exception")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What was wrong here, for answers of another form.
    pub(crate) fn detail(&self) -> &str {
        &self.exception
    }

    /// The answer.
    pub(crate) fn answer(&self) -> Response {
        let object = taskhub_api::problem::Problem {
            message: Cow::Borrowed(&self.message),
            exception_message: Cow::Borrowed(&self.exception),
            exception_type: Cow::Borrowed(self.exception_type),
            stack_trace: None,
        };
        let mut response = respond::json(self.status, &object);
        if let Some(seconds) = self.retry_after {
            respond::set(&mut response, http::header::RETRY_AFTER, &seconds.to_string());
        }
        response
    }
}

/// What the hub says when it says no. Handlers answer the refusals their operation expects themselves.
impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match &error {
            EngineError::Refused(refusal) => refused(refusal),
            EngineError::TimedOut => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                WRONG,
                "the store did not confirm the request in time; the request may or may not take effect",
                TIMEOUT,
            ),
            EngineError::Unavailable
            | EngineError::Displaced
            | EngineError::Overloaded { .. }
            | EngineError::TooManyHubs { .. }
            | EngineError::Stopped => Self::busy(error.to_string()),
            // Not logged here: the writer logs it once, instead of one line per request (A43).
            EngineError::Store(error @ StoreError::Full) => Self::busy(error.to_string()),
            EngineError::Store(
                StoreError::Fenced { .. }
                | StoreError::Unavailable { .. }
                | StoreError::Unknown { .. }
                | StoreError::Lost { .. }
                | StoreError::NoSuchHub { .. },
            ) => {
                tracing::warn!(error = %chain(&error), "the store could not serve a request");
                Self::busy("the store is temporarily unavailable")
            }
            EngineError::Store(StoreError::Corrupt { what, extent, .. }) => {
                // Not logged here for the whole file: the writer logs it once.
                if *extent == Extent::Rows {
                    tracing::error!(error = %chain(&error), "a request found damage in the store");
                }
                let what = format!("the store is damaged (store-corrupt): {what}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, WRONG, what, "System.Exception")
            }
            _ => Self::unexpected(&error),
        }
    }
}

fn refused(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::InstanceExists { status, .. } => {
            let message = format!("An Orchestration instance with the status {status} already exists.");
            Problem::new(StatusCode::CONFLICT, &message, refusal.to_string(), IN_USE)
        }
        Refusal::IdempotencyConflict { .. } => {
            let message = "The idempotency key was used for another request.";
            Problem::new(StatusCode::CONFLICT, message, refusal.to_string(), INVALID_OPERATION)
        }
        Refusal::PayloadTooLarge { bytes_max, .. } => Problem::too_large(*bytes_max),
        Refusal::PayloadTooDeep { .. } => Problem::not_json(refusal.to_string()),
        Refusal::InboxFull { .. } => Problem::busy(refusal.to_string()),
        // The rest is about arguments; what an operation means by "not found" it says itself.
        _ => Problem::argument(refusal.to_string()),
    }
}
