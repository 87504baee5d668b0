//! A store that is taken away from its owner, or opened by two names: nothing is acknowledged that nobody finds again.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use taskhub_core::time::Timestamp;
use taskhub_store::conformance::{block_on, done, hub};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};
use taskhub_store::{Error, Store};

use crate::scratch::Scratch;

fn open(folder: &Path) -> Result<EmbeddedStore, Error> {
    EmbeddedStore::open(folder, EmbeddedOptions::default())
}

fn create(store: &EmbeddedStore, name: &str) -> Result<(), Error> {
    block_on(store.create_hub(&hub(name), 1, Timestamp::from_micros(1))).map(|_| ())
}

#[test]
fn a_store_that_is_taken_away_acknowledges_nothing_more_and_says_what_is_gone() {
    for (what, why) in [
        ("folder", "store.db was removed"),
        ("store.db", "store.db was removed"),
        ("store.db-wal", "store.db-wal was removed"),
        ("lock", "lock was removed"),
        ("moved", "store.db was removed"),
        ("replaced", "store.db was replaced by another file"),
    ] {
        let scratch = Scratch::new();
        let folder = scratch.path().join("store");
        let store = open(&folder).unwrap();
        create(&store, "First").unwrap();
        assert_eq!(store.watch().lost(), None);
        match what {
            "folder" => fs::remove_dir_all(&folder).unwrap(),
            "moved" => fs::rename(&folder, scratch.path().join("elsewhere")).unwrap(),
            "replaced" => {
                let copy = folder.join("copy");
                fs::copy(folder.join("store.db"), &copy).unwrap();
                fs::rename(&copy, folder.join("store.db")).unwrap();
            }
            name => fs::remove_file(folder.join(name)).unwrap(),
        }
        let told = store.watch().lost();
        assert_eq!(told.as_deref(), Some(why), "{what}");
        let error = create(&store, "Second").unwrap_err();
        assert!(
            matches!(&error, Error::Lost { why: told, .. } if told == why),
            "{what}: {error}"
        );
        assert_eq!(error.code(), "store-lost");
    }
}

#[test]
fn what_is_acknowledged_before_is_there_again() {
    let scratch = Scratch::new();
    let (folder, moved) = (scratch.path().join("store"), scratch.path().join("moved"));
    let store = open(&folder).unwrap();
    create(&store, "First").unwrap();
    fs::rename(&folder, &moved).unwrap();
    create(&store, "Second").unwrap_err();
    drop(store);
    let hubs = done(open(&moved).unwrap().list_hubs());
    assert!(hubs.iter().any(|info| info.name == hub("First")));
}

#[test]
fn a_second_owner_is_told_who_has_the_file_by_whatever_name_it_comes() {
    let scratch = Scratch::new();
    let (folder, other) = (scratch.path().join("store"), scratch.path().join("other"));
    let store = open(&folder).unwrap();
    create(&store, "First").unwrap();
    fs::create_dir(&other).unwrap();
    fs::hard_link(folder.join("store.db"), other.join("store.db")).unwrap();
    let own = std::process::id(); // tidy:allow: it is told
    let is_told = |error: Error| matches!(error, Error::Locked { pid, .. } if pid == own || pid == 0);
    assert!(is_told(open(&other).unwrap_err()));
    fs::remove_file(folder.join("lock")).unwrap();
    assert!(is_told(open(&folder).unwrap_err()), "a new lock file is no way around");
    drop(store);
    // When nobody has it, it is not opened by two names either: the log is beside one of them only.
    for place in [&folder, &other] {
        let error = open(place).unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("store.db: the file has 2 names"), "{why}");
    }
    fs::remove_file(other.join("store.db")).unwrap();
    assert_eq!(done(open(&folder).unwrap().list_hubs()).len(), 1);
}
