//! The simulated world: a node, its store, its clients and workers, and time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use taskhub_core::id::{Fence, HubName, InstanceId};
use taskhub_core::time::Timestamp;
use taskhub_engine::clock::Steady;
use taskhub_engine::dispatcher::{Dispatcher, Token};
use taskhub_engine::group::{Batch, Gathering};
use taskhub_engine::io::Input;
use taskhub_engine::partition::{Destination, Partition};
use taskhub_engine::supervision::{Order, Supervision};
use taskhub_engine::worker::{Offered as Offers, TaskKey};
use taskhub_engine::writing::Ledger;
use taskhub_store::{Extent, Group, Lease, NodeId, PartitionKey, Recovered};

use crate::disk::{Disk, Medium};
use crate::fault::{Fault, Rates, Tally};
use crate::journal::Journal;
use crate::library::Library;
use crate::scenario::{Asked, Requests, Scenario};
use crate::scripted::Scripted;
use crate::trace::Trace;
use crate::{Violation, checks};

mod calm;
mod clients;
mod groups;
mod lives;
mod reads;
mod schedule;
mod shell;
mod timing;
mod work;

pub(crate) use clients::{Op, OpState};
use groups::Offered;
use work::Job;

/// A bug that is put in on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A reload does not claim, so that tokens are issued a second time (against A21).
    EpochReused,
    /// Live orchestrators survive a reload and are trusted (against A22).
    LiveOverReload,
    /// Terminate waits for the turn that is out (against A25).
    TerminateWaitsForTurn,
    /// Messages are handed over in memory only (against A29).
    MessagesSkipOutbox,
    /// The receipt of a message leaves it in the outbox (against A29).
    ReceiptKeepsMessage,
    /// A group that fails leaves half of its commits behind (against P2).
    HalfGroup,
    /// A group that fails leaves half of a commit behind (against R26).
    HalfCommit,
    /// Messages to a partition that is read anew are not kept (against A29).
    AwayLosesMessages,
    /// What a partition has recovered is taken in again when it is told again (against A29).
    RepetitionsPass,
    /// Partitions are claimed before what they handed over is written (against A21).
    ClaimsBeforeFlush,
    /// What is made on top of a group that failed is taken for writing (against A1).
    AcceptsAfterFailure,
    /// Effects are let go before their commits are durable (against A36).
    EarlyRelease,
    /// A group whose sealing the disk refused is taken for durable (against P1).
    FailedSealPasses,
    /// A read that failed is not made again.
    FailedReadIsForgotten,
    /// A partition is not told that time has passed for a while.
    LateTicks,
}

impl Bug {
    /// Rules by which it is found, whichever of them the seed meets first.
    pub fn found_by(self) -> &'static [&'static str] {
        match self {
            // An answer counts for a turn that it was not made for.
            Self::EpochReused => &["I1", "I2", "I4", "I9", "liveness", "panic"],
            // It asks for what its history does not have, or waits for what came already.
            // A later commit does not fit, something is asked for that is not there, or is there after a restart only in part.
            Self::FailedSealPasses => &["I1", "I4", "I5", "I10"],
            Self::FailedReadIsForgotten => &["I1", "liveness"],
            Self::LateTicks => &["I6"],
            Self::LiveOverReload => &["I9", "liveness"],
            Self::AwayLosesMessages => &["I5", "liveness"],
            Self::TerminateWaitsForTurn | Self::EarlyRelease => &["I1"],
            Self::MessagesSkipOutbox => &["I5", "R188"],
            Self::ReceiptKeepsMessage => &["I5"],
            Self::RepetitionsPass => &["R188"],
            Self::ClaimsBeforeFlush => &["A21", "I4"],
            // The store may have what a commit was made on top of, or not.
            Self::AcceptsAfterFailure => &["I4", "I10", "R188"],
            Self::HalfGroup => &["I10"],
            // Its state, or what is recovered, is another one.
            Self::HalfCommit => &["I1", "I10"],
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Config {
    /// Decides everything that is not said here.
    pub seed: u64,
    /// Where the hub is kept.
    pub medium: Medium,
    /// The bug that is put in.
    pub bug: Option<Bug>,
    /// Whether faults strike at rates drawn from the seed.
    pub has_faults: bool,
    /// A few requests only.
    pub is_small: bool,
    /// The store call at which the node crashes, and whether the call is done first.
    pub crash_at: Option<(u64, bool)>,
    /// What is kept of the trace.
    pub trace: Trace,
}

impl Config {
    /// The usual simulation of a seed.
    pub fn new(seed: u64, medium: Medium) -> Self {
        Self {
            seed,
            medium,
            bug: None,
            has_faults: true,
            is_small: false,
            crash_at: None,
            trace: Trace::Off,
        }
    }
}

/// How a simulation went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened in it.
    pub tally: Tally,
    /// Its trace, as far as asked for.
    pub trace: Trace,
    /// The first rule that did not hold, and the step at which it was seen.
    pub failure: Option<(u64, Violation)>,
    /// Calls of the store.
    pub store_calls: u64,
    /// What was run, with the requests that were drawn.
    pub(crate) scenario: Scenario,
}

/// Simulates.
pub fn run(config: &Config) -> Outcome {
    run_scenario(config, Scenario::drawn(config))
}

/// Simulates a scenario, which says all that the seed does not any more.
pub(crate) fn run_scenario(config: &Config, mut scenario: Scenario) -> Outcome {
    let mut world = match World::new(config, scenario.clone()) {
        Ok(world) => world,
        Err(error) => {
            let violation = Violation::new("store", format!("the store does not open: {error}"));
            let (tally, trace) = (Tally::default(), config.trace.clone());
            return Outcome {
                tally,
                trace,
                failure: Some((0, violation)),
                store_calls: 0,
                scenario,
            };
        }
    };
    // A broken assertion leaves nothing that is looked at again but the trace and the counts.
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some((world.tally.steps, violation)),
        Err(panic) => Some((world.tally.steps, Violation::new("panic", panic_text(panic.as_ref())))),
    };
    if let Some((_, violation)) = &failure {
        world.trace.line(|| format!("violated {violation}"));
    }
    world.tally.runs = 1;
    if matches!(scenario.requests, Requests::Drawn(_)) {
        scenario.requests = Requests::Given(world.asked);
    }
    Outcome {
        tally: world.tally,
        trace: world.trace,
        failure,
        store_calls: world.disk.calls,
        scenario,
    }
}

/// An instance in the middle of a simulation that waits for something and has something unread, and what is stored of it.
#[cfg(test)]
pub(crate) fn some_instance_of(config: &Config) -> Option<Stored> {
    let mut world = World::new(config, Scenario::drawn(config)).ok()?;
    world.create_hub().ok()?;
    for _ in 0..1_000 {
        world.step().ok()?;
        let waits = |book: &&crate::journal::Book| !book.state.inbox.is_empty() && !book.state.open.is_empty();
        let Some(book) = world.journal.present().find(waits) else {
            continue;
        };
        let (reference, events) = (book.state.clone(), book.events().to_vec());
        let instance = reference.info.instance.clone();
        let key = world.partition_key(taskhub_store::partition_of(&instance, world.partitions));
        let loaded = world.disk.look(|reader| reader.load(&key, &[instance])).ok()?;
        return Some((reference, loaded.into_iter().flatten().next()?, events));
    }
    None
}

/// The first group of a simulation, if all it does is to create one instance, and the number of partitions.
#[cfg(test)]
pub(crate) fn first_creation_of(config: &Config) -> Option<(u16, Group)> {
    let mut world = World::new(config, Scenario::drawn(config)).ok()?;
    world.create_hub().ok()?;
    for _ in 0..1_000 {
        world.step().ok()?;
        let Some(writing) = world.node.writing.take() else {
            continue;
        };
        let (group, _) = writing.doubt();
        let [section] = group.sections.as_slice() else {
            return None;
        };
        let [commit] = section.commits.as_slice() else {
            return None;
        };
        let creates = matches!(commit.change, Some(taskhub_core::commit::Change::Create(_)));
        return creates.then(|| {
            let sections = group.sections.clone();
            (world.partitions, Group { sections })
        });
    }
    None
}

#[cfg(test)]
type Stored = (
    crate::reference::Reference,
    taskhub_core::instance::InstanceState,
    Vec<taskhub_core::event::HistoryEvent>,
);

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without a text".to_owned())
}

/// Where an answer goes: the request's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplyTo(pub(crate) usize);

impl Destination for ReplyTo {
    fn is_gone(&self) -> bool {
        false
    }
}

/// Why a step did not end as planned.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The node is dead.
    Crash,
    /// The memory of the partitions must be dropped.
    Reload,
    /// A rule does not hold.
    Found(Violation),
}

impl From<Violation> for Halt {
    fn from(violation: Violation) -> Self {
        Self::Found(violation)
    }
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hub: HubName,
    pub(crate) partitions: u16,
    bug: Option<Bug>,
    pub(crate) rng: Rng,
    /// Draws what clients ask for, so that the rest goes the same way when that is given.
    clients: Rng,
    rates: Rates,
    has_faults: bool,
    now: Timestamp,
    /// How far the machine's clock is off, in ticks of 100 ns.
    clock_off: i64,
    pub(crate) disk: Disk,
    full_until: Timestamp,
    /// A group whose outcome is not known, and whether it can have become durable.
    in_doubt: Option<(Arc<Group>, bool)>,
    pub(crate) journal: Journal,
    node: Node,
    /// What goes on outside the memory of the partitions: reads, workers, activities.
    jobs: Vec<Job>,
    pub(crate) ops: Vec<Op>,
    ops_left: u32,
    /// The requests, if they are given, that were not sent yet.
    given: Option<VecDeque<Asked>>,
    /// Those that were sent before all became calm.
    asked: Vec<Asked>,
    /// Longest pause between two requests, in microseconds.
    pause_max: u64,
    next_request_at: Timestamp,
    tags: u32,
    activity_runs: u32,
    /// Share of turns that are answered later, in percent.
    remote_percent: u32,
    group_commits_max: usize,
    /// How soon a round ends: the weight of that among the other moves.
    round_weight: u32,
    memory_bytes_max: usize,
    is_calm: bool,
    /// When all was done that was left when the faults stopped, by the node's time: from then on timers fire on time.
    settled_at: Option<Timestamp>,
    pub(crate) tally: Tally,
    trace: Trace,
}

/// Keeps what clients draw apart from what the scheduler draws.
const CLIENTS: u64 = 0x636c_6965_6e74_7321;

/// When the world begins.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// What a crash takes away.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a state of the node of its own, and any may come with any"
)]
struct Node {
    /// Each life has another number.
    id: NodeId,
    /// The time it goes by.
    steady: Cell<Steady>,
    partitions: BTreeMap<u16, Partition<ReplyTo>>,
    leases: BTreeMap<u16, Lease>,
    supervision: Supervision,
    /// What it has said is to be done.
    order: Option<Order>,
    /// What was read to be served.
    read: Vec<(Lease, Vec<Recovered>)>,
    /// Another node has taken the partitions.
    is_fenced: bool,
    /// Partitions that are read anew while others go on.
    away: BTreeSet<u16>,
    /// The partitions do nothing that adds work.
    is_idle: bool,
    /// The store has refused a group for want of room.
    is_full: bool,
    failed_groups: u32,
    /// Number of the batch before which everything is to be written.
    flush_upto: u64,
    /// An instance of which nothing can be written.
    damaged: Option<(InstanceId, Extent)>,
    /// Nothing that adds work can be written any more.
    is_damaged: bool,
    /// How often instances broke something. They are not run any more while the node lives, and then not even looked at.
    broken: BTreeMap<InstanceId, u32>,
    queues: BTreeMap<u16, VecDeque<Input<ReplyTo>>>,
    activities_max: usize,
    dispatcher: Dispatcher,
    scripted: Scripted,
    library: Library,
    /// What the round that is under way has made.
    batch: Batch<ReplyTo>,
    gathering: Gathering<ReplyTo>,
    writing: Option<Offered>,
    ledger: Ledger,
    /// Turns that are out, by instance.
    turns_out: BTreeMap<InstanceId, Fence>,
    /// Activities that run, by their tokens.
    running: BTreeMap<TaskKey, Token>,
    /// The orchestrators that run on it.
    offered: Offers,
    /// Activities whose worker is gone.
    lost_activities: u32,
}

impl World {
    fn new(config: &Config, scenario: Scenario) -> Result<Self, taskhub_store::Error> {
        let mut rng = Rng::with_seed(scenario.schedule);
        let partitions = scenario.partitions;
        let mut disk = Disk::new(config.medium)?;
        disk.crash_at = scenario.crash_at;
        let (given, ops_left) = match &scenario.requests {
            Requests::Drawn(count) => (None, *count),
            Requests::Given(asked) => {
                let moments = asked.iter().filter(|asked| !asked.is_at_once).count();
                let given: VecDeque<Asked> = asked.iter().cloned().collect();
                (Some(given), u32::try_from(moments).unwrap_or(u32::MAX))
            }
        };
        let clients = Rng::with_seed(config.seed ^ CLIENTS);
        Ok(Self {
            hub: HubName::new("sim").map_err(|_| taskhub_store::Error::Full)?,
            partitions,
            bug: config.bug,
            rates: scenario.rates,
            has_faults: config.has_faults,
            now: START,
            clock_off: 0,
            disk,
            full_until: Timestamp::default(),
            in_doubt: None,
            journal: Journal::new(partitions),
            node: Node::new(
                NodeId(1),
                partitions,
                config.bug,
                scenario.group_commits_max,
                &mut rng,
                Steady::new(START, Duration::ZERO),
            ),
            jobs: Vec::new(),
            ops: Vec::new(),
            ops_left,
            given,
            asked: Vec::new(),
            pause_max: scenario.pause_max,
            next_request_at: Timestamp::default(),
            tags: 0,
            activity_runs: 0,
            remote_percent: scenario.remote_percent,
            group_commits_max: scenario.group_commits_max,
            round_weight: scenario.round_weight,
            memory_bytes_max: scenario.memory_bytes_max,
            is_calm: false,
            settled_at: None,
            tally: Tally::default(),
            trace: config.trace.clone(),
            clients,
            rng,
        })
    }

    fn run(&mut self) -> Result<(), Violation> {
        self.create_hub()?;
        while self.step()? {}
        self.come_to_rest()?;
        checks::at_the_end(self)
    }

    /// The time that the node goes by, made of a machine's clock that is set back and forth.
    pub(crate) fn node_time(&self) -> Timestamp {
        let mut steady = self.node.steady.get();
        let told = steady.read(self.wall(), self.elapsed());
        self.node.steady.set(steady);
        told
    }

    /// The machine's clock.
    fn wall(&self) -> Timestamp {
        Timestamp::from_ticks(self.now.ticks() + self.clock_off).cut()
    }

    /// What nobody can set.
    fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = !self.is_calm && self.rates.strikes(fault, &mut self.rng);
        self.note(fault, strikes)
    }

    /// The same for a fault of the clients.
    fn clients_do(&mut self, fault: Fault) -> bool {
        let strikes = !self.is_calm && self.rates.strikes(fault, &mut self.clients);
        self.note(fault, strikes)
    }

    fn note(&mut self, fault: Fault, strikes: bool) -> bool {
        if strikes {
            self.tally.count(fault);
            self.trace.line(|| format!("{} fault {fault:?}", self.now));
        }
        strikes
    }

    pub(crate) fn partition_key(&self, index: u16) -> PartitionKey {
        PartitionKey {
            hub: self.hub.clone(),
            index,
        }
    }
}

/// Times are cut to whole microseconds, as the clock gives them (R198).
trait Cut {
    fn cut(self) -> Self;
}

impl Cut for Timestamp {
    fn cut(self) -> Self {
        Self::from_micros(self.micros())
    }
}
