//! The layer as SQLite knows it: a file system that hands everything on to the system's own, but for the main file of a
//! database, which is opened as a [file](crate::file) that checks its pages.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::sync::OnceLock;

use rusqlite::{Connection, ffi};

use crate::file::{self, File};
use crate::{LENIENT, STRICT};

/// What stands behind one of our layers.
struct Below {
    /// The system's own.
    system: *mut ffi::sqlite3_vfs,
    methods: &'static ffi::sqlite3_io_methods,
}

/// Makes both layers known to SQLite, once for the process. Neither becomes the default.
///
/// # Errors
///
/// What SQLite says if it refuses, as it would without memory.
pub fn install() -> rusqlite::Result<()> {
    static INSTALLED: OnceLock<c_int> = OnceLock::new();
    let code = *INSTALLED.get_or_init(|| {
        let strict = register(STRICT, &file::STRICT);
        if strict == ffi::SQLITE_OK {
            register(LENIENT, &file::LENIENT)
        } else {
            strict
        }
    });
    checked(code)
}

fn checked(code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

fn register(name: &'static CStr, methods: &'static ffi::sqlite3_io_methods) -> c_int {
    // SAFETY: SQLite takes NULL for its default, which exists as long as the process.
    let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    // SAFETY: it is NULL or points to the structure that SQLite keeps.
    let Some(own) = (unsafe { system.as_ref() }) else {
        return ffi::SQLITE_ERROR;
    };
    let below = Box::leak(Box::new(Below { system, methods }));
    let size = c_int::try_from(size_of::<File>()).unwrap_or(c_int::MAX);
    // Version 2 suffices: the additions of later versions are not needed.
    let ours = Box::leak(Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size.saturating_add(own.szOsFile),
        mxPathname: own.mxPathname,
        pNext: ptr::null_mut(),
        zName: name.as_ptr(),
        pAppData: ptr::from_mut(below).cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: the structure is complete and never freed.
    unsafe { ffi::sqlite3_vfs_register(ours, 0) }
}

/// The VFS below one of our layers.
///
/// # Safety
///
/// `vfs` is one that [`register`] made.
unsafe fn below<'b>(vfs: *mut ffi::sqlite3_vfs) -> &'b Below {
    // SAFETY: `register` put it there and never frees it.
    unsafe { &*(*vfs).pAppData.cast::<Below>() }
}

/// Methods of a file that is opened so; absent for those that are the system's alone.
fn methods_of(below: &Below, flags: c_int) -> Option<&'static ffi::sqlite3_io_methods> {
    if flags & ffi::SQLITE_OPEN_WAL != 0 {
        return Some(&file::LOG);
    }
    (flags & ffi::SQLITE_OPEN_MAIN_DB != 0).then_some(below.methods)
}

/// Opens the main file of a database as one of ours, in front of the system's; any other file is the system's alone.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls it with the layer it is of, and with `szOsFile` bytes for the file: ours and the system's.
    unsafe {
        let below = below(vfs);
        let Some(system_open) = (*below.system).xOpen else {
            return ffi::SQLITE_CANTOPEN;
        };
        let Some(methods) = methods_of(below, flags) else {
            return system_open(below.system, name, file, flags, out_flags);
        };
        let inner = file::inner(file);
        let code = system_open(below.system, name, inner, flags, out_flags);
        // Also a file that failed to open is closed if it has methods.
        if (*inner).pMethods.is_null() {
            (*file).pMethods = ptr::null();
            return code;
        }
        (*file).pMethods = methods;
        let is_log = flags & ffi::SQLITE_OPEN_WAL != 0;
        file::begin(
            file,
            if is_log {
                ffi::sqlite3_database_file_object(name)
            } else {
                ptr::null_mut()
            },
        );
        code
    }
}

/// A method that the system's layer answers.
macro_rules! handed_on {
    ($name:ident => $method:ident($($arg:ident: $type:ty),*), $otherwise:expr) => {
        unsafe extern "C" fn $name(vfs: *mut ffi::sqlite3_vfs, $($arg: $type),*) -> c_int {
            // SAFETY: SQLite calls it with the layer it is of; what else it passes is for the system's layer.
            unsafe {
                let system = below(vfs).system;
                (*system).$method.map_or($otherwise, |method| method(system, $($arg),*))
            }
        }
    };
}

handed_on!(delete => xDelete(name: *const c_char, sync: c_int), ffi::SQLITE_IOERR_DELETE);
handed_on!(access => xAccess(name: *const c_char, flags: c_int, result: *mut c_int), ffi::SQLITE_IOERR_ACCESS);
handed_on!(full_pathname => xFullPathname(name: *const c_char, bytes: c_int, out: *mut c_char), ffi::SQLITE_CANTOPEN);
handed_on!(randomness => xRandomness(bytes: c_int, out: *mut c_char), 0);
handed_on!(sleep => xSleep(micros: c_int), 0);
handed_on!(current_time => xCurrentTime(days: *mut f64), ffi::SQLITE_ERROR);
handed_on!(current_time_64 => xCurrentTimeInt64(millis: *mut ffi::sqlite3_int64), ffi::SQLITE_ERROR);
handed_on!(last_error => xGetLastError(bytes: c_int, out: *mut c_char), 0);

pub(crate) fn reserve(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    let mut bytes = c_int::try_from(bytes).unwrap_or(0);
    // SAFETY: the handle is valid as long as the connection, and SQLite reads and writes one integer.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_RESERVE_BYTES,
            ptr::from_mut(&mut bytes).cast::<c_void>(),
        )
    };
    checked(code)
}
