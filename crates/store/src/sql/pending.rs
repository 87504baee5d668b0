//! Rows of `pending`, in which an instance's unread messages and open work are, and of `outbox`.

use bytes::Bytes;
use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::message::Message;

use super::Contradiction;
use super::chunks::{long_input, set_input};
use super::fold::Instance;
use super::record::{Key, int};
use super::sums::{Words, option};

/// Lanes of `pending`.
pub(crate) const LANE_INBOX: i64 = 0;
/// See [`LANE_INBOX`].
pub(crate) const LANE_OPEN: i64 = 1;
/// Kind of an inbox message in `pending`.
pub(crate) const KIND_MESSAGE: i64 = 0;
/// Kind of an activity in `pending`.
const KIND_TASK: i64 = 1;
/// Kind of a timer in `pending`.
const KIND_TIMER: i64 = 2;
/// Kind of a child in `pending`.
pub(crate) const KIND_CHILD: i64 = 3;

/// Kind and due time of something open, as `pending` has them.
fn open_columns(open: &Open) -> (i64, Option<i64>) {
    match &open.kind {
        OpenKind::Task { .. } => (KIND_TASK, None),
        OpenKind::Timer { fire_at } => (KIND_TIMER, Some(fire_at.ticks())),
        OpenKind::Child { .. } => (KIND_CHILD, None),
    }
}

/// The numbers of a row of `pending`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingColumns {
    pub(crate) key: Key,
    pub(crate) lane: i64,
    pub(crate) ev: i64,
    pub(crate) kind: i64,
    pub(crate) due_at: Option<i64>,
    pub(crate) deliveries: Option<u32>,
    pub(crate) is_cut: bool,
}

#[derive(Debug)]
pub(crate) struct PendingRow {
    pub(crate) columns: PendingColumns,
    pub(crate) body: Bytes,
}

/// What a row of `pending` says.
#[derive(Debug)]
pub(crate) enum Pending {
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

    /// The checksum of the row with this body.
    pub(crate) fn sum(&self, body: &[u8]) -> i64 {
        self.words().sum(body)
    }

    /// The row with this body, if that is what was written.
    pub(crate) fn with(self, body: &[u8], sum: i64) -> Result<PendingRow, Contradiction> {
        self.words().check(body, sum, "a message or open item")?;
        Ok(PendingRow {
            columns: self,
            body: Bytes::copy_from_slice(body),
        })
    }
}

impl PendingRow {
    /// Decodes the body. The columns must say the same, but for the deliveries, which count over it.
    pub(crate) fn decode(self) -> Result<Pending, Contradiction> {
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
            lane => Err(Contradiction(format!("unknown lane {lane}"))),
        }
    }

    fn agrees(&self, ev: i64, columns: (i64, Option<i64>)) -> Result<(), Contradiction> {
        if self.columns.ev == ev && (self.columns.kind, self.columns.due_at) == columns {
            return Ok(());
        }
        Err(Contradiction(
            "the columns of a message or open item contradict its body".to_owned(),
        ))
    }
}

impl Instance<'_> {
    /// Lane and number of the stored rows that the group is done with.
    pub(crate) fn done_with(&self) -> impl Iterator<Item = (i64, i64)> {
        let taken = self.taken.iter().map(|number| (LANE_INBOX, *number));
        taken.chain(self.closed.iter().map(|occurrence| (LANE_OPEN, *occurrence)))
    }

    /// Hands on the rows that the group adds, with their bodies.
    pub(crate) fn each_pending<E>(
        &self,
        key: Key,
        mut write: impl FnMut(PendingColumns, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (number, message) in &self.added {
            let input = long_input(std::slice::from_ref(&message.event));
            let is_cut = input.is_some_and(|input| self.has_input(input));
            let columns = PendingColumns {
                key,
                lane: LANE_INBOX,
                ev: *number,
                kind: KIND_MESSAGE,
                due_at: None,
                deliveries: None,
                is_cut,
            };
            let body = if is_cut {
                let mut message = (*message).clone();
                set_input(std::slice::from_mut(&mut message.event), None);
                taskhub_proto::encode_message(&message)
            } else {
                taskhub_proto::encode_message(message)
            };
            write(columns, &body)?;
        }
        for (occurrence, (open, deliveries)) in &self.opened {
            let (kind, due_at) = open_columns(open);
            let columns = PendingColumns {
                key,
                lane: LANE_OPEN,
                ev: *occurrence,
                kind,
                due_at,
                deliveries: *deliveries,
                is_cut: false,
            };
            write(columns, &taskhub_proto::encode_open(open))?;
        }
        Ok(())
    }
}

/// The checksum of a message on its way.
pub(crate) fn outbox_words(part: i64, seq: i64, index: u32) -> Words<3> {
    Words::new([part, seq, i64::from(index)])
}
