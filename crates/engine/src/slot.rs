//! What a partition keeps of one instance in memory, and when it may forget it.

use std::collections::{HashMap, HashSet, VecDeque};

use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::time::Timestamp;
use taskhub_core::turn::Turn;

/// One instance in memory.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its state, ahead of the disk; absent once it is purged.
    pub(crate) state: Option<InstanceState>,
    /// The last commit about it.
    pub(crate) seq: Seq,
    /// Events of the current execution that are not yet durable (A39).
    pub(crate) tail: VecDeque<TailPart>,
    /// The turn that is out.
    pub(crate) turn: Option<Turn>,
    /// Whether it waits for its turn to begin.
    pub(crate) is_queued: bool,
    /// Not to begin a turn before: the last delivery failed (R184).
    pub(crate) retry_at: Option<Timestamp>,
    /// Reads of its history for this turn that were too short.
    pub(crate) gaps: u32,
    /// Whether its orchestrator runs here; its turns are not begun otherwise (A51).
    pub(crate) is_offered: bool,
    /// Used since the clock hand last passed it.
    is_referenced: bool,
    /// Its share of the budget.
    bytes: usize,
}

/// Events of one commit.
#[derive(Debug)]
pub(crate) struct TailPart {
    pub(crate) seq: Seq,
    pub(crate) first: u32,
    pub(crate) events: Vec<HistoryEvent>,
}

impl Slot {
    pub(crate) fn new(state: Option<InstanceState>, seq: Seq, is_offered: bool) -> Self {
        Self {
            state,
            seq,
            tail: VecDeque::new(),
            turn: None,
            is_queued: false,
            retry_at: None,
            gaps: 0,
            is_offered,
            is_referenced: true,
            bytes: 0,
        }
    }

    /// Joins events read from the store with those not yet durable; `None` if the read is too old and
    /// leaves a gap, so that it must be made again.
    pub(crate) fn past(&self, mut stored: Vec<HistoryEvent>, wanted: usize) -> Option<Vec<HistoryEvent>> {
        stored.truncate(wanted);
        for part in &self.tail {
            for (index, event) in (part.first as usize..).zip(&part.events) {
                if index == stored.len() && index < wanted {
                    stored.push(event.clone());
                }
            }
        }
        (stored.len() == wanted).then_some(stored)
    }
}

/// Instances looked at in one go while the budget is exceeded: when nearly all are busy, looking at all of
/// them again and again would cost more than the memory.
const VISITS_MAX: usize = 1_024;

/// All instances a partition has in memory, under a budget.
#[derive(Debug)]
pub(crate) struct Memory {
    slots: HashMap<InstanceId, Slot>,
    /// Each instance once, in the order the clock hand visits them.
    clock: VecDeque<InstanceId>,
    bytes: usize,
    bytes_max: usize,
}

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            slots: HashMap::new(),
            clock: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn get(&self, instance: &InstanceId) -> Option<&Slot> {
        self.slots.get(instance)
    }

    pub(crate) fn get_mut(&mut self, instance: &InstanceId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(instance)?;
        slot.is_referenced = true;
        Some(slot)
    }

    /// Puts an instance into memory that is not there.
    pub(crate) fn insert(&mut self, instance: &InstanceId, slot: Slot) -> &mut Slot {
        self.clock.push_back(instance.clone());
        self.slots.entry(instance.clone()).or_insert(slot)
    }

    /// Counts what the instance takes now.
    pub(crate) fn weigh(&mut self, instance: &InstanceId) {
        if let Some(slot) = self.slots.get_mut(instance) {
            let bytes = size_of::<Slot>() + slot.state.as_ref().map_or(0, InstanceState::size);
            self.bytes = self.bytes + bytes - slot.bytes;
            slot.bytes = bytes;
        }
    }

    pub(crate) fn is_over_budget(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Whether so many bytes more are within the budget.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    /// Forgets instances until the budget is met, or enough were looked at for now: those that no one used
    /// lately, that are wholly durable, and that wait for nothing but messages and timers.
    pub(crate) fn evict(&mut self, durable: Seq, now: Timestamp) -> Vec<InstanceId> {
        let mut evicted = Vec::new();
        let mut visits = VISITS_MAX.min(2 * self.clock.len());
        while self.is_over_budget() && visits > 0 {
            visits -= 1;
            let Some(instance) = self.clock.pop_front() else { break };
            let Some(slot) = self.slots.get_mut(&instance) else {
                continue;
            };
            // A moment that is past keeps nothing: what came of it is ready, or waits for something else.
            let is_retried = slot.retry_at.is_some_and(|at| at > now);
            // What is ready waits in the queue, unless no turn of it is begun here.
            let is_busy = slot.turn.is_some() || slot.is_queued || is_retried || slot.seq > durable;
            if is_busy || std::mem::take(&mut slot.is_referenced) {
                self.clock.push_back(instance);
            } else {
                self.bytes -= slot.bytes;
                self.slots.remove(&instance);
                evicted.push(instance);
            }
        }
        evicted
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&InstanceId, &Slot)> {
        self.slots.iter()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Tells of most ids at once that no instance has them (A40).
#[derive(Debug, Default)]
pub(crate) struct IdFilter {
    fingerprints: HashSet<u64>,
    is_complete: bool,
    /// Takes the place of `fingerprints` once the store has told all it has. Ids that are purged cannot be
    /// taken out one by one, since two ids may share a fingerprint.
    fresh: Option<HashSet<u64>>,
}

impl IdFilter {
    pub(crate) fn add(&mut self, fingerprint: u64) {
        self.fingerprints.insert(fingerprint);
        if let Some(fresh) = &mut self.fresh {
            fresh.insert(fingerprint);
        }
    }

    pub(crate) fn add_stored(&mut self, fingerprints: Vec<u64>, is_last: bool) {
        let filling = self.fresh.as_mut().unwrap_or(&mut self.fingerprints);
        filling.extend(fingerprints);
        if is_last {
            self.is_complete = true;
            if let Some(fresh) = self.fresh.take() {
                self.fingerprints = fresh;
            }
        }
    }

    /// Begins a refill, including ids that the store may not have yet; ignored during a refill.
    pub(crate) fn begin_refill(&mut self, undurable: impl Iterator<Item = u64>) -> bool {
        let begins = self.is_complete && self.fresh.is_none();
        if begins {
            self.fresh = Some(undurable.collect());
        }
        begins
    }

    /// Whether the store must be asked: the filter is not filled yet, or it has the fingerprint.
    pub(crate) fn may_exist(&self, fingerprint: u64) -> bool {
        !self.is_complete || self.fingerprints.contains(&fingerprint)
    }

    pub(crate) fn len(&self) -> usize {
        self.fingerprints.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_comes_while_the_filter_is_filled_anew_is_known_afterwards() {
        let mut filter = IdFilter::default();
        filter.add_stored(vec![1, 2], true);
        assert!(filter.begin_refill([3].into_iter()));
        filter.add(4);
        assert!(filter.may_exist(1), "until all is told it goes by what it knew");
        filter.add_stored(vec![2], false);
        filter.add_stored(vec![5], true);
        let known: Vec<u64> = (0..8).filter(|id| filter.may_exist(*id)).collect();
        assert_eq!(known, [2, 3, 4, 5]);
    }
}
