//! Histories as they are stored: runs of encoded events.

use bytes::Bytes;
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::InstanceNumber;

use crate::{Error, Extent, PartitionKey};

/// Part of a history: encoded once, when its commit was made, and handed on as these bytes (A3, A39).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryChunk {
    /// Position of its first event in the history, from 0.
    pub first: u32,
    /// How many events it holds.
    pub events: u32,
    /// The events as protocol messages, see `taskhub_proto::chunk`.
    pub body: Bytes,
}

impl HistoryChunk {
    /// Decodes the events.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the bytes are not valid events.
    pub fn decode(&self) -> Result<Vec<HistoryEvent>, Error> {
        taskhub_proto::decode_chunk(&self.body).map_err(|source| Error::Corrupt {
            place: format!("history chunk at event {}", self.first),
            what: source.to_string(),
            extent: Extent::Rows,
        })
    }
}

/// Which part of a history is read. Chunks are not divided at the end, and one is read at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRange {
    /// The first event, from 0.
    pub from: u32,
    /// After so many events no further chunk is read.
    pub events_max: u32,
    /// After so many bytes of chunks no further chunk is read.
    pub bytes_max: usize,
}

impl HistoryRange {
    /// The whole history.
    pub const ALL: Self = Self {
        from: 0,
        events_max: u32::MAX,
        bytes_max: usize::MAX,
    };

    /// All events from this one on.
    pub fn from(from: u32) -> Self {
        Self { from, ..Self::ALL }
    }
}

/// How much of a history was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistoryRead {
    events: u64,
    bytes: usize,
}

impl HistoryRead {
    pub(crate) fn add(&mut self, chunk: &HistoryChunk) {
        self.events += u64::from(chunk.events);
        self.bytes += chunk.body.len();
    }

    /// Whether no further chunk is read.
    pub(crate) fn is_reached(self, range: HistoryRange) -> bool {
        self.events >= u64::from(range.events_max) || self.bytes >= range.bytes_max
    }
}

/// Decodes the events of consecutive chunks, as [`crate::Store::history`] gives them.
///
/// # Errors
///
/// [`Error::Corrupt`] if the bytes of a chunk are not valid events.
pub fn decode_history(chunks: &[HistoryChunk]) -> Result<Vec<HistoryEvent>, Error> {
    let mut events = Vec::new();
    for chunk in chunks {
        events.extend(chunk.decode()?);
    }
    Ok(events)
}

/// One execution of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionKey {
    /// The partition of the instance.
    pub partition: PartitionKey,
    /// Key of the instance.
    pub number: InstanceNumber,
    /// Ordinal of the execution.
    pub ordinal: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_ends_with_the_chunk_that_has_what_was_asked_for() {
        let mut read = HistoryRead::default();
        read.add(&HistoryChunk {
            first: 0,
            events: 5,
            body: Bytes::from_static(b"12345678"),
        });
        let is_reached = |events_max, bytes_max| {
            read.is_reached(HistoryRange {
                from: 0,
                events_max,
                bytes_max,
            })
        };
        assert!(is_reached(5, usize::MAX) && !is_reached(6, usize::MAX));
        assert!(is_reached(u32::MAX, 8) && !is_reached(u32::MAX, 9));
    }
}
