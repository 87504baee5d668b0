//! Keeps the log in front of the file short.
//!
//! Groups are appended to the log, and what they come to is written back to the file now and then, which
//! holds up no reader. A log that is written back is used from its beginning again as soon as nobody reads
//! from it. While reads overlap that moment does not come by itself, and the log would grow for ever: so
//! from a certain length on it is waited for, without new groups. The wait is as long as the reads under way
//! and is bounded. If it was in vain the log may grow to twice its length before a wait of twice the time,
//! so that a long read costs groups little, and steady reads of whatever length end up with a log in
//! proportion to that.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

/// The log is written back when this much of it is not.
const BACKLOG_BYTES_MAX: i64 = 16 << 20;
/// Length from which on readers are waited for, and to which a longer log is cut when it begins anew.
pub(super) const RESTART_BYTES: i64 = 32 << 20;
/// How long they are waited for the first time, and at most.
const RESTART_WAIT: Duration = Duration::from_millis(100);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long anything else waits for a lock that another process has: somebody who looks into the file.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How far the log of a connection is, and what is done about it next.
#[derive(Debug)]
pub(super) struct Log {
    /// Pages of our files are of one size, but it is no part of the format.
    page_bytes: i64,
    restart_bytes: i64,
    wait: Duration,
    /// Length at the last look.
    logged: i64,
    /// It was begun anew since somebody asked.
    is_anew: bool,
    /// It could not be written back for want of space.
    is_stuck: bool,
}

/// What a checkpoint left.
#[derive(Clone, Copy, Debug)]
struct Length {
    /// Whether somebody was in its way.
    is_busy: bool,
    /// Bytes in the log.
    logged: i64,
    /// How many of them are in the file too.
    done: i64,
}

impl Log {
    pub(super) fn new(page_bytes: i64) -> Self {
        Self {
            page_bytes,
            restart_bytes: RESTART_BYTES,
            wait: RESTART_WAIT,
            logged: 0,
            is_anew: false,
            is_stuck: false,
        }
    }

    /// Whether it was begun anew since this was last asked, as far as its length tells: one that becomes longer than it was
    /// at once does not show.
    pub(super) fn has_begun_anew(&mut self) -> bool {
        std::mem::take(&mut self.is_anew)
    }

    /// Whether it could not be written back for want of space when that was last tried.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Whether reads keep it from being begun anew, as its length told when something had just been written: then it grows with
    /// everything that is written.
    pub(super) fn is_held_up(&self) -> bool {
        self.logged >= RESTART_BYTES
    }

    /// Writes the log back as far as that holds nobody up. A failure costs nothing but space.
    pub(super) fn write_back(&mut self, connection: &Connection) {
        let written = write_back(connection);
        self.is_stuck = written.as_ref().is_err_and(is_full);
        if let Err(error) = written {
            tracing::debug!(%error, "the log could not be written back");
        }
    }

    /// Called after each group, and told whether the log is so far ahead of the file that it must be written back
    /// whatever its length; answers how many syncs of files that took. A failure costs nothing but
    /// space: what is in the log is durable, and the next group tries again.
    pub(super) fn keep_short(&mut self, connection: &Connection, is_ahead: bool) -> u64 {
        let kept = self.try_keep_short(connection, is_ahead);
        kept.unwrap_or_else(|error| {
            self.is_stuck = is_full(&error);
            tracing::warn!(%error, "the log could not be written back");
            0
        })
    }

    fn try_keep_short(&mut self, connection: &Connection, is_ahead: bool) -> rusqlite::Result<u64> {
        let before = self.checkpoint(connection, "NOOP")?;
        // Each group makes it longer.
        self.is_anew |= before.logged <= self.logged;
        self.logged = before.logged;
        if before.logged < RESTART_BYTES {
            (self.restart_bytes, self.wait) = (RESTART_BYTES, RESTART_WAIT);
        }
        let backlog = before.logged - before.done;
        if !is_ahead && backlog < BACKLOG_BYTES_MAX && before.logged < self.restart_bytes {
            return Ok(0);
        }
        let mut after = self.checkpoint(connection, "PASSIVE")?;
        if after.logged >= self.restart_bytes {
            after = self.wait_for_readers(connection)?;
        }
        // The log before, the file after.
        Ok(if after.done > before.done { 2 } else { 0 })
    }

    /// Waits until all of the log is written back and nobody reads from it, so that the next group begins it
    /// anew. Readers that come meanwhile are no obstacle.
    fn wait_for_readers(&mut self, connection: &Connection) -> rusqlite::Result<Length> {
        connection.busy_timeout(self.wait)?;
        let length = self.checkpoint(connection, "RESTART");
        connection.busy_timeout(LOCK_WAIT)?;
        let length = length?;
        if length.is_busy {
            let (bytes, waited) = (length.logged, self.wait);
            tracing::warn!(bytes, ?waited, "a long read keeps the log from being begun anew");
            self.restart_bytes = 2 * length.logged.max(RESTART_BYTES);
            self.wait = RESTART_WAIT_MAX.min(2 * self.wait);
        }
        Ok(length)
    }

    fn checkpoint(&self, connection: &Connection, mode: &str) -> rusqlite::Result<Length> {
        checkpoint(connection, mode, |is_busy, logged, done| Length {
            is_busy,
            logged: logged * self.page_bytes,
            done: done * self.page_bytes,
        })
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// How many frames of the log there are: none where the next one begins a log whose salts may be any.
pub(super) fn frames(connection: &Connection) -> rusqlite::Result<i64> {
    checkpoint(connection, "NOOP", |_, logged, _| logged)
}

/// Writes the log back as far as that holds nobody up.
pub(super) fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "PASSIVE", |_, _, _| ())
}

/// Writes the log back and cuts it to nothing, if nobody reads from it for a moment.
pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "TRUNCATE", |_, _, _| ())
}

/// Writes the log back and has it begin anew, as short as what is written next: it is never empty while the store is open,
/// so that an empty one is known to have lost something.
pub(super) fn shorten(connection: &Connection, write: impl FnOnce() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let limit = |bytes: i64| connection.pragma_update_and_check(None, "journal_size_limit", bytes, |_| Ok(()));
    limit(0)?;
    let written = checkpoint(connection, "RESTART", |_, _, _| ()).and_then(|()| write());
    limit(RESTART_BYTES)?;
    written
}

/// Writes all of the log into the file, both synced, and has it begin anew; `false` if somebody reads from it for long.
pub(super) fn write_back_all(connection: &Connection) -> rusqlite::Result<bool> {
    checkpoint(connection, "RESTART", |is_busy, logged, done| {
        !is_busy && logged == done
    })
}

/// Runs a checkpoint, and hands on whether it was kept from its end, and the pages that are in the log and
/// of these in the file.
fn checkpoint<T>(connection: &Connection, mode: &str, read: impl FnOnce(bool, i64, i64) -> T) -> rusqlite::Result<T> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    statement.query_row([], |row| Ok(read(row.get(0)?, row.get(1)?, row.get(2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A MiB goes to the log.
    fn write(connection: &Connection) {
        let sql = "UPDATE t SET body = randomblob(1048576)";
        connection.execute_batch(sql).unwrap();
    }

    #[test]
    fn after_a_long_read_the_log_has_its_first_bound_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Connection::open(folder.path().join("some.db")).unwrap();
        let (connection, reader) = (open(), open());
        let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0; \
             CREATE TABLE t (body); INSERT INTO t VALUES (zeroblob(1))";
        connection.execute_batch(setup).unwrap();
        let page_bytes = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        let mut log = Log::new(page_bytes);
        let bounds = |log: &Log| (log.restart_bytes, log.wait);

        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        while log.logged < RESTART_BYTES {
            write(&connection);
            log.keep_short(&connection, false);
        }
        let (bytes, wait) = bounds(&log);
        assert!(
            bytes >= 2 * RESTART_BYTES,
            "{bytes}: nobody waits for a long read at every group"
        );
        assert_eq!(wait, 2 * RESTART_WAIT);

        reader.execute_batch("COMMIT").unwrap();
        // All of it is written back, so that what comes next begins it anew.
        log.write_back(&connection);
        write(&connection);
        log.keep_short(&connection, false);
        assert!(log.has_begun_anew());
        assert_eq!(bounds(&log), (RESTART_BYTES, RESTART_WAIT));
    }
}
