//! A hub on a partition thread: takes in what is for its partitions, runs the turns that became ready, hands the commits to
//! the open group, and only then passes messages on to other threads (A32, A33).

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::id::{Epoch, Fence, InstanceId, Seq};
use taskhub_store::{Error as StoreError, ExecutionKey, HistoryRange, Lease, decode_history, load_each};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::admission::Admission;
use crate::dispatcher::Event;
use crate::error::chain;
use crate::group::At;
use crate::io::{Input, Output};
use crate::link::{HubInput, Made, Pulse, Report};
use crate::open_group::Release;
use crate::partition::Partition;
use crate::reply::To;
use crate::shared::Shared;
use crate::supervision::{Broken, BrokenBy, Scope};
use crate::worker::{TurnItem, TurnOutcome, Worker};

/// Most times that turns beget turns within a round: an orchestration that continues as new for ever
/// must not keep the others waiting (R93).
const ROUND_PASSES_MAX: usize = 32;
/// Turns begun at once, before it is looked whether the disk keeps up.
const TURNS_AT_ONCE: usize = 8;
/// Pauses between tries to read from a store that is out of reach.
const READ_PAUSE_MIN: Duration = Duration::from_millis(10);
const READ_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest sleep of an idle thread.
pub(crate) const IDLE_MAX: Duration = Duration::from_mins(1);

/// Longest sleep towards a timer: the wall clock may step forward meanwhile, which makes it due (R52).
const CLOCK_STEP_MAX: Duration = Duration::from_secs(1);

/// A hub on one of the threads.
pub(crate) struct Executor {
    shared: Arc<Shared>,
    /// Number of the thread.
    thread: usize,
    admission: Admission<To>,
    pulse: Arc<Pulse>,
    worker: Box<dyn Worker>,
    partitions: BTreeMap<u16, Partition<To>>,
    /// Messages between partitions of this thread.
    local: VecDeque<(u16, Input<To>)>,
    /// Messages to partitions of other threads, passed on behind their commits (A29).
    outgoing: Vec<(u16, Input<To>)>,
    /// Effects that wait for nothing.
    free: Vec<Release>,
    loads: BTreeMap<u16, Vec<InstanceId>>,
    out: Vec<Output<To>>,
    /// Messages to partitions that reload while others continue.
    away: BTreeMap<u16, Vec<Input<To>>>,
    draining: Option<oneshot::Sender<Vec<Lease>>>,
    /// The store is full, so no work is done (A43). Unfinished work is found again when the partitions reload after
    /// space is free.
    has_no_room: bool,
    /// What is done now, to tell what breaks.
    doing: Doing,
}

/// What an executor does.
#[derive(Clone, Debug)]
enum Doing {
    /// Something of its own.
    Own,
    /// A partition takes something in; whether that is about the instance which it worked on last.
    Partition(u16, bool),
    /// The worker runs code of an instance of a partition.
    Worker(u16, InstanceId),
}

impl Executor {
    pub(crate) fn new(shared: Arc<Shared>, thread: usize, pulse: Arc<Pulse>) -> Self {
        let worker = shared.functions.worker();
        Self {
            shared,
            thread,
            admission: Admission::default(),
            pulse,
            worker,
            partitions: BTreeMap::new(),
            local: VecDeque::new(),
            outgoing: Vec::new(),
            free: Vec::new(),
            loads: BTreeMap::new(),
            out: Vec::new(),
            away: BTreeMap::new(),
            draining: None,
            has_no_room: false,
            doing: Doing::Own,
        }
    }

    /// An assertion failed: the memory of the current partition is invalid, so it must reload. Its earlier commits are
    /// as valid as those of earlier rounds. If the partition is unknown, all of them must reload. Returns the
    /// partitions to reload.
    pub(crate) fn give_up_memory(&mut self, panic: &(dyn Any + Send)) -> Scope {
        let what = text_of(panic).to_owned();
        let (index, instance) = match std::mem::replace(&mut self.doing, Doing::Own) {
            Doing::Own => (None, None),
            Doing::Worker(index, instance) => {
                self.worker = self.shared.functions.worker();
                (Some(index), Some(instance))
            }
            Doing::Partition(index, is_about_one) => {
                let partition = self.partitions.get(&index).filter(|_| is_about_one);
                let instance = partition.and_then(|partition| partition.working_on().cloned());
                (Some(index), instance)
            }
        };
        self.pulse.end_all();
        // What it was about to say is not whole.
        self.out.clear();
        tracing::error!(hub = %self.shared.hub, partition = index, ?instance, what, "an internal assertion failed; reloading the partition from the store");
        let scope = if let Some(index) = index {
            self.drop_one(index);
            Scope::one(index)
        } else {
            self.drop_partitions();
            self.worker = self.shared.functions.worker();
            Scope::All
        };
        self.shared.blame(Broken {
            instance,
            what: format!("an internal assertion failed: {what}"),
            by: BrokenBy::Running,
        });
        self.shared.lose(scope.clone());
        scope
    }

    /// The hub is closed.
    pub(crate) fn leave(mut self) {
        self.drop_partitions();
    }

    /// Does what became possible with the inputs of a round.
    pub(crate) fn end_round(&mut self) {
        self.admit();
        if self.has_no_room {
            self.release_free();
        } else {
            self.tick();
            self.run_turns();
        }
        self.balance();
        self.hand_over();
        if let Some(done) = self.draining.take() {
            let leases = self
                .partitions
                .values()
                .map(|partition| partition.lease().clone())
                .collect();
            self.drop_partitions();
            self.admission.clear();
            let _nobody_waits = done.send(leases);
        }
        self.shared.publish(self.thread, self.report());
    }

    /// How long there is nothing to do unless something comes.
    pub(crate) fn pause(&self) -> Duration {
        if self.has_no_room {
            return IDLE_MAX;
        }
        if self.partitions.values().any(Partition::has_ready) && self.has_room() && self.shared.node.owns() {
            return Duration::ZERO;
        }
        let next = self.partitions.values().filter_map(Partition::next_tick);
        let next = next.chain(self.admission.next_at()).min();
        next.map_or(IDLE_MAX, |at| {
            at.since(self.shared.node.clock.now()).min(CLOCK_STEP_MAX)
        })
    }

    /// Takes an input in.
    pub(crate) fn take(&mut self, input: HubInput) {
        match input {
            HubInput::Partition(index, input) => {
                let now = || self.shared.node.clock.now();
                let has_room = || self.shared.node.group.has_room();
                if let Some(input) = self.admission.offer(index, input, now, has_room) {
                    self.step(index, input);
                }
            }
            HubInput::Adopt(adopted) => {
                self.has_no_room = adopted.has_no_room;
                let partition = adopted.partition;
                let index = partition.key().index;
                self.partitions.insert(index, partition);
                // They must come before all later messages.
                for message in self.away.remove(&index).unwrap_or_default() {
                    self.step(index, message);
                }
            }
            HubInput::Begin(index, outputs) => {
                self.out = outputs;
                self.with(index, false, Partition::begin);
                self.free
                    .push(Release::Task(Event::Announced(self.shared.partition(index))));
            }
            HubInput::Drop(done) => {
                self.drop_partitions();
                let _nobody_waits = done.send(());
            }
            HubInput::DropOne(index, done) => {
                self.drop_one(index);
                let _nobody_waits = done.send(());
            }
            HubInput::Drain(done) => self.draining = Some(done),
            HubInput::Report(to) => {
                let _nobody_waits = to.send(self.report());
            }
        }
    }

    /// Whether the disk keeps up, so that more may be made. If not, a word comes once it does.
    fn has_room(&self) -> bool {
        self.shared.node.group.has_room()
    }

    /// Takes in what had to wait, as far as there is room for it now.
    fn admit(&mut self) {
        let shared = Arc::clone(&self.shared);
        let limits = shared.node.group.limits();
        // Without partitions this would have no effect.
        while !self.partitions.is_empty()
            && let Some((index, input)) = self.admission.next(shared.node.clock.now(), limits, |ahead| {
                shared.node.group.is_ahead(ahead)
            })
        {
            self.step(index, input);
        }
    }

    fn step(&mut self, index: u16, input: Input<To>) {
        if self.has_no_room && !input.adds_no_work() {
            return;
        }
        if !self.partitions.contains_key(&index) {
            // Other inputs for a reloading partition are dropped, which notifies their senders.
            if let Some(kept) = self.away.get_mut(&index)
                && matches!(input, Input::Message { .. })
            {
                kept.push(input);
            }
            return;
        }
        if let Input::Request { to, .. } = &input
            && !(self.shared.node.owns() && to.begin())
        {
            return;
        }
        let now = self.shared.node.clock.now();
        self.with(index, true, |partition, out| partition.step(input, now, out));
    }

    /// Runs a function on a partition, then carries out its outputs.
    fn with(&mut self, index: u16, is_about_one: bool, work: impl FnOnce(&mut Partition<To>, &mut Vec<Output<To>>)) {
        self.doing = Doing::Partition(index, is_about_one);
        if let Some(partition) = self.partitions.get_mut(&index) {
            work(partition, &mut self.out);
        }
        self.doing = Doing::Own;
        self.carry_out(index);
    }

    /// Delivers messages between partitions of this thread; deliveries may cause more.
    fn deliver_local(&mut self) {
        while let Some((index, input)) = self.local.pop_front() {
            self.step(index, input);
        }
    }

    fn partitions_that(&self, wanted: impl Fn(&Partition<To>) -> bool) -> Vec<u16> {
        let those = self.partitions.iter().filter(|(_, partition)| wanted(partition));
        those.map(|(index, _)| *index).collect()
    }

    fn tick(&mut self) {
        let now = self.shared.node.clock.now();
        let due = self.partitions_that(|partition| partition.next_tick().is_some_and(|at| at <= now));
        for index in due {
            self.step(index, Input::Tick);
        }
    }

    fn run_turns(&mut self) {
        // Effects that wait for no commit must not wait for user code either.
        self.release_free();
        for _ in 0..ROUND_PASSES_MAX {
            self.deliver_local();
            let ready = self.partitions_that(Partition::has_ready);
            if ready.is_empty() {
                break;
            }
            for index in ready {
                if !self.begin_turns(index) {
                    return;
                }
            }
        }
    }

    /// Runs the turns that are ready now in a partition, some at a time. Returns false when the disk is too far behind.
    fn begin_turns(&mut self, index: u16) -> bool {
        let ready = self.partitions.get(&index).map_or(0, Partition::ready);
        for _ in 0..ready.div_ceil(TURNS_AT_ONCE) {
            if !self.has_room() || !self.shared.node.owns() {
                return false;
            }
            let now = self.shared.node.clock.now();
            self.with(index, true, |partition, out| partition.turns(now, TURNS_AT_ONCE, out));
        }
        true
    }

    /// Evicts instances even if only reads loaded them, and loads instances that wait for memory.
    fn balance(&mut self) {
        for index in self.partitions_that(Partition::needs_balance) {
            let now = self.shared.node.clock.now();
            self.with(index, false, |partition, out| partition.balance(now, out));
        }
    }

    /// Carries out the outputs of one step of a partition. Two things decide the order. Everything except user code
    /// comes first: the commits of the step must be in the batch before a turn runs, because the answer of the turn is
    /// a further input, which makes later commits; and if user code panics or blocks, no output of the step is lost.
    /// Commits are pushed before the effects that wait for them, because both travel in one batch and the committer
    /// releases an effect only together with, or after, the group that has its commit. Turns and messages between
    /// partitions of this node do not wait: they may run ahead of the disk, because if their cause is lost the memory
    /// of all partitions that could have seen it is dropped too.
    fn carry_out(&mut self, index: u16) {
        let mut for_worker = Vec::new();
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Commit { seq, commit } => {
                    if let Some(partition) = self.partitions.get(&index) {
                        let (key, epoch) = (partition.key(), partition.lease().epoch);
                        let made = Made {
                            partition: key,
                            epoch,
                            seq,
                            commit,
                        };
                        self.pulse.push(&self.shared, made);
                    }
                }
                Output::Fingerprints => {
                    if let Some(partition) = self.partitions.get(&index) {
                        let filling = Arc::clone(&self.shared).fill_filter(index, partition.lease().epoch);
                        self.shared.spawn_read(filling);
                    }
                }
                Output::Load(instance) => self.loads.entry(index).or_default().push(instance),
                Output::History {
                    instance,
                    fence,
                    execution,
                } => self.read_history(instance, fence, execution),
                turn_or_evict @ (Output::Turn(_) | Output::Evict(_)) => for_worker.push(turn_or_evict),
                Output::Message { at, item } => {
                    let target = self.shared.partition_of(&item.target);
                    let input = Input::Message { at, item };
                    if self.partitions.contains_key(&target) {
                        self.local.push_back((target, input));
                    } else {
                        self.outgoing.push((target, input));
                    }
                }
                Output::Dispatch { seq, offer } => self.hold(index, seq, Release::Task(Event::Offer(offer))),
                Output::Withdraw { seq, key } => self.hold(index, seq, Release::Task(Event::Withdraw(key))),
                Output::Settled { seq, key } => self.hold(index, seq, Release::Task(Event::Settled(key))),
                Output::Reply { seq, to, reply } => {
                    let hub = self.shared.number;
                    let at = At {
                        hub,
                        partition: index,
                        seq,
                    };
                    self.hold(index, seq, Release::Reply(to, reply, at));
                }
            }
        }
        for output in for_worker {
            match output {
                _ if self.pulse.is_given_up() => return,
                Output::Turn(item) => self.run_turn(index, &item),
                Output::Evict(instance) => {
                    let partition = self.shared.partition(index);
                    self.doing = Doing::Worker(index, instance.clone());
                    self.worker.evict(&partition, &instance);
                    self.doing = Doing::Own;
                }
                _ => {}
            }
        }
    }

    fn hold(&mut self, index: u16, seq: Seq, release: Release) {
        let is_durable = self
            .partitions
            .get(&index)
            .is_some_and(|partition| seq <= partition.durable());
        if is_durable {
            self.free.push(release);
        } else {
            self.pulse.hold(self.shared.number, release);
        }
    }

    fn run_turn(&mut self, index: u16, item: &TurnItem) {
        self.doing = Doing::Worker(index, item.instance.clone());
        self.pulse.begin(self.shared.number, &item.instance);
        let outcome = self.worker.turn(item);
        self.pulse.end();
        self.doing = Doing::Own;
        if self.pulse.is_given_up() || matches!(outcome, TurnOutcome::Out) {
            return;
        }
        let input = Input::Turned {
            instance: item.instance.clone(),
            fence: item.fence,
            outcome,
        };
        self.step(index, input);
    }

    /// Commits first, then the messages they cause (A33).
    fn hand_over(&mut self) {
        self.deliver_local();
        self.pulse.hand_over(&self.shared);
        if self.pulse.is_given_up() {
            return;
        }
        for (index, input) in std::mem::take(&mut self.outgoing) {
            self.shared.send(index, input);
        }
        self.release_free();
        for (index, instances) in std::mem::take(&mut self.loads) {
            let Some(epoch) = self.partitions.get(&index).map(|partition| partition.lease().epoch) else {
                continue;
            };
            let shared = Arc::clone(&self.shared);
            self.shared.spawn_read(load(shared, index, epoch, instances));
        }
    }

    fn release_free(&mut self) {
        let free = std::mem::take(&mut self.free);
        if !free.is_empty() && !self.pulse.is_given_up() {
            self.shared.release(free);
        }
    }

    fn read_history(&self, instance: InstanceId, fence: Fence, execution: ExecutionKey) {
        let shared = Arc::clone(&self.shared);
        self.shared.spawn_read(async move {
            let index = execution.partition.index;
            let Some(read) = read(&shared, index, || {
                shared.node.store.history(&execution, HistoryRange::ALL)
            })
            .await
            else {
                return;
            };
            let input = match read.and_then(|chunks| decode_history(&chunks)) {
                Ok(events) => Input::History {
                    instance,
                    fence,
                    events,
                },
                Err(error) => {
                    let reason = format!("cannot read its history: {error}");
                    Input::Turned {
                        instance,
                        fence,
                        outcome: TurnOutcome::Failed { reason },
                    }
                }
            };
            shared.send(index, input);
        });
    }

    /// Drops a partition while the others go on. What it made is handed over first: the others may have gone on with it.
    fn drop_one(&mut self, index: u16) {
        if let Some(partition) = self.partitions.remove(&index) {
            self.forget(&partition);
            self.away.insert(index, Vec::new());
        }
        self.loads.remove(&index);
        self.pulse.hand_over(&self.shared);
    }

    /// A live future of a dropped partition may know events that never became durable (A22), so it is dropped too. A
    /// destructor in it may panic, which must not end the thread.
    fn forget(&mut self, partition: &Partition<To>) {
        let forgotten = catch_unwind(AssertUnwindSafe(|| self.worker.forget(partition.key())));
        if let Err(panic) = forgotten {
            let what = text_of(panic.as_ref());
            tracing::error!(partition = %partition.key(), what, "a value held by an orchestrator panicked while being \
                dropped");
        }
    }

    fn drop_partitions(&mut self) {
        for partition in std::mem::take(&mut self.partitions).into_values() {
            self.forget(&partition);
        }
        self.away.clear();
        self.local.clear();
        self.outgoing.clear();
        self.out.clear();
        self.loads.clear();
        self.pulse.forget(self.shared.number);
        self.free.clear();
    }

    fn report(&self) -> Report {
        let mut report = Report {
            live_bytes: self.worker.live_bytes(),
            ..Report::default()
        };
        for partition in self.partitions.values() {
            let (instances, instance_bytes) = partition.memory();
            report.add(&Report {
                counts: partition.counts(),
                instances,
                instance_bytes,
                live_bytes: 0,
            });
        }
        report
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// Reads states, and tells the partition.
async fn load(shared: Arc<Shared>, index: u16, epoch: Epoch, instances: Vec<InstanceId>) {
    let partition = shared.partition(index);
    let Some(states) = read(&shared, index, || {
        load_each(shared.node.store.as_ref(), &partition, &instances)
    })
    .await
    else {
        return;
    };
    let states = states.unwrap_or_else(|error| instances.iter().map(|_| Err(error.to_string())).collect());
    for (instance, state) in instances.into_iter().zip(states) {
        shared.send(index, Input::of_state(instance, epoch, state));
    }
}

/// Retries a read while the store is only unreachable, because the inputs that wait for it, such as results of
/// activities, must not be lost. Returns `None` when no one waits any more, because the hub is closed or the partition
/// reloads.
async fn read<T, F: Future<Output = Result<T, StoreError>>>(
    shared: &Shared,
    index: u16,
    read: impl Fn() -> F,
) -> Option<Result<T, StoreError>> {
    let life = shared.life(index);
    let mut pause = READ_PAUSE_MIN;
    loop {
        match read().await {
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Unknown { .. })) => {
                tracing::warn!(hub = %shared.hub, error = %chain(&error), "a read from the store failed; retrying");
            }
            result => return Some(result),
        }
        sleep(pause).await;
        pause = READ_PAUSE_MAX.min(pause * 2);
        if shared.is_closed() || shared.life(index) != life {
            return None;
        }
    }
}
