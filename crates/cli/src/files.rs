//! Files that others may have put in our way: settings, keys, word of servers. They are opened here alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file. A pipe or a device in its place is refused: it would be waited for, or read without end.
///
/// # Errors
///
/// If the file cannot be opened or is not a regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // To open a pipe would be to wait for its other end.
        let flags = rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Reads a regular file.
///
/// # Errors
///
/// As [`open`], and if it cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The mode of a secret file that others can read or write; `None` if it is protected. Two exceptions cover the secrets
/// of containers. If another user owns the file, its group may read it. If the file is below `/run/secrets` or on a
/// read-only file system, everyone may read it: the administrator decided that, and this program could not change it.
#[cfg(unix)]
pub(crate) fn open_to_others(file: &File, path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    const SECRETS: &str = "/run/secrets";
    let metadata = file.metadata().ok()?;
    let mode = metadata.mode() & 0o7777;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let closed = if is_ours { 0o077 } else { 0o037 };
    if mode & closed == 0 {
        return None;
    }
    let is_read_only = || {
        let found = rustix::fs::fstatvfs(file);
        found.is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    };
    let is_below = || path.canonicalize().is_ok_and(|path| path.starts_with(SECRETS));
    let is_handed_out = metadata.uid() == 0 && mode & 0o022 == 0 && (is_below() || is_read_only());
    (!is_handed_out).then_some(mode)
}

#[cfg(not(unix))]
pub(crate) fn open_to_others(_file: &File, _path: &Path) -> Option<u32> {
    None
}
