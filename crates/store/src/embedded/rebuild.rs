//! A damaged store is written anew with all of it that is whole: the instances, and the messages on their way. Its place is
//! taken only when the new one has been checked, and the old file is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params, params_from_iter};

use super::folder::{self, Folder, Pages, unavailable};
use super::frames::Log;
use super::hubs::{About, Hubs, INSTANCE_TABLES};
use super::record::{INFO, Key, Place, count_sum, payload_sum, read_info};
use super::recovery::{OUTBOX, Scan, outbox_item};
use super::repair::{self, Saved, connect, take, unused};
use super::rows::INSERT_OUTBOX;
use super::sums::print;
use super::trouble::{During, Trouble};
use super::verify::{self, Progress};
use super::{anew, beside, log, own};
use crate::{Error, Extent, JobReport};

/// What became of a store that was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Instances in it.
    pub instances: u64,
    /// A line for each instance, stretch of rows or message that was left out.
    pub left_out: Vec<String>,
    /// Where the old file is kept.
    pub kept: PathBuf,
}

/// Writes a store anew, beside itself, with everything that is whole, and puts it in the place of the old one. Needs as much
/// room as the store has; a crash at any moment leaves either.
///
/// # Errors
///
/// `Locked` if somebody has the store; `Corrupt` if its log has lost something, which is to be accepted first, or if a hub, a
/// partition or the row about the store itself is damaged; `Full`; else as [`verify`](super::repair::verify). The store is as it was.
pub fn rebuild(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Rebuilt, Error> {
    let (folder, log) = take(path)?;
    if let Some(what) = beside::loss(path, &log) {
        let place = path.join(folder::LOG).display().to_string();
        let what = format!("{what}; accept that loss first, with `taskhub store repair --accept-loss`");
        let extent = Extent::Pages;
        return Err(Error::Corrupt { place, what, extent });
    }
    let rebuilt = write_anew(path, &folder, &log, progress);
    if rebuilt.is_err() {
        // Whoever opens the store would remove it too.
        let _gone = fs::remove_file(path.join(anew::FILE));
    }
    rebuilt
}

fn write_anew(path: &Path, folder: &Folder, log: &Log, progress: &mut dyn FnMut(Progress)) -> Result<Rebuilt, Error> {
    let old = connect(path, log)?;
    let mut write = || -> Result<(u64, Vec<String>), Trouble> {
        anew::remove(path)?;
        let new = anew::begin(path)?;
        let transaction = new.unchecked_transaction()?;
        folder::create(&transaction)?;
        let hubs = Hubs::load(&old)?;
        let (old, new_rows) = (&old, &*transaction);
        let copied = Copy {
            old,
            new: new_rows,
            hubs,
        }
        .all()?;
        transaction.commit()?;
        check(&new, path, progress)?;
        anew::end(new)?;
        Ok(copied)
    };
    let (instances, left_out) = write().map_err(|trouble| folder.error(trouble, During::Read))?;
    let place = || -> Result<PathBuf, Trouble> {
        if *log != Log::Absent {
            // What the log has goes into the old file, which is closed then and keeps all that it had.
            let about = About::read(&old)?;
            let is_open = false;
            About { is_open, ..about }.write(&old)?;
            log::truncate(&old)?;
        }
        old.close().map_err(|(_, error)| error)?;
        let kept = keep(path).map_err(|error| unavailable(&path.join(folder::FILE), &error))?;
        anew::replace(path)?;
        Ok(kept)
    };
    let kept = place().map_err(|trouble| folder.error(trouble, During::Write))?;
    Ok(Rebuilt {
        instances,
        left_out,
        kept,
    })
}

/// Gives the old file a second name, so that it stays when the new one gets its first.
fn keep(path: &Path) -> io::Result<PathBuf> {
    let kept = unused(path, folder::FILE)?;
    fs::hard_link(path.join(folder::FILE), &kept)?;
    own::sync_folder(path)?;
    Ok(kept)
}

/// Refuses a new file that is not whole: something was damaged in a way that nothing here has noticed.
fn check(new: &Connection, path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Trouble> {
    let mut report = JobReport::default();
    verify::rows(new, path, &mut report, progress)?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(Trouble::Contradiction(format!(
            "what seemed whole would not be so in a store written anew ({problem}); the store was left as it is, and \
             `taskhub store repair --export FILE` saves what can be read"
        ))),
    }
}

struct Copy<'c> {
    old: &'c Connection,
    new: &'c Connection,
    hubs: Hubs,
}

impl Copy<'_> {
    fn all(&self) -> Result<(u64, Vec<String>), Trouble> {
        let epoch_floor = About::read(self.old)?.epoch_floor;
        let no_log = About::default();
        About { epoch_floor, ..no_log }.write(self.new)?;
        let mut count = 0;
        let mut each = |key, saved: Saved| {
            let why = self.instance(key, &saved)?;
            count += u64::from(why.is_none());
            Ok(why)
        };
        let mut left_out = repair::left_out(self.old, &mut each)?;
        self.outbox(&mut left_out)?;
        self.hubs.copy_to(self.new)?;
        self.counts()?;
        Ok((count, left_out))
    }

    /// Copies the rows of an instance, or says why not.
    fn instance(&self, key: Key, saved: &Saved) -> Result<Option<String>, Trouble> {
        let sql = format!("SELECT {INFO} FROM instance WHERE inst = ?1");
        let mut statement = self.old.prepare_cached(&sql)?;
        let mut rows = statement.query([key.0])?;
        let Some(row) = rows.next()? else {
            return Ok(Some(
                "its row is found by going through them all, and not by its number".to_owned(),
            ));
        };
        let info = read_info(row)?;
        if self.hubs.hub_of_part(key.part()) != Some(info.hub) {
            return Ok(Some(format!("it is in no partition of hub `{}`", saved.hub)));
        }
        if let Some(problem) = verify::instance(self.old, info)? {
            return Ok(Some(problem));
        }
        for table in INSTANCE_TABLES {
            if !self.copy_rows(table, key)? {
                return Ok(Some("another one has its id".to_owned()));
            }
        }
        Ok(None)
    }

    /// Copies the rows of an instance in a table. False if one has the place of another.
    fn copy_rows(&self, table: &str, key: Key) -> Result<bool, Trouble> {
        let sql = format!("SELECT * FROM {table} WHERE inst = ?1");
        let mut from = self.old.prepare_cached(&sql)?;
        let columns = from.column_count();
        let values = vec!["?"; columns].join(", ");
        let sql = format!("INSERT INTO {table} VALUES ({values})");
        let mut into = self.new.prepare_cached(&sql)?;
        let mut rows = from.query([key.0])?;
        while let Some(row) = rows.next()? {
            let values: Vec<Value> = (0..columns).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?;
            if table == "payload" && !is_payload_whole(key, &values) {
                // Those that the instance needs are whole.
                continue;
            }
            match into.execute(params_from_iter(values)) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => return Ok(false),
                copied => drop(copied?),
            }
        }
        Ok(true)
    }

    fn outbox(&self, left_out: &mut Vec<String>) -> Result<(), Trouble> {
        let scan = Scan {
            connection: self.old,
            pages: Pages::Lenient,
        };
        let sql = format!("SELECT {OUTBOX} FROM outbox WHERE part >= ?1 AND part < ?2");
        let mut insert = self.new.prepare_cached(INSERT_OUTBOX)?;
        let is_broken = scan.rows(&sql, &["part", "seq", "ix"], (i64::MIN, i64::MAX), |row| {
            let key = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            let (part, seq, index) = key;
            match outbox_item(row).map_err(Trouble::of_row) {
                Ok(_) if self.hubs.hub_of_part(part).is_some() => {
                    let (sum, body) = (row.get::<_, i64>(3)?, row.get_ref(4)?.as_blob()?);
                    insert.execute(params![part, seq, index, sum, body])?;
                }
                Ok(_) => left_out.push(format!("message {seq}/{index} of partition {part}, which there is not")),
                Err(Ok(what)) => left_out.push(format!("message {seq}/{index} of partition {part}: {what}")),
                Err(Err(trouble)) => return Err(trouble),
            }
            Ok(key)
        })?;
        if is_broken {
            left_out.push("messages on their way that cannot be reached".to_owned());
        }
        Ok(())
    }

    fn counts(&self) -> Result<(), Trouble> {
        let sql = "SELECT inst >> 40, status, count(*) FROM instance GROUP BY 1, 2";
        let mut counts = self.new.prepare(sql)?;
        let mut rows = counts.query([])?;
        let mut insert = self
            .new
            .prepare("INSERT INTO status_count (part, status, n, sum) VALUES (?1, ?2, ?3, ?4)")?;
        while let Some(row) = rows.next()? {
            let (part, status, n) = (row.get(0)?, row.get(1)?, row.get(2)?);
            insert.execute(params![part, status, n, count_sum(part, status, n)])?;
        }
        Ok(())
    }
}

/// Whether a row of `payload` is what was written.
fn is_payload_whole(key: Key, row: &[Value]) -> bool {
    let [
        _,
        Value::Integer(place),
        Value::Integer(ordinal),
        Value::Integer(sum),
        Value::Blob(body),
    ] = row
    else {
        return false;
    };
    let place = Place::ALL.into_iter().find(|known| known.number() == *place);
    let ordinal = u32::try_from(*ordinal);
    place
        .zip(ordinal.ok())
        .is_some_and(|(place, ordinal)| payload_sum(key, place, ordinal, print(body)) == *sum)
}
