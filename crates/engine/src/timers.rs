//! When a partition must look at an instance again. Entries are not removed when their cause goes away;
//! whoever takes a due entry checks that it still means something. Once many mean nothing, they are
//! dropped together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use taskhub_core::id::{InstanceId, InstanceNumber, Occurrence};
use taskhub_core::time::Timestamp;

/// Why an instance is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A durable timer of it is due. An occurrence alone does not name it: an instance that is purged and
    /// made anew counts from the start.
    Timer(InstanceNumber, Occurrence),
    /// It may start (R15), or a failed turn is tried again (R184).
    Ready,
}

/// An entry that came due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// The time it stands for: of timers, when they are due; they fire in this order (R46).
    pub due: Timestamp,
    /// Why.
    pub cause: Cause,
    /// Which instance.
    pub instance: InstanceId,
}

/// The entries of one partition.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Timers {
    /// Adds a durable timer.
    pub fn add_timer(&mut self, instance: InstanceId, number: InstanceNumber, occurrence: Occurrence, due: Timestamp) {
        self.heap.push(Reverse(Due {
            at: due.fires_at(),
            due,
            cause: Cause::Timer(number, occurrence),
            instance,
        }));
    }

    /// Looks at the instance again at that time.
    pub fn add_ready(&mut self, instance: InstanceId, at: Timestamp) {
        self.heap.push(Reverse(Due {
            at,
            due: at,
            cause: Cause::Ready,
            instance,
        }));
    }

    /// When the next entry is due.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next entry if it is due.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Drops entries that mean nothing any more.
    pub fn retain(&mut self, mut means_something: impl FnMut(&Due) -> bool) {
        self.heap.retain(|Reverse(entry)| means_something(entry));
    }

    /// How many entries there are, those without meaning included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
