//! When a partition must look at an instance again. Entries are not removed when their cause disappears; the user of a
//! due entry checks whether it is still valid. When many are invalid, they are dropped together.

use std::collections::BTreeSet;

use taskhub_core::id::{InstanceId, InstanceNumber, Occurrence};
use taskhub_core::time::Timestamp;

/// Why an instance is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A durable timer of the instance is due. The occurrence alone does not identify it, because an instance that is
    /// purged and created again counts from the start.
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
    /// A set, so that an instance that is loaded again and again is planned once.
    entries: BTreeSet<Due>,
}

impl Timers {
    /// Adds a durable timer.
    pub fn add_timer(&mut self, instance: InstanceId, number: InstanceNumber, occurrence: Occurrence, due: Timestamp) {
        self.entries.insert(Due {
            at: due.fires_at(),
            due,
            cause: Cause::Timer(number, occurrence),
            instance,
        });
    }

    /// Looks at the instance again at that time; saying so twice is saying it once.
    pub fn add_ready(&mut self, instance: InstanceId, at: Timestamp) {
        self.entries.insert(Due {
            at,
            due: at,
            cause: Cause::Ready,
            instance,
        });
    }

    /// When the next entry is due.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.entries.first().map(|entry| entry.at)
    }

    /// Takes the next entry if it is due.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        if self.next_at()? > now {
            return None;
        }
        self.entries.pop_first()
    }

    /// Drops the next entries as long as they mean nothing any more.
    pub fn drop_first_while(&mut self, mut is_spent: impl FnMut(&Due) -> bool) {
        while self.entries.first().is_some_and(&mut is_spent) {
            self.entries.pop_first();
        }
    }

    /// Drops entries that mean nothing any more.
    pub fn retain(&mut self, mut means_something: impl FnMut(&Due) -> bool) {
        self.entries.retain(|entry| means_something(entry));
    }

    /// How many entries there are, those without meaning included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_due_at_its_very_moment_and_once() {
        let (mut timers, at) = (Timers::default(), Timestamp::from_micros(5));
        let Ok(instance) = InstanceId::new("a") else {
            unreachable!("it is an id")
        };
        timers.add_ready(instance.clone(), at);
        timers.add_ready(instance, at);
        assert_eq!(timers.take_due(Timestamp::from_micros(4)), None);
        assert_eq!(timers.take_due(at).map(|due| due.at), Some(at));
        assert!(timers.is_empty());
    }
}
