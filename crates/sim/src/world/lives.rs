//! How the node comes up, loses its memory, stops and dies.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{InstanceId, Name, Seq};
use taskhub_engine::clock::Steady;
use taskhub_engine::dispatcher::{Capacity, Dispatcher, Event};
use taskhub_engine::flaw::{Flaw, Flaws};
use taskhub_engine::partition::{Partition, Random, Setup};
use taskhub_engine::worker::{Offered, Worker};
use taskhub_store::{Claim, Error, Group, Lease, NodeId, PartitionKey, Previous, Recovered, Section, partition_of};

use super::work::{Job, JobKind};
use super::{Bug, Halt, Node, World};
use crate::disk::{CrashPoint, Trouble};
use crate::fault::Fault;
use crate::library::{LIBRARY, Library};
use crate::machine::SCRIPTED;
use crate::plan::Act;
use crate::scripted::Scripted;
use crate::{Violation, checks};

/// So few that the sweeps of a partition happen in small plans too.
const SWEEP_MIN: usize = 3;

impl Node {
    pub(super) fn new(id: NodeId, bug: Option<Bug>, rng: &mut Rng, steady: Steady) -> Self {
        let overall = *rng.choice(&[1, 3, 100]).unwrap_or(&1);
        let echo = rng.bool().then(|| (FoldedName::new(Name::stored(Act::Echo.name())), 1));
        let by_name: HashMap<FoldedName, usize> = echo.into_iter().collect();
        Self {
            id,
            steady: Cell::new(steady),
            partitions: BTreeMap::new(),
            leases: BTreeMap::new(),
            unclean: BTreeSet::new(),
            queues: BTreeMap::new(),
            activities_max: overall,
            dispatcher: Dispatcher::new(Capacity { overall, by_name }),
            scripted: Scripted::new(bug == Some(Bug::LiveOverReload)),
            library: Library::new(*rng.choice(&[0, 4_000, 1 << 20]).unwrap_or(&0)),
            open: Vec::new(),
            writing: None,
            held: Vec::new(),
            durable: BTreeMap::new(),
            turns_out: BTreeMap::new(),
            running: BTreeMap::new(),
            set_aside: Vec::new(),
            offered: Offered::default(),
            lost_activities: 0,
        }
    }

    /// Whether every orchestrator runs here.
    pub(super) fn offers_all(&self) -> bool {
        [SCRIPTED, LIBRARY]
            .iter()
            .all(|name| self.offered.has(&Name::stored(name)))
    }

    /// Drops what is kept live for an instance.
    pub(super) fn evict(&mut self, partition: &PartitionKey, instance: &InstanceId) {
        self.scripted.evict(partition, instance);
        self.library.0.evict(partition, instance);
    }
}

/// The orchestrators of a node: mostly all.
fn offered(rng: &mut Rng) -> Offered {
    let names: &[&str] = match rng.u8(..8) {
        0 => &[SCRIPTED],
        1 => &[LIBRARY],
        2 => &[],
        _ => return Offered::default(),
    };
    let names = names.iter().map(|name| FoldedName::new(Name::stored(name)));
    Offered::new(Some(names.collect()))
}

impl World {
    /// A process without memory. While there are faults it may lack functions.
    fn fresh_node(&mut self) -> Node {
        let steady = Steady::new(self.wall(), self.elapsed());
        let id = NodeId(self.node.id.0 + 1);
        let mut node = Node::new(id, self.bug, &mut self.rng, steady);
        if self.has_faults && !self.is_calm {
            node.offered = offered(&mut self.rng);
        }
        node
    }

    /// Draws the faults that strike between two moves.
    pub(super) fn strike(&mut self) -> Result<(), Halt> {
        if self.strikes(Fault::ClockBack) {
            self.clock_off -= self.rng.i64(1..50_000_000);
        }
        if self.strikes(Fault::ClockForth) {
            self.clock_off += self.rng.i64(1..50_000_000);
        }
        if self.strikes(Fault::LongPause) {
            self.now = self.now.plus(Duration::from_hours(self.rng.u64(20..30)));
        }
        let is_full = self.strikes(Fault::Full);
        let is_full_for_long = self.strikes(Fault::FullForLong);
        if is_full || is_full_for_long {
            let seconds = if is_full_for_long { 30..50 } else { 1..10 };
            self.full_until = self.now.plus(Duration::from_secs(self.rng.u64(seconds)));
        }
        if self.strikes(Fault::Reload) {
            self.reload(true)?;
        }
        if self.strikes(Fault::TurnBlocked) {
            let live = self.journal.present().filter(|book| book.state.is_live());
            let live: Vec<InstanceId> = live.map(|book| book.state.info.instance.clone()).collect();
            let reason = "a turn did not return".to_owned();
            let blocked = self.rng.choice(live).map(|instance| (instance, reason));
            self.node.set_aside.extend(blocked);
            self.reload(true)?;
        }
        if self.strikes(Fault::CleanRestart) {
            self.stop_and_start()?;
        }
        if self.strikes(Fault::Crash) {
            return Err(Halt::Crash);
        }
        Ok(())
    }

    /// What an error of the store means. Errors that the simulation makes up do not come this way.
    pub(super) fn halt(&mut self, trouble: Trouble) -> Halt {
        match trouble {
            Trouble::Crash { is_after } => {
                let fault = if is_after {
                    Fault::CrashAfterCall
                } else {
                    Fault::CrashBeforeCall
                };
                self.tally.count(fault);
                Halt::Crash
            }
            Trouble::Store(error @ Error::Stale { .. }) => Halt::Found(Violation::new("R188", error.to_string())),
            Trouble::Store(error) => Halt::Found(Violation::new("store", format!("{error} ({error:?})"))),
        }
    }

    pub(super) fn create_hub(&mut self) -> Result<(), Violation> {
        loop {
            let (hub, partitions, now) = (self.hub.clone(), self.partitions, self.node_time());
            match self.disk.write(|writer| writer.create_hub(&hub, partitions, now)) {
                Ok(_) | Err(Trouble::Store(Error::HubExists { .. })) => return Ok(()),
                Err(trouble) => match self.halt(trouble) {
                    Halt::Found(violation) => return Err(violation),
                    Halt::Crash | Halt::Reload => self.die()?,
                },
            }
        }
    }

    /// Brings the partitions up, as often as it takes.
    pub(super) fn restart(&mut self, is_first: bool) -> Result<(), Violation> {
        let mut is_first = is_first;
        loop {
            match self.boot(is_first) {
                Ok(()) => return Ok(()),
                Err(Halt::Found(violation)) => return Err(violation),
                Err(Halt::Reload) => self.forget(),
                Err(Halt::Crash) => {
                    self.die()?;
                    is_first = true;
                }
            }
        }
    }

    /// Claims, recovers and adopts every partition. Messages left in outboxes are handed on only when all
    /// partitions are there to take them.
    fn boot(&mut self, is_first: bool) -> Result<(), Halt> {
        self.trace.line(|| format!("boot first={is_first}"));
        let leases = self.claim(is_first)?;
        let mut recovered = Vec::new();
        for lease in leases {
            self.dispatch(Event::Reset(lease.partition.clone()))?;
            let items = self
                .disk
                .read(|reader| reader.recover(&lease))
                .map_err(|trouble| self.halt(trouble))?;
            recovered.push((lease, items));
        }
        self.settle_doubt(&recovered)?;
        checks::recovered(self, &recovered)?;
        let mut first = Vec::new();
        for (lease, items) in recovered {
            let index = lease.partition.index;
            self.node.leases.insert(index, lease.clone());
            let setup = Setup {
                lease,
                random: Random::Seeded(self.rng.u64(..)),
                memory_bytes_max: self.memory_bytes_max,
                orchestrators_offered: self.node.offered.clone(),
                set_aside: self.set_aside(index),
                out_of_service: Vec::new(),
                sweep_min: SWEEP_MIN,
                may_be_running: self.node.unclean.contains(&index),
                flaws: self.flaws(),
            };
            let mut out = Vec::new();
            let partition = Partition::recover(setup, items, self.node_time(), &mut out);
            self.node.durable.insert(index, partition.durable());
            self.node.partitions.insert(index, partition);
            self.node.queues.insert(index, VecDeque::new());
            if self.bug == Some(Bug::AdoptsOneByOne) {
                self.carry_out(index, std::mem::take(&mut out))?;
            }
            first.push((index, out));
        }
        self.node.unclean.clear();
        for (index, mut out) in first {
            if let Some(partition) = self.node.partitions.get_mut(&index) {
                partition.begin(&mut out);
            }
            self.carry_out(index, out)?;
            self.dispatch(Event::Announced(self.partition_key(index)))?;
            let epoch = self.epoch_of(index);
            self.after(
                0..3_000,
                JobKind::Fill {
                    index,
                    epoch,
                    after: None,
                },
            );
        }
        Ok(())
    }

    fn set_aside(&self, index: u16) -> Vec<(InstanceId, String)> {
        let all = self.node.set_aside.iter();
        let own = all.filter(|(instance, _)| partition_of(instance, self.partitions) == index);
        own.cloned().collect()
    }

    fn claim(&mut self, is_first: bool) -> Result<Vec<Lease>, Halt> {
        if self.bug == Some(Bug::EpochReused) && !is_first && !self.node.leases.is_empty() {
            return Ok(self.node.leases.values().cloned().collect());
        }
        let keys: Vec<_> = (0..self.partitions).map(|index| self.partition_key(index)).collect();
        let claim = Claim::new(self.node.id, &keys, self.node_time()).steal();
        let claimed = self.disk.write(|writer| writer.claim(&claim));
        let leases = claimed.map_err(|trouble| self.halt(trouble))?.leases;
        let unclean = leases.iter().filter(|lease| lease.previous == Previous::Other);
        self.node.unclean.extend(unclean.map(|lease| lease.partition.index));
        Ok(leases)
    }

    fn flaws(&self) -> Flaws {
        match self.bug {
            Some(Bug::TerminateWaitsForTurn) => Flaws::with(Flaw::TerminateWaitsForTurn),
            Some(Bug::MessagesSkipOutbox) => Flaws::with(Flaw::MessagesSkipOutbox),
            Some(Bug::ReceiptKeepsMessage) => Flaws::with(Flaw::ReceiptKeepsMessage),
            _ => Flaws::default(),
        }
    }

    /// Finds out what became of a group whose outcome is unknown: all of it or nothing (I10).
    fn settle_doubt(&mut self, recovered: &[(Lease, Vec<Recovered>)]) -> Result<(), Violation> {
        let Some((group, may_be_durable)) = self.in_doubt.take() else {
            return Ok(());
        };
        let mut there = Vec::new();
        for (lease, items) in recovered {
            let index = lease.partition.index;
            let of_partition = |section: &&Section| section.partition.index == index;
            let commits: usize = group
                .sections
                .iter()
                .filter(of_partition)
                .map(|section| section.commits.len())
                .sum();
            if commits == 0 {
                continue;
            }
            let before = self.journal.next_seq(index);
            let after = Seq(before.0 + commits as u64);
            match items.first() {
                Some(Recovered::Counters { next_seq, .. }) if *next_seq == before => there.push(false),
                Some(Recovered::Counters { next_seq, .. }) if *next_seq == after => there.push(true),
                other => {
                    return Err(Violation::new(
                        "I10",
                        format!("partition {index}: {other:?} after {before} or {after}"),
                    ));
                }
            }
        }
        let (all, any) = (
            there.iter().all(|is_there| *is_there),
            there.iter().any(|is_there| *is_there),
        );
        self.trace.line(|| format!("doubt durable={any}"));
        match (all, any) {
            (_, false) => Ok(()),
            (true, true) if may_be_durable => self.journal_group(&group),
            _ => Err(Violation::new(
                "I10",
                format!("a group is there in part, or was never sealed: {there:?}"),
            )),
        }
    }

    /// Takes a group into the reference.
    pub(super) fn journal_group(&mut self, group: &Group) -> Result<(), Violation> {
        self.tally.groups += 1;
        self.tally.commits += group
            .sections
            .iter()
            .map(|section| section.commits.len() as u64)
            .sum::<u64>();
        let known = self.journal.books.len();
        let applied = self.journal.apply(group);
        self.tally.instances += (self.journal.books.len() - known) as u64;
        applied
    }

    /// Drops the memory of all partitions and begins anew from the store (A1). In an orderly reload what was
    /// handed over by then is written first.
    pub(super) fn reload(&mut self, is_orderly: bool) -> Result<(), Violation> {
        self.tally.reloads += 1;
        self.trace.line(|| format!("{} reload orderly={is_orderly}", self.now));
        self.drop_partitions();
        let rest = self.node.open.clone();
        if is_orderly {
            match self.flush() {
                Ok(()) | Err(Halt::Reload) => {}
                Err(Halt::Crash) => return self.crash(),
                Err(Halt::Found(violation)) => return Err(violation),
            }
        }
        self.forget();
        self.reopen()?;
        if self.bug == Some(Bug::WritesAfterFailure) {
            self.write_rest(rest)?;
        }
        self.restart(false)
    }

    /// Writes what was handed over behind a group that failed, as far as the store takes it.
    fn write_rest(&mut self, rest: Vec<Section>) -> Result<(), Violation> {
        for section in rest {
            let group = Group {
                sections: vec![section],
            };
            if self.disk.force(&group).is_ok() {
                self.journal_group(&group)?;
            }
        }
        Ok(())
    }

    /// Stops the node as [`taskhub_engine::Hub::stop`] does, and starts it again.
    fn stop_and_start(&mut self) -> Result<(), Halt> {
        self.drop_partitions();
        self.flush()?;
        let leases: Vec<Lease> = std::mem::take(&mut self.node.leases).into_values().collect();
        self.disk
            .write(|writer| writer.release(&leases))
            .map_err(|trouble| self.halt(trouble))?;
        self.jobs.clear();
        self.forget();
        self.node = self.fresh_node();
        Ok(self.restart(true)?)
    }

    /// The process ends without a word.
    pub(super) fn crash(&mut self) -> Result<(), Violation> {
        self.die()?;
        self.restart(true)
    }

    fn die(&mut self) -> Result<(), Violation> {
        self.tally.crashes += 1;
        self.trace.line(|| format!("{} crash", self.now));
        self.forget();
        self.node = self.fresh_node();
        // Activities and reads end with the process; workers elsewhere may still answer.
        let outlives = |job: &Job| matches!(job.kind, JobKind::Answer { .. });
        self.jobs.retain(outlives);
        let has_struck = self.disk.crash_at.is_some_and(|point| point.call <= self.disk.calls);
        self.disk.crash_at = if !has_struck {
            self.disk.crash_at
        } else if self.has_faults && !self.is_calm && self.rng.u8(..3) > 0 {
            let call = self.disk.calls + self.rng.u64(1..200);
            Some(CrashPoint {
                call,
                is_after: self.rng.bool(),
            })
        } else {
            None
        };
        self.reopen()
    }

    fn drop_partitions(&mut self) {
        self.node.partitions.clear();
        self.node.queues.clear();
        self.node.turns_out.clear();
        for index in 0..self.partitions {
            let key = self.partition_key(index);
            self.node.library.0.forget(&key);
            if self.bug != Some(Bug::LiveOverReload) {
                self.node.scripted.forget(&key);
            }
        }
    }

    /// Drops what is not written, and all that waited for it: nobody is told what is now forgotten (A1).
    fn forget(&mut self) {
        self.drop_partitions();
        if let Some(writing) = self.node.writing.take() {
            self.in_doubt = Some((writing.group, writing.is_sealing));
        }
        self.node.open.clear();
        self.node.held.clear();
        self.give_up_requests();
    }

    fn reopen(&mut self) -> Result<(), Violation> {
        let opened = self
            .disk
            .reopen()
            .map_err(|error| Violation::new("I12", format!("the store does not open: {error}")));
        opened?;
        let (Some(bug), Some((group, may_be_durable))) = (self.bug, &mut self.in_doubt) else {
            return Ok(());
        };
        let torn = match bug {
            Bug::HalfGroup => super::groups::half_group(group),
            Bug::HalfCommit => super::groups::half_commit(group),
            _ => return Ok(()),
        };
        // A group that was sealed may be there already, and is then refused as a repetition.
        let is_torn = self.disk.force(&torn).is_ok();
        *may_be_durable |= is_torn;
        self.trace.line(|| format!("torn group {is_torn}"));
        Ok(())
    }
}
