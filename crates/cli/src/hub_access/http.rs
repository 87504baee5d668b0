//! Calls of a command to a server: their time limits, and the errors if no response arrives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, StatusCode};
use taskhub_api::client::{Authorities, Error, HttpAnswer, HttpClient, HttpRequest};
use taskhub_api::problem::reason;
use taskhub_core::limits;

use crate::files;
use crate::stop::{Result, Stop, exit};

/// How long an answer may take (L57).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer: a page of the largest size, and a payload that is escaped.
const ANSWER_BYTES_MAX: usize = 8 * limits::PAYLOAD_BYTES_MAX;

/// A server, and how messages name it.
#[derive(Debug)]
pub(crate) struct Http {
    who: String,
    client: HttpClient,
}

/// How a command proves who it is, and whom it believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The key of the server.
    pub(crate) key: Option<String>,
    /// File with certificates of authorities that are trusted beside those of the system.
    pub(crate) ca_file: Option<PathBuf>,
}

/// A request without a body, that is given the time of L57.
pub(crate) fn request(method: Method, path: impl Into<String>) -> HttpRequest {
    HttpRequest::new(method, path, ANSWER_TIMEOUT)
}

impl Http {
    /// A server by its URL; nothing is sent yet.
    pub(crate) fn new(url: &str, credentials: &Credentials) -> Result<Self> {
        let who = format!("the server at {url}");
        let is_tls = url.starts_with("https:");
        let ca_file = credentials.ca_file.as_deref().filter(|_| is_tls);
        let authorities = ca_file.map(authorities).transpose()?.unwrap_or_default();
        let client = HttpClient::new(url, &authorities, ANSWER_BYTES_MAX).and_then(|client| match &credentials.key {
            Some(key) => client.with_key(key),
            None => Ok(client),
        });
        match client {
            Ok(client) => Ok(Self { who, client }),
            Err(error @ Error::Url { .. }) => Err(Stop::usage(error.to_string())),
            Err(error) => Err(stop(&who, &error)),
        }
    }

    /// The same, if its process is known, which messages then name.
    pub(crate) fn of_process(mut self, pid: u32) -> Self {
        self.who = format!("{} (process {pid})", self.who);
        self
    }

    /// Whether anybody listens there.
    pub(crate) async fn reach(&self) -> Result<()> {
        self.client.reach().await.map_err(|error| stop(&self.who, &error))
    }

    /// Sends a request and waits for the whole response. Handles the errors that every call can return.
    pub(crate) async fn ask(&self, request: HttpRequest) -> Result<HttpAnswer> {
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| stop(&self.who, &error))?;
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(self.denied("wants a key, or another one", "not-authenticated")),
            StatusCode::FORBIDDEN => Err(self.denied("does not allow this to the key", "not-allowed")),
            _ => Ok(answer),
        }
    }

    fn denied(&self, what: &str, code: &'static str) -> Stop {
        let message = format!("{} {what}", self.who);
        Stop::error(exit::NOT_ALLOWED, code, message).hint("give one with `--key-file FILE` or TASKHUB_KEY")
    }

    /// An answer that no call of ours should get.
    pub(crate) fn unexpected(&self, answer: &HttpAnswer) -> Stop {
        let status = answer.status.as_u16();
        let reason = reason(&answer.body);
        let reason = reason.as_deref().unwrap_or("no reason given");
        let message = format!("{} answered {status}: {reason}", self.who);
        let exit = if answer.status.is_client_error() {
            exit::FAILED
        } else {
            exit::UNAVAILABLE
        };
        Stop::error(exit, "unexpected-answer", message)
    }
}

/// What a command says of a call that got no answer, and what helps.
fn stop(who: &str, error: &Error) -> Stop {
    let (exit, code, message) = match error {
        Error::TimedOut { limit } => {
            let seconds = limit.as_secs();
            let message = format!("{who} did not answer within {seconds} seconds");
            (exit::UNAVAILABLE, "timed-out", message)
        }
        Error::Header { .. } => (exit::FAILED, "configuration", error.to_string()),
        error => (
            exit::UNAVAILABLE,
            "server-unreachable",
            format!("cannot reach {who}: {error}"),
        ),
    };
    let stop = Stop::error(exit, code, message);
    match error {
        Error::Untrusted | Error::NoAuthorities { .. } => {
            stop.hint("name the certificate of the authority that issued it with `--ca-file FILE` or TASKHUB_CA_FILE")
        }
        Error::WrongName { expected, .. } => stop.hint(format!(
            "use a host name of the certificate in the URL, or give the server a certificate for {expected}"
        )),
        Error::NotTls => stop.hint("if it serves plain HTTP, use a URL that begins with http://"),
        Error::NotHttp => stop.hint("if it serves HTTPS, use a URL that begins with https://"),
        _ => stop,
    }
}

/// The authorities in a file.
fn authorities(file: &Path) -> Result<Authorities> {
    let shown = file.display();
    let wrong = |why: &dyn std::fmt::Display| {
        let message = format!("cannot use the certificate authorities in {shown}: {why}");
        let stop = Stop::error(exit::FAILED, "configuration", message);
        stop.hint("`--ca-file` and TASKHUB_CA_FILE name a PEM file with the certificate of the authority")
    };
    let text = files::read(file).map_err(|error| wrong(&error))?;
    Authorities::of_pem(&text).map_err(|error| wrong(&error))
}
