//! Questions about many instances, and their answers.

use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::query::{Cursor, Filter, Page};

/// Which instances of a hub are listed, by created time, then id (R13), and from where on.
#[derive(Clone, Debug)]
pub struct Selection {
    pub hub: HubName,
    /// Which of its instances.
    pub filter: Filter,
    /// Begin behind this row.
    pub after: Option<Cursor>,
    /// At most so many rows; above [`taskhub_core::limits::PAGE_ROWS_MAX`] it counts as that.
    pub rows_max: usize,
}

/// A page of status records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePage {
    /// The rows and where the next page begins. A page also ends at [`taskhub_core::limits::PAGE_BYTES_MAX`].
    pub page: Page,
    /// Rows that had to be read to find them.
    pub rows_read: u64,
}

/// The ids of such a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPage {
    /// The ids, in the order of the listing.
    pub ids: Vec<InstanceId>,
    /// Where the next page begins; absent on the last one.
    pub next: Option<Cursor>,
    /// Rows that had to be read to find them.
    pub rows_read: u64,
}

/// Fingerprints of ids of one partition, by ascending instance number (A40).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FingerprintPage {
    /// See [`crate::fingerprint`].
    pub fingerprints: Vec<u64>,
    /// The instance behind which the next page begins; absent when these were the last.
    pub next: Option<InstanceNumber>,
}
