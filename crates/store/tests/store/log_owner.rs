//! A log that is whole but not the file's own is refused, and the file's own never is, wherever a kill comes.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::path::Path;

use rusqlite::Connection;
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_store::blocking::Writer as _;
use taskhub_store::conformance::{NODE, Owner, done, instance, refused};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, SqliteReader, SqliteWriter, fail_syncs, repair, resum};
use taskhub_store::inline::Inline;
use taskhub_store::{Claim, Error, Store};

use crate::common::OFF;
use crate::scratch::Scratch;

const FILE: &str = "store.db";
const LOG: &str = "store.db-wal";
const PAGE: usize = 8 << 10;
/// Of a log and of each of its frames.
const HEADERS: (usize, usize) = (32, 24);

/// A file and the log beside it, as a kill leaves them.
#[derive(Clone)]
struct Image {
    file: Vec<u8>,
    log: Option<Vec<u8>>,
}

fn image(folder: &Path) -> Image {
    Image {
        file: std::fs::read(folder.join(FILE)).unwrap(),
        log: std::fs::read(folder.join(LOG)).ok(),
    }
}

fn placed(image: &Image) -> Scratch {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join(FILE), &image.file).unwrap();
    if let Some(log) = &image.log {
        std::fs::write(scratch.path().join(LOG), log).unwrap();
    }
    scratch
}

/// How many instances there are, or why the store is refused.
fn instances(folder: &Path) -> Result<u64, String> {
    let store = EmbeddedStore::open(folder, OFF).map_err(|error| error.to_string())?;
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
    Ok(count(&store))
}

fn count(store: &dyn Store) -> u64 {
    let hubs = done(store.list_hubs());
    let counts = hubs.iter().flat_map(|hub| done(store.counts(&hub.name)));
    counts.map(|(_, count)| count).sum()
}

fn start(owner: &mut Owner<'_>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        owner.start(&instance(&format!("order-{number}")));
        owner.flush();
    }
}

/// Of a hub of its own.
fn owner(store: &dyn Store) -> Owner<'_> {
    let hubs = done(store.list_hubs()).len();
    Owner::new(store, &format!("Logs{hubs}"), 1)
}

/// A store with ten instances that was closed.
fn closed() -> Scratch {
    let scratch = Scratch::new();
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    start(&mut owner(&store), 0..10);
    scratch
}

/// What a kill leaves of one that was opened once more, and then had twenty.
fn killed(scratch: &Scratch) -> Image {
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    start(&mut owner(&store), 10..20);
    image(scratch.path())
}

/// The first salt of a log.
fn salt(log: &[u8]) -> u32 {
    u32::from_be_bytes(log[16..20].try_into().unwrap())
}

/// What the row about a store says: whether it is open, and the salt.
fn row(folder: &Path) -> (bool, i64) {
    let file = Connection::open(folder.join(FILE)).unwrap();
    let sql = "SELECT is_open, log_salt FROM store";
    file.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// It is refused by everything that would believe it, nothing is changed by that, and without it the store goes on with
/// what the file has.
fn is_refused(image: &Image, expected: &str, left: u64) {
    let scratch = placed(image);
    for _ in 0..2 {
        let why = instances(scratch.path()).unwrap_err();
        assert!(
            why.contains("the log and the database file do not belong together"),
            "{why}"
        );
        assert!(why.contains(expected) && why.contains("repair --accept-loss"), "{why}");
    }
    let report = repair::verify(scratch.path(), &mut |_| {}).unwrap();
    let told = |lines: &[String]| {
        lines.iter().any(|line| {
            line.contains(
                "the log and the database file do not belong \
        together",
            )
        })
    };
    assert!(told(&report.problems), "{:?}", report.problems);
    assert_eq!(report.problems.len(), 1, "of the file nothing is wrong");
    let mut saved = 0;
    let mut each = |_| {
        saved += 1;
        Ok(())
    };
    assert!(told(&repair::save(scratch.path(), &mut each).unwrap()));
    assert_eq!(saved, left);
    let log = std::fs::read(scratch.path().join(LOG)).unwrap();
    assert_eq!(Some(&log), image.log.as_ref(), "it is left alone");
    let accepted = repair::accept_loss(scratch.path()).unwrap().unwrap();
    assert_eq!(std::fs::read(accepted.kept.unwrap()).unwrap(), log);
    assert_eq!(instances(scratch.path()), Ok(left));
}

const LOST: &str = "since that log was last written back is lost";
const NOT_LOST: &str = "nothing is lost without the log";

#[test]
fn the_log_of_another_store_is_refused() {
    let (one, other) = (closed(), closed());
    let whole = image(one.path());
    assert_eq!(whole.log, None);
    let (mine, another) = (killed(&one), killed(&other));
    let log = another.log;
    let swapped = Image {
        log: log.clone(),
        ..mine
    };
    is_refused(&swapped, LOST, 10);
    is_refused(&Image { log, ..whole }, NOT_LOST, 10);
}

#[test]
fn the_log_of_an_earlier_time_is_refused() {
    let scratch = closed();
    let before = image(scratch.path());
    let first = killed(&scratch);
    // It was closed since.
    let log = first.log.clone();
    let later = image(scratch.path());
    assert_eq!(later.log, None);
    is_refused(
        &Image {
            log: log.clone(),
            ..later
        },
        NOT_LOST,
        20,
    );
    // And is open again.
    let again = killed(&scratch);
    is_refused(&Image { log, ..again.clone() }, LOST, 20);
    // A file that somebody has put back beside a log that has begun anew since.
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    done(store.compact());
    start(&mut owner(&store), 0..2);
    let log = image(scratch.path()).log;
    is_refused(&Image { log, ..before }, NOT_LOST, 10);
}

/// A log that is being written over another one, as each write leaves it: cut between frames and in their midst.
fn growing<'l>(over: &'l [u8], log: &'l [u8]) -> impl Iterator<Item = Vec<u8>> + 'l {
    let (header, frame) = (HEADERS.0, HEADERS.1 + PAGE);
    let frames = (header..=log.len()).step_by(frame);
    let ends = frames.flat_map(move |end| [end, end + HEADERS.1, end + frame / 2]);
    let ends = ends.filter(|end| *end <= log.len());
    ends.map(|end| [&log[..end], over.get(end..).unwrap_or_default()].concat())
}

/// What a kill leaves of a file while its log is written, before any of that is written back: from one length on, if another
/// log has been written back before.
fn is_accepted(file: &[u8], logs: impl Iterator<Item = Vec<u8>>, least: u64) {
    let mut reached = least;
    for (number, log) in logs.enumerate() {
        let (file, log) = (file.to_owned(), Some(log));
        let scratch = placed(&Image { file, log });
        let there = instances(scratch.path()).unwrap_or_else(|why| panic!("log {number}: {why}"));
        assert!(there >= reached, "log {number}: {there}");
        assert_eq!(instances(scratch.path()), Ok(there), "it goes on");
        reached = there;
    }
}

/// Opening, working and closing, cut short between any two writes to the file, and in the midst of any to the log.
#[test]
fn a_kill_while_a_store_is_opened_or_closed_is_no_reason_to_refuse_it() {
    let scratch = closed();
    let before = image(scratch.path());
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    let open = image(scratch.path());
    start(&mut owner(&store), 0..10);
    let work = image(scratch.path());
    // Whoever looks into the file keeps SQLite from removing the log.
    let reader = Connection::open(scratch.path().join(FILE)).unwrap();
    let hubs = |reader: &Connection| reader.query_row("SELECT count(*) FROM hub", [], |row| row.get::<_, i64>(0));
    assert_eq!(hubs(&reader), Ok(2));
    drop(store);
    let after = image(scratch.path());
    let [opening, working, closing] = [&open, &work, &after].map(|image| image.log.clone().unwrap());
    assert!(closing.starts_with(&working) && closing.len() > working.len());
    let says = |image: &Image| {
        row(placed(&Image {
            log: None,
            ..image.clone()
        })
        .path())
        .0
    };
    assert_eq!([&before, &open, &work, &after].map(says), [false, true, true, false]);
    // The file does not say yet that it is open; then it does, and what is written begins the log anew.
    is_accepted(&before.file, growing(&[], &opening), 10);
    is_accepted(&open.file, growing(&opening, &closing).skip(1), 10);
    is_accepted(&work.file, growing(&working, &closing).skip(1), 10);
    // Then it says that it is closed.
    is_accepted(&after.file, [closing].into_iter(), 20);
    // A part of that log, which lacks the end, would take the file back.
    let (log, file) = (Some(working), after.file.clone());
    is_refused(&Image { file, log }, NOT_LOST, 20);
    // The next one finds the log that was not removed, and goes on with it.
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    start(&mut owner(&store), 0..1);
    let next = image(scratch.path());
    drop(reader);
    assert_eq!(instances(placed(&next).path()), Ok(21));
    let (file, log) = (after.file, next.log);
    assert_eq!(instances(placed(&Image { file, log }).path()), Ok(21));
}

#[test]
fn a_log_that_has_begun_anew_is_the_stores_own() {
    let scratch = closed();
    let store = EmbeddedStore::open(scratch.path(), EmbeddedOptions::default()).unwrap();
    let (first, mut owner) = (image(scratch.path()), owner(&store));
    for round in 0..5 {
        start(&mut owner, 10 + 2 * round..12 + 2 * round);
        done(store.compact());
        let now = image(scratch.path());
        assert_eq!(instances(placed(&now).path()), Ok(u64::from(12 + 2 * round)));
    }
    let [first, last] = [first.log, image(scratch.path()).log].map(|log| salt(&log.unwrap()));
    assert!((5..20).contains(&last.wrapping_sub(first)), "{first} and {last}");
}

fn inline(folder: &Path) -> Inline<SqliteWriter, SqliteReader> {
    let writer = SqliteWriter::open(folder, EmbeddedOptions::default()).unwrap();
    let reader = SqliteReader::open(folder).unwrap();
    Inline::new(writer, reader)
}

/// A write whose sync the disk refuses.
fn fail_a_write(store: &Inline<SqliteWriter, SqliteReader>) {
    fail_syncs(1);
    let name = taskhub_store::conformance::hub("Unknown");
    let error = refused(store.create_hub(&name, 1, Timestamp::default()));
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    fail_syncs(0);
}

/// The first write to a log that begins anew fails, and the file is opened anew, by a connection that has not begun it: SQLite
/// draws any salts for the log.
#[test]
fn a_log_that_is_begun_after_a_failed_write_is_the_stores_own() {
    let scratch = closed();
    let store = inline(scratch.path());
    // All of its log is in the file, so that the next write begins it anew.
    let before = image(scratch.path());
    fail_a_write(&store);
    assert!(
        done(store.claim(&Claim::new(NODE, &[], Timestamp::default())))
            .leases
            .is_empty()
    );
    let marked = image(scratch.path());
    let [old, new] = [&before, &marked].map(|image| salt(image.log.as_ref().unwrap()));
    assert!(new.wrapping_sub(old) > 1 << 17, "the salts are drawn: {old}, {new}");
    start(&mut owner(&store), 0..2);
    let after = image(scratch.path());
    assert!(row(placed(&after).path()).0);
    let [old, new] = [&before, &marked].map(|image| image.log.clone().unwrap());
    is_accepted(&before.file, growing(&old, &new), 10);
    assert_eq!(instances(placed(&after).path()), Ok(12));
}

/// The first access after a failed write is the one that closes the store: it too begins a log whose salts are drawn, and a
/// reader keeps SQLite from removing that log.
#[test]
fn a_log_that_is_begun_while_a_store_is_closed_is_the_stores_own() {
    let scratch = closed();
    let store = inline(scratch.path());
    let before = image(scratch.path());
    fail_a_write(&store);
    // Its writer goes before its reader.
    drop(store);
    let after = image(scratch.path());
    let [old, new] = [&before, &after].map(|image| salt(image.log.as_ref().unwrap()));
    assert!(new.wrapping_sub(old) > 1 << 17, "the salts are drawn: {old}, {new}");
    let log = None;
    let alone = placed(&Image { log, ..after.clone() });
    let (is_open, said) = row(alone.path());
    // Closing may have begun one more round.
    let is_named = (0..=1).contains(&(i64::from(new) - said).rem_euclid(1 << 32));
    assert!(!is_open && is_named, "the file names the log: {said}, {new}");
    assert_eq!(instances(scratch.path()), Ok(10));
    // The log of before has nothing to do with it now.
    let (file, log) = (after.file, before.log);
    is_refused(&Image { file, log }, NOT_LOST, 10);
}

/// Connections share an index of the log for as long as one of them is open, so the log of a reader's index stays.
#[test]
fn a_loss_is_not_accepted_while_a_reader_has_the_log() {
    let (one, other) = (closed(), closed());
    let before = image(one.path());
    let (mine, log) = (killed(&one), killed(&other).log);
    let mut damaged = mine.clone();
    let bytes = damaged.log.as_mut().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let images = [
        Image {
            log: log.clone(),
            ..before
        },
        Image { log, ..mine },
        damaged,
    ];
    for image in images {
        let scratch = placed(&image);
        let reader = Connection::open(scratch.path().join(FILE)).unwrap();
        reader.execute_batch("SELECT count(*) FROM sqlite_schema").unwrap();
        let error = repair::accept_loss(scratch.path()).unwrap_err();
        let Error::Unavailable { source } = error else {
            panic!("{error}")
        };
        assert!(source.to_string().contains("is being read"), "{source}");
        let after = self::image(scratch.path());
        assert!(after.file == image.file && after.log == image.log, "nothing is changed");
        drop(reader);
        let scratch = placed(&image);
        let accepted = repair::accept_loss(scratch.path()).unwrap().unwrap();
        assert_eq!(std::fs::read(accepted.kept.unwrap()).ok(), image.log);
        let left = accepted.left.unwrap().instances;
        assert_eq!(instances(scratch.path()), Ok(left));
        assert!(left >= 10, "{left}");
    }
}

/// The row follows the log long before it could be taken for another's.
#[test]
fn the_row_about_the_store_follows_its_log() {
    const FAR: i64 = (1 << 14) + 1;
    let behind = |folder: &Path| {
        let file = Connection::open(folder.join(FILE)).unwrap();
        let sql = "UPDATE store SET log_salt = (log_salt - ?1) & 0xFFFFFFFF";
        assert_eq!(file.execute(sql, [FAR]).unwrap(), 1);
        resum(&file);
    };
    let is_followed = |folder: &Path| {
        let found = salt(&image(folder).log.unwrap());
        let (is_open, said) = row(folder);
        is_open && (i64::from(found) - said).rem_euclid(1 << 32) < 100
    };
    // By a group that begins the log anew, and by a compaction.
    let scratch = closed();
    let store = inline(scratch.path());
    let mut owner = owner(&store);
    for is_compacted in [false, true] {
        behind(scratch.path());
        assert!(!is_followed(scratch.path()));
        if is_compacted {
            done(store.compact());
        } else {
            // Each is large enough to be written back, so that the next one begins the log anew.
            for number in 0..5 {
                owner.start_with(&StartRequest {
                    input: Some(Payload::new(vec![7; 1 << 20])),
                    ..Owner::request(&instance(&format!("large-{number}")))
                });
                owner.flush();
            }
        }
        assert!(is_followed(scratch.path()), "compacted: {is_compacted}");
    }
    // By the next one to open it after a kill.
    behind(scratch.path());
    let copy = placed(&image(scratch.path()));
    let mut writer = SqliteWriter::open(copy.path(), EmbeddedOptions::default()).unwrap();
    assert!(is_followed(copy.path()));
    assert_eq!(writer.list_hubs().unwrap().len(), 2);
}
