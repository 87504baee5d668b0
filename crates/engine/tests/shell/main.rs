//! The shell: threads, group commit, reloads, stop. Each file is one side of it.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;
mod damaged;
mod elsewhere;
mod failing;
mod hubs;
mod nodes;
mod order;
mod refused;
mod running;
mod slow;
mod stopping;
