//! Tools for a damaged store, which work without opening it for use: check everything, export intact instances, rebuild
//! the store from intact data, and accept the loss of a damaged log. Only the last two, [`rebuild`] and
//! [`accept_loss`], change the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::HubName;
use taskhub_core::instance::InstanceState;
use taskhub_core::time::Timestamp;

use super::beside;
use super::columns::{INFO, info_row};
use super::folder::Folder;
use super::frames::{self, Log};
use super::hubs::About;
use super::layout::{self, FORMAT, Identity, KEPT, LOG, identify};
use super::own;
use super::reader::{self, SqliteReader};
use super::trouble::{During, Trouble, unavailable};
use super::verify::{self, Progress};
use crate::sql::{Key, uint};
use crate::{Error, HistoryRange, Verified, decode_history};

pub use super::rebuild::{Rebuilt, rebuild};

/// Checks a store: the structure of the file, the checksums of pages and rows, indexes against tables, counts, the log.
/// Works while another process has the store open.
///
/// # Errors
///
/// `Corrupt` if so much is damaged that nothing can be checked, `Unavailable` if it cannot be read or is of an older
/// format, `Format` if it is of a newer one.
pub fn verify(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Verified, Error> {
    let (folder, log) = match take(path) {
        // A process that has the store open has already checked its log.
        Err(Error::Locked { .. }) => return SqliteReader::open(path)?.verify_with(progress),
        taken => taken?,
    };
    let connection = connect(path, &log)?;
    let has_log = !matches!(log, Log::Foreign { .. });
    let checked = verify::verify(&connection, path, has_log, progress);
    let mut report = checked.map_err(|trouble| folder.error(trouble, During::Read))?;
    report.problems.extend(of_log(path, &log));
    Ok(report)
}

/// Describes the problem of the log; `None` if it is intact.
fn of_log(path: &Path, log: &Log) -> Option<String> {
    let what = match (beside::loss(path, log), log) {
        (Some(loss), _) => loss,
        (None, Log::Torn { at }) => format!(
            "the group at byte {at} is incomplete: either a crash interrupted it, or the log was cut short or damaged \
            in its last group"
        ),
        (None, _) => return None,
    };
    Some(format!("{}: {what}", path.join(LOG).display()))
}

/// An instance that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    pub hub: HubName,
    /// All that is known of it but its history.
    pub state: InstanceState,
    /// The histories of its executions that are kept, by their ordinals, oldest first.
    pub histories: Vec<(u32, Vec<HistoryEvent>)>,
}

/// Hands on every instance of a store that is whole, hub by hub; answers a line for each that is not, for each stretch of rows
/// that cannot be reached, and for what the log has lost.
///
/// # Errors
///
/// `Locked` if the store is in use; the error of the caller's function; otherwise as [`verify`].
pub fn save(path: &Path, each: &mut dyn FnMut(Saved) -> io::Result<()>) -> Result<Vec<String>, Error> {
    let (folder, log) = take(path)?;
    let connection = connect(path, &log)?;
    let mut lost: Vec<String> = of_log(path, &log).into_iter().collect();
    let saved = each_row(&connection, "instance", INFO, &mut |found| {
        match found {
            Found::Gap(what) => lost.push(what),
            Found::Row(_, row) => match saved(&connection, row) {
                Ok(saved) => each(saved).map_err(|error| Error::Unavailable { source: error.into() })?,
                Err(trouble) => lost.push(verify::of_instance(&connection, row, &told(trouble))),
            },
        }
        Ok(())
    });
    saved
        .map(|()| lost)
        .map_err(|trouble| folder.error(trouble, During::Read))
}

/// What was accepted as lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub what: String,
    /// Where the log is kept as it was, if there was one.
    pub kept: Option<PathBuf>,
    /// The data that the store continues with, as far as it is readable.
    pub left: Option<Left>,
}

/// What a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Instances, of all hubs.
    pub instances: u64,
    /// When the last of the instances changed; absent if there are none.
    pub changed_at: Option<Timestamp>,
}

/// Makes a store usable without the data that its log has lost, and describes the loss; `None` if nothing is lost and
/// the store is unchanged.
///
/// # Errors
///
/// `Locked` if the store is in use, `Corrupt` if it cannot be opened without the lost data either, `Unavailable` if it
/// cannot be written or is being read. After an error, the store is unchanged.
pub fn accept_loss(path: &Path) -> Result<Option<Accepted>, Error> {
    let (folder, log) = take(path)?;
    let Some(what) = beside::loss(path, &log) else {
        return Ok(None);
    };
    let place = path.join(LOG);
    let cut = match log {
        // In front of its first frame there is nothing to keep.
        Log::Damaged { at, .. } if at > frames::HEADER_BYTES as u64 => Some(at),
        _ => None,
    };
    let has_row = check_rest(path, cut).map_err(|trouble| folder.error(trouble, During::Read))?;
    let guard = shut_out(path).map_err(|trouble| folder.error(trouble, During::Read))?;
    let kept = keep(path, &place, cut).map_err(|error| unavailable(&place, &error))?;
    drop(guard);
    if cut.is_none()
        && has_row
        && let Err(trouble) = close(path)
    {
        if let Some(kept) = &kept {
            fs::rename(kept, &place).map_err(|error| unavailable(kept, &error))?;
        }
        return Err(folder.error(trouble, During::Write));
    }
    let left = left(path).ok();
    Ok(Some(Accepted { what, kept, left }))
}

/// Whether there is a row about the store in what would be left; refuses a store that could not be opened then.
fn check_rest(path: &Path, cut: Option<u64>) -> Result<bool, Trouble> {
    // SQLite reads a log up to the first damaged frame.
    let connect = |layer| match cut {
        None => beside::connect_alone(path, layer),
        Some(_) => beside::connect_through(path, layer),
    };
    // Pages of earlier formats have no checksums.
    match identify(&connect(taskhub_pages::LENIENT)?)? {
        Identity::Ours(FORMAT) => {
            let connection = connect(taskhub_pages::STRICT)?;
            About::read(&connection).map(|_| true)
        }
        Identity::Ours(found) if found > FORMAT => Err(layout::newer(path, found).into()),
        Identity::Ours(_) => Ok(false),
        Identity::New | Identity::Foreign => Err(layout::foreign()),
    }
}

/// Opens a connection beside which there is no other, not even a reader's; refuses a store that is being read. Connections
/// share an index of the log, which SQLite goes on using as long as one of them is open: beside a reader, the next writer
/// would append to a log that is not there any more.
fn shut_out(path: &Path) -> Result<Connection, Trouble> {
    let connection = beside::connect_through(path, taskhub_pages::LENIENT)?;
    // A reader keeps its lock until it closes the file, so waiting for the end of a query is no use.
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    match connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            let what = "the store is being read, and its log cannot be replaced meanwhile; end the processes that read \
                it, and try again";
            Err(Error::Unavailable { source: what.into() }.into())
        }
        // What is damaged is known by now.
        _ => Ok(connection),
    }
}

/// Marks the file as closed, because it has no log.
fn close(path: &Path) -> Result<(), Trouble> {
    let connection = layout::connect_writer(&path.join(layout::FILE))?;
    let about = About::read(&connection)?;
    let is_open = false;
    // Cut short, it leaves a log that says which one it follows.
    Ok(About { is_open, ..about }.begin_log().write(&connection)?)
}

fn left(path: &Path) -> Result<Left, Error> {
    let connection = connect(path, &beside::log_of(path)?)?;
    let count = || -> Result<Left, Trouble> {
        let sql = "SELECT coalesce(sum(n), 0) FROM status_count";
        let instances = uint(connection.query_row(sql, [], |row| row.get(0))?);
        let changed_at = connection.query_row("SELECT max(updated_at) FROM instance", [], |row| row.get(0))?;
        let changed_at = Option::map(changed_at, Timestamp::from_ticks);
        Ok(Left { instances, changed_at })
    };
    count().map_err(|trouble| trouble.during(During::Read, &layout::file(path)))
}

/// Puts a log aside, or a copy of one that is cut where it is damaged.
fn keep(path: &Path, place: &Path, cut: Option<u64>) -> io::Result<Option<PathBuf>> {
    let length = match fs::metadata(place) {
        Ok(log) => log.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(None);
    }
    let kept = unused(path, LOG)?;
    let Some(cut) = cut else {
        fs::rename(place, &kept)?;
        own::sync_folder(path)?;
        return Ok(Some(kept));
    };
    let copy = || -> io::Result<()> {
        fs::copy(place, &kept)?;
        File::open(&kept)?.sync_all()?;
        own::sync_folder(path)?;
        let log = own::open(place, File::options().write(true))?;
        log.set_len(cut)?;
        log.sync_all()
    };
    if let Err(error) = copy() {
        // An incomplete copy is useless, and the operation that needed it has failed.
        let _gone = fs::remove_file(&kept);
        return Err(error);
    }
    Ok(Some(kept))
}

/// A name that a file of the store can be kept by.
pub(super) fn unused(path: &Path, file: &str) -> io::Result<PathBuf> {
    let mut name = format!("{file}{KEPT}");
    for number in 2.. {
        let place = path.join(&name);
        if !place.try_exists()? {
            return Ok(place);
        }
        name = format!("{file}{KEPT}.{number}");
    }
    unreachable!("there are more numbers than files")
}

/// Takes the folder of a store that is there, and looks at its log.
pub(super) fn take(path: &Path) -> Result<(Folder, Log), Error> {
    let place = path.join(layout::FILE);
    if let Err(error) = fs::metadata(&place) {
        return Err(unavailable(&place, &error));
    }
    let mut folder = Folder::take(path)?;
    folder.hold()?;
    let log = beside::log_of(path)?;
    Ok((folder, log))
}

/// Opens a connection that also reads pages with wrong checksums. SQLite must open it for writing, because it may write
/// the log's index; it writes nothing else and keeps the log.
pub(super) fn connect(path: &Path, log: &Log) -> Result<Connection, Error> {
    let connect = || -> Result<Connection, Trouble> {
        let connection = match log {
            // None is made, and none is read that is not its own.
            Log::Absent | Log::Foreign { .. } => beside::connect_alone(path, taskhub_pages::LENIENT)?,
            Log::Whole | Log::Torn { .. } | Log::Damaged { .. } => {
                beside::connect_through(path, taskhub_pages::LENIENT)?
            }
        };
        connection.pragma_update(None, "cell_size_check", true)?;
        match identify(&connection)? {
            Identity::Ours(FORMAT) => Ok(connection),
            Identity::Ours(found) if found > FORMAT => Err(layout::newer(path, found).into()),
            Identity::Ours(found) => {
                let what = format!(
                    "the store has format {found}, whose rows have no checksums; any command that opens the store \
                    converts it to format {FORMAT}"
                );
                Err(Error::Unavailable { source: what.into() }.into())
            }
            Identity::New | Identity::Foreign => Err(layout::foreign()),
        }
    };
    connect().map_err(|trouble| trouble.during(During::Read, &layout::file(path)))
}

/// An item found while scanning a table.
pub(super) enum Found<'r> {
    /// A row, and its number.
    Row(i64, &'r rusqlite::Row<'r>),
    /// Rows behind one number, and before another if there are more, cannot be reached.
    Gap(String),
}

/// Goes through the rows of a table by their numbers, not through an index, and past those that cannot be reached; some may come
/// more than once. A row whose
/// page turns out to be damaged while it is looked at counts among these.
pub(super) fn each_row(
    connection: &Connection,
    table: &str,
    columns: &str,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let sql = format!("SELECT {columns}, rowid FROM {table} NOT INDEXED WHERE rowid > ?1 ORDER BY rowid");
    let mut statement = connection.prepare(&sql)?;
    let number = statement.column_count() - 1;
    let mut behind = i64::MIN;
    loop {
        let mut reached = behind;
        let mut walk = || -> Result<(), Trouble> {
            let mut rows = statement.query([behind])?;
            while let Some(row) = rows.next()? {
                let found = row.get(number)?;
                // Where pages are in each other's places, rows come in any order: going back would never end.
                reached = reached.max(found);
                each(Found::Row(found, row))?;
            }
            Ok(())
        };
        let trouble = match walk() {
            Ok(()) => return Ok(()),
            Err(trouble) if trouble.is_of_pages() => told(trouble),
            Err(trouble) => return Err(trouble),
        };
        let next = next_readable(connection, table, reached)?.filter(|next| *next > reached);
        let until = next.map(|next| format!(" and before {next}")).unwrap_or_default();
        each(Found::Gap(format!(
            "rows of `{table}` after {reached}{until}: {trouble}"
        )))?;
        let Some(next) = next else { return Ok(()) };
        behind = next - 1;
    }
}

/// The first row of a table behind one that can be read again: rows are looked for further and further away.
fn next_readable(connection: &Connection, table: &str, behind: i64) -> Result<Option<i64>, Trouble> {
    let sql = format!("SELECT rowid FROM {table} NOT INDEXED WHERE rowid > ?1 ORDER BY rowid LIMIT 1");
    let find = |from: i64| -> Result<Option<i64>, Trouble> {
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([from])?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    };
    let from = behind.max(0);
    let (mut unreadable, mut found) = (0, None);
    for step in (0..62).map(|power| 1_i64 << power) {
        match find(from.saturating_add(step)) {
            Ok(next) => {
                found = next.map(|next| (step, next));
                break;
            }
            Err(trouble) if trouble.is_of_pages() => unreadable = step,
            Err(trouble) => return Err(trouble),
        }
    }
    let Some((mut readable, mut next)) = found else {
        return Ok(None);
    };
    while readable - unreadable > 1 {
        let middle = unreadable + (readable - unreadable) / 2;
        match find(from + middle) {
            Ok(Some(nearer)) => (readable, next) = (middle, nearer),
            Ok(None) => break,
            Err(_) => unreadable = middle,
        }
    }
    Ok(Some(next))
}

/// The instance of a row of [`INFO`], if it is whole.
pub(super) fn saved(connection: &Connection, row: &rusqlite::Row<'_>) -> Result<Saved, Trouble> {
    let info = info_row(row)?;
    let (key, hub) = (info.key, hub(connection, info.hub)?);
    let state = reader::state(connection, info)?;
    let mut histories = Vec::new();
    for ordinal in ordinals(connection, key)? {
        let chunks = reader::history(connection, key, ordinal, HistoryRange::ALL)?;
        histories.push((ordinal, decode_history(&chunks)?));
    }
    Ok(Saved { hub, state, histories })
}

fn hub(connection: &Connection, row: i64) -> Result<HubName, Trouble> {
    let sql = "SELECT name FROM hub WHERE hub = ?1";
    let name: String = connection.prepare_cached(sql)?.query_row([row], |row| row.get(0))?;
    HubName::new(&name).map_err(|refusal| Trouble::Contradiction(refusal.to_string()))
}

fn ordinals(connection: &Connection, key: Key) -> Result<Vec<u32>, Trouble> {
    let sql = "SELECT DISTINCT ordinal FROM history WHERE inst = ?1 ORDER BY ordinal";
    let mut statement = connection.prepare_cached(sql)?;
    let ordinals = statement.query_map([key.0], |row| row.get(0))?;
    Ok(ordinals.collect::<rusqlite::Result<_>>()?)
}

fn told(trouble: Trouble) -> String {
    match trouble {
        Trouble::Contradiction(what) => what,
        Trouble::Sqlite(error) => error.to_string(),
        Trouble::Told(error) => error.to_string(),
    }
}
