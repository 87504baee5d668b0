//! A simulator: real partitions, the real dispatcher and a real store under one seeded scheduler with a
//! virtual clock, with clients, workers and faults drawn from the seed.
//!
//! ```text
//!   seed ──▶ World: clients ─▶ Partition ─▶ open group ─▶ Disk (crash at any call) ─▶ Journal
//!                    ▲   ▲         │                                                    │
//!                    │   └─ workers, Dispatcher ◀── held until durable                  ▼
//!                    └───────────── every answer is held against it ◀──────────── the reference
//! ```
//!
//! Everything happens on one thread and in an order that only the seed decides, so that a seed repeats its
//! trace to the byte. What became durable is folded a second time by a reference, which every answer, the
//! store and all histories are held against, after each step and at the end.

mod answers;
mod checks;
mod disk;
mod everywhere;
mod fault;
mod journal;
mod library;
mod lists;
mod machine;
mod plan;
mod record;
mod reference;
mod report;
mod rules;
mod scenario;
mod scripted;
mod shrink;
mod trace;
mod world;

use std::fmt;

pub use disk::Medium;
pub use everywhere::{Everywhere, crash_everywhere};
pub use fault::{Fault, Tally};
pub use report::{command, failure, seeds_with_reasons, table};
pub use shrink::{SHRINK_RUNS_MAX, SHRINK_STEPS_MAX, Shrunk, shrink};
pub use trace::Trace;
pub use world::{Bug, Config, Outcome, run};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which, by its number in the reliability rules; `panic` for a broken assertion, `liveness` for a hang.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self {
            invariant,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.invariant, self.what)
    }
}
