//! The database file and its log while the only writer has them open: preconditions of a write, small changes, and
//! recovery after a failed write. `disk_space` manages the free space.

use rusqlite::Connection;

use super::folder::Folder;
use super::frames;
use super::hubs::{self, About};
use super::layout;
use super::log::{self, Log};
use super::trouble::{During, Trouble, unavailable};
use super::watch::Watch;
use super::{EmbeddedOptions, Synchronous};
use crate::sql::{Change, Hubs, Part, Recent};
use crate::{Error, Work};

/// What must happen before the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing.
    Marked,
    /// The log must record which file it belongs to.
    Unmarked,
    /// A write or a sync has failed, so it is unknown which part of the log is on disk.
    Doubtful,
}

/// A group that is written but not committed yet, with the changes to memory that the commit makes valid.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) parts: std::collections::BTreeMap<i64, Part>,
    pub(super) changes: Vec<Change>,
    pub(super) commits: u64,
    pub(super) rows: u64,
    /// The group removes instances, which leaves free pages.
    pub(super) has_removed: bool,
}

/// The file and its log.
#[derive(Debug)]
pub(super) struct StoreFile {
    // Dropped before the folder, whose lock must be released last.
    pub(super) connection: Connection,
    pub(super) hubs: Hubs,
    pub(super) recent: Recent,
    pub(super) staged: Option<Staged>,
    pub(super) work: Work,
    pub(super) log: Log,
    /// Page size in bytes. This version writes only one size, but the format does not fix it.
    pub(super) page_bytes: i64,
    standing: Standing,
    options: EmbeddedOptions,
    pub(super) folder: Folder,
}

impl StoreFile {
    /// Over a connection that was just opened in the folder.
    pub(super) fn new(folder: Folder, connection: Connection, options: EmbeddedOptions) -> Result<Self, Error> {
        let read = || -> Result<(Hubs, i64), Trouble> {
            let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            Ok((hubs::load(&connection)?, page_bytes))
        };
        let (hubs, page_bytes) = read().map_err(|trouble| folder.error(trouble, During::Read))?;
        Ok(Self {
            connection,
            hubs,
            recent: Recent::default(),
            staged: None,
            work: Work::default(),
            log: Log::new(page_bytes),
            page_bytes,
            standing: Standing::Unmarked,
            options,
            folder,
        })
    }

    /// Marks the log as the first write into it, so that it records which file it belongs to; marks the file as open
    /// and records the salt of its log.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
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

    /// Records in the row about the store how far its log has advanced, if it has advanced far; returns whether it has.
    fn follow_log(&mut self) -> Result<bool, Error> {
        let (about, found) = (self.about()?, self.log_salt()?);
        let Some(found) = found.filter(|found| !about.is_near(*found)) else {
            return Ok(false);
        };
        self.change(|connection, _| Ok(about.follow_log(found).write(connection)?))?;
        Ok(true)
    }

    fn log_salt(&self) -> Result<Option<u32>, Error> {
        let place = self.folder.path().join(layout::LOG);
        frames::salt(&place).map_err(|error| unavailable(&place, &error))
    }

    fn about(&self) -> Result<About, Error> {
        About::read(&self.connection).map_err(|trouble| self.error(trouble, During::Read))
    }

    /// Marks the file as closed and without a log.
    pub(super) fn mark_closed(&mut self) -> Result<(), Error> {
        if !self.about()?.is_open {
            return Ok(());
        }
        // After a failed write this begins a log with other salts. With the row from before, the file would name the log
        // of before, and the next opener would refuse this one if a reader kept SQLite from removing it.
        self.be_ready()?;
        let about = self.about()?;
        // Neither a part of this log nor an earlier log may be used from here on.
        let about = self.log_salt()?.map_or(about, |found| about.follow_log(found));
        let is_open = false;
        self.change(|connection, _| Ok(About { is_open, ..about }.write(connection)?))?;
        log::write_back(&self.connection).map_err(|error| self.error(error, During::Write))
    }

    /// Has SQLite remove the log when the file is closed, as it may once the file says that it has none.
    pub(super) fn drop_log(&self) -> Result<(), Error> {
        log::keep(&self.connection, false).map_err(|error| self.error(error, During::Write))
    }

    /// A look at whether its files are still there.
    pub(super) fn watch(&self) -> &Watch {
        self.folder.watch()
    }

    /// What cannot be found again is not acknowledged.
    pub(super) fn check_there(&self) -> Result<(), Error> {
        let watch = self.folder.watch();
        watch.lost().map_or(Ok(()), |why| {
            let folder = watch.folder().display().to_string();
            Err(Error::Lost { folder, why })
        })
    }

    pub(super) fn error(&self, trouble: impl Into<Trouble>, during: During) -> Error {
        self.folder.error(trouble.into(), during)
    }

    /// Takes back what was staged and not sealed.
    pub(super) fn abandon(&mut self) {
        self.staged = None;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "cannot roll back a transaction");
        }
    }

    /// Bytes by which the file has to grow before all of the log is in it.
    pub(super) fn growth(&self) -> u64 {
        self.bytes_in("page_count").saturating_sub(self.folder.file_bytes())
    }

    pub(super) fn bytes_in(&self, pages: &str) -> u64 {
        let pages = self
            .connection
            .prepare_cached(&format!("PRAGMA {pages}"))
            .and_then(|mut count| count.query_row([], |row| row.get::<_, i64>(0)));
        let bytes = pages.map_or(0, |pages| pages.saturating_mul(self.page_bytes));
        u64::try_from(bytes).unwrap_or(0)
    }

    /// Reopens the file after a failed write or sync, and writes the whole log into it before anything else is
    /// acknowledged. This is necessary because the system may have dropped pages that it could not write and marked
    /// them as clean: a second sync of the log would then succeed although the log has a gap, and everything after the
    /// gap would be lost at the next power failure.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if self.standing != Standing::Doubtful {
            return Ok(());
        }
        tracing::warn!(
            place = self.folder.file(),
            "a write failed; reopening the database file and writing the whole log back into it"
        );
        self.connection = self.folder.open(&self.options)?;
        let is_settled = log::write_back_all(&self.connection).map_err(|error| self.error(error, During::Read))?;
        if !is_settled {
            let source = "a read is in progress, so the log cannot be written back into the file, which is required \
                after a failed write"
                .into();
            return Err(Error::Unavailable { source });
        }
        self.hubs = hubs::load(&self.connection).map_err(|trouble| self.error(trouble, During::Read))?;
        self.standing = Standing::Unmarked;
        Ok(())
    }

    /// Establishes the preconditions of a write.
    pub(super) fn be_ready(&mut self) -> Result<(), Error> {
        self.settle()?;
        match self.standing {
            Standing::Marked => Ok(()),
            Standing::Unmarked | Standing::Doubtful => self.begin(),
        }
    }

    /// Runs a small change in its own transaction, and then updates the hubs in memory.
    pub(super) fn change<T>(&mut self, run: impl Fn(&Connection, &Hubs) -> Result<T, Trouble>) -> Result<T, Error> {
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
    pub(super) fn fail(&mut self, trouble: impl Into<Trouble>) -> Error {
        self.abandon();
        let error = self.error(trouble, During::Write);
        if let Error::Unknown { .. } = error {
            self.standing = Standing::Doubtful;
        }
        self.recent.clear();
        if let Error::Full = error {
            self.log.write_back(&self.connection);
        }
        error
    }

    pub(super) fn count_sync(&mut self, has_written: bool) {
        if has_written && self.options.synchronous == Synchronous::Full {
            self.work.syncs += 1;
        }
    }

    /// Records how far the log has advanced, after it was restarted. A failure is harmless, because the next call
    /// records it too.
    pub(super) fn keep_up(&mut self) {
        if let Err(error) = self.follow_log() {
            tracing::warn!(%error, "cannot record the current position of the log");
        }
    }

    /// Returns free pages of the file; the file becomes shorter when the log is written back. Returns the number of
    /// pages. SQLite moves one page from the end of the file for each free page, so the work is proportional to the
    /// pages returned.
    pub(super) fn vacuum(&mut self, pages_max: u32) -> Result<u64, Error> {
        self.be_ready()?;
        match vacuum(&self.connection, Some(pages_max)) {
            Ok(freed) => {
                self.count_sync(freed > 0);
                tracing::debug!(freed, "pages given back");
                Ok(freed)
            }
            Err(error) => Err(self.fail(error)),
        }
    }
}

/// Gives up to `pages_max` free pages of a file, or all, back to the disk; returns their number.
pub(super) fn vacuum(connection: &Connection, pages_max: Option<u32>) -> rusqlite::Result<u64> {
    let bound = pages_max.map(|pages| format!("({pages})")).unwrap_or_default();
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum{bound}"))?;
    // It frees one page with each step.
    let (mut steps, mut freed) = (vacuum.query([])?, 0);
    while steps.next()?.is_some() {
        freed += 1;
    }
    Ok(freed)
}
