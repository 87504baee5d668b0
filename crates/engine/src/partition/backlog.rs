//! Instances that have something to do and are not in memory: what an earlier owner left unread, and what came due
//! since. They are read as far as there is room, so that a partition answers before it has read them all, and never
//! holds them all at once (A39).

use std::collections::{HashMap, VecDeque};

use super::{
    Cause, Destination, InstanceId, InstanceNumber, InstanceState, Occurrence, Output, Parked, Partition, Seq, Slot,
    Timestamp, fingerprint,
};
use crate::timers::Due;

/// Most reads from the backlog that are under way at once.
const READS_MAX: usize = 32;
/// Assumed bytes of an instance of unknown size.
const BYTES_UNKNOWN: usize = 16 << 10;

/// The instances, in the order they are read.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// With the bytes that reading each takes, roughly. Some may have been read for other reasons.
    order: VecDeque<(InstanceId, usize)>,
    /// Those that are still to be read, each with its timers that came due meanwhile.
    waiting: HashMap<InstanceId, Vec<(InstanceNumber, Occurrence)>>,
    /// Reads that are under way, and their bytes.
    reading: HashMap<InstanceId, usize>,
    reading_bytes: usize,
    /// Beyond the budget, the commit that must be durable before the next read.
    barrier: Option<Seq>,
    /// Whether reads may begin: what comes of them may reach the other partitions, which must be there.
    has_begun: bool,
    /// Instances that were left unread by an earlier owner, and whose orchestrators do not run here.
    unoffered: usize,
}

impl Backlog {
    pub(super) fn add(&mut self, instance: InstanceId, bytes: usize) {
        // What is read has its input twice, in its record and in its start message, and is more than its payloads.
        let bytes = bytes
            .saturating_mul(2)
            .saturating_add(size_of::<Slot>() + InstanceState::BYTES_MIN);
        if self.waiting.insert(instance.clone(), Vec::new()).is_none() {
            self.order.push_back((instance, bytes));
        }
    }

    pub(super) fn note_unoffered(&mut self) {
        self.unoffered += 1;
    }

    /// What came due of an instance that is not at hand.
    pub(super) fn add_due(&mut self, due: &Due) {
        if !self.waiting.contains_key(&due.instance) {
            self.add(due.instance.clone(), BYTES_UNKNOWN);
        }
        if let (Cause::Timer(number, occurrence), Some(timers)) = (due.cause, self.waiting.get_mut(&due.instance)) {
            timers.push((number, occurrence));
        }
    }

    /// Removes an instance because it is being loaded. Returns its due timers.
    pub(super) fn take(&mut self, instance: &InstanceId) -> Option<Vec<(InstanceNumber, Occurrence)>> {
        self.waiting.remove(instance)
    }

    /// A read has ended.
    pub(super) fn is_read(&mut self, instance: &InstanceId) {
        self.reading_bytes -= self.reading.remove(instance).unwrap_or(0);
    }
}

impl<R: Destination> Partition<R> {
    /// Says once how many instances wait for functions that are not here.
    pub(super) fn tell_unoffered(&self) {
        if self.backlog.unoffered > 0 {
            tracing::debug!(
                hub = %self.key.hub,
                partition = self.key.index,
                instances = self.backlog.unoffered,
                "instances wait in the store, because no worker here has their orchestrators"
            );
        }
    }

    /// Begins to read what was left, now that the other partitions can hear what comes of it.
    pub fn begin(&mut self, out: &mut Vec<Output<R>>) {
        self.backlog.has_begun = true;
        self.read_on(out);
    }

    /// Whether [`Partition::balance`] may have something to do.
    pub fn needs_balance(&self) -> bool {
        self.memory.is_over_budget() || self.has_backlog()
    }

    /// Whether there are instances left that are read as soon as there is room.
    pub fn has_backlog(&self) -> bool {
        self.backlog.has_begun && !self.backlog.order.is_empty()
    }

    /// Keeps memory at its budget: forgets idle instances while there are too many, and reads those that have
    /// something to do while there is room. Called at the end of each round.
    pub fn balance(&mut self, now: Timestamp, out: &mut Vec<Output<R>>) {
        let now = self.advance(now);
        if self.memory.is_over_budget() {
            out.extend(self.memory.evict(self.durable, now).into_iter().map(Output::Evict));
        }
        self.read_on(out);
    }

    /// Whether what comes due of an instance can be dealt with at once: its state is known, or on its way.
    pub(super) fn is_at_hand(&self, instance: &InstanceId) -> bool {
        let is_known = self.memory.get(instance).is_some() || !self.filter.may_exist(fingerprint(instance));
        is_known || self.parked.contains_key(instance) || self.out_of_service.contains_key(instance)
    }

    fn read_on(&mut self, out: &mut Vec<Output<R>>) {
        while self.backlog.has_begun
            && let Some(bytes) = self.backlog.order.front().map(|(_, bytes)| *bytes)
            && self.may_read(bytes)
        {
            let Some((instance, bytes)) = self.backlog.order.pop_front() else {
                return;
            };
            if !self.backlog.waiting.contains_key(&instance) {
                continue;
            }
            if self.locate(&instance, || Parked::Nothing, out) {
                // It came into memory by a start, or is gone.
                let due = self.backlog.take(&instance).unwrap_or_default();
                self.fire(&instance, &due, out);
                self.mark_ready(&instance);
            } else if self.parked.contains_key(&instance) {
                self.backlog.barrier = None;
                self.backlog.reading_bytes += bytes;
                self.backlog.reading.insert(instance, bytes);
            } else {
                // Out of service.
                self.backlog.take(&instance);
            }
        }
    }

    /// Whether an instance of so many bytes may be read now. Where the budget is used up by what cannot be forgotten,
    /// one after the other is read, each when all that the one before led to is durable.
    fn may_read(&mut self, bytes: usize) -> bool {
        let backlog = &mut self.backlog;
        if backlog.reading.len() >= READS_MAX {
            return false;
        }
        if self.memory.has_room_for(backlog.reading_bytes.saturating_add(bytes)) {
            return true;
        }
        if !backlog.reading.is_empty() || !self.ready.is_empty() {
            return false;
        }
        let last = Seq(self.next_seq.0.saturating_sub(1));
        *backlog.barrier.get_or_insert(last) <= self.durable
    }
}
