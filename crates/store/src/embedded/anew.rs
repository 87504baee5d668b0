//! A new store file that is written beside the old one and replaces it when it is complete and on disk. Until then no
//! one opens the new file, so a crash at any moment leaves the old one in place.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::Connection;

#[cfg(feature = "testing")]
use crate::Error;

use super::trouble::{Trouble, unavailable};
use super::{layout, own};

/// The new store while it is written.
pub(super) const FILE: &str = "store.db-new";

#[cfg(feature = "testing")]
thread_local! {
    static STOP: std::cell::Cell<u64> = const { std::cell::Cell::new(u64::MAX) };
}

/// For tests: makes migrations of this thread stop at the n-th step, as after a crash. Returns how many steps are left
/// of the previous setting.
#[cfg(feature = "testing")]
pub fn stop_migration_after(steps: u64) -> u64 {
    STOP.replace(steps)
}

/// A moment at which a crash may come.
#[cfg_attr(
    not(feature = "testing"),
    expect(clippy::unnecessary_wraps, reason = "only a test has one fail")
)]
pub(super) fn step() -> Result<(), Trouble> {
    #[cfg(feature = "testing")]
    {
        let left = STOP.get();
        if left == 0 {
            let source = "a test stopped the migration".into();
            return Err(Error::Unknown { source }.into());
        }
        STOP.set(left - 1);
    }
    Ok(())
}

/// Removes what an earlier attempt has left.
pub(super) fn remove(path: &Path) -> Result<(), Trouble> {
    for name in [FILE.to_owned(), format!("{FILE}-journal")] {
        let place = path.join(name);
        match fs::remove_file(&place) {
            Err(_) if place.is_dir() => {
                let what = "a folder has the name that the store needs for a file; move the folder away";
                let error = io::Error::new(io::ErrorKind::IsADirectory, what);
                return Err(unavailable(&place, &error).into());
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(&place, &error).into()),
            _ => {}
        }
    }
    Ok(())
}

/// Begins the new file, which has no table yet.
pub(super) fn begin(path: &Path) -> Result<Connection, Trouble> {
    let file = path.join(FILE);
    own::prepare(&file, true).map_err(|error| unavailable(&file, &error))?;
    let new = layout::connect_writer(&file)?;
    layout::lay_out(&new)?;
    // It is synced before it is anything else.
    new.pragma_update(None, "journal_mode", "OFF")?;
    new.pragma_update(None, "synchronous", "OFF")?;
    Ok(new)
}

/// Ends the new file.
pub(super) fn end(new: Connection) -> Result<(), Trouble> {
    new.pragma_update(None, "journal_mode", "WAL")?;
    Ok(new.close().map_err(|(_, error)| error)?)
}

/// Puts the new file in the place of the old one.
pub(super) fn replace(path: &Path) -> Result<(), Trouble> {
    let (old_file, new_file) = (path.join(layout::FILE), path.join(FILE));
    step()?;
    for suffix in ["-wal", "-shm"] {
        let place = path.join(format!("{}{suffix}", layout::FILE));
        match fs::metadata(&place) {
            // A log would be taken for one of the new file.
            Ok(file) if suffix == "-wal" && file.len() > 0 => {
                let what = format!("cannot write {} back into the database file", place.display());
                return Err(Trouble::Contradiction(what));
            }
            Ok(_) => fs::remove_file(&place).map_err(|error| unavailable(&place, &error))?,
            Err(_) => {}
        }
    }
    step()?;
    let exchange = || -> io::Result<()> {
        let permissions = fs::metadata(&old_file)?.permissions();
        let new = File::options().write(true).open(&new_file)?;
        new.set_permissions(permissions)?;
        new.sync_all()?;
        fs::rename(&new_file, &old_file)?;
        own::sync_folder(path)
    };
    exchange().map_err(|error| unavailable(&new_file, &error))?;
    step()
}
