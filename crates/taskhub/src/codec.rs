//! Values of user code as payloads: JSON. What has nothing to say (`()`, `None`) is absent, and what JSON cannot say
//! (`NaN`, an infinity) is an error.

use std::fmt::Display;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use taskhub_core::failure::{Failure, PAYLOAD_TOO_DEEP};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;

use crate::error::{DESERIALIZATION, SERIALIZATION};
use crate::finite::Finite;

const NULL: &[u8] = b"null";

/// Types that can be written as an input, a result or the payload of an event: all that serde can serialize, as JSON,
/// and [`Raw`] bytes.
pub trait IntoPayload: Sized {
    /// The bytes of it; `what` names it in the failure.
    ///
    /// # Errors
    ///
    /// A failure of the type `SerializationError` if JSON cannot say it.
    fn into_payload(self, what: &dyn Display) -> Result<Option<Payload>, Failure>;
}

/// Types that an input, a result or the payload of an event can be read as: all that serde can deserialize, and [`Raw`]
/// bytes.
pub trait FromPayload: Sized {
    /// Reads the bytes; `what` names them in the failure. The same bytes fail again, so no retry helps.
    ///
    /// # Errors
    ///
    /// A failure of the type `DeserializationError` if they are something else.
    fn from_payload(payload: Option<&Payload>, what: &dyn Display) -> Result<Self, Failure>;
}

/// Bytes as they are, or their absence: as the input, the result or the payload of what is neither written nor read as JSON.
///
/// ```
/// use taskhub::{OrchestrationContext, Raw, Registry, Result};
///
/// async fn keep(ctx: OrchestrationContext, document: Raw) -> Result<Raw> {
///     Ok(ctx.call_activity("Sign", document).await?)
/// }
/// let registry = Registry::new().orchestrator("Keep", keep);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw(pub Option<Payload>);

impl From<Payload> for Raw {
    fn from(payload: Payload) -> Self {
        Self(Some(payload))
    }
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self, what: &dyn Display) -> Result<Option<Payload>, Failure> {
        write(&self, what)
    }
}

impl<T: DeserializeOwned> FromPayload for T {
    fn from_payload(payload: Option<&Payload>, what: &dyn Display) -> Result<Self, Failure> {
        read(payload, what)
    }
}

impl IntoPayload for Raw {
    fn into_payload(self, _: &dyn Display) -> Result<Option<Payload>, Failure> {
        Ok(self.0)
    }
}

impl IntoPayload for &Raw {
    fn into_payload(self, _: &dyn Display) -> Result<Option<Payload>, Failure> {
        Ok(self.0.clone())
    }
}

impl FromPayload for Raw {
    fn from_payload(payload: Option<&Payload>, _: &dyn Display) -> Result<Self, Failure> {
        Ok(Self(payload.cloned()))
    }
}

/// Writes a value that others are to read; `what` names it in the failure.
pub(crate) fn encode<T: IntoPayload>(value: T, what: impl Display) -> Result<Option<Payload>, Failure> {
    shallow(value.into_payload(&what)?, what)
}

/// A payload that is to be read by others, unless it is nested so deep that some cannot; `what` names it in the failure.
fn shallow(payload: Option<Payload>, what: impl Display) -> Result<Option<Payload>, Failure> {
    check_levels(payload.as_ref(), what)
        .map_err(|refusal| Failure::new(PAYLOAD_TOO_DEEP, refusal.to_string()).non_retriable())?;
    Ok(payload)
}

/// Refuses JSON that is nested deeper than all clients can read. Other bytes have no levels.
pub(crate) fn check_levels(payload: Option<&Payload>, what: impl Display) -> Result<(), Refusal> {
    let deep = payload.and_then(|payload| Some((payload.levels_beyond_limit()?, payload)));
    match deep {
        Some((levels, payload)) if serde_json::from_slice::<IgnoredAny>(payload.bytes()).is_ok() => {
            Err(Refusal::PayloadTooDeep {
                what: what.to_string(),
                levels,
            })
        }
        _ => Ok(()),
    }
}

fn write<T: Serialize>(value: &T, what: &dyn Display) -> Result<Option<Payload>, Failure> {
    match serde_json::to_vec(&Finite(value)) {
        Ok(bytes) if bytes == NULL => Ok(None),
        Ok(bytes) => Ok(Some(Payload::new(bytes))),
        Err(error) => {
            let type_name = std::any::type_name::<T>();
            let message = format!("cannot write {what}, a `{type_name}`, as JSON: {error}");
            Err(Failure::new(SERIALIZATION, message).non_retriable())
        }
    }
}

/// Reads a value; `what` names it in the failure.
pub(crate) fn decode<T: FromPayload>(payload: Option<&Payload>, what: impl Display) -> Result<T, Failure> {
    T::from_payload(payload, &what)
}

fn read<T: DeserializeOwned>(payload: Option<&Payload>, what: &dyn Display) -> Result<T, Failure> {
    let bytes = payload.map_or(NULL, |payload| payload.bytes());
    serde_json::from_slice(bytes).map_err(|error| {
        let (type_name, given) = (std::any::type_name::<T>(), describe(payload));
        let message = format!("cannot read {what} as `{type_name}`: {error}; it is {given}");
        Failure::new(DESERIALIZATION, message).non_retriable()
    })
}

/// The payload in a message: short ones in full, since the mistake is mostly seen at a glance.
fn describe(payload: Option<&Payload>) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    match payload {
        None => "absent".to_owned(),
        Some(payload) if payload.len() <= SHOWN_BYTES_MAX => format!("`{}`", payload.to_text()),
        Some(payload) => format!("{} bytes long", payload.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_absent_and_reads_back() {
        assert_eq!(encode((), "x").unwrap(), None);
        assert_eq!(encode(None::<u8>, "x").unwrap(), None);
        decode::<()>(None, "x").unwrap();
        assert_eq!(decode::<Option<u8>>(None, "x").unwrap(), None);
        assert_eq!(encode("", "x").unwrap().unwrap().to_text(), "\"\"");
    }

    #[test]
    fn what_is_nested_too_deep_is_named_with_both_numbers() {
        let nested = |levels: usize| Payload::new(format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        let failure = shallow(Some(nested(121)), "the input of activity `Add`").unwrap_err();
        assert_eq!(failure.error_type, "PayloadTooDeep");
        let said = "the input of activity `Add` is nested 121 levels deep, and at most 120 are accepted";
        assert_eq!(failure.message, said);
        assert!(failure.non_retriable);
        assert!(shallow(Some(nested(120)), "x").is_ok());
        // Bytes that are not JSON are never parsed as JSON.
        assert!(shallow(Some(Payload::new("[".repeat(1_000))), "x").is_ok());
    }

    #[test]
    fn a_wrong_payload_is_named_with_the_type_that_was_expected() {
        let failure = decode::<u32>(Some(&Payload::text("\"seven\"")), "the input of activity `Add`").unwrap_err();
        let start = "cannot read the input of activity `Add` as `u32`: invalid type: string \"seven\", expected u32";
        assert!(failure.message.starts_with(start), "{}", failure.message);
        assert!(failure.message.ends_with("it is `\"seven\"`"), "{}", failure.message);
        assert!(failure.non_retriable);
    }
}
