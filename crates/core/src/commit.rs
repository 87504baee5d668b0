//! The atomic change of durable state: a delta of one instance, and what it says to others.

use crate::event::HistoryEvent;
use crate::event::Tags;
use crate::failure::Failure;
use crate::id::{ExecutionId, InstanceId, InstanceNumber, MessageNumber, Name, Occurrence};
use crate::message::{Message, OutboxItem, OutboxRef};
use crate::payload::{Payload, size};
use crate::seen::SeenKey;
use crate::status::{InstanceInfo, RuntimeStatus, Stall};
use crate::time::Timestamp;

/// One step. Everything in it becomes durable together or not at all (R26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The instance it is about.
    pub instance: InstanceId,
    /// Key of the instance's rows.
    pub number: InstanceNumber,
    /// What becomes of the instance; absent when a message was only taken note of (A29).
    pub change: Option<Change>,
    /// Messages to others; an item's index is its position here.
    pub outbox: Vec<OutboxItem>,
    /// The outbox item whose receipt this commit is, which it removes.
    pub consumed: Option<OutboxRef>,
}

/// What becomes of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It comes into being, or takes the place of an ended one with the same id (R137).
    Create(Box<Creation>),
    /// It moves on.
    Update(Box<Update>),
    /// Everything about it is removed (R129).
    Purge,
}

/// The first commit of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Its status record.
    pub info: InstanceInfo,
    /// Its start message.
    pub start: Message,
    /// Number of the first occurrence; above those of an instance it replaces, whose activities may still run.
    pub next_occurrence: Occurrence,
    /// The ended instance with the same id, which vanishes in this commit.
    pub replaces: Option<InstanceNumber>,
    /// The keys that count, oldest first: those of an instance that it replaces, then that of the start.
    pub keys: Vec<SeenKey>,
}

/// A delta. Members that are empty or absent change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Length of the history this applies to; any other length is a bug of ours.
    pub expected_history: u32,
    /// Time of the commit, not before the last one (R11).
    pub at: Timestamp,
    /// The new status.
    pub status: Option<RuntimeStatus>,
    /// Set when the instance ends.
    pub ending: Option<Ending>,
    /// The new custom status; the inner `None` clears it.
    pub custom_status: Option<Option<Payload>>,
    /// The new stall; the inner `None` ends it.
    pub stalled: Option<Option<Stall>>,
    /// Events appended to the history of the execution that is current before this commit.
    pub events: Vec<HistoryEvent>,
    /// Inbox messages that are done with.
    pub inbox_taken: Vec<MessageNumber>,
    /// Inbox messages that came.
    pub inbox_added: Vec<Message>,
    /// Tasks, timers and children that are waited for from now on.
    pub opened: Vec<Open>,
    /// Those that are not any more.
    pub closed: Vec<Occurrence>,
    /// Delivery counts of tasks that were handed out again (R183).
    pub deliveries: Vec<(Occurrence, u32)>,
    /// The next execution, after a continue-as-new (R87).
    pub continued: Option<Continued>,
    /// The key an event came with (R83).
    pub key: Option<SeenKey>,
}

/// How an instance ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Result, failure text or reason (R9).
    pub output: Option<Payload>,
    /// Structured failure.
    pub failure: Option<Box<Failure>>,
}

/// What changes with the next execution; the rest stays (R87).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continued {
    /// Its id.
    pub execution: ExecutionId,
    /// Its input.
    pub input: Option<Payload>,
    /// Its version.
    pub version: Option<Name>,
}

/// Something an execution waits for, or an activity that still has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub occurrence: Occurrence,
    /// Id of the action event. May repeat within an execution, but not while open (R33).
    pub event_id: i32,
    /// Ordinal of the execution that opened it.
    pub ordinal: u32,
    /// What it is.
    pub kind: OpenKind,
}

/// What is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenKind {
    /// An activity call.
    Task {
        /// Name of the activity.
        name: Name,
        /// Its version.
        version: Option<Name>,
        /// Its input.
        input: Option<Payload>,
        /// Labels of the call.
        tags: Tags,
        /// Deliveries that were lost, as far as they were stored (A35).
        deliveries: u32,
    },
    /// A timer.
    Timer {
        /// When it is due.
        fire_at: Timestamp,
    },
    /// A child.
    Child {
        /// Its id.
        instance: InstanceId,
    },
}

impl Open {
    /// Bytes of payload and names in it, for budgets.
    pub fn size(&self) -> usize {
        match &self.kind {
            OpenKind::Task { name, input, tags, .. } => {
                let tags: usize = tags.iter().map(|(key, value)| key.len() + value.len()).sum();
                name.as_str().len() + input.as_ref().map_or(0, Payload::len) + tags
            }
            OpenKind::Timer { .. } => 0,
            OpenKind::Child { instance } => instance.as_str().len(),
        }
    }
}

impl Update {
    fn size(&self) -> usize {
        let events: usize = self.events.iter().map(HistoryEvent::size).sum();
        let added: usize = self.inbox_added.iter().map(Message::size).sum();
        let opened: usize = self.opened.iter().map(Open::size).sum();
        let ending = self.ending.as_ref().and_then(|ending| ending.output.as_ref());
        let custom = self.custom_status.as_ref().and_then(Option::as_ref);
        size_of::<Self>() + events + added + opened + size(ending) + size(custom)
    }
}

impl Commit {
    /// A commit with a change and nothing to say to others.
    pub fn new(instance: InstanceId, number: InstanceNumber, change: Change) -> Self {
        Self {
            instance,
            number,
            change: Some(change),
            outbox: Vec::new(),
            consumed: None,
        }
    }

    /// Bytes of payload and names in it, for limits and budgets: what it adds to memory, and about what it adds to the
    /// store.
    pub fn size(&self) -> usize {
        const ENVELOPE: usize = size_of::<Commit>();
        let change = match &self.change {
            None | Some(Change::Purge) => 0,
            Some(Change::Create(creation)) => creation.start.size(),
            Some(Change::Update(update)) => update.size(),
        };
        ENVELOPE + change + self.outbox.iter().map(OutboxItem::size).sum::<usize>()
    }

    /// The update in it, if it is one.
    pub fn update(&self) -> Option<&Update> {
        match &self.change {
            Some(Change::Update(update)) => Some(update),
            Some(Change::Create(_) | Change::Purge) | None => None,
        }
    }
}
