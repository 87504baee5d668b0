//! The maps, and what one commit does to them.

use std::collections::BTreeMap;

use taskhub_core::commit::{Change, Commit, Creation};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{Epoch, HubName, InstanceId, InstanceNumber, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{OutboxItem, OutboxRef};

use crate::fence::no_such_partition;
use crate::{Error, HubInfo, PartitionKey, Section};

/// Everything there is.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) hubs: BTreeMap<HubName, Hub>,
    /// Above every epoch of a deleted hub: a new hub of the same name must not know its owners' fences.
    pub(super) epoch_floor: Epoch,
}

/// A hub.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) info: HubInfo,
    pub(super) partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) epoch: Epoch,
    pub(super) is_clean: bool,
    pub(super) next_seq: Seq,
    pub(super) next_instance: InstanceNumber,
    pub(super) numbers: BTreeMap<InstanceId, InstanceNumber>,
    pub(super) instances: BTreeMap<InstanceNumber, Instance>,
    pub(super) outbox: BTreeMap<(Seq, u32), OutboxItem>,
}

/// An instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) state: InstanceState,
    /// Histories by ordinal of the execution.
    pub(super) history: BTreeMap<u32, Vec<HistoryEvent>>,
}

impl Tables {
    pub(super) fn hub(&self, name: &HubName) -> Result<&Hub, Error> {
        self.hubs
            .get(name)
            .ok_or_else(|| Error::NoSuchHub { hub: name.clone() })
    }

    pub(super) fn partition(&self, key: &PartitionKey) -> Result<&Partition, Error> {
        self.hub(&key.hub)?
            .partitions
            .get(usize::from(key.index))
            .ok_or_else(|| no_such_partition(key))
    }

    pub(super) fn partition_mut(&mut self, key: &PartitionKey) -> Result<&mut Partition, Error> {
        let hub = self
            .hubs
            .get_mut(&key.hub)
            .ok_or_else(|| Error::NoSuchHub { hub: key.hub.clone() })?;
        hub.partitions
            .get_mut(usize::from(key.index))
            .ok_or_else(|| no_such_partition(key))
    }

    /// Applies a section whose fence was checked.
    pub(super) fn apply(&mut self, section: &Section) -> Result<(), Error> {
        for commit in &section.commits {
            let partition = self.partition_mut(&section.partition)?;
            partition.apply(commit);
            if let Some(OutboxRef { partition, seq, index }) = commit.consumed {
                let sender = PartitionKey {
                    hub: section.partition.hub.clone(),
                    index: partition,
                };
                let taken = self.partition_mut(&sender)?.outbox.remove(&(seq, index));
                assert!(taken.is_some(), "an outbox item is consumed once (R188)");
            }
        }
        Ok(())
    }
}

impl Partition {
    pub(super) fn new(epoch: Epoch, next_instance: InstanceNumber) -> Self {
        Self {
            epoch,
            is_clean: true,
            // From 1, so that 0 says "nothing yet".
            next_seq: Seq(1),
            next_instance,
            numbers: BTreeMap::new(),
            instances: BTreeMap::new(),
            outbox: BTreeMap::new(),
        }
    }

    fn apply(&mut self, commit: &Commit) {
        match &commit.change {
            Some(Change::Create(creation)) => self.create(commit, creation),
            Some(Change::Update(update)) => {
                let Some(instance) = self.instances.get_mut(&commit.number) else {
                    unreachable!("a commit changes an instance that exists (R26)")
                };
                let ordinal = instance.state.info.ordinal;
                instance.state.apply(commit);
                instance
                    .history
                    .entry(ordinal)
                    .or_default()
                    .extend(update.events.iter().cloned());
                let newest = instance.state.info.ordinal;
                instance
                    .history
                    .retain(|ordinal, _| ordinal + limits::ARCHIVED_EXECUTIONS_MAX >= newest);
            }
            Some(Change::Purge) => self.remove(commit.number),
            None => {}
        }
        for (index, item) in (0..).zip(&commit.outbox) {
            self.outbox.insert((self.next_seq, index), item.clone());
        }
        self.next_seq = self.next_seq.next();
    }

    fn create(&mut self, commit: &Commit, creation: &Creation) {
        if let Some(old) = creation.replaces {
            self.remove(old);
        }
        let state = InstanceState::created(commit.number, creation);
        self.next_instance = self.next_instance.max(commit.number.next());
        let before = self.numbers.insert(commit.instance.clone(), commit.number);
        assert!(before.is_none(), "an id belongs to one instance at a time (R138)");
        self.instances.insert(
            commit.number,
            Instance {
                state,
                history: BTreeMap::new(),
            },
        );
    }

    fn remove(&mut self, number: InstanceNumber) {
        let Some(instance) = self.instances.remove(&number) else {
            unreachable!("an instance is removed once (R129)")
        };
        self.numbers.remove(&instance.state.info.instance);
    }
}
