//! What SQLite and the file system say, in the words of the trait.

use std::io;
use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use crate::sql::Contradiction;
use crate::{Error, Extent};

/// What can go wrong inside a transaction.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite refused or failed.
    Sqlite(rusqlite::Error),
    /// Rows contradict each other, or a commit contradicts the rows.
    Contradiction(String),
    /// An answer of the trait, found on the way.
    Told(Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Trouble {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sqlite(error.into())
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl From<Contradiction> for Trouble {
    fn from(Contradiction(what): Contradiction) -> Self {
        Self::Contradiction(what)
    }
}

impl From<taskhub_proto::DecodeError> for Trouble {
    fn from(error: taskhub_proto::DecodeError) -> Self {
        Contradiction::from(error).into()
    }
}

/// What was being done, which decides what an I/O error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    /// Nothing could have changed.
    Read,
    /// The change may or may not be on disk.
    Write,
}

impl Trouble {
    /// Describes the damage of the row that was being read, if the following rows can still be read. An error of SQLite
    /// itself concerns the whole file.
    pub(super) fn of_row(self) -> Result<String, Self> {
        match self {
            Self::Contradiction(what) | Self::Told(Error::Corrupt { what, .. }) => Ok(what),
            Self::Sqlite(error) if error.sqlite_error().is_none() => Ok(error.to_string()),
            Self::Sqlite(_) | Self::Told(_) => Err(self),
        }
    }

    /// Whether the file is damaged, rather than a row of it: a page, or how its pages hang together.
    pub(super) fn is_of_pages(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        error.sqlite_error().is_some_and(|failure| {
            failure.extended_code == taskhub_pages::DAMAGED || failure.code == ErrorCode::DatabaseCorrupt
        })
    }

    /// Whether the system refused a write. SQLite reports no reason except a full disk.
    pub(super) fn is_refused_write(&self) -> bool {
        const WRITES: [i32; 2] = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];
        let Self::Sqlite(error) = self else { return false };
        error
            .sqlite_error()
            .is_some_and(|failure| WRITES.contains(&failure.extended_code))
    }

    /// The error of the trait; `file` is named where the file itself is the matter.
    pub(super) fn during(self, during: During, file: &str) -> Error {
        match self {
            Self::Told(error) => error,
            Self::Contradiction(what) => Error::Corrupt {
                place: file.to_owned(),
                what,
                extent: Extent::Rows,
            },
            Self::Sqlite(error) => from_sqlite(error, during, file),
        }
    }
}

/// Names the page that this thread has just found damaged.
pub(super) fn damaged_page() -> String {
    match taskhub_pages::damaged() {
        Some(page) => format!("wrong checksum in page {page}"),
        None => "wrong checksum in a page".to_owned(),
    }
}

fn from_sqlite(error: rusqlite::Error, during: During, file: &str) -> Error {
    let corrupt = |what: String, extent: Extent| Error::Corrupt {
        place: file.to_owned(),
        what,
        extent,
    };
    match &error {
        rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == taskhub_pages::DAMAGED => {
            corrupt(damaged_page(), Extent::Pages)
        }
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => Error::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => corrupt(error.to_string(), Extent::Pages),
            // A row exists already, so the commit was not made from the stored state.
            ErrorCode::ConstraintViolation => corrupt(error.to_string(), Extent::Rows),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted => {
                Error::Unavailable { source: error.into() }
            }
            _ if during == During::Read => Error::Unavailable { source: error.into() },
            _ => Error::Unknown { source: error.into() },
        },
        // A column has an unexpected type or invalid UTF-8, which this program never writes.
        _ => corrupt(error.to_string(), Extent::Rows),
    }
}

/// Whether the system reports a full disk, an exhausted quota or a file size limit.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The error of the trait for an operation of the system on the file or folder in this place.
pub(super) fn unavailable(place: &Path, error: &io::Error) -> Error {
    if is_full(error) {
        return Error::Full;
    }
    let source = io::Error::new(error.kind(), format!("{}: {error}", place.display()));
    Error::Unavailable { source: source.into() }
}
