//! The HTTP surfaces of a Taskhub server, described once: what the server writes, the command line reads, and links of the
//! library lead to.
//!
//! Each type is written and read by serde, borrows what it shows, and is made from core's types and turned back into them.
//! Payloads stay the text they are: they are never parsed into values.
//!
//! | module | what it describes |
//! |---|---|
//! | [`instance`] | an instance: its status in the management API, all of it in our own (`/api/v1`) |
//! | [`history`], [`merged`] | events in full, and as clients of the management API know them |
//! | [`failure`], [`payload`], [`status`], [`time`] | what these are made of |
//! | [`calls`] | requests and answers of our own API |
//! | [`problem`], [`removal`] | error answers of both, and answers to what removes something |
//! | [`links`] | where instances are managed |
//! | [`id`] | ids of new instances |
//! | [`percent`] | texts as parts of a URL |
//! | `client` (feature `client`) | calls to a server, over HTTP and HTTPS |

#![warn(missing_docs)]

pub mod calls;
#[cfg(feature = "client")]
pub mod client;
pub mod failure;
pub mod history;
pub mod id;
pub mod instance;
pub mod links;
pub mod merged;
pub mod payload;
pub mod percent;
pub mod problem;
pub mod removal;
pub mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;

/// Something that was read is not what this version knows; it says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(pub(crate) &'static str);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "not expected: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Ids of executions as texts.
mod execution {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use taskhub_core::id::ExecutionId;

    pub(crate) fn serialize<S: Serializer>(id: &ExecutionId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ExecutionId, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        ExecutionId::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "invalid execution id `{text}`: expected 32 lower-case \
                hexadecimal digits"
            ))
        })
    }
}

/// Reads a member that is present, even if it is `null`; with `default`, an absent member is distinguished from `null`.
fn present<'de, T: serde::Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
