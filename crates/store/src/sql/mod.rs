//! Parts shared by SQL backends: the net effect of a group, the contents of its rows, and the rows that a listing
//! reads.
//!
//! ```text
//!   Group ──▶ fold ──▶ record · pending · chunks ──▶ [statements of the backend]
//!   Selection ──▶ listing (ranges of indexes, merge) ──▶ [statements of the backend] ──▶ candidates, in order
//! ```
//!
//! Nothing here names a database, runs a statement or waits: a backend looks up, binds, executes and reads, and asks here
//! what. So a backend whose statements are sent over a network uses the same code between two of them. Columns and their order
//! in a statement are the backend's; what a column holds, and the checksum of its row, is decided here, so that a row means
//! the same in every database.

mod chunks;
mod fold;
mod hubs;
mod listing;
mod pending;
mod recent;
mod record;
mod seen;
mod sums;

use std::fmt;

pub(crate) use chunks::{ChunkRow, chunk_words, long_input, set_input};
pub(crate) use fold::{Folded, Instance, Origin, fold};
pub(crate) use hubs::{Counters, Hub, Hubs, Part, hub_sum};
pub(crate) use listing::{Candidate, Index, Listing};
pub(crate) use pending::{
    KIND_CHILD, KIND_MESSAGE, LANE_INBOX, LANE_OPEN, Pending, PendingColumns, PendingRow, outbox_words,
};
pub(crate) use recent::{Change, Recent};
pub(crate) use record::{
    Head, INLINE_BYTES_MAX, INPUT_ONCE_BYTES_MIN, InfoRow, Key, PayloadColumn, Place, StallColumns, Stored, Texts,
    count_sum, encode_rest, int, payload_sum, read_status, uint,
};
pub(crate) use seen::{key_words, read_key, write_key};
pub(crate) use sums::{Words, print, print_option};

/// A contradiction between rows, or between a commit and the rows, described for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction(pub(crate) String);

impl fmt::Display for Contradiction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<taskhub_proto::DecodeError> for Contradiction {
    fn from(error: taskhub_proto::DecodeError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn nothing_here_names_a_client_of_a_database_or_a_backend() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let place = file.unwrap().path();
            let text = std::fs::read_to_string(&place).unwrap();
            let names = [["rusq", "lite"].concat(), ["crate::embed", "ded"].concat()];
            assert!(
                !names.iter().any(|name| text.contains(name)),
                "{} is not for every backend",
                place.display()
            );
            files += 1;
        }
        assert!(files > 5, "only {files} files were looked at");
    }
}
