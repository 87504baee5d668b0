//! A reading half: each call is one snapshot of the file, taken when it begins.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::{Connection, params};
use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::payload::Payload;
use taskhub_core::query::Payloads;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};

use super::columns::{INFO, PENDING, find_info, info_row, pending_row};
use super::layout::Pages;
use super::trouble::{During, Trouble, damaged_page};
use super::{hubs, layout, listing, recovery, rows, verify};
use crate::blocking::Reader;
use crate::sql::{
    InfoRow, Key, Part, Pending, Place, Stored, chunk_words, key_words, payload_sum, print, read_key, set_input,
};
use crate::{
    Error, ExecutionKey, FingerprintPage, HistoryChunk, HistoryRange, HistoryRead, IdPage, InstancePage, Lease,
    PartitionKey, Recovered, Selection, Space, Verified,
};

/// A reader. Any number may be at work while the writer writes.
#[derive(Debug)]
pub struct SqliteReader {
    connection: Connection,
    /// For what a damaged page has kept from being read; opened when that happens.
    lenient: Option<Connection>,
    /// What was said of it last.
    told: String,
    folder: PathBuf,
}

impl SqliteReader {
    /// Opens a reader of a store that a writer has open.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file does not exist, `Corrupt` if it is damaged.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            connection: layout::connect_reader(folder, Pages::Strict)?,
            lenient: None,
            told: String::new(),
            folder: folder.to_owned(),
        })
    }

    pub(super) fn verify_with(&mut self, progress: &mut dyn FnMut(verify::Progress)) -> Result<Verified, Error> {
        let folder = self.folder.clone();
        let verified = verify::verify(self.lenient()?, &folder, true, progress);
        verified.map_err(|trouble| trouble.during(During::Read, &layout::file(&folder)))
    }

    fn lenient(&mut self) -> Result<&Connection, Error> {
        let connection = match self.lenient.take() {
            Some(connection) => connection,
            None => layout::connect_reader(&self.folder, Pages::Lenient)?,
        };
        Ok(self.lenient.insert(connection))
    }

    /// Runs a call on a snapshot of its own. If a page that it needs is damaged it is run once more on what there is: each
    /// row that is read is whole, as its checksum tells, but one that is not found may be there all the same.
    fn snapshot<T>(&mut self, read: impl Fn(&Connection, Pages) -> Result<T, Trouble>) -> Result<T, Error> {
        let run = |connection: &Connection, pages| -> Result<T, Trouble> {
            // Taken back when it goes out of scope, which ends the snapshot.
            let snapshot = connection.unchecked_transaction()?;
            read(&snapshot, pages)
        };
        let file = || layout::file(&self.folder);
        match run(&self.connection, Pages::Strict) {
            Err(trouble) if trouble.is_of_pages() => {
                let error = trouble.during(During::Read, &file()).to_string();
                if error != self.told {
                    tracing::error!(error, "reading the remaining rows one by one");
                    self.told = error;
                }
            }
            result => return result.map_err(|trouble| trouble.during(During::Read, &file())),
        }
        let read = run(self.lenient()?, Pages::Lenient).map_err(|trouble| match trouble {
            // As with anything that is not found in a damaged file.
            Trouble::Told(Error::NoSuchHub { hub }) => Trouble::Contradiction(format!(
                "{}; cannot determine whether hub `{hub}` exists",
                damaged_page()
            )),
            trouble => trouble,
        });
        read.map_err(|trouble| trouble.during(During::Read, &layout::file(&self.folder)))
    }
}

impl Reader for SqliteReader {
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, Error> {
        self.snapshot(|connection, pages| recovery::recover(connection, lease, pages))
    }

    fn load(
        &mut self,
        partition: &PartitionKey,
        instances: &[InstanceId],
    ) -> Result<Vec<Option<InstanceState>>, Error> {
        self.snapshot(|connection, pages| {
            let part = hubs::find_part(connection, partition)?;
            let load = |id| load(connection, &part, id, pages);
            instances.iter().map(load).collect()
        })
    }

    fn history(&mut self, of: &ExecutionKey, range: HistoryRange) -> Result<Vec<HistoryChunk>, Error> {
        self.snapshot(|connection, _| {
            let part = hubs::find_part(connection, &of.partition)?;
            history(connection, Key::new(part.row, of.number), of.ordinal, range)
        })
    }

    fn list(&mut self, which: &Selection, payloads: Payloads) -> Result<InstancePage, Error> {
        self.snapshot(|connection, _| listing::list(connection, which, payloads))
    }

    fn list_ids(&mut self, which: &Selection) -> Result<IdPage, Error> {
        self.snapshot(|connection, _| listing::list_ids(connection, which))
    }

    fn counts(&mut self, hub: &HubName) -> Result<Vec<(RuntimeStatus, u64)>, Error> {
        self.snapshot(|connection, pages| {
            none_missing(pages)?;
            listing::counts(connection, hub)
        })
    }

    fn fingerprints(
        &mut self,
        partition: &PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Result<FingerprintPage, Error> {
        self.snapshot(|connection, pages| {
            none_missing(pages)?;
            listing::fingerprints(connection, partition, after, rows_max)
        })
    }

    fn verify(&mut self) -> Result<Verified, Error> {
        self.verify_with(&mut |_| {})
    }

    fn space(&mut self) -> Result<Space, Error> {
        self.snapshot(|connection, _| verify::space(connection))
    }
}

/// Refuses a read from a damaged file if the caller would take an unreadable row for a missing one.
fn none_missing(pages: Pages) -> Result<(), Trouble> {
    match pages {
        Pages::Strict => Ok(()),
        Pages::Lenient => Err(Trouble::Contradiction(damaged_page())),
    }
}

fn load(connection: &Connection, part: &Part, id: &InstanceId, pages: Pages) -> Result<Option<InstanceState>, Trouble> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {INFO} FROM instance WHERE hub = ?1 AND id = ?2"))?;
    let mut rows = statement.query(params![part.hub, id.as_str()])?;
    let Some(row) = rows.next()? else {
        return absent(id, pages).map(|()| None);
    };
    let key: i64 = row.get(0)?;
    let named = |trouble| named(trouble, id, key);
    let row = info_row(row).map_err(named)?;
    if row.info.instance != *id || row.hub != part.hub || row.key.part() != part.row {
        let what = format!("the index led to another instance (row {key}) instead of `{id}`");
        return Err(Trouble::Contradiction(what));
    }
    state(connection, row).map(Some).map_err(named)
}

/// Adds the instance to an error about an unreadable row.
fn named(trouble: Trouble, id: &InstanceId, key: i64) -> Trouble {
    match trouble {
        Trouble::Contradiction(what) => Trouble::Contradiction(format!("instance `{id}` (row {key}): {what}")),
        other => other,
    }
}

/// In a damaged file, a row that is not found may still exist.
pub(super) fn absent(id: &InstanceId, pages: Pages) -> Result<(), Trouble> {
    match pages {
        Pages::Strict => Ok(()),
        Pages::Lenient => Err(Trouble::Contradiction(format!(
            "{}; cannot determine whether instance `{id}` exists",
            damaged_page()
        ))),
    }
}

/// The state of an instance, from its row and the rows that belong to it.
pub(super) fn state(connection: &Connection, row: InfoRow) -> Result<InstanceState, Trouble> {
    let (key, head) = (row.key, row.head);
    let info = complete(connection, row)?;
    let (mut inbox, mut open, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let sql = format!("SELECT {PENDING} FROM pending WHERE inst = ?1 ORDER BY lane, ev");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([key.0])?;
    while let Some(row) = rows.next()? {
        match pending_row(row)?.decode()? {
            Pending::Message(mut message, is_cut) => {
                if is_cut {
                    set_input(std::slice::from_mut(&mut message.event), info.input.as_ref());
                }
                inbox.push(message);
            }
            Pending::Open(waited) => open.push(waited),
        }
    }
    let mut statement =
        connection.prepare_cached("SELECT key, until, seq, sum FROM seen_key WHERE inst = ?1 ORDER BY seq")?;
    let mut rows = statement.query([key.0])?;
    while let Some(row) = rows.next()? {
        let (text, until) = (row.get_ref(0)?.as_str()?, row.get(1)?);
        key_words(key, row.get(2)?, until).check(text.as_bytes(), row.get(3)?, "an idempotency key")?;
        keys.push(read_key(text, until)?);
    }
    let there = (inbox.len() + open.len(), keys.len());
    if there != (head.waits as usize, head.keys as usize) {
        return Err(Trouble::Contradiction(format!(
            "rows of `{}` are missing: expected {} in `pending`, found {}; expected {} in `seen_key`, found {}",
            info.instance, head.waits, there.0, head.keys, there.1
        )));
    }
    let history = (head.history_events, head.history_bytes);
    let next = (head.next_message, head.next_occurrence);
    Ok(InstanceState::stored(
        info,
        key.number(),
        history,
        next,
        inbox,
        open,
        keys,
    ))
}

/// Brings in the payloads that have rows of their own.
pub(super) fn complete(connection: &Connection, row: InfoRow) -> Result<InstanceInfo, Trouble> {
    let InfoRow {
        key, mut info, apart, ..
    } = row;
    for (place, expected) in apart {
        let found = payload(connection, key, place, place.ordinal(info.ordinal))?;
        let payload = found.filter(|payload| print(payload.bytes()) == expected);
        if payload.is_none() {
            return Err(Trouble::Contradiction(format!(
                "a payload of instance number {} is missing or out of date",
                key.number()
            )));
        }
        *place.of(&mut info) = payload;
    }
    Ok(info)
}

fn payload(connection: &Connection, key: Key, place: Place, ordinal: u32) -> Result<Option<Payload>, Trouble> {
    let sql = "SELECT sum, body FROM payload WHERE inst = ?1 AND place = ?2 AND ordinal = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![key.0, place.number(), ordinal])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (sum, body): (i64, _) = (row.get(0)?, row.get_ref(1)?.as_blob()?);
    if payload_sum(key, place, ordinal, print(body)) != sum {
        return Err(Trouble::Contradiction("wrong checksum in a payload".to_owned()));
    }
    Ok(Some(Payload::new(Bytes::copy_from_slice(body))))
}

/// The input of an execution whose history does without it.
fn input(connection: &Connection, key: Key, ordinal: u32) -> Result<Payload, Trouble> {
    let found = match payload(connection, key, Place::Input, ordinal)? {
        None => {
            let row = find_info(connection, key)?.filter(|row| row.head.ordinal == ordinal);
            row.and_then(|row| row.info.input)
        }
        found => found,
    };
    found.ok_or_else(|| Trouble::Contradiction(format!("the input of execution {ordinal} is missing")))
}

/// Reads the chunks of a range. The first chunk is trimmed to begin exactly at the requested event.
pub(super) fn history(
    connection: &Connection,
    key: Key,
    ordinal: u32,
    range: HistoryRange,
) -> Result<Vec<HistoryChunk>, Trouble> {
    let sql = "SELECT first, events, is_cut, sum, body FROM history WHERE inst = ?1 AND ordinal = ?2 AND first >= \
         coalesce((SELECT max(first) FROM history WHERE inst = ?1 AND ordinal = ?2 AND first <= ?3), 0) ORDER BY first";
    let from = range.from;
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![key.0, ordinal, from])?;
    let (mut chunks, mut read) = (Vec::new(), HistoryRead::default());
    let mut end = None;
    while let Some(row) = rows.next()? {
        let (first, events, is_cut) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let body = row.get_ref(4)?.as_blob()?;
        chunk_words(key, ordinal, first, events, is_cut).check(body, row.get(3)?, "a history chunk")?;
        let mut chunk = HistoryChunk {
            first,
            events,
            body: Bytes::copy_from_slice(body),
        };
        if first != end.unwrap_or(first.min(from)) {
            return Err(Trouble::Contradiction(format!(
                "a history has a gap before event {first} (I4)"
            )));
        }
        if is_cut {
            let mut events = chunk.decode()?;
            set_input(&mut events, Some(&input(connection, key, ordinal)?));
            chunk.body = taskhub_proto::encode_chunk(&events);
        }
        end = Some(first + events);
        let Some(chunk) = cut(chunk, from)? else { continue };
        read.add(&chunk);
        chunks.push(chunk);
        if read.is_reached(range) {
            return Ok(chunks);
        }
    }
    ends_well(connection, key, ordinal, from, end)?;
    Ok(chunks)
}

/// Refuses a history whose last events are missing. The length of an earlier execution's history is not stored, so that
/// one cannot be checked.
fn ends_well(connection: &Connection, key: Key, ordinal: u32, from: u32, end: Option<u32>) -> Result<(), Trouble> {
    let Some(Stored { head, .. }) = rows::stored(connection, key)? else {
        return Ok(());
    };
    let (there, expected) = (end.unwrap_or(0), head.history_events);
    if head.ordinal != ordinal || there == expected || (end.is_none() && from >= expected) {
        return Ok(());
    }
    Err(Trouble::Contradiction(format!(
        "a history has a gap after event {there}: expected {expected} events (I4)"
    )))
}

/// The part of a chunk from an event on, if there is one.
fn cut(chunk: HistoryChunk, from: u32) -> Result<Option<HistoryChunk>, Trouble> {
    if chunk.first >= from {
        return Ok(Some(chunk));
    }
    let events = chunk.decode()?;
    let Some(rest) = events
        .get((from - chunk.first) as usize..)
        .filter(|rest| !rest.is_empty())
    else {
        return Ok(None);
    };
    let count = u32::try_from(rest.len()).unwrap_or(u32::MAX);
    Ok(Some(HistoryChunk {
        first: from,
        events: count,
        body: taskhub_proto::encode_chunk(rest),
    }))
}
