//! A reading half: each call is one snapshot of the file, taken when it begins.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};
use taskhub_core::id::InstanceId;
use taskhub_core::instance::InstanceState;
use taskhub_core::payload::Payload;
use taskhub_core::status::InstanceInfo;

use super::record::{INFO, InfoRow, Key, PENDING, Pending, PendingRow, Place, checked, int, read_info, read_key};
use super::trouble::{During, Trouble};
use super::{folder, hubs, listing, recovery, verify};
use crate::blocking::Reader;
use crate::{Answer, Error, ExecutionKey, HistoryChunk, Lease, PartitionKey, Query, Recovered};

/// A reader. Any number may be at work while the writer writes.
#[derive(Debug)]
pub struct SqliteReader {
    connection: Connection,
    folder: PathBuf,
}

impl SqliteReader {
    /// Opens a reader of a store that a writer has open.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no file, `Corrupt` if it is damaged.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            connection: folder::connect_reader(folder)?,
            folder: folder.to_owned(),
        })
    }

    /// Checks everything, see [`crate::Job::Verify`].
    ///
    /// # Errors
    ///
    /// `Corrupt` if the file is too damaged to be checked, `Unavailable` if it cannot be read.
    pub fn verify(&mut self) -> Result<crate::JobReport, Error> {
        verify::verify(&self.connection).map_err(|trouble| trouble.during(During::Read, &folder::file(&self.folder)))
    }

    fn snapshot<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Error> {
        let run = || -> Result<T, Trouble> {
            // Taken back when it goes out of scope, which ends the snapshot.
            let snapshot = self.connection.unchecked_transaction()?;
            read(&snapshot)
        };
        run().map_err(|trouble| trouble.during(During::Read, &folder::file(&self.folder)))
    }
}

impl Reader for SqliteReader {
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, Error> {
        self.snapshot(|connection| recovery::recover(connection, lease))
    }

    fn load(
        &mut self,
        partition: &PartitionKey,
        instances: &[InstanceId],
    ) -> Result<Vec<Option<InstanceState>>, Error> {
        self.snapshot(|connection| {
            let hub = hubs::find_part(connection, partition)?.hub;
            instances.iter().map(|id| load(connection, hub, id)).collect()
        })
    }

    fn history(&mut self, of: &ExecutionKey, from: u32) -> Result<Vec<HistoryChunk>, Error> {
        self.snapshot(|connection| {
            let part = hubs::find_part(connection, &of.partition)?;
            history(connection, Key::new(part.row, of.number), of.ordinal, from)
        })
    }

    fn query(&mut self, query: &Query) -> Result<Answer, Error> {
        self.snapshot(|connection| listing::answer(connection, query))
    }
}

pub(super) fn instance_id(row: &Row<'_>, column: usize) -> Result<InstanceId, Trouble> {
    let id = row.get_ref(column)?.as_str()?;
    InstanceId::new(id).map_err(|refusal| Trouble::Contradiction(refusal.to_string()))
}

fn load(connection: &Connection, hub: i64, id: &InstanceId) -> Result<Option<InstanceState>, Trouble> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {INFO} FROM instance WHERE hub = ?1 AND id = ?2"))?;
    let mut rows = statement.query(params![hub, id.as_str()])?;
    match rows.next()? {
        Some(row) => state(connection, read_info(row)?).map(Some),
        None => Ok(None),
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
        match PendingRow::read(row, 0)?.decode()? {
            Pending::Message(message) => inbox.push(message),
            Pending::Open(waited) => open.push(waited),
        }
    }
    let mut statement = connection.prepare_cached("SELECT key, until FROM seen_key WHERE inst = ?1 ORDER BY seq")?;
    let mut rows = statement.query([key.0])?;
    while let Some(row) = rows.next()? {
        keys.push(read_key(row.get_ref(0)?.as_str()?, row.get(1)?)?);
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
    for place in apart {
        *place.of(&mut info) = Some(payload(connection, key, place)?);
    }
    Ok(info)
}

fn payload(connection: &Connection, key: Key, place: Place) -> Result<Payload, Trouble> {
    let mut statement = connection.prepare_cached("SELECT sum, body FROM payload WHERE inst = ?1 AND place = ?2")?;
    let mut rows = statement.query([key.0, place.number()])?;
    let Some(row) = rows.next()? else {
        return Err(Trouble::Contradiction(format!(
            "a payload of instance number {} is missing",
            key.number()
        )));
    };
    Ok(Payload::new(checked(
        row.get_ref(1)?.as_blob()?,
        row.get(0)?,
        "a payload",
    )?))
}

/// Chunks from an event on. One that begins before it is cut, so that callers need not.
pub(super) fn history(
    connection: &Connection,
    key: Key,
    ordinal: u32,
    from: u32,
) -> Result<Vec<HistoryChunk>, Trouble> {
    let sql = "SELECT first, events, sum, body FROM history WHERE inst = ?1 AND ordinal = ?2 AND first >= \
         coalesce((SELECT max(first) FROM history WHERE inst = ?1 AND ordinal = ?2 AND first <= ?3), 0) ORDER BY first";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![key.0, ordinal, from])?;
    let mut chunks: Vec<HistoryChunk> = Vec::new();
    while let Some(row) = rows.next()? {
        let body = checked(row.get_ref(3)?.as_blob()?, row.get(2)?, "a history chunk")?;
        let chunk = HistoryChunk {
            first: row.get(0)?,
            events: row.get(1)?,
            body,
        };
        let expected = chunks
            .last()
            .map_or(chunk.first.min(from), |last| last.first + last.events);
        if chunk.first != expected {
            let what = format!("a history has a gap before event {} (I4)", chunk.first);
            return Err(Trouble::Contradiction(what));
        }
        chunks.extend(cut(chunk, from)?);
    }
    Ok(chunks)
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

/// Instances of a partition behind a number, for pages of fingerprints.
pub(super) fn after(part: i64, number: Option<taskhub_core::id::InstanceNumber>) -> (i64, i64) {
    let (first, end) = Key::range(part);
    (number.map_or(first, |number| first + int(number.0) + 1), end)
}
