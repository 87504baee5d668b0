//! Tests of built programs from outside: they are killed, stopped and traced, and what they left on disk
//! is checked without them.
//!
//! ```text
//!   kills ──starts, kills──▶ kill-target ──facts──▶ kills     (a line each, flushed at once)
//!     └──▶ checker ──▶ the store that is left
//! ```

pub mod checker;
pub mod door;
pub mod facts;
pub mod kills;
pub mod life;
pub mod split;
pub mod table;
pub mod target;
pub mod trace;
pub mod workload;

/// An error that stops a driver. A violation is not an error but a finding.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The machine's time, by which drivers measure and wait.
#[expect(clippy::disallowed_methods, reason = "a driver measures the machine")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
