//! The owner of a whole hub, as the engine is one but in a few lines: it makes commits with core's
//! functions, folds them in memory, hands them to the store in groups, and compares.

mod check;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::Ids;
use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::commit::{Change, Commit, OpenKind};
use taskhub_core::control::{self, Started};
use taskhub_core::event::{HistoryEvent, Tags};
use taskhub_core::id::{ExecutionId, Fence, HubName, InstanceId, InstanceNumber, Name, Occurrence, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{OutboxItem, OutboxRef, Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_core::turn;

use super::done;
use crate::{Claim, Group, Lease, NodeId, PartitionKey, Recovered, Section, Store, partition_of};

/// The node that every owner is.
pub const NODE: NodeId = NodeId(7);

pub fn hub(text: &str) -> HubName {
    HubName::new(text).unwrap_or_else(|refusal| panic!("{refusal}"))
}

pub fn instance(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap_or_else(|refusal| panic!("{refusal}"))
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Ids of one partition, in sequence.
#[derive(Debug)]
struct Counter {
    partition: u16,
    executions: u64,
    next_number: InstanceNumber,
}

impl Ids for Counter {
    fn execution(&mut self) -> ExecutionId {
        self.executions += 1;
        let value = (u128::from(self.partition) << 64) | u128::from(self.executions);
        ExecutionId::new(value.to_be_bytes())
    }

    fn instance_number(&mut self) -> InstanceNumber {
        let number = self.next_number;
        self.next_number = number.next();
        number
    }
}

#[derive(Debug)]
struct Partition {
    lease: Lease,
    next_seq: Seq,
    ids: Counter,
}

/// What should be stored of an instance.
#[derive(Debug)]
struct Known {
    state: InstanceState,
    history: BTreeMap<u32, Vec<HistoryEvent>>,
}

/// The owner. Its methods panic where the store does not do what it must.
pub struct Owner<'s> {
    store: &'s dyn Store,
    hub: HubName,
    partitions: Vec<Partition>,
    open: Vec<Section>,
    known: BTreeMap<InstanceId, Known>,
    /// What should be in the outboxes, the oldest first within each partition.
    pub outbox: BTreeMap<OutboxRef, OutboxItem>,
    /// The clock; it stands still between commits unless it is moved.
    pub now: Timestamp,
}

impl std::fmt::Debug for Owner<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Owner")
            .field("hub", &self.hub)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl<'s> Owner<'s> {
    /// Creates a hub and claims all of it.
    pub fn new(store: &'s dyn Store, name: &str, partitions: u16) -> Self {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        done(store.create_hub(&hub(name), partitions, now));
        let keys: Vec<PartitionKey> = (0..partitions)
            .map(|index| PartitionKey { hub: hub(name), index })
            .collect();
        let partition = |lease: Lease| {
            let (next_seq, next_number) = counters(store, &lease);
            Partition {
                ids: Counter {
                    partition: lease.partition.index,
                    executions: 0,
                    next_number,
                },
                next_seq,
                lease,
            }
        };
        let claimed = done(store.claim(&Claim::new(NODE, &keys, now)));
        let partitions = claimed.leases.into_iter().map(partition).collect();
        let (open, known, outbox) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            store,
            hub: hub(name),
            partitions,
            open,
            known,
            outbox,
            now,
        }
    }

    /// The same owner over a store opened anew; nothing may be waiting for a flush.
    pub fn over(self, store: &dyn Store) -> Owner<'_> {
        assert!(self.open.is_empty(), "what was not flushed would be lost");
        let Self {
            hub,
            partitions,
            open,
            known,
            outbox,
            now,
            ..
        } = self;
        Owner {
            store,
            hub,
            partitions,
            open,
            known,
            outbox,
            now,
        }
    }

    /// Claims every partition anew.
    pub fn claim(&mut self) {
        let keys: Vec<PartitionKey> = self
            .partitions
            .iter()
            .map(|partition| partition.lease.partition.clone())
            .collect();
        let claimed = done(self.store.claim(&Claim::new(NODE, &keys, self.now)));
        for (partition, lease) in self.partitions.iter_mut().zip(claimed.leases) {
            partition.lease = lease;
        }
    }

    /// The lease of a partition.
    pub fn lease(&self, partition: u16) -> &Lease {
        &self.partitions[usize::from(partition)].lease
    }

    /// The leases of all partitions.
    pub fn leases(&self) -> Vec<Lease> {
        self.partitions
            .iter()
            .map(|partition| partition.lease.clone())
            .collect()
    }

    pub fn hub(&self) -> &HubName {
        &self.hub
    }

    /// The partition of an instance.
    pub fn partition_of(&self, id: &InstanceId) -> u16 {
        partition_of(id, u16::try_from(self.partitions.len()).unwrap_or(u16::MAX))
    }

    /// What is known of an instance, if it exists.
    pub fn state(&self, id: &InstanceId) -> Option<&InstanceState> {
        self.known.get(id).map(|known| &known.state)
    }

    /// All that exist.
    pub fn ids(&self) -> Vec<InstanceId> {
        self.known.keys().cloned().collect()
    }

    /// Moves the clock.
    pub fn wait(&mut self, micros: u64) {
        self.now = self.now.plus(Duration::from_micros(micros));
    }

    /// A start request with nothing special in it.
    pub fn request(id: &InstanceId) -> StartRequest {
        StartRequest {
            instance: id.clone(),
            name: name("Hello"),
            version: None,
            input: Some(Payload::text("\"Tokyo\"")),
            tags: Tags::new(),
            scheduled_start: None,
            execution: None,
            reuse: ReusePolicy::ReplaceEnded,
            key: None,
            repeats: Repeats::default(),
        }
    }

    pub fn start(&mut self, id: &InstanceId) {
        self.start_with(&Self::request(id));
    }

    /// Starts an instance as a request says.
    pub fn start_with(&mut self, request: &StartRequest) {
        let partition = usize::from(self.partition_of(&request.instance));
        let existing = self.known.get(&request.instance).map(|known| &known.state);
        match control::create(existing, request, &mut self.partitions[partition].ids, self.now) {
            Ok(Started::New(commit)) => self.commit(*commit),
            Ok(Started::Repeated) => {}
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// Makes a commit from an instance's state.
    pub fn with<C: Into<Option<Commit>>>(
        &mut self,
        id: &InstanceId,
        make: impl FnOnce(&InstanceState, Timestamp) -> C,
    ) -> bool {
        let now = self.now;
        let Some(state) = self.state(id) else {
            panic!("`{id}` does not exist")
        };
        let commit = make(state, now).into();
        let is_made = commit.is_some();
        if let Some(commit) = commit {
            self.commit(commit);
        }
        is_made
    }

    /// Runs a turn that asks for these actions.
    pub fn turn(&mut self, id: &InstanceId, actions: Vec<ActionKind>) {
        let next = self
            .state(id)
            .map_or(0, |state| i32::try_from(state.next_occurrence.0).unwrap_or(0));
        let actions = (next..).zip(actions).map(|(id, kind)| Action { id, kind }).collect();
        self.answer(id, actions, None);
    }

    /// Runs a turn that asks for actions with ids and may set a custom status.
    pub fn answer(&mut self, id: &InstanceId, actions: Vec<Action>, custom_status: Option<Payload>) {
        let partition = usize::from(self.partition_of(id));
        let Some(known) = self.known.get(id) else {
            panic!("`{id}` does not exist")
        };
        let fence = Fence {
            epoch: self.partitions[partition].lease.epoch,
            counter: 0,
        };
        let turn = turn::begin(&known.state, fence, self.now);
        let answer = TurnAnswer {
            fence,
            actions,
            custom_status,
            events_processed: None,
        };
        let ids = &mut self.partitions[partition].ids;
        match turn::finish(&known.state, &turn, answer, ids, self.now) {
            Ok(commit) => self.commit(commit),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// Runs the turn that ends an instance.
    pub fn complete(&mut self, id: &InstanceId, output: Option<Payload>) {
        self.turn(
            id,
            vec![ActionKind::CompleteOrchestration(Completion::Completed(output))],
        );
    }

    /// Answers the oldest open activity.
    pub fn answer_task(&mut self, id: &InstanceId, outcome: Outcome) {
        let Some(occurrence) = self.open_task(id) else {
            panic!("`{id}` has no open activity")
        };
        self.with(id, |state, now| control::complete_task(state, occurrence, outcome, now));
    }

    /// The oldest open activity.
    pub fn open_task(&self, id: &InstanceId) -> Option<Occurrence> {
        let mut open = self.state(id)?.open.values();
        open.find(|open| matches!(open.kind, OpenKind::Task { .. }))
            .map(|open| open.occurrence)
    }

    /// Hands the oldest outbox item to its receiver.
    pub fn deliver(&mut self) -> bool {
        let Some((at, item)) = self.outbox.iter().next().map(|(at, item)| (*at, item.clone())) else {
            return false;
        };
        let partition = usize::from(self.partition_of(&item.target));
        let state = self.known.get(&item.target).map(|known| &known.state);
        let commit = control::receive(state, &item, at, &mut self.partitions[partition].ids, self.now);
        self.commit(commit);
        true
    }

    /// Applies a commit to memory and puts it into the open group.
    pub fn commit(&mut self, commit: Commit) {
        let index = self.partition_of(&commit.instance);
        self.apply(index, &commit);
        let partition = &mut self.partitions[usize::from(index)];
        let seq = partition.next_seq;
        partition.next_seq = seq.next();
        match self.open.last_mut() {
            Some(section) if section.partition.index == index => section.commits.push(commit),
            _ => self.open.push(Section {
                partition: partition.lease.partition.clone(),
                epoch: partition.lease.epoch,
                first_seq: seq,
                commits: vec![commit],
            }),
        }
    }

    fn apply(&mut self, partition: u16, commit: &Commit) {
        let seq = self.partitions[usize::from(partition)].next_seq;
        match &commit.change {
            Some(Change::Create(creation)) => {
                let state = InstanceState::created(commit.number, creation);
                self.known.insert(
                    commit.instance.clone(),
                    Known {
                        state,
                        history: BTreeMap::new(),
                    },
                );
            }
            Some(Change::Update(update)) => {
                let Some(known) = self.known.get_mut(&commit.instance) else {
                    panic!("`{}` does not exist", commit.instance)
                };
                known
                    .history
                    .entry(known.state.info.ordinal)
                    .or_default()
                    .extend(update.events.iter().cloned());
                known.state.apply(commit);
                let newest = known.state.info.ordinal;
                known
                    .history
                    .retain(|ordinal, _| ordinal + limits::ARCHIVED_EXECUTIONS_MAX >= newest);
            }
            Some(Change::Purge) => drop(self.known.remove(&commit.instance)),
            None => {}
        }
        for (index, item) in (0..).zip(&commit.outbox) {
            self.outbox.insert(OutboxRef { partition, seq, index }, item.clone());
        }
        if let Some(consumed) = commit.consumed {
            self.outbox.remove(&consumed);
        }
    }

    /// Forgets instances that are of no interest any more; they cannot be checked after that.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The group that would be committed now.
    pub fn take_group(&mut self) -> Group {
        Group {
            sections: std::mem::take(&mut self.open),
        }
    }

    /// Commits what has gathered as one group.
    pub fn flush(&mut self) {
        let group = self.take_group();
        done(self.store.commit(Arc::new(group)));
    }
}

/// Where counting goes on, of commits and of instances.
pub(super) fn counters(store: &dyn Store, lease: &Lease) -> (Seq, InstanceNumber) {
    match done(store.recover(lease)).first() {
        Some(Recovered::Counters {
            next_seq,
            next_instance,
            ..
        }) => (*next_seq, *next_instance),
        other => panic!("counters come first, not {other:?}"),
    }
}
