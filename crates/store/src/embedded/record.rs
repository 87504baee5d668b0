//! Rows of `instance` and `pending`, both directions side by side.

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, ValueRef};
use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::event::Tags;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{ExecutionId, IdempotencyKey, InstanceId, InstanceNumber, MessageNumber, Name, Occurrence};
use taskhub_core::message::Message;
use taskhub_core::payload::Payload;
use taskhub_core::seen::{KeyUse, Operation, SeenKey};
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;

use super::trouble::Trouble;

/// Larger payloads of a status record have a row of their own.
pub(super) const INLINE_BYTES_MAX: usize = 8 << 10;

/// Numbers of instances within a partition stay below this.
const NUMBERS: i64 = 1 << 40;

/// Lanes of `pending`.
pub(super) const LANE_INBOX: i64 = 0;
/// See [`LANE_INBOX`].
pub(super) const LANE_OPEN: i64 = 1;
/// Kind of an inbox message in `pending`.
pub(super) const KIND_MESSAGE: i64 = 0;
/// Kind of an activity in `pending`.
const KIND_TASK: i64 = 1;
/// Kind of a timer in `pending`.
const KIND_TIMER: i64 = 2;
/// Kind of a child in `pending`.
pub(super) const KIND_CHILD: i64 = 3;

/// Key of all rows of an instance: its partition's row and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) i64);

impl Key {
    pub(super) fn new(part: i64, number: InstanceNumber) -> Self {
        let number = int(number.0);
        assert!((0..NUMBERS).contains(&number), "an instance number has at most 40 bits");
        Self(part * NUMBERS + number)
    }

    pub(super) fn part(self) -> i64 {
        self.0.div_euclid(NUMBERS)
    }

    pub(super) fn number(self) -> InstanceNumber {
        InstanceNumber(uint(self.0.rem_euclid(NUMBERS)))
    }

    /// The keys of a partition: from the first, up to and without the second.
    pub(super) fn range(part: i64) -> (i64, i64) {
        (part * NUMBERS, (part + 1) * NUMBERS)
    }
}

/// A counter as SQLite keeps it. Ours never come near the sign bit.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// And back.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Checksum of a body.
pub(super) fn sum(body: &[u8]) -> i64 {
    xxhash_rust::xxh3::xxh3_64(body).cast_signed()
}

/// A body whose checksum was right.
pub(super) fn checked(body: &[u8], stored: i64, what: &str) -> Result<Bytes, Trouble> {
    if sum(body) == stored {
        return Ok(Bytes::copy_from_slice(body));
    }
    Err(Trouble::Contradiction(format!("the checksum of {what} is wrong")))
}

/// The parts of an instance row that change with nearly every commit, and that folding needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: RuntimeStatus,
    pub(super) ordinal: u32,
    pub(super) updated_at: Timestamp,
    pub(super) completed_at: Option<Timestamp>,
    pub(super) history_events: u32,
    pub(super) history_bytes: u64,
    pub(super) next_message: MessageNumber,
    pub(super) next_occurrence: Occurrence,
}

/// Columns of a [`Head`], in the order [`Head::read`] expects.
pub(super) const HEAD: &str =
    "status, ordinal, updated_at, completed_at, history_events, history_bytes, next_message, next_occurrence";

impl Head {
    pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Self, Trouble> {
        Ok(Self {
            status: read_status(row.get(first)?)?,
            ordinal: row.get(first + 1)?,
            updated_at: Timestamp::from_ticks(row.get(first + 2)?),
            completed_at: row.get::<_, Option<i64>>(first + 3)?.map(Timestamp::from_ticks),
            history_events: row.get(first + 4)?,
            history_bytes: uint(row.get(first + 5)?),
            next_message: MessageNumber(uint(row.get(first + 6)?)),
            next_occurrence: Occurrence(uint(row.get(first + 7)?)),
        })
    }
}

pub(super) fn read_status(number: u8) -> Result<RuntimeStatus, Trouble> {
    RuntimeStatus::from_number(number).ok_or_else(|| Trouble::Contradiction(format!("{number} is no status")))
}

/// Columns of a status record, in the order [`read_info`] expects; the first is the key.
pub(super) const INFO: &str = "inst, id, status, ordinal, updated_at, completed_at, history_events, history_bytes, \
     next_message, next_occurrence, created_at, execution, name, version, stalled_at, stalled_attempts, stalled_reason, \
     info, custom, output, input";

/// A status record, but for payloads that have rows of their own.
pub(super) struct InfoRow {
    pub(super) key: Key,
    pub(super) head: Head,
    pub(super) info: InstanceInfo,
    /// Places in `payload`, and what is to be found there.
    pub(super) apart: Vec<Place>,
}

/// Where a payload of a status record is kept when it has a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Custom,
    Output,
    Input,
}

impl Place {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Custom => 0,
            Self::Output => 1,
            Self::Input => 2,
        }
    }

    pub(super) fn of(self, info: &mut InstanceInfo) -> &mut Option<Payload> {
        match self {
            Self::Custom => &mut info.custom_status,
            Self::Output => &mut info.output,
            Self::Input => &mut info.input,
        }
    }
}

/// Whether the record holds something that has no column.
pub(super) fn needs_blob(info: &InstanceInfo) -> bool {
    info.scheduled_start.is_some() || info.failure.is_some() || !info.tags.is_empty() || info.parent.is_some()
}

/// The `info` column.
pub(super) fn write_blob(info: &InstanceInfo) -> Option<Vec<u8>> {
    needs_blob(info).then(|| taskhub_proto::encode_info(info))
}

/// Reads a row of [`INFO`]. Columns count over what the blob says of the same thing.
pub(super) fn read_info(row: &Row<'_>) -> Result<InfoRow, Trouble> {
    let key = Key(row.get(0)?);
    let head = Head::read(row, 2)?;
    let id = row.get_ref(1)?.as_str()?;
    let instance = InstanceId::new(id).map_err(|refusal| Trouble::Contradiction(refusal.to_string()))?;
    let blob = row.get_ref(17)?.as_blob_or_null()?;
    let rest = blob.map(taskhub_proto::decode_info).transpose()?;
    let stalled = row.get::<_, Option<i64>>(14)?.map(Timestamp::from_ticks);
    let stalled = match stalled {
        Some(since) => Some(Box::new(Stall {
            since,
            attempts: row.get(15)?,
            reason: row.get(16)?,
        })),
        None => None,
    };
    let mut info = InstanceInfo {
        instance,
        execution: ExecutionId::new(row.get(11)?),
        ordinal: head.ordinal,
        name: Name::stored(row.get_ref(12)?.as_str()?),
        version: row.get_ref(13)?.as_str_or_null()?.map(Name::stored),
        status: head.status,
        created_at: Timestamp::from_ticks(row.get(10)?),
        updated_at: head.updated_at,
        completed_at: head.completed_at,
        scheduled_start: None,
        input: None,
        output: None,
        custom_status: None,
        failure: None,
        tags: Tags::new(),
        parent: None,
        stalled,
    };
    if let Some(rest) = rest {
        info.scheduled_start = rest.scheduled_start;
        info.failure = rest.failure;
        info.tags = rest.tags;
        info.parent = rest.parent;
    }
    let mut apart = Vec::new();
    for (place, column) in [(Place::Custom, 18), (Place::Output, 19), (Place::Input, 20)] {
        match row.get_ref(column)? {
            ValueRef::Null => {}
            ValueRef::Blob(body) => *place.of(&mut info) = Some(Payload::new(Bytes::copy_from_slice(body))),
            ValueRef::Integer(_) => apart.push(place),
            ValueRef::Real(_) | ValueRef::Text(_) => {
                return Err(Trouble::Contradiction(format!(
                    "`{}` has a payload of another type",
                    info.instance
                )));
            }
        }
    }
    Ok(InfoRow { key, head, info, apart })
}

/// A payload as its column holds it: the bytes, or how many there are if they have a row of their own.
pub(super) fn column(payload: Option<&Payload>) -> ToSqlOutput<'_> {
    match payload {
        None => ToSqlOutput::Borrowed(ValueRef::Null),
        Some(payload) if is_apart(payload) => ToSqlOutput::Borrowed(ValueRef::Integer(int(payload.len() as u64))),
        Some(payload) => ToSqlOutput::Borrowed(ValueRef::Blob(payload.bytes())),
    }
}

/// Whether a payload has a row of its own.
pub(super) fn is_apart(payload: &Payload) -> bool {
    payload.len() > INLINE_BYTES_MAX
}

/// Kind and due time of something open, as `pending` has them.
pub(super) fn open_columns(open: &Open) -> (i64, Option<i64>) {
    match &open.kind {
        OpenKind::Task { .. } => (KIND_TASK, None),
        OpenKind::Timer { fire_at } => (KIND_TIMER, Some(fire_at.ticks())),
        OpenKind::Child { .. } => (KIND_CHILD, None),
    }
}

/// Columns of `pending` beside the body, in the order [`PendingRow::read`] expects.
pub(super) const PENDING: &str = "lane, ev, kind, due_at, deliveries, sum, body";

/// A row of `pending` whose checksum was right.
#[derive(Debug)]
pub(super) struct PendingRow {
    lane: i64,
    ev: i64,
    kind: i64,
    due_at: Option<i64>,
    deliveries: Option<u32>,
    body: Bytes,
}

/// What a row of `pending` says.
#[derive(Debug)]
pub(super) enum Pending {
    Message(Message),
    Open(Open),
}

impl PendingRow {
    pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Self, Trouble> {
        let body = row.get_ref(first + 6)?.as_blob()?;
        Ok(Self {
            lane: row.get(first)?,
            ev: row.get(first + 1)?,
            kind: row.get(first + 2)?,
            due_at: row.get(first + 3)?,
            deliveries: row.get(first + 4)?,
            body: checked(body, row.get(first + 5)?, "a message or something open")?,
        })
    }

    /// Decodes the body. The columns must say the same, but for the deliveries, which count over it.
    pub(super) fn decode(self) -> Result<Pending, Trouble> {
        match self.lane {
            LANE_INBOX => {
                let message = taskhub_proto::decode_message(&self.body)?;
                self.agrees(int(message.number.0), (KIND_MESSAGE, None))?;
                Ok(Pending::Message(message))
            }
            LANE_OPEN => {
                let mut open = taskhub_proto::decode_open(&self.body)?;
                self.agrees(int(open.occurrence.0), open_columns(&open))?;
                if let (Some(count), OpenKind::Task { deliveries, .. }) = (self.deliveries, &mut open.kind) {
                    *deliveries = count;
                }
                Ok(Pending::Open(open))
            }
            lane => Err(Trouble::Contradiction(format!("{lane} is no lane"))),
        }
    }

    fn agrees(&self, ev: i64, columns: (i64, Option<i64>)) -> Result<(), Trouble> {
        if self.ev == ev && (self.kind, self.due_at) == columns {
            return Ok(());
        }
        Err(Trouble::Contradiction(
            "the columns of a message or something open say other than its body".to_owned(),
        ))
    }
}

/// Separates the parts of a stored key. Names have no control characters, and the key itself comes last.
const KEY_MARK: char = '\u{1}';

/// A key with what it was used for: mark, letter of the operation, digest, mark, name, mark, key. A text without the
/// mark in front is a bare key, which is all that was stored at first.
pub(super) fn write_key(seen: &SeenKey) -> String {
    let key = seen.key.as_str();
    let Some(used) = &seen.used else {
        return key.to_owned();
    };
    let operation = match used.operation {
        Operation::Start => 's',
        Operation::Raise => 'r',
    };
    let (name, digest) = (used.name.name(), used.digest);
    format!("{KEY_MARK}{operation}{digest:016x}{KEY_MARK}{name}{KEY_MARK}{key}")
}

pub(super) fn read_key(text: &str, until: i64) -> Result<SeenKey, Trouble> {
    let bad = |what: &str| Trouble::Contradiction(format!("a stored idempotency key {what}"));
    let (used, key) = match text.strip_prefix(KEY_MARK) {
        None => (None, text),
        Some(marked) => {
            let mut parts = marked.splitn(3, KEY_MARK);
            let (Some(head), Some(name), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(bad("lacks a part"));
            };
            let (operation, digest) = match head.split_at_checked(1) {
                Some(("s", digest)) => (Operation::Start, digest),
                Some(("r", digest)) => (Operation::Raise, digest),
                _ => return Err(bad("names no operation")),
            };
            let digest = u64::from_str_radix(digest, 16).map_err(|_| bad("has no digest"))?;
            let name = FoldedName::new(Name::stored(name));
            (
                Some(KeyUse {
                    operation,
                    name,
                    digest,
                }),
                key,
            )
        }
    };
    let key = IdempotencyKey::new(key).map_err(|refusal| bad(&format!("is none: {refusal}")))?;
    Ok(SeenKey {
        key,
        used,
        until: Timestamp::from_ticks(until),
    })
}
