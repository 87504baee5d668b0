//! The store's files are its user's alone, and nothing that lies in their place is followed or overwritten.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use taskhub_store::Error;
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};

use crate::scratch::Scratch;

fn open(folder: &Path) -> Result<EmbeddedStore, Error> {
    EmbeddedStore::open(folder, EmbeddedOptions::default())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Why a store cannot be opened, with its causes.
fn refusal(folder: &Path) -> String {
    let error = open(folder).unwrap_err();
    assert_eq!(error.code(), "store-unavailable");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn files(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).unwrap();
    let mut all: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), mode(&entry.path()))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_made_is_closed_to_others_and_what_is_open_is_closed() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("above/store");
    let store = open(&folder).unwrap();
    assert_eq!((mode(&folder), mode(&scratch.path().join("above"))), (0o700, 0o700));
    for (name, mode) in files(&folder) {
        assert_eq!(mode, 0o600, "{name}");
    }
    // Closed in order, the log is gone; after a kill it is there.
    drop(store);
    for (name, _) in files(&folder) {
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o666)).unwrap();
    }
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(folder.join("lost+found")).unwrap();
    fs::write(folder.join("server.json"), "{}").unwrap();
    let store = open(&folder).unwrap();
    assert_eq!(mode(&folder), 0o700);
    for name in ["store.db", "store.db-wal", "store.db-shm", "lock", "reserve"] {
        let path = folder.join(name);
        assert!(!path.exists() || mode(&path) == 0o600, "{name}");
    }
    drop(store);
}

#[test]
fn a_folder_with_other_files_in_it_is_not_closed_behind_their_back() {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("letter.txt"), "dear").unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let why = refusal(scratch.path());
    assert!(
        why.contains("(mode 0755) and contains `letter.txt`") && why.contains("chmod 700"),
        "{why}"
    );
    assert_eq!((mode(scratch.path()), files(scratch.path()).len()), (0o755, 1));
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o700)).unwrap();
    open(scratch.path()).unwrap();
}

#[test]
fn no_file_of_a_store_is_opened_through_a_link() {
    for name in ["lock", "store.db", "store.db-wal", "store.db-shm"] {
        let scratch = Scratch::new();
        let (folder, victim) = (scratch.path().join("store"), scratch.path().join("victim"));
        fs::create_dir(&folder).unwrap();
        fs::write(&victim, "mine").unwrap();
        if name != "store.db" {
            drop(open(&folder).unwrap());
        }
        let _absent = fs::remove_file(folder.join(name));
        symlink(&victim, folder.join(name)).unwrap();
        let why = refusal(&folder);
        assert!(why.contains(&format!("{name}: it is a symbolic link")), "{name}: {why}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine", "{name}");
        // Nor one that leads nowhere.
        fs::remove_file(&victim).unwrap();
        refusal(&folder);
        assert!(!victim.exists(), "{name}");
    }
}

#[test]
fn a_reserve_that_is_a_link_is_given_up_and_not_followed() {
    let scratch = Scratch::new();
    let (folder, victim) = (scratch.path().join("store"), scratch.path().join("victim"));
    fs::create_dir(&folder).unwrap();
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, folder.join("reserve")).unwrap();
    refusal(&folder);
    drop(open(&folder).unwrap());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(!fs::symlink_metadata(folder.join("reserve")).unwrap().is_symlink());
}

#[test]
fn a_file_that_has_another_name_is_refused_and_stays() {
    for name in ["lock", "store.db-wal"] {
        let scratch = Scratch::new();
        let (folder, victim) = (scratch.path().join("store"), scratch.path().join("victim"));
        drop(open(&folder).unwrap());
        fs::write(&victim, "mine").unwrap();
        let _absent = fs::remove_file(folder.join(name));
        fs::hard_link(&victim, folder.join(name)).unwrap();
        let why = refusal(&folder);
        assert!(why.contains("the file has 2 names"), "{name}: {why}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine", "{name}");
    }
}

/// Not by another program: for a moment a process that is begun has all files of this one, and the locks on them, which
/// other tests may want to take anew.
#[cfg(target_os = "linux")]
fn make_pipe(place: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, place, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[cfg(not(target_os = "linux"))]
fn make_pipe(place: &Path) {
    let made = std::process::Command::new("mkfifo").arg(place).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_pipe_or_a_folder_in_the_place_of_a_file_is_refused_and_not_waited_for() {
    for name in ["lock", "store.db"] {
        for kind in ["pipe", "folder"] {
            let scratch = Scratch::new();
            let place = scratch.path().join(name);
            if kind == "pipe" {
                make_pipe(&place);
            } else {
                fs::create_dir(&place).unwrap();
            }
            refusal(scratch.path());
        }
    }
}

/// A store is written anew under this name, and what an earlier attempt has left there is removed.
#[test]
fn a_folder_in_the_place_of_a_new_store_is_named_and_what_a_link_leads_to_is_left_alone() {
    let scratch = Scratch::new();
    let (folder, victim) = (scratch.path().join("store"), scratch.path().join("victim"));
    drop(open(&folder).unwrap());
    let place = folder.join("store.db-new");
    fs::create_dir(&place).unwrap();
    let why = refusal(&folder);
    assert!(why.contains("store.db-new: a folder has the name"), "{why}");
    assert!(why.contains("move the folder away"), "{why}");
    fs::remove_dir(&place).unwrap();
    fs::create_dir(&victim).unwrap();
    symlink(&victim, &place).unwrap();
    drop(open(&folder).unwrap());
    assert!(place.symlink_metadata().is_err() && victim.is_dir());
}

#[test]
fn a_lock_that_is_held_for_reading_does_not_keep_us_out() {
    let scratch = Scratch::new();
    drop(open(scratch.path()).unwrap());
    let foreign = File::open(scratch.path().join("lock")).unwrap();
    foreign.try_lock_shared().unwrap();
    let store = open(scratch.path()).unwrap();
    // It has a lock that counts.
    assert!(matches!(open(scratch.path()), Err(Error::Locked { .. })));
    drop((foreign, store));
    open(scratch.path()).unwrap();
}
