//! Makes a scenario that breaks a rule smaller, as long as it breaks the same rule.
//!
//! Whatever is left out changes the order of all that follows, so that a smaller scenario is tried under several schedules.
//! The candidates, their order and their schedules depend on nothing but the scenario: the same failure shrinks to the same.

use std::fmt;

use taskhub_core::message::ReusePolicy;
use taskhub_engine::io::Request;

use crate::Violation;
use crate::plan::Plan;
use crate::scenario::{Asked, Requests, Scenario};
use crate::world::{Config, Outcome, run, run_scenario};

/// Simulations that shrinking takes at most.
pub const SHRINK_RUNS_MAX: u32 = 3_000;
/// Steps of the scheduler that they take at most, all together: one that does not come to rest takes more than a hundred others.
pub const SHRINK_STEPS_MAX: u64 = 1_500_000;

/// Schedules that a smaller scenario is tried under, that of the larger one first.
const SCHEDULES: u64 = 4;

/// The smallest scenario that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    scenario: Scenario,
    /// What it violates.
    pub violation: Violation,
    /// Simulations that it took to find it.
    pub runs: u32,
}

impl Shrunk {
    /// Its requests, and the steps of the plans that they start.
    pub fn steps(&self) -> usize {
        self.scenario.steps()
    }

    /// Runs it again.
    pub fn run(&self, config: &Config) -> Outcome {
        run_scenario(config, self.scenario.clone())
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "smallest of {} runs that breaks the same rule, in {} steps: {}",
            self.runs,
            self.steps(),
            self.violation
        )?;
        self.scenario.fmt(out)
    }
}

/// Runs a simulation, and makes it smaller if it breaks a rule.
pub fn shrink(config: &Config) -> Option<Shrunk> {
    let outcome = run(config);
    let (_, violation) = outcome.failure?;
    let mut shrinking = Shrinking {
        config,
        found: Shrunk {
            scenario: outcome.scenario,
            violation,
            runs: 1,
        },
        steps: outcome.tally.steps,
    };
    // Until nothing more can go: what one kind of change leaves is often let go by the next.
    while shrinking.round() {}
    Some(shrinking.found)
}

struct Shrinking<'a> {
    config: &'a Config,
    found: Shrunk,
    steps: u64,
}

impl Shrinking<'_> {
    fn round(&mut self) -> bool {
        let mut shrank = self.fewer_requests();
        shrank |= self.fewer_faults();
        shrank |= self.simpler_world();
        shrank |= self.simpler_requests();
        shrank
    }

    fn is_spent(&self) -> bool {
        self.found.runs >= SHRINK_RUNS_MAX || self.steps >= SHRINK_STEPS_MAX
    }

    /// Takes a candidate that breaks the same rule under one of the schedules.
    fn takes(&mut self, candidate: &Scenario) -> bool {
        for extra in 0..SCHEDULES {
            if self.is_spent() {
                return false;
            }
            let schedule = if extra == 0 { candidate.schedule } else { extra };
            let candidate = Scenario {
                schedule,
                ..candidate.clone()
            };
            let outcome = run_scenario(self.config, candidate);
            self.found.runs += 1;
            self.steps += outcome.tally.steps;
            if let Some((_, violation)) = outcome.failure
                && violation.invariant == self.found.violation.invariant
            {
                self.found.violation = violation;
                self.found.scenario = outcome.scenario;
                return true;
            }
        }
        false
    }

    fn changed(&self, change: impl FnOnce(&mut Scenario)) -> Scenario {
        let mut scenario = self.found.scenario.clone();
        change(&mut scenario);
        scenario
    }

    fn with_requests(&self, asked: Vec<Asked>) -> Scenario {
        self.changed(|scenario| scenario.requests = Requests::Given(asked))
    }

    /// Leaves out half of the requests, then quarters, and so on down to single ones.
    fn fewer_requests(&mut self) -> bool {
        let mut shrank = false;
        let mut length = self.found.scenario.asked().len().div_ceil(2);
        while length > 0 {
            let mut from = 0;
            while from < self.found.scenario.asked().len() {
                let mut asked = self.found.scenario.asked().to_vec();
                let upto = asked.len().min(from + length);
                asked.drain(from..upto);
                if self.takes(&self.with_requests(asked)) {
                    shrank = true;
                } else {
                    from += length;
                }
            }
            length /= 2;
        }
        shrank
    }

    fn fewer_faults(&mut self) -> bool {
        let mut shrank = false;
        let faults: Vec<_> = self.found.scenario.rates.iter().map(|(fault, _)| fault).collect();
        for fault in faults {
            shrank |= self.takes(&self.changed(|scenario| scenario.rates.set(fault, 0)));
        }
        if self.found.scenario.crash_at.is_some() {
            shrank |= self.takes(&self.changed(|scenario| scenario.crash_at = None));
        }
        shrank
    }

    fn simpler_world(&mut self) -> bool {
        /// Memory for all instances of a simulation.
        const AMPLE: usize = 1 << 20;
        let mut shrank = false;
        while self.found.scenario.partitions > 1 && self.takes(&self.changed(|scenario| scenario.partitions /= 2)) {
            shrank = true;
        }
        if self.found.scenario.remote_percent > 0 {
            shrank |= self.takes(&self.changed(|scenario| scenario.remote_percent = 0));
        }
        if self.found.scenario.group_commits_max > 1 {
            shrank |= self.takes(&self.changed(|scenario| scenario.group_commits_max = 1));
        }
        if self.found.scenario.memory_bytes_max < AMPLE {
            shrank |= self.takes(&self.changed(|scenario| scenario.memory_bytes_max = AMPLE));
        }
        shrank
    }

    fn simpler_requests(&mut self) -> bool {
        let mut shrank = false;
        for index in 0..self.found.scenario.asked().len() {
            while let Some(asked) = self.found.scenario.asked().get(index) {
                let simpler = simpler(asked);
                let took = simpler.into_iter().any(|simpler| {
                    let mut asked = self.found.scenario.asked().to_vec();
                    if let Some(place) = asked.get_mut(index) {
                        *place = simpler;
                    }
                    self.takes(&self.with_requests(asked))
                });
                if !took {
                    break;
                }
                shrank = true;
            }
        }
        shrank
    }
}

/// Requests like this one that ask for less, the simplest first. None is as it was.
fn simpler(asked: &Asked) -> Vec<Asked> {
    let mut all = Vec::new();
    if asked.pause > 0 {
        all.push(Asked {
            pause: asked.pause / 2,
            ..asked.clone()
        });
    }
    let Request::Start(start) = &asked.request else {
        return all;
    };
    let plans = asked.plan().map(|plan| plan.simpler()).unwrap_or_default();
    all.extend(
        plans
            .iter()
            .map(|plan| started(asked, |start| start.input = Some(Plan::payload(plan)))),
    );
    if start.scheduled_start.is_some() {
        all.push(started(asked, |start| start.scheduled_start = None));
    }
    if start.key.is_some() {
        all.push(started(asked, |start| start.key = None));
    }
    if start.reuse != ReusePolicy::ReplaceEnded {
        all.push(started(asked, |start| start.reuse = ReusePolicy::ReplaceEnded));
    }
    all
}

fn started(asked: &Asked, change: impl FnOnce(&mut taskhub_core::message::StartRequest)) -> Asked {
    let mut asked = asked.clone();
    if let Request::Start(start) = &mut asked.request {
        change(start);
    }
    asked
}
