//! The main file of a database, with the system's own behind it in the same piece of memory.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;

use rusqlite::ffi;

use crate::{DAMAGED, SUM_BYTES, is_right, note, page_number, sum};

/// As SQLite sees it. The system's file follows it, in the bytes that SQLite set aside for both.
#[repr(C)]
pub(crate) struct File {
    base: ffi::sqlite3_file,
    /// For a log: bytes that were written but not passed to the system yet; NULL until the first write. Owned by this
    /// file.
    gathered: *mut Gathered,
    /// For a main file, its log; for a log, its main file; NULL if there is none.
    other: *mut File,
}

/// Bytes of a log that are handed to the system at once: writes that follow each other go together, which saves two calls of
/// the system for each page.
///
/// A main file does not gather: a checkpoint that readers keep from its end makes known that pages are in the file without
/// asking the file anything after the last of them, so that what the system refuses later would be lost.
struct Gathered {
    offset: ffi::sqlite3_int64,
    bytes: Vec<u8>,
    /// An error that occurred when it could not be returned to SQLite. The log accepts no more calls after it.
    failed: c_int,
}

/// SQLite's file for Unix takes less than 128 KiB at once.
const GATHERED_MAX: usize = 120 << 10;

/// Methods of a file that refuses damaged pages.
pub(crate) static STRICT: ffi::sqlite3_io_methods = methods::<true>();
/// Methods of one that hands them on.
pub(crate) static LENIENT: ffi::sqlite3_io_methods = methods::<false>();

/// A method that the system's file answers, once it has all that was written to it.
macro_rules! handed_on {
    ($name:ident => $method:ident($($arg:ident: $type:ty),*), $otherwise:expr) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($arg: $type),*) -> c_int {
            // SAFETY: an open file of ours; what else SQLite passes is for the system's file.
            unsafe {
                let code = settle(file);
                if code != ffi::SQLITE_OK {
                    return code;
                }
                let inner = inner(file);
                (*(*inner).pMethods).$method.map_or($otherwise, |method| method(inner, $($arg),*))
            }
        }
    };
}

/// Methods of a log, whose frames have checksums of SQLite's own.
pub(crate) static LOG: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    xRead: Some(read_log),
    xWrite: Some(gather),
    ..methods::<true>()
};

handed_on!(read_plain => xRead(into: *mut c_void, bytes: c_int, offset: ffi::sqlite3_int64), ffi::SQLITE_IOERR_READ);

unsafe extern "C" fn read_log(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    #[cfg(feature = "testing")]
    if crate::testing::fails(crate::testing::Access::Read) {
        return ffi::SQLITE_IOERR_READ;
    }
    // SAFETY: as SQLite calls it.
    unsafe { read_plain(file, into, bytes, offset) }
}

const fn methods<const STRICT: bool>() -> ffi::sqlite3_io_methods {
    ffi::sqlite3_io_methods {
        // Version 2: without the methods that map a file into memory, past any check.
        iVersion: 2,
        xClose: Some(close),
        xRead: Some(read::<STRICT>),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(file_size),
        xLock: Some(lock),
        xUnlock: Some(unlock),
        xCheckReservedLock: Some(check_reserved_lock),
        xFileControl: Some(file_control),
        xSectorSize: Some(sector_size),
        xDeviceCharacteristics: Some(device_characteristics),
        xShmMap: Some(shm_map),
        xShmLock: Some(shm_lock),
        xShmBarrier: Some(shm_barrier),
        xShmUnmap: Some(shm_unmap),
        xFetch: None,
        xUnfetch: None,
    }
}

/// Initialises our part of an opened file; connects a log with its main file.
///
/// # Safety
///
/// `file` points to as many bytes as our layer asks SQLite for, and `main` is NULL or an open file of ours.
pub(crate) unsafe fn begin(file: *mut ffi::sqlite3_file, main: *mut ffi::sqlite3_file) {
    // SAFETY: as the caller promises.
    unsafe {
        let own = file.cast::<File>();
        (*own).gathered = ptr::null_mut();
        (*own).other = main.cast();
        if let Some(main) = (*own).other.as_mut() {
            main.other = own;
        }
    }
}

/// The system's file behind one of ours.
///
/// # Safety
///
/// `file` points to as many bytes as our layer asks SQLite for.
pub(crate) unsafe fn inner(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: the bytes of the system's file come next. Ours is some pointers long, so they are aligned as SQLite aligns.
    unsafe { file.cast::<File>().add(1).cast() }
}

unsafe extern "C" fn read<const STRICT: bool>(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file of ours; SQLite passes room for as many bytes as it asks for.
    unsafe {
        let inner = inner(file);
        let Some(method) = (*(*inner).pMethods).xRead else {
            return ffi::SQLITE_IOERR_READ;
        };
        #[cfg(feature = "testing")]
        if crate::testing::fails(crate::testing::Access::Read) {
            return ffi::SQLITE_IOERR_READ;
        }
        let code = method(inner, into, bytes, offset);
        // The beginning of the first page is read alone to learn how large pages are, and the whole of it before anything
        // else is believed.
        let Some(number) = page_number(offset, bytes) else {
            return code;
        };
        #[cfg(feature = "testing")]
        crate::testing::count_read();
        match code {
            ffi::SQLITE_OK => {
                let page = slice::from_raw_parts(into.cast::<u8>(), usize::try_from(bytes).unwrap_or(0));
                if is_right(page, number) {
                    return code;
                }
            }
            // SQLite asks for no page behind the last one that it counts, and writes each that it counts: the file has lost
            // its end. SQLite would take the page for zeros, and so for an empty one.
            ffi::SQLITE_IOERR_SHORT_READ => {}
            _ => return code,
        }
        note(number);
        if STRICT { DAMAGED } else { code }
    }
}

/// The system's method that writes.
type Write = unsafe extern "C" fn(*mut ffi::sqlite3_file, *const c_void, c_int, ffi::sqlite3_int64) -> c_int;

/// Has the system write.
///
/// # Safety
///
/// `method` is that of `inner`, which is open.
unsafe fn put(method: Write, inner: *mut ffi::sqlite3_file, bytes: &[u8], offset: ffi::sqlite3_int64) -> c_int {
    let length = |bytes: &[u8]| c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
    #[cfg(feature = "testing")]
    if let Some((instead, offset)) = crate::testing::written_instead(bytes, offset) {
        if instead.is_empty() {
            return ffi::SQLITE_OK;
        }
        // SAFETY: as the caller promises.
        return unsafe { method(inner, instead.as_ptr().cast(), length(&instead), offset) };
    }
    // SAFETY: as the caller promises.
    unsafe { method(inner, bytes.as_ptr().cast(), length(bytes), offset) }
}

thread_local! {
    /// The page that is being written, with its sum: SQLite's own copy is not ours to change.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file of ours; SQLite passes as many bytes as it says.
    unsafe {
        let inner = inner(file);
        let Some(method) = (*(*inner).pMethods).xWrite else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        #[cfg(feature = "testing")]
        if crate::testing::fails(crate::testing::Access::Write) {
            return ffi::SQLITE_IOERR_WRITE;
        }
        let Some(number) = page_number(offset, bytes) else {
            return method(inner, from, bytes, offset);
        };
        let page = slice::from_raw_parts(from.cast::<u8>(), usize::try_from(bytes).unwrap_or(0));
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(page);
            let sum = sum(scratch, number).to_le_bytes();
            if let Some((_, last)) = scratch.split_last_chunk_mut::<SUM_BYTES>() {
                *last = sum;
            }
            put(method, inner, scratch, offset)
        })
    }
}

/// Buffers a write to a log until the next call shows what follows it.
unsafe extern "C" fn gather(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open log of ours; SQLite passes as many bytes as it says, and uses a file from one thread at a time.
    unsafe {
        let own = file.cast::<File>();
        if (*own).gathered.is_null() {
            let bytes = Vec::with_capacity(GATHERED_MAX);
            let failed = ffi::SQLITE_OK;
            (*own).gathered = Box::into_raw(Box::new(Gathered { offset, bytes, failed }));
        }
        let length = usize::try_from(bytes).unwrap_or(0);
        let gathered = &mut *(*own).gathered;
        let end = i64::try_from(gathered.bytes.len()).map(|length| gathered.offset + length);
        if end != Ok(offset) || gathered.bytes.len() + length > GATHERED_MAX {
            let code = settle(file);
            if code != ffi::SQLITE_OK {
                return code;
            }
        }
        let gathered = &mut *(*own).gathered;
        if gathered.bytes.is_empty() {
            gathered.offset = offset;
        }
        let written = slice::from_raw_parts(from.cast::<u8>(), length);
        gathered.bytes.extend_from_slice(written);
        gathered.failed
    }
}

/// Passes the buffered bytes to the system. If that fails, the bytes are lost and the error is returned to SQLite,
/// which rolls the transaction back. This is safe because the sync of the log comes between the last write of a
/// transaction and its commit, so no transaction can be committed while its bytes are still in the buffer.
///
/// # Safety
///
/// `file` is open and one of ours.
unsafe fn settle(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the buffer belongs to the file.
    unsafe {
        let gathered = (*file.cast::<File>()).gathered;
        let Some(gathered) = gathered.as_mut() else {
            return ffi::SQLITE_OK;
        };
        if gathered.bytes.is_empty() || gathered.failed != ffi::SQLITE_OK {
            return gathered.failed;
        }
        let inner = inner(file);
        let Some(method) = (*(*inner).pMethods).xWrite else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        #[cfg(feature = "testing")]
        crate::testing::count_write();
        #[cfg(feature = "testing")]
        if crate::testing::fails(crate::testing::Access::Write) {
            gathered.bytes.clear();
            return ffi::SQLITE_IOERR_WRITE;
        }
        let code = put(method, inner, &gathered.bytes, gathered.offset);
        gathered.bytes.clear();
        code
    }
}

/// Hands to the system what was gathered for the log of a main file, if it has one that is open.
///
/// # Safety
///
/// `file` is an open main file of ours.
unsafe fn settle_log(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the pointer to the log is set only while the log is open.
    unsafe {
        let log = (*file.cast::<File>()).other;
        if log.is_null() {
            ffi::SQLITE_OK
        } else {
            settle(log.cast())
        }
    }
}

handed_on!(truncate => xTruncate(size: ffi::sqlite3_int64), ffi::SQLITE_IOERR_TRUNCATE);
handed_on!(sync_inner => xSync(flags: c_int), ffi::SQLITE_IOERR_FSYNC);

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    #[cfg(feature = "testing")]
    if crate::testing::sync_fails() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    // SAFETY: as SQLite calls it.
    unsafe { sync_inner(file, flags) }
}
handed_on!(file_size => xFileSize(size: *mut ffi::sqlite3_int64), ffi::SQLITE_IOERR_FSTAT);
handed_on!(lock => xLock(level: c_int), ffi::SQLITE_IOERR_LOCK);
handed_on!(unlock => xUnlock(level: c_int), ffi::SQLITE_IOERR_UNLOCK);
handed_on!(check_reserved_lock => xCheckReservedLock(result: *mut c_int), ffi::SQLITE_IOERR_CHECKRESERVEDLOCK);
handed_on!(file_control => xFileControl(what: c_int, with: *mut c_void), ffi::SQLITE_NOTFOUND);
handed_on!(sector_size => xSectorSize(), 0);
handed_on!(
    shm_map => xShmMap(region: c_int, bytes: c_int, extend: c_int, out: *mut *mut c_void),
    ffi::SQLITE_IOERR_SHMMAP
);
handed_on!(shm_unmap => xShmUnmap(delete: c_int), ffi::SQLITE_OK);

/// What the system's file can do, but for reads of parts of pages, which nothing could check.
unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: an open file of ours.
    unsafe {
        let inner = inner(file);
        let method = (*(*inner).pMethods).xDeviceCharacteristics;
        method.map_or(0, |method| method(inner)) & !ffi::SQLITE_IOCAP_SUBPAGE_READ
    }
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: an open file of ours.
    unsafe {
        // The remaining bytes belong to a transaction that was rolled back: they may be lost, but must never be written
        // later.
        settle_log(file);
        let inner = inner(file);
        let method = (*(*inner).pMethods).xShmLock;
        method.map_or(ffi::SQLITE_IOERR_SHMLOCK, |method| method(inner, offset, n, flags))
    }
}

/// SQLite publishes the contents of the log between two barriers. Bytes are still buffered then only if SQLite was
/// configured not to sync. An error cannot be returned here, so after a failed write the log accepts no more calls.
unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: the file is ours and open, and the pointer to its log is set only while the log is open.
    unsafe {
        let code = settle_log(file);
        if code != ffi::SQLITE_OK
            && let Some(gathered) = (*(*file.cast::<File>()).other).gathered.as_mut()
        {
            gathered.failed = code;
        }
        let inner = inner(file);
        if let Some(method) = (*(*inner).pMethods).xShmBarrier {
            method(inner);
        }
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: an open file of ours, used for the last time.
    unsafe {
        let code = settle(file);
        let inner = inner(file);
        let closed = (*(*inner).pMethods)
            .xClose
            .map_or(ffi::SQLITE_OK, |method| method(inner));
        let own = file.cast::<File>();
        if let Some(other) = (*own).other.as_mut() {
            other.other = ptr::null_mut();
        }
        if !(*own).gathered.is_null() {
            drop(Box::from_raw((*own).gathered));
            (*own).gathered = ptr::null_mut();
        }
        (*file).pMethods = ptr::null();
        if code == ffi::SQLITE_OK { closed } else { code }
    }
}
