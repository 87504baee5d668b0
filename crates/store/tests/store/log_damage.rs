//! A log that lacks something which was acknowledged is refused before SQLite opens it, and one that a crash has torn is
//! not (A18).
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use taskhub_store::conformance::{Owner, done, instance};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, fail_syncs, repair};
use taskhub_store::{Error, Store};

use crate::scratch::Scratch;

const INSTANCES: u64 = 40;

/// What `kill -9` leaves of a store with forty instances, each of a group of its own.
fn killed() -> Scratch {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    let mut owner = Owner::new(&store, "Log", 1);
    for number in 0..INSTANCES {
        owner.start(&instance(&format!("order-{number}")));
        owner.flush();
    }
    copied(&scratch)
}

fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let place = folder.join(file);
    let mut bytes = std::fs::read(&place).unwrap();
    change(&mut bytes);
    std::fs::write(place, bytes).unwrap();
}

/// How many instances there are, or why the store is refused.
fn instances(folder: &Path) -> Result<u64, String> {
    let store = EmbeddedStore::open(folder, EmbeddedOptions::default()).map_err(|error| match error {
        Error::Corrupt { place, what, .. } => {
            assert!(place.ends_with("store.db-wal"), "{place}");
            what
        }
        error => panic!("{error}"),
    })?;
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    let Some(hub) = done(store.list_hubs()).pop() else {
        return Ok(0);
    };
    let counts = done(store.counts(&hub.name));
    Ok(counts.iter().map(|(_, count)| count).sum())
}

#[test]
fn a_kill_loses_nothing_and_a_store_that_was_closed_needs_no_log() {
    let scratch = killed();
    assert_eq!(instances(scratch.path()), Ok(INSTANCES));
    assert!(!scratch.path().join("store.db-wal").exists(), "it was closed");
    assert_eq!(instances(scratch.path()), Ok(INSTANCES));
}

#[test]
fn a_log_that_is_gone_or_empty_is_refused_and_the_loss_can_be_accepted() {
    for is_removed in [true, false] {
        let scratch = killed();
        if is_removed {
            std::fs::remove_file(scratch.path().join("store.db-wal")).unwrap();
        } else {
            change(scratch.path(), "store.db-wal", Vec::clear);
        }
        for _ in 0..2 {
            let why = instances(scratch.path()).unwrap_err();
            assert!(why.contains("its log is missing or empty"), "{why}");
            assert!(why.contains("repair --accept-loss"), "{why}");
        }
        let accepted = repair::accept_loss(scratch.path()).unwrap();
        let accepted = accepted.unwrap();
        assert!(
            accepted.what.contains("its log is missing or empty"),
            "{}",
            accepted.what
        );
        assert_eq!(accepted.kept, None, "there is nothing to keep");
        // All of it was in the log.
        assert_eq!(instances(scratch.path()), Ok(0));
    }
}

#[test]
fn a_damaged_frame_with_groups_behind_it_is_refused_and_the_loss_can_be_accepted() {
    for part in 1..9 {
        let scratch = killed();
        change(scratch.path(), "store.db-wal", |log| {
            let at = log.len() * part / 10;
            log[at] ^= 0x10;
        });
        let before = std::fs::read(scratch.path().join("store.db-wal")).unwrap();
        let why = instances(scratch.path()).unwrap_err();
        assert!(why.contains("the log is damaged from byte"), "{why}");
        assert_eq!(
            std::fs::read(scratch.path().join("store.db-wal")).unwrap(),
            before,
            "it is left alone"
        );
        let accepted = repair::accept_loss(scratch.path()).unwrap();
        let accepted = accepted.unwrap();
        assert!(accepted.what.contains("is damaged"));
        let told = accepted.left.unwrap();
        assert!(told.changed_at.is_some());
        let left = instances(scratch.path()).unwrap();
        assert_eq!(told.instances, left);
        assert!(left > 0 && left < INSTANCES, "{left}");
        let kept = std::fs::read(scratch.path().join("store.db-wal.damaged")).unwrap();
        assert_eq!(kept, before, "what was there is kept beside the store");
    }
}

/// All files of a folder but the lock and what SQLite makes anew.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let files = files.filter(|(name, _)| name != "lock" && !name.ends_with("-shm"));
    files
        .map(|(name, place)| (name, std::fs::read(place).unwrap()))
        .collect()
}

/// The first frame, or the header: then there is nothing in front of it to go on with but the file.
#[test]
fn a_log_that_is_damaged_at_its_beginning_is_put_aside() {
    for at in [3, 40] {
        let scratch = killed();
        change(scratch.path(), "store.db-wal", |log| log[at] ^= 0x10);
        instances(scratch.path()).unwrap_err();
        let accepted = repair::accept_loss(scratch.path()).unwrap().unwrap();
        let left = accepted.left.unwrap();
        assert_eq!((left.instances, left.changed_at), (0, None));
        assert!(accepted.kept.is_some());
        assert_eq!(
            repair::accept_loss(scratch.path()).unwrap(),
            None,
            "byte {at}: once is enough"
        );
        assert_eq!(instances(scratch.path()), Ok(0));
    }
}

/// What would be left could not be opened: of the file the first page, or that of the row about the store, is damaged as well.
#[test]
fn a_loss_that_cannot_be_accepted_leaves_all_as_it_was() {
    const PAGE: usize = 8 << 10;
    for at in [40, 4] {
        let scratch = killed();
        let root = {
            let copy = copied(&scratch);
            let file = Connection::open(copy.path().join("store.db")).unwrap();
            let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'store'";
            let root: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
            usize::try_from(root).unwrap()
        };
        change(scratch.path(), "store.db-wal", |log| log[at] ^= 0x10);
        for page in [1, root] {
            change(scratch.path(), "store.db", |file| file[page * PAGE - 100] ^= 0x10);
            let before = files(scratch.path());
            let error = repair::accept_loss(scratch.path()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            assert_eq!(files(scratch.path()), before, "page {page}");
            change(scratch.path(), "store.db", |file| file[page * PAGE - 100] ^= 0x10);
        }
        // The disk refuses what has to be written.
        let before = files(scratch.path());
        fail_syncs(1);
        repair::accept_loss(scratch.path()).unwrap_err();
        fail_syncs(0);
        assert_eq!(files(scratch.path()), before);
        assert!(repair::accept_loss(scratch.path()).unwrap().is_some());
        assert_eq!(instances(scratch.path()), Ok(0));
    }
}

fn copied(scratch: &Scratch) -> Scratch {
    let copy = Scratch::new();
    for name in ["store.db", "store.db-wal"] {
        std::fs::copy(scratch.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// Damage in the very last group cannot be told from one that was being written.
#[test]
fn a_torn_last_group_is_left_out() {
    let scratch = killed();
    change(scratch.path(), "store.db-wal", |log| {
        let at = log.len() - 100;
        log[at] ^= 0x10;
    });
    assert_eq!(instances(scratch.path()), Ok(INSTANCES - 1));
    let scratch = killed();
    change(scratch.path(), "store.db-wal", |log| log.truncate(log.len() - 100));
    assert_eq!(instances(scratch.path()), Ok(INSTANCES - 1));
}

#[test]
fn there_is_no_loss_to_accept_where_nothing_is_lost() {
    let scratch = killed();
    assert_eq!(repair::accept_loss(scratch.path()).unwrap(), None);
    assert_eq!(instances(scratch.path()), Ok(INSTANCES));
}

/// A checkpoint that a crash has cut short leaves pages half written, or holes in the place of some. The log has them all.
#[test]
fn what_the_file_says_of_a_page_that_is_in_the_log_does_not_count() {
    const PAGE: usize = 8 << 10;
    let scratch = killed();
    let log = std::fs::read(scratch.path().join("store.db-wal")).unwrap();
    let numbers = log[32..]
        .chunks_exact(24 + PAGE)
        .map(|frame| u32::from_be_bytes(frame[..4].try_into().unwrap()));
    let numbers: std::collections::BTreeSet<usize> = numbers.map(|number| number as usize).collect();
    assert!(numbers.len() > 3, "{numbers:?}");
    change(scratch.path(), "store.db", |file| {
        for number in numbers.iter().filter(|number| **number > 1) {
            file.resize(file.len().max(number * PAGE), 0);
            file[(number - 1) * PAGE..number * PAGE].fill(0);
        }
    });
    let report = repair::verify(scratch.path(), &mut |_| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(instances(scratch.path()), Ok(INSTANCES));
}
