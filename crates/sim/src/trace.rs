//! What a simulation did, line by line, or only a hash of it.

use std::fmt;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

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
        Self::Hash(OFFSET)
    }

    /// An empty text.
    pub fn text() -> Self {
        Self::Text(String::new())
    }

    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            Self::Hash(hash) => {
                for byte in line().bytes().chain([b'\n']) {
                    *hash = (*hash ^ u64::from(byte)).wrapping_mul(PRIME);
                }
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
