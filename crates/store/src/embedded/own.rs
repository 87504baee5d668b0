//! Files and folders that are ours alone: others of the machine neither read them, nor put something in their way.
//!
//! A file is opened without following links, and only if it is a regular file of the process's user: in a folder that
//! others can write to, a name may be a link to any other file of this user. Permissions of other users are removed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Names that may exist in a store's folder besides its own files.
const HARMLESS: [&str; 2] = ["lost+found", ".gitignore"];

/// What a mode gives to the group and to others.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// Makes a folder for us alone, or closes one that is open to others.
///
/// # Errors
///
/// If it cannot be made, or holds something that is not of a store (`is_own` tells) and is open to others: to close it
/// would be to close that as well.
pub(super) fn folder(path: &Path, is_own: impl Fn(&str) -> bool) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    #[cfg(unix)]
    close_folder(path, is_own)?;
    #[cfg(not(unix))]
    drop(is_own);
    Ok(())
}

#[cfg(unix)]
fn close_folder(path: &Path, is_own: impl Fn(&str) -> bool) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let metadata = fs::metadata(path)?;
    let mode = metadata.mode() & 0o7777;
    let is_closed = mode & OTHERS == 0;
    if is_closed {
        return Ok(());
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && user != 0 {
        // A volume that was mounted for us, say. Its files are closed all the same.
        let others_write = mode & 0o002 != 0;
        return if others_write || metadata.uid() != 0 {
            Err(denied(
                "the folder belongs to another user and is accessible to others; choose a folder of your own",
            ))
        } else {
            Ok(())
        };
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !is_own(&name) && !HARMLESS.contains(&&*name) {
            let why = format!(
                "the folder is accessible to others (mode {mode:04o}) and contains `{name}`, which does not belong to \
                a store; choose a folder for the store alone, or restrict this one with `chmod 700`"
            );
            return Err(denied(why));
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Syncs a folder, so that the names in it are on disk.
///
/// # Errors
///
/// If the system cannot do it.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and names are on disk when the call returns.
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _on_disk = path;
    Ok(())
}

/// Opens a file as `options` say, for us alone.
///
/// # Errors
///
/// If it cannot be opened, is a link or no regular file, or belongs to another user.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Opened without blocking, because opening a pipe would wait for its other end.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options
            .mode(0o600)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    let file = options.open(path).map_err(|error| refused_link(path, error))?;
    close(&file)?;
    Ok(file)
}

/// Refuses a file that has another name as well: it may be a file of something else, and of a store only one name leads to
/// the log that belongs to it.
pub(super) fn check_names(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let names = file.metadata()?.nlink();
        if names > 1 {
            return Err(denied(format!(
                "the file has {names} names (hard links); remove the others, or copy it and use the copy"
            )));
        }
    }
    #[cfg(not(unix))]
    let _one = file;
    Ok(())
}

/// Checks a file that SQLite will open later, and closes it. Creates an empty file if it does not exist and `is_made`
/// is set.
pub(super) fn prepare(path: &Path, is_made: bool) -> io::Result<()> {
    match open(path, File::options().read(true).write(is_made).create(is_made)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_made => Ok(()),
        Ok(file) if !is_made => check_names(&file),
        opened => opened.map(drop),
    }
}

/// The system says of a link no more than that there are too many.
fn refused_link(path: &Path, error: io::Error) -> io::Error {
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        denied("it is a symbolic link, which could lead to a file outside the store")
    } else {
        error
    }
}

#[cfg(unix)]
fn close(file: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(denied("it is not a regular file"));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && user != 0 {
        return Err(denied("it belongs to another user"));
    }
    if metadata.mode() & OTHERS != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn close(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        Ok(())
    } else {
        Err(denied("it is not a regular file"))
    }
}

fn denied(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
