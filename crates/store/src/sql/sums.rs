//! Checksums of rows: of everything a row says, its key included, so that a row which is not the one that was asked for
//! is damage as well (A47).
//!
//! The checksums are 64 bits of XXH3. They detect damage by disks and bugs, but not forgery: anyone who can write the
//! file can compute them.

use super::Contradiction;

/// The numbers of a row, in the order of its columns.
#[derive(Debug)]
pub(crate) struct Words<const N: usize>([[u8; 8]; N]);

impl<const N: usize> Words<N> {
    pub(crate) fn new(words: [i64; N]) -> Self {
        Self(words.map(i64::to_le_bytes))
    }

    /// The sum of a row with these numbers and a body, which is empty for rows that have none.
    pub(crate) fn sum(&self, body: &[u8]) -> i64 {
        self.sum_of_print(print(body))
    }

    /// The same where only the fingerprint of the body is known.
    pub(crate) fn sum_of_print(&self, print: u64) -> i64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(self.0.as_flattened(), print).cast_signed()
    }

    /// Refuses a row whose sum is not the one that is stored.
    pub(crate) fn check(&self, body: &[u8], stored: i64, what: &str) -> Result<(), Contradiction> {
        if self.sum(body) == stored {
            return Ok(());
        }
        Err(Contradiction(format!("wrong checksum in {what}")))
    }
}

/// Fingerprint of the content of a column.
pub(crate) fn print(body: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(body)
}

/// Fingerprint of a column that may be absent, which is not the same as empty.
pub(crate) fn print_option(body: Option<&[u8]>) -> u64 {
    body.map_or(0, print)
}

/// A number that may be absent, which is not the same as any that is there.
pub(crate) fn option(word: Option<i64>) -> [i64; 2] {
    [i64::from(word.is_some()), word.unwrap_or(0)]
}
