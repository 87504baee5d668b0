//! Who may open a folder, and what is refused in it.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::path::Path;

use crate::scratch::Scratch;
use rusqlite::Connection;
use taskhub_core::time::Timestamp;
use taskhub_store::conformance::{done, hub};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, SqliteReader, SqliteWriter};
use taskhub_store::{Error, Store};

fn open(folder: &Path) -> Result<EmbeddedStore, Error> {
    EmbeddedStore::open(folder, EmbeddedOptions::default())
}

fn create_hub(store: &EmbeddedStore, name: &str) {
    done(store.create_hub(&hub(name), 2, Timestamp::from_micros(1)));
}

#[test]
fn a_second_opener_is_told_who_has_the_store() {
    let scratch = Scratch::new();
    let first = open(scratch.path()).unwrap();
    let error = open(scratch.path()).unwrap_err();
    assert_eq!(error.code(), "store-locked");
    let Error::Locked { folder, pid } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (folder.as_str(), *pid),
        (&*scratch.path().to_string_lossy(), std::process::id()) // tidy:allow: it was told
    );
    create_hub(&first, "Mine");
    drop(first);
    let second = open(scratch.path()).unwrap();
    assert_eq!(done(second.list_hubs()).len(), 1);
}

#[test]
fn a_lock_of_a_dead_process_is_taken_over() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("lock"), "4000000000\nleft behind\n").unwrap();
    let store = open(scratch.path()).unwrap();
    let error = open(scratch.path()).unwrap_err();
    assert!(
        matches!(error, Error::Locked { pid, .. } if pid == std::process::id()), // tidy:allow: it was told
        "{error}"
    );
    drop(store);
}

#[test]
fn a_folder_is_made_where_there_is_none() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("a/b c");
    create_hub(&open(&folder).unwrap(), "Mine");
    assert_eq!(done(open(&folder).unwrap().list_hubs()).len(), 1);
}

#[test]
fn a_closed_store_is_one_file_a_lock_and_the_room_that_is_kept() {
    let scratch = Scratch::new();
    create_hub(&open(scratch.path()).unwrap(), "Mine");
    let mut names: Vec<String> = std::fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["lock", "reserve", "store.db"]);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    drop(open(scratch.path()).unwrap());
    let file = scratch.path().join("store.db");
    rusqlite::Connection::open_with_flags_and_vfs(&file, rusqlite::OpenFlags::default(), taskhub_pages::STRICT)
        .unwrap()
        .pragma_update(None, "user_version", 3)
        .unwrap();
    let before = std::fs::read(&file).unwrap();
    let error = open(scratch.path()).unwrap_err();
    assert_eq!(error.code(), "store-format");
    assert!(matches!(error, Error::Format { found: 3, known: 2, .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

fn refuses(content: impl FnOnce(&Path)) -> String {
    let scratch = Scratch::new();
    let file = scratch.path().join("store.db");
    content(&file);
    let before = std::fs::read(&file).unwrap();
    let error = open(scratch.path()).unwrap_err();
    assert_eq!(error.code(), "store-corrupt");
    let Error::Corrupt { place, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(place.as_str(), file.to_string_lossy(), "the file is named");
    assert_eq!(std::fs::read(&file).unwrap(), before, "and was not touched");
    error.to_string()
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let text = refuses(|file| std::fs::write(file, "dear diary\n".repeat(1000)).unwrap());
    assert!(text.contains("not a database"), "{text}");
    let text = refuses(|file| {
        Connection::open(file)
            .unwrap()
            .execute_batch("CREATE TABLE diary (day TEXT)")
            .unwrap();
    });
    assert!(text.contains("not a Taskhub store"), "{text}");
    let text = refuses(|file| {
        Connection::open(file)
            .unwrap()
            .execute_batch("PRAGMA application_id = 7; PRAGMA user_version = 1; CREATE TABLE diary (day TEXT)")
            .unwrap();
    });
    assert!(text.contains("not a Taskhub store"), "{text}");
}

/// The room that is kept is made when a store is, and stays when the store is lost.
#[test]
fn a_store_that_is_gone_is_not_begun_anew_without_a_word() {
    for is_removed in [true, false] {
        let scratch = Scratch::new();
        drop(open(scratch.path()).unwrap());
        let file = scratch.path().join("store.db");
        if is_removed {
            std::fs::remove_file(&file).unwrap();
        } else {
            std::fs::write(&file, "").unwrap();
        }
        let error = open(scratch.path()).unwrap_err();
        assert!(error.to_string().contains("says that there was a store"), "{error}");
        std::fs::remove_file(scratch.path().join("reserve")).unwrap();
        drop(open(scratch.path()).unwrap());
    }
}

/// The first page says what the file is; one that is damaged is not taken for that of another version.
#[test]
fn a_first_page_that_is_damaged_is_told_as_such() {
    for at in [20, 60, 63, 100, 120, 4_100, 8_191] {
        let scratch = Scratch::new();
        drop(open(scratch.path()).unwrap());
        let file = scratch.path().join("store.db");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at] ^= 4;
        std::fs::write(&file, bytes).unwrap();
        let error = open(scratch.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("page 1, which describes the store, is damaged"),
            "{at}: {error}"
        );
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("store.db"), "").unwrap();
    create_hub(&open(scratch.path()).unwrap(), "Mine");
}

#[test]
fn a_store_that_was_cut_short_is_refused() {
    let scratch = Scratch::new();
    create_hub(&open(scratch.path()).unwrap(), "Mine");
    let file = scratch.path().join("store.db");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let error = match open(scratch.path()) {
        Err(error) => error,
        // What is missing may not be needed to open it; then the check finds it.
        Ok(store) => {
            let report = taskhub_store::conformance::block_on(store.verify());
            match report {
                Err(error) => error,
                Ok(report) => panic!("half a file was taken for a whole one: {report:?}"),
            }
        }
    };
    assert_eq!(error.code(), "store-corrupt", "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = open(&file).unwrap_err();
    assert_eq!(error.code(), "store-unavailable");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("file"), "{source}");
}

#[test]
fn a_reader_needs_a_store() {
    let scratch = Scratch::new();
    assert_eq!(
        SqliteReader::open(scratch.path()).unwrap_err().code(),
        "store-unavailable"
    );
    let writer = SqliteWriter::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    SqliteReader::open(scratch.path()).unwrap();
    drop(writer);
}

#[test]
fn an_empty_file_is_new_but_not_beside_a_log() {
    let scratch = Scratch::new();
    let (file, log) = (scratch.path().join("store.db"), scratch.path().join("store.db-wal"));
    std::fs::write(&file, "").unwrap();
    create_hub(&open(scratch.path()).unwrap(), "First");
    assert_eq!(done(open(scratch.path()).unwrap().list_hubs()).len(), 1);

    // The file is emptied or taken away while what was acknowledged is still in the log.
    let store = open(scratch.path()).unwrap();
    create_hub(&store, "Second");
    let (kept_file, kept_log) = (std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap());
    drop(store);
    for lose in [
        |file: &Path| std::fs::write(file, ""),
        |file: &Path| std::fs::remove_file(file),
    ] {
        std::fs::write(&log, &kept_log).unwrap();
        lose(&file).unwrap();
        let error = open(scratch.path()).unwrap_err();
        assert_eq!(error.code(), "store-corrupt");
        assert!(error.to_string().contains("store.db-wal"), "{error}");
    }
    std::fs::write(&file, kept_file).unwrap();
    assert_eq!(done(open(scratch.path()).unwrap().list_hubs()).len(), 2);
}
