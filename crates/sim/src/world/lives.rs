//! How the node comes up, loses its memory, stops and dies.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use fastrand::Rng;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{InstanceId, Name, Seq};
use taskhub_engine::clock::Steady;
use taskhub_engine::dispatcher::{Capacity, Dispatcher, Event};
use taskhub_engine::flaw::{Flaw, Flaws};
use taskhub_engine::group::{Batch, GROUP_BYTES_MAX, Gathering, Limits};
use taskhub_engine::io::Input;
use taskhub_engine::partition::{Partition, Random, Setup};
use taskhub_engine::supervision::{
    Broken, BrokenBy, Happening, Order, Scope, Service, Supervision, Surroundings, Unclaimed,
};
use taskhub_engine::worker::{Offered, Worker};
use taskhub_engine::writing::{Failure, Ledger};
use taskhub_store::embedded::Access;
use taskhub_store::{Claim, Error, Group, Lease, NodeId, PartitionKey, Recovered, Section, partition_of};

use super::groups::HUB;
use super::work::{Job, JobKind};
use super::{Bug, Halt, Node, ReplyTo, World};
use crate::disk::{CrashPoint, Trouble};
use crate::fault::Fault;
use crate::library::{LIBRARY, Library};
use crate::machine::SCRIPTED;
use crate::plan::Act;
use crate::scripted::Scripted;
use crate::{Violation, checks};

/// So few that the sweeps of a partition happen in small plans too.
pub(super) const SWEEP_MIN: usize = 3;

impl Node {
    pub(super) fn new(
        id: NodeId,
        partitions: u16,
        bug: Option<Bug>,
        commits_max: usize,
        rng: &mut Rng,
        steady: Steady,
    ) -> Self {
        let overall = *rng.choice(&[1, 3, 100]).unwrap_or(&1);
        let echo = rng.bool().then(|| (FoldedName::new(Name::stored(Act::Echo.name())), 1));
        let by_name: HashMap<FoldedName, usize> = echo.into_iter().collect();
        let (supervision, order) = Supervision::new(partitions, Surroundings::default());
        let mut gathering = Gathering::new(Limits {
            commits_max,
            group_max: GROUP_BYTES_MAX,
            ahead_max: usize::MAX,
        });
        gathering.enter(HUB);
        Self {
            id,
            steady: Cell::new(steady),
            partitions: BTreeMap::new(),
            leases: BTreeMap::new(),
            supervision,
            order: Some(order),
            read: Vec::new(),
            is_fenced: false,
            away: BTreeSet::new(),
            is_idle: false,
            is_full: false,
            failed_groups: 0,
            flush_upto: 0,
            damaged: None,
            is_damaged: false,
            broken: BTreeMap::new(),
            queues: BTreeMap::new(),
            activities_max: overall,
            dispatcher: Dispatcher::new(Capacity { overall, by_name }),
            scripted: Scripted::new(bug == Some(Bug::LiveOverReload)),
            library: Library::new(*rng.choice(&[0, 4_000, 1 << 20]).unwrap_or(&0)),
            batch: Batch::new(HUB),
            gathering,
            writing: None,
            ledger: Ledger::default(),
            turns_out: BTreeMap::new(),
            running: BTreeMap::new(),
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

/// Whether that may go well the next time.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Unavailable { .. } | Error::Unknown { .. } | Error::Full)
}

impl World {
    /// A process without memory. While there are faults it may lack functions.
    fn fresh_node(&mut self) -> Node {
        let steady = Steady::new(self.wall(), self.elapsed());
        let id = NodeId(self.node.id.0 + 1);
        let mut node = Node::new(
            id,
            self.partitions,
            self.bug,
            self.group_commits_max,
            &mut self.rng,
            steady,
        );
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
        self.trouble_disk();
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
            self.tell(Happening::Lost(Scope::All));
        }
        if self.strikes(Fault::PartitionBroken) {
            self.break_partition();
        }
        // Between staging a group and sealing it a store does nothing else.
        let is_staged = self.node.writing.as_ref().is_some_and(|writing| writing.is_staged);
        if !is_staged && self.strikes(Fault::ClaimLost) {
            self.claim_elsewhere()?;
        }
        if !is_staged && self.strikes(Fault::HubMadeAnew) {
            self.make_hub_anew()?;
        }
        if self.strikes(Fault::TurnBlocked) {
            let live = self.journal.present().filter(|book| book.state.is_live());
            let live: Vec<InstanceId> = live.map(|book| book.state.info.instance.clone()).collect();
            let instance = self.rng.choice(live);
            self.blame(instance, "a turn did not return", BrokenBy::Blocking);
            self.tell(Happening::Lost(Scope::All));
        }
        if self.strikes(Fault::CleanRestart) {
            self.tell(Happening::Drain);
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
                self.note_crash_point(is_after);
                Halt::Crash
            }
            Trouble::Store(Error::Fenced { .. }) if self.node.is_fenced => Halt::Reload,
            // What the disk refused, which a call that is no group bears itself.
            Trouble::Store(error) if is_passing(&error) => Halt::Reload,
            // Whoever has claimed it is this very node, or nobody.
            Trouble::Store(error @ Error::Fenced { .. }) => Halt::Found(Violation::new("A21", error.to_string())),
            // Its number, or what it is about, is not what is stored, so it was made from something else.
            Trouble::Store(error @ Error::Corrupt { .. }) => Halt::Found(Violation::new("I4", error.to_string())),
            Trouble::Store(error @ Error::Stale { .. }) => Halt::Found(Violation::new("R188", error.to_string())),
            Trouble::Store(error) => Halt::Found(Violation::new("store", format!("{error} ({error:?})"))),
        }
    }

    fn note_crash_point(&mut self, is_after: bool) {
        self.tally.count(if is_after {
            Fault::CrashAfterCall
        } else {
            Fault::CrashBeforeCall
        });
    }

    pub(super) fn create_hub(&mut self) -> Result<(), Violation> {
        loop {
            let (hub, partitions, now) = (self.hub.clone(), self.partitions, self.node_time());
            match self.write(|writer| writer.create_hub(&hub, partitions, now)) {
                Ok(_) | Err(Trouble::Store(Error::HubExists { .. })) => return Ok(()),
                // Whoever makes it hears of that, and tries again.
                Err(Trouble::Store(error)) if is_passing(&error) => {}
                Err(trouble) => match self.halt(trouble) {
                    Halt::Found(violation) => return Err(violation),
                    Halt::Crash | Halt::Reload => self.crash()?,
                },
            }
        }
    }

    /// Has the disk refuse something soon. It counts when it does.
    fn trouble_disk(&mut self) {
        /// Accesses of the kind that may go well before.
        const AFTER_MAX: u64 = 12;
        let kinds = [
            (Fault::DiskReadFailed, Access::Read),
            (Fault::DiskWriteFailed, Access::Write),
            (Fault::DiskSyncFailed, Access::Sync),
        ];
        for access in self.disk.take_failed() {
            let of_it = kinds.iter().filter(|(_, other)| *other == access);
            of_it.for_each(|(fault, _)| self.tally.count(*fault));
        }
        for (fault, access) in kinds {
            if !self.is_calm && self.rates.strikes(fault, &mut self.rng) {
                let after = self.rng.u64(..AFTER_MAX);
                self.trace.line(|| format!("{} {fault:?} after {after}", self.now));
                self.disk.fail(access, after);
            }
        }
    }

    /// Deletes the hub and makes another one with its name. Nothing of the old one may show in it, though workers still have
    /// turns of the old one.
    fn make_hub_anew(&mut self) -> Result<(), Violation> {
        loop {
            let hub = self.hub.clone();
            match self.write(|writer| writer.delete_hub(&hub)) {
                Ok(_) | Err(Trouble::Store(Error::NoSuchHub { .. })) => break,
                Err(Trouble::Store(error)) if is_passing(&error) => {}
                Err(Trouble::Store(error)) => return Err(checks::store_failed(&error)),
                Err(Trouble::Crash { is_after }) => {
                    self.note_crash_point(is_after);
                    self.disk.reopen().map_err(|error| checks::store_failed(&error))?;
                }
            }
        }
        self.forget();
        self.in_doubt = None;
        self.ops.clear();
        self.partitions = self.rng.u16(1..=4);
        self.journal = self.journal.of_next_hub(self.partitions);
        self.end_process();
        self.create_hub()
    }

    /// An assertion breaks in a partition, perhaps over one of its instances.
    fn break_partition(&mut self) {
        let served: Vec<u16> = self.node.partitions.keys().copied().collect();
        let Some(index) = self.rng.choice(served) else {
            return;
        };
        let of_it = |instance: &InstanceId| partition_of(instance, self.partitions) == index;
        let live = self.journal.present().filter(|book| book.state.is_live());
        let live: Vec<InstanceId> = live
            .map(|book| book.state.info.instance.clone())
            .filter(of_it)
            .collect();
        let instance = self.rng.choice(live).filter(|_| self.rng.bool());
        let instance = instance.filter(|_| self.bug != Some(Bug::AwayLosesMessages));
        self.blame(instance, "an assertion broke", BrokenBy::Running);
        self.drop_one(index);
        self.tell(Happening::Lost(Scope::one(index)));
    }

    /// Another node takes all partitions, and does nothing with them.
    fn claim_elsewhere(&mut self) -> Result<(), Halt> {
        const OTHER: NodeId = NodeId(u64::MAX);
        let keys: Vec<_> = (0..self.partitions).map(|index| self.partition_key(index)).collect();
        let claim = Claim::new(OTHER, &keys, self.node_time()).steal();
        let claimed = self.disk.write(|writer| writer.claim(&claim));
        claimed.map_err(|trouble| self.halt(trouble))?;
        self.node.is_fenced = true;
        Ok(())
    }

    pub(super) fn blame(&mut self, instance: Option<InstanceId>, what: &str, by: BrokenBy) {
        if let Some(instance) = &instance {
            // What cannot be written is not even looked at from now on.
            let times = if by == BrokenBy::Writing { 2 } else { 1 };
            *self.node.broken.entry(instance.clone()).or_default() += times;
        }
        let what = what.to_owned();
        self.tell(Happening::Broke(Broken { instance, what, by }));
    }

    /// Tells the supervision something, and keeps what it says is to be done.
    pub(super) fn tell(&mut self, happened: Happening) {
        let around = Surroundings {
            now: self.elapsed(),
            failed_groups: self.node.failed_groups,
            is_full: self.node.is_full,
            is_damaged: self.node.is_damaged,
            is_purging: false,
        };
        self.trace.line(|| format!("{} told {happened:?}", self.now));
        let order = self.node.supervision.step(happened, around);
        if order.is_some() {
            self.node.order = order;
        }
        if let Some(Order::Flush { .. }) = &self.node.order {
            self.node.flush_upto = self.node.gathering.next_ticket();
        }
    }

    /// Whether what is to be done next can be done now.
    pub(super) fn has_order(&self) -> bool {
        match &self.node.order {
            None => false,
            Some(Order::Flush { .. }) => {
                self.bug == Some(Bug::ClaimsBeforeFlush) || self.node.gathering.is_flushed(HUB, self.node.flush_upto)
            }
            Some(_) => true,
        }
    }

    /// Does what the supervision wants done.
    pub(super) fn carry_out_order(&mut self) -> Result<(), Halt> {
        let Some(order) = self.node.order.take() else {
            return Ok(());
        };
        self.trace.line(|| format!("{} order {order:?}", self.now));
        let happened = match order {
            Order::Drop(Scope::All) => {
                self.tally.reloads += 1;
                self.forget_round();
                self.drop_partitions();
                self.give_up_requests();
                Happening::Dropped
            }
            Order::Drop(Scope::Some(some)) => {
                self.tally.reloads += 1;
                for index in some {
                    self.drop_one(index);
                }
                Happening::Dropped
            }
            Order::Flush { accepts } => {
                if accepts {
                    self.node.gathering.accept(HUB);
                }
                Happening::Flushed
            }
            Order::Claim(wanted) => match self.claim(&wanted) {
                Ok(leases) => Happening::Claimed(Ok(leases)),
                Err(trouble) => {
                    self.is_out_of_reach(trouble)?;
                    Happening::Claimed(Err(Unclaimed::Later))
                }
            },
            Order::Read(leases) => match self.read_partitions(leases) {
                // They are another node's by now, or cannot be read.
                Err(Halt::Reload) => Happening::Read(Err(Unclaimed::Later)),
                read => Happening::Read(Ok(read?)),
            },
            Order::Serve(services) => return self.serve(services),
            Order::Probe => {
                let has_room = self.now >= self.full_until;
                self.node.is_full = !has_room;
                Happening::Room(has_room)
            }
            Order::GiveBack => return self.stop_and_start(),
            Order::Close => return Err(Violation::new("store", "the hub is gone").into()),
        };
        self.tell(happened);
        Ok(())
    }

    /// Reads what the owner of partitions needs, and compares it with what is durable.
    fn read_partitions(&mut self, leases: Vec<Lease>) -> Result<(), Halt> {
        let mut recovered = Vec::new();
        for lease in leases {
            self.dispatch(Event::Reset(lease.partition.clone()))?;
            let items = match self.read(|reader| reader.recover(&lease)) {
                Ok(items) => items,
                Err(trouble) => {
                    self.is_out_of_reach(trouble)?;
                    return Err(Halt::Reload);
                }
            };
            recovered.push((lease, items));
        }
        checks::recovered(self, &recovered)?;
        self.node.read = recovered;
        Ok(())
    }

    /// Serves what was read. All partitions are there before the first says anything.
    fn serve(&mut self, services: Vec<Service>) -> Result<(), Halt> {
        let mut first = Vec::new();
        for ((lease, mut items), service) in std::mem::take(&mut self.node.read).into_iter().zip(services) {
            let index = lease.partition.index;
            self.node.is_idle = service.is_idle;
            if service.is_idle {
                items.retain(|item| matches!(item, Recovered::Counters { .. } | Recovered::Damaged { .. }));
            }
            self.node.leases.insert(index, lease.clone());
            let setup = Setup {
                lease,
                random: Random::Seeded(self.rng.u64(..)),
                memory_bytes_max: self.memory_bytes_max,
                orchestrators_offered: self.node.offered.clone(),
                set_aside: service.set_aside,
                out_of_service: service.out_of_service,
                sweep_min: SWEEP_MIN,
                may_be_running: service.may_be_running,
                flaws: self.flaws(),
            };
            let mut out = Vec::new();
            let partition = Partition::recover(setup, items, self.node_time(), &mut out);
            self.node.partitions.insert(index, partition);
            self.node.away.remove(&index);
            self.node.queues.entry(index).or_default();
            first.push((index, out));
        }
        if self.node.is_idle {
            return Ok(());
        }
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

    /// Whether that is all that is wrong.
    fn is_out_of_reach(&mut self, trouble: Trouble) -> Result<(), Halt> {
        match trouble {
            Trouble::Store(error) if is_passing(&error) => Ok(()),
            trouble => Err(self.halt(trouble)),
        }
    }

    fn claim(&mut self, wanted: &[u16]) -> Result<Vec<Lease>, Trouble> {
        let own: Option<Vec<Lease>> = wanted
            .iter()
            .map(|index| self.node.leases.get(index).cloned())
            .collect();
        if let Some(own) = own
            && self.bug == Some(Bug::EpochReused)
        {
            return Ok(own);
        }
        let keys: Vec<_> = wanted.iter().map(|index| self.partition_key(*index)).collect();
        let claim = Claim::new(self.node.id, &keys, self.node_time()).steal();
        let leases = self.write(|writer| writer.claim(&claim))?.leases;
        // What else it had is not its own all the same.
        self.node.is_fenced &= wanted.len() < usize::from(self.partitions);
        Ok(leases)
    }

    fn flaws(&self) -> Flaws {
        match self.bug {
            Some(Bug::TerminateWaitsForTurn) => Flaws::with(Flaw::TerminateWaitsForTurn),
            Some(Bug::MessagesSkipOutbox) => Flaws::with(Flaw::MessagesSkipOutbox),
            Some(Bug::ReceiptKeepsMessage) => Flaws::with(Flaw::ReceiptKeepsMessage),
            Some(Bug::RepetitionsPass) => Flaws::with(Flaw::RepetitionsPass),
            _ => Flaws::default(),
        }
    }

    /// Finds out what became of a group whose outcome is unknown: all of it or nothing (I10).
    fn settle_doubt(&mut self) -> Result<(), Violation> {
        let Some((group, may_be_durable)) = self.in_doubt.take() else {
            return Ok(());
        };
        let mut there = Vec::new();
        let indexes: BTreeSet<u16> = group.sections.iter().map(|section| section.partition.index).collect();
        for index in indexes {
            let of_partition = |section: &&Section| section.partition.index == index;
            let commits: usize = group
                .sections
                .iter()
                .filter(of_partition)
                .map(|section| section.commits.len())
                .sum();
            let items = self.look_at(index)?;
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
        self.timers_fire_on_time(group)?;
        let known = self.journal.books.len();
        let applied = self.journal.apply(group);
        self.tally.instances += (self.journal.books.len() - known) as u64;
        applied
    }

    /// What the owner of a partition would read.
    fn look_at(&mut self, index: u16) -> Result<Vec<Recovered>, Violation> {
        let Some(lease) = self.node.leases.get(&index).cloned() else {
            return Err(Violation::new(
                "I10",
                format!("partition {index} has commits and no owner"),
            ));
        };
        let mut found = self.disk.look(|reader| reader.recover(&lease));
        if let Err(Error::Fenced { by: Some(epoch), .. }) = found {
            found = self.disk.look(|reader| reader.recover(&Lease { epoch, ..lease }));
        }
        found.map_err(|error| checks::store_failed(&error))
    }

    /// A group failed: what was handed over behind it is thrown away, and all memory is to be dropped, since it may have gone on
    /// from there (A1).
    pub(super) fn give_up_group(&mut self, failure: Option<Failure<ReplyTo>>) -> Result<(), Violation> {
        self.node.failed_groups += 1;
        if let Some(offered) = self.node.writing.take() {
            self.in_doubt = Some(offered.doubt());
        }
        self.reopen()?;
        self.settle_failure(failure)?;
        self.tell(Happening::Lost(Scope::All));
        Ok(())
    }

    /// Stops the node as [`taskhub_engine::Hub::stop`] does, and starts it again.
    fn stop_and_start(&mut self) -> Result<(), Halt> {
        let served = self.node.partitions.values();
        let leases: Vec<Lease> = served.map(|partition| partition.lease().clone()).collect();
        self.hand_over();
        self.drop_partitions();
        match self.flush() {
            // What is lost then was told to nobody.
            Err(Halt::Reload) => self.give_up_group(None)?,
            flushed => flushed?,
        }
        // What is not given back is claimed as from a process that died.
        if let Err(trouble) = self.write(|writer| writer.release(&leases)) {
            self.is_out_of_reach(trouble)?;
        }
        self.jobs.clear();
        self.forget();
        self.node = self.fresh_node();
        Ok(())
    }

    /// The process ends without a word.
    pub(super) fn crash(&mut self) -> Result<(), Violation> {
        self.tally.crashes += 1;
        self.trace.line(|| format!("{} crash", self.now));
        self.forget();
        self.reopen()?;
        self.end_process();
        Ok(())
    }

    fn end_process(&mut self) {
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
    }

    /// Drops a partition while the others go on. Messages to it are kept.
    fn drop_one(&mut self, index: u16) {
        // The others may have gone on with what it made.
        self.hand_over();
        if self.node.partitions.remove(&index).is_none() {
            return;
        }
        let partitions = self.partitions;
        let of_it = |instance: &InstanceId| partition_of(instance, partitions) == index;
        self.node.turns_out.retain(|instance, _| !of_it(instance));
        let key = self.partition_key(index);
        self.node.library.0.forget(&key);
        if self.bug != Some(Bug::LiveOverReload) {
            self.node.scripted.forget(&key);
        }
        self.node.away.insert(index);
        let keeps = self.bug != Some(Bug::AwayLosesMessages);
        if let Some(queue) = self.node.queues.get_mut(&index) {
            queue.retain(|input| keeps && matches!(input, Input::Message { .. }));
        }
        self.give_up_requests_of(index);
    }

    fn drop_partitions(&mut self) {
        self.node.partitions.clear();
        self.node.queues.clear();
        self.node.away.clear();
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
            self.in_doubt = Some(writing.doubt());
        }
        self.give_up_requests();
    }

    fn reopen(&mut self) -> Result<(), Violation> {
        let opened = self
            .disk
            .reopen()
            .map_err(|error| Violation::new("I12", format!("the store does not open: {error}")));
        opened?;
        self.tear();
        self.settle_doubt()
    }

    /// Leaves a part of a group behind whose outcome is not known, as a store would that is not atomic.
    fn tear(&mut self) {
        let (Some(bug), Some((group, may_be_durable))) = (self.bug, &mut self.in_doubt) else {
            return;
        };
        let torn = match bug {
            Bug::HalfGroup => super::groups::half_group(group),
            Bug::HalfCommit => super::groups::half_commit(group),
            _ => return,
        };
        // A group that was sealed may be there already, and is then refused as a repetition.
        let is_torn = self.disk.force(&torn).is_ok();
        *may_be_durable |= is_torn;
        self.trace.line(|| format!("torn group {is_torn}"));
    }
}
