//! The file of a store while its one writer has it open, with its log: what must be so before anything is written, small
//! changes, and what is done when one fails. How much room there is, is the matter of `disk_space`.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::folder::{self, Folder};
use super::frames;
use super::hubs::{self, About};
use super::log::{self, Log};
use super::trouble::{During, Trouble};
use super::watch::Watch;
use super::{Options, Synchronous};
use crate::sql::{Change, Hubs, Part, Recent};
use crate::{Error, Work};

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

/// A group that is written and not committed yet: what becomes true with the commit.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) parts: std::collections::BTreeMap<i64, Part>,
    pub(super) changes: Vec<Change>,
    pub(super) commits: u64,
    pub(super) rows: u64,
    /// Instances are removed, which leaves free pages.
    pub(super) has_removed: bool,
}

/// The file and its log.
#[derive(Debug)]
pub(super) struct StoreFile {
    // Before the folder, which is let go last.
    pub(super) connection: Connection,
    pub(super) hubs: Hubs,
    pub(super) recent: Recent,
    pub(super) staged: Option<Staged>,
    pub(super) work: Work,
    pub(super) log: Log,
    /// Ours are of one size, but it is no part of the format.
    pub(super) page_bytes: i64,
    standing: Standing,
    options: Options,
    pub(super) folder: Folder,
}

impl StoreFile {
    /// Over a connection that was just opened in the folder.
    pub(super) fn new(folder: Folder, connection: Connection, options: Options) -> Result<Self, Error> {
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

    /// Has the log say which file it belongs to before anything else is in it, and the file say that it is open, and what its
    /// log is known by.
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

    /// Has the file say that nobody has it open, and no log goes with it.
    pub(super) fn mark_closed(&mut self) -> Result<(), Error> {
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

    /// Has SQLite remove the log when the file is closed, as it may once the file says that it has none.
    pub(super) fn drop_log(&self) -> Result<(), Error> {
        keep_log(&self.connection, false).map_err(|error| self.error(error, During::Write))
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
            tracing::warn!(%error, "a transaction could not be taken back");
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

    /// Opens the file anew after a failure, and has all of the log be in it, before anything is acknowledged again. The
    /// system may have dropped what it could not write and take it for written: a sync of the same log would go well, and
    /// what comes behind the gap would be lost with the next power cut.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if self.standing != Standing::Doubtful {
            return Ok(());
        }
        tracing::warn!(
            place = self.folder.file(),
            "a write failed; the file is opened anew, and all of the log written into it"
        );
        self.connection = self.folder.open(&self.options)?;
        let is_settled = log::write_back_all(&self.connection).map_err(|error| self.error(error, During::Read))?;
        if !is_settled {
            let source = "somebody reads from the log, which must be written into the file after a failure".into();
            return Err(Error::Unavailable { source });
        }
        self.hubs = hubs::load(&self.connection).map_err(|trouble| self.error(trouble, During::Read))?;
        self.standing = Standing::Unmarked;
        Ok(())
    }

    /// What must be so before anything is written.
    pub(super) fn be_ready(&mut self) -> Result<(), Error> {
        self.settle()?;
        match self.standing {
            Standing::Marked => Ok(()),
            Standing::Unmarked | Standing::Doubtful => self.begin(),
        }
    }

    /// Runs a small change as a transaction of its own, and then remembers what became of the hubs.
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

    /// Notes how far its log has come, after that was begun anew; the next time does as well.
    pub(super) fn keep_up(&mut self) {
        if let Err(error) = self.follow_log() {
            tracing::warn!(%error, "the store could not note how far its log has come");
        }
    }

    /// Gives free pages of the file back, which become fewer bytes when the log is written back; answers how many. SQLite moves
    /// a page from the end for each that is free, so the work is as much as what is given back.
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

/// Gives free pages of a file back, so many or all; answers how many.
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

/// Whether the log stays when the last connection is closed.
pub(super) fn keep_log(connection: &Connection, is_kept: bool) -> rusqlite::Result<()> {
    let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(config, is_kept).map(drop)
}
