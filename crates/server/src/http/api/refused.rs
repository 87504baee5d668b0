//! Refusals of our own API: a status, the word of the condition, a message.

use http::StatusCode;
use http::header::RETRY_AFTER;
use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::refusal::Refusal;
use taskhub_engine::{Error as EngineError, chain};

use super::super::problem::Problem;
use super::super::respond::{self, Response};
use super::shapes::{ErrorBody, ErrorWords};
use crate::auth::Denied;

/// Why a call was not done.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// A value that is not what it should be.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-argument", message)
    }

    /// A path or a method that is none.
    pub(super) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-route",
            "there is no such path or method",
        )
    }

    /// A hub that does not exist.
    pub(super) fn no_hub(hub: &HubName) -> Self {
        Self::new(StatusCode::NOT_FOUND, "hub-not-found", format!("no hub `{hub}` exists"))
    }

    /// An instance that does not exist.
    pub(super) fn no_instance(instance: &InstanceId) -> Self {
        Refusal::InstanceNotFound {
            instance: instance.clone(),
        }
        .into()
    }

    pub(super) fn answer(&self) -> Response {
        let words = ErrorWords {
            code: self.code,
            message: &self.message,
        };
        let mut response = respond::json(self.status, &ErrorBody { error: words });
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status) {
            respond::set(&mut response, RETRY_AFTER, "1");
        }
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        EngineError::from(refusal).into()
    }
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        let code = error.code();
        let status = match code {
            "instance-not-found" | "hub-not-found" => StatusCode::NOT_FOUND,
            "instance-exists" | "instance-not-live" | "instance-live" | "idempotency-conflict" => StatusCode::CONFLICT,
            "payload-too-large" => StatusCode::PAYLOAD_TOO_LARGE,
            "invalid-instance-id"
            | "invalid-hub-name"
            | "invalid-name"
            | "invalid-idempotency-key"
            | "payload-too-deep" => StatusCode::BAD_REQUEST,
            "timed-out" => StatusCode::GATEWAY_TIMEOUT,
            // Too much of something that the callers can do less of (P8).
            "inbox-full" | "overloaded" => StatusCode::TOO_MANY_REQUESTS,
            "hub-stopped" | "store-unavailable" | "store-full" => StatusCode::SERVICE_UNAVAILABLE,
            _ => {
                tracing::error!(error = %chain(&error), "a request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        match error {
            EngineError::Store(error) => Self::new(status, code, error.to_string()),
            error => Self::new(status, code, error.to_string()),
        }
    }
}

/// What reading a body can come to.
impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let (status, code) = match problem.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => (status, "payload-too-large"),
            status @ StatusCode::REQUEST_TIMEOUT => (status, "timed-out"),
            StatusCode::SERVICE_UNAVAILABLE => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            status => (status, "invalid-argument"),
        };
        Self::new(status, code, problem.detail())
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::new(
                StatusCode::UNAUTHORIZED,
                "not-authenticated",
                "a key is needed, and none that opens this was given",
            ),
            Denied::NotAllowed => Self::new(
                StatusCode::FORBIDDEN,
                "not-allowed",
                "the key that was given does not open this",
            ),
        }
    }
}
