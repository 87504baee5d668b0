//! External events of one execution: kept until a wait takes them, per name first in, first out (R77–R79).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::Name;
use taskhub_core::payload::Payload;

/// Events received, and who waits for them.
#[derive(Default)]
pub(crate) struct Events {
    queues: BTreeMap<FoldedName, Queue>,
    waits: BTreeMap<u64, Wait>,
    next_wait: u64,
}

/// One name. There are buffered events or waiters, never both.
#[derive(Default)]
struct Queue {
    buffered: VecDeque<Received>,
    waiters: BTreeSet<u64>,
}

struct Wait {
    name: FoldedName,
    received: Option<Received>,
    waker: Option<Waker>,
}

/// An event with its place in the order of arrival, over all names and timers.
struct Received {
    arrival: u64,
    event: HistoryEvent,
}

impl Events {
    /// Begins a wait; an event that is there already is its at once.
    pub(crate) fn wait(&mut self, name: &str) -> u64 {
        let id = self.next_wait;
        self.next_wait += 1;
        let name = FoldedName::new(Name::stored(name));
        let queue = self.queues.entry(name.clone()).or_default();
        let received = queue.buffered.pop_front();
        if received.is_none() {
            queue.waiters.insert(id);
        }
        self.waits.insert(
            id,
            Wait {
                name,
                received,
                waker: None,
            },
        );
        id
    }

    /// Hands an event to the oldest waiter of its name or keeps it (R79). Gives the waker, if one is parked.
    pub(crate) fn deliver(&mut self, event: HistoryEvent, arrival: u64) -> Option<Waker> {
        let EventKind::EventRaised { name, .. } = &event.kind else {
            return None;
        };
        let name = FoldedName::from(name);
        self.offer(&name, Received { arrival, event })
    }

    fn offer(&mut self, name: &FoldedName, received: Received) -> Option<Waker> {
        let queue = self.queues.entry(name.clone()).or_default();
        let oldest = queue.waiters.pop_first();
        if let Some(wait) = oldest.and_then(|id| self.waits.get_mut(&id)) {
            wait.received = Some(received);
            return wait.waker.take();
        }
        // Only an event given back can be older than those kept.
        let place = queue.buffered.partition_point(|kept| kept.arrival < received.arrival);
        queue.buffered.insert(place, received);
        None
    }

    /// When the event of a wait arrived, if it did.
    pub(crate) fn arrival(&self, id: u64) -> Option<u64> {
        let received = self.waits.get(&id)?.received.as_ref();
        received.map(|received| received.arrival)
    }

    /// Takes the event of a wait, which ends the wait.
    pub(crate) fn take(&mut self, id: u64) -> Option<HistoryEvent> {
        self.arrival(id)?;
        let received = self.waits.remove(&id)?.received?;
        Some(received.event)
    }

    /// Parks a wait; the answer tells whether no waker was parked before.
    pub(crate) fn park(&mut self, id: u64, waker: &Waker) -> bool {
        self.waits
            .get_mut(&id)
            .is_some_and(|wait| crate::ledger::park(&mut wait.waker, waker))
    }

    /// Ends a wait without taking anything: an event it was given goes to the next waiter or back
    /// into the buffer, so none is swallowed (R85). Gives that waiter's waker, and whether a waker
    /// of the wait itself was parked.
    pub(crate) fn withdraw(&mut self, id: u64) -> (Option<Waker>, bool) {
        let Some(wait) = self.waits.remove(&id) else {
            return (None, false);
        };
        let waker = wait.received.and_then(|received| self.offer(&wait.name, received));
        if let Some(queue) = self.queues.get_mut(&wait.name) {
            queue.waiters.remove(&id);
        }
        (waker, wait.waker.is_some())
    }

    /// What was received after an arrival and not consumed, in order of arrival, for the next execution (R89).
    pub(crate) fn into_unconsumed(self, after: u64) -> Vec<HistoryEvent> {
        let buffered = self.queues.into_values().flat_map(|queue| queue.buffered);
        let given = self.waits.into_values().filter_map(|wait| wait.received);
        let all = buffered.chain(given).filter(|received| received.arrival > after);
        let mut all: Vec<Received> = all.collect();
        all.sort_by_key(|received| received.arrival);
        all.into_iter().map(|received| received.event).collect()
    }
}

/// The payload of a raised event.
pub(crate) fn payload_of(event: HistoryEvent) -> Option<Payload> {
    match event.kind {
        EventKind::EventRaised { input, .. } => input,
        _ => unreachable!("only raised events are delivered to waits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskhub_core::time::Timestamp;

    fn raised(name: &str, text: &str) -> HistoryEvent {
        let (name, input) = (Name::new(name).unwrap(), Some(Payload::text(text)));
        HistoryEvent::inbound(Timestamp::default(), EventKind::EventRaised { name, input })
    }

    #[test]
    fn an_event_given_to_a_withdrawn_wait_goes_to_the_next_one() {
        let mut events = Events::default();
        let (first, second) = (events.wait("Go"), events.wait("GO"));
        events.deliver(raised("go", "1"), 1);
        assert_eq!((events.arrival(first), events.arrival(second)), (Some(1), None));
        events.withdraw(first);
        assert_eq!(text_of(events.take(second).unwrap()), "1");
    }

    #[test]
    fn an_event_given_back_keeps_its_place() {
        let mut events = Events::default();
        let wait = events.wait("Go");
        for (arrival, text) in [(1, "1"), (2, "2"), (3, "3")] {
            events.deliver(raised("Go", text), arrival);
        }
        events.deliver(raised("Other", "4"), 4);
        events.withdraw(wait);
        let texts: Vec<String> = events.into_unconsumed(0).into_iter().map(text_of).collect();
        assert_eq!(texts, ["1", "2", "3", "4"]);
    }

    fn text_of(event: HistoryEvent) -> String {
        payload_of(event).unwrap().to_text()
    }
}
