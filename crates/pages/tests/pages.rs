//! Pages carry checksums, and one that is damaged, moved or emptied is never taken for what it was.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use taskhub_pages::{DAMAGED, LENIENT, STRICT, damaged, install, is_right, reserve};
use tempfile::TempDir;

const PAGE: usize = 4096;

fn connect(file: &Path, layer: &'static std::ffi::CStr) -> Connection {
    install().unwrap();
    Connection::open_with_flags_and_vfs(file, OpenFlags::default(), layer).unwrap()
}

/// A file with a table of 1,000 rows and an index, and nothing in its log.
fn filled(folder: &TempDir) -> PathBuf {
    let file = folder.path().join("test.db");
    let connection = connect(&file, STRICT);
    connection
        .pragma_update(None, "page_size", i64::try_from(PAGE).unwrap())
        .unwrap();
    reserve(&connection).unwrap();
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO t SELECT i, 'name ' || i, zeroblob(i % 200) FROM n;
             INSERT INTO t VALUES (2000, 'large', randomblob(100000));
             DELETE FROM t WHERE id % 3 = 0;",
        )
        .unwrap();
    connection.close().unwrap();
    file
}

/// Reads all that is in the file, by every way to it.
fn read_all(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT sum(id) + sum(length(hex(body))) FROM t";
    let by_table: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    let by_index: i64 = connection.query_row(
        "SELECT sum(length(name)) FROM t INDEXED BY sqlite_autoindex_t_1",
        [],
        |row| row.get(0),
    )?;
    Ok(by_table + by_index)
}

#[test]
fn every_page_of_a_file_has_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(&folder);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[20], 8, "bytes that are reserved on each page, by the header");
    assert!(bytes.len() > 20 * PAGE);
    for (number, page) in (1..).zip(bytes.chunks(PAGE)) {
        assert!(is_right(page, number), "page {number}");
    }
    // The system's own layer reads it too.
    assert_eq!(
        read_all(&Connection::open(&file).unwrap()),
        read_all(&connect(&file, STRICT))
    );
}

#[test]
fn a_damaged_page_is_refused_wherever_the_damage_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(&folder);
    let whole = std::fs::read(&file).unwrap();
    let right = read_all(&connect(&file, STRICT)).unwrap();
    let mut refused = 0;
    // A few bits of each page, its header and its checksum among them.
    for page in 0..whole.len() / PAGE {
        for offset in [0, 3, 5, 8, 9, 100, PAGE / 2, PAGE - 9, PAGE - 8, PAGE - 1] {
            let mut bytes = whole.clone();
            bytes[page * PAGE + offset] ^= 1 << (offset % 8);
            std::fs::write(&file, &bytes).unwrap();
            let number = page as u64 + 1;
            let Ok(connection) = Connection::open_with_flags_and_vfs(&file, OpenFlags::default(), STRICT) else {
                continue;
            };
            match read_all(&connection) {
                Ok(found) => assert_eq!(found, right, "page {number}, byte {offset}"),
                Err(error) => {
                    refused += 1;
                    let code = error.sqlite_error().unwrap().extended_code;
                    let is_header = number == 1 && error.sqlite_error_code() == Some(ErrorCode::NotADatabase);
                    assert!(code == DAMAGED || is_header, "page {number}, byte {offset}: {error}");
                    assert!(is_header || damaged() == Some(number), "page {number}");
                    assert_eq!(damaged(), None, "told once");
                }
            }
        }
    }
    // Free pages and those that say which is whose are not read.
    assert!(refused > whole.len() / PAGE * 5, "{refused}");
}

#[test]
fn pages_that_are_swapped_or_emptied_are_refused_and_the_lenient_layer_hands_them_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(&folder);
    let whole = std::fs::read(&file).unwrap();
    let mut swapped = whole.clone();
    let (one, other) = (whole.len() / PAGE - 2, whole.len() / PAGE - 1);
    swapped[one * PAGE..(one + 1) * PAGE].copy_from_slice(&whole[other * PAGE..(other + 1) * PAGE]);
    swapped[other * PAGE..(other + 1) * PAGE].copy_from_slice(&whole[one * PAGE..(one + 1) * PAGE]);
    let mut emptied = whole;
    emptied[other * PAGE..].fill(0);
    for bytes in [swapped, emptied] {
        std::fs::write(&file, bytes).unwrap();
        let error = read_all(&connect(&file, STRICT)).unwrap_err();
        assert_eq!(error.sqlite_error().unwrap().extended_code, DAMAGED);
        assert!(damaged().is_some());
        let _whatever = read_all(&connect(&file, LENIENT));
        assert!(damaged().is_some(), "handed on, and told");
    }
}

#[test]
fn a_page_that_a_shortened_file_has_lost_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(&folder);
    let log = folder.path().join("test.db-wal");
    let connection = connect(&file, STRICT);
    // With a log it is the log that says how many pages there are, and SQLite does not ask how long the file is.
    connection
        .execute("UPDATE t SET body = zeroblob(0) WHERE id = 1", [])
        .unwrap();
    let right = read_all(&connection).unwrap();
    let (whole, logged) = (std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap());
    connection.close().unwrap();
    for page in 1..whole.len() / PAGE {
        for length in [page * PAGE, page * PAGE + PAGE / 2] {
            std::fs::write(&file, &whole[..length]).unwrap();
            std::fs::write(&log, &logged).unwrap();
            match read_all(&connect(&file, STRICT)) {
                Ok(found) => assert_eq!(found, right, "{length} bytes"),
                Err(error) => {
                    assert_eq!(error.sqlite_error().unwrap().extended_code, DAMAGED, "{length} bytes");
                    let number = damaged().unwrap();
                    assert!(number > page as u64, "page {number}, {length} bytes");
                }
            }
        }
    }
    std::fs::write(&file, &whole[..PAGE * 3]).unwrap();
    std::fs::write(&log, &logged).unwrap();
    let error = read_all(&connect(&file, STRICT)).unwrap_err();
    assert_eq!(error.sqlite_error().unwrap().extended_code, DAMAGED);
    let _whatever = read_all(&connect(&file, LENIENT));
    assert!(damaged().is_some(), "handed on, and told");
}

#[test]
fn what_is_changed_shrunk_and_left_in_the_log_keeps_right_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(&folder);
    let connection = connect(&file, STRICT);
    connection.pragma_update(None, "wal_autocheckpoint", 3).unwrap();
    for round in 0..30 {
        connection
            .execute(
                "UPDATE t SET body = randomblob(?1) WHERE id % 30 = ?2",
                [round * 40, round],
            )
            .unwrap();
    }
    connection.execute("DELETE FROM t WHERE id > 500", []).unwrap();
    connection.execute_batch("PRAGMA incremental_vacuum").unwrap();
    let other = connect(&file, STRICT);
    assert_eq!(read_all(&other).unwrap(), read_all(&connection).unwrap());
    drop(other);
    connection.close().unwrap();
    for (number, page) in (1..).zip(std::fs::read(&file).unwrap().chunks(PAGE)) {
        assert!(is_right(page, number), "page {number}");
    }
}

/// Writes of logs that a call takes.
fn writes_of(call: impl FnOnce()) -> u64 {
    let before = taskhub_pages::testing::writes();
    call();
    taskhub_pages::testing::writes() - before
}

#[test]
fn pages_that_follow_each_other_in_the_log_are_written_together() {
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&filled(&folder), STRICT);
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let large = 4 << 20;
    let pages = u64::try_from(large / PAGE).unwrap();
    let to_log = writes_of(|| {
        let sql = "INSERT INTO t VALUES (3000, 'larger', zeroblob(?1))";
        connection.execute(sql, [i64::try_from(large).unwrap()]).unwrap();
    });
    assert!(
        (10..pages / 20).contains(&to_log),
        "{to_log} writes for {pages} pages, which were two for each"
    );
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    read_all(&connection).unwrap();
}

#[test]
fn whoever_else_reads_sees_what_is_committed_also_where_nothing_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let file = filled(&folder);
    let (writer, reader) = (connect(&file, STRICT), connect(&file, STRICT));
    writer.pragma_update(None, "synchronous", "OFF").unwrap();
    for round in 1..20_i64 {
        // With little memory the log is written while the transaction is under way, and read again by the writer itself.
        writer
            .pragma_update(None, "cache_size", if round % 2 == 0 { 10 } else { 2000 })
            .unwrap();
        let text = format!("{round} {}", "x".repeat(1000));
        let sql = "BEGIN; UPDATE t SET name = name || '.'; UPDATE t SET body = CAST(?1 AS BLOB); COMMIT";
        writer.execute_batch(&sql.replace("?1", &format!("'{text}'"))).unwrap();
        let (count, least): (i64, String) = reader
            .query_row("SELECT count(*), min(CAST(body AS TEXT)) FROM t", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert!(count > 600);
        assert_eq!(least, text);
    }
    read_all(&reader).unwrap();
}
