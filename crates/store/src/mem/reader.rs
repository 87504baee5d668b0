//! Reading: every answer is made by looking at everything.

use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::OutboxRef;
use taskhub_core::query::{Cursor, Page, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};

use super::MemData;
use super::tables::{Hub, Partition};
use crate::blocking::Reader;
use crate::fence::check_epoch;
use crate::{
    Error, ExecutionKey, FingerprintPage, HistoryChunk, HistoryRange, HistoryRead, IdPage, InstancePage, Lease,
    PartitionKey, Recovered, Selection, Space, Verified, fingerprint, partition_of,
};

/// Events in a chunk that is read.
const CHUNK_EVENTS: usize = 16;

/// A reading half.
#[derive(Clone, Debug)]
pub struct MemReader {
    data: MemData,
}

impl MemReader {
    pub(super) fn new(data: MemData) -> Self {
        Self { data }
    }
}

impl Reader for MemReader {
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, Error> {
        let tables = self.data.tables();
        let partition = tables.partition(&lease.partition)?;
        check_epoch(&lease.partition, lease.epoch, partition.epoch)?;
        let all = &tables.hub(&lease.partition.hub)?.partitions;
        let mut items = vec![Recovered::Counters {
            next_seq: partition.next_seq,
            next_instance: partition.next_instance,
            horizon: all.iter().map(|partition| partition.next_seq).collect(),
        }];
        for (&number, instance) in &partition.instances {
            let state = &instance.state;
            let id = &state.info.instance;
            items.extend(state.open.values().filter_map(|open| recovered_open(id, number, open)));
            if !state.inbox.is_empty() {
                items.push(Recovered::Inbox {
                    instance: id.clone(),
                    name: state.info.name.clone(),
                    bytes: state.waiting_bytes() as u64,
                });
            }
        }
        let count = u16::try_from(all.len()).unwrap_or(u16::MAX);
        for (sender, other) in (0..).zip(all) {
            let to_it = other
                .outbox
                .iter()
                .filter(|(_, item)| partition_of(&item.target, count) == lease.partition.index);
            items.extend(to_it.map(|(&(seq, index), item)| Recovered::Message {
                at: OutboxRef {
                    partition: sender,
                    seq,
                    index,
                },
                item: item.clone(),
            }));
        }
        Ok(items)
    }

    fn load(
        &mut self,
        partition: &PartitionKey,
        instances: &[InstanceId],
    ) -> Result<Vec<Option<InstanceState>>, Error> {
        let tables = self.data.tables();
        let partition = tables.partition(partition)?;
        let find = |id| {
            partition
                .instances
                .get(partition.numbers.get(id)?)
                .map(|instance| instance.state.clone())
        };
        Ok(instances.iter().map(find).collect())
    }

    fn history(&mut self, of: &ExecutionKey, range: HistoryRange) -> Result<Vec<HistoryChunk>, Error> {
        let tables = self.data.tables();
        let instance = tables.partition(&of.partition)?.instances.get(&of.number);
        let events = instance.and_then(|instance| instance.history.get(&of.ordinal)?.get(range.from as usize..));
        let mut left = events.unwrap_or_default();
        // Chunks as short as a turn's, so that a range ends where it would elsewhere.
        let (mut chunks, mut read, mut first) = (Vec::new(), HistoryRead::default(), range.from);
        while !left.is_empty() && !read.is_reached(range) {
            let (events, rest) = left.split_at(left.len().min(CHUNK_EVENTS));
            let chunk = HistoryChunk {
                first,
                events: u32::try_from(events.len()).unwrap_or(u32::MAX),
                body: taskhub_proto::encode_chunk(events),
            };
            read.add(&chunk);
            first += chunk.events;
            chunks.push(chunk);
            left = rest;
        }
        Ok(chunks)
    }

    fn list(&mut self, which: &Selection, payloads: Payloads) -> Result<InstancePage, Error> {
        let tables = self.data.tables();
        let (found, next, rows_read) = found(tables.hub(&which.hub)?, which);
        let page = page(&found, next, payloads);
        Ok(InstancePage { page, rows_read })
    }

    fn list_ids(&mut self, which: &Selection) -> Result<IdPage, Error> {
        let tables = self.data.tables();
        let (found, next, rows_read) = found(tables.hub(&which.hub)?, which);
        let ids = found.into_iter().map(|info| info.instance.clone()).collect();
        Ok(IdPage { ids, next, rows_read })
    }

    fn counts(&mut self, hub: &HubName) -> Result<Vec<(RuntimeStatus, u64)>, Error> {
        Ok(counts(self.data.tables().hub(hub)?))
    }

    fn fingerprints(
        &mut self,
        partition: &PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Result<FingerprintPage, Error> {
        let tables = self.data.tables();
        Ok(fingerprints(tables.partition(partition)?, after, rows_max))
    }

    fn verify(&mut self) -> Result<Verified, Error> {
        // Nothing is stored twice, so nothing can contradict.
        Ok(Verified::default())
    }

    fn space(&mut self) -> Result<Space, Error> {
        Ok(Space::default())
    }
}

fn recovered_open(id: &InstanceId, number: InstanceNumber, open: &Open) -> Option<Recovered> {
    let (instance, open) = (id.clone(), open.clone());
    match open.kind {
        OpenKind::Task { .. } => Some(Recovered::Task { instance, number, open }),
        OpenKind::Timer { .. } => Some(Recovered::Timer { instance, number, open }),
        OpenKind::Child { .. } => None,
    }
}

fn infos(hub: &Hub) -> impl Iterator<Item = &InstanceInfo> {
    hub.partitions
        .iter()
        .flat_map(|partition| partition.instances.values())
        .map(|instance| &instance.state.info)
}

/// The rows of a page, where the next one begins, and how many rows were looked at.
fn found<'h>(hub: &'h Hub, which: &Selection) -> (Vec<&'h InstanceInfo>, Option<Cursor>, u64) {
    let Selection { filter, after, .. } = which;
    let rows_max = which.rows_max.min(limits::PAGE_ROWS_MAX);
    let mut found: Vec<&InstanceInfo> = infos(hub)
        .filter(|info| filter.matches(info) && after.as_ref().is_none_or(|after| Cursor::of(info) > *after))
        .collect();
    found.sort_by_cached_key(|info| Cursor::of(info));
    let is_last = found.len() <= rows_max;
    found.truncate(rows_max);
    let last = if is_last { None } else { found.last() };
    let next = last.map(|info| Cursor::of(info));
    (found, next, infos(hub).count() as u64)
}

/// As many of the rows as a page may hold.
fn page(found: &[&InstanceInfo], next: Option<Cursor>, payloads: Payloads) -> Page {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for info in found {
        let mut row = InstanceInfo::clone(info);
        payloads.restrict(&mut row);
        bytes += row.size();
        rows.push(row);
        if bytes >= limits::PAGE_BYTES_MAX && rows.len() < found.len() {
            let next = Some(Cursor::of(info));
            return Page { rows, next };
        }
    }
    Page { rows, next }
}

fn counts(hub: &Hub) -> Vec<(RuntimeStatus, u64)> {
    let count = |status| infos(hub).filter(|info| info.status == status).count() as u64;
    let all = RuntimeStatus::ALL.into_iter().map(|status| (status, count(status)));
    all.filter(|(_, count)| *count > 0).collect()
}

fn fingerprints(partition: &Partition, after: Option<InstanceNumber>, rows_max: usize) -> FingerprintPage {
    let behind = after.map_or(InstanceNumber(0), InstanceNumber::next);
    let mut rows = partition.instances.range(behind..);
    let found: Vec<(InstanceNumber, u64)> = rows
        .by_ref()
        .take(rows_max)
        .map(|(number, instance)| (*number, fingerprint(&instance.state.info.instance)))
        .collect();
    let next = rows.next().and_then(|_| found.last()).map(|(number, _)| *number);
    FingerprintPage {
        fingerprints: found.into_iter().map(|(_, print)| print).collect(),
        next,
    }
}
