//! Statuses as words (H53).

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use taskhub_core::status::RuntimeStatus;

/// The word for a status. Clients know exactly these; the Python client fails on any other (H53).
pub fn word(status: RuntimeStatus) -> &'static str {
    match status {
        RuntimeStatus::Running => "Running",
        RuntimeStatus::Completed => "Completed",
        RuntimeStatus::ContinuedAsNew => "ContinuedAsNew",
        RuntimeStatus::Failed => "Failed",
        RuntimeStatus::Canceled => "Canceled",
        RuntimeStatus::Terminated => "Terminated",
        RuntimeStatus::Pending => "Pending",
        RuntimeStatus::Suspended => "Suspended",
    }
}

/// The status that a surface wrote.
pub fn of_word(text: &str) -> Option<RuntimeStatus> {
    RuntimeStatus::ALL.into_iter().find(|status| word(*status) == text)
}

/// The status that a caller named: by its word in any letter case, or by its number (R4).
pub fn read(text: &str) -> Option<RuntimeStatus> {
    if let Ok(number) = text.parse::<u8>() {
        return RuntimeStatus::from_number(number);
    }
    let is_named = |status: &RuntimeStatus| word(*status).eq_ignore_ascii_case(text);
    RuntimeStatus::ALL.into_iter().find(is_named)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands members over like this")]
pub(crate) fn serialize<S: Serializer>(status: &RuntimeStatus, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(*status))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RuntimeStatus, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    of_word(&text).ok_or_else(|| D::Error::custom(format!("unknown status `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_the_word_that_is_written() {
        for status in RuntimeStatus::ALL {
            assert_eq!(of_word(word(status)), Some(status));
            assert_eq!(read(&word(status).to_lowercase()), Some(status));
            assert_eq!(read(&status.number().to_string()), Some(status));
        }
        assert_eq!((of_word("running"), read("8"), read("over")), (None, None, None));
    }
}
