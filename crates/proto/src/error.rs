//! Why stored bytes cannot be read back.

use taskhub_core::refusal::Refusal;

/// Bytes that are not what they should be: another version's, damaged, or of a kind we do not know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is not even a version byte.
    #[error("the envelope is empty")]
    Empty,
    /// The envelope was written by a version that this one does not know.
    #[error("the envelope has version {found}; this program reads version {known}")]
    UnknownVersion {
        /// The version byte that was found.
        found: u8,
        /// The only version that can be read.
        known: u8,
    },
    /// The bytes are truncated or not a protobuf message.
    #[error("the bytes do not decode as `{message}`")]
    Malformed {
        /// The message that was expected.
        message: &'static str,
        /// What the protobuf reader says.
        source: prost::DecodeError,
    },
    /// A member that must be there is absent, or of a kind that is not known here.
    #[error("`{message}` has no `{field}`, or one that this version does not know")]
    Missing {
        message: &'static str,
        /// The member, as the protocol names it.
        field: &'static str,
    },
    /// An event of the protocol that core has no kind for yet.
    #[error("history events of the kind `{kind}` are not supported")]
    UnsupportedEvent {
        /// The protocol's name of the event.
        kind: &'static str,
    },
    /// A text that is not an instance id.
    #[error("cannot read an instance id")]
    InstanceId {
        /// Which rule it breaks.
        source: Refusal,
    },
    /// Not an execution id: neither 32 lower-case hex digits nor, where we store it as bytes, 16 bytes.
    #[error("cannot read `{given}` as an execution id")]
    ExecutionId {
        /// What was found.
        given: String,
    },
    /// A number that is not a runtime status of the protocol.
    #[error("unknown runtime status {number}")]
    RuntimeStatus { number: i32 },
    /// A name or version whose bytes are not UTF-8.
    #[error("`{field}` is not UTF-8")]
    NotText {
        /// The member, as the protocol names it.
        field: &'static str,
        /// Where it stops being UTF-8.
        source: std::str::Utf8Error,
    },
}
