//! The management API in the test's process: what needs a store with gates, a hub to take hold of, keys, or limits
//! that the binary has no option for. The article, the table of states and operations and wrong input are run
//! against the built binary, in `crates/cli/tests/http/`.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

mod access;
mod attacks;
mod border;
mod damaged;
mod large;
mod levels;
mod library;
mod lists;
mod queries;
mod streams;
mod support;
mod trouble;
mod two;
mod wire;
