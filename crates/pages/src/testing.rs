//! Faults and counts for tests.

use std::cell::Cell;

thread_local! {
    static SYNCS: Cell<u32> = const { Cell::new(0) };
    static PAGES_READ: Cell<u64> = const { Cell::new(0) };
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

/// Makes the next syncs of files and logs on this thread fail, like a disk that reports an error once and has dropped
/// the data that it could not write.
pub fn fail_syncs(count: u32) {
    SYNCS.set(count);
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
    let left = SYNCS.get();
    SYNCS.set(left.saturating_sub(1));
    left > 0
}
