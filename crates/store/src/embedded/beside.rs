//! Checks the log beside a database file before SQLite opens both: whether the log belongs to the file, and which data
//! is lost if it does not.
//!
//! SQLite applies any log that is consistent in itself, even one of another store or of an earlier time. Therefore the
//! row about the store records the first salt of the log that belongs to the file. SQLite draws this salt randomly for
//! a new log and adds one each time it restarts the log. The log belongs to the file in these cases:
//!
//! ```text
//!   the file says    the log                                        what happened
//!   open, salt s     has salt s or a later one                      the store was not closed
//!   closed, salt s   has salt s, and says that it is closed         closing was interrupted
//!   closed, salt s   has a later salt than s                        the same, while free pages were returned, or after a
//!                                                                   failed write
//!   salt s           says that it follows s, and was not restarted  a writer opened or reopened the store, and the
//!                                                                   file does not record that yet
//!   salt s           has no complete group                          the same, interrupted earlier
//!   no salt          any                                            the file is new, or was just converted
//! ```
//!
//! A salt that goes into the row is read only when nothing is left to be done before the next write: after a failed write,
//! the writer first reopens the store, and then begins a log with other salts.
//!
//! "The log says" means the row as SQLite reads it through the log. An older copy of the log of a store that was not
//! closed cannot be distinguished from the current log.

use std::io::{self, Read as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::frames::{self, Log, ROUNDS_MAX};
use super::hubs::About;
use super::layout::{self, FILE, FORMAT, Identity, LOG, PAGE_BYTES, identify};
use super::trouble::{During, Trouble, unavailable};
use super::{log, own};
use crate::Error;

/// What can be done about a log that lacks something.
pub(super) const WAYS_ON: &str = "put the log back, or a copy of the whole store; or go on with what is left: \
     `taskhub store repair --accept-loss`";

/// What the log of a store is like.
///
/// # Errors
///
/// If it cannot be looked at.
pub(super) fn log_of(path: &Path) -> Result<Log, Error> {
    let place = path.join(LOG);
    let look = || frames::look(&place, page_bytes(path)?);
    let log = look().map_err(|error| unavailable(&place, &error))?;
    let is_looked_at = match &log {
        Log::Whole => true,
        // Else there is nothing in it, or nothing that can be read.
        Log::Torn { at } | Log::Damaged { at, .. } => *at > 0,
        Log::Absent | Log::Foreign { .. } => false,
    };
    let Some(about) = alone(path).filter(|_| is_looked_at) else {
        return Ok(log);
    };
    let found = frames::salt(&place).map_err(|error| unavailable(&place, &error))?;
    let is_damaged = matches!(log, Log::Damaged { .. });
    let is_own = match (about.log_salt, found) {
        (Some(salt), Some(found)) => is_own(path, (about, salt), found, is_damaged)?,
        _ => true,
    };
    let was_open = about.is_open;
    Ok(if is_own { log } else { Log::Foreign { was_open } })
}

/// Length of the file's pages.
fn page_bytes(path: &Path) -> io::Result<usize> {
    let mut header = [0; 18];
    let mut file = own::open(&path.join(FILE), std::fs::File::options().read(true))?;
    // A file that is still empty has pages as we make them.
    Ok(match file.read_exact(&mut header) {
        // 1 stands for 65536.
        Ok(()) => {
            let [.., high, low] = header;
            match u16::from_be_bytes([high, low]) {
                1 => 1 << 16,
                bytes => usize::from(bytes),
            }
        }
        Err(_) => usize::try_from(PAGE_BYTES).unwrap_or(0),
    })
}

/// Whether a log that begins with the salt `found` belongs to the file with this row about the store. Data after a
/// damaged place in the log does not count.
fn is_own(path: &Path, (about, salt): (About, u32), found: u32, is_damaged: bool) -> Result<bool, Error> {
    let is_later = found.wrapping_sub(salt) <= ROUNDS_MAX;
    if is_later && (about.is_open || is_damaged || found != salt) {
        return Ok(true);
    }
    Ok(match through(path)? {
        Through::Nothing => true,
        Through::Row(said, is_logged) => {
            // A part of it would take the file back.
            let is_closed = is_later && is_logged && !said.is_open;
            let follows = said.log_before == Some(salt) && said.log_salt.is_none_or(|salt| salt == found);
            is_closed || follows
        }
        Through::Nonsense => false,
    })
}

/// What a log makes of the row about the store.
enum Through {
    /// SQLite takes no group of it for whole.
    Nothing,
    /// And whether the log has a version of it.
    Row(About, bool),
    /// With the file it makes no store.
    Nonsense,
}

/// Looks through the log, and changes neither.
fn through(path: &Path) -> Result<Through, Error> {
    let look = || -> Result<Through, Trouble> {
        let connection = connect_through(path, taskhub_pages::LENIENT)?;
        if identify(&connection)? != Identity::Ours(FORMAT) {
            return Ok(Through::Nonsense);
        }
        if log::frames(&connection)? == 0 {
            return Ok(Through::Nothing);
        }
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'store'";
        let page: u64 = connection.query_row(sql, [], |row| row.get::<_, u32>(0))?.into();
        let place = path.join(LOG);
        let pages = page_bytes(path).and_then(|bytes| frames::pages(&place, bytes));
        let pages = pages.map_err(|error| unavailable(&place, &error))?;
        Ok(Through::Row(About::read(&connection)?, pages.contains(&page)))
    };
    match look().map_err(|trouble| trouble.during(During::Read, &layout::file(path))) {
        Err(Error::Corrupt { .. }) => Ok(Through::Nonsense),
        looked => looked,
    }
}

/// Describes the loss if the log is damaged, does not belong to the file, or is missing although the store was not
/// closed; `None` if nothing is lost.
pub(super) fn loss(path: &Path, log: &Log) -> Option<String> {
    match log {
        Log::Damaged { at, groups } => Some(format!(
            "the log is damaged from byte {at} on: at least {groups} acknowledged groups cannot be read"
        )),
        Log::Foreign { was_open } => {
            let lost = if *was_open {
                "and the log that belongs to it is missing: everything acknowledged since that log was last written \
                back is lost"
            } else {
                "but the store was closed cleanly, so nothing is lost without the log"
            };
            Some(format!(
                "the log and the database file do not belong together (one is from another store or from an earlier \
                time); {lost}"
            ))
        }
        // The header is on disk before anything is acknowledged.
        Log::Absent | Log::Torn { at: 0 } if alone(path).is_some_and(|about| about.is_open) => Some(
            "the store was not closed, and its log is missing or empty: what was acknowledged since the log was last \
             written back is lost"
                .to_owned(),
        ),
        Log::Absent | Log::Whole | Log::Torn { .. } => None,
    }
}

/// Reads the row about the store from the file without its log. Errors are ignored here, because opening the store
/// reports them.
fn alone(path: &Path) -> Option<About> {
    let read = || -> Result<Option<About>, Trouble> {
        let connection = connect_alone(path, taskhub_pages::STRICT)?;
        if identify(&connection)? != Identity::Ours(FORMAT) {
            return Ok(None);
        }
        About::read(&connection).map(Some)
    };
    read().ok().flatten()
}

/// Opens a connection that reads the file and its log up to the first damaged frame, and changes neither. SQLite must
/// open it for writing, because it writes the log's index.
pub(super) fn connect_through(path: &Path, layer: &std::ffi::CStr) -> Result<Connection, Trouble> {
    taskhub_pages::install()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path.join(FILE), flags, layer)?;
    log::keep(&connection, true)?;
    Ok(connection)
}

/// A connection that reads a file as if it had no log.
pub(super) fn connect_alone(path: &Path, layer: &std::ffi::CStr) -> Result<Connection, Trouble> {
    taskhub_pages::install()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let name = name_alone(&path.join(FILE));
    Ok(Connection::open_with_flags_and_vfs(name, flags, layer)?)
}

/// The name by which SQLite opens a file without its log.
fn name_alone(file: &Path) -> String {
    use std::fmt::Write as _;
    let mut name = "file:".to_owned();
    for byte in file.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._".contains(byte) {
            name.push(char::from(*byte));
        } else {
            let _infallible = write!(name, "%{byte:02X}");
        }
    }
    name + "?immutable=1"
}
