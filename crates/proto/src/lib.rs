//! The public protocol's history messages, and the one mapping between them and core's types.
//!
//! ```text
//!   core type ──▶ mapping, stored ──▶ protobuf message ──▶ version byte + bytes
//!             ◀──                 ◀──                  ◀──
//! ```
//!
//! Nothing here decides anything: it checks only what core's types demand, opens no file and knows
//! no network. It is the only crate that names protobuf types.
//!
//! History is stored as the protocol's own messages (A3), so that the bytes on disk are those that
//! workers are sent (A39). What only the store needs has messages of its own, see `proto/stored.proto`.

mod envelope;
mod error;
mod mapping;
mod stored;

pub use envelope::{
    decode_chunk, decode_info, decode_message, decode_open, decode_outbox_item, decode_outbox_target, encode_chunk,
    encode_info, encode_message, encode_open, encode_outbox_item,
};
pub use error::DecodeError;

/// Messages generated from `proto/`; `tests/generated.rs` keeps them current.
#[expect(clippy::all, clippy::pedantic, unreachable_pub, reason = "generated code")]
mod wire {
    include!("generated/history.rs");

    pub mod taskhub {
        pub mod stored {
            include!("generated/taskhub.stored.rs");
        }
    }
}
