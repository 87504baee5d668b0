//! Calls to a server, one connection for a command: a request, its whole answer, and what is said when none comes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use taskhub_core::limits;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stop::{Result, Stop, exit};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take (L57).
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer: a page of the largest size, and a payload that is escaped.
const ANSWER_BYTES_MAX: usize = 8 * limits::PAYLOAD_BYTES_MAX;

/// A server.
#[derive(Debug)]
pub(crate) struct Http {
    /// It as messages name it.
    who: String,
    authority: String,
    path: String,
    key: Option<String>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) path: String,
    is_json: bool,
    pub(crate) body: Bytes,
    pub(crate) patience: Duration,
    /// Where a list goes on, as the page before said.
    pub(crate) continuation: Option<HeaderValue>,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Ask {
    /// A call without a body.
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            is_json: false,
            body: Bytes::new(),
            patience: ANSWER_TIMEOUT,
            continuation: None,
        }
    }

    /// The same with a body, which is JSON.
    pub(crate) fn json(mut self, body: Bytes) -> Self {
        self.is_json = true;
        self.body = body;
        self
    }
}

impl Http {
    /// A server by its URL and key; nothing is sent yet.
    pub(crate) fn new(url: &str, key: Option<String>) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(Stop::not_yet("a server behind https"));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        Ok(Self {
            who: format!("the server at {url}"),
            authority: authority.to_owned(),
            path: if path.is_empty() {
                String::new()
            } else {
                format!("/{path}")
            },
            key,
            connection: None,
        })
    }

    /// The same, if its process is known, which messages then name.
    pub(crate) fn of_process(mut self, pid: u32) -> Self {
        self.who = format!("{} (process {pid})", self.who);
        self
    }

    /// Connects ahead of the first call.
    pub(crate) async fn reach(&mut self) -> Result<()> {
        self.connection = Some(self.connect().await?);
        Ok(())
    }

    /// Asks, and waits for the whole answer. What every call may be answered is told here.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<Answer> {
        let patience = ask.patience;
        let Ok(answer) = timeout(patience, self.exchange(ask)).await else {
            let seconds = patience.as_secs();
            let message = format!("{} did not answer within {seconds} seconds", self.who);
            return Err(Stop::error(exit::UNAVAILABLE, "timed-out", message));
        };
        let answer = answer?;
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
    pub(crate) fn unexpected(&self, answer: &Answer) -> Stop {
        let status = answer.status.as_u16();
        let reason = reason(&answer.body);
        let message = format!("{} answered {status}: {reason}", self.who);
        let exit = if answer.status.is_client_error() {
            exit::FAILED
        } else {
            exit::UNAVAILABLE
        };
        Stop::error(exit, "unexpected-answer", message)
    }

    async fn exchange(&mut self, ask: Ask) -> Result<Answer> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.path, ask.path))
            .header("host", &self.authority);
        if let Some(key) = &self.key {
            request = request.header("x-functions-key", key);
        }
        if let Some(token) = ask.continuation {
            request = request.header("x-ms-continuation-token", token);
        }
        if ask.is_json {
            request = request.header("content-type", "application/json");
        }
        let request = request
            .body(Full::new(ask.body))
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let mut connection = self.connect().await?;
        let sent = connection.send_request(request).await;
        let response = sent.map_err(|error| self.unreachable(&error.to_string()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.unreachable(&error.to_string()))?.to_bytes();
        self.connection = Some(connection);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let has_port = self
            .authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port {
            self.authority.clone()
        } else {
            format!("{}:80", self.authority)
        };
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(&error.to_string())),
            Err(_) => return Err(self.unreachable("no connection came about in time")),
        };
        // Small requests would wait for the other's acknowledgement otherwise (A11).
        let _best_effort = stream.set_nodelay(true);
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| self.unreachable(&error.to_string()))?;
        drive(connection);
        Ok(sender)
    }

    fn unreachable(&self, why: &str) -> Stop {
        let message = format!("cannot reach {}: {why}", self.who);
        Stop::error(exit::UNAVAILABLE, "server-unreachable", message)
    }
}

/// Moves the bytes of a connection beside the command that uses it.
#[expect(
    clippy::disallowed_methods,
    reason = "the connection has to move while its answer is waited for; it ends with the command"
)]
fn drive(connection: hyper::client::conn::http1::Connection<TokioIo<TcpStream>, Full<Bytes>>) {
    tokio::spawn(async move {
        // What goes wrong is told to whoever waits for an answer.
        let _told = connection.await;
    });
}

/// What an error object of either API or a text says (H41).
fn reason(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = ["", "/error/message", "/ExceptionMessage", "/message", "/Message"]
        .into_iter()
        .find_map(|place| value.pointer(place).and_then(serde_json::Value::as_str));
    said.unwrap_or("no reason given").to_owned()
}

/// A text as a part of a path or a query: all but letters, digits and `-._~` in percent form.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_whatever_an_error_is_told_in() {
        for (body, told) in [
            (r#"{"error":{"code":"overloaded","message":"later"}}"#, "later"),
            (r#"{"Message":"no","ExceptionMessage":"because"}"#, "because"),
            (r#"{"message":"no"}"#, "no"),
            (r#"{"Message":"no"}"#, "no"),
            (r#""text""#, "text"),
            ("<html>", "no reason given"),
        ] {
            assert_eq!(reason(body.as_bytes()), told);
        }
    }

    #[test]
    fn texts_are_encoded_byte_by_byte() {
        assert_eq!(encode("a-b.c_d~1"), "a-b.c_d~1");
        assert_eq!(encode("a b/ü&="), "a%20b%2F%C3%BC%26%3D");
    }
}
