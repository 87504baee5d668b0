//! The check of the whole store: whether redundant data agrees, and whether every instance can be loaded (I3, I4, I8,
//! I12).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, Row};
use taskhub_core::event::EventKind;

use super::columns::{INFO, OUTBOX, info_row, outbox_item};
use super::hubs::{self, About};
use super::own;
use super::reader::{history, state};
use super::trouble::{During, Trouble, unavailable};
use super::{frames, layout};
use crate::sql::{InfoRow, count_sum, uint};
use crate::{HistoryRange, Space, Verified};

/// A damaged store could have a line for every row.
const PROBLEMS_MAX: usize = 100;

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The step of the check, for progress messages.
    pub what: &'static str,
    /// How many of it are done.
    pub done: u64,
    /// How many there are.
    pub of: u64,
}

/// Number of items after which progress is reported.
const TOLD_EVERY: u64 = 1_000;

/// Checks the store that one snapshot shows, and the pages of the file, which may be ahead of it. A log that is not the
/// store's own (`has_log`) says nothing of pages.
pub(super) fn verify(
    connection: &Connection,
    folder: &Path,
    has_log: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verified, Trouble> {
    let snapshot = connection.unchecked_transaction()?;
    let mut report = Verified {
        bytes: space(&snapshot)?.bytes,
        ..Verified::default()
    };
    pages(&snapshot, (folder, has_log), &mut report, progress)?;
    rows(&snapshot, folder, &mut report, progress)?;
    Ok(report)
}

/// Checks everything but the checksums of pages, which any read of a page checks.
pub(super) fn rows(
    snapshot: &Connection,
    folder: &Path,
    report: &mut Verified,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Trouble> {
    let mut check = |run: &mut dyn FnMut(&mut Verified) -> Result<(), Trouble>| {
        // What keeps one check from its end may leave another one to do.
        match run(report) {
            Err(trouble) if trouble.is_of_pages() => {
                report.problem(trouble.during(During::Read, &layout::file(folder)).to_string());
                Ok(())
            }
            result => result,
        }
    };
    check(&mut |report| integrity(snapshot, report))?;
    check(&mut |report| all_hubs(snapshot, report))?;
    check(&mut |report| counts(snapshot, report))?;
    check(&mut |report| counters(snapshot, report))?;
    check(&mut |report| chunks(snapshot, report))?;
    check(&mut |report| instances(snapshot, report, progress))?;
    check(&mut |report| outbox(snapshot, report))?;
    check(&mut |report| orphans(snapshot, report))
}

/// Checks the checksum of every page of the file. For a page that is also in the log, SQLite checks the log's version;
/// the version in the file is skipped, because a checkpoint interrupted by a crash can leave it old or torn.
fn pages(
    connection: &Connection,
    (folder, has_log): (&Path, bool),
    report: &mut Verified,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Trouble> {
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let (place, log) = (folder.join(layout::FILE), folder.join(layout::LOG));
    let mut read = || -> std::io::Result<Vec<u64>> {
        let file = own::open(&place, File::options().read(true))?;
        let (bytes, page_bytes) = (page_bytes as usize, u64::from(page_bytes));
        let of = file.metadata()?.len() / page_bytes;
        let mut page = vec![0; bytes];
        let mut is_right = |number: u64| -> std::io::Result<bool> {
            let offset = (number - 1) * page_bytes;
            if taskhub_pages::is_for_locks(offset, page_bytes) {
                return Ok(true);
            }
            read_at(&file, &mut page, offset)?;
            Ok(taskhub_pages::is_right(&page, number))
        };
        let mut wrong = Vec::new();
        for number in 1..=of {
            if number % TOLD_EVERY == 1 {
                let (what, done) = ("pages", number - 1);
                progress(Progress { what, done, of });
            }
            if !is_right(number)? {
                wrong.push(number);
            }
        }
        // Afterwards: what was being written meanwhile is in the log, or is right by now.
        if !wrong.is_empty() {
            let logged = if has_log {
                frames::pages(&log, bytes)?
            } else {
                BTreeSet::new()
            };
            let mut still = Vec::new();
            for number in wrong {
                if !logged.contains(&number) && !is_right(number)? {
                    still.push(number);
                }
            }
            wrong = still;
        }
        Ok(wrong)
    };
    let wrong = read().map_err(|error| unavailable(&place, &error))?;
    for page in wrong {
        report.problem(format!("wrong checksum in page {page}"));
    }
    Ok(())
}

fn read_at(file: &File, page: &mut [u8], offset: u64) -> std::io::Result<()> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(page)
}

fn all_hubs(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    match hubs::load(connection).and_then(|_| About::read(connection)) {
        Ok(_) => Ok(()),
        Err(trouble) => {
            report.problem(trouble.of_row()?);
            Ok(())
        }
    }
}

/// How much room the file takes.
pub(super) fn space(connection: &Connection) -> Result<Space, Trouble> {
    let sql = "SELECT page_count * page_size, freelist_count * page_size \
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(i64, i64)> { Ok((row.get(0)?, row.get(1)?)) };
    let (bytes, free_bytes) = connection.query_row(sql, [], read)?;
    Ok(Space {
        bytes: uint(bytes),
        free_bytes: uint(free_bytes),
    })
}

impl Verified {
    fn problem(&mut self, line: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(line);
        }
    }
}

/// SQLite's own check: structure of the file, and indexes against tables.
fn integrity(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            report.problem(line);
        }
    }
    Ok(())
}

type Counts = BTreeMap<(i64, u8), i64>;

fn counts(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    let mut kept = Counts::new();
    let mut statement = connection.prepare("SELECT part, status, n, sum FROM status_count")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (part, status, n) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if count_sum(part, status, n) != row.get::<_, i64>(3)? {
            report.problem(format!(
                "wrong checksum in the count of partition {part}, status {status}"
            ));
        }
        if n != 0 {
            kept.insert((part, status), n);
        }
    }
    let mut statement = connection.prepare("SELECT inst >> 40, status, count(*) FROM instance GROUP BY 1, 2")?;
    let counted = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    let counted = counted.collect::<rusqlite::Result<Counts>>()?;
    if kept != counted {
        report.problem(format!(
            "the stored status counts are {kept:?}, but counting gives {counted:?} (I8)"
        ));
    }
    Ok(())
}

/// No number that was given is given again.
fn counters(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    let sql = "SELECT part, next_seq, (SELECT max(seq) FROM outbox WHERE outbox.part = part.part), next_number, \
         (SELECT max(inst) & 0xFFFFFFFFFF FROM instance WHERE inst >= part << 40 AND inst < (part + 1) << 40), items, \
         (SELECT count(*) FROM outbox WHERE outbox.part = part.part) FROM part";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let part: i64 = row.get(0)?;
        let (items, there): (i64, i64) = (row.get(5)?, row.get(6)?);
        if items != there {
            report.problem(format!(
                "partition {part} should have {items} messages in its outbox, found {there}"
            ));
        }
        for (what, next, used) in [
            ("commit", row.get(1)?, row.get(2)?),
            ("instance", row.get(3)?, row.get(4)?),
        ] {
            let (next, used): (i64, Option<i64>) = (next, used);
            if next < 1 || used.is_some_and(|used| used >= next) {
                report.problem(format!(
                    "partition {part} would assign {what} number {next} next, but {used:?} is already in use"
                ));
            }
        }
    }
    Ok(())
}

/// Chunks of an execution join, and those of the current one are as many events as its row says.
fn chunks(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    let sql = "SELECT inst, history.ordinal, count(*), min(first), max(first + events), sum(events), \
         max(history.ordinal = instance.ordinal), max(history_events) \
         FROM history LEFT JOIN instance USING (inst) GROUP BY inst, history.ordinal";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, ordinal): (i64, u32) = (row.get(0)?, row.get(1)?);
        let (first, end, events): (u32, u32, u32) = (row.get(3)?, row.get(4)?, row.get(5)?);
        if first != 0 || end != events {
            report.problem(format!(
                "the history of {key}, execution {ordinal}, has gaps: {events} events, the last one at {end} (I4)"
            ));
        }
        let is_current: Option<bool> = row.get(6)?;
        let expected: Option<u32> = row.get(7)?;
        if is_current == Some(true) && expected != Some(events) {
            report.problem(format!(
                "the history of {key} has {events} events, but the instance row says {expected:?}"
            ));
        }
    }
    let sql = "SELECT inst, history_events FROM instance WHERE history_events > 0 AND NOT EXISTS \
         (SELECT 1 FROM history WHERE history.inst = instance.inst AND history.ordinal = instance.ordinal)";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, events): (i64, u32) = (row.get(0)?, row.get(1)?);
        report.problem(format!(
            "the history of {key} is missing, but the instance row says {events} events"
        ));
    }
    Ok(())
}

/// Every instance can be loaded, and its status and its history agree on whether it has ended.
fn instances(
    connection: &Connection,
    report: &mut Verified,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Trouble> {
    let of: i64 = connection.query_row("SELECT count(*) FROM instance", [], |row| row.get(0))?;
    let (what, of) = ("instances", uint(of));
    let mut statement = connection.prepare(&format!("SELECT {INFO} FROM instance"))?;
    let mut rows = statement.query([])?;
    let mut done = 0;
    while let Some(row) = rows.next()? {
        if done % TOLD_EVERY == 0 {
            progress(Progress { what, done, of });
        }
        done += 1;
        if let Err(trouble) = info_row(row).and_then(|row| instance(connection, row)) {
            report.problem(of_instance(connection, row, &trouble.of_row()?));
        }
    }
    Ok(())
}

/// Adds the instance, from a row of [`INFO`], to a problem.
pub(super) fn of_instance(connection: &Connection, row: &Row<'_>, what: &str) -> String {
    let id = row.get_ref(1).ok().and_then(|id| id.as_str().ok()).unwrap_or("?");
    let (id, hub) = (id.escape_debug(), hub_name(connection, row));
    let key = row.get(0).unwrap_or(0_i64);
    format!("hub `{hub}`, instance `{id}` (row {key}): {what}")
}

/// Name of the hub of a row of [`INFO`], for people.
fn hub_name(connection: &Connection, row: &Row<'_>) -> String {
    let find = || -> rusqlite::Result<String> {
        let sql = "SELECT name FROM hub WHERE hub = ?1";
        let hub: i64 = row.get(23)?;
        connection.prepare_cached(sql)?.query_row([hub], |row| row.get(0))
    };
    find().unwrap_or_else(|_| "?".to_owned())
}

/// Refuses an instance whose rows contradict each other.
pub(super) fn instance(connection: &Connection, row: InfoRow) -> Result<(), Trouble> {
    let key = row.key;
    let state = state(connection, row)?;
    let (status, completed_at) = (state.info.status, state.info.completed_at);
    if completed_at.is_some() != status.is_terminal() {
        let what = format!("status {status} contradicts completion time {completed_at:?}");
        return Err(Trouble::Contradiction(what));
    }
    let last = state.history_events.saturating_sub(1);
    let mut ended = false;
    let mut bytes = 0;
    for chunk in history(connection, key, state.info.ordinal, HistoryRange::ALL)? {
        let events = chunk.decode()?;
        if events.len() != chunk.events as usize {
            let what = format!("a chunk has {} events but its row says {}", events.len(), chunk.events);
            return Err(Trouble::Contradiction(what));
        }
        bytes += events.iter().map(|event| event.size() as u64).sum::<u64>();
        let is_last = chunk.first + chunk.events > last;
        let is_end = |kind: &EventKind| matches!(kind, EventKind::ExecutionCompleted { .. });
        ended = is_last && events.last().is_some_and(|event| is_end(&event.kind));
    }
    if bytes != state.history_bytes {
        let what = format!(
            "its history has {bytes} bytes, but its row says {}",
            state.history_bytes
        );
        return Err(Trouble::Contradiction(what));
    }
    if ended == status.is_terminal() {
        return Ok(());
    }
    let what = format!("status {status} contradicts its history (S-atomic-status)");
    Err(Trouble::Contradiction(what))
}

/// Every message on its way can be read.
fn outbox(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    let mut statement = connection.prepare(&format!("SELECT {OUTBOX} FROM outbox"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(trouble) = outbox_item(row) {
            let (part, seq, index): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let what = trouble.of_row()?;
            report.problem(format!("outbox item {part}/{seq}/{index}: {what}"));
        }
    }
    Ok(())
}

/// Rows whose instance, partition or hub is not there.
fn orphans(connection: &Connection, report: &mut Verified) -> Result<(), Trouble> {
    for table in ["payload", "history", "pending", "seen_key"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE inst NOT IN (SELECT inst FROM instance)");
        orphans_of(connection, table, &sql, report)?;
    }
    for table in ["outbox", "status_count"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE part NOT IN (SELECT part FROM part)");
        orphans_of(connection, table, &sql, report)?;
    }
    let sql =
        "SELECT count(*) FROM instance LEFT JOIN part ON part.part = inst >> 40 WHERE part.hub IS NOT instance.hub";
    orphans_of(connection, "instance", sql, report)
}

fn orphans_of(connection: &Connection, table: &str, sql: &str, report: &mut Verified) -> Result<(), Trouble> {
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if count > 0 {
        report.problem(format!("{count} rows of `{table}` have no owner"));
    }
    Ok(())
}
