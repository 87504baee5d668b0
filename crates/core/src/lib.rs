//! What a task hub *means*, as pure functions: `(instance state, message, now)` in, a [`commit::Commit`] out.
//!
//! ```text
//!   request, message, answer ──▶ control / turn ──▶ Commit ──▶ InstanceState::apply
//! ```
//!
//! Nothing here reads a clock, draws a random number, opens a file, spawns or logs (A5): time and ids
//! come in as arguments. Every change of durable state in the whole product is a commit made here.

#![warn(missing_docs)]
// An index that is out of bounds would end the partition for one instance's sake.
#![warn(clippy::indexing_slicing)]

pub mod action;
pub mod commit;
pub mod control;
pub mod date;
pub mod event;
pub mod failure;
pub mod fnv;
pub mod fold;
pub mod id;
pub mod instance;
pub mod json;
pub mod limits;
pub mod message;
pub mod ncrontab;
pub mod payload;
pub mod query;
pub mod refusal;
mod runtime_status;
pub mod seen;
pub mod status;
pub mod time;
pub mod turn;

/// Where new ids come from; the caller's randomness, so that a simulation can repeat them (A5, A44).
pub trait Ids {
    /// 128 random bits for a new execution.
    fn execution(&mut self) -> id::ExecutionId;
    /// The next number for an instance's rows.
    fn instance_number(&mut self) -> id::InstanceNumber;
}
