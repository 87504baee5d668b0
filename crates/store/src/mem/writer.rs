//! Writing: a staged group is a copy beside the data until it is sealed.

use std::collections::BTreeMap;

use taskhub_core::id::Seq;
use taskhub_core::time::Timestamp;

use super::MemData;
use super::tables::{Hub, Partition, Tables};
use crate::blocking::Writer;
use crate::fence::{check_epoch, check_seq};
use crate::{Error, Group, HubAsk, HubInfo, Job, JobReport, Lease, PartitionKey, Section, Work, first_number};

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
    fn hubs(&mut self, ask: &HubAsk) -> Result<Vec<HubInfo>, Error> {
        let mut tables = self.data.tables();
        match ask {
            HubAsk::List => Ok(tables.hubs.values().map(|hub| hub.info.clone()).collect()),
            HubAsk::Create { name, partitions, now } => {
                if tables.hubs.contains_key(name) {
                    return Err(Error::HubExists { hub: name.clone() });
                }
                let info = HubInfo {
                    name: name.clone(),
                    partitions: (*partitions).max(1),
                    created_at: *now,
                };
                let number = first_number(*now, tables.epoch_floor);
                let partitions = (0..info.partitions)
                    .map(|_| Partition::new(tables.epoch_floor, number))
                    .collect();
                tables.hubs.insert(
                    name.clone(),
                    Hub {
                        info: info.clone(),
                        partitions,
                    },
                );
                Ok(vec![info])
            }
            HubAsk::Delete { name } => {
                let hub = tables
                    .hubs
                    .remove(name)
                    .ok_or_else(|| Error::NoSuchHub { hub: name.clone() })?;
                let newest = hub
                    .partitions
                    .iter()
                    .map(|partition| partition.epoch)
                    .max()
                    .unwrap_or_default();
                tables.epoch_floor = tables.epoch_floor.max(newest.next());
                Ok(vec![hub.info])
            }
        }
    }

    fn claim(&mut self, partitions: &[PartitionKey], _now: Timestamp) -> Result<Vec<Lease>, Error> {
        let mut tables = self.data.tables();
        for key in partitions {
            tables.partition(key)?;
        }
        let mut leases = Vec::new();
        for key in partitions {
            let partition = tables.partition_mut(key)?;
            partition.epoch = partition.epoch.next();
            let is_clean = std::mem::replace(&mut partition.is_clean, false);
            leases.push(Lease {
                partition: key.clone(),
                epoch: partition.epoch,
                is_clean,
            });
        }
        Ok(leases)
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), Error> {
        let mut tables = self.data.tables();
        for lease in leases {
            // What was taken by another owner, or deleted, needs no giving back.
            if let Ok(partition) = tables.partition_mut(&lease.partition)
                && partition.epoch == lease.epoch
            {
                // The mark is worth something only if nothing can be written after it.
                partition.epoch = partition.epoch.next();
                partition.is_clean = true;
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

    fn maintain(&mut self, _job: Job) -> Result<JobReport, Error> {
        // Nothing is stored twice, so nothing can contradict.
        Ok(JobReport::default())
    }

    fn work(&self) -> Work {
        self.work
    }
}

/// Checks fences and numbering of a whole group before any of it counts.
fn check(tables: &Tables, group: &Group) -> Result<(), Error> {
    let mut expected: BTreeMap<&PartitionKey, Seq> = BTreeMap::new();
    for section in &group.sections {
        let partition = tables.partition(&section.partition)?;
        check_epoch(&section.partition, section.epoch, partition.epoch)?;
        let next = expected.entry(&section.partition).or_insert(partition.next_seq);
        check_seq(section, *next)?;
        *next = Seq(next.0 + section.commits.len() as u64);
    }
    Ok(())
}
