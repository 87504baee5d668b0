//! Keeps the log in front of the file short.
//!
//! Groups are appended to the log, and a checkpoint writes them back into the file from time to time without blocking
//! readers. After a complete checkpoint, SQLite restarts the log from its beginning as soon as no reader uses it. While
//! reads overlap, that moment never comes by itself and the log would grow forever. Therefore, above a certain length,
//! the writer waits for the readers and writes no new groups meanwhile. The wait is as long as the reads under way and
//! is bounded. If it was in vain the log may grow to twice its length before a wait of twice the time, so that a long
//! read costs groups little, and steady reads of whatever length end up with a log in proportion to that.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

/// The log is written back when this much of it is not.
const BACKLOG_BYTES_MAX: i64 = 16 << 20;
/// Length above which the writer waits for readers, and to which a longer log is truncated when it restarts.
pub(super) const RESTART_BYTES: i64 = 32 << 20;
/// How long they are waited for the first time, and at most.
const RESTART_WAIT: Duration = Duration::from_millis(100);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long other statements wait for a lock of another process, such as one that inspects the file.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The state of a connection's log, and the next action on it.
#[derive(Debug)]
pub(super) struct Log {
    /// Page size in bytes. This version writes only one size, but the format does not fix it.
    page_bytes: i64,
    restart_bytes: i64,
    wait: Duration,
    /// Length at the last look.
    logged: i64,
    /// The log was restarted since the last query.
    is_anew: bool,
    /// It could not be written back for want of space.
    is_stuck: bool,
}

/// What a checkpoint left.
#[derive(Clone, Copy, Debug)]
struct Length {
    /// Whether a reader blocked the last attempt.
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

    /// Whether the log was restarted since the last call. This is derived from its length, so a restarted log that
    /// immediately grows beyond its old length is missed.
    pub(super) fn has_begun_anew(&mut self) -> bool {
        std::mem::take(&mut self.is_anew)
    }

    /// Whether it could not be written back for want of space when that was last tried.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Whether reads prevent the log from being restarted, according to its length after the last write. If so, every
    /// write makes it longer.
    pub(super) fn is_held_up(&self) -> bool {
        self.logged >= RESTART_BYTES
    }

    /// Writes the log back as far as possible without blocking anyone. A failure costs only space.
    pub(super) fn write_back(&mut self, connection: &Connection) {
        let written = write_back(connection);
        self.is_stuck = written.as_ref().is_err_and(is_full);
        if let Err(error) = written {
            tracing::debug!(%error, "cannot write the log back into the database file");
        }
    }

    /// Called after each group. `is_ahead` means that the log is so far ahead of the file that it must be written back
    /// at any length. Returns the number of file syncs. A failure costs only space: the log is durable, and the next
    /// group tries again.
    pub(super) fn keep_short(&mut self, connection: &Connection, is_ahead: bool) -> u64 {
        let kept = self.try_keep_short(connection, is_ahead);
        kept.unwrap_or_else(|error| {
            self.is_stuck = is_full(&error);
            tracing::warn!(%error, "cannot write the log back into the database file");
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

    /// Waits until the whole log is written back and no reader uses it, so that the next group restarts it. Readers
    /// that begin meanwhile read from the file and do not delay this.
    fn wait_for_readers(&mut self, connection: &Connection) -> rusqlite::Result<Length> {
        connection.busy_timeout(self.wait)?;
        let length = self.checkpoint(connection, "RESTART");
        connection.busy_timeout(LOCK_WAIT)?;
        let length = length?;
        if length.is_busy {
            let (bytes, waited) = (length.logged, self.wait);
            tracing::warn!(
                bytes,
                ?waited,
                "a long-running read prevents the log from being restarted"
            );
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

/// Whether the log stays when the last connection is closed.
pub(super) fn keep(connection: &Connection, is_kept: bool) -> rusqlite::Result<()> {
    let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(config, is_kept).map(drop)
}

/// How many frames of the log there are: none where the next one begins a log whose salts may be any.
pub(super) fn frames(connection: &Connection) -> rusqlite::Result<i64> {
    checkpoint(connection, "NOOP", |_, logged, _| logged)
}

/// Writes the log back as far as possible without blocking anyone.
pub(super) fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "PASSIVE", |_, _, _| ())
}

/// Writes the log back and truncates it to zero bytes, if no reader uses it for a moment.
pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, "TRUNCATE", |_, _, _| ())
}

/// Writes the log back and restarts it with the next small write, so that it becomes short but never empty: an empty
/// log of a store that was not closed always means a loss.
pub(super) fn shorten(connection: &Connection, write: impl FnOnce() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let limit = |bytes: i64| connection.pragma_update_and_check(None, "journal_size_limit", bytes, |_| Ok(()));
    limit(0)?;
    let written = checkpoint(connection, "RESTART", |_, _, _| ()).and_then(|()| write());
    limit(RESTART_BYTES)?;
    written
}

/// Writes the whole log into the file, syncs both, and makes the next write restart the log; returns `false` if a
/// reader uses the log for too long.
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
