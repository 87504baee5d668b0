//! Writes a new store with all intact instances and outbox messages of a damaged one. The new store replaces the old
//! one only after it was checked, and the old file is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::columns::{INFO, OUTBOX, PENDING, info_row, outbox_item, pending_row, stored};
use super::folder::{Folder, forget_second_name};
use super::frames::Log;
use super::hubs::{self, About, INSTANCE_TABLES};
use super::layout::{self, Pages};
use super::recovery::Scan;
use super::repair::{Found, connect, each_row, saved, take, unused};
use super::rows::{INSERT_COUNT, INSERT_KEY};
use super::store_file::vacuum;
use super::trouble::{During, Trouble, unavailable};
use super::verify::{self, Progress};
use super::{anew, beside, log, own};
use crate::sql::{Hubs, Key, Place, chunk_words, count_sum, key_words, payload_sum, print};
use crate::{Error, Extent, Verified};

/// The result of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    pub instances: u64,
    /// A line for each instance, stretch of rows or message that was left out.
    pub left_out: Vec<String>,
    /// Where the old file is kept.
    pub kept: PathBuf,
}

/// Writes a new store with everything intact beside the old one, then replaces the old one. Needs as much disk space as
/// the store has. A crash at any moment leaves either the old or the new store.
///
/// # Errors
///
/// `Locked` if the store is in use; `Corrupt` if its log has lost data and the loss was not accepted first, or if the
/// row of a hub, a partition or the store itself is damaged; `Full`; otherwise as [`verify`](super::repair::verify).
/// After an error, the store is unchanged.
pub fn rebuild(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Rebuilt, Error> {
    let (folder, log) = take(path)?;
    if let Some(what) = beside::loss(path, &log) {
        let place = path.join(layout::LOG).display().to_string();
        let what = format!("{what}; run `taskhub store repair --accept-loss` first to accept that loss");
        let extent = Extent::Pages;
        return Err(Error::Corrupt { place, what, extent });
    }
    let rebuilt = write_anew(path, &folder, &log, progress);
    if rebuilt.is_err() {
        // The next opener of the store would remove it too.
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
        layout::create(&transaction)?;
        let hubs = hubs::load(&old)?;
        let (old, new_rows) = (&old, &*transaction);
        let copied = Copy {
            old,
            new: new_rows,
            hubs,
            left_out: Vec::new(),
        }
        .all()?;
        transaction.commit()?;
        // Of what was copied and left out then: a page that was never written has no checksum.
        vacuum(&new, None)?;
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
        let kept = keep(path).map_err(|error| unavailable(&path.join(layout::FILE), &error))?;
        anew::replace(path).inspect_err(|_| {
            // It is done by the next opener too.
            let _forgotten = forget_second_name(path);
        })?;
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
    let (file, kept) = (path.join(layout::FILE), unused(path, layout::FILE)?);
    if fs::hard_link(&file, &kept).is_err() {
        // The file system has no second names.
        fs::copy(&file, &kept)?;
        fs::File::open(&kept)?.sync_all()?;
    }
    own::sync_folder(path)?;
    Ok(kept)
}

/// Refuses a new file that is not whole: something was damaged in a way that nothing here has noticed.
fn check(new: &Connection, path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Trouble> {
    let mut report = Verified::default();
    verify::rows(new, path, &mut report, progress)?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(Trouble::Contradiction(format!(
            "what seemed whole would not be so in a store written anew ({problem}); the store was left as it is, and \
             `taskhub store repair --export FILE` saves what can be read"
        ))),
    }
}

/// A table with row numbers: its columns, and whether a row is what was written.
type Numbered = (&'static str, &'static str, fn(&Row<'_>) -> Result<(), Trouble>);

const NUMBERED: [Numbered; 5] = [
    ("instance", INFO, |row| stored(row).map(drop)),
    ("payload", "inst, place, ordinal, sum, body", |row| {
        let number: i64 = row.get(1)?;
        let place = Place::from_number(number);
        let print = print(row.get_ref(4)?.as_blob()?);
        let sum = place.map(|place| Ok::<_, Trouble>(payload_sum(Key(row.get(0)?), place, row.get(2)?, print)));
        if sum.transpose()? == Some(row.get(3)?) {
            return Ok(());
        }
        Err(Trouble::Contradiction("wrong checksum in a payload".to_owned()))
    }),
    ("history", "inst, ordinal, first, events, is_cut, sum, body", |row| {
        let words = chunk_words(Key(row.get(0)?), row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok(words.check(row.get_ref(6)?.as_blob()?, row.get(5)?, "a history chunk")?)
    }),
    ("pending", PENDING, |row| pending_row(row).map(drop)),
    ("outbox", OUTBOX, |row| outbox_item(row).map(drop)),
];

/// Copies all readable rows, then removes incomplete instances. Rows are read by row number instead of through indexes,
/// because an index may be damaged too; the indexes are rebuilt.
struct Copy<'c> {
    old: &'c Connection,
    new: &'c Connection,
    hubs: Hubs,
    left_out: Vec<String>,
}

impl Copy<'_> {
    fn all(mut self) -> Result<(u64, Vec<String>), Trouble> {
        let epoch_floor = About::read(self.old)?.epoch_floor;
        let is_open = false;
        // The new store has no log, and must not accept an existing one as its own.
        let log_salt = Some(
            self.new
                .query_row("SELECT random() & 0xffffffff", [], |row| row.get(0))?,
        );
        let log_before = None;
        let about = About {
            epoch_floor,
            is_open,
            log_salt,
            log_before,
        };
        about.write(self.new)?;
        for table in &NUMBERED {
            self.rows(table)?;
        }
        self.keys()?;
        hubs::copy(&self.hubs, self.new)?;
        let count = self.instances()?;
        if count == 0 && !self.left_out.is_empty() {
            let what = "no instance row can be read, so the new store would be empty; the store was left unchanged";
            return Err(Trouble::Contradiction(what.to_owned()));
        }
        self.unseen();
        self.orphans()?;
        self.counts()?;
        Ok((count, self.left_out))
    }

    /// Copies the reachable rows with a correct checksum. Missing rows are reported later, when each instance is
    /// checked.
    fn rows(&mut self, &(name, columns, check): &Numbered) -> Result<(), Trouble> {
        let count = columns.split(", ").count();
        let values = vec!["?"; count].join(", ");
        let mut insert = self
            .new
            .prepare(&format!("INSERT OR IGNORE INTO {name} ({columns}) VALUES ({values})"))?;
        each_row(self.old, name, columns, &mut |found| {
            let (number, row) = match found {
                Found::Row(number, row) => (number, row),
                Found::Gap(what) => {
                    if ["instance", "outbox"].contains(&name) {
                        self.left_out.push(what);
                    }
                    return Ok(());
                }
            };
            let Err(trouble) = check(row) else {
                let values: rusqlite::Result<Vec<Value>> = (0..count).map(|column| row.get(column)).collect();
                insert.execute(params_from_iter(values?))?;
                return Ok(());
            };
            let what = trouble.of_row()?;
            match name {
                "instance" => self.left_out.push(verify::of_instance(self.old, row, &what)),
                "outbox" => self.left_out.push(format!("a message (row {number}): {what}")),
                _ => {}
            }
            Ok(())
        })
    }

    /// The table of keys has no row numbers. An instance with missing keys is incomplete.
    fn keys(&self) -> Result<(), Trouble> {
        let (connection, pages) = (self.old, Pages::Lenient);
        let mut insert = self
            .new
            .prepare(&INSERT_KEY.replacen("INSERT", "INSERT OR IGNORE", 1))?;
        let sql = "SELECT inst, seq, key, until, sum FROM seen_key WHERE inst >= ?1 AND inst < ?2";
        let all = (i64::MIN, i64::MAX);
        Scan { connection, pages }.rows(sql, &["inst", "seq"], all, |row| {
            let place = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?);
            let (text, until) = (row.get_ref(2)?.as_str(), row.get(3)?);
            let sum: i64 = row.get(4)?;
            if let Ok(text) = text
                && key_words(Key(place.0), place.1, until).sum(text.as_bytes()) == sum
            {
                insert.execute(params![place.0, place.1, text, until, sum])?;
            }
            Ok(place)
        })?;
        Ok(())
    }

    /// Removes incomplete instances; returns the number of complete ones.
    fn instances(&mut self) -> Result<u64, Trouble> {
        let mut keys = self.new.prepare("SELECT inst FROM instance ORDER BY inst")?;
        let keys: Vec<i64> = keys.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let sql = format!("SELECT {INFO} FROM instance WHERE inst = ?1");
        let mut find = self.new.prepare(&sql)?;
        let mut count = 0;
        for key in keys {
            let mut rows = find.query([key])?;
            let Some(row) = rows.next()? else { continue };
            let Err(trouble) = self.check(row) else {
                count += 1;
                continue;
            };
            let what = trouble.of_row()?;
            self.left_out.push(verify::of_instance(self.new, row, &what));
            drop(rows);
            for table in INSTANCE_TABLES {
                let sql = format!("DELETE FROM {table} WHERE inst = ?1");
                self.new.prepare_cached(&sql)?.execute([key])?;
            }
        }
        Ok(count)
    }

    /// Refuses an instance that is not whole.
    fn check(&self, row: &Row<'_>) -> Result<(), Trouble> {
        let info = info_row(row)?;
        saved(self.new, row)?;
        if self.hubs.hub_of_part(info.key.part()) != Some(info.hub) {
            return Err(Trouble::Contradiction(
                "its partition number does not exist in its hub".to_owned(),
            ));
        }
        verify::instance(self.new, info)
    }

    /// Names the instances whose rows cannot be reached, as far as the index of their ids tells.
    fn unseen(&mut self) {
        let (connection, pages) = (self.old, Pages::Lenient);
        let sql = "SELECT hub, id, inst FROM instance INDEXED BY instance_id WHERE hub >= ?1 AND hub < ?2";
        let mut named = Vec::new();
        let scanned = Scan { connection, pages }.rows(sql, &["hub", "id"], (i64::MIN, i64::MAX), |row| {
            let (hub, id, key): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            named.push((id.clone(), key));
            Ok((hub, id))
        });
        if let Err(trouble) = scanned {
            tracing::debug!(?trouble, "cannot read the ids of all instances that are left out");
        }
        for (id, key) in named {
            let sql = "SELECT 1 FROM instance WHERE inst = ?1";
            let is_there = self.new.prepare_cached(sql).and_then(|mut find| find.exists([key]));
            let mark = format!("(row {key})");
            if is_there.is_ok_and(|is_there| !is_there) && !self.left_out.iter().any(|line| line.contains(&mark)) {
                let id = id.escape_debug();
                self.left_out
                    .push(format!("instance `{id}` {mark}: cannot reach its row"));
            }
        }
    }

    /// Leaves out rows of instances that are not there, and messages of partitions that are not.
    fn orphans(&mut self) -> Result<(), Trouble> {
        for table in INSTANCE_TABLES {
            let sql = format!("DELETE FROM {table} WHERE inst NOT IN (SELECT inst FROM instance)");
            self.new.execute(&sql, [])?;
        }
        let sql = "DELETE FROM outbox WHERE part NOT IN (SELECT part FROM part)";
        let count = self.new.execute(sql, [])?;
        if count > 0 {
            self.left_out
                .push(format!("{count} messages from partitions that do not exist"));
        }
        Ok(())
    }

    fn counts(&self) -> Result<(), Trouble> {
        let sql = "SELECT inst >> 40, status, count(*) FROM instance GROUP BY 1, 2";
        let mut counts = self.new.prepare(sql)?;
        let mut rows = counts.query([])?;
        let mut insert = self.new.prepare(INSERT_COUNT)?;
        while let Some(row) = rows.next()? {
            let (part, status, n) = (row.get(0)?, row.get(1)?, row.get(2)?);
            insert.execute(params![part, status, n, count_sum(part, status, n)])?;
        }
        Ok(())
    }
}
