//! One partition: a synchronous value that owns the instances hashed to it, keeps their state in memory
//! and is ahead of the disk (A1).
//!
//! [`Partition::step`] takes one input in; [`Partition::turns`] begins the turns that became ready and is
//! called when the input queue is empty (A32). Both apply commits to memory at once, number them, and say
//! in their outputs which commit each effect waits for. Nothing here waits, locks, or reads a clock.

use std::collections::{HashMap, HashSet, VecDeque};

use taskhub_core::Ids;
use taskhub_core::commit::{Change, Commit, Open, OpenKind, Update};
use taskhub_core::control;
use taskhub_core::id::{ExecutionId, Fence, InstanceId, InstanceNumber, Occurrence, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{OutboxBody, OutboxItem, OutboxRef, Outcome};
use taskhub_core::status::{InstanceInfo, Stall};
use taskhub_core::time::Timestamp;
use taskhub_core::turn;
use taskhub_store::{ExecutionKey, Lease, PartitionKey, Recovered, fingerprint};

use crate::flaw::{Flaw, Flaws};
use crate::io::{Input, Output, Reply, TaskOffer, WaitFor};
use crate::slot::{IdFilter, Memory, Slot, TailPart};
use crate::timers::{Cause, Due, Timers};
use crate::worker::{Offered, TaskKey, TurnItem, TurnOutcome};
use backlog::Backlog;

mod backlog;
mod commits;
mod requests;
mod turns;

/// Number of ids for which random bits are requested from the system at a time.
const IDS_AT_ONCE: usize = 32;

/// Where the random bits of new ids come from.
#[derive(Clone, Copy, Debug)]
pub enum Random {
    /// The system's generator, so that ids are unpredictable.
    System,
    /// A seed, for runs that can be repeated.
    Seeded(u64),
}

/// What a partition is made with, besides what the store recovered.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The right to commit.
    pub lease: Lease,
    /// Where the random bits of the ids that it makes come from.
    pub random: Random,
    /// Budget of its instances in memory, in bytes.
    pub memory_bytes_max: usize,
    /// The orchestrators that run here; instances of others wait, out of memory (A51).
    pub orchestrators_offered: Offered,
    /// Instances whose turns are not begun in this process any more, and why (A33).
    pub set_aside: Vec<(InstanceId, String)>,
    /// Instances taken out of service: requests fail with this reason; their messages and results stay where they are.
    pub out_of_service: Vec<(InstanceId, String)>,
    /// Fewer timers, waits or ids than this are not worth looking for dead ones among them.
    pub sweep_min: usize,
    /// Whether activities of an owner that ended without giving the partition back may be running (A35).
    pub may_be_running: bool,
    /// Bugs put in on purpose; none, outside tests.
    pub flaws: Flaws,
}

/// Counts of what happened in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns begun.
    pub turns: u64,
    /// Answers and results that came too late and were dropped (R24, R34).
    pub dropped: u64,
    /// Turns that needed the history.
    pub replays: u64,
    /// Turns that gave no answer (R184).
    pub failed_turns: u64,
}

/// The value.
#[derive(Debug)]
pub struct Partition<R> {
    key: PartitionKey,
    lease: Lease,
    ids: IdSource,
    fence_counter: u64,
    /// Of each partition of the hub the commit from which on its messages are news; those before were recovered, or taken in by
    /// an earlier owner (A29).
    horizon: Vec<Seq>,
    next_seq: Seq,
    durable: Seq,
    memory: Memory,
    filter: IdFilter,
    timers: Timers,
    ready: VecDeque<InstanceId>,
    /// Instances that have something to do and are not in memory.
    backlog: Backlog,
    orchestrators_offered: Offered,
    /// Inputs that wait for a state to be loaded.
    parked: HashMap<InstanceId, Vec<Parked<R>>>,
    /// Events of other instances that wait for room in the inbox of a live one; they are in their senders' outboxes.
    crowded: HashMap<InstanceId, VecDeque<(OutboxRef, OutboxItem)>>,
    waiters: HashMap<InstanceId, Vec<(WaitFor, R)>>,
    /// Entries of `waiters` and of `timers` at which the dead among them are looked for again.
    waiters_swept_at: usize,
    timers_swept_at: usize,
    sweep_min: usize,
    /// Instances purged since the filter was last filled from the store.
    purged: usize,
    /// Commits with events that are not yet durable.
    undurable: VecDeque<(Seq, InstanceId)>,
    /// Begin no turn in this process any more.
    held: HashSet<InstanceId>,
    /// Those of them whose reason is yet to be put down, once they are loaded.
    set_aside: HashMap<InstanceId, String>,
    /// Not touched any more, and why: assertions broke on them, or a row of theirs cannot be read (R187).
    out_of_service: HashMap<InstanceId, String>,
    /// The instance that is worked on, to be named if that breaks an assertion.
    at: Option<InstanceId>,
    counts: Counts,
    last_now: Timestamp,
    flaws: Flaws,
}

#[derive(Debug)]
enum Parked<R> {
    Input(Input<R>),
    Fire(InstanceNumber, Occurrence),
    Nothing,
}

/// Where the partition's ids come from (A44).
#[derive(Debug)]
struct IdSource {
    /// Absent: the system's.
    seeded: Option<fastrand::Rng>,
    /// Unused random bits of the system, requested for several ids at a time.
    drawn: Vec<[u8; 16]>,
    next_instance: InstanceNumber,
}

impl Ids for IdSource {
    fn execution(&mut self) -> ExecutionId {
        if let Some(random) = &mut self.seeded {
            return ExecutionId::new(random.u128(..).to_be_bytes());
        }
        if self.drawn.is_empty() {
            self.drawn.resize(IDS_AT_ONCE, [0; 16]);
            if let Err(error) = getrandom::fill(self.drawn.as_flattened_mut()) {
                unreachable!("the system has no random bits: {error}");
            }
        }
        match self.drawn.pop() {
            Some(bytes) => ExecutionId::new(bytes),
            None => unreachable!("some were drawn just above"),
        }
    }

    fn instance_number(&mut self) -> InstanceNumber {
        let number = self.next_instance;
        self.next_instance = number.next();
        number
    }
}

/// Whether an answer that waits in vain is still wanted.
pub trait Destination {
    /// Whether the receiver is gone.
    fn is_gone(&self) -> bool;

    /// The commit that was asked for is made. If no answer comes after that, it may or may not become durable.
    fn note_made(&self) {}
}

impl<R: Destination> Partition<R> {
    /// Builds a partition from the recovered state. Its outputs are the unfinished work. Only what must act by itself
    /// is recovered: open activities, timers, and messages on their way. Instances stay in the store; those with unread
    /// messages enter the backlog and are loaded when memory allows, because a hub may have more of them than memory.
    /// Damaged rows are taken first, so that no work of a damaged instance begins. Everything recovered is durable by
    /// definition, so `durable` starts at the last commit and the outputs wait for nothing. If an earlier owner may
    /// still be running (`may_be_running`), its activities may be running too, so each open one counts as a call that
    /// may have run.
    ///
    /// # Panics
    ///
    /// If the recovered items do not begin with the counters, which every backend must give first.
    pub fn recover(setup: Setup, recovered: Vec<Recovered>, now: Timestamp, out: &mut Vec<Output<R>>) -> Self {
        let mut items = recovered.into_iter();
        let Some(Recovered::Counters {
            next_seq,
            next_instance,
            horizon,
        }) = items.next()
        else {
            unreachable!("recovered items begin with the counters")
        };
        let mut partition = Self {
            key: setup.lease.partition.clone(),
            ids: IdSource {
                seeded: match setup.random {
                    Random::System => None,
                    Random::Seeded(seed) => Some(fastrand::Rng::with_seed(seed)),
                },
                drawn: Vec::new(),
                next_instance,
            },
            fence_counter: 0,
            horizon,
            next_seq,
            durable: Seq(next_seq.0.saturating_sub(1)),
            memory: Memory::new(setup.memory_bytes_max),
            filter: IdFilter::default(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            backlog: Backlog::default(),
            orchestrators_offered: setup.orchestrators_offered,
            parked: HashMap::new(),
            crowded: HashMap::new(),
            waiters: HashMap::new(),
            waiters_swept_at: setup.sweep_min,
            timers_swept_at: setup.sweep_min,
            sweep_min: setup.sweep_min,
            purged: 0,
            undurable: VecDeque::new(),
            held: setup.set_aside.iter().map(|(instance, _)| instance.clone()).collect(),
            set_aside: setup.set_aside.iter().cloned().collect(),
            out_of_service: setup.out_of_service.into_iter().collect(),
            at: None,
            counts: Counts::default(),
            last_now: now,
            flaws: setup.flaws,
            lease: setup.lease,
        };
        let (damaged, whole): (Vec<_>, Vec<_>) = items.partition(|item| matches!(item, Recovered::Damaged { .. }));
        // Damaged rows first, so that no work of their instances begins.
        for item in damaged.into_iter().chain(whole) {
            partition.take_recovered(item, setup.may_be_running, out);
        }
        for (instance, _) in setup.set_aside {
            partition.locate(&instance, || Parked::Nothing, out);
        }
        partition.tell_unoffered();
        partition
    }

    fn take_recovered(&mut self, item: Recovered, may_be_running: bool, out: &mut Vec<Output<R>>) {
        let of = match &item {
            Recovered::Task { instance, .. }
            | Recovered::Timer { instance, .. }
            | Recovered::Inbox { instance, .. } => Some(instance),
            // For one that is out of service a message stays in its outbox.
            Recovered::Counters { .. } | Recovered::Message { .. } | Recovered::Damaged { .. } => None,
        };
        if of.is_some_and(|instance| self.out_of_service.contains_key(instance)) {
            return;
        }
        match item {
            Recovered::Counters { .. } => unreachable!("counters come once per partition"),
            Recovered::Task { instance, number, open } => {
                let offer = self.offer(&instance, number, &open, may_be_running);
                out.extend(offer.map(|offer| Output::Dispatch {
                    seq: self.durable,
                    offer,
                }));
            }
            Recovered::Timer { instance, number, open } => {
                if let OpenKind::Timer { fire_at } = open.kind {
                    self.timers.add_timer(instance, number, open.occurrence, fire_at);
                }
            }
            Recovered::Message { at, item } => {
                let target = item.target.clone();
                self.for_instance(&target, Input::Message { at, item }, out);
            }
            Recovered::Inbox { instance, name, bytes } => {
                if self.orchestrators_offered.has(&name) {
                    self.backlog.add(instance, usize::try_from(bytes).unwrap_or(usize::MAX));
                } else {
                    self.backlog.note_unoffered();
                }
            }
            Recovered::Damaged { instance, place, what } => {
                tracing::error!(
                    hub = %self.key.hub,
                    partition = self.key.index,
                    instance = instance.as_ref().map(InstanceId::as_str),
                    place,
                    what,
                    "store-corrupt: cannot read a row of the store; the row is kept, and its instance does not run; \
                     restore the store from a backup, or go on without the instance: `taskhub store repair --rebuild`; \
                     see `taskhub errors store-corrupt`"
                );
                if let Some(instance) = instance {
                    self.out_of_service
                        .insert(instance, format!("cannot read {place}: {what}"));
                }
            }
        }
    }

    /// Processes one input. Begins no turn.
    pub fn step(&mut self, input: Input<R>, now: Timestamp, out: &mut Vec<Output<R>>) {
        let now = self.advance(now);
        self.at = None;
        match input {
            Input::Durable(seq) => self.trim(seq),
            Input::Tick => self.fire_due(now, out),
            Input::Fingerprints { epoch, .. } | Input::Unreadable { epoch, .. } | Input::Loaded { epoch, .. }
                if epoch != self.lease.epoch => {}
            Input::Fingerprints {
                fingerprints, is_last, ..
            } => self.filter.add_stored(fingerprints, is_last),
            Input::Unreadable { instance, what, .. } => self.unreadable(&instance, &what, out),
            Input::Loaded { instance, state, .. } => self.loaded(&instance, state.map(|state| *state), out),
            Input::Request { ref instance, .. }
            | Input::History { ref instance, .. }
            | Input::Turned { ref instance, .. } => {
                let instance = instance.clone();
                self.for_instance(&instance, input, out);
            }
            Input::Message { at, .. } if self.is_repetition(at) => {}
            Input::Message { ref item, .. } => {
                let instance = item.target.clone();
                self.for_instance(&instance, input, out);
            }
            Input::TaskDone { ref key, .. } | Input::TaskRedelivered { ref key, .. } => {
                let instance = key.instance.clone();
                self.for_instance(&instance, input, out);
            }
        }
    }

    /// Whether a message was already stored when this partition was recovered. The sender keeps running while this
    /// partition reloads, so it may deliver such a message a second time.
    fn is_repetition(&self, at: OutboxRef) -> bool {
        let horizon = self.horizon.get(usize::from(at.partition));
        horizon.is_some_and(|horizon| at.seq < *horizon) && !self.flaws.has(Flaw::RepetitionsPass)
    }

    /// Time in a partition never goes back (A27).
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.last_now = self.last_now.max(now);
        self.last_now
    }

    fn for_instance(&mut self, instance: &InstanceId, input: Input<R>, out: &mut Vec<Output<R>>) {
        self.at = Some(instance.clone());
        if let Some(what) = self.out_of_service.get(instance) {
            // Messages stay in their outboxes, results with the dispatcher.
            let what = what.clone();
            self.refuse(Parked::Input(input), &what, out);
            return;
        }
        let mut input = Some(input);
        let is_here = self.locate(instance, || input.take().map_or(Parked::Nothing, Parked::Input), out);
        if let Some(input) = input.filter(|_| is_here) {
            self.apply_input(instance, input, out);
        }
    }

    /// Whether the instance's state, or its absence, is known. If not, requests the state and parks the input until it
    /// arrives. An input for an instance out of service waits until the next recovery.
    fn locate(&mut self, instance: &InstanceId, parked: impl FnOnce() -> Parked<R>, out: &mut Vec<Output<R>>) -> bool {
        if self.out_of_service.contains_key(instance) {
            return false;
        }
        if let Some(waiting) = self.parked.get_mut(instance) {
            // Behind what waits already, so that nothing overtakes (R189).
            waiting.push(parked());
            return false;
        }
        if self.memory.get_mut(instance).is_some() || !self.filter.may_exist(fingerprint(instance)) {
            return true;
        }
        // Timers that came due meanwhile fire before anything that came later.
        let due = self.backlog.take(instance).unwrap_or_default();
        let due = due
            .into_iter()
            .map(|(number, occurrence)| Parked::Fire(number, occurrence));
        self.parked.insert(instance.clone(), due.chain([parked()]).collect());
        out.push(Output::Load(instance.clone()));
        false
    }

    fn loaded(&mut self, instance: &InstanceId, state: Option<InstanceState>, out: &mut Vec<Output<R>>) {
        let Some(parked) = self.parked.remove(instance) else {
            return;
        };
        self.at = Some(instance.clone());
        self.backlog.is_read(instance);
        if let Some(state) = state {
            let is_offered = self.orchestrators_offered.has(&state.info.name);
            if let Some(at) = state.starts_at().filter(|_| is_offered) {
                self.timers.add_ready(instance.clone(), at);
            }
            let slot = Slot::new(Some(state), self.durable, is_offered);
            self.memory.insert(instance, slot);
            self.memory.weigh(instance);
        }
        if let Some(reason) = self.set_aside.remove(instance) {
            self.stall(instance, reason, out);
        }
        for waiting in parked {
            match waiting {
                Parked::Input(input) => self.apply_input(instance, input, out),
                Parked::Fire(number, occurrence) => self.fire(instance, &[(number, occurrence)], out),
                Parked::Nothing => {}
            }
        }
        self.mark_ready(instance);
    }

    /// Refuses what waited for an instance that cannot be read. Messages to it stay in their outboxes.
    fn unreadable(&mut self, instance: &InstanceId, what: &str, out: &mut Vec<Output<R>>) {
        tracing::error!(hub = %self.key.hub, %instance, what, "cannot read an instance");
        self.backlog.is_read(instance);
        for waiting in self.parked.remove(instance).unwrap_or_default() {
            self.refuse(waiting, what, out);
        }
    }

    /// Notifies the caller that there is no answer.
    fn refuse(&self, waiting: Parked<R>, what: &str, out: &mut Vec<Output<R>>) {
        if let Parked::Input(Input::Request { to, .. }) = waiting {
            out.push(Output::Reply {
                seq: self.durable,
                to,
                reply: Reply::Unreadable(what.to_owned()),
            });
        }
    }

    fn apply_input(&mut self, instance: &InstanceId, input: Input<R>, out: &mut Vec<Output<R>>) {
        self.apply_one(instance, input, out);
        self.let_in(instance, out);
    }

    fn apply_one(&mut self, instance: &InstanceId, input: Input<R>, out: &mut Vec<Output<R>>) {
        match input {
            Input::Request { request, to, .. } => self.request(instance, request, to, out),
            Input::Message { at, item } => self.take_message(at, item, out),
            Input::History { fence, events, .. } => self.take_history(instance, fence, events, out),
            Input::Turned { fence, outcome, .. } => self.turned(instance, fence, outcome, out),
            Input::TaskDone { key, outcome } => self.task_done(key, &outcome, out),
            Input::TaskRedelivered { key, deliveries } => self.task_redelivered(&key, deliveries, out),
            Input::Loaded { .. }
            | Input::Unreadable { .. }
            | Input::Durable(_)
            | Input::Fingerprints { .. }
            | Input::Tick => {
                unreachable!("these inputs are not about the state of one instance")
            }
        }
    }

    fn state(&self, instance: &InstanceId) -> Option<&InstanceState> {
        self.memory.get(instance)?.state.as_ref()
    }

    /// Takes a message in, or has it wait behind those that wait for room already, so that none overtakes.
    fn take_message(&mut self, at: OutboxRef, item: OutboxItem, out: &mut Vec<Output<R>>) {
        let is_event = matches!(item.body, OutboxBody::Event { .. });
        let has_room = control::has_room_for(self.state(&item.target), &item);
        match self.crowded.get_mut(&item.target) {
            Some(waiting) if is_event => waiting.push_back((at, item)),
            None if !has_room => {
                tracing::warn!(hub = %self.key.hub, instance = %item.target, "the inbox is full; events from other \
                    instances wait");
                self.crowded.insert(item.target.clone(), VecDeque::from([(at, item)]));
            }
            Some(_) | None => self.receive(at, &item, out),
        }
    }

    /// Delivers events that wait for space in the inbox, as far as there is space now or their target has ended.
    fn let_in(&mut self, instance: &InstanceId, out: &mut Vec<Output<R>>) {
        while let Some(waiting) = self.crowded.get_mut(instance) {
            let Some((at, item)) = waiting.pop_front() else {
                self.crowded.remove(instance);
                return;
            };
            let state = self.memory.get(instance).and_then(|slot| slot.state.as_ref());
            if !control::has_room_for(state, &item) {
                waiting.push_front((at, item));
                return;
            }
            self.receive(at, &item, out);
        }
    }

    fn receive(&mut self, at: OutboxRef, item: &OutboxItem, out: &mut Vec<Output<R>>) {
        let state = self.memory.get(&item.target).and_then(|slot| slot.state.as_ref());
        let mut commit = control::receive(state, item, at, &mut self.ids, self.last_now);
        if self.flaws.has(Flaw::ReceiptKeepsMessage) {
            commit.consumed = None;
        }
        self.commit(commit, None, out);
    }

    fn task_done(&mut self, key: TaskKey, outcome: &Outcome, out: &mut Vec<Output<R>>) {
        let state = self.state(&key.instance).filter(|state| state.number == key.number);
        let commit =
            state.and_then(|state| control::complete_task(state, key.occurrence, outcome.clone(), self.last_now));
        let seq = if let Some(commit) = commit {
            self.commit(commit, Some(key.occurrence), out)
        } else {
            self.counts.dropped += 1;
            self.last_seq()
        };
        out.push(Output::Settled { seq, key });
    }

    fn task_redelivered(&mut self, key: &TaskKey, deliveries: u32, out: &mut Vec<Output<R>>) {
        let Some(state) = self.state(&key.instance).filter(|state| state.number == key.number) else {
            return;
        };
        let Some(commit) = control::redeliver_task(state, key.occurrence, deliveries, self.last_now) else {
            return;
        };
        let seq = self.commit(commit, None, out);
        let open = self
            .state(&key.instance)
            .and_then(|state| state.open.get(&key.occurrence));
        let offer = open.and_then(|open| self.offer(&key.instance, key.number, open, false));
        out.extend(offer.map(|offer| Output::Dispatch { seq, offer }));
    }

    /// Fires what is due. Timers of one instance fire by due time, then by creation (R46).
    fn fire_due(&mut self, now: Timestamp, out: &mut Vec<Output<R>>) {
        let mut firing: Vec<(InstanceId, Vec<(InstanceNumber, Occurrence)>)> = Vec::new();
        while let Some(due) = self.timers.take_due(now) {
            match due.cause {
                _ if !self.is_at_hand(&due.instance) => self.backlog.add_due(&due),
                Cause::Ready => {
                    if self.locate(&due.instance, || Parked::Nothing, out) {
                        self.mark_ready(&due.instance);
                    }
                }
                Cause::Timer(number, occurrence) => match firing.last_mut() {
                    Some((instance, fired)) if *instance == due.instance => fired.push((number, occurrence)),
                    _ => firing.push((due.instance, vec![(number, occurrence)])),
                },
            }
        }
        for (instance, fired) in firing {
            if self.locate(&instance, || Parked::Nothing, out) {
                self.fire(&instance, &fired, out);
            } else if let Some(parked) = self.parked.get_mut(&instance) {
                parked.extend(
                    fired
                        .into_iter()
                        .map(|(number, occurrence)| Parked::Fire(number, occurrence)),
                );
            }
        }
    }

    /// Fires timers of an instance; those of an earlier one with its id mean nothing (R137).
    fn fire(&mut self, instance: &InstanceId, fired: &[(InstanceNumber, Occurrence)], out: &mut Vec<Output<R>>) {
        self.at = Some(instance.clone());
        let commit = self.state(instance).and_then(|state| {
            let own = fired.iter().filter(|(number, _)| *number == state.number);
            let own: Vec<Occurrence> = own.map(|(_, occurrence)| *occurrence).collect();
            control::fire_timers(state, &own, self.last_now)
        });
        if let Some(commit) = commit {
            self.commit(commit, None, out);
        }
    }

    /// Drops timers whose cause is gone, once they may be as many as the others.
    fn sweep_timers(&mut self) {
        if self.timers.len() < self.timers_swept_at {
            return;
        }
        let memory = &self.memory;
        self.timers.retain(|due| !is_spent(memory, due));
        self.timers_swept_at = self.sweep_min.max(2 * self.timers.len());
    }

    /// Drops abandoned waits when they may be as many as the others.
    fn sweep_waiters(&mut self) {
        if self.waiters.len() < self.waiters_swept_at {
            return;
        }
        self.waiters.retain(|_, waiting| {
            waiting.retain(|(_, to)| !to.is_gone());
            !waiting.is_empty()
        });
        self.waiters_swept_at = self.sweep_min.max(2 * self.waiters.len());
    }

    /// Refills the filter of ids when more than half of its ids may be gone (A40).
    fn refill_filter(&mut self, out: &mut Vec<Output<R>>) {
        self.purged += 1;
        if self.purged < self.sweep_min.max(self.filter.len() / 2) {
            return;
        }
        // What is not in memory is durable, so the store tells it.
        let in_memory = self.memory.iter().filter(|(_, slot)| slot.state.is_some());
        let in_memory = in_memory.map(|(instance, _)| fingerprint(instance));
        if self.filter.begin_refill(in_memory) {
            self.purged = 0;
            out.push(Output::Fingerprints);
        }
    }

    /// Entries kept for timers, for waits and for ids, those included that mean nothing any more.
    pub fn entries(&self) -> (usize, usize, usize) {
        (self.timers.len(), self.waiters.len(), self.filter.len())
    }

    /// Number of the last commit made.
    pub fn last_seq(&self) -> Seq {
        Seq(self.next_seq.0.saturating_sub(1))
    }

    /// Number up to which everything is durable.
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// When [`Input::Tick`] has something to do next.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.timers.next_at()
    }

    /// The same, once timers whose cause is gone are dropped: for a clock that jumps to where something happens.
    pub fn next_due(&mut self) -> Option<Timestamp> {
        let memory = &self.memory;
        self.timers.drop_first_while(|due| is_spent(memory, due));
        self.next_tick()
    }

    /// Whether a turn is ready to begin.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Turns that are ready to begin.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Its name.
    pub fn key(&self) -> &PartitionKey {
        &self.key
    }

    /// The right it commits under.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Instances in memory, and their bytes.
    pub fn memory(&self) -> (usize, usize) {
        (self.memory.len(), self.memory.bytes())
    }

    /// The instance that was worked on last, if the last work was about one.
    pub fn working_on(&self) -> Option<&InstanceId> {
        self.at.as_ref()
    }

    /// Unread messages of an instance as memory has it; for checkers.
    pub fn peek_unread(&self, instance: &InstanceId) -> usize {
        self.state(instance).map_or(0, |state| state.inbox.len())
    }

    /// The status record of an instance as memory has it, ahead of the disk; for checkers.
    pub fn peek(&self, instance: &InstanceId) -> Option<&InstanceInfo> {
        self.state(instance).map(|state| &state.info)
    }
}

/// Whether the cause of an entry is gone. Of an instance that is not in memory nothing is known.
fn is_spent(memory: &Memory, due: &Due) -> bool {
    let Some(slot) = memory.get(&due.instance) else {
        return false;
    };
    let Some(state) = &slot.state else {
        return true;
    };
    match due.cause {
        Cause::Ready => !state.is_live(),
        Cause::Timer(number, occurrence) => state.number != number || !state.open.contains_key(&occurrence),
    }
}
