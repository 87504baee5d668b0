//! Rows of `history`: the events of an execution in chunks, and the input that they do without where the instance has it.

use std::borrow::Cow;

use bytes::Bytes;
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::limits;
use taskhub_core::payload::Payload;

use super::fold::{Instance, Run};
use super::record::{INPUT_ONCE_BYTES_MIN, Key};
use super::sums::Words;

/// Size above which a history chunk takes no more events; a chunk may always have one event. Databases limit the size
/// of a value (SQLite: 1e9 bytes), and reading one event reads its whole chunk.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A row of `history`, but for the key of its instance.
#[derive(Debug)]
pub(crate) struct ChunkRow {
    pub(crate) ordinal: u32,
    pub(crate) first: u32,
    pub(crate) events: u32,
    /// The input is left out of the event that begins the execution.
    pub(crate) is_cut: bool,
    pub(crate) sum: i64,
    pub(crate) body: Bytes,
}

/// The checksum of a chunk of history.
pub(crate) fn chunk_words(key: Key, ordinal: u32, first: u32, events: u32, is_cut: bool) -> Words<5> {
    Words::new([
        key.0,
        i64::from(ordinal),
        i64::from(first),
        i64::from(events),
        i64::from(is_cut),
    ])
}

/// The input of an execution that these events begin, if it is long enough to be stored once only.
pub(crate) fn long_input(events: &[HistoryEvent]) -> Option<&Payload> {
    let input = events.iter().find_map(|event| match &event.kind {
        EventKind::ExecutionStarted(started) => Some(started.input.as_ref()),
        _ => None,
    });
    input.flatten().filter(|input| input.len() >= INPUT_ONCE_BYTES_MIN)
}

/// Takes the input out of events that begin an execution, or puts it back.
pub(crate) fn set_input(events: &mut [HistoryEvent], input: Option<&Payload>) {
    for event in events {
        if let EventKind::ExecutionStarted(started) = &mut event.kind {
            started.input = input.cloned();
        }
    }
}

impl Instance<'_> {
    /// Executions before this one are too old to be kept (R134).
    pub(crate) fn oldest(&self) -> u32 {
        self.head.ordinal.saturating_sub(limits::ARCHIVED_EXECUTIONS_MAX)
    }

    /// Hands on the chunks that the group adds, for each execution its own (A3), without those that are too old by the end of
    /// it.
    pub(crate) fn each_chunk<E>(&self, key: Key, mut write: impl FnMut(ChunkRow) -> Result<(), E>) -> Result<(), E> {
        for run in self.runs.iter().filter(|run| run.ordinal >= self.oldest()) {
            let (ordinal, mut first) = (run.ordinal, run.first);
            let is_current = ordinal == self.head.ordinal;
            for piece in pieces(&run.in_one_piece()) {
                let events = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                let is_cut = is_current && long_input(piece).is_some_and(|input| self.has_input(input));
                let body = if is_cut {
                    let mut piece = piece.to_vec();
                    set_input(&mut piece, None);
                    taskhub_proto::encode_chunk(&piece)
                } else {
                    taskhub_proto::encode_chunk(piece)
                };
                let sum = chunk_words(key, ordinal, first, events, is_cut).sum(&body);
                write(ChunkRow {
                    ordinal,
                    first,
                    events,
                    is_cut,
                    sum,
                    body,
                })?;
                first += events;
            }
        }
        Ok(())
    }
}

/// Cuts events into chunks.
fn pieces(mut events: &[HistoryEvent]) -> impl Iterator<Item = &[HistoryEvent]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |event: &&HistoryEvent| {
            bytes += event.size();
            bytes <= CHUNK_BYTES_MAX
        };
        let count = events.iter().take_while(fits).count().max(1);
        let (piece, rest) = events.split_at_checked(count)?;
        events = rest;
        Some(piece)
    })
}

impl Run<'_> {
    /// The events as the encoder wants them. Copies share their payloads, and most runs are one piece.
    fn in_one_piece(&self) -> Cow<'_, [HistoryEvent]> {
        match self.events.as_slice() {
            [one] => Cow::Borrowed(one),
            several => Cow::Owned(several.concat()),
        }
    }
}
