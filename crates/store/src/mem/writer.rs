//! The writer: a staged group is a copy of the data until it is sealed.

use std::collections::BTreeMap;
use std::time::Duration;

use taskhub_core::id::{HubName, Seq};
use taskhub_core::time::Timestamp;

use super::MemData;
use super::tables::{Hub, Partition, Tables};
use crate::blocking::Writer;
use crate::fence::{check_epoch, check_seq};
use crate::{
    Beat, Claim, Claimed, Error, Group, HubInfo, Lease, NodeId, Ownership, PartitionKey, Previous, Section, Space,
    Take, Work, first_number,
};

/// The writing half.
#[derive(Debug)]
pub struct MemWriter {
    data: MemData,
    staged: Option<Vec<Section>>,
    work: Work,
}

impl MemWriter {
    pub(super) fn new(data: MemData) -> Self {
        Self {
            data,
            staged: None,
            work: Work::default(),
        }
    }
}

impl Writer for MemWriter {
    fn list_hubs(&mut self) -> Result<Vec<HubInfo>, Error> {
        let tables = self.data.tables();
        Ok(tables.hubs.values().map(|hub| hub.info.clone()).collect())
    }

    fn create_hub(&mut self, name: &HubName, partitions: u16, now: Timestamp) -> Result<HubInfo, Error> {
        let mut tables = self.data.tables();
        if tables.hubs.contains_key(name) {
            return Err(Error::HubExists { hub: name.clone() });
        }
        let info = HubInfo {
            name: name.clone(),
            partitions: partitions.max(1),
            created_at: now,
        };
        let number = first_number(now, tables.epoch_floor);
        let partitions = (0..info.partitions)
            .map(|_| Partition::new(tables.epoch_floor, number))
            .collect();
        let hub = Hub {
            info: info.clone(),
            partitions,
        };
        tables.hubs.insert(name.clone(), hub);
        Ok(info)
    }

    fn delete_hub(&mut self, name: &HubName) -> Result<HubInfo, Error> {
        let mut tables = self.data.tables();
        let hub = tables
            .hubs
            .remove(name)
            .ok_or_else(|| Error::NoSuchHub { hub: name.clone() })?;
        let epochs = hub.partitions.iter().map(|partition| partition.epoch);
        let newest = epochs.max().unwrap_or_default();
        tables.epoch_floor = tables.epoch_floor.max(newest.next());
        Ok(hub.info)
    }

    fn beat(&mut self, node: NodeId, lasts: Duration, now: Timestamp) -> Result<Beat, Error> {
        let mut tables = self.data.tables();
        if !tables.lives(node, now) {
            return Err(Error::LeaseOver { node });
        }
        tables.nodes.insert(node, now.plus(lasts));
        Ok(Beat {
            now,
            nodes: tables.living(now),
            owners: tables.owners(),
        })
    }

    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Error> {
        let mut tables = self.data.tables();
        for key in &claim.partitions {
            tables.partition(key)?;
        }
        tables.nodes.insert(claim.node, claim.now.plus(claim.lasts));
        let mut claimed = Claimed::default();
        for key in &claim.partitions {
            let (owner, epoch) = {
                let partition = tables.partition(key)?;
                (partition.owner, partition.epoch)
            };
            let other = owner.filter(|owner| *owner != claim.node);
            if claim.take == Take::Free && other.is_some_and(|other| tables.lives(other, claim.now)) {
                claimed.held.push(Ownership {
                    partition: key.clone(),
                    node: owner,
                    epoch,
                });
                continue;
            }
            let partition = tables.partition_mut(key)?;
            partition.owner = Some(claim.node);
            partition.epoch = epoch.next();
            claimed.leases.push(Lease {
                partition: key.clone(),
                epoch: partition.epoch,
                previous: match (owner, other) {
                    (None, _) => Previous::Nobody,
                    (Some(_), None) => Previous::ThisNode,
                    (Some(_), Some(_)) => Previous::Other,
                },
            });
        }
        Ok(claimed)
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), Error> {
        let mut tables = self.data.tables();
        for lease in leases {
            // What was taken by another owner, or deleted, needs no giving back.
            if let Ok(partition) = tables.partition_mut(&lease.partition)
                && partition.epoch == lease.epoch
            {
                // It is worth something only if nothing can be written after it.
                partition.epoch = partition.epoch.next();
                partition.owner = None;
            }
        }
        Ok(())
    }

    fn stage(&mut self, group: &Group) -> Result<(), Error> {
        self.staged = None;
        check(&self.data.tables(), group)?;
        self.staged = Some(group.sections.clone());
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        let Some(sections) = self.staged.take() else {
            unreachable!("a group is staged before it is sealed")
        };
        let mut tables = self.data.tables();
        for section in &sections {
            tables.apply(section)?;
            self.work.commits += section.commits.len() as u64;
        }
        self.work.groups += 1;
        Ok(())
    }

    fn compact(&mut self) -> Result<Space, Error> {
        Ok(Space::default())
    }

    fn find_room(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn work(&self) -> Work {
        self.work
    }
}

/// Checks fences, numbering and messages of a whole group before any of it counts.
fn check(tables: &Tables, group: &Group) -> Result<(), Error> {
    let mut expected: BTreeMap<&PartitionKey, Seq> = BTreeMap::new();
    for section in &group.sections {
        let partition = tables.partition(&section.partition)?;
        check_epoch(&section.partition, section.epoch, partition.epoch)?;
        let next = expected.entry(&section.partition).or_insert(partition.next_seq);
        check_seq(section, *next)?;
        *next = Seq(next.0 + section.commits.len() as u64);
    }
    tables.check_messages(group)
}
