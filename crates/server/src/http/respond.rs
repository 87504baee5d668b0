//! Answers: JSON, or empty with `Content-Length: 0` and no content type (H40).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use super::path::encode;

/// A whole answer.
pub(crate) type Response = http::Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Longest warning; what is longer is cut.
const WARNING_CHARS_MAX: usize = 200;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    with_body(status, None, Bytes::new())
}

/// An answer with a JSON body, compact.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // What is shown is made of texts, numbers and JSON that was checked, which can always be written.
    let body = serde_json::to_vec(value).unwrap_or_default();
    with_body(status, Some(JSON), body.into())
}

/// An answer whose body is JSON text as it is.
pub(crate) fn json_text(status: StatusCode, body: Bytes) -> Response {
    with_body(status, Some(JSON), body)
}

/// An answer of plain text.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: String) -> Response {
    with_body(status, Some(HeaderValue::from_static(kind)), body.into())
}

/// Sets a header; a text that is none is left out.
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
    let mut response = Response::new(Full::new(body));
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
        assert_eq!(shown("a\r\nX: 1\0é\u{7f}"), "299 - \"a%0D%0AX: 1%00%C3%A9%7F\"");
        assert_eq!(shown(&"x".repeat(1_000)).len(), WARNING_CHARS_MAX + "299 - \"\"".len());
    }
}
