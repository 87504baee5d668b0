//! The readable reference: a hub as ordered maps in memory, which is what every backend must look like
//! from outside. It is durable until the last clone of its [`MemData`] is dropped.
//!
//! It has no thread and no cleverness: a listing looks at every row. It applies commits by core's own
//! fold, so that a backend which folds by itself has something to be compared with.

mod reader;
mod tables;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::inline::Inline;

pub use reader::MemReader;
pub use writer::MemWriter;

use tables::Tables;

/// The stored data. Clones share it, so it outlives the store as a disk outlives a process. Stores of several nodes
/// over the same data behave like several nodes over one database.
#[derive(Clone, Debug, Default)]
pub struct MemData(Arc<Mutex<Tables>>);

impl MemData {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The writing half over these data. What another writer staged and did not seal is not there.
    pub fn writer(&self) -> MemWriter {
        MemWriter::new(self.clone())
    }

    /// A reading half over these data.
    pub fn reader(&self) -> MemReader {
        MemReader::new(self.clone())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in memory.
pub type MemStore = Inline<MemWriter, MemReader>;

impl MemStore {
    /// A store over data that may hold hubs already.
    pub fn over(data: &MemData) -> Self {
        Self::new(data.writer(), data.reader())
    }

    /// A store over an empty disk of its own.
    pub fn empty() -> Self {
        Self::over(&MemData::new())
    }
}
