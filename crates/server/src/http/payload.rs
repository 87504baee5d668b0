//! Payloads: taken from bodies as the exact text they are (H16), and looked through without holding up others.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde_json::value::RawValue;
use taskhub_core::json;
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::status::InstanceInfo;
use taskhub_engine::Error as EngineError;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::problem::Problem;
use crate::app::{App, Reserved};
use crate::guess::now;

/// A body, and the memory that it is counted for.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    pub(crate) reserved: Reserved,
}

/// Reads a body whole.
///
/// # Errors
///
/// If it is larger than the limit, does not arrive in time, or all bodies together take too much memory.
pub(crate) async fn read(app: &App, body: &mut Incoming) -> Result<Taken, Problem> {
    let bytes_max = app.config.limits.body_bytes_max;
    let too_large = || Problem::too_large(bytes_max);
    // What says beforehand that it is too large need not be sent.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut reserved = app.reserve();
    let mut whole = Vec::new();
    let (patience, rate) = (
        app.config.limits.body_timeout,
        app.config.limits.body_bytes_per_second_min.max(1),
    );
    let began = now();
    loop {
        // What has come bought time for the rest.
        let bought = Duration::from_secs((whole.len() / rate) as u64);
        let deadline = began + patience + bought;
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            // Something may always be there.
            return Err(Problem::body_timeout());
        }
        let patient = patience.min(left);
        let next = timeout(patient, body.frame()).await;
        let Some(frame) = next.map_err(|_| Problem::body_timeout())? else {
            break;
        };
        let Ok(frame) = frame else {
            return Err(Problem::argument("the body of the request is incomplete"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        if !reserved.grow(data.len()) {
            return Err(Problem::busy("too many large requests are being read"));
        }
        // A copy, also of one that came at once: what shares the buffer of the connection would keep all of it in memory, as
        // long as an instance keeps its input.
        whole.extend_from_slice(&data);
    }
    whole.shrink_to_fit();
    let bytes = whole.into();
    Ok(Taken { bytes, reserved })
}

/// Reads and discards the rest of an unused body for a while. Closing a connection while the client still sends resets
/// it, and the client might never see the response.
pub(crate) async fn pass_over(app: &App, head: &Parts, body: &mut Incoming) {
    // A client that sent `Expect: 100-continue` gets the response instead of the permission to send.
    if body.is_end_stream() || head.headers.contains_key(EXPECT) {
        return;
    }
    let bytes_max = app.config.limits.body_bytes_max.saturating_mul(2);
    let passing = async {
        let mut passed: usize = 0;
        while let Some(Ok(frame)) = body.frame().await {
            passed = passed.saturating_add(frame.data_ref().map_or(0, Buf::remaining));
            if passed > bytes_max {
                break;
            }
        }
    };
    let _given_up = timeout(app.config.limits.body_timeout, passing).await;
}

/// Size above which a payload is validated on another thread, so that other requests do not wait for it.
const LARGE_BYTES: usize = 1 << 20;

/// Looks through a payload; one that is large while the thread's other tasks go on elsewhere, where there is an elsewhere.
pub(crate) fn apart<T>(bytes: usize, look: impl FnOnce() -> T) -> T {
    let has_threads = || Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > LARGE_BYTES && has_threads() {
        return block_in_place(look);
    }
    look()
}

/// The payload a body holds; none if it is empty (H15).
///
/// # Errors
///
/// If the body is not a JSON value or is nested too deeply.
pub(crate) fn of_body(body: &Bytes, unwrap: bool) -> Result<Option<Payload>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    apart(body.len(), || read_body(body, unwrap))
}

fn read_body(body: &Bytes, unwrap: bool) -> Result<Option<Payload>, Problem> {
    let text = check(body)?;
    let wrapped = if unwrap { unwrapped(&text) } else { None };
    let payload = match (wrapped, text) {
        (Some(wrapped), _) => Payload::new(wrapped),
        (None, Cow::Borrowed(text)) => Payload::new(body.slice_ref(text.as_bytes())),
        (None, Cow::Owned(text)) => Payload::new(text),
    };
    Ok(Some(shallow(payload).map_err(EngineError::from)?))
}

/// The JSON text in a body, without mark and blanks around it, and without comments.
fn check(body: &[u8]) -> Result<Cow<'_, str>, Problem> {
    let not_json = |error: serde_json::Error| Problem::not_json(error.to_string());
    match json::text(body).map_err(|error| Problem::not_json(error.to_string()))? {
        Cow::Borrowed(text) => match value(text) {
            Ok(value) => Ok(Cow::Borrowed(value)),
            Err(error) => plain(text).map(Cow::Owned).ok_or_else(|| not_json(error)),
        },
        Cow::Owned(text) => match value(&text) {
            Ok(value) => Ok(Cow::Owned(value.to_owned())),
            Err(error) => plain(&text).map(Cow::Owned).ok_or_else(|| not_json(error)),
        },
    }
}

/// The one value that a JSON text is.
fn value(text: &str) -> Result<&str, serde_json::Error> {
    let value: &RawValue = serde_json::from_str(text)?;
    Ok(value.get())
}

/// The value of a text that is JSON but for comments and surplus commas.
fn plain(text: &str) -> Option<String> {
    value(&json::without_comments(text)).ok().map(str::to_owned)
}

/// The payload a JSON value is, which came as part of a larger one.
///
/// # Errors
///
/// `payload-too-deep` (H16).
pub(crate) fn of_json(value: &RawValue) -> Result<Payload, Refusal> {
    shallow(Payload::text(value.get()))
}

/// A payload that is JSON, unless it is nested deeper than all clients can read (H16).
fn shallow(payload: Payload) -> Result<Payload, Refusal> {
    match payload.levels_beyond_limit() {
        None => Ok(payload),
        Some(levels) => Err(Refusal::PayloadTooDeep {
            what: "the payload".to_owned(),
            levels,
        }),
    }
}

/// What a JSON string holds, if that is an array or an object itself (H17).
fn unwrapped(text: &str) -> Option<String> {
    let inner: String = serde_json::from_str(text).ok()?;
    let is_container = inner.trim_start().starts_with(['[', '{']);
    (is_container && value(&inner).is_ok()).then_some(inner)
}

/// Shows an instance, which looks through its payloads.
pub(crate) fn look_through<T>(info: &InstanceInfo, show: impl FnOnce() -> T) -> T {
    let payloads = [&info.input, &info.custom_status, &info.output];
    let bytes = payloads.into_iter().flatten().map(Payload::len).sum();
    apart(bytes, show)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &str, unwrap: bool) -> Option<String> {
        let payload = of_body(&Bytes::copy_from_slice(body.as_bytes()), unwrap);
        payload
            .ok()
            .map(|payload| payload.map_or("none".to_owned(), |payload| payload.to_text()))
    }

    #[test]
    fn a_payload_is_kept_as_it_came() {
        for text in [
            "12345678901234567890",
            "1.10",
            r#""2018-03-10T10:01:00Z""#,
            r#"{"a":1,"a":2}"#,
            r#"{"b" : 1, "a":[ ]}"#,
            "true",
            "null",
            r#""\ud800""#,
        ] {
            assert_eq!(stored(text, false).as_deref(), Some(text));
        }
        assert_eq!(stored("\u{feff} [1] \n", false).as_deref(), Some("[1]"));
        assert_eq!(stored("", false).as_deref(), Some("none"));
    }

    #[test]
    fn comments_and_surplus_commas_are_left_out_and_utf_16_becomes_utf_8() {
        assert_eq!(
            stored("// one\n[1.10, 2,] /* two */", false).as_deref(),
            Some("[1.10, 2 ]")
        );
        assert_eq!(stored("{\"a\": \"//\", }", false).as_deref(), Some("{\"a\": \"//\"  }"));
        let units = std::iter::once(0xfeff).chain("{\"é\":1} // x\r\n".encode_utf16());
        let body: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        let payload = of_body(&Bytes::from(body), false).unwrap().unwrap();
        assert_eq!(payload.to_text(), "{\"é\":1}");
    }

    #[test]
    fn what_is_no_json_value_is_refused() {
        for bad in [
            "{", "[1] 2", "nul", " ", "'a'", "01", "{a:1}", "{'a':1}", "NaN", "[1,,]", "[,]", "1 /*", "// none",
            "\"a\nb\"", "\u{feff}", "{\0\"\0",
        ] {
            assert_eq!(stored(bad, false), None, "{bad}");
        }
        assert!(of_body(&Bytes::from_static(b"\"\xff\""), false).is_err());
    }

    #[test]
    fn a_hundred_and_twenty_levels_are_accepted_and_one_more_is_not() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(stored(&nested(120), false).is_some());
        for levels in [121, 1_000, 100_000] {
            assert_eq!(stored(&nested(levels), false), None);
        }
        let wrapped = |levels| serde_json::to_string(&nested(levels)).unwrap();
        assert_eq!(stored(&wrapped(121), false), Some(wrapped(121)), "a text has no levels");
        assert_eq!(stored(&wrapped(120), true), Some(nested(120)));
        assert_eq!(stored(&wrapped(121), true), None);
    }

    #[test]
    fn a_wrapped_value_is_unwrapped_where_that_is_asked_for() {
        assert_eq!(stored(r#""[1, 2]""#, false).as_deref(), Some(r#""[1, 2]""#));
        assert_eq!(stored(r#""[1, 2]""#, true).as_deref(), Some("[1, 2]"));
        assert_eq!(stored(r#""text""#, true).as_deref(), Some(r#""text""#));
        assert_eq!(stored(r#""12""#, true).as_deref(), Some(r#""12""#));
        assert_eq!(stored(r#""[1,""#, true).as_deref(), Some(r#""[1,""#));
    }
}
