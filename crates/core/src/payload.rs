//! Opaque bytes of user code: inputs, outputs, event payloads, custom status (A14, R29).

use std::fmt;

use bytes::Bytes;

/// A payload, stored and returned verbatim. Absent is `Option::None`; empty is a payload of no bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Payload(Bytes);

impl Payload {
    /// Wraps bytes without looking at them.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Wraps a text.
    pub fn text(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes as text; bytes that are no UTF-8 are shown with replacement characters.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_text())
    }
}

/// Bytes of an optional payload.
pub(crate) fn size(payload: Option<&Payload>) -> usize {
    payload.map_or(0, Payload::len)
}
