//! Everything of a simulation but the order in which things happen: what is drawn first from a seed, or given in writing.
//!
//! A scenario that was run knows its requests one by one, so that it can be run again without some of them.

use std::fmt;

use fastrand::Rng;
use taskhub_core::id::InstanceId;
use taskhub_engine::io::Request;

use crate::disk::CrashPoint;
use crate::fault::{Fault, Rates};
use crate::plan::Plan;
use crate::world::{Bug, Config};

/// Its parts.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Seed of the scheduler, and of everything else that is drawn while it runs.
    pub(crate) schedule: u64,
    pub(crate) partitions: u16,
    pub(crate) rates: Rates,
    pub(crate) crash_at: Option<CrashPoint>,
    pub(crate) requests: Requests,
    /// Longest pause between two requests that are drawn, in microseconds.
    pub(crate) pause_max: u64,
    /// Share of turns that are answered later, in percent.
    pub(crate) remote_percent: u32,
    pub(crate) group_commits_max: usize,
    /// How soon a round of a partition thread ends: the weight of that among the other moves.
    pub(crate) round_weight: u32,
    pub(crate) memory_bytes_max: usize,
}

/// What clients ask for.
#[derive(Clone, Debug)]
pub(crate) enum Requests {
    /// So many requests, each drawn when its moment comes.
    Drawn(u32),
    /// These.
    Given(Vec<Asked>),
}

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) instance: InstanceId,
    pub(crate) request: Request,
    pub(crate) tag: String,
    /// It is sent in the same moment as the one before it.
    pub(crate) is_at_once: bool,
    /// Pause until the next one, in microseconds.
    pub(crate) pause: u64,
}

impl Scenario {
    /// Draws one.
    pub(crate) fn drawn(config: &Config) -> Self {
        let mut rng = Rng::with_seed(config.seed);
        let mut rates = Rates::default();
        if config.has_faults {
            rates = Rates::random(&mut rng);
        }
        let mut crash_at = config.crash_at.map(|(call, is_after)| CrashPoint { call, is_after });
        if config.has_faults && rng.bool() {
            crash_at = Some(CrashPoint {
                call: rng.u64(1..300),
                is_after: rng.bool(),
            });
        }
        let budgets = [0, 2_000, 20_000, 1 << 20];
        let mut scenario = Self {
            schedule: rng.u64(..),
            partitions: rng.u16(1..=4),
            rates,
            crash_at,
            requests: Requests::Drawn(if config.is_small {
                rng.u32(4..=8)
            } else {
                rng.u32(10..=60)
            }),
            pause_max: *rng.choice(&[1, 5_000, 500_000]).unwrap_or(&1),
            remote_percent: *rng.choice(&[0, 30, 100]).unwrap_or(&0),
            group_commits_max: *rng.choice(&[1, 3, 8, 64]).unwrap_or(&1),
            round_weight: *rng.choice(&[2, 20, 200]).unwrap_or(&20),
            memory_bytes_max: *rng.choice(&budgets).unwrap_or(&0),
        };
        scenario.sharpen(config.bug);
        scenario
    }

    /// Some bugs show only under certain faults; the others then have no need of luck.
    fn sharpen(&mut self, bug: Option<Bug>) {
        match bug {
            None | Some(Bug::TerminateWaitsForTurn | Bug::EarlyRelease) => {}
            Some(Bug::EpochReused) => {
                // Answers must outlive the memory they were made from.
                for fault in [Fault::AnswerDelayed, Fault::AnswerDoubled] {
                    self.rates.set(fault, 4_000);
                }
                self.rates.set(Fault::GroupLost, 1_000);
                self.remote_percent = 100;
            }
            Some(
                Bug::LiveOverReload
                | Bug::MessagesSkipOutbox
                | Bug::ReceiptKeepsMessage
                | Bug::RepetitionsPass
                | Bug::ClaimsBeforeFlush
                | Bug::AcceptsAfterFailure,
            ) => {
                self.rates.set(Fault::GroupLost, 500);
                self.rates.set(Fault::Reload, 30);
                self.rates.set(Fault::PartitionBroken, 100);
            }
            Some(Bug::AwayLosesMessages) => {
                // Whatever else has partitions read anew finds what was lost.
                self.rates = Rates::default();
                self.rates.set(Fault::PartitionBroken, 100);
                // Much must be on its way, and be written late.
                self.partitions = 4;
                (self.group_commits_max, self.pause_max) = (1, 1);
                self.crash_at = None;
            }
            Some(Bug::FailedReadIsForgotten) => {
                self.rates.set(Fault::CallFailed, 800);
                self.memory_bytes_max = 0;
            }
            Some(Bug::FailedSealPasses) => {
                self.rates = Rates::default();
                self.rates.set(Fault::DiskWriteFailed, 200);
                self.rates.set(Fault::DiskSyncFailed, 200);
            }
            Some(Bug::LateTicks) => self.rates = Rates::default(),
            Some(Bug::HalfGroup | Bug::HalfCommit) => self.rates.set(Fault::CrashInGroup, 500),
        }
    }

    /// Its requests, as far as they are known.
    pub(crate) fn asked(&self) -> &[Asked] {
        match &self.requests {
            Requests::Drawn(_) => &[],
            Requests::Given(given) => given,
        }
    }

    /// Requests, and steps of the plans that they start.
    pub(crate) fn steps(&self) -> usize {
        self.asked().iter().map(|asked| 1 + asked.plan_steps()).sum()
    }
}

impl Asked {
    /// The plan that it starts.
    pub(crate) fn plan(&self) -> Option<Plan> {
        match &self.request {
            Request::Start(start) => Plan::read(start.input.as_ref()),
            _ => None,
        }
    }

    fn plan_steps(&self) -> usize {
        self.plan().map_or(0, |plan| plan.len())
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "  {} partitions, groups of {}, {} bytes of memory, {} % of turns at workers elsewhere, schedule {}",
            self.partitions, self.group_commits_max, self.memory_bytes_max, self.remote_percent, self.schedule
        )?;
        for (fault, rate) in self.rates.iter() {
            writeln!(out, "  {fault:?} {rate} times in 10000")?;
        }
        if let Some(CrashPoint { call, is_after }) = self.crash_at {
            let moment = if is_after { "after" } else { "before" };
            writeln!(out, "  crash {moment} call {call} of the store")?;
        }
        for asked in self.asked() {
            let sign = if asked.is_at_once { '&' } else { '-' };
            write!(out, "  {sign} {} `{}` ", asked.tag, asked.instance)?;
            match (&asked.request, asked.plan()) {
                (Request::Start(start), Some(plan)) => {
                    let key = if start.key.is_some() { " with a key" } else { "" };
                    let planned = if start.scheduled_start.is_some() { " later" } else { "" };
                    write!(out, "start{planned}{key} {} {plan} {:?}", start.name, start.reuse)?;
                }
                (request, _) => write!(out, "{request:?}")?,
            }
            writeln!(out, ", then {} us", asked.pause)?;
        }
        Ok(())
    }
}
