//! The maps, and what one commit does to them.

use std::collections::{BTreeMap, BTreeSet};

use taskhub_core::commit::{Change, Commit, Creation};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{Epoch, HubName, InstanceId, InstanceNumber, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{OutboxItem, OutboxRef};
use taskhub_core::time::Timestamp;

use crate::fence::no_such_partition;
use crate::{Error, Group, HubInfo, NodeId, NodeLease, Ownership, PartitionKey, Section};

/// Everything there is.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) hubs: BTreeMap<HubName, Hub>,
    /// Above every epoch of a deleted hub: a new hub of the same name must not know its owners' fences.
    pub(super) epoch_floor: Epoch,
    /// When the lease of each node expires. An expired entry stays until the node returns.
    pub(super) nodes: BTreeMap<NodeId, Timestamp>,
}

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) info: HubInfo,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) epoch: Epoch,
    /// Who claimed it last and did not give it back.
    pub(super) owner: Option<NodeId>,
    pub(super) next_seq: Seq,
    pub(super) next_instance: InstanceNumber,
    pub(super) numbers: BTreeMap<InstanceId, InstanceNumber>,
    pub(super) instances: BTreeMap<InstanceNumber, Instance>,
    pub(super) outbox: BTreeMap<(Seq, u32), OutboxItem>,
}

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

    /// Whether a node may still be alive.
    pub(super) fn lives(&self, node: NodeId, now: Timestamp) -> bool {
        self.nodes.get(&node).is_some_and(|ends_at| *ends_at > now)
    }

    /// Nodes whose lease is not over.
    pub(super) fn living(&self, now: Timestamp) -> Vec<NodeLease> {
        let lease = |(node, ends_at): (&NodeId, &Timestamp)| NodeLease {
            node: *node,
            ends_at: Some(*ends_at),
        };
        let living = self.nodes.iter().filter(|(_, ends_at)| **ends_at > now);
        living.map(lease).collect()
    }

    /// All partitions with their owners.
    pub(super) fn owners(&self) -> Vec<Ownership> {
        let of_hub = |hub: &Hub| {
            let name = hub.info.name.clone();
            let owner = |(index, partition): (u16, &Partition)| Ownership {
                partition: PartitionKey {
                    hub: name.clone(),
                    index,
                },
                node: partition.owner,
                epoch: partition.epoch,
            };
            (0..).zip(&hub.partitions).map(owner).collect::<Vec<_>>()
        };
        self.hubs.values().flat_map(of_hub).collect()
    }

    /// Refuses a group that consumes a message which is neither there nor made in it before.
    pub(super) fn check_messages(&self, group: &Group) -> Result<(), Error> {
        let (mut made, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for section in &group.sections {
            let hub = &section.partition.hub;
            for (seq, commit) in (section.first_seq.0..).zip(&section.commits) {
                if let Some(at) = commit.consumed {
                    let key = (hub, at.partition, at.seq, at.index);
                    let sender = PartitionKey {
                        hub: hub.clone(),
                        index: at.partition,
                    };
                    let is_there =
                        made.contains(&key) || self.partition(&sender)?.outbox.contains_key(&(at.seq, at.index));
                    if !is_there || !taken.insert(key) {
                        let partition = section.partition.clone();
                        return Err(Error::Stale { partition, at });
                    }
                }
                let items = (0..).zip(&commit.outbox);
                made.extend(items.map(|(index, _)| (hub, section.partition.index, Seq(seq), index)));
            }
        }
        Ok(())
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
                assert!(taken.is_some(), "the group was checked to consume what is there (R188)");
            }
        }
        Ok(())
    }
}

impl Partition {
    pub(super) fn new(epoch: Epoch, next_instance: InstanceNumber) -> Self {
        Self {
            epoch,
            owner: None,
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
