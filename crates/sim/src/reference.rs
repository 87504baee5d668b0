//! What an instance is after its commits, folded by code of the simulator's own.
//!
//! Core's fold is what the partition and both stores go by, so a mistake in it would be the same in all of them. This one shares
//! the types with it, and none of its code: the lists are plain, and everything that core keeps a count of is counted anew.

use std::collections::BTreeMap;

use taskhub_core::commit::{Creation, Open, OpenKind, Update};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{InstanceNumber, MessageNumber, Occurrence};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::Message;
use taskhub_core::seen::SeenKey;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};

use crate::Violation;

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) info: InstanceInfo,
    number: InstanceNumber,
    /// Numbers that were given out: the highest of each, and one more.
    next_message: MessageNumber,
    pub(crate) next_occurrence: Occurrence,
    pub(crate) inbox: BTreeMap<MessageNumber, Message>,
    pub(crate) open: BTreeMap<Occurrence, Open>,
    /// Keys that were used, oldest first.
    keys: Vec<SeenKey>,
}

impl Reference {
    /// After its first commit.
    pub(crate) fn created(number: InstanceNumber, creation: &Creation) -> Self {
        Self {
            info: creation.info.clone(),
            number,
            next_message: creation.start.number.next(),
            next_occurrence: creation.next_occurrence,
            inbox: BTreeMap::from([(creation.start.number, creation.start.clone())]),
            open: BTreeMap::new(),
            keys: creation.keys.clone(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.has_status(&[
            RuntimeStatus::Completed,
            RuntimeStatus::Failed,
            RuntimeStatus::Terminated,
            RuntimeStatus::Canceled,
        ])
    }

    fn has_status(&self, some: &[RuntimeStatus]) -> bool {
        some.contains(&self.info.status)
    }

    /// Takes a commit in that was made after so many events of the current execution.
    pub(crate) fn take(&mut self, update: &Update, history: usize) -> Result<(), Violation> {
        let instance = self.info.instance.clone();
        let wrong =
            |invariant, what: String| Err(Violation::new(invariant, format!("`{instance}`: {what}: {update:?}")));
        if update.expected_history as usize != history {
            return wrong(
                "I4",
                format!("a commit was made for another history than of {history} events (R26)"),
            );
        }
        for number in &update.inbox_taken {
            if self.inbox.remove(number).is_none() {
                return wrong("I5", format!("message {number:?} is consumed and not there (R188)"));
            }
        }
        for occurrence in &update.closed {
            if self.open.remove(occurrence).is_none() {
                return wrong("I2", format!("{occurrence:?} is closed and not open (R34)"));
            }
        }
        for open in &update.opened {
            if open.occurrence < self.next_occurrence {
                return wrong("I2", format!("{:?} is given out twice (R34)", open.occurrence));
            }
            self.next_occurrence = open.occurrence.next();
            self.open.insert(open.occurrence, open.clone());
        }
        for (occurrence, lost) in &update.deliveries {
            for open in self.open.values_mut().filter(|open| open.occurrence == *occurrence) {
                if let OpenKind::Task { deliveries, .. } = &mut open.kind {
                    *deliveries = *lost;
                }
            }
        }
        for message in &update.inbox_added {
            if message.number < self.next_message {
                return wrong("I5", format!("message {:?} is given out twice", message.number));
            }
            self.next_message = message.number.next();
            self.inbox.insert(message.number, message.clone());
        }
        if let Some(key) = &update.key {
            let counting = self.keys.iter().position(|old| old.until > update.at);
            self.keys.drain(..counting.unwrap_or(self.keys.len()));
            self.keys.retain(|old| !old.is_same(key));
            self.keys.push(key.clone());
        }
        self.take_record(update)
    }

    /// What the status record becomes (R5, R6, R9, R11, R87).
    fn take_record(&mut self, update: &Update) -> Result<(), Violation> {
        let was_live = self.is_live();
        let info = &mut self.info;
        if update.at > info.updated_at {
            info.updated_at = update.at;
        }
        if let Some(status) = update.status {
            if !was_live && status != info.status {
                let what = format!("`{}` was {} and is {status} (R6)", info.instance, info.status);
                return Err(Violation::new("I3", what));
            }
            info.status = status;
        }
        if let Some(custom) = &update.custom_status {
            info.custom_status.clone_from(custom);
        }
        match (&update.stalled, &update.ending) {
            (Some(stalled), _) => info.stalled = stalled.clone().map(Box::new),
            // What has ended waits for nothing.
            (None, Some(_)) => info.stalled = None,
            (None, None) => {}
        }
        if let Some(ending) = &update.ending {
            info.output.clone_from(&ending.output);
            info.failure.clone_from(&ending.failure);
            info.completed_at = Some(info.updated_at);
        }
        if let Some(next) = &update.continued {
            info.ordinal += 1;
            info.execution = next.execution;
            info.version.clone_from(&next.version);
            info.input.clone_from(&next.input);
        }
        if update.ending.is_some() == self.is_live() && (update.ending.is_some() || was_live) {
            let what = format!(
                "`{}` is {} with {:?} (R5)",
                self.info.instance, self.info.status, update.ending
            );
            return Err(Violation::new("I3", what));
        }
        Ok(())
    }

    /// In what a state differs from this, whose current execution has these events; `None` if in nothing.
    pub(crate) fn difference(&self, state: &InstanceState, events: &[HistoryEvent]) -> Option<&'static str> {
        let history: usize = events.iter().map(HistoryEvent::size).sum();
        let unread: usize = self.inbox.values().map(Message::size).sum();
        let waited_for: usize = self.open.values().map(Open::size).sum();
        let is_findable = |open: &Open| {
            let found = state.open_occurrence(open.kind.class(), open.event_id);
            (found == Some(open.occurrence)) == (open.ordinal == self.info.ordinal)
        };
        let parts = [
            ("its record", state.info == self.info),
            ("its number", state.number == self.number),
            (
                "the length of its history",
                state.history_events as usize == events.len(),
            ),
            ("the bytes of its history", state.history_bytes == history as u64),
            (
                "the number of its next message",
                state.next_message == self.next_message,
            ),
            (
                "the number of its next call",
                state.next_occurrence == self.next_occurrence,
            ),
            ("what is unread", state.inbox == self.inbox),
            ("the bytes of what is unread", state.inbox_bytes() == unread),
            ("what is open", state.open == self.open),
            ("the ids of what is open", self.open.values().all(is_findable)),
            ("the bytes of what waits", state.waiting_bytes() == unread + waited_for),
            ("its keys", state.keys.iter().eq(&self.keys)),
        ];
        parts.into_iter().find(|(_, is_same)| !is_same).map(|(part, _)| part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Medium, world};

    /// A wrong fold of core's would show as such a difference.
    #[test]
    fn a_state_that_differs_in_anything_is_told() {
        let (reference, state, events) = (0..)
            .find_map(|seed| world::some_instance_of(&Config::new(seed, Medium::Mem)))
            .unwrap();
        assert_eq!(reference.difference(&state, &events), None);
        let differs = |change: &dyn Fn(&mut InstanceState)| {
            let mut changed = state.clone();
            change(&mut changed);
            reference.difference(&changed, &events)
        };
        assert_eq!(differs(&|state| state.info.ordinal += 1), Some("its record"));
        assert_eq!(
            differs(&|state| state.history_events += 1),
            Some("the length of its history")
        );
        assert_eq!(
            differs(&|state| state.history_bytes += 1),
            Some("the bytes of its history")
        );
        assert_eq!(
            differs(&|state| state.next_message = state.next_message.next()),
            Some("the number of its next message")
        );
        let next = |state: &mut InstanceState| state.next_occurrence = state.next_occurrence.next();
        assert_eq!(differs(&next), Some("the number of its next call"));
        assert_eq!(differs(&|state| state.inbox.clear()), Some("what is unread"));
        assert_eq!(differs(&|state| state.open.clear()), Some("what is open"));
    }
}
