//! The writing half: one transaction for each group.

use std::path::Path;

use rusqlite::Connection;
use taskhub_core::time::Timestamp;

use super::fold::fold;
use super::folder::Folder;
use super::hubs::{self, Counters, Hubs};
use super::log::{self, Log};
use super::trouble::{During, Trouble};
use super::{Options, Synchronous, rows, verify};
use crate::blocking::Writer;
use crate::{Error, Group, HubAsk, HubInfo, Job, JobReport, Lease, PartitionKey, Work};

/// Pages given back to the system by one compaction: it must end.
const VACUUM_PAGES_MAX: u32 = 16_384;

/// The one writer of a store. Until it is dropped, the folder is its own.
///
/// Dropping it between `stage` and `seal` is what a crash there would be: SQLite takes the open
/// transaction back.
#[derive(Debug)]
pub struct SqliteWriter {
    // Before the folder, which is let go last.
    connection: Connection,
    hubs: Hubs,
    staged: Option<Staged>,
    work: Work,
    is_synced: bool,
    /// Ours are of one size, but it is no part of the format.
    page_bytes: i64,
    log: Log,
    folder: Folder,
}

/// What becomes true when the transaction is committed.
#[derive(Debug)]
struct Staged {
    counters: std::collections::BTreeMap<i64, Counters>,
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
        let folder = Folder::take(folder)?;
        let connection = folder.connect(&options)?;
        let hubs = Hubs::load(&connection).map_err(|trouble| folder.error(trouble, During::Read))?;
        let is_synced = options.synchronous == Synchronous::Full;
        let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get(0));
        let page_bytes = page_bytes.map_err(|error| folder.error(error.into(), During::Read))?;
        let mut writer = Self {
            connection,
            hubs,
            staged: None,
            work: Work::default(),
            is_synced,
            page_bytes,
            log: Log::new(page_bytes),
            folder,
        };
        writer.limit(options.bytes_max)?;
        Ok(writer)
    }

    /// Limits the size of the file; what does not fit is refused as `Full`. A file that is larger already
    /// does not shrink.
    ///
    /// # Errors
    ///
    /// `Unavailable` if SQLite cannot be asked.
    pub fn limit(&mut self, bytes_max: Option<u64>) -> Result<(), Error> {
        // SQLite's own bound.
        let most = i64::from(u32::MAX - 1);
        let pages = bytes_max
            .map_or(most, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX) / self.page_bytes)
            .clamp(1, most);
        let set = self
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        set.map_err(|error| self.error(error, During::Read))
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

    /// Runs a small change as a transaction of its own, and then remembers what became of the hubs.
    fn change<T>(&mut self, run: impl FnOnce(&Connection, &Hubs) -> Result<T, Trouble>) -> Result<T, Error> {
        self.abandon();
        let change = || -> Result<(T, Hubs, u64), Trouble> {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            let before = self.connection.total_changes();
            let answer = run(&self.connection, &self.hubs)?;
            let rows = self.connection.total_changes() - before;
            let hubs = Hubs::load(&self.connection)?;
            self.connection.execute_batch("COMMIT")?;
            Ok((answer, hubs, rows))
        };
        match change() {
            Ok((answer, hubs, rows)) => {
                self.hubs = hubs;
                self.work.rows += rows;
                self.count_sync(rows > 0);
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
        if let Error::Full = error
            && let Err(error) = log::write_back(&self.connection)
        {
            tracing::debug!(%error, "the log could not be written back either");
        }
        error
    }

    fn count_sync(&mut self, has_written: bool) {
        if has_written && self.is_synced {
            self.work.syncs += 1;
        }
    }

    fn keep_log_short(&mut self) {
        match self.log.keep_short(&self.connection) {
            Ok(syncs) => (0..syncs).for_each(|_| self.count_sync(true)),
            Err(error) => tracing::warn!(%error, "the log could not be written back"),
        }
    }

    fn compact(&mut self) -> Result<(), Trouble> {
        let mut vacuum = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})"))?;
        // It frees one page with each step.
        let mut steps = vacuum.query([])?;
        let mut freed = 0;
        while steps.next()?.is_some() {
            freed += 1;
        }
        tracing::debug!(freed, "pages given back");
        drop(steps);
        drop(vacuum);
        log::truncate(&self.connection)?;
        (0..2).for_each(|_| self.count_sync(true));
        Ok(())
    }
}

impl Writer for SqliteWriter {
    fn hubs(&mut self, ask: &HubAsk) -> Result<Vec<HubInfo>, Error> {
        match ask {
            HubAsk::List => Ok(self.hubs.infos()),
            HubAsk::Create { name, partitions, now } => {
                let info = HubInfo {
                    name: name.clone(),
                    partitions: (*partitions).max(1),
                    created_at: *now,
                };
                self.change(|connection, hubs| hubs::create(connection, hubs, &info))?;
                Ok(vec![info])
            }
            HubAsk::Delete { name } => Ok(vec![
                self.change(|connection, hubs| hubs::delete(connection, hubs, name))?,
            ]),
        }
    }

    fn claim(&mut self, partitions: &[PartitionKey], _now: Timestamp) -> Result<Vec<Lease>, Error> {
        self.change(|connection, hubs| hubs::claim(connection, hubs, partitions))
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), Error> {
        self.change(|connection, hubs| hubs::release(connection, hubs, leases))
    }

    fn stage(&mut self, group: &Group) -> Result<(), Error> {
        self.abandon();
        let stage = || -> Result<Staged, Trouble> {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let folded = fold(group, &self.hubs, &mut |key| rows::head(&self.connection, key))?;
            let rows = rows::write(&self.connection, &folded)?;
            Ok(Staged {
                counters: folded.counters,
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
        self.hubs.count(&staged.counters);
        self.work.groups += 1;
        self.work.commits += staged.commits;
        self.work.rows += staged.rows;
        self.count_sync(staged.rows > 0);
        self.keep_log_short();
        Ok(())
    }

    fn maintain(&mut self, job: Job) -> Result<JobReport, Error> {
        self.abandon();
        let report = match job {
            Job::Verify => verify::verify(&self.connection),
            Job::Compact => self.compact().and_then(|()| verify::size(&self.connection)),
        };
        report.map_err(|trouble| self.error(trouble, During::Read))
    }

    fn work(&self) -> Work {
        self.work
    }
}
