//! The state of one instance: the fold of its commits, and nothing else.

use std::collections::BTreeMap;

use crate::commit::{Commit, Creation, Open, OpenKind, Update};
use crate::event::EventKind;
use crate::id::{InstanceNumber, MessageNumber, Occurrence};
use crate::limits;
use crate::message::Message;
use crate::seen::{SeenKey, SeenKeys};
use crate::status::{InstanceInfo, RuntimeStatus};
use crate::time::Timestamp;

/// All that is needed to take messages and begin turns without reading history.
///
/// It holds no events: those that are not yet durable are the partition's, older ones the store's (A39).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceState {
    /// The status record.
    pub info: InstanceInfo,
    /// Key of its rows.
    pub number: InstanceNumber,
    /// Events in the history of the current execution.
    pub history_events: u32,
    /// Their bytes, as [`crate::event::HistoryEvent::size`] counts.
    pub history_bytes: u64,
    /// Number of the next inbox message.
    pub next_message: MessageNumber,
    /// Number of the next occurrence.
    pub next_occurrence: Occurrence,
    /// Accepted, not yet in history.
    pub inbox: BTreeMap<MessageNumber, Message>,
    /// What is waited for, and activities that still have to run.
    pub open: BTreeMap<Occurrence, Open>,
    /// Event ids open in the current execution (R33).
    open_ids: BTreeMap<(OpenClass, i32), Occurrence>,
    /// Bytes of payload and names in `inbox` and in `open`, kept in step with them.
    inbox_bytes: usize,
    open_bytes: usize,
    /// Idempotency keys that still count.
    pub keys: SeenKeys,
}

const MESSAGE_BYTES: usize = size_of::<(MessageNumber, Message)>();
const OPEN_BYTES: usize = size_of::<(Occurrence, Open)>() + size_of::<(OpenClass, i32, Occurrence)>();

/// Bytes of a map: a node has room for eleven entries, and all but the first are half full at least.
const fn nodes(entries: usize, entry_bytes: usize) -> usize {
    (1 + entries / 6) * 11 * entry_bytes
}

/// The three kinds of completion point back by ids of their own kind (R32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenClass {
    /// An activity.
    Task,
    /// A timer.
    Timer,
    /// A child.
    Child,
}

impl OpenKind {
    /// Its class.
    pub fn class(&self) -> OpenClass {
        match self {
            Self::Task { .. } => OpenClass::Task,
            Self::Timer { .. } => OpenClass::Timer,
            Self::Child { .. } => OpenClass::Child,
        }
    }
}

impl InstanceState {
    /// The state after an instance's first commit.
    pub fn created(number: InstanceNumber, creation: &Creation) -> Self {
        let start = creation.start.clone();
        Self {
            info: creation.info.clone(),
            number,
            history_events: 0,
            history_bytes: 0,
            next_message: start.number.next(),
            next_occurrence: creation.next_occurrence,
            inbox_bytes: start.size(),
            open_bytes: 0,
            inbox: BTreeMap::from([(start.number, start)]),
            open: BTreeMap::new(),
            open_ids: BTreeMap::new(),
            keys: creation.keys.iter().cloned().collect(),
        }
    }

    /// The state put together from stored rows.
    pub fn stored(
        info: InstanceInfo,
        number: InstanceNumber,
        history: (u32, u64),
        next: (MessageNumber, Occurrence),
        inbox: Vec<Message>,
        open: Vec<Open>,
        keys: Vec<SeenKey>,
    ) -> Self {
        let mut state = Self {
            info,
            number,
            history_events: history.0,
            history_bytes: history.1,
            next_message: next.0,
            next_occurrence: next.1,
            inbox_bytes: inbox.iter().map(Message::size).sum(),
            open_bytes: 0,
            inbox: inbox.into_iter().map(|message| (message.number, message)).collect(),
            open: BTreeMap::new(),
            open_ids: BTreeMap::new(),
            keys: keys.into_iter().collect(),
        };
        for item in open {
            state.open_item(item);
        }
        state
    }

    /// Applies a commit's delta, live and on recovery alike.
    ///
    /// # Panics
    ///
    /// If the commit was made from another state: that is a bug of ours, and going on would corrupt the instance.
    pub fn apply(&mut self, commit: &Commit) {
        assert_eq!(
            commit.number, self.number,
            "a commit changes the instance it was made for"
        );
        if let Some(update) = commit.update() {
            self.apply_update(update);
        }
    }

    fn apply_update(&mut self, update: &Update) {
        assert_eq!(
            update.expected_history, self.history_events,
            "a commit extends the history it was made from (R26)"
        );
        self.info.updated_at = self.info.updated_at.max(update.at);
        for event in &update.events {
            self.history_events += 1;
            self.history_bytes += event.size() as u64;
        }
        for number in &update.inbox_taken {
            let Some(taken) = self.inbox.remove(number) else {
                unreachable!("a message is consumed once (R188)")
            };
            self.inbox_bytes -= taken.size();
        }
        for occurrence in &update.closed {
            self.close_item(*occurrence);
        }
        for item in &update.opened {
            self.open_item(item.clone());
        }
        for (occurrence, count) in &update.deliveries {
            if let Some(Open {
                kind: OpenKind::Task { deliveries, .. },
                ..
            }) = self.open.get_mut(occurrence)
            {
                *deliveries = *count;
            }
        }
        self.apply_info(update);
        for message in &update.inbox_added {
            self.next_message = self.next_message.max(message.number.next());
            self.inbox_bytes += message.size();
            self.inbox.insert(message.number, message.clone());
        }
        if let Some(key) = &update.key {
            self.keys.add(key.clone(), update.at);
        }
        if update.ending.is_some() {
            self.give_back();
        }
    }

    /// Gives back what maps keep when they are emptied: room for eleven entries each, which for an instance that has ended is
    /// most of what it takes.
    fn give_back(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BTreeMap::new();
        }
        if self.open.is_empty() {
            self.open = BTreeMap::new();
        }
        if self.open_ids.is_empty() {
            self.open_ids = BTreeMap::new();
        }
    }

    fn apply_info(&mut self, update: &Update) {
        if let Some(status) = update.status {
            assert!(
                status == self.info.status || self.info.status.may_become(status),
                "{} may not become {status} (R6)",
                self.info.status
            );
            self.info.status = status;
        }
        if let Some(ending) = &update.ending {
            assert!(self.info.status.is_terminal(), "an ending has a terminal status (R5)");
            self.info.completed_at = Some(self.info.updated_at);
            self.info.output.clone_from(&ending.output);
            self.info.failure.clone_from(&ending.failure);
            self.info.stalled = None;
        }
        if let Some(custom) = &update.custom_status {
            self.info.custom_status.clone_from(custom);
        }
        if let Some(stalled) = &update.stalled {
            self.info.stalled = stalled.clone().map(Box::new);
        }
        if let Some(next) = &update.continued {
            self.info.execution = next.execution;
            self.info.ordinal += 1;
            self.info.input.clone_from(&next.input);
            self.info.version.clone_from(&next.version);
            self.history_events = 0;
            self.history_bytes = 0;
            self.open_ids.clear();
        }
    }

    fn open_item(&mut self, item: Open) {
        self.next_occurrence = self.next_occurrence.max(item.occurrence.next());
        if item.ordinal == self.info.ordinal {
            self.open_ids
                .insert((item.kind.class(), item.event_id), item.occurrence);
        }
        self.open_bytes += item.size();
        self.open.insert(item.occurrence, item);
    }

    fn close_item(&mut self, occurrence: Occurrence) {
        let closed = self.open.remove(&occurrence);
        let Some(item) = closed else {
            unreachable!("an occurrence is closed once (R34)")
        };
        self.open_bytes -= item.size();
        if item.ordinal == self.info.ordinal {
            self.open_ids.remove(&(item.kind.class(), item.event_id));
        }
    }

    /// Whether an occurrence of this id is open in the current execution (R33).
    pub fn is_open_id(&self, class: OpenClass, event_id: i32) -> bool {
        self.open_occurrence(class, event_id).is_some()
    }

    /// The occurrence of this id that is open in the current execution.
    pub fn open_occurrence(&self, class: OpenClass, event_id: i32) -> Option<Occurrence> {
        self.open_ids.get(&(class, event_id)).copied()
    }

    /// Whether it has not ended.
    pub fn is_live(&self) -> bool {
        !self.info.status.is_terminal()
    }

    /// Whether a turn could begin now. While suspended nothing makes a turn ready (A26).
    pub fn is_ready(&self, now: Timestamp) -> bool {
        !self.inbox.is_empty()
            && self.is_live()
            && self.info.status != RuntimeStatus::Suspended
            && self.starts_at().is_none_or(|start| start <= now)
    }

    /// When the first turn may begin, while that lies ahead of the first turn (R15).
    pub fn starts_at(&self) -> Option<Timestamp> {
        if self.has_begun() {
            None
        } else {
            self.info.scheduled_start
        }
    }

    /// Whether a turn of it was ever committed.
    pub fn has_begun(&self) -> bool {
        self.history_events > 0 || self.info.ordinal > 0
    }

    /// The status to show once it is not suspended (A26).
    pub fn status_unsuspended(&self) -> RuntimeStatus {
        if self.has_begun() {
            RuntimeStatus::Running
        } else {
            RuntimeStatus::Pending
        }
    }

    /// The start message, if it is still unread.
    pub fn start_message(&self) -> Option<&Message> {
        self.inbox
            .values()
            .find(|message| matches!(message.event.kind, EventKind::ExecutionStarted(_)))
    }

    /// What is stored of it, in rows: its record, its events, its archived executions.
    pub fn rows(&self) -> u64 {
        let archived = self.info.ordinal.min(limits::ARCHIVED_EXECUTIONS_MAX);
        1 + u64::from(self.history_events) + u64::from(archived)
    }

    /// Bytes of payload and names in what is unread and open.
    pub fn waiting_bytes(&self) -> usize {
        self.inbox_bytes + self.open_bytes
    }

    /// Bytes of payload and names in what is unread.
    pub fn inbox_bytes(&self) -> usize {
        self.inbox_bytes
    }

    /// Bytes that a live instance takes in memory besides its payloads, roughly.
    pub const BYTES_MIN: usize = size_of::<Self>() + nodes(0, MESSAGE_BYTES) + nodes(0, OPEN_BYTES);

    /// Approximate bytes in memory, for budgets. It must be cheap, because it is called after every commit.
    pub fn size(&self) -> usize {
        let is_empty = self.inbox.is_empty() && self.open.is_empty();
        let rows = if is_empty && self.info.completed_at.is_some() {
            0
        } else {
            nodes(self.inbox.len(), MESSAGE_BYTES) + nodes(self.open.len(), OPEN_BYTES)
        };
        size_of::<Self>() + self.info.size() + rows + self.waiting_bytes() + self.keys.size()
    }
}
