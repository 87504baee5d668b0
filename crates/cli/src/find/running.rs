//! Files by which commands find a running server (L27): one in its store's folder and one in the user's runtime folder.
//! The file of a dead server is recognised by the store's lock, which the system released.

use std::fs::{self, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::world::World;

/// File in a store's folder.
const FILE: &str = "server.json";
/// The most bytes of one.
const BYTES_MAX: u64 = 64 << 10;
/// The lock of a store's folder.
const LOCK: &str = "lock";

/// A running server; the ready file (L60) has the same members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Address and port of its HTTP surface.
    pub(crate) http: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Its default hub.
    pub(crate) hub: String,
    /// Folder of its store.
    pub(crate) store: String,
    /// Its local administrator's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Whether it speaks HTTPS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tls: bool,
    /// What it was started for; absent if that is nothing but its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<Project>,
}

/// A project's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Project {
    /// Its real path.
    path: String,
    /// What the file system knows it by. That stays when the folder is moved, and another folder of the path has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<(u64, u64)>,
}

impl Project {
    /// The project in a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Self {
            file: file_of(&path),
            path: path.to_string_lossy().into_owned(),
        }
    }

    /// Whether both are the same folder.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self.file, other.file) {
            (Some(one), Some(another)) => one == another,
            _ => self.path == other.path,
        }
    }
}

#[cfg(unix)]
fn file_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_of(_path: &Path) -> Option<(u64, u64)> {
    None
}

impl Running {
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.http)
    }

    /// It for people.
    pub(crate) fn shown(&self) -> String {
        format!("{} (process {}, hub {})", self.url(), self.pid, self.hub)
    }

    /// The folder for which the server was started, or its store's folder if that one is unknown or has moved; for
    /// messages.
    pub(crate) fn purpose(&self) -> &str {
        let project = self.project.as_ref();
        let there = project.filter(|project| Project::of(Path::new(&project.path)).is(project));
        there.map_or(&self.store, |project| &project.path)
    }

    /// Whether it was started for a folder.
    pub(crate) fn is_for(&self, folder: &Path) -> bool {
        let own = self.project.as_ref();
        own.is_some_and(|own| own.is(&Project::of(folder)))
    }
}

/// All servers of this user that run.
pub(crate) fn all(world: &World) -> Vec<Running> {
    let Some(folder) = world.runtime_folder() else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<Running> = entries
        .filter_map(|entry| of_file(&entry.ok()?.path()))
        .filter(|running| is_held(Path::new(&running.store)))
        .collect();
    found.sort_by_key(|running| running.pid);
    found.dedup();
    found
}

/// The server that holds a store's folder, if it left word. Ask only of a folder that is locked.
pub(crate) fn of_store(folder: &Path) -> Option<Running> {
    of_file(&folder.join(FILE))
}

fn of_file(path: &Path) -> Option<Running> {
    let mut text = String::new();
    let file = files::open(path).ok()?;
    // Another user's could send our commands, and our token, anywhere.
    file.metadata().ok().filter(super::is_own)?;
    // Limits the read, in case another user replaced the file by an endless one.
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether a process holds the lock of a store's folder.
fn is_held(folder: &Path) -> bool {
    files::open(&folder.join(LOCK)).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// What a server left, to be taken back when it ends.
#[derive(Debug)]
pub(crate) struct Notice {
    pid: u32,
    paths: Vec<PathBuf>,
}

impl Drop for Notice {
    fn drop(&mut self) {
        for path in &self.paths {
            // The next server of the store may have left word of itself there already.
            if of_file(path).is_none_or(|running| running.pid == self.pid) {
                // What stays behind is stale, and told by the lock.
                let _gone = fs::remove_file(path);
            }
        }
    }
}

/// Writes the files of a server, readable only by its user: in its store, and if possible in the user's runtime folder.
/// On a full disk the server runs without them, because it may have been started to free space.
pub(crate) fn announce(world: &World, running: &Running) -> io::Result<Notice> {
    let text = serde_json::to_string(running)?;
    let mut notice = Notice {
        pid: running.pid,
        paths: Vec::new(),
    };
    let in_store = Path::new(&running.store).join(FILE);
    if write_unless_full(&in_store, &text)? {
        notice.paths.push(in_store);
    }
    if let Some(folder) = world.runtime_folder() {
        let pointer = folder.join(format!("{}.json", running.pid));
        // A service often has no home that it may write to. Commands still find it by its store.
        match fs::create_dir_all(&folder).and_then(|()| write_whole(&pointer, &text)) {
            Ok(()) => notice.paths.push(pointer),
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(%error, %folder, "no word can be left for the user's commands in other folders");
            }
        }
    }
    Ok(notice)
}

/// Writes a file that only describes the server, and says whether there was room for it.
pub(crate) fn write_unless_full(path: &Path, text: &str) -> io::Result<bool> {
    let mut written = write_whole(path, text);
    // What a server that was killed left there would lead others astray, and takes the room that this needs.
    if written.as_ref().is_err_and(is_full) && fs::remove_file(path).is_ok() {
        written = write_whole(path, text);
    }
    match written {
        Err(error) if is_full(&error) => {
            let path = path.display();
            tracing::warn!(%error, %path, "there is no room to leave word of the server; who looks for it there does not find it");
            Ok(false)
        }
        written => written.map(|()| true),
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Writes a file atomically, so that no reader sees a partial one; readable only by its user.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
