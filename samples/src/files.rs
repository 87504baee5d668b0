//! The files that samples may look at: those below one folder, but for what is hidden. Whoever may start an instance names the path, so an
//! activity that took any path would give away every file of its machine.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use taskhub::{Error, Result};

/// Bytes of the largest file that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files that one list may have.
pub const FILES_MAX: usize = 10_000;

/// Names that hold secrets, besides those that begin with a dot.
const SECRET: [&str; 1] = ["local.settings.json"];

/// A folder, and what is below it.
#[derive(Clone, Debug)]
pub struct Files(Arc<Below>);

#[derive(Debug)]
struct Below {
    folder: PathBuf,
    /// Below it too, and none of anybody's business.
    without: Option<PathBuf>,
}

impl Files {
    /// What is below a folder, but for names that begin with a dot, and `local.settings.json`.
    pub fn below(folder: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Below {
            folder: folder.into(),
            without: None,
        }))
    }

    /// The same without what is in another folder, such as that of a store.
    #[must_use]
    pub fn without(&self, folder: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Below {
            folder: self.0.folder.clone(),
            without: Some(folder.into()),
        }))
    }

    /// Whether a path below the folder is hidden.
    fn is_hidden(&self, below: &Path, found: &Path) -> bool {
        let is_secret =
            |name: &str| name.starts_with('.') || SECRET.iter().any(|secret| secret.eq_ignore_ascii_case(name));
        let without = self.0.without.as_ref();
        let without = without.map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()));
        below
            .components()
            .any(|part| is_secret(&part.as_os_str().to_string_lossy()))
            || without.is_some_and(|folder| found.starts_with(folder))
    }

    /// The real path of a file or folder: relative ones begin at the folder, links are followed as long as they stay in it.
    ///
    /// # Errors
    ///
    /// If it is not below the folder, which no retry changes, or cannot be looked at.
    pub fn find(&self, path: &str) -> Result<Option<PathBuf>> {
        let outside = || {
            let message =
                format!("`{path}` is not below the folder that the samples may look at (`dev --samples=DIR`)");
            Error::msg(message).non_retriable()
        };
        let root = self.0.folder.canonicalize()?;
        let mut plain = self.0.folder.clone();
        for part in Path::new(path).components() {
            match part {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                other => plain.push(other),
            }
        }
        // Before the disk is touched, so that nobody hears what there is elsewhere.
        let below = plain
            .strip_prefix(&self.0.folder)
            .or_else(|_| plain.strip_prefix(&root));
        let below = below.map_err(|_| outside())?;
        if self.is_hidden(below, &plain) {
            return Err(outside());
        }
        match plain.canonicalize() {
            Ok(found) => match found.strip_prefix(&root) {
                Ok(below) if !self.is_hidden(below, &found) => Ok(Some(found)),
                Ok(_) | Err(_) => Err(outside()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    ///
    /// If it is not below the folder, not there, no regular file, too large, or no text.
    pub fn read(&self, path: &str) -> Result<String> {
        let wrong = |what: &str| Error::msg(format!("`{path}` {what}")).non_retriable();
        let Some(found) = self.find(path)? else {
            let error = std::io::Error::from_raw_os_error(2);
            // It may come.
            return Err(Error::msg(format!("cannot read {path}")).caused_by(error));
        };
        if !fs::metadata(&found)?.is_file() {
            return Err(wrong("is no regular file"));
        }
        let mut text = String::new();
        // It may grow while it is read.
        let read = File::open(&found)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(wrong("has more than 1 MiB"));
        }
        Ok(text)
    }

    /// Paths of the files in a folder and its subfolders, sorted; links are not followed.
    ///
    /// # Errors
    ///
    /// If it is not below the folder or not there, if one of them cannot be read, or if there are too many files.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let wrong = |what: &str| Error::msg(format!("`{path}` {what}")).non_retriable();
        let mut folders = vec![self.find(path)?.ok_or_else(|| wrong("is not there"))?];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                let path = entry.path();
                if self.is_hidden(Path::new(&entry.file_name()), &path) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path().to_string_lossy().into_owned());
                }
                if files.len() > FILES_MAX {
                    return Err(wrong("has more than 10,000 files"));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}
