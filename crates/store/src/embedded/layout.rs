//! The database file of a store: its names, its format, and how connections to it are opened. Nothing here takes the
//! lock; [`super::folder`] does.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::hubs::About;
use super::trouble::{During, Trouble};
use super::{frames, own};
use crate::Error;

pub(super) const FILE: &str = "store.db";
pub(super) const LOG: &str = "store.db-wal";
/// What the name of a file that is kept ends in.
pub(super) const KEPT: &str = ".damaged";

/// Marks the file as ours, in its header and for `file(1)`: "Thub".
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Thub");

/// The format that is written, and the newest that is read.
pub(super) const FORMAT: u32 = 2;

const SCHEMA: &str = include_str!("schema.sql");

/// Against pages of 16 KiB a lone step takes a sixth less time and a full group writes a quarter fewer bytes. Pages
/// of 4 KiB would save more bytes, but send history chunks above 1 KB to overflow pages.
pub(super) const PAGE_BYTES: i64 = 8 << 10;

/// Statements that are kept prepared on each connection.
pub(super) const STATEMENTS_MAX: usize = 64;

/// Why a store of a newer format is refused.
pub(super) fn newer(folder: &Path, found: u32) -> Error {
    Error::Format {
        folder: folder.display().to_string(),
        found,
        known: FORMAT,
    }
}

/// The file belongs to another program, for this reason.
pub(super) fn foreign() -> Trouble {
    Trouble::Contradiction("it is an SQLite database, but not a Taskhub store".to_owned())
}

/// What a file says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    New,
    Foreign,
    /// Of this format.
    Ours(u32),
}

pub(super) fn identify(connection: &Connection) -> Result<Identity, Trouble> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, format) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(if application == 0 && format == 0 && tables == 0 {
        Identity::New
    } else if application == i64::from(APPLICATION_ID) {
        Identity::Ours(u32::try_from(format).unwrap_or(0))
    } else {
        Identity::Foreign
    })
}

/// Whether the first page, which describes the file, is right in it, or there is a version of it in the log.
pub(super) fn is_first_page_right(folder: &Path) -> io::Result<bool> {
    let bytes = usize::try_from(PAGE_BYTES).unwrap_or(0);
    let mut page = vec![0; bytes];
    match own::open(&folder.join(FILE), File::options().read(true))?.read_exact(&mut page) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        read => read?,
    }
    Ok(taskhub_pages::is_right(&page, 1) || is_first_page_logged(folder)?)
}

/// Whether there is a version of the first page in the log.
pub(super) fn is_first_page_logged(folder: &Path) -> io::Result<bool> {
    let bytes = usize::try_from(PAGE_BYTES).unwrap_or(0);
    Ok(frames::pages(&folder.join(LOG), bytes)?.contains(&1))
}

/// How a reader takes pages whose checksum is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    /// What needs one fails.
    Strict,
    /// Pages with a wrong checksum are read anyway. The caller must check each row, and must not conclude that a row
    /// which it does not find does not exist.
    Lenient,
}

/// Opens a reading connection to a store that is locked.
pub(super) fn connect_reader(path: &Path, pages: Pages) -> Result<Connection, Error> {
    let connect = || -> Result<Connection, Trouble> {
        let layer = match pages {
            Pages::Strict => taskhub_pages::STRICT,
            Pages::Lenient => taskhub_pages::LENIENT,
        };
        taskhub_pages::install()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags_and_vfs(path.join(FILE), flags, layer)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection.pragma_update(None, "cache_size", -16_384)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        Ok(connection)
    };
    connect().map_err(|trouble| trouble.during(During::Read, &file(path)))
}

/// A connection that writes, to a file whose pages have checksums or that is new.
pub(super) fn connect_writer(file: &Path) -> Result<Connection, Trouble> {
    taskhub_pages::install()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags_and_vfs(file, flags, taskhub_pages::STRICT)?)
}

/// Settings that must be made before the first table is created.
pub(super) fn lay_out(connection: &Connection) -> Result<(), Trouble> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    taskhub_pages::reserve(connection)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    Ok(())
}

/// Whether the file exists. Also true if that cannot be determined: opening the file then reports the error.
pub(super) fn holds_file(folder: &Path) -> bool {
    folder.join(FILE).try_exists().unwrap_or(true)
}

/// Path of the file in a folder, for people.
pub(super) fn file(folder: &Path) -> String {
    folder.join(FILE).display().to_string()
}

/// Tables and identity, which appear together in the caller's transaction: a crash leaves a new file new.
pub(super) fn create(connection: &Connection) -> Result<(), Trouble> {
    connection.execute_batch(SCHEMA)?;
    About::default().write(connection)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    Ok(())
}
