//! What a simulation did, line by line, or only a hash of it.

use std::fmt;

use taskhub_core::fnv;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nowhere.
    Off,
    /// Into a hash, for comparing two runs.
    Hash(u64),
    /// Into a text.
    Text(String),
}

impl Trace {
    /// An empty hash.
    pub fn hash() -> Self {
        Self::Hash(fnv::BASIS_64)
    }

    /// An empty text.
    pub fn text() -> Self {
        Self::Text(String::new())
    }

    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            Self::Hash(hash) => {
                *hash = fnv::hash_64(fnv::hash_64(*hash, line().as_bytes()), b"\n");
            }
            Self::Text(text) => {
                text.push_str(&line());
                text.push('\n');
            }
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => Ok(()),
            Self::Hash(hash) => write!(out, "{hash:016x}"),
            Self::Text(text) => out.write_str(text),
        }
    }
}
