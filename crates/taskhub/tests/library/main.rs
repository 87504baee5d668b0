//! What a program that uses the library sees. One program, since each is linked anew.

mod attempts;
mod blocked_turns;
mod calls;
mod clock;
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod documents;
mod errors;
mod events_and_timers;
mod hub;
mod hubs_of_a_store;
mod levels;
mod long_failures;
mod names;
mod surface;
mod test_hub;
mod turns;
mod values;
mod worker;
