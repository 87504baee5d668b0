//! The log that lies beside a file, looked at before SQLite opens both: whether it is the file's own, and what is lost with it.
//!
//! SQLite applies any log that is whole in itself, also one of another store, or of an earlier time of this one. So the row
//! about the store says which log goes with it, by the first of the log's salts: SQLite draws it for a log that is new, and adds
//! one each time that it is begun anew. The file's own log is then one of these:
//!
//! ```text
//!   the file says    the log                                           what happened
//!   open, salt s     is of s or later                                  it was not closed
//!   closed, salt s   is of s, and says itself that it is closed        closing was cut short
//!   closed, salt s   is of later than s                                the same, while pages were given back
//!   salt s           says that it was begun behind s, and not since    a writer came, or came anew after a failed write,
//!                                                                      and that is not in the file yet
//!   salt s           has no group that is whole                        the same, cut short before that
//!   no salt          any                                               it is new, or was written anew in another format
//! ```
//!
//! What a log says itself is the row as SQLite sees it through the log. An older copy of the log that belongs to a store which was
//! not closed cannot be told from that log.

use std::io::{self, Read as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::folder::{FILE, FORMAT, Identity, LOG, PAGE_BYTES, identify, unavailable};
use super::frames::{self, Log, ROUNDS_MAX};
use super::hubs::About;
use super::store_file::keep_log;
use super::trouble::{During, Trouble};
use super::{folder, log, own};
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

/// Whether a log that begins with the salt `found` belongs to the file, which says this of itself. What is behind damage in it
/// is not asked for.
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
    match look().map_err(|trouble| trouble.during(During::Read, &folder::file(path))) {
        Err(Error::Corrupt { .. }) => Ok(Through::Nonsense),
        looked => looked,
    }
}

/// What is lost with a log that is damaged or not the file's own, or that is missing although the store was not closed.
pub(super) fn loss(path: &Path, log: &Log) -> Option<String> {
    match log {
        Log::Damaged { at, groups } => Some(format!(
            "byte {at} begins a part of the log that is damaged, and {groups} acknowledged groups or more cannot be read \
             from there on"
        )),
        Log::Foreign { was_open } => {
            let lost = if *was_open {
                "and its own is missing: what was acknowledged since that was last written back is lost"
            } else {
                "and the store was closed, so that nothing is lost without it"
            };
            Some(format!(
                "the log is not this store's, or one of an earlier time, or the file is; {lost}"
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

/// What the file itself, without its log, says of the store. What cannot be read now is told when it is opened.
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

/// A connection that reads a file through its log, up to what is damaged in that, and changes neither. It writes the index of
/// the log, so to SQLite it is no reader.
pub(super) fn connect_through(path: &Path, layer: &std::ffi::CStr) -> Result<Connection, Trouble> {
    taskhub_pages::install()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path.join(FILE), flags, layer)?;
    keep_log(&connection, true)?;
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
