//! Answers: JSON, or empty with `Content-Length: 0` and no content type (H40).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{StatusCode, header};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use taskhub_api::percent::encode;
use taskhub_core::payload::Payload;

use crate::answers::Room;
use crate::flow::Sending;

/// An answer.
pub(crate) type Response = http::Response<Body>;

/// The body of an answer: sent in pieces of [`PIECE_BYTES_MAX`], each when the caller has taken those before it.
#[derive(Debug)]
pub(crate) struct Body {
    kind: Kind,
    /// The rest of a part that is larger than one piece.
    rest: Bytes,
    /// Receives the progress.
    sending: Option<Sending>,
}

#[derive(Debug)]
enum Kind {
    /// All of it.
    Whole(Bytes),
    /// The rest of a streamed body; absent after its end.
    Parts(Option<Parts>),
    /// The remaining pieces of a body in memory.
    Pieces(Pieces),
}

/// Bytes that are given to the connection at once. It holds no more than this beyond what it may, and large parts keep
/// their room until little of them is left.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// Pieces of a body, large payloads among them where they are, and the room that they take.
#[derive(Debug)]
pub(crate) struct Pieces {
    left: VecDeque<Bytes>,
    bytes: u64,
    _room: Room,
}

/// The next part of a body, and the rest after it. Parts are created on demand, so a client that does not read makes
/// the server hold only one part.
pub(crate) struct Parts(Pin<Box<dyn Future<Output = Made> + Send>>);

/// A part, and the rest after it.
pub(crate) type Made = Result<(Bytes, Option<Parts>), Cut>;

impl Parts {
    pub(crate) fn new(next: impl Future<Output = Made> + Send + 'static) -> Self {
        Self(Box::pin(next))
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Parts")
    }
}

/// A body cannot be made to its end: the connection is cut, which no caller takes for the end of the answer.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut short")]
pub(crate) struct Cut;

impl Kind {
    /// The next part.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let left = match self {
            Self::Whole(whole) => {
                let part = Some(std::mem::take(whole)).filter(|whole| !whole.is_empty());
                return Poll::Ready(part.map(Ok));
            }
            Self::Parts(left) => left,
            Self::Pieces(pieces) => {
                let next = pieces.left.pop_front();
                pieces.bytes -= next.as_ref().map_or(0, |piece| piece.len() as u64);
                return Poll::Ready(next.map(Ok));
            }
        };
        let Some(Parts(next)) = left else {
            return Poll::Ready(None);
        };
        let made = ready!(next.as_mut().poll(context));
        Poll::Ready(Some(match made {
            Ok((part, rest)) => {
                *left = rest;
                Ok(part)
            }
            Err(cut) => {
                *left = None;
                Err(cut)
            }
        }))
    }
}

impl Body {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            rest: Bytes::new(),
            sending: None,
        }
    }

    /// Reports the progress to `flow`.
    pub(crate) fn track(&mut self, sending: Sending) {
        self.sending = Some(sending);
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut piece = std::mem::take(&mut self.rest);
        if piece.is_empty() {
            match ready!(self.kind.poll_part(context)) {
                Some(Ok(part)) => piece = part,
                ended => return Poll::Ready(ended),
            }
        }
        if piece.len() > PIECE_BYTES_MAX {
            self.rest = piece.split_off(PIECE_BYTES_MAX);
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let body = self.get_mut();
        let polled = body.poll_piece(context);
        let is_end = body.is_end_stream();
        let Some(sending) = &body.sending else {
            return polled.map(|piece| piece.map(|piece| piece.map(Frame::data)));
        };
        let piece = match polled {
            Poll::Pending => {
                sending.waits_for_us();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(piece))) => piece,
            Poll::Ready(ended) => return Poll::Ready(ended.map(|cut| cut.map(Frame::data))),
        };
        sending.waits_for_caller();
        let piece = match body.sending.take_if(|_| is_end) {
            Some(sending) => sending.last(piece),
            None => piece,
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match &self.kind {
                Kind::Whole(whole) => whole.is_empty(),
                Kind::Parts(left) => left.is_none(),
                Kind::Pieces(pieces) => pieces.left.is_empty(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match &self.kind {
            Kind::Whole(whole) => SizeHint::with_exact(rest + whole.len() as u64),
            Kind::Parts(_) => SizeHint::default(),
            Kind::Pieces(pieces) => SizeHint::with_exact(rest + pieces.bytes),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Payloads of so many bytes are not copied into an answer.
const APART_BYTES_MIN: usize = 16 << 10;

/// Maximum length of a warning; longer warnings are truncated.
const WARNING_CHARS_MAX: usize = 200;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    with_body(status, None, Bytes::new())
}

/// An answer with a JSON body, compact.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // The values consist of texts, numbers and validated JSON, so serialization cannot fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    with_body(status, Some(JSON), body.into())
}

/// An answer with a JSON body that shows payloads. Large ones are sent from where they are.
pub(crate) fn json_of<'a>(
    status: StatusCode,
    value: &impl Serialize,
    payloads: impl Iterator<Item = &'a Payload>,
    room: Room,
) -> Response {
    let mut gathered = Gathered::new(payloads);
    // As above.
    let _written = serde_json::to_writer(&mut gathered, value);
    let pieces = gathered.pieces();
    let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut response = Response::new(Body::new(Kind::Pieces(Pieces {
        left: pieces.into(),
        bytes,
        _room: room,
    })));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Text that is written, in pieces: what lies within one of the payloads is not copied.
struct Gathered {
    payloads: Vec<Bytes>,
    pieces: Vec<Bytes>,
    open: Vec<u8>,
}

impl Gathered {
    fn new<'a>(payloads: impl Iterator<Item = &'a Payload>) -> Self {
        let large = payloads
            .map(Payload::bytes)
            .filter(|bytes| bytes.len() >= APART_BYTES_MIN);
        Self {
            payloads: large.cloned().collect(),
            pieces: Vec::new(),
            open: Vec::new(),
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(std::mem::take(&mut self.open).into());
        }
    }

    fn pieces(mut self) -> Vec<Bytes> {
        self.close();
        self.pieces
    }

    /// The payload that a text is a part of.
    fn holder(&self, text: &[u8]) -> Option<Bytes> {
        let wanted = text.as_ptr_range();
        let holds = |payload: &&Bytes| {
            let range = payload.as_ptr_range();
            range.start <= wanted.start && wanted.end <= range.end
        };
        self.payloads.iter().find(holds).map(|payload| payload.slice_ref(text))
    }
}

impl io::Write for Gathered {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match Some(text)
            .filter(|text| text.len() >= APART_BYTES_MIN)
            .and_then(|text| self.holder(text))
        {
            Some(piece) => {
                self.close();
                self.pieces.push(piece);
            }
            None => self.open.extend_from_slice(text),
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A response with a body that is already JSON text.
pub(crate) fn json_text(status: StatusCode, body: Bytes) -> Response {
    with_body(status, Some(JSON), body)
}

/// An answer whose body is JSON that is made while it is sent, so that its length is not known.
pub(crate) fn json_parts(status: StatusCode, parts: Parts) -> Response {
    let mut response = Response::new(Body::new(Kind::Parts(Some(parts))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: String) -> Response {
    with_body(status, Some(HeaderValue::from_static(kind)), body.into())
}

/// Sets a header; an invalid value is left out.
pub(crate) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Adds a warning, of the kind that says no more than its text (RFC 7234). A text that comes from the caller is made of
/// printable ASCII and cut, so that it stays within its quotes.
pub(crate) fn warn(response: &mut Response, text: &str) {
    let mut shown = String::new();
    for character in text.chars().take(WARNING_CHARS_MAX) {
        match character {
            '"' | '\\' => shown.extend(['\\', character]),
            ' '..='~' => shown.push(character),
            other => shown.push_str(&encode(other.encode_utf8(&mut [0; 4]))),
        }
    }
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{shown}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// What an answer without a body becomes for the oldest clients (H40).
pub(crate) fn or_null(response: Response) -> Response {
    let is_empty = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| length == "0");
    if is_empty {
        let (parts, _) = response.into_parts();
        let mut filled = json_text(parts.status, Bytes::from_static(b"null"));
        for (name, value) in &parts.headers {
            if name != header::CONTENT_LENGTH {
                filled.headers_mut().insert(name, value.clone());
            }
        }
        return filled;
    }
    response
}

fn with_body(status: StatusCode, kind: Option<HeaderValue>, body: Bytes) -> Response {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Body::new(Kind::Whole(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_is_sent_from_where_it_is() {
        let json = Payload::text(&format!("[{}]", "1,".repeat(20_000) + "1"));
        let text = Payload::text(&format!("no \"JSON\" {}", "x".repeat(20_000)));
        let small = Payload::text("{}");
        let payloads = [&json, &text, &small];
        let shown: Vec<_> = payloads
            .map(|payload| taskhub_api::payload::Shown::new(Some(payload)))
            .into();
        let response = json_of(StatusCode::OK, &shown, payloads.into_iter(), Room::default());
        let Kind::Pieces(pieces) = &response.body().kind else {
            unreachable!()
        };
        let within = |payload: &Payload, piece: &Bytes| payload.bytes().as_ptr_range().contains(&piece.as_ptr());
        assert!(pieces.left.iter().any(|piece| within(&json, piece)));
        assert!(pieces.left.iter().any(|piece| within(&text, piece)));
        let whole = pieces.left.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<u8>>();
        assert_eq!(
            (whole.len() as u64, whole),
            (pieces.bytes, serde_json::to_vec(&shown).unwrap())
        );
    }

    #[test]
    fn a_warning_stays_within_its_quotes() {
        let shown = |text: &str| {
            let mut response = empty(StatusCode::OK);
            warn(&mut response, text);
            let values: Vec<_> = response.headers().get_all(header::WARNING).iter().collect();
            assert_eq!(values.len(), 1);
            values[0].to_str().unwrap().to_owned()
        };
        assert_eq!(shown("'soon' is no time"), "299 - \"'soon' is no time\"");
        assert_eq!(shown("a\"b\\c"), r#"299 - "a\"b\\c""#);
        assert_eq!(shown("a\r\nX: 1\0ü\u{7f}"), "299 - \"a%0D%0AX: 1%00%C3%BC%7F\"");
        assert_eq!(shown(&"x".repeat(1_000)).len(), WARNING_CHARS_MAX + "299 - \"\"".len());
    }
}
