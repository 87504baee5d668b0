//! The folder of a store: who holds it, whether what is in it is ours and complete, and the writing connection.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::frames::Log;
use super::layout::{self, FILE, FORMAT, Identity, KEPT, LOG, identify};
use super::log::{self, LOCK_WAIT, RESTART_BYTES};
use super::reserve::{self, Reserve};
use super::trouble::{During, Trouble, is_full, unavailable};
use super::watch::{self, Watch};
use super::{EmbeddedOptions, Synchronous, anew, beside, migrate, own};
use crate::{Error, Extent};

const LOCK: &str = "lock";
/// Word that a server leaves of itself.
const NOTICE: &str = "server.json";
/// How often, and after which pause, a lock is tried that is held for reading.
const SHARED_TRIES: u32 = 20;
const SHARED_PAUSE: Duration = Duration::from_millis(50);
/// Written and removed again, to see whether files may grow.
const PROBE: &str = "probe";

/// By how much they are tried to grow: SQLite's largest step but for what a group itself needs.
const PROBE_BYTES: usize = 64 << 10;

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The lock belongs to the open file, so the system releases it however the process ends.
    lock: File,
    /// The database file with a lock on it, which holds even if the file has another name or the lock file is replaced.
    /// It must stay open until SQLite has closed the file: closing any descriptor of a file releases SQLite's own locks
    /// on it.
    held: Option<(File, Watch)>,
}

impl Folder {
    /// Locks the folder, and creates it if it is missing. The lock of a dead process does not count.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        own::folder(path, is_of_store).map_err(|error| unavailable(path, &error))?;
        let place = path.join(LOCK);
        let mut lock = lock(path, &place)?;
        own::check_names(&lock).map_err(|error| unavailable(&place, &error))?;
        match write_pid(&mut lock) {
            // The process id is only for messages, and on a full disk a store must still open so that it can purge
            // (A43).
            Err(error) if is_full(&error) => {
                tracing::info!(place = %place.display(), %error, "cannot write the process id into the lock file");
            }
            written => written.map_err(|error| unavailable(&place, &error))?,
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
            held: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the file, for people.
    pub(super) fn file(&self) -> String {
        layout::file(&self.path)
    }

    /// Size of the file in bytes, without the log.
    pub(super) fn file_bytes(&self) -> u64 {
        fs::metadata(self.path.join(FILE)).map_or(0, |file| file.len())
    }

    /// The room that is kept in it.
    pub(super) fn reserve(&self) -> Reserve {
        Reserve::find(&self.path)
    }

    /// Opens the only writing connection; creates the tables of a new file. SQLite keeps the log when this connection
    /// closes.
    pub(super) fn open(&mut self, options: &EmbeddedOptions) -> Result<Connection, Error> {
        if self.held.is_none() {
            // Another attempt looks at all of it again.
            self.look().inspect_err(|_| self.held = None)?;
        }
        self.connect(options)
    }

    /// Locks the file, and checks it and its log before SQLite opens them. Converts a store of an older format.
    fn look(&mut self) -> Result<(), Error> {
        self.refuse_emptied()?;
        self.hold()?;
        self.look_at_log()?;
        if migrate::is_wanted(&self.path).map_err(|trouble| self.error(trouble, During::Read))? {
            self.held = None;
            migrate::migrate(&self.path)?;
            self.hold()?;
        }
        Ok(())
    }

    /// A look at whether its files are still there.
    ///
    /// # Panics
    ///
    /// Before the file is open.
    pub(super) fn watch(&self) -> &Watch {
        match &self.held {
            Some((_, watch)) => watch,
            None => unreachable!("the file of a store is open as long as its writer is"),
        }
    }

    pub(super) fn hold(&mut self) -> Result<(), Error> {
        forget_second_name(&self.path).map_err(|error| unavailable(&self.path, &error))?;
        let beside = ["-wal", "-shm"].map(|suffix| (format!("{FILE}{suffix}"), false));
        let all = [(FILE.to_owned(), true), (reserve::FILE.to_owned(), false)];
        for (name, is_made) in all.into_iter().chain(beside) {
            let place = self.path.join(name);
            own::prepare(&place, is_made).map_err(|error| unavailable(&place, &error))?;
        }
        let place = self.path.join(FILE);
        let file = own::open(&place, File::options().read(true)).map_err(|error| unavailable(&place, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (folder, pid) = (self.path.display().to_string(), holder(&file));
                return Err(Error::Locked { folder, pid });
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(&place, &error)),
        }
        own::check_names(&file).map_err(|error| unavailable(&place, &error))?;
        let watch = Watch::new(&self.path, &[(FILE, &file), (LOCK, &self.lock)], LOG);
        self.held = Some((file, watch));
        Ok(())
    }

    fn connect(&self, options: &EmbeddedOptions) -> Result<Connection, Error> {
        let connection = layout::connect_writer(&self.path.join(FILE));
        let connection = connection.map_err(|trouble| self.error(trouble, During::Read))?;
        let prepare = || -> Result<(), Trouble> {
            connection.set_prepared_statement_cache_capacity(layout::STATEMENTS_MAX);
            let is_new = self.identify(&connection)?;
            if is_new {
                layout::lay_out(&connection)?;
            }
            let synchronous = match options.synchronous {
                Synchronous::Full => "FULL",
                Synchronous::Off => "OFF",
            };
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "journal_size_limit", RESTART_BYTES)?;
            connection.busy_timeout(LOCK_WAIT)?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            connection.pragma_update(None, "cell_size_check", true)?;
            if is_new {
                let transaction = connection.unchecked_transaction()?;
                layout::create(&transaction)?;
                transaction.commit()?;
            }
            Ok(log::keep(&connection, true)?)
        };
        // The connection is still open: closing it cuts the log, whose length tells whether it may grow.
        prepare().map_err(|trouble| self.error(trouble, During::Read))?;
        Ok(connection)
    }

    /// Refuses a file that lost what it held. An empty one is what a crash just after creation leaves, and is new; but
    /// the log comes after the first page, and SQLite would take away one that belongs to an empty file.
    fn refuse_emptied(&self) -> Result<(), Error> {
        let reserve = self.path.join(reserve::FILE).symlink_metadata();
        let is_there = reserve.is_ok_and(|reserve| reserve.is_file() && reserve.len() > 0);
        if self.length("") == 0 && self.length("-wal") == 0 && is_there {
            return Err(Error::Corrupt {
                place: self.file(),
                extent: Extent::Pages,
                what: "it is empty or missing, and the file `reserve` beside it says that there was a store; put it back, or \
                       remove `reserve` to begin anew"
                    .to_owned(),
            });
        }
        if self.length("") == 0 && self.length("-wal") > 0 {
            return Err(Error::Corrupt {
                place: self.file(),
                extent: Extent::Pages,
                what: format!("the database file is empty or missing, but its log {FILE}-wal is not empty"),
            });
        }
        Ok(())
    }

    /// Refuses a log that lacks something which was acknowledged, or is not this store's, and says what a crash has left torn.
    fn look_at_log(&self) -> Result<(), Error> {
        let place = self.path.join(LOG);
        let log = beside::log_of(&self.path)?;
        if let Some(what) = beside::loss(&self.path, &log) {
            return Err(Error::Corrupt {
                place: place.display().to_string(),
                extent: Extent::Pages,
                what: format!("{what}; {}", beside::WAYS_ON),
            });
        }
        if let Log::Torn { at } = log {
            tracing::warn!(place = %place.display(), at, "the log ends in an incomplete group, which a crash can \
                leave; ignoring that group");
        }
        Ok(())
    }

    /// Length of the file, or of the file beside it with this suffix, in bytes; 0 if it does not exist.
    fn length(&self, suffix: &str) -> u64 {
        fs::metadata(self.path.join(format!("{FILE}{suffix}"))).map_or(0, |file| file.len())
    }

    /// The error of the trait. Of a write that failed SQLite says no more than that if it was not for want of
    /// space; a quota and a limit on the size of files are found out here (A43). Such a write is taken back like
    /// one for which there was no space: the log has no end of it.
    pub(super) fn error(&self, trouble: Trouble, during: During) -> Error {
        if trouble.is_refused_write() && self.refuses_to_grow() {
            return Error::Full;
        }
        trouble.during(during, &self.file())
    }

    /// Whether a file of the length of the longest here may not grow. What it is tried on is a file with a hole.
    pub(super) fn refuses_to_grow(&self) -> bool {
        let longest = ["", "-wal", "-shm"].map(|suffix| self.length(suffix)).into_iter().max();
        let place = self.path.join(PROBE);
        let grow = || -> io::Result<()> {
            let mut probe = own::open(&place, File::options().write(true).create(true).truncate(false))?;
            probe.set_len(0)?;
            probe.seek(SeekFrom::Start(longest.unwrap_or(0)))?;
            probe.write_all(&vec![0; PROBE_BYTES])
        };
        let grown = grow();
        if let Err(error) = fs::remove_file(&place) {
            tracing::debug!(%error, "cannot remove the probe file");
        }
        grown.is_err_and(|error| is_full(&error))
    }

    /// Whether the file is new. Refuses one that is not ours, before anything is written to it.
    fn identify(&self, connection: &Connection) -> Result<bool, Trouble> {
        match identify(connection)? {
            Identity::New => Ok(true),
            Identity::Foreign => Err(layout::foreign()),
            Identity::Ours(FORMAT) => Ok(false),
            Identity::Ours(found) if found > FORMAT => Err(layout::newer(&self.path, found).into()),
            Identity::Ours(found) => Err(Trouble::Contradiction(format!(
                "its header names format {found}, but its pages have format {FORMAT}"
            ))),
        }
    }
}

/// Whether something in a store's folder is of the store, or of a server in front of it.
fn is_of_store(name: &str) -> bool {
    let files = [LOCK, PROBE, reserve::FILE, anew::FILE, NOTICE];
    files.contains(&name)
        || name
            .strip_prefix(FILE)
            .is_some_and(|rest| ["", "-wal", "-shm"].contains(&rest))
        || [FILE, LOG]
            .into_iter()
            .filter_map(|file| name.strip_prefix(file))
            .any(|rest| rest.starts_with(KEPT))
}

/// Takes the second name away that a file still has when it was not replaced after all: nothing is lost with a name.
pub(super) fn forget_second_name(path: &Path) -> io::Result<()> {
    let file = path.join(FILE);
    let Some(ours) = fs::symlink_metadata(&file).ok().and_then(|file| watch::id(&file)) else {
        return Ok(());
    };
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_kept = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.strip_prefix(FILE).is_some_and(|rest| rest.starts_with(KEPT)));
        if is_kept && watch::id(&entry.metadata()?) == Some(ours) {
            fs::remove_file(entry.path())?;
            own::sync_folder(path)?;
        }
    }
    Ok(())
}

/// Takes the lock on the lock file. If only read locks are held, the lock file is replaced: a store never holds a read
/// lock for long, so another user must have opened the file before its permissions were restricted, and could otherwise
/// block the store forever.
fn lock(path: &Path, place: &Path) -> Result<File, Error> {
    let mut tries = 0;
    loop {
        let open = own::open(
            place,
            File::options().read(true).write(true).create(true).truncate(false),
        );
        let mut lock = open.map_err(|error| unavailable(place, &error))?;
        match lock.try_lock() {
            // It may have been replaced meanwhile.
            Ok(()) if is_at(&lock, place) => return Ok(lock),
            Ok(()) => continue,
            Err(TryLockError::Error(error)) => return Err(unavailable(place, &error)),
            Err(TryLockError::WouldBlock) => {}
        }
        if lock.try_lock_shared().is_err() {
            let (folder, pid) = (path.display().to_string(), read_pid(&mut lock));
            return Err(Error::Locked { folder, pid });
        }
        // Who looks whether a server runs holds it for a moment.
        tries += 1;
        if tries < SHARED_TRIES {
            drop(lock);
            std::thread::sleep(SHARED_PAUSE);
        } else {
            // While this process holds a read lock, no other process can get the write lock; a process that has the old
            // file open detects that it was replaced.
            tracing::warn!(place = %place.display(), "another process holds a read lock on the lock file, which no \
                Taskhub process does; replacing the lock file");
            fs::remove_file(place).map_err(|error| unavailable(place, &error))?;
        }
    }
}

/// Whether an open file is still the one in this place.
fn is_at(file: &File, place: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::symlink_metadata(place)) else {
        return false;
    };
    watch::id(&open) == watch::id(&there)
}

/// The process that has a lock on a file, as far as the system tells; 0 if it does not.
fn holder(file: &File) -> u32 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = file.metadata().map_or(0, |metadata| metadata.ino()).to_string();
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        // `1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF`; the last part of the sixth word is the file.
        let mut pids = locks.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, "WRITE", pid, place, ..] = words.as_slice() else {
                return None;
            };
            (place.rsplit(':').next() == Some(id.as_str())).then(|| pid.parse().ok())?
        });
        pids.next().unwrap_or(0)
    }
    #[cfg(not(unix))]
    {
        let _unknown = file;
        0
    }
}

fn read_pid(lock: &mut File) -> u32 {
    let mut text = String::new();
    // The holder may be about to write it, or the system may not let us read; 0 says that we do not know.
    lock.read_to_string(&mut text)
        .ok()
        .and_then(|_| text.trim().parse().ok())
        .unwrap_or(0)
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    // Cut last, so that a full disk does not take away what there is room for.
    lock.seek(SeekFrom::Start(0))?;
    let pid = format!("{}\n", std::process::id()); // tidy:allow: it is told
    lock.write_all(pid.as_bytes())?;
    lock.set_len(pid.len() as u64)
}
