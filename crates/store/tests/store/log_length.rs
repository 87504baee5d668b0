//! The log in front of the file stays bounded, whatever readers do; its length is counted in bytes.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::OFF;
use crate::scratch::Scratch;
use rusqlite::{Connection, OpenFlags};
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_store::conformance::{Owner, instance};
use taskhub_store::embedded::EmbeddedStore;

/// A read of some milliseconds; it begins, and takes its snapshot, before the last one ends.
const READ: &str = "WITH RECURSIVE c(x) AS (SELECT count(*) FROM hub UNION ALL SELECT x + 1 FROM c LIMIT 30000) \
     SELECT max(x) FROM c";

/// Reads without a pause, so that at every moment some snapshot is open, until told to end.
fn read_on(file: &Path, is_done: &AtomicBool) {
    let [one, other] = [(); 2].map(|()| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(file, flags).unwrap()
    });
    let read = |connection: &Connection| {
        connection.execute_batch("BEGIN").unwrap();
        let _: i64 = connection.query_row(READ, [], |row| row.get(0)).unwrap();
    };
    let end = |connection: &Connection| connection.execute_batch("COMMIT").unwrap();
    read(&one);
    while !is_done.load(Ordering::Relaxed) {
        read(&other);
        end(&one);
        read(&one);
        end(&other);
    }
    end(&one);
}

/// Ends the readers, also when the test fails before.
struct Done<'d>(&'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn log_bytes(scratch: &Scratch) -> u64 {
    std::fs::metadata(scratch.path().join("store.db-wal")).unwrap().len()
}

/// A group of 2 MiB.
fn write(owner: &mut Owner<'_>, number: u32) {
    owner.start_with(&StartRequest {
        input: Some(Payload::new(vec![7; 1 << 20])),
        ..Owner::request(&instance(&format!("order-{number}")))
    });
    owner.flush();
}

#[test]
fn overlapping_readers_do_not_make_the_log_grow_without_bound() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Log", 1);
    let file = scratch.path().join("store.db");
    let is_done = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let _readers_end = Done(&is_done);
        scope.spawn(|| read_on(&file, &is_done));
        let longest = (0..120).map(|number| {
            write(&mut owner, number);
            log_bytes(&scratch)
        });
        longest.max()
    });
    // It is about 32 MiB, unless reads got no processor for a while; without a bound it would be all 264 MiB.
    assert!(longest < Some(192 << 20), "{longest:?} bytes of log");
    owner.check();
}

#[test]
fn a_log_that_a_long_read_made_long_is_cut_once_that_has_ended() {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), OFF).unwrap();
    let mut owner = Owner::new(&store, "Log", 1);
    let reader = Connection::open(scratch.path().join("store.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM hub").unwrap();
    for number in 0..80 {
        write(&mut owner, number);
    }
    let before = log_bytes(&scratch);
    assert!(before > 64 << 20, "{before} bytes: what somebody reads is kept");
    reader.execute_batch("COMMIT").unwrap();
    // The first is written behind the rest of the log, all of which can be written back then.
    write(&mut owner, 80);
    write(&mut owner, 81);
    let after = log_bytes(&scratch);
    assert!(after <= 32 << 20, "{after} bytes");
    owner.check();
}
