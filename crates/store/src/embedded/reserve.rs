//! Reserved disk space for operations that free space (A43): a file in the store's folder whose only purpose is to
//! occupy space. On a full disk, deleting rows needs space too, at least for the log; without a reserve a full store
//! could never be purged.
//!
//! On a full disk it is removed for a purge, or for the claim that goes before it, and filled again from what that
//! freed. What ends or suspends instances may use a share of it, so that the rest is there for purges. Until it is whole nothing else is written: else that would use up the room, and the next purge would find
//! none. It is of zeros, so on a file system that compresses them nothing is kept.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::own;
use crate::Error;

pub(super) const FILE: &str = "reserve";
/// Bytes that are kept: half as many as the store's file has, within these bounds.
const BYTES_MIN: u64 = 1 << 20;
const BYTES_MAX: u64 = 8 << 20;

#[cfg(feature = "testing")]
thread_local! {
    static REFUSES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// For tests: makes the disk seem full, or not, to all reserves that this thread fills.
#[cfg(feature = "testing")]
pub fn refuse_reserves(refuses: bool) {
    REFUSES.set(refuses);
}

/// It is written in pieces of this.
static BLOCK: [u8; 64 << 10] = [0; 64 << 10];

/// The file.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    wanted: u64,
    /// It cannot be written for another reason than want of space, so the store does without.
    is_impossible: bool,
}

impl Reserve {
    /// What there is of it in a folder.
    pub(super) fn find(folder: &Path) -> Self {
        let path = folder.join(FILE);
        Self {
            bytes: bytes(&path),
            path,
            wanted: BYTES_MIN,
            is_impossible: false,
        }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are to be kept.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// The share of the bytes that is not only for purges: half of the minimum reserve, and everything above the
    /// minimum.
    pub(super) fn share(&self) -> u64 {
        self.wanted - BYTES_MIN / 2
    }

    /// Adapts the wanted size of the reserve to the size of the store's file.
    pub(super) fn fit(&mut self, file_bytes: u64) {
        self.wanted = (file_bytes / 2).clamp(BYTES_MIN, BYTES_MAX);
    }

    fn is_whole(&self) -> bool {
        self.is_impossible || self.bytes >= self.wanted
    }

    /// Fills it as far as there is room.
    ///
    /// # Errors
    ///
    /// `Full` if there is not enough; what there was is kept.
    pub(super) fn fill(&mut self) -> Result<(), Error> {
        if self.is_whole() {
            return Ok(());
        }
        let filled = self.append();
        self.bytes = bytes(&self.path);
        match filled {
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Err(Error::Full),
            Err(error) => {
                let place = self.path.display();
                tracing::info!(%place, %error, "cannot reserve disk space; purging may fail when the disk is full");
                self.is_impossible = true;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn append(&self) -> io::Result<()> {
        #[cfg(feature = "testing")]
        if REFUSES.get() {
            return Err(ErrorKind::StorageFull.into());
        }
        let mut file = own::open(&self.path, File::options().create(true).append(true))?;
        let mut missing = self.wanted.saturating_sub(file.metadata()?.len());
        while missing > 0 {
            let bytes = missing.min(BLOCK.len() as u64);
            let block = usize::try_from(bytes).ok().and_then(|bytes| BLOCK.get(..bytes));
            file.write_all(block.unwrap_or(&BLOCK))?;
            missing -= bytes;
        }
        Ok(())
    }

    /// Releases the share that is not only for purges, and returns its size in bytes.
    pub(super) fn give_up_share(&mut self) -> u64 {
        let left = self.wanted - self.share();
        let given = self.bytes.saturating_sub(left);
        if given == 0 {
            return 0;
        }
        let cut = own::open(&self.path, File::options().write(true)).and_then(|file| file.set_len(left));
        if let Err(error) = cut {
            tracing::warn!(place = %self.path.display(), %error, "cannot release a part of the reserved disk space");
            return 0;
        }
        self.bytes = left;
        given
    }

    /// Gives the room up, and says how many bytes it was.
    pub(super) fn give_up(&mut self) -> u64 {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(place = %self.path.display(), %error, "cannot release the reserved disk space");
                0
            }
            _ => std::mem::take(&mut self.bytes),
        }
    }
}

/// Bytes of a file; a link has none that are ours.
fn bytes(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |file| if file.is_file() { file.len() } else { 0 })
}
