//! Checksums of rows: of everything a row says, its key included, so that a row which is not the one that was asked for
//! is damage as well (A47).
//!
//! They are 64 bits of XXH3, which finds what disks and bugs do to data. It is no seal: whoever can write the file can
//! make sums.

use super::trouble::Trouble;

/// Numbers of a row that a sum takes in at most.
const WORDS_MAX: usize = 28;

/// The numbers of a row, in the order of its columns.
#[derive(Debug)]
pub(super) struct Words {
    bytes: [u8; WORDS_MAX * 8],
    len: usize,
}

impl Words {
    pub(super) fn new(words: &[i64]) -> Self {
        let mut all = Self {
            bytes: [0; WORDS_MAX * 8],
            len: 0,
        };
        for word in words {
            all.push(*word);
        }
        all
    }

    pub(super) fn push(&mut self, word: i64) {
        match self.bytes.get_mut(self.len..self.len + 8) {
            Some(place) => place.copy_from_slice(&word.to_le_bytes()),
            None => unreachable!("no row has more numbers than there is room for"),
        }
        self.len += 8;
    }

    /// An absent number is not the same as any that is there.
    pub(super) fn push_option(&mut self, word: Option<i64>) {
        self.push(i64::from(word.is_some()));
        self.push(word.unwrap_or(0));
    }

    /// The sum of a row with these numbers and a body, which is empty for rows that have none.
    pub(super) fn sum(&self, body: &[u8]) -> i64 {
        self.sum_of_print(print(body))
    }

    /// The same where only the fingerprint of the body is known.
    pub(super) fn sum_of_print(&self, print: u64) -> i64 {
        let words = self.bytes.get(..self.len).unwrap_or(&self.bytes);
        xxhash_rust::xxh3::xxh3_64_with_seed(words, print).cast_signed()
    }

    /// Refuses a row whose sum is not the one that is stored.
    pub(super) fn check(&self, body: &[u8], stored: i64, what: &str) -> Result<(), Trouble> {
        if self.sum(body) == stored {
            return Ok(());
        }
        Err(Trouble::Contradiction(format!("the checksum of {what} is wrong")))
    }
}

/// Fingerprint of the content of a column.
pub(super) fn print(body: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(body)
}

/// Fingerprint of a column that may be absent, which is not the same as empty.
pub(super) fn print_option(body: Option<&[u8]>) -> u64 {
    body.map_or(0, print)
}
