//! A crash at every call of the store, one after the other, until the plan is over before the crash.

use crate::disk::Medium;
use crate::fault::Tally;
use crate::world::{Config, Outcome, run};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Everywhere {
    /// What happened in all of the runs.
    pub tally: Tally,
    /// Calls at which the node crashed.
    pub calls: u64,
    /// The first run that failed, with its crash point.
    pub failure: Option<((u64, bool), Box<Outcome>)>,
}

/// Repeats a small simulation with a crash before and after its first call of the store, its second, and so on.
pub fn crash_everywhere(seed: u64, medium: Medium) -> Everywhere {
    let mut found = Everywhere {
        tally: Tally::default(),
        calls: 0,
        failure: None,
    };
    for call in 1.. {
        for is_after in [false, true] {
            let config = Config {
                has_faults: false,
                is_small: true,
                crash_at: Some((call, is_after)),
                ..Config::new(seed, medium)
            };
            let outcome = run(&config);
            found.tally.add(&outcome.tally);
            if outcome.failure.is_some() {
                found.failure = Some(((call, is_after), Box::new(outcome)));
                return found;
            }
            if outcome.tally.crashes == 0 {
                return found;
            }
        }
        found.calls = call;
    }
    found
}
