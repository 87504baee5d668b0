//! The envelope of everything we store: one byte with its version, then one protobuf message.

use bytes::{Buf, Bytes};
use taskhub_core::commit::Open;
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::InstanceId;
use taskhub_core::message::{Message, OutboxItem};
use taskhub_core::status::InstanceInfo;

use crate::error::DecodeError;
use crate::wire::HistoryChunk;
use crate::{mapping, stored};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;

/// Encodes a run of history.
///
/// After the version byte follows the protocol's `HistoryChunk`, so that remote workers can be sent stored bytes
/// without re-encoding (A39).
pub fn encode_chunk(events: &[HistoryEvent]) -> Bytes {
    let events = events.iter().map(mapping::write_event).collect();
    Bytes::from(seal(&HistoryChunk { events }))
}

/// Reads a run of history back. Payloads are not copied: they share the memory of `body`.
///
/// # Errors
///
/// Bytes of another version, that are damaged, or that hold an event core has no kind for.
pub fn decode_chunk(body: &Bytes) -> Result<Vec<HistoryEvent>, DecodeError> {
    let chunk: HistoryChunk = unseal(body.clone(), "HistoryChunk")?;
    chunk.events.into_iter().map(mapping::read_event).collect()
}

/// Encodes an inbox message.
pub fn encode_message(message: &Message) -> Vec<u8> {
    seal(&stored::write_message(message))
}

/// Reads an inbox message back.
///
/// # Errors
///
/// Bytes of another version, that are damaged, or that hold an event core has no kind for.
pub fn decode_message(body: &[u8]) -> Result<Message, DecodeError> {
    stored::read_message(unseal(body, "Message")?)
}

/// Encodes a message to another instance.
pub fn encode_outbox_item(item: &OutboxItem) -> Vec<u8> {
    seal(&stored::write_outbox_item(item))
}

/// Reads a message to another instance back.
///
/// # Errors
///
/// Bytes of another version or that are damaged.
pub fn decode_outbox_item(body: &[u8]) -> Result<OutboxItem, DecodeError> {
    stored::read_outbox_item(unseal(body, "OutboxItem")?)
}

/// Reads whom a message is for, and nothing else of it.
///
/// # Errors
///
/// Bytes of another version or that are damaged, as far as that is seen.
pub fn decode_outbox_target(body: &[u8]) -> Result<InstanceId, DecodeError> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct OutboxItem {
        #[prost(string, tag = "1")]
        target: String,
    }
    let item: OutboxItem = unseal(body, "OutboxItem")?;
    mapping::read_instance_id(&item.target)
}

/// Encodes something an execution waits for.
pub fn encode_open(open: &Open) -> Vec<u8> {
    seal(&stored::write_open(open))
}

/// Reads something an execution waits for back.
///
/// # Errors
///
/// Bytes of another version or that are damaged.
pub fn decode_open(body: &[u8]) -> Result<Open, DecodeError> {
    stored::read_open(unseal(body, "Open")?)
}

/// Encodes a status record without its input, output and custom status, which are stored separately.
pub fn encode_info(info: &InstanceInfo) -> Vec<u8> {
    seal(&stored::write_info(info))
}

/// Reads a status record back; its input, output and custom status are `None`.
///
/// # Errors
///
/// Bytes of another version or that are damaged.
pub fn decode_info(body: &[u8]) -> Result<InstanceInfo, DecodeError> {
    stored::read_info(unseal(body, "InstanceInfo")?)
}

fn seal(message: &impl prost::Message) -> Vec<u8> {
    let mut body = Vec::with_capacity(1 + message.encoded_len());
    body.push(VERSION);
    let Ok(()) = message.encode(&mut body) else {
        unreachable!("encoding fails only for want of room, and a vector grows")
    };
    body
}

fn unseal<M: prost::Message + Default>(mut body: impl Buf, message: &'static str) -> Result<M, DecodeError> {
    if !body.has_remaining() {
        return Err(DecodeError::Empty);
    }
    match body.get_u8() {
        VERSION => M::decode(body).map_err(|source| DecodeError::Malformed { message, source }),
        found => Err(DecodeError::UnknownVersion { found, known: VERSION }),
    }
}
