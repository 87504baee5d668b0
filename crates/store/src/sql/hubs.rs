//! Rows of `hub` and `part`, and what an owner remembers of them.

use std::collections::BTreeMap;

use taskhub_core::id::{Epoch, HubName, InstanceNumber, Seq};

use super::record::int;
use super::sums::Words;
use crate::fence::no_such_partition;
use crate::{Error, HubInfo, NodeId, Ownership, PartitionKey};

/// All hubs, with their partitions as the last durable transaction left them.
#[derive(Debug, Default)]
pub(crate) struct Hubs(pub(crate) BTreeMap<HubName, Hub>);

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) row: i64,
    pub(crate) info: HubInfo,
    pub(crate) parts: Vec<Part>,
}

/// A partition.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) row: i64,
    /// Row of its hub.
    pub(crate) hub: i64,
    pub(crate) index: u16,
    pub(crate) epoch: Epoch,
    pub(crate) is_clean: bool,
    pub(crate) counters: Counters,
    /// Rows of `outbox`.
    pub(crate) items: u64,
}

/// The next numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_seq: Seq,
    pub(crate) next_number: InstanceNumber,
}

impl Part {
    /// Its columns, but for the checksum.
    pub(crate) fn columns(&self) -> [i64; 8] {
        let Counters { next_seq, next_number } = self.counters;
        [
            self.row,
            self.hub,
            i64::from(self.index),
            i64::from(self.epoch.0),
            i64::from(self.is_clean),
            int(next_seq.0),
            int(next_number.0),
            int(self.items),
        ]
    }

    /// The checksum of its row.
    pub(crate) fn sum(&self) -> i64 {
        Words::new(self.columns()).sum(&[])
    }
}

/// The checksum of a hub's row.
pub(crate) fn hub_sum(row: i64, folded: &str, name: &str, partitions: u16, created_at: i64) -> i64 {
    Words::new([row, i64::from(partitions), created_at]).sum(format!("{folded}\0{name}").as_bytes())
}

impl Hubs {
    pub(crate) fn infos(&self) -> Vec<HubInfo> {
        self.0.values().map(|hub| hub.info.clone()).collect()
    }

    /// The hub, by its row, that a partition belongs to.
    pub(crate) fn hub_of_part(&self, part: i64) -> Option<i64> {
        let parts = self.0.values().flat_map(|hub| &hub.parts);
        parts.into_iter().find(|known| known.row == part).map(|part| part.hub)
    }

    pub(crate) fn part(&self, key: &PartitionKey) -> Result<&Part, Error> {
        let hub = self
            .0
            .get(&key.hub)
            .ok_or_else(|| Error::NoSuchHub { hub: key.hub.clone() })?;
        hub.parts
            .get(usize::from(key.index))
            .ok_or_else(|| no_such_partition(key))
    }

    /// All partitions with their owners.
    pub(crate) fn owners(&self, owners: &BTreeMap<i64, NodeId>) -> Vec<Ownership> {
        let of_hub = |hub: &Hub| {
            let name = hub.info.name.clone();
            let owner = |part: &Part| Ownership {
                partition: PartitionKey {
                    hub: name.clone(),
                    index: part.index,
                },
                node: owners.get(&part.row).copied().filter(|_| !part.is_clean),
                epoch: part.epoch,
            };
            hub.parts.iter().map(owner).collect::<Vec<_>>()
        };
        self.0.values().flat_map(of_hub).collect()
    }

    /// Takes over what a durable group counted.
    pub(crate) fn count(&mut self, counted: &BTreeMap<i64, Part>) {
        for part in self.0.values_mut().flat_map(|hub| &mut hub.parts) {
            if let Some(counted) = counted.get(&part.row) {
                (part.counters, part.items) = (counted.counters, counted.items);
            }
        }
    }
}
