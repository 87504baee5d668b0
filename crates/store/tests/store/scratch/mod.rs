//! A folder for one test, gone when the test is.

use std::path::Path;

use tempfile::TempDir;

pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// Below the target folder, which lies on a disk where that for temporary files may not.
    pub(crate) fn new() -> Self {
        let parent = env!("CARGO_TARGET_TMPDIR");
        match tempfile::tempdir_in(parent) {
            Ok(folder) => Self(folder),
            Err(error) => panic!("{parent}: {error}"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
