//! The files of the repository, read once.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What holds no source: build output, the version database, a developer's hub.
const SKIPPED: [&str; 3] = ["target", ".git", ".taskhub"];

/// One file, its path relative to the root and written with `/`.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Path from the root of the repository.
    pub(crate) path: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tidy looks at sizes"))]
    pub(crate) size_bytes: u64,
    /// The content, absent for files that are not UTF-8.
    pub(crate) text: Option<String>,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where cargo builds, and the tests have their files.
pub(crate) fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    root().join(target)
}

/// The part of the path after the last dot, empty if there is none.
pub(crate) fn extension(path: &str) -> &str {
    Path::new(path)
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default()
}

/// Every file of the repository, sorted by path.
pub(crate) fn read() -> io::Result<Vec<File>> {
    let root = root();
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.extend(read_one(&root, &entry.path())?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// A file that vanished since it was listed (an editor's scratch file) is not an error.
fn read_one(root: &Path, path: &Path) -> io::Result<Option<File>> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    Ok(Some(File {
        path: parts.join("/"),
        size_bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
        text: String::from_utf8(content).ok(),
    }))
}
