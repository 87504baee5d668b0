//! The embedded store does what every backend must.

use crate::scratch::Scratch;
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};

fn open(folder: Scratch) -> (EmbeddedStore, Scratch) {
    match EmbeddedStore::open(folder.path(), EmbeddedOptions::default()) {
        Ok(store) => (store, folder),
        Err(error) => panic!("{error}"),
    }
}

taskhub_store::conformance!(open(Scratch::new()), reopen = open);
