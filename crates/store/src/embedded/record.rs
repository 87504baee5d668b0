//! Rows of `instance` and `pending`, both directions side by side.

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, ValueRef};
use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{ExecutionId, IdempotencyKey, InstanceId, InstanceNumber, MessageNumber, Name, Occurrence};
use taskhub_core::message::Message;
use taskhub_core::payload::Payload;
use taskhub_core::seen::{KeyUse, Operation, SeenKey};
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;

use super::sums::{Words, option, print, print_option};
use super::trouble::Trouble;

/// Larger payloads of a status record have a row of their own.
pub(super) const INLINE_BYTES_MAX: usize = 8 << 10;

/// An input from this size on is stored once: with the instance, and not in the event and the message that begin the
/// execution as well. To put a shorter one together again would cost more than it saves.
pub(super) const INPUT_ONCE_BYTES_MIN: usize = 128;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Rows of `pending` that belong to it.
    pub(super) waits: u32,
    /// Rows of `seen_key` that belong to it.
    pub(super) keys: u32,
}

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
            waits: row.get(first + 8)?,
            keys: row.get(first + 9)?,
        })
    }
}

/// Fingerprints of the columns of an instance that are no numbers. They stand for the columns in its checksum, so that a
/// group that changes one of them need not know the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prints {
    pub(super) id: u64,
    pub(super) execution: u64,
    pub(super) name: u64,
    pub(super) version: u64,
    pub(super) stall: u64,
    pub(super) info: u64,
    pub(super) custom: u64,
    pub(super) output: u64,
    pub(super) input: u64,
}

/// A row of `instance` as far as a group must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) hub: i64,
    pub(super) created_at: Timestamp,
    pub(super) head: Head,
    pub(super) prints: Prints,
}

impl Stored {
    /// The checksum of the row.
    pub(super) fn sum(&self, key: Key) -> i64 {
        let Self {
            hub,
            created_at,
            head,
            prints,
        } = self;
        let [is_completed, completed_at] = option(head.completed_at.map(Timestamp::ticks));
        let words = [
            key.0,
            *hub,
            i64::from(head.status.number()),
            i64::from(head.ordinal),
            created_at.ticks(),
            head.updated_at.ticks(),
            i64::from(head.history_events),
            int(head.history_bytes),
            int(head.next_message.0),
            int(head.next_occurrence.0),
            i64::from(head.waits),
            i64::from(head.keys),
            is_completed,
            completed_at,
            prints.id.cast_signed(),
            prints.execution.cast_signed(),
            prints.name.cast_signed(),
            prints.version.cast_signed(),
            prints.stall.cast_signed(),
            prints.info.cast_signed(),
            prints.custom.cast_signed(),
            prints.output.cast_signed(),
            prints.input.cast_signed(),
        ];
        Words::new(words).sum(&[])
    }

    /// Reads a row of [`INFO`], and refuses it if its checksum is wrong.
    pub(super) fn read(row: &Row<'_>) -> Result<(Key, Self), Trouble> {
        let (key, stored, sum) = Self::read_unchecked(row)?;
        if stored.sum(key) == sum {
            return Ok((key, stored));
        }
        Err(Trouble::Contradiction("the checksum of its row is wrong".to_owned()))
    }

    /// The same of a row that is changed or made anew, with the checksum that stands in it.
    pub(super) fn read_unchecked(row: &Row<'_>) -> Result<(Key, Self, i64), Trouble> {
        let text = |column| -> Result<_, Trouble> { Ok(row.get_ref(column)?.as_str_or_null()?.map(str::as_bytes)) };
        let stored = Self {
            hub: row.get(23)?,
            created_at: Timestamp::from_ticks(row.get(12)?),
            head: Head::read(row, 2)?,
            prints: Prints {
                id: print_option(text(1)?),
                execution: print(row.get_ref(13)?.as_blob()?),
                name: print_option(text(14)?),
                version: print_option(text(15)?),
                stall: stall_print(row.get(16)?, row.get(17)?, text(18)?),
                info: print_option(row.get_ref(19)?.as_blob_or_null()?),
                custom: column_print(row.get_ref(20)?)?,
                output: column_print(row.get_ref(21)?)?,
                input: column_print(row.get_ref(22)?)?,
            },
        };
        Ok((Key(row.get(0)?), stored, row.get(24)?))
    }
}

/// Fingerprint of why an instance is stalled, and since when.
pub(super) fn stall_print(since: Option<i64>, attempts: Option<u32>, reason: Option<&[u8]>) -> u64 {
    if (since, attempts, reason) == (None, None, None) {
        return 0;
    }
    let ([is_since, since], [is_counted, attempts]) = (option(since), option(attempts.map(i64::from)));
    let words = Words::new([is_since, since, is_counted, attempts]);
    words.sum_of_print(print_option(reason)).cast_unsigned()
}

/// Fingerprint of a payload whose column holds it, or holds its fingerprint.
fn column_print(column: ValueRef<'_>) -> Result<u64, Trouble> {
    match column {
        ValueRef::Null => Ok(0),
        ValueRef::Blob(body) => Ok(print(body)),
        ValueRef::Integer(print) => Ok(print.cast_unsigned()),
        ValueRef::Real(_) | ValueRef::Text(_) => Err(Trouble::Contradiction("a payload is of another type".to_owned())),
    }
}

/// Fingerprint of a payload.
pub(super) fn payload_print(payload: Option<&Payload>) -> u64 {
    print_option(payload.map(|payload| payload.bytes().as_ref()))
}

pub(super) fn read_status(number: u8) -> Result<RuntimeStatus, Trouble> {
    RuntimeStatus::from_number(number).ok_or_else(|| Trouble::Contradiction(format!("{number} is no status")))
}

/// Columns of a status record, in the order [`Stored::read`] and [`read_info`] expect; the first is the key.
pub(super) const INFO: &str = "inst, id, status, ordinal, updated_at, completed_at, history_events, history_bytes, \
     next_message, next_occurrence, waits, keys, created_at, execution, name, version, stalled_at, stalled_attempts, \
     stalled_reason, info, custom, output, input, hub, sum";

/// A status record, but for payloads that have rows of their own.
pub(super) struct InfoRow {
    pub(super) key: Key,
    pub(super) head: Head,
    pub(super) info: InstanceInfo,
    /// Row of its hub.
    pub(super) hub: i64,
    /// Places in `payload`, and the fingerprints of what is to be found there.
    pub(super) apart: Vec<(Place, u64)>,
}

/// Where a payload of a status record is kept when it has a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Custom,
    Output,
    Input,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Custom, Self::Output, Self::Input];

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

/// Reads a row of [`INFO`] whose checksum is right. Columns count over what the blob says of the same thing.
pub(super) fn read_info(row: &Row<'_>) -> Result<InfoRow, Trouble> {
    let (key, Stored { hub, head, .. }) = Stored::read(row)?;
    info_of(row, key, hub, head)
}

/// What a row of [`INFO`] says, whether its checksum is right or there is none.
pub(super) fn info_of(row: &Row<'_>, key: Key, hub: i64, head: Head) -> Result<InfoRow, Trouble> {
    let id = row.get_ref(1)?.as_str()?;
    let instance = InstanceId::new(id).map_err(|refusal| Trouble::Contradiction(refusal.to_string()))?;
    let blob = row.get_ref(19)?.as_blob_or_null()?;
    let rest = blob.map(taskhub_proto::decode_info).transpose()?;
    let stalled = row.get::<_, Option<i64>>(16)?.map(Timestamp::from_ticks);
    let stalled = match stalled {
        Some(since) => Some(Box::new(Stall {
            since,
            attempts: row.get(17)?,
            reason: row.get(18)?,
        })),
        None => None,
    };
    let mut info = InstanceInfo {
        instance,
        execution: ExecutionId::new(row.get(13)?),
        ordinal: head.ordinal,
        name: Name::stored(row.get_ref(14)?.as_str()?),
        version: row.get_ref(15)?.as_str_or_null()?.map(Name::stored),
        status: head.status,
        created_at: Timestamp::from_ticks(row.get(12)?),
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
    for (place, column) in [(Place::Custom, 20), (Place::Output, 21), (Place::Input, 22)] {
        match row.get_ref(column)? {
            ValueRef::Null => {}
            ValueRef::Blob(body) => *place.of(&mut info) = Some(Payload::new(Bytes::copy_from_slice(body))),
            ValueRef::Integer(print) => apart.push((place, print.cast_unsigned())),
            ValueRef::Real(_) | ValueRef::Text(_) => {
                return Err(Trouble::Contradiction(format!(
                    "`{}` has a payload of another type",
                    info.instance
                )));
            }
        }
    }
    Ok(InfoRow {
        key,
        head,
        info,
        hub,
        apart,
    })
}

/// A payload as its column holds it: the bytes, or their fingerprint if they have a row of their own.
pub(super) fn column(payload: Option<&Payload>) -> ToSqlOutput<'_> {
    match payload {
        None => ToSqlOutput::Borrowed(ValueRef::Null),
        Some(payload) if is_apart(payload) => {
            ToSqlOutput::Borrowed(ValueRef::Integer(print(payload.bytes()).cast_signed()))
        }
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

/// Columns of `pending`, in the order [`PendingRow::read`] expects.
pub(super) const PENDING: &str = "inst, lane, ev, kind, due_at, deliveries, is_cut, sum, body";

/// A row of `pending` whose checksum was right.
#[derive(Debug)]
pub(super) struct PendingRow {
    pub(super) columns: PendingColumns,
    pub(super) body: Bytes,
}

/// The numbers of a row of `pending`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingColumns {
    pub(super) key: Key,
    pub(super) lane: i64,
    pub(super) ev: i64,
    pub(super) kind: i64,
    pub(super) due_at: Option<i64>,
    pub(super) deliveries: Option<u32>,
    pub(super) is_cut: bool,
}

/// What a row of `pending` says.
#[derive(Debug)]
pub(super) enum Pending {
    /// Whose start lacks its input, if that is so: it is the one of the instance.
    Message(Message, bool),
    Open(Open),
}

impl PendingColumns {
    fn words(&self) -> Words<9> {
        let [is_due, due_at] = option(self.due_at);
        let [is_counted, deliveries] = option(self.deliveries.map(i64::from));
        let Self {
            key,
            lane,
            ev,
            kind,
            is_cut,
            ..
        } = *self;
        let is_cut = i64::from(is_cut);
        Words::new([key.0, lane, ev, kind, is_cut, is_due, due_at, is_counted, deliveries])
    }

    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            key: Key(row.get(first)?),
            lane: row.get(first + 1)?,
            ev: row.get(first + 2)?,
            kind: row.get(first + 3)?,
            due_at: row.get(first + 4)?,
            deliveries: row.get(first + 5)?,
            is_cut: row.get(first + 6)?,
        })
    }

    /// The checksum of the row with this body.
    pub(super) fn sum(&self, body: &[u8]) -> i64 {
        self.words().sum(body)
    }
}

impl PendingRow {
    pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Self, Trouble> {
        let body = row.get_ref(first + 8)?.as_blob()?;
        let columns = PendingColumns::read(row, first)?;
        columns
            .words()
            .check(body, row.get(first + 7)?, "a message or something open")?;
        Ok(Self {
            columns,
            body: Bytes::copy_from_slice(body),
        })
    }

    /// Decodes the body. The columns must say the same, but for the deliveries, which count over it.
    pub(super) fn decode(self) -> Result<Pending, Trouble> {
        match self.columns.lane {
            LANE_INBOX => {
                let message = taskhub_proto::decode_message(&self.body)?;
                self.agrees(int(message.number.0), (KIND_MESSAGE, None))?;
                Ok(Pending::Message(message, self.columns.is_cut))
            }
            LANE_OPEN => {
                let mut open = taskhub_proto::decode_open(&self.body)?;
                self.agrees(int(open.occurrence.0), open_columns(&open))?;
                if let (Some(count), OpenKind::Task { deliveries, .. }) = (self.columns.deliveries, &mut open.kind) {
                    *deliveries = count;
                }
                Ok(Pending::Open(open))
            }
            lane => Err(Trouble::Contradiction(format!("{lane} is no lane"))),
        }
    }

    fn agrees(&self, ev: i64, columns: (i64, Option<i64>)) -> Result<(), Trouble> {
        if self.columns.ev == ev && (self.columns.kind, self.columns.due_at) == columns {
            return Ok(());
        }
        Err(Trouble::Contradiction(
            "the columns of a message or something open say other than its body".to_owned(),
        ))
    }
}

/// The input of an execution that these events begin, if it is long enough to be stored once only.
pub(super) fn long_input(events: &[HistoryEvent]) -> Option<&Payload> {
    let input = events.iter().find_map(|event| match &event.kind {
        EventKind::ExecutionStarted(started) => Some(started.input.as_ref()),
        _ => None,
    });
    input.flatten().filter(|input| input.len() >= INPUT_ONCE_BYTES_MIN)
}

/// Takes the input out of events that begin an execution, or puts it back.
pub(super) fn set_input(events: &mut [HistoryEvent], input: Option<&Payload>) {
    for event in events {
        if let EventKind::ExecutionStarted(started) = &mut event.kind {
            started.input = input.cloned();
        }
    }
}

/// The checksum of a chunk of history.
pub(super) fn chunk_words(key: Key, ordinal: u32, first: u32, events: u32, is_cut: bool) -> Words<5> {
    Words::new([
        key.0,
        i64::from(ordinal),
        i64::from(first),
        i64::from(events),
        i64::from(is_cut),
    ])
}

/// The checksum of a payload that has a row of its own, whose ordinal is that of an execution only if it is an input.
pub(super) fn payload_sum(key: Key, place: Place, ordinal: u32, print: u64) -> i64 {
    Words::new([key.0, place.number(), i64::from(ordinal)]).sum_of_print(print)
}

/// The checksum of a message on its way.
pub(super) fn outbox_words(part: i64, seq: i64, index: u32) -> Words<3> {
    Words::new([part, seq, i64::from(index)])
}

/// The checksum of an idempotency key.
pub(super) fn key_words(key: Key, seq: i64, until: i64) -> Words<3> {
    Words::new([key.0, seq, until])
}

/// The checksum of a count of instances in one status.
pub(super) fn count_sum(part: i64, status: u8, n: i64) -> i64 {
    Words::new([part, i64::from(status), n]).sum(&[])
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
