//! Runs a hub: queues, turns, timers, dispatch and group commit around the pure core.

mod admission;
pub mod clock;
mod committer;
mod common;
pub mod dispatcher;
mod error;
mod executor;
pub mod flaw;
pub mod group;
pub mod hub;
pub mod io;
mod link;
mod node;
mod offline;
mod open_group;
mod options;
pub mod partition;
mod purge;
mod queue;
mod reply;
mod run;
mod shared;
mod slot;
pub mod supervision;
mod thread;
pub mod timers;
mod watchdog;
pub mod worker;
pub mod writing;

use std::time::Duration;

pub use error::{Error, chain};
pub use hub::{Hub, Trouble};
pub use io::WaitFor;
pub use link::Report;
pub use node::Node;
pub use offline::OfflineHub;
pub use options::Options;

/// Pause before the delivery after `attempts` failed ones: 1 s, doubling, at most 5 min (R184).
fn backoff(attempts: u32) -> Duration {
    const PAUSE_MAX: Duration = Duration::from_mins(5);
    Duration::from_secs(1 << attempts.saturating_sub(1).min(9)).min(PAUSE_MAX)
}
