//! The test hub at work: inputs go into the partition, what it says is done on the spot, and whenever all wait the
//! clock jumps.

use std::time::Duration;

use taskhub_core::commit::{Change, Commit};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::InstanceId;
use taskhub_core::message::Outcome;
use taskhub_core::refusal::Refusal;
use taskhub_core::time::Timestamp;
use taskhub_engine::dispatcher::{Event, Order, Token};
use taskhub_engine::flaw::Flaws;
use taskhub_engine::io::{Input, Output, Reply, Request};
use taskhub_engine::partition::{Destination, Partition, Random, Setup};
use taskhub_engine::worker::{ActivityCall, Offered, TaskKey, Worker};
use taskhub_store::blocking::{Reader, Writer};
use taskhub_store::mem::{MemData, MemWriter};
use taskhub_store::{
    Claim, Error as StoreError, Group, HistoryRange, Lease, NodeId, PartitionKey, Recovered, Section, decode_history,
};

use super::{ActivityRecord, Histories, TestHub, fake};
use crate::activity::timed_out;
use crate::retry::take_attempt;

/// Turns of one call of `run`; a test that needs more runs for ever.
const TURNS_MAX: u64 = 1_000_000;

/// Whoever calls a method of the test hub: there is one at a time, who waits for the answer.
#[derive(Debug)]
pub(super) struct Caller;

impl Destination for Caller {
    fn is_gone(&self) -> bool {
        false
    }
}

/// What is stored, in memory.
pub(super) struct Disk {
    data: MemData,
    writer: MemWriter,
    partition: PartitionKey,
}

impl Disk {
    /// An empty one, with a hub of one partition.
    pub(super) fn new(partition: PartitionKey, now: Timestamp) -> Self {
        let data = MemData::new();
        let mut writer = data.writer();
        done(writer.create_hub(&partition.hub, 1, now));
        Self {
            data,
            writer,
            partition,
        }
    }

    /// What is stored of the partition.
    pub(super) fn read(&self, lease: &Lease) -> Vec<Recovered> {
        done(self.data.reader().recover(lease))
    }

    /// The partition as it is stored, and what it wants done.
    pub(super) fn recover(&mut self, may_be_running: bool, now: Timestamp) -> (Partition<Caller>, Vec<Output<Caller>>) {
        let claim = Claim::new(NodeId(1), std::slice::from_ref(&self.partition), now).steal();
        let Some(lease) = done(self.writer.claim(&claim)).leases.pop() else {
            unreachable!("nobody else has the partition")
        };
        let recovered = self.read(&lease);
        let setup = Setup {
            // A test sees the same ids each time, and none of them twice.
            random: Random::Seeded(lease.epoch.0.into()),
            lease,
            // Nothing leaves memory: status records are shown from there.
            memory_bytes_max: usize::MAX / 2,
            orchestrators_offered: Offered::default(),
            set_aside: Vec::new(),
            out_of_service: Vec::new(),
            sweep_min: 1_024,
            may_be_running,
            flaws: Flaws::default(),
        };
        let mut out = Vec::new();
        let mut partition = Partition::recover(setup, recovered, now, &mut out);
        partition.begin(&mut out);
        (partition, out)
    }
}

/// What memory answers: it does not fail, and there is no second node.
fn done<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => unreachable!("memory does not fail: {error}"),
    }
}

/// The clock.
impl TestHub {
    /// Runs until nothing is left to do; whenever all wait, the clock jumps to what is due next.
    ///
    /// # Panics
    ///
    /// If it never ends: an orchestration that goes on for ever is run with [`TestHub::advance`].
    pub fn run(&mut self) {
        let before = self.partition.counts().turns;
        self.settle();
        while let Some(next) = self.next_due() {
            self.now = self.now.max(next);
            self.settle();
            assert!(
                self.partition.counts().turns - before < TURNS_MAX,
                "the instances never become idle; use `advance` for instances that never end"
            );
        }
    }

    /// Runs all that can run without moving the clock, and tells how many turns that took.
    ///
    /// # Panics
    ///
    /// If it never ends.
    pub fn settle(&mut self) -> usize {
        let before = self.partition.counts().turns;
        loop {
            self.take_inputs();
            if self.happen() {
                continue;
            }
            let turns = self.partition.counts().turns - before;
            if !self.partition.has_ready() {
                return usize::try_from(turns).unwrap_or(usize::MAX);
            }
            assert!(turns < TURNS_MAX, "the instances never become idle at {}", self.now);
            let mut out = Vec::new();
            self.partition.turns(self.now, 1, &mut out);
            self.carry_out(out);
        }
    }

    /// Moves the clock, running all that is due on the way.
    ///
    /// # Panics
    ///
    /// If it never ends.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now.plus(time);
        self.settle();
        while let Some(next) = self.next_due().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// When something is due next.
    fn next_due(&mut self) -> Option<Timestamp> {
        let ends = self.running.first_key_value().map(|((at, _), _)| *at);
        ends.into_iter().chain(self.partition.next_due()).min()
    }

    /// Has one thing happen that is due by now, if there is one.
    fn happen(&mut self) -> bool {
        if let Some(entry) = self.running.first_entry()
            && entry.key().0 <= self.now
        {
            let ((_, token), (key, outcome)) = entry.remove_entry();
            self.dispatch(Event::Done { key, token, outcome });
            return true;
        }
        let is_due = self.partition.next_tick().is_some_and(|at| at <= self.now);
        if is_due {
            self.inputs.push_back(Input::Tick);
        }
        is_due
    }
}

/// The shell around the partition and the dispatcher.
impl TestHub {
    /// Wants something of an instance.
    pub(super) fn ask(&mut self, instance: &InstanceId, request: Request) -> Result<(), Refusal> {
        self.inputs.push_back(Input::Request {
            instance: instance.clone(),
            request,
            to: Caller,
        });
        self.take_inputs();
        match self.reply.take() {
            Some(Reply::Refused(refusal)) => Err(refusal),
            Some(_) => Ok(()),
            None => unreachable!("a request is answered as soon as its instance is read"),
        }
    }

    /// Reads the partition anew, as the next process does.
    pub(super) fn recover(&mut self, may_be_running: bool) {
        let key = self.disk.partition.clone();
        self.worker.forget(&key);
        self.dispatch(Event::Reset(key.clone()));
        let (partition, out) = self.disk.recover(may_be_running, self.now);
        self.partition = partition;
        self.carry_out(out);
        self.dispatch(Event::Announced(key));
        let instances: Vec<InstanceId> = self.histories.keys().cloned().collect();
        for instance in instances {
            if let Err(refusal) = self.ask(&instance, Request::Info) {
                unreachable!("a status record is shown of whatever there is: {refusal}");
            }
        }
    }

    fn take_inputs(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let mut out = Vec::new();
            self.partition.step(input, self.now, &mut out);
            self.carry_out(out);
        }
    }

    /// Does what the partition wants done: its commits first, so that all the rest is let go in its order.
    fn carry_out(&mut self, out: Vec<Output<Caller>>) {
        let (mut first, mut commits, mut effects) = (None, Vec::new(), Vec::new());
        for output in out {
            if let Output::Commit { seq, commit } = output {
                first.get_or_insert(seq);
                self.note(&commit);
                commits.push(commit);
            } else {
                effects.push(output);
            }
        }
        if let Some(first_seq) = first {
            let section = Section {
                partition: self.disk.partition.clone(),
                epoch: self.partition.lease().epoch,
                first_seq,
                commits,
            };
            let sections = vec![section];
            done(self.disk.writer.stage(&Group { sections }));
            done(self.disk.writer.seal());
            let durable = Input::Durable(self.partition.last_seq());
            self.partition.step(durable, self.now, &mut Vec::new());
        }
        for effect in effects {
            self.let_go(effect);
        }
    }

    fn let_go(&mut self, effect: Output<Caller>) {
        let epoch = self.partition.lease().epoch;
        match effect {
            Output::Load(instance) => {
                let mut reader = self.disk.data.reader();
                let state = done(reader.load(&self.disk.partition, std::slice::from_ref(&instance))).pop();
                self.inputs
                    .push_back(Input::of_state(instance, epoch, Ok(state.flatten())));
            }
            Output::History {
                instance,
                fence,
                execution,
            } => {
                let chunks = done(self.disk.data.reader().history(&execution, HistoryRange::ALL));
                self.inputs.push_back(Input::History {
                    instance,
                    fence,
                    events: done(decode_history(&chunks)),
                });
            }
            Output::Turn(item) => {
                let outcome = self.worker.turn(&item);
                self.inputs.push_back(Input::Turned {
                    instance: item.instance,
                    fence: item.fence,
                    outcome,
                });
            }
            Output::Evict(instance) => self.worker.evict(&self.disk.partition, &instance),
            Output::Message { at, item } => self.inputs.push_back(Input::Message { at, item }),
            Output::Dispatch { offer, .. } => self.dispatch(Event::Offer(offer)),
            Output::Withdraw { key, .. } => self.withdraw(key),
            Output::Settled { key, .. } => self.dispatch(Event::Settled(key)),
            Output::Reply { reply, .. } => self.reply = Some(reply),
            // Durable by now; and the filter of ids is never filled, since every id is looked up (A40).
            Output::Commit { .. } | Output::Fingerprints => {}
        }
    }

    /// Keeps the events of a commit, to be shown; also those of executions that the store has dropped.
    fn note(&mut self, commit: &Commit) {
        match &commit.change {
            Some(Change::Create(_)) => {
                self.histories.insert(commit.instance.clone(), Histories::default());
            }
            Some(Change::Update(update)) => {
                let kept = self.histories.entry(commit.instance.clone()).or_default();
                kept.current.extend(update.events.iter().cloned());
                if update.continued.is_some() {
                    kept.earlier.push(std::mem::take(&mut kept.current));
                }
            }
            Some(Change::Purge) => {
                self.histories.remove(&commit.instance);
            }
            None => {}
        }
    }

    fn dispatch(&mut self, event: Event) {
        let mut orders = Vec::new();
        self.dispatcher.step(event, &mut orders);
        for order in orders {
            match order {
                Order::Run { call, token } => self.run_activity(call, token),
                Order::Result { key, outcome } => self.inputs.push_back(Input::TaskDone { key, outcome }),
                Order::Redeliver { key, deliveries } => {
                    self.inputs.push_back(Input::TaskRedelivered { key, deliveries });
                }
            }
        }
    }

    fn run_activity(&mut self, call: ActivityCall, token: Token) {
        self.calls.push(ActivityRecord {
            instance: call.key.instance.clone(),
            name: call.name.to_string(),
            input: call.input.clone(),
            at: self.now,
            attempt: take_attempt(&mut call.tags.clone()),
            delivery: call.delivery,
        });
        let key = call.key.clone();
        let (outcome, time) = if let Some(fake) = self.fakes.get_mut(&FoldedName::from(&call.name)) {
            let outcome = fake.call(call.input.as_ref());
            let entry = self.registry.find_activity(&call.name);
            match entry.and_then(|entry| entry.options.timeout) {
                Some(timeout) if timeout < fake.time => {
                    let failure = timed_out(call.name.as_str(), timeout);
                    (Outcome::Failed(Box::new(failure)), timeout)
                }
                _ => (outcome, fake.time),
            }
        } else {
            (fake::perform(&self.registry, call), Duration::ZERO)
        };
        self.running.insert((self.now.plus(time), token), (key, outcome));
    }

    /// An activity whose result nobody wants any more ends at once, and leaves its place to the next.
    fn withdraw(&mut self, key: TaskKey) {
        let running = self.running.iter().find(|(_, (running, _))| *running == key);
        let at = running.map(|(at, _)| *at);
        self.dispatch(Event::Withdraw(key));
        if let Some(at) = at
            && let Some((key, outcome)) = self.running.remove(&at)
        {
            let token = at.1;
            self.dispatch(Event::Done { key, token, outcome });
        }
    }
}
