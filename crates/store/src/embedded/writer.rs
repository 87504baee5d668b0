//! The writing half: one transaction for each group.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use taskhub_core::id::HubName;
use taskhub_core::time::Timestamp;

use super::folder::Folder;
use super::hubs::{self, About};
use super::log::{self, Log};
use super::reserve::Reserve;
use super::trouble::{During, Trouble};
use super::watch::Watch;
use super::{Options, Synchronous, folder, frames, rows, verify};
use crate::blocking::Writer;
use crate::sql::{Change, Hubs, Part, Recent, fold};
use crate::{Beat, Claim, Claimed, Error, Group, HubInfo, Lease, NodeId, NodeLease, Room, Space, Work};

/// SQLite's own bound of a file.
const PAGES_MAX: i64 = u32::MAX as i64 - 1;
/// Pages given back to the system by one compaction: it must end.
const VACUUM_PAGES_MAX: u32 = 16_384;

/// Pages given back to the system at once while room is to be regained.
const REGAIN_PAGES_MAX: u32 = 256;

/// Least bytes that must be left before there is room for new work.
const FOUND_BYTES_MIN: u64 = 64 << 10;

/// The one writer of a store. Until it is dropped, the folder is its own.
///
/// Dropping it between `stage` and `seal` is what a crash there would be: SQLite takes the open
/// transaction back.
#[derive(Debug)]
pub struct SqliteWriter {
    // Before the folder, which is let go last.
    connection: Connection,
    hubs: Hubs,
    /// Which node has claimed each partition, by its row, since the store was opened; it did not give it back.
    owners: BTreeMap<i64, NodeId>,
    recent: Recent,
    staged: Option<Staged>,
    work: Work,
    is_synced: bool,
    /// Ours are of one size, but it is no part of the format.
    page_bytes: i64,
    log: Log,
    /// The log could not be written back for want of space.
    is_log_stuck: bool,
    /// Most pages of the file.
    pages_max: i64,
    reserve: Reserve,
    standing: Standing,
    options: Options,
    folder: Folder,
}

/// What must be done before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing.
    Marked,
    /// The log must say which file it belongs to.
    Unmarked,
    /// A write or a sync has failed, so that nobody knows what of the log is on disk.
    Doubtful,
}

/// What becomes true when the transaction is committed.
#[derive(Debug)]
struct Staged {
    parts: std::collections::BTreeMap<i64, Part>,
    changes: Vec<Change>,
    commits: u64,
    rows: u64,
}

impl SqliteWriter {
    /// Opens a store, which is made if the folder holds none.
    ///
    /// # Errors
    ///
    /// `Locked` if the folder is in use, `Format` if a newer version wrote the file, `Corrupt` if it is
    /// damaged or not a store at all, `Unavailable` if the folder cannot be used.
    pub fn open(folder: &Path, options: Options) -> Result<Self, Error> {
        let mut folder = Folder::take(folder)?;
        let mut reserve = folder.reserve();
        let connection = match folder.open(&options) {
            // Opening needs some room too (A43).
            Err(Error::Unavailable { .. } | Error::Full) if reserve.give_up() > 0 => folder.open(&options)?,
            opened => opened?,
        };
        keep_log(&connection, true).map_err(|error| folder.error(error.into(), During::Read))?;
        let hubs = hubs::load(&connection).map_err(|trouble| folder.error(trouble, During::Read))?;
        let is_synced = options.synchronous == Synchronous::Full;
        let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get(0));
        let page_bytes = page_bytes.map_err(|error| folder.error(error.into(), During::Read))?;
        let mut writer = Self {
            connection,
            hubs,
            owners: BTreeMap::new(),
            recent: Recent::default(),
            staged: None,
            work: Work::default(),
            is_synced,
            page_bytes,
            log: Log::new(page_bytes),
            is_log_stuck: false,
            pages_max: PAGES_MAX,
            reserve,
            standing: Standing::Unmarked,
            options,
            folder,
        };
        writer.limit(options.bytes_max)?;
        writer.mark_open()?;
        writer.reserve.fit(writer.folder.file_bytes());
        if writer.reserve.fill().is_err() {
            tracing::info!(
                place = writer.folder.file(),
                "the disk is full; the store can be read, and purged"
            );
        }
        Ok(writer)
    }

    /// Has the file itself say that it is open before anything is acknowledged: if its log is missing later, that is a loss.
    fn mark_open(&mut self) -> Result<(), Error> {
        match self.at_any_rate(Room::Kept, Self::begin) {
            // What is written without room is written back when there is some.
            Err(Error::Full) => {
                let place = self.folder.file();
                tracing::info!(
                    place,
                    "the disk is full; if the log is lost as well, nobody will say so"
                );
                Ok(())
            }
            marked => marked,
        }
    }

    /// Has the log say which file it belongs to before anything else is in it, and the file say that it is open, and what its
    /// log is known by.
    fn begin(&mut self) -> Result<(), Error> {
        let about = self.about()?;
        // Another connection, which did not begin it, has SQLite draw any salts for a log that has nothing in it.
        let is_new =
            !about.is_open || log::frames(&self.connection).map_err(|error| self.error(error, During::Read))? == 0;
        self.standing = Standing::Marked;
        if is_new {
            let is_open = true;
            let about = About { is_open, ..about }.begin_log();
            let begun = self.change(|connection, _| Ok(about.write(connection)?));
            if begun.is_err() && self.standing == Standing::Marked {
                self.standing = Standing::Unmarked;
            }
            begun?;
        }
        if self.follow_log()? || is_new {
            log::write_back(&self.connection).map_err(|error| self.error(error, During::Write))?;
        }
        Ok(())
    }

    /// Has the row about the store say how far its log has come, if it has come far; whether it has.
    fn follow_log(&mut self) -> Result<bool, Error> {
        let (about, found) = (self.about()?, self.log_salt()?);
        let Some(found) = found.filter(|found| !about.is_near(*found)) else {
            return Ok(false);
        };
        self.change(|connection, _| Ok(about.follow_log(found).write(connection)?))?;
        Ok(true)
    }

    fn log_salt(&self) -> Result<Option<u32>, Error> {
        let place = self.folder.path().join(folder::LOG);
        frames::salt(&place).map_err(|error| folder::unavailable(&place, &error))
    }

    fn about(&self) -> Result<About, Error> {
        About::read(&self.connection).map_err(|trouble| self.error(trouble, During::Read))
    }

    fn mark_closed(&mut self) -> Result<(), Error> {
        let about = self.about()?;
        if !about.is_open {
            return Ok(());
        }
        // A part of this log, or an earlier one, is none to go on with.
        let about = self.log_salt()?.map_or(about, |found| about.follow_log(found));
        let is_open = false;
        self.change(|connection, _| Ok(About { is_open, ..about }.write(connection)?))?;
        log::write_back(&self.connection).map_err(|error| self.error(error, During::Write))
    }

    /// Limits the size of the file; what does not fit is refused as `Full`. A file that is larger already
    /// does not shrink.
    ///
    /// # Errors
    ///
    /// `Unavailable` if SQLite cannot be asked.
    pub fn limit(&mut self, bytes_max: Option<u64>) -> Result<(), Error> {
        self.pages_max = bytes_max
            .map_or(PAGES_MAX, |bytes| as_bytes(bytes) / self.page_bytes)
            .clamp(1, PAGES_MAX);
        self.limit_pages(self.pages_max)
            .map_err(|error| self.error(error, During::Read))
    }

    fn limit_pages(&self, pages: i64) -> rusqlite::Result<()> {
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    /// A look at whether its files are still there.
    pub(super) fn watch(&self) -> &Watch {
        self.folder.watch()
    }

    /// What cannot be found again is not acknowledged.
    fn check_there(&self) -> Result<(), Error> {
        let watch = self.folder.watch();
        watch.lost().map_or(Ok(()), |why| {
            let folder = watch.folder().display().to_string();
            Err(Error::Lost { folder, why })
        })
    }

    /// Makes a group durable; if there is no other room, in what of the kept room it may use.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), Error> {
        let attempt = |writer: &mut Self| {
            writer.stage(group)?;
            writer.seal()
        };
        match group.room() {
            Room::Free => attempt(self),
            room @ (Room::Share | Room::Kept) => self.at_any_rate(room, attempt),
        }
    }

    fn error(&self, trouble: impl Into<Trouble>, during: During) -> Error {
        self.folder.error(trouble.into(), during)
    }

    /// Takes back what was staged and not sealed.
    fn abandon(&mut self) {
        self.staged = None;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be taken back");
        }
    }

    /// Runs what must be possible on a full disk: first as anything else, then in a share of the room that is kept, and
    /// then in all of it, if it may (A43). What is given up anybody else on the disk can take, so no more is than must be.
    fn at_any_rate<T>(&mut self, most: Room, run: impl Fn(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let mut result = run(self);
        for room in [Room::Share, Room::Kept] {
            if room > most || !matches!(result, Err(Error::Full)) {
                break;
            }
            self.use_reserve(room);
            result = run(self);
            if let Err(error) = self.limit_pages(self.pages_max) {
                tracing::warn!(%error, "the limit of the file could not be set again");
            }
        }
        if self.regain().is_err() {
            tracing::debug!("there is not enough room yet for anything but purges");
        }
        result
    }

    fn use_reserve(&mut self, room: Room) {
        let (bytes, beyond) = match room {
            Room::Kept => (self.reserve.give_up(), self.reserve.wanted()),
            Room::Share | Room::Free => (self.reserve.give_up_share(), self.reserve.share()),
        };
        tracing::info!(bytes, ?room, "the store is full; the room that is kept is used");
        let pages = self.pages_max.saturating_add(as_bytes(beyond) / self.page_bytes);
        if let Err(error) = self.limit_pages(pages.min(PAGES_MAX)) {
            tracing::warn!(%error, "the limit of the file could not be lifted");
        }
        // A log that is written back is used from its beginning again, which is all that a purge needs. If there
        // is not enough room for that the attempt would use up what there is, and the log needs it.
        if self.growth() <= bytes {
            self.write_back();
        }
    }

    /// Keeps room for the next purge, and the log so that it can be written back: from what the disk has, and
    /// from what free pages of the file give back.
    fn regain(&mut self) -> Result<(), Error> {
        if !self.is_log_stuck && self.reserve.fill().is_ok() {
            return Ok(());
        }
        self.shrink();
        let growth = self.growth();
        if self.is_log_stuck && growth <= self.reserve.bytes() && growth <= self.bytes_in("freelist_count") {
            // The file grows, and then gives back at least as much.
            self.reserve.give_up();
            self.write_back();
            self.shrink();
        }
        if self.is_log_stuck {
            return Err(Error::Full);
        }
        self.reserve.fit(self.folder.file_bytes());
        self.reserve.fill()
    }

    /// Gives free pages of the file back to the disk.
    fn shrink(&mut self) {
        if let Err(trouble) = self.vacuum(REGAIN_PAGES_MAX) {
            let error = self.error(trouble, During::Read);
            tracing::debug!(%error, "the file could not be made smaller");
        }
        self.write_back();
    }

    fn write_back(&mut self) {
        let written = log::write_back(&self.connection);
        self.is_log_stuck = written.as_ref().is_err_and(is_full);
        if let Err(error) = written {
            tracing::debug!(%error, "the log could not be written back");
        }
    }

    /// Bytes by which the file has to grow before all of the log is in it.
    fn growth(&self) -> u64 {
        self.bytes_in("page_count").saturating_sub(self.folder.file_bytes())
    }

    fn bytes_in(&self, pages: &str) -> u64 {
        let pages = self
            .connection
            .prepare_cached(&format!("PRAGMA {pages}"))
            .and_then(|mut count| count.query_row([], |row| row.get::<_, i64>(0)));
        let bytes = pages.map_or(0, |pages| pages.saturating_mul(self.page_bytes));
        u64::try_from(bytes).unwrap_or(0)
    }

    /// Opens the file anew after a failure, and has all of the log be in it, before anything is acknowledged again. The
    /// system may have dropped what it could not write and take it for written: a sync of the same log would go well, and
    /// what comes behind the gap would be lost with the next power cut.
    fn settle(&mut self) -> Result<(), Error> {
        if self.standing != Standing::Doubtful {
            return Ok(());
        }
        tracing::warn!(
            place = self.folder.file(),
            "a write failed; the file is opened anew, and all of the log written into it"
        );
        self.connection = self.folder.open(&self.options)?;
        let settled = keep_log(&self.connection, true).and_then(|()| log::write_back_all(&self.connection));
        let is_settled = settled.map_err(|error| self.error(error, During::Read))?;
        if !is_settled {
            let source = "somebody reads from the log, which must be written into the file after a failure".into();
            return Err(Error::Unavailable { source });
        }
        let hubs = hubs::load(&self.connection);
        self.hubs = hubs.map_err(|trouble| self.error(trouble, During::Read))?;
        self.standing = Standing::Unmarked;
        Ok(())
    }

    /// What must be so before anything is written.
    fn be_ready(&mut self) -> Result<(), Error> {
        self.settle()?;
        match self.standing {
            Standing::Marked => Ok(()),
            Standing::Unmarked | Standing::Doubtful => self.begin(),
        }
    }

    /// Runs a small change as a transaction of its own, and then remembers what became of the hubs.
    fn change<T>(&mut self, run: impl Fn(&Connection, &Hubs) -> Result<T, Trouble>) -> Result<T, Error> {
        self.abandon();
        self.be_ready()?;
        let change = || -> Result<(T, Hubs, u64), Trouble> {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            let before = self.connection.total_changes();
            let answer = run(&self.connection, &self.hubs)?;
            let rows = self.connection.total_changes() - before;
            let hubs = hubs::load(&self.connection)?;
            self.connection.execute_batch("COMMIT")?;
            Ok((answer, hubs, rows))
        };
        match change() {
            Ok((answer, hubs, rows)) => {
                self.hubs = hubs;
                // A hub may be gone.
                self.recent.clear();
                self.work.rows += rows;
                self.count_sync(rows > 0);
                self.check_there()?;
                Ok(answer)
            }
            Err(trouble) => Err(self.fail(trouble)),
        }
    }

    /// Takes back what failed. On a full disk the log is written back, after which it is used from its
    /// beginning again: that may be all the room that the next attempt needs (A43).
    fn fail(&mut self, trouble: impl Into<Trouble>) -> Error {
        self.abandon();
        let error = self.error(trouble, During::Write);
        if let Error::Unknown { .. } = error {
            self.standing = Standing::Doubtful;
        }
        self.recent.clear();
        if let Error::Full = error {
            self.write_back();
        }
        error
    }

    fn count_sync(&mut self, has_written: bool) {
        if has_written && self.is_synced {
            self.work.syncs += 1;
        }
    }

    fn keep_log_short(&mut self) {
        // What is kept is given up for this too, so there must not be more of it.
        let is_ahead = self.growth() >= self.reserve.wanted() / 2;
        match self.log.keep_short(&self.connection, is_ahead) {
            Ok(0) => {}
            Ok(syncs) => {
                (0..syncs).for_each(|_| self.count_sync(true));
                self.reserve.fit(self.folder.file_bytes());
            }
            Err(error) => {
                self.is_log_stuck = is_full(&error);
                tracing::warn!(%error, "the log could not be written back");
            }
        }
        if self.log.has_begun_anew() {
            self.keep_up();
        }
    }

    /// After the log was begun anew; the next time does as well.
    fn keep_up(&mut self) {
        if let Err(error) = self.follow_log() {
            tracing::warn!(%error, "the store could not note how far its log has come");
        }
    }

    fn vacuum(&mut self, pages_max: u32) -> Result<(), Trouble> {
        self.be_ready()?;
        let mut vacuum = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({pages_max})"))?;
        // It frees one page with each step.
        let mut steps = vacuum.query([])?;
        let mut freed = 0;
        while steps.next()?.is_some() {
            freed += 1;
        }
        tracing::debug!(freed, "pages given back");
        Ok(())
    }

    /// Whether a group would be tried, and find some room.
    fn look_for_room(&mut self) -> Result<(), Error> {
        self.regain()?;
        let left = self
            .pages_max
            .saturating_mul(self.page_bytes)
            .saturating_add(as_bytes(self.bytes_in("freelist_count")));
        let is_limited = as_bytes(self.bytes_in("page_count")).saturating_add(as_bytes(FOUND_BYTES_MIN)) > left;
        if is_limited {
            return Err(Error::Full);
        }
        if self.folder.refuses_to_grow() {
            // The file may have what the disk has not.
            self.shrink();
            if self.folder.refuses_to_grow() {
                return Err(Error::Full);
            }
        }
        Ok(())
    }

    fn give_back(&mut self) -> Result<Space, Trouble> {
        self.vacuum(VACUUM_PAGES_MAX)?;
        let about = About::read(&self.connection)?;
        log::shorten(&self.connection, || about.write(&self.connection))?;
        (0..2).for_each(|_| self.count_sync(true));
        self.keep_up();
        verify::space(&self.connection)
    }
}

impl Drop for SqliteWriter {
    /// Marks the store as closed. Only then may SQLite remove the log.
    fn drop(&mut self) {
        self.abandon();
        let marked = self.at_any_rate(Room::Kept, Self::mark_closed);
        let marked =
            marked.and_then(|()| keep_log(&self.connection, false).map_err(|error| self.error(error, During::Write)));
        match marked {
            Ok(()) => {}
            // The next opener finds the log, which is all that it needs.
            Err(error @ Error::Full) => tracing::info!(%error, "the store is not marked as closed; its log stays"),
            Err(error) => tracing::warn!(%error, "the store could not be marked as closed; its log stays"),
        }
    }
}

/// Whether the log stays when the last connection is closed.
pub(super) fn keep_log(connection: &Connection, is_kept: bool) -> rusqlite::Result<()> {
    let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(config, is_kept).map(drop)
}

impl Writer for SqliteWriter {
    fn list_hubs(&mut self) -> Result<Vec<HubInfo>, Error> {
        Ok(self.hubs.infos())
    }

    fn create_hub(&mut self, name: &HubName, partitions: u16, now: Timestamp) -> Result<HubInfo, Error> {
        let info = HubInfo {
            name: name.clone(),
            partitions: partitions.max(1),
            created_at: now,
        };
        self.regain()?;
        self.change(|connection, hubs| hubs::create(connection, hubs, &info))?;
        Ok(info)
    }

    fn delete_hub(&mut self, name: &HubName) -> Result<HubInfo, Error> {
        self.at_any_rate(Room::Kept, |writer| {
            writer.change(|connection, hubs| hubs::delete(connection, hubs, name))
        })
    }

    /// There is one node for as long as the store is open, which keeps others out by a lock on its folder.
    fn beat(&mut self, node: NodeId, _lasts: Duration, now: Timestamp) -> Result<Beat, Error> {
        Ok(Beat {
            now,
            nodes: vec![NodeLease { node, ends_at: None }],
            owners: self.hubs.owners(&self.owners),
        })
    }

    /// It takes all that it names: another node of the same store is one of this process, which knows what it does.
    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Error> {
        let owners = self.owners.clone();
        let leases = self.at_any_rate(Room::Kept, |writer| {
            writer.change(|connection, hubs| hubs::claim(connection, hubs, claim, &owners))
        })?;
        let parts = leases.iter().filter_map(|lease| self.hubs.part(&lease.partition).ok());
        self.owners.extend(parts.map(|part| (part.row, claim.node)));
        let held = Vec::new();
        Ok(Claimed { leases, held })
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), Error> {
        self.at_any_rate(Room::Kept, |writer| {
            writer.change(|connection, hubs| hubs::release(connection, hubs, leases))
        })?;
        for lease in leases {
            if let Ok(part) = self.hubs.part(&lease.partition)
                && part.is_clean
            {
                self.owners.remove(&part.row);
            }
        }
        Ok(())
    }

    fn stage(&mut self, group: &Group) -> Result<(), Error> {
        self.abandon();
        self.be_ready()?;
        if group.room() == Room::Free {
            // It would use up the room that the next purge needs.
            self.regain()?;
        }
        let stage = || -> Result<Staged, Trouble> {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut lookup = |key| match self.recent.get(key) {
                None => rows::stored(&self.connection, key),
                recent => Ok(recent),
            };
            let folded = fold(group, &self.hubs, &mut lookup)?;
            let (rows, changes) = rows::write(&self.connection, &folded)?;
            Ok(Staged {
                parts: folded.parts,
                changes,
                commits: folded.commits,
                rows,
            })
        };
        match stage() {
            Ok(staged) => {
                self.staged = Some(staged);
                Ok(())
            }
            Err(trouble) => Err(self.fail(trouble)),
        }
    }

    fn seal(&mut self) -> Result<(), Error> {
        let Some(staged) = self.staged.take() else {
            unreachable!("a group is staged before it is sealed")
        };
        let commit = self
            .connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
        if let Err(error) = commit {
            return Err(self.fail(error));
        }
        self.hubs.count(&staged.parts);
        self.recent.apply(staged.changes);
        self.check_there()?;
        self.work.groups += 1;
        self.work.commits += staged.commits;
        self.work.rows += staged.rows;
        self.count_sync(staged.rows > 0);
        self.keep_log_short();
        Ok(())
    }

    fn compact(&mut self) -> Result<Space, Error> {
        self.abandon();
        self.settle()?;
        self.give_back().map_err(|trouble| self.error(trouble, During::Read))
    }

    fn find_room(&mut self) -> Result<(), Error> {
        self.abandon();
        self.settle()?;
        self.look_for_room()
    }

    fn work(&self) -> Work {
        self.work
    }
}

fn as_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
