//! How much room a store takes, and what is done when there is none: the limit of its file, the room that is kept for purges
//! (A43), and giving back what is free.
//!
//! The ordinary path knows of it in three places: a group that adds work is not tried until the kept room is whole, a group
//! that must be possible on a full disk is tried again with some of it, and after each group the log is kept short.

use super::hubs::About;
use super::log;
use super::reserve::Reserve;
use super::store_file::StoreFile;
use super::trouble::{During, Trouble};
use super::verify;
use crate::{Error, Room, Space};

/// SQLite's own bound of a file.
const PAGES_MAX: i64 = u32::MAX as i64 - 1;
/// Pages given back to the system by one compaction: it must end.
const VACUUM_PAGES_MAX: u32 = 16_384;

/// Pages given back to the system at once while room is to be regained.
const REGAIN_PAGES_MAX: u32 = 256;

/// Least bytes that must be left before there is room for new work.
const FOUND_BYTES_MIN: u64 = 64 << 10;

/// Free bytes of a file that are kept for what comes, unless the options say otherwise: giving back and taking again costs
/// two writes for each page.
const FREE_BYTES_MAX: u64 = 8 << 20;
/// And so many of its bytes: one of these.
const FREE_SHARE: u64 = 5;
/// Pages given back in one step beside other work, which waits for it: 1 MiB.
const STEP_PAGES_MAX: u32 = 128;

/// The room of a store.
#[derive(Debug)]
pub(super) struct DiskSpace {
    /// Most pages of the file.
    pages_max: i64,
    reserve: Reserve,
    free_bytes_max: u64,
    surplus: Surplus,
}

/// What is done about free pages of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surplus {
    /// Nothing.
    None,
    /// There are more than are kept, and nobody gives them back yet.
    Found,
    /// They are being given back, step by step.
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

    /// Limits the size of the file. One that is larger already does not shrink.
    pub(super) fn limit(&mut self, file: &StoreFile, bytes_max: Option<u64>) -> Result<(), Error> {
        self.pages_max = bytes_max
            .map_or(PAGES_MAX, |bytes| as_bytes(bytes) / file.page_bytes)
            .clamp(1, PAGES_MAX);
        limit_pages(file, self.pages_max).map_err(|error| file.error(error, During::Read))
    }

    /// Gives the kept room up, so that a store can be opened at all; answers whether there was some.
    pub(super) fn give_up(&mut self) -> bool {
        self.reserve.give_up() > 0
    }

    /// Keeps what there is room for, once the store is open.
    pub(super) fn begin(&mut self, file: &StoreFile) {
        self.reserve.fit(file.folder.file_bytes());
        if self.reserve.fill().is_err() {
            let place = file.folder.file();
            tracing::info!(place, "the disk is full; the store can be read, and purged");
        }
    }

    /// Has what is tried next use some of the kept room. What is given up anybody else on the disk can take, so no more is
    /// than must be. [`DiskSpace::end_loan`] follows.
    pub(super) fn lend(&mut self, room: Room, file: &mut StoreFile) {
        let (bytes, beyond) = match room {
            Room::Kept => (self.reserve.give_up(), self.reserve.wanted()),
            Room::Share | Room::Free => (self.reserve.give_up_share(), self.reserve.share()),
        };
        tracing::info!(bytes, ?room, "the store is full; the room that is kept is used");
        let pages = self.pages_max.saturating_add(as_bytes(beyond) / file.page_bytes);
        if let Err(error) = limit_pages(file, pages.min(PAGES_MAX)) {
            tracing::warn!(%error, "the limit of the file could not be lifted");
        }
        // A log that is written back is used from its beginning again, which is all that a purge needs. If there
        // is not enough room for that the attempt would use up what there is, and the log needs it.
        if file.growth() <= bytes {
            file.log.write_back(&file.connection);
        }
    }

    /// Sets the limit of the file again.
    pub(super) fn end_loan(&self, file: &StoreFile) {
        if let Err(error) = limit_pages(file, self.pages_max) {
            tracing::warn!(%error, "the limit of the file could not be set again");
        }
    }

    /// Keeps room for the next purge, and the log so that it can be written back: from what the disk has, and
    /// from what free pages of the file give back. Most often there is nothing to do.
    ///
    /// # Errors
    ///
    /// `Full` as long as there is not enough: what adds work would use it up.
    pub(super) fn regain(&mut self, file: &mut StoreFile) -> Result<(), Error> {
        if !file.log.is_stuck() && self.reserve.fill().is_ok() {
            return Ok(());
        }
        shrink(file);
        let growth = file.growth();
        if file.log.is_stuck() && growth <= self.reserve.bytes() && growth <= file.bytes_in("freelist_count") {
            // The file grows, and then gives back at least as much.
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

    /// Whether a group that adds work would be tried, and find some room.
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
            // The file may have what the disk has not.
            shrink(file);
            if file.folder.refuses_to_grow() {
                return Err(Error::Full);
            }
        }
        Ok(())
    }

    /// After each group: writes the log back if it is long, or so far ahead of the file that the kept room would not do for
    /// that. Looks for free pages then, and when instances were removed.
    pub(super) fn keep_log_short(&mut self, file: &mut StoreFile, has_removed: bool) {
        // What is kept is given up for this too, so there must not be more of it.
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

    /// Looks whether more of the file is free than is kept for what comes.
    pub(super) fn look_for_surplus(&mut self, file: &StoreFile) {
        if self.surplus == Surplus::None && self.has_surplus(file) {
            self.surplus = Surplus::Found;
        }
    }

    fn has_surplus(&self, file: &StoreFile) -> bool {
        let free = file.bytes_in("freelist_count");
        free > self.free_bytes_max && free > file.bytes_in("page_count") / FREE_SHARE
    }

    /// Whether somebody should begin with [`DiskSpace::shrink_some`]; says so once.
    pub(super) fn is_to_shrink(&mut self) -> bool {
        let is_found = self.surplus == Surplus::Found;
        if is_found {
            self.surplus = Surplus::Shrinking;
        }
        is_found
    }

    /// Gives some of the free pages back, so few that nothing waits long for it; answers whether there is more to give back.
    /// What fails here fails again where it matters.
    pub(super) fn shrink_some(&mut self, file: &mut StoreFile) -> bool {
        if self.surplus != Surplus::Shrinking {
            return false;
        }
        if self.has_surplus(file) {
            match file.vacuum(STEP_PAGES_MAX) {
                Ok(1..) => {
                    self.keep_log_short(file, false);
                    // While reads hold the log up, giving back takes more room than it gives.
                    if !file.log.is_held_up() {
                        return true;
                    }
                }
                Ok(0) => {}
                Err(error) => tracing::debug!(%error, "the file could not be made smaller"),
            }
        }
        // Only then does the file become shorter.
        file.log.write_back(&file.connection);
        self.reserve.fit(file.folder.file_bytes());
        self.surplus = Surplus::None;
        false
    }
}

/// Gives free pages back at once, up to a bound, and cuts the log.
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

/// Gives free pages of the file back to the disk.
fn shrink(file: &mut StoreFile) {
    if let Err(error) = file.vacuum(REGAIN_PAGES_MAX) {
        tracing::debug!(%error, "the file could not be made smaller");
    }
    file.log.write_back(&file.connection);
}

fn as_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
