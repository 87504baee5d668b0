//! Disk space of a store: the size limit of its file, the reserved space for purges on a full disk (A43), and returning
//! free pages to the disk.
//!
//! The commit path uses this module in three places. A group that adds work is attempted only while the reserve is
//! complete, because it could use up the space that the next purge needs. A group that must succeed on a full disk is
//! retried with space from the reserve. After each group, the log is kept short, because writing back a long log needs
//! space too.

use super::hubs::About;
use super::log;
use super::reserve::Reserve;
use super::store_file::StoreFile;
use super::trouble::{During, Trouble};
use super::verify;
use crate::{Error, Room, Space};

/// Maximum number of pages of an SQLite file.
const PAGES_MAX: i64 = u32::MAX as i64 - 1;
/// Maximum number of pages that one compaction returns to the disk, so that it ends in bounded time.
const VACUUM_PAGES_MAX: u32 = 16_384;

/// Maximum number of pages returned to the disk in one attempt to refill the reserve.
const REGAIN_PAGES_MAX: u32 = 256;

/// Minimum number of free bytes before the store accepts new work again.
const FOUND_BYTES_MIN: u64 = 64 << 10;

/// Default number of free bytes that a file keeps for reuse. Returning and growing again costs two writes per page.
const FREE_BYTES_MAX: u64 = 8 << 20;
/// A file also keeps this share of its size free: one in `FREE_SHARE`.
const FREE_SHARE: u64 = 5;
/// Maximum number of pages returned in one step between other work, which waits meanwhile: 1 MiB.
const STEP_PAGES_MAX: u32 = 128;

/// The disk space of a store: its limit, its reserve and its free pages.
#[derive(Debug)]
pub(super) struct DiskSpace {
    /// Size limit of the file in pages.
    pages_max: i64,
    reserve: Reserve,
    free_bytes_max: u64,
    surplus: Surplus,
}

/// State of returning free pages to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surplus {
    /// Nothing.
    None,
    /// The file has too many free pages; returning them has not begun.
    Found,
    /// They are being returned step by step.
    Shrinking,
}

impl DiskSpace {
    pub(super) fn new(reserve: Reserve, free_bytes_max: Option<u64>) -> Self {
        Self {
            pages_max: PAGES_MAX,
            reserve,
            free_bytes_max: free_bytes_max.unwrap_or(FREE_BYTES_MAX),
            surplus: Surplus::None,
        }
    }

    /// Limits the size of the file. A file that is already larger does not shrink.
    pub(super) fn limit(&mut self, file: &StoreFile, bytes_max: Option<u64>) -> Result<(), Error> {
        self.pages_max = bytes_max
            .map_or(PAGES_MAX, |bytes| as_bytes(bytes) / file.page_bytes)
            .clamp(1, PAGES_MAX);
        limit_pages(file, self.pages_max).map_err(|error| file.error(error, During::Read))
    }

    /// Releases the reserve so that the store can be opened on a full disk; returns whether there was a reserve.
    pub(super) fn give_up(&mut self) -> bool {
        self.reserve.give_up() > 0
    }

    /// Fills the reserve as far as the disk allows, after the store was opened.
    pub(super) fn begin(&mut self, file: &StoreFile) {
        self.reserve.fit(file.folder.file_bytes());
        if self.reserve.fill().is_err() {
            let place = file.folder.file();
            tracing::info!(place, "the disk is full; the store accepts only reads and purges");
        }
    }

    /// Releases a part of the reserve for the next attempt. Other programs can take space that is released, so this
    /// releases no more than necessary. [`DiskSpace::end_loan`] must follow.
    pub(super) fn lend(&mut self, room: Room, file: &mut StoreFile) {
        let (bytes, beyond) = match room {
            Room::Kept => (self.reserve.give_up(), self.reserve.wanted()),
            Room::Share | Room::Free => (self.reserve.give_up_share(), self.reserve.share()),
        };
        tracing::info!(bytes, ?room, "the store is full; using the reserved disk space");
        let pages = self.pages_max.saturating_add(as_bytes(beyond) / file.page_bytes);
        if let Err(error) = limit_pages(file, pages.min(PAGES_MAX)) {
            tracing::warn!(%error, "cannot lift the size limit of the database file");
        }
        // After a log is written back, SQLite reuses it from its beginning, which gives a purge enough space. Without
        // enough space for all of it, writing back would use up the released space, which the log needs.
        if file.growth() <= bytes {
            file.log.write_back(&file.connection);
        }
    }

    /// Restores the size limit of the file.
    pub(super) fn end_loan(&self, file: &StoreFile) {
        if let Err(error) = limit_pages(file, self.pages_max) {
            tracing::warn!(%error, "cannot restore the size limit of the database file");
        }
    }

    /// Refills the reserve, so that the next purge has space, and writes back a log that is stuck. The space comes from
    /// the disk, or from free pages of the file. Usually there is nothing to do, and this costs two comparisons,
    /// because every group that adds work calls it. Otherwise the order of the steps matters. First the file returns
    /// its free pages. If the log is still too long to be written back, writing it back needs as much space as the file
    /// grows by; the reserve may be lent for that only if the free pages then give at least as much back, otherwise
    /// purges would lose their space for good. Only after the log can be written back again is the reserve refilled.
    ///
    /// # Errors
    ///
    /// `Full` while the reserve is not complete: a group that adds work would use up the space that purges need.
    pub(super) fn regain(&mut self, file: &mut StoreFile) -> Result<(), Error> {
        if !file.log.is_stuck() && self.reserve.fill().is_ok() {
            return Ok(());
        }
        shrink(file);
        let growth = file.growth();
        if file.log.is_stuck() && growth <= self.reserve.bytes() && growth <= file.bytes_in("freelist_count") {
            // The file grows, and then returns at least as much.
            self.reserve.give_up();
            file.log.write_back(&file.connection);
            shrink(file);
        }
        if file.log.is_stuck() {
            return Err(Error::Full);
        }
        self.reserve.fit(file.folder.file_bytes());
        self.reserve.fill()
    }

    /// Checks whether a group that adds work would be attempted and would find enough space.
    ///
    /// # Errors
    ///
    /// `Full` if not.
    pub(super) fn find(&mut self, file: &mut StoreFile) -> Result<(), Error> {
        self.regain(file)?;
        let left = self
            .pages_max
            .saturating_mul(file.page_bytes)
            .saturating_add(as_bytes(file.bytes_in("freelist_count")));
        let is_limited = as_bytes(file.bytes_in("page_count")).saturating_add(as_bytes(FOUND_BYTES_MIN)) > left;
        if is_limited {
            return Err(Error::Full);
        }
        if file.folder.refuses_to_grow() {
            // The free pages of the file may provide the space that the disk lacks.
            shrink(file);
            if file.folder.refuses_to_grow() {
                return Err(Error::Full);
            }
        }
        Ok(())
    }

    /// Called after each group: writes the log back if it is long, or if the file would grow by so much that the
    /// reserve would not suffice for writing it back. Checks for free pages afterwards, and when instances were
    /// removed.
    pub(super) fn keep_log_short(&mut self, file: &mut StoreFile, has_removed: bool) {
        // On a full disk, writing back uses the reserve, so it must not need more than that.
        let is_ahead = file.growth() >= self.reserve.wanted() / 2;
        let syncs = file.log.keep_short(&file.connection, is_ahead);
        if syncs > 0 {
            (0..syncs).for_each(|_| file.count_sync(true));
            self.reserve.fit(file.folder.file_bytes());
        }
        if file.log.has_begun_anew() {
            file.keep_up();
        }
        if syncs > 0 || (has_removed && !file.log.is_held_up()) {
            self.look_for_surplus(file);
        }
    }

    /// Checks whether the file has more free pages than it keeps for reuse.
    pub(super) fn look_for_surplus(&mut self, file: &StoreFile) {
        if self.surplus == Surplus::None && self.has_surplus(file) {
            self.surplus = Surplus::Found;
        }
    }

    fn has_surplus(&self, file: &StoreFile) -> bool {
        let free = file.bytes_in("freelist_count");
        free > self.free_bytes_max && free > file.bytes_in("page_count") / FREE_SHARE
    }

    /// Whether the caller should begin to call [`DiskSpace::shrink_some`]; true only once per surplus.
    pub(super) fn is_to_shrink(&mut self) -> bool {
        let is_found = self.surplus == Surplus::Found;
        if is_found {
            self.surplus = Surplus::Shrinking;
        }
        is_found
    }

    /// Returns a few free pages to the disk, so that other work waits only briefly; returns whether there are more.
    /// Errors are only logged: an error that matters occurs again in the next commit.
    pub(super) fn shrink_some(&mut self, file: &mut StoreFile) -> bool {
        if self.surplus != Surplus::Shrinking {
            return false;
        }
        if self.has_surplus(file) {
            match file.vacuum(STEP_PAGES_MAX) {
                Ok(1..) => {
                    self.keep_log_short(file, false);
                    // While a read prevents the log from being restarted, returning pages uses more space than it
                    // frees.
                    if !file.log.is_held_up() {
                        return true;
                    }
                }
                Ok(0) => {}
                Err(error) => tracing::debug!(%error, "cannot shrink the database file"),
            }
        }
        // The file becomes shorter only when the log is written back.
        file.log.write_back(&file.connection);
        self.reserve.fit(file.folder.file_bytes());
        self.surplus = Surplus::None;
        false
    }
}

/// Returns free pages to the disk up to a bound, and truncates the log.
pub(super) fn compact(file: &mut StoreFile) -> Result<Space, Error> {
    file.vacuum(VACUUM_PAGES_MAX)?;
    let cut = |file: &StoreFile| -> Result<(), Trouble> {
        let about = About::read(&file.connection)?;
        Ok(log::shorten(&file.connection, || about.write(&file.connection))?)
    };
    cut(file).map_err(|trouble| file.error(trouble, During::Read))?;
    (0..2).for_each(|_| file.count_sync(true));
    file.keep_up();
    verify::space(&file.connection).map_err(|trouble| file.error(trouble, During::Read))
}

fn limit_pages(file: &StoreFile, pages: i64) -> rusqlite::Result<()> {
    file.connection
        .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

/// Returns free pages of the file to the disk.
fn shrink(file: &mut StoreFile) {
    if let Err(error) = file.vacuum(REGAIN_PAGES_MAX) {
        tracing::debug!(%error, "cannot shrink the database file");
    }
    file.log.write_back(&file.connection);
}

fn as_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
