//! The store in memory does what every backend must.

use taskhub_store::mem::{MemData, MemStore};

fn open(data: MemData) -> (MemStore, MemData) {
    (MemStore::over(&data), data)
}

taskhub_store::conformance!(open(MemData::new()), reopen = open);
taskhub_store::conformance!(@nodes open(MemData::new()));
