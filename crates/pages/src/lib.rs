//! Checksums of the pages of an SQLite file.
//!
//! SQLite checks the frames of its log, but not the pages of the file itself: a bit that a disk has turned may give
//! another row, hide one, or have a live page taken for a free one and written over. So this crate stands between SQLite
//! and the file system. Each page that is written to the file gets a checksum in its last [`SUM_BYTES`] bytes, which
//! SQLite leaves alone once they are [reserved](reserve); each that is read from it is checked.
//!
//! ```text
//!   SQLite ──xWrite(page)──▶ sum over (page, its number) into the last 8 bytes ──▶ file
//!          ◀──xRead(page)── the sum is right, or SQLITE_IOERR_DATA ◀────────────── file
//! ```
//!
//! The checksum includes the page number, so a misplaced page is detected too. An old version of a page in its own
//! place is not detected; only the contents of its rows can show that.
//!
//! Pages in the log have no sum of this kind. They carry SQLite's own, over all that is before them in the log, which
//! SQLite checks when it opens the log.
//!
//! As it sees every write it also gathers those to the log that follow each other, so that the system is called once for many
//! pages.
//!
//! Only this crate may use `unsafe`, because SQLite calls its functions with pointers. It does not interpret the
//! contents of pages.

mod file;
#[cfg(feature = "testing")]
pub mod testing;
mod vfs;

use std::cell::Cell;

use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use vfs::install;

/// Bytes at the end of each page that hold its checksum.
pub const SUM_BYTES: usize = 8;

/// Name of the layer that refuses a page whose checksum is wrong, for
/// [`Connection::open_with_flags_and_vfs`].
pub const STRICT: &std::ffi::CStr = c"taskhub";
/// Name of the layer that also returns pages with a wrong checksum, for tools that check each row and save the intact
/// ones. [`damaged`] reports such pages.
pub const LENIENT: &std::ffi::CStr = c"taskhub-lenient";

/// What a read fails with whose page is damaged: SQLite's `SQLITE_IOERR_DATA`.
pub const DAMAGED: i32 = rusqlite::ffi::SQLITE_IOERR_DATA;

/// The page that holds the byte at 1 GiB is for locks and never written.
const LOCK_BYTE: u64 = 0x4000_0000;

thread_local! {
    static LAST: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Number of the page, from 1, that this thread last read with a wrong checksum, since this was last asked.
pub fn damaged() -> Option<u64> {
    LAST.take()
}

fn note(page: u64) {
    LAST.set(Some(page));
}

/// Checksum of a page: of all but its last [`SUM_BYTES`] bytes, and of its number, from 1.
pub fn sum(page: &[u8], number: u64) -> u64 {
    let body = page.len().saturating_sub(SUM_BYTES);
    xxh3_64_with_seed(page.get(..body).unwrap_or_default(), number)
}

/// Whether a page of a file carries the checksum that is right for it in this place.
pub fn is_right(page: &[u8], number: u64) -> bool {
    let Some((_, stored)) = page.split_last_chunk::<SUM_BYTES>() else {
        return false;
    };
    u64::from_le_bytes(*stored) == sum(page, number)
}

/// Whether the page that begins at this byte of a file of such pages is the one that SQLite keeps for locks.
pub fn is_for_locks(offset: u64, page_bytes: u64) -> bool {
    offset / page_bytes.max(1) == LOCK_BYTE / page_bytes.max(1)
}

/// Reserves space for checksums on all pages of a file that is still empty. The page size must have been set before.
///
/// # Errors
///
/// SQLite's, if it refuses.
pub fn reserve(connection: &Connection) -> rusqlite::Result<()> {
    vfs::reserve(connection, SUM_BYTES)
}

/// Number of a page, from 1, if `bytes` bytes at `offset` are one.
fn page_number(offset: i64, bytes: i32) -> Option<u64> {
    let (offset, bytes) = (u64::try_from(offset).ok()?, u64::try_from(bytes).ok()?);
    let is_page = bytes.is_power_of_two() && (512..=65_536).contains(&bytes) && offset.is_multiple_of(bytes);
    (is_page && !is_for_locks(offset, bytes)).then(|| offset / bytes + 1)
}
