//! Faults and counts for tests.

use std::cell::Cell;

thread_local! {
    static SYNCS: Cell<u32> = const { Cell::new(0) };
    static FAILS: Cell<Option<(Access, u64)>> = const { Cell::new(None) };
    static LIES: Cell<Option<(Lie, u64)>> = const { Cell::new(None) };
    static PAGES_READ: Cell<u64> = const { Cell::new(0) };
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

/// Makes the next syncs of files and logs on this thread fail, like a disk that reports an error once and has dropped
/// the data that it could not write.
pub fn fail_syncs(count: u32) {
    SYNCS.set(count);
}

/// What a disk is asked for, and may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read from a file or a log.
    Read,
    /// To write to a log, or to a file, which a checkpoint does.
    Write,
    /// To sync either.
    Sync,
}

/// Has this thread's access of the kind fail that comes after so many others of it; `None` has none fail. Answers what was left
/// of the last such order: `None` if that access has failed.
pub fn fail_access(next: Option<(Access, u64)>) -> Option<(Access, u64)> {
    FAILS.replace(next)
}

pub(crate) fn fails(access: Access) -> bool {
    match FAILS.get() {
        Some((wanted, 0)) if wanted == access => {
            FAILS.set(None);
            true
        }
        Some((wanted, after)) if wanted == access => {
            FAILS.set(Some((wanted, after - 1)));
            false
        }
        _ => false,
    }
}

/// What a disk that lies makes of a write that it reports as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    Lost,
    /// Its first half is written.
    Torn,
    /// It is written a page further on.
    Misdirected,
    /// One bit of it is another.
    Flipped,
}

/// Has the disk lie about this thread's write that comes after so many others; `None` has it be honest. Answers what was left of
/// the last such order: `None` if that lie was told.
pub fn lie_about_write(next: Option<(Lie, u64)>) -> Option<(Lie, u64)> {
    LIES.replace(next)
}

/// What is written, and where, instead of these bytes; nothing if they are written as they are.
pub(crate) fn written_instead(bytes: &[u8], offset: i64) -> Option<(Vec<u8>, i64)> {
    const PAGE: i64 = 4096;
    let (lie, after) = LIES.get()?;
    LIES.set(after.checked_sub(1).map(|after| (lie, after)));
    if after > 0 {
        return None;
    }
    Some(match lie {
        Lie::Lost => (Vec::new(), offset),
        Lie::Torn => (bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec(), offset),
        Lie::Misdirected => (bytes.to_vec(), offset + PAGE),
        Lie::Flipped => {
            let mut flipped = bytes.to_vec();
            let middle = flipped.len() / 2;
            if let Some(byte) = flipped.get_mut(middle) {
                *byte ^= 1;
            }
            (flipped, offset)
        }
    })
}

/// Pages that this thread has read from files so far.
pub fn pages_read() -> u64 {
    PAGES_READ.get()
}

/// Writes of logs that this thread has handed to the system so far.
pub fn writes() -> u64 {
    WRITES.get()
}

pub(crate) fn count_write() {
    WRITES.set(WRITES.get() + 1);
}

pub(crate) fn count_read() {
    PAGES_READ.set(PAGES_READ.get() + 1);
}

pub(crate) fn sync_fails() -> bool {
    if fails(Access::Sync) {
        return true;
    }
    let left = SYNCS.get();
    SYNCS.set(left.saturating_sub(1));
    left > 0
}
