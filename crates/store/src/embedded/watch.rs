//! Checks whether the open files are still the ones in the folder. If another program deletes or replaces them, the
//! owner keeps writing to files without a name: everything that it acknowledges from then on would be lost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Looks at the files of a store that is open. Looking costs a question to the system for each file, and no disk.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    folder: PathBuf,
    files: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    name: &'static str,
    /// What the file system knows it by; absent until it is there.
    id: Option<(u64, u64)>,
}

impl Watch {
    /// Watches files of a folder: those that are open already, and one that the database makes when it needs it.
    pub(super) fn new(folder: &Path, open: &[(&'static str, &File)], later: &'static str) -> Self {
        let known = |(name, file): &(&'static str, &File)| Known {
            name,
            id: file.metadata().ok().and_then(|metadata| id(&metadata)),
        };
        let mut files: Vec<Known> = open.iter().map(known).collect();
        files.push(Known { name: later, id: None });
        Self(Arc::new(Watched {
            folder: folder.to_owned(),
            files: Mutex::new(files),
        }))
    }

    /// Names a file that was removed or replaced; `None` if all are in place.
    pub fn lost(&self) -> Option<String> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        for known in files.iter_mut() {
            let found = fs::symlink_metadata(self.0.folder.join(known.name));
            match (known.id, found) {
                (Some(own), Ok(found)) if id(&found).is_none_or(|found| found == own) => {}
                (Some(_), Ok(_)) => return Some(format!("{} was replaced by another file", known.name)),
                (Some(_), Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Some(format!("{} was removed", known.name));
                }
                // It may be there all the same.
                (Some(_) | None, Err(_)) => {}
                (None, Ok(found)) => known.id = id(&found),
            }
        }
        None
    }

    pub fn folder(&self) -> &Path {
        &self.0.folder
    }
}

/// The identity of a file in the file system, independent of its name.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "not available on this system")]
pub(super) fn id(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
pub(super) fn id(_metadata: &fs::Metadata) -> Option<(u64, u64)> {
    None
}
