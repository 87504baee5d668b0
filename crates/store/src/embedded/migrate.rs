//! Migration from older formats: a store of format `n` is written as format `n + 1` beside the old one, and replaces it
//! when it is complete and on disk.
//!
//! The old store is only read, so a crash at any moment leaves it unchanged, and the next opener starts over. Damage is
//! preserved: a row with a wrong checksum gets a wrong checksum in the new store, because a correct one would pass
//! damaged data off as good (A48).
//!
//! Format 1 had no checksums of instances, counts, row keys and pages, and stored each input twice.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, Row, params};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{Epoch, HubName, InstanceNumber, Seq};
use taskhub_core::payload::Payload;

use super::anew::step;
use super::columns::{INFO, info_row_unchecked};
use super::hubs::{self, About};
use super::instance_rows::{self, INSERT_PAYLOAD, insert_instance};
use super::layout::{self, Identity, identify};
use super::rows::{INSERT_COUNT, INSERT_HISTORY, INSERT_KEY, INSERT_OUTBOX, INSERT_PENDING};
use super::trouble::{During, Trouble, unavailable};
use super::{anew, log, own};
use crate::sql::{
    Counters, INLINE_BYTES_MAX, InfoRow, KIND_MESSAGE, Key, LANE_INBOX, Part, PendingColumns, Place, chunk_words,
    count_sum, key_words, long_input, outbox_words, payload_sum, print, set_input, uint,
};
use crate::{Error, Extent};

/// Number of instances after which progress is logged.
const TOLD_EVERY: u64 = 100_000;

/// Length of the header of a file, and where it says how many bytes of each page are not SQLite's, which format it has,
/// and whose it is.
const HEADER_BYTES: u64 = 100;
const RESERVED_AT: usize = 20;
const FORMAT_AT: usize = 60;
const APPLICATION_AT: usize = 68;

/// Whether the folder has a store of an older format, according to its first page; refuses other files and newer
/// formats. Removes the files of an earlier attempt.
pub(super) fn is_wanted(folder: &Path) -> Result<bool, Trouble> {
    anew::remove(folder)?;
    let place = folder.join(layout::FILE);
    let mut header = Vec::new();
    let read =
        own::open(&place, File::options().read(true)).and_then(|file| file.take(HEADER_BYTES).read_to_end(&mut header));
    read.map_err(|error| unavailable(&place, &error))?;
    if header.is_empty() {
        return Ok(false);
    }
    let number = |at: usize| -> u32 {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    let is_database = header.starts_with(b"SQLite format 3\0");
    if !(is_database && number(FORMAT_AT) == 1)
        && layout::is_first_page_logged(folder).map_err(|error| unavailable(&place, &error))?
    {
        // What the log has of the page counts, and not what the file has.
        return Ok(false);
    }
    if !is_database || (header.len() as u64) < HEADER_BYTES {
        return Err(Trouble::Contradiction("the file is not a database".to_owned()));
    }
    let (application, format) = (number(APPLICATION_AT), number(FORMAT_AT));
    let is_of_pages = format == layout::FORMAT || header.get(RESERVED_AT) == Some(&8);
    if is_of_pages && !layout::is_first_page_right(folder).map_err(|error| unavailable(&place, &error))? {
        let what = "page 1, which describes the store, is damaged: nothing in it can be read, and only a copy of the store \
             helps";
        return Err(Trouble::Contradiction(what.to_owned()));
    }
    if application == layout::APPLICATION_ID.cast_unsigned() && format > layout::FORMAT {
        return Err(other_format(folder, format).into());
    }
    Ok(header.get(RESERVED_AT) == Some(&0))
}

/// Converts a store of format 1. The caller holds the lock on the folder.
pub(super) fn migrate(path: &Path) -> Result<(), Error> {
    let during = |trouble: Trouble| trouble.during(During::Write, &layout::file(path));
    let migrated = write_anew(path).map_err(during);
    if let Err(Error::Full) = migrated {
        let _gone = fs::remove_file(path.join(anew::FILE));
        let needed = 2 * fs::metadata(path.join(layout::FILE)).map_or(0, |file| file.len());
        tracing::error!(
            folder = %path.display(),
            needed,
            "not enough disk space to convert the store to format 2, which needs up to this many bytes beside it; the \
            store is unchanged"
        );
    }
    migrated
}

fn write_anew(path: &Path) -> Result<(), Trouble> {
    let old_file = path.join(layout::FILE);
    step()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let old = Connection::open_with_flags(&old_file, flags)?;
    let found = identify(&old)?;
    match found {
        Identity::New | Identity::Ours(1) => {}
        Identity::Foreign => return Err(layout::foreign()),
        Identity::Ours(found) => return Err(other_format(path, found).into()),
    }
    tracing::info!(folder = %path.display(), "converting the store from format 1 to format 2; it cannot be used until \
        this is done");
    old.pragma_update(None, "cell_size_check", true)?;
    step()?;
    // All of it is in the file then, and the log goes away when it is closed.
    log::truncate(&old)?;
    step()?;
    let new = anew::begin(path)?;
    let transaction = new.unchecked_transaction()?;
    layout::create(&transaction)?;
    if found != Identity::New {
        let mut copy = Copy {
            old: &old,
            new: &transaction,
        };
        copy.all()?;
    }
    transaction.commit()?;
    step()?;
    anew::end(new)?;
    old.close().map_err(|(_, error)| error)?;
    anew::replace(path)?;
    tracing::info!(folder = %path.display(), "the store now has format 2");
    Ok(())
}

fn other_format(path: &Path, found: u32) -> Error {
    if found < layout::FORMAT {
        let (place, what) = (
            layout::file(path),
            format!("its header names format {found}, which never existed"),
        );
        let extent = Extent::Pages;
        return Error::Corrupt { place, what, extent };
    }
    layout::newer(path, found)
}

/// Columns of format 1 in the places where those of [`INFO`] are; what it did not have is 0.
const INFO_1: &str = "inst, id, status, ordinal, updated_at, completed_at, history_events, history_bytes, \
     next_message, next_occurrence, (SELECT count(*) FROM pending WHERE pending.inst = instance.inst), \
     (SELECT count(*) FROM seen_key WHERE seen_key.inst = instance.inst), created_at, execution, name, version, \
     stalled_at, stalled_attempts, stalled_reason, info, custom, output, input, hub, 0";

struct Copy<'c> {
    old: &'c Connection,
    new: &'c Connection,
}

impl Copy<'_> {
    fn all(&mut self) -> Result<(), Trouble> {
        debug_assert_eq!(INFO.split(", ").count(), 25, "see INFO_1");
        let sql = "SELECT epoch_floor FROM store";
        let epoch_floor = self.old.query_row(sql, [], |row| row.get(0))?;
        let about = About {
            epoch_floor,
            ..About::default()
        };
        about.write(self.new)?;
        self.hubs()?;
        self.parts()?;
        self.instances()?;
        self.outbox()?;
        self.counts()
    }

    fn each(&self, sql: &str, mut copy: impl FnMut(&Row<'_>) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let mut statement = self.old.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            step()?;
            copy(row)?;
        }
        Ok(())
    }

    fn hubs(&self) -> Result<(), Trouble> {
        let sql = "SELECT hub, name, created_at, (SELECT count(*) FROM part WHERE part.hub = hub.hub) FROM hub";
        self.each(sql, |row| {
            let name = HubName::new(row.get_ref(1)?.as_str()?)
                .map_err(|refusal| Trouble::Contradiction(refusal.to_string()))?;
            hubs::insert_hub(self.new, row.get(0)?, &name, row.get(3)?, row.get(2)?)
        })
    }

    fn parts(&self) -> Result<(), Trouble> {
        let sql = "SELECT part, hub, ix, epoch, is_clean, next_seq, next_number, \
             (SELECT count(*) FROM outbox WHERE outbox.part = part.part) FROM part";
        self.each(sql, |row| {
            let part = Part {
                row: row.get(0)?,
                hub: row.get(1)?,
                index: row.get(2)?,
                epoch: Epoch(row.get(3)?),
                is_clean: row.get(4)?,
                counters: Counters {
                    next_seq: Seq(uint(row.get(5)?)),
                    next_number: InstanceNumber(uint(row.get(6)?)),
                },
                items: uint(row.get(7)?),
            };
            hubs::insert(&part, self.new)
        })
    }

    fn instances(&self) -> Result<(), Trouble> {
        let (mut copied, sql) = (0_u64, format!("SELECT {INFO_1} FROM instance ORDER BY inst"));
        self.each(&sql, |row| {
            self.instance(row)?;
            copied += 1;
            if copied.is_multiple_of(TOLD_EVERY) {
                tracing::info!(copied, "converting instances");
            }
            Ok(())
        })
    }

    /// One instance with all its rows.
    fn instance(&self, row: &Row<'_>) -> Result<(), Trouble> {
        let found = info_row_unchecked(row)?;
        let InfoRow { key, head, hub, .. } = found;
        let info = self.info(found)?;
        insert_instance(
            &mut self.new.prepare_cached(instance_rows::INSERT)?,
            key,
            hub,
            &head,
            &info,
        )?;
        self.payloads(key, head.ordinal)?;
        self.history(key, head.ordinal, info.input.as_ref())?;
        self.pending(key, info.input.as_ref())?;
        self.keys(key)
    }

    /// The status record with its payloads, those of other rows included.
    fn info(&self, row: InfoRow) -> Result<taskhub_core::status::InstanceInfo, Trouble> {
        let InfoRow {
            key, mut info, apart, ..
        } = row;
        for (place, _) in apart {
            let sql = "SELECT sum, body FROM payload WHERE inst = ?1 AND place = ?2";
            let mut statement = self.old.prepare_cached(sql)?;
            let mut rows = statement.query([key.0, place.number()])?;
            let whole = match rows.next()? {
                Some(row) => Some(row.get_ref(1)?.as_blob()?).filter(|body| is_whole(body, row.get(0))),
                None => None,
            };
            // One that is damaged or missing stays so: what the row of the instance says is found nowhere.
            let body = whole.map_or_else(|| vec![0; INLINE_BYTES_MAX + 1], <[u8]>::to_vec);
            *place.of(&mut info) = Some(Payload::new(body));
        }
        Ok(info)
    }

    fn payloads(&self, key: Key, ordinal: u32) -> Result<(), Trouble> {
        let mut old = self
            .old
            .prepare_cached("SELECT place, sum, body FROM payload WHERE inst = ?1")?;
        let mut new = self.new.prepare_cached(INSERT_PAYLOAD)?;
        let mut rows = old.query([key.0])?;
        while let Some(row) = rows.next()? {
            step()?;
            let (number, body): (i64, _) = (row.get(0)?, row.get_ref(2)?.as_blob()?);
            let place = Place::from_number(number);
            let Some(place) = place else {
                return Err(Trouble::Contradiction(format!(
                    "a payload has the unknown place number {number}"
                )));
            };
            let ordinal = place.ordinal(ordinal);
            let sum = as_before(body, row.get(1)?, payload_sum(key, place, ordinal, print(body)));
            new.execute(params![key.0, number, ordinal, sum, body])?;
        }
        Ok(())
    }

    fn history(&self, key: Key, current: u32, input: Option<&Payload>) -> Result<(), Trouble> {
        let sql = "SELECT ordinal, first, events, sum, body FROM history WHERE inst = ?1 ORDER BY ordinal, first";
        let mut old = self.old.prepare_cached(sql)?;
        let mut new = self.new.prepare_cached(INSERT_HISTORY)?;
        let mut rows = old.query([key.0])?;
        while let Some(row) = rows.next()? {
            step()?;
            let (ordinal, first, events): (u32, u32, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (stored, body) = (row.get(3)?, row.get_ref(4)?.as_blob()?);
            let input = input.filter(|_| ordinal == current && first == 0 && is_whole(body, Ok(stored)));
            let cut = input.and_then(|input| without_input(body, input));
            let is_cut = cut.is_some();
            let kept = cut.as_deref().unwrap_or(body);
            let sum = chunk_words(key, ordinal, first, events, is_cut).sum(kept);
            new.execute(params![
                key.0,
                ordinal,
                first,
                events,
                is_cut,
                as_before(body, stored, sum),
                kept
            ])?;
        }
        Ok(())
    }

    fn pending(&self, key: Key, input: Option<&Payload>) -> Result<(), Trouble> {
        let sql = "SELECT lane, ev, kind, due_at, deliveries, sum, body FROM pending WHERE inst = ?1 ORDER BY lane, ev";
        let mut old = self.old.prepare_cached(sql)?;
        let mut new = self.new.prepare_cached(INSERT_PENDING)?;
        let mut rows = old.query([key.0])?;
        while let Some(row) = rows.next()? {
            step()?;
            let (stored, body) = (row.get(5)?, row.get_ref(6)?.as_blob()?);
            let mut columns = PendingColumns {
                key,
                lane: row.get(0)?,
                ev: row.get(1)?,
                kind: row.get(2)?,
                due_at: row.get(3)?,
                deliveries: row.get(4)?,
                is_cut: false,
            };
            let is_message = (columns.lane, columns.kind) == (LANE_INBOX, KIND_MESSAGE);
            let input = input.filter(|_| is_message && is_whole(body, Ok(stored)));
            let cut = input.and_then(|input| message_without_input(body, input));
            columns.is_cut = cut.is_some();
            let kept = cut.as_deref().unwrap_or(body);
            let sum = as_before(body, stored, columns.sum(kept));
            let PendingColumns {
                lane,
                ev,
                kind,
                due_at,
                deliveries,
                is_cut,
                ..
            } = columns;
            new.execute(params![key.0, lane, ev, kind, due_at, deliveries, is_cut, sum, kept])?;
        }
        Ok(())
    }

    fn keys(&self, key: Key) -> Result<(), Trouble> {
        let mut old = self
            .old
            .prepare_cached("SELECT seq, key, until FROM seen_key WHERE inst = ?1")?;
        let mut new = self.new.prepare_cached(INSERT_KEY)?;
        let mut rows = old.query([key.0])?;
        while let Some(row) = rows.next()? {
            step()?;
            let (seq, text, until) = (row.get(0)?, row.get_ref(1)?.as_str()?, row.get(2)?);
            let sum = key_words(key, seq, until).sum(text.as_bytes());
            new.execute(params![key.0, seq, text, until, sum])?;
        }
        Ok(())
    }

    fn outbox(&self) -> Result<(), Trouble> {
        self.each("SELECT part, seq, ix, sum, body FROM outbox", |row| {
            let (part, seq, index) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let body = row.get_ref(4)?.as_blob()?;
            let sum = as_before(body, row.get(3)?, outbox_words(part, seq, index).sum(body));
            let mut insert = self.new.prepare_cached(INSERT_OUTBOX)?;
            insert.execute(params![part, seq, index, sum, body])?;
            Ok(())
        })
    }

    fn counts(&self) -> Result<(), Trouble> {
        self.each("SELECT part, status, n FROM status_count", |row| {
            let (part, status, n) = (row.get(0)?, row.get(1)?, row.get(2)?);
            self.new
                .prepare_cached(INSERT_COUNT)?
                .execute(params![part, status, n, count_sum(part, status, n)])?;
            Ok(())
        })
    }
}

/// Whether the checksum of format 1 is right, which was of the body alone.
fn is_whole(body: &[u8], stored: rusqlite::Result<i64>) -> bool {
    stored.is_ok_and(|stored| print(body).cast_signed() == stored)
}

/// The checksum of a row in the new format: wrong if that of format 1 was.
fn as_before(body: &[u8], stored: i64, sum: i64) -> i64 {
    if is_whole(body, Ok(stored)) { sum } else { !sum }
}

/// A chunk without the input that the instance holds, if it has that and it is long.
fn without_input(body: &[u8], input: &Payload) -> Option<Bytes> {
    // An unreadable chunk is copied unchanged.
    let mut events = taskhub_proto::decode_chunk(&Bytes::copy_from_slice(body)).ok()?;
    cut(&mut events, input).then(|| taskhub_proto::encode_chunk(&events))
}

fn message_without_input(body: &[u8], input: &Payload) -> Option<Bytes> {
    let mut message = taskhub_proto::decode_message(body).ok()?;
    let is_cut = cut(std::slice::from_mut(&mut message.event), input);
    is_cut.then(|| taskhub_proto::encode_message(&message).into())
}

fn cut(events: &mut [HistoryEvent], input: &Payload) -> bool {
    let is_same = long_input(events) == Some(input);
    if is_same {
        set_input(events, None);
    }
    is_same
}
