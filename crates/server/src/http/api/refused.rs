//! Refusals of our own API: a status, the word of the condition, a message.

use http::StatusCode;
use http::header::RETRY_AFTER;
use taskhub_api::problem;
use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::refusal::Refusal;
use taskhub_engine::{Error as EngineError, chain};
use taskhub_store::{Error as StoreError, Extent};

use super::super::problem::Problem;
use super::super::respond::{self, Response};
use crate::auth::Denied;
use crate::border::Stopped;

/// Name of the store's file, which is the only one that errors name.
const STORE_FILE: &str = "store.db";

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

    /// A body that is not said to be JSON.
    pub(super) fn media_type(given: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid-argument",
            format!("the body has {given}; this API needs the header `Content-Type: application/json`"),
        )
    }

    /// An unknown path or method.
    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "unknown path or method")
    }

    /// A hub that does not exist.
    pub(super) fn no_hub(hub: &HubName) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "hub-not-found",
            format!("hub `{hub}` does not exist"),
        )
    }

    /// An instance that does not exist.
    pub(super) fn no_instance(instance: &InstanceId) -> Self {
        Refusal::InstanceNotFound {
            instance: instance.clone(),
        }
        .into()
    }

    pub(super) fn answer(&self) -> Response {
        let refusal = problem::RefusalBody::new(self.code, &self.message);
        let mut response = respond::json(self.status, &refusal);
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
            "hub-stopped" | "store-unavailable" | "store-lost" | "store-full" => StatusCode::SERVICE_UNAVAILABLE,
            // Not logged here: the writer logs it once.
            _ if is_of_pages(&error) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => {
                tracing::error!(error = %chain(&error), "a request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        match error {
            EngineError::Store(StoreError::Lost { why, .. }) => {
                let message = format!("the files of the store were moved or replaced while in use: {why}");
                Self::new(status, code, message)
            }
            EngineError::Store(StoreError::Locked { .. } | StoreError::Format { .. }) => Self::new(
                status,
                code,
                "cannot open the store; see the server's log for the reason",
            ),
            EngineError::Store(error) => Self::new(status, code, without_folder(&error.to_string())),
            error => Self::new(status, code, without_folder(&error.to_string())),
        }
    }
}

/// Whether a damaged page of the store's file is the matter.
fn is_of_pages(error: &EngineError) -> bool {
    let EngineError::Store(StoreError::Corrupt { extent, .. }) = error else {
        return false;
    };
    *extent == Extent::Pages
}

/// The same text without the path of the store: callers learn the problem, but only the log contains the path.
pub(super) fn without_folder(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(STORE_FILE) {
        let (before, behind) = rest.split_at(at);
        let begins = |at: &usize| {
            let last = before.get(..*at).and_then(|text| text.chars().next_back());
            last.is_none_or(|last| matches!(last, ' ' | '`' | '(' | '\''))
        };
        let begin = before.match_indices('/').map(|(at, _)| at).find(begins);
        out.push_str(begin.and_then(|begin| before.get(..begin)).unwrap_or(before));
        out.push_str(STORE_FILE);
        rest = behind.get(STORE_FILE.len()..).unwrap_or_default();
    }
    out.push_str(rest);
    out
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

impl From<&Stopped> for Refused {
    fn from(stopped: &Stopped) -> Self {
        match stopped {
            Stopped::NoHost { why } => Self::argument(*why),
            Stopped::ForeignHost { host } => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "host-not-allowed",
                format!(
                    "requests without a key may not use the host name `{host}`; to allow it, start the server with \
                    `--allow-host {host}`"
                ),
            ),
            Stopped::ForeignOrigin { origin } => Self::new(
                StatusCode::FORBIDDEN,
                "origin-not-allowed",
                format!(
                    "pages of `{origin}` may not call this server; to allow them, start the server with `--cors \
                    {origin}`"
                ),
            ),
        }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::new(
                StatusCode::UNAUTHORIZED,
                "not-authenticated",
                "this call needs a key, and the request has no valid one",
            ),
            Denied::NotAllowed => Self::new(
                StatusCode::FORBIDDEN,
                "not-allowed",
                "the key of the request does not permit this call",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_tells_where_the_store_is() {
        for (text, told) in [
            (
                "the store is damaged at /srv/a b/store.db: it is empty",
                "the store is damaged at store.db: it is empty",
            ),
            ("at /x/store.db, and /y/z/store.db-wal", "at store.db, and store.db-wal"),
            ("row 1/2/3 of `pending`", "row 1/2/3 of `pending`"),
            ("row 1/2/3 in `/x/store.db`", "row 1/2/3 in `store.db`"),
            ("store.db", "store.db"),
        ] {
            assert_eq!(without_folder(text), told);
        }
    }
}
