//! How SQLite's rows are read into what `sql` knows of them, and how a payload is bound.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};
use taskhub_core::id::{InstanceId, MessageNumber, Occurrence, Seq};
use taskhub_core::message::OutboxItem;
use taskhub_core::time::Timestamp;

use super::trouble::Trouble;
use crate::sql::{
    Head, InfoRow, Key, PayloadColumn, PendingColumns, PendingRow, StallColumns, Stored, Texts, outbox_words,
    read_status, uint,
};

/// Columns of a status record, in the order [`stored`] and [`info_row`] expect; the first is the key.
pub(super) const INFO: &str = "inst, id, status, ordinal, updated_at, completed_at, history_events, history_bytes, \
     next_message, next_occurrence, waits, keys, created_at, execution, name, version, stalled_at, stalled_attempts, \
     stalled_reason, info, custom, output, input, hub, sum";

/// Columns of `pending`, in the order [`pending_row`] expects.
pub(super) const PENDING: &str = "inst, lane, ev, kind, due_at, deliveries, is_cut, sum, body";

/// Columns of an outbox row, in the order [`outbox_item`] expects.
pub(super) const OUTBOX: &str = "part, seq, ix, sum, body";
/// Place of the body among them.
pub(super) const OUTBOX_BODY: usize = 4;

fn head(row: &Row<'_>) -> Result<Head, Trouble> {
    Ok(Head {
        status: read_status(row.get(2)?)?,
        ordinal: row.get(3)?,
        updated_at: Timestamp::from_ticks(row.get(4)?),
        completed_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_ticks),
        history_events: row.get(6)?,
        history_bytes: uint(row.get(7)?),
        next_message: MessageNumber(uint(row.get(8)?)),
        next_occurrence: Occurrence(uint(row.get(9)?)),
        waits: row.get(10)?,
        keys: row.get(11)?,
    })
}

fn texts<'r>(row: &'r Row<'_>) -> Result<Texts<'r>, Trouble> {
    let text = |column| -> Result<_, Trouble> { Ok(row.get_ref(column)?.as_str_or_null()?) };
    Ok(Texts {
        id: text(1)?,
        execution: row.get_ref(13)?.as_blob()?,
        name: text(14)?,
        version: text(15)?,
        stall: StallColumns {
            since: row.get(16)?,
            attempts: row.get(17)?,
            reason: text(18)?,
        },
        rest: row.get_ref(19)?.as_blob_or_null()?,
        custom: payload_column(row.get_ref(20)?)?,
        output: payload_column(row.get_ref(21)?)?,
        input: payload_column(row.get_ref(22)?)?,
    })
}

fn payload_column(column: ValueRef<'_>) -> Result<PayloadColumn<'_>, Trouble> {
    match column {
        ValueRef::Null => Ok(PayloadColumn::Absent),
        ValueRef::Blob(body) => Ok(PayloadColumn::Inline(body)),
        ValueRef::Integer(print) => Ok(PayloadColumn::Apart(print.cast_unsigned())),
        ValueRef::Real(_) | ValueRef::Text(_) => Err(Trouble::Contradiction(
            "a payload column has an unexpected SQLite type".to_owned(),
        )),
    }
}

impl ToSql for PayloadColumn<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Absent => ValueRef::Null,
            Self::Inline(body) => ValueRef::Blob(body),
            Self::Apart(print) => ValueRef::Integer(print.cast_signed()),
        }))
    }
}

/// What the columns of a row of [`INFO`] say, and its checksum, be that right or not.
struct InstanceRow<'r> {
    key: Key,
    stored: Stored,
    texts: Texts<'r>,
    sum: i64,
}

impl<'r> InstanceRow<'r> {
    fn read(row: &'r Row<'_>) -> Result<Self, Trouble> {
        let texts = texts(row)?;
        let stored = Stored {
            hub: row.get(23)?,
            created_at: Timestamp::from_ticks(row.get(12)?),
            head: head(row)?,
            prints: texts.prints(),
        };
        let (key, sum) = (Key(row.get(0)?), row.get(24)?);
        Ok(Self {
            key,
            stored,
            texts,
            sum,
        })
    }

    fn info(&self) -> Result<InfoRow, Trouble> {
        let Stored {
            hub, created_at, head, ..
        } = self.stored;
        Ok(self.texts.info(self.key, (hub, created_at), head)?)
    }
}

/// Reads a row of [`INFO`], and refuses it if its checksum is wrong.
pub(super) fn stored(row: &Row<'_>) -> Result<(Key, Stored), Trouble> {
    let InstanceRow { key, stored, sum, .. } = InstanceRow::read(row)?;
    stored.check(key, sum)?;
    Ok((key, stored))
}

/// Computes the checksum that a row of [`INFO`] should have, without comparing it with the stored one.
#[cfg(feature = "testing")]
pub(super) fn right_sum(row: &Row<'_>) -> Result<i64, Trouble> {
    let found = InstanceRow::read(row)?;
    Ok(found.stored.sum(found.key))
}

/// Reads the status record in a row of [`INFO`], and refuses it if its checksum is wrong.
pub(super) fn info_row(row: &Row<'_>) -> Result<InfoRow, Trouble> {
    let found = InstanceRow::read(row)?;
    found.stored.check(found.key, found.sum)?;
    found.info()
}

/// The same of a row that has no checksum.
pub(super) fn info_row_unchecked(row: &Row<'_>) -> Result<InfoRow, Trouble> {
    InstanceRow::read(row)?.info()
}

/// The status record of an instance by its key, without payloads that have rows of their own.
pub(super) fn find_info(connection: &Connection, key: Key) -> Result<Option<InfoRow>, Trouble> {
    let mut statement = connection.prepare_cached(&format!("SELECT {INFO} FROM instance WHERE inst = ?1"))?;
    let mut rows = statement.query([key.0])?;
    rows.next()?.map(info_row).transpose()
}

pub(super) fn instance_id(row: &Row<'_>, column: usize) -> Result<InstanceId, Trouble> {
    let id = row.get_ref(column)?.as_str()?;
    InstanceId::new(id).map_err(|refusal| Trouble::Contradiction(refusal.to_string()))
}

/// Reads the numbers of a row of [`PENDING`].
pub(super) fn pending_columns(row: &Row<'_>) -> rusqlite::Result<PendingColumns> {
    Ok(PendingColumns {
        key: Key(row.get(0)?),
        lane: row.get(1)?,
        ev: row.get(2)?,
        kind: row.get(3)?,
        due_at: row.get(4)?,
        deliveries: row.get(5)?,
        is_cut: row.get(6)?,
    })
}

/// Reads a row of [`PENDING`], and refuses it if its checksum is wrong.
pub(super) fn pending_row(row: &Row<'_>) -> Result<PendingRow, Trouble> {
    let body = row.get_ref(8)?.as_blob()?;
    Ok(pending_columns(row)?.with(body, row.get(7)?)?)
}

/// Reads a row of [`OUTBOX`], and refuses it if its checksum is wrong.
pub(super) fn outbox_item(row: &Row<'_>) -> Result<(Seq, u32, OutboxItem), Trouble> {
    let (part, seq, index) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let body = row.get_ref(OUTBOX_BODY)?.as_blob()?;
    outbox_words(part, seq, index).check(body, row.get(3)?, "an outbox item")?;
    Ok((Seq(uint(seq)), index, taskhub_proto::decode_outbox_item(body)?))
}
