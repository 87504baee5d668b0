//! What goes into a partition and what comes out of it. The shell and the simulator move these; neither
//! side of a partition knows the other.
//!
//! `R` is where an answer goes: a channel in the shell, a number in the simulator.

use taskhub_core::commit::Commit;
use taskhub_core::event::{HistoryEvent, Tags};
use taskhub_core::id::{Epoch, Fence, IdempotencyKey, InstanceId, Name, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxItem, OutboxRef, Outcome, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::status::InstanceInfo;
use taskhub_store::ExecutionKey;

use crate::worker::{TaskKey, TurnItem, TurnOutcome};

/// An input of a partition.
#[derive(Debug)]
pub enum Input<R> {
    /// A client wants something of an instance.
    Request {
        /// The instance.
        instance: InstanceId,
        /// What is wanted.
        request: Request,
        /// Where the answer goes.
        to: R,
    },
    /// A message from another partition to an instance (A29). A message that the partition has recovered may be
    /// delivered again.
    Message {
        /// The outbox item's place.
        at: OutboxRef,
        /// The item.
        item: OutboxItem,
    },
    /// The state asked for with [`Output::Load`], as the store has it.
    Loaded {
        /// The instance.
        instance: InstanceId,
        /// Its state, if there is one.
        state: Option<Box<InstanceState>>,
        /// The epoch of the partition that asked. What was read for an earlier one may be out of date, and is
        /// ignored (A21).
        epoch: Epoch,
    },
    /// The store cannot read the instance: it alone is out of service (R187).
    Unreadable {
        /// The instance.
        instance: InstanceId,
        /// What is wrong.
        what: String,
        /// The epoch of the partition that asked.
        epoch: Epoch,
    },
    /// The durable events asked for with [`Output::History`], from the first on.
    History {
        /// The instance.
        instance: InstanceId,
        /// The turn they are for.
        fence: Fence,
        /// The events.
        events: Vec<HistoryEvent>,
    },
    /// What a worker made of a turn.
    Turned {
        /// The instance.
        instance: InstanceId,
        /// The turn's token.
        fence: Fence,
        /// The outcome.
        outcome: TurnOutcome,
    },
    /// The result of an activity, from the dispatcher, which has checked its token (A23).
    TaskDone {
        /// The call.
        key: TaskKey,
        /// The result.
        outcome: Outcome,
    },
    /// The dispatcher is about to hand out a call again, which is put down first (R183).
    TaskRedelivered {
        /// The call.
        key: TaskKey,
        /// Deliveries that were lost so far.
        deliveries: u32,
    },
    /// Everything up to this commit is durable; the partition trims what it kept for that.
    Durable(Seq),
    /// Fingerprints of stored ids, in pieces (A40).
    Fingerprints {
        /// Some of them.
        fingerprints: Vec<u64>,
        /// Whether these were the last.
        is_last: bool,
        /// The epoch of the partition they were read for. The last piece for an earlier one would make the
        /// filter deny ids that exist.
        epoch: Epoch,
    },
    /// Time has passed.
    Tick,
}

impl<R> Input<R> {
    /// What was read of an instance, or what is wrong with it.
    pub fn of_state(instance: InstanceId, epoch: Epoch, state: Result<Option<InstanceState>, String>) -> Self {
        match state {
            Ok(state) => Self::Loaded {
                instance,
                state: state.map(Box::new),
                epoch,
            },
            Err(what) => Self::Unreadable { instance, what, epoch },
        }
    }

    /// Whether it is taken in while the store has no room for work (A43).
    pub fn adds_no_work(&self) -> bool {
        match self {
            Self::Request { request, .. } => !request.adds_work(),
            Self::Loaded { .. } | Self::Unreadable { .. } | Self::Durable(_) | Self::Fingerprints { .. } => true,
            Self::Message { .. }
            | Self::History { .. }
            | Self::Turned { .. }
            | Self::TaskDone { .. }
            | Self::TaskRedelivered { .. }
            | Self::Tick => false,
        }
    }
}

impl<R> Input<R> {
    /// The instance it is about, if it is about one.
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::Request { instance, .. }
            | Self::Loaded { instance, .. }
            | Self::Unreadable { instance, .. }
            | Self::History { instance, .. }
            | Self::Turned { instance, .. } => Some(instance),
            Self::Message { item, .. } => Some(&item.target),
            Self::TaskDone { key, .. } | Self::TaskRedelivered { key, .. } => Some(&key.instance),
            Self::Durable(_) | Self::Fingerprints { .. } | Self::Tick => None,
        }
    }
}

/// What a client wants of one instance.
#[derive(Clone, Debug)]
pub enum Request {
    /// Start it.
    Start(Box<StartRequest>),
    /// Its status record.
    Info,
    /// Raise an event.
    Raise {
        /// Name of the event.
        name: Name,
        /// Its payload.
        input: Option<Payload>,
        /// Makes a repetition a no-op.
        key: Option<IdempotencyKey>,
    },
    /// End it.
    Terminate {
        /// Why.
        reason: Option<Payload>,
        /// Whether its children end too.
        recurse: bool,
    },
    /// Set it aside.
    Suspend {
        /// Why.
        reason: Option<Payload>,
    },
    /// Let it go on.
    Resume {
        /// Why.
        reason: Option<Payload>,
    },
    /// Remove it.
    Purge,
    /// Answer once it got so far.
    Wait(WaitFor),
}

impl Request {
    /// Whether it is refused while the store has no room (A43). What removes, ends or suspends instances is not,
    /// since that is how room is made, and how an operator gets by until there is some.
    pub fn adds_work(&self) -> bool {
        self.added_bytes().is_some()
    }

    /// Whether it may change something and is not a purge, which is retried while the store is full (A43).
    pub(crate) fn is_change(&self) -> bool {
        match self {
            Self::Start(_)
            | Self::Raise { .. }
            | Self::Terminate { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. } => true,
            Self::Info | Self::Purge | Self::Wait(_) => false,
        }
    }

    /// Bytes of payload that it adds, if it adds work.
    pub(crate) fn added_bytes(&self) -> Option<usize> {
        let input = match self {
            Self::Start(start) => &start.input,
            Self::Raise { input, .. } => input,
            Self::Info
            | Self::Terminate { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Purge
            | Self::Wait(_) => return None,
        };
        Some(input.as_ref().map_or(0, Payload::len))
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The first committed turn.
    Started,
    /// A terminal status.
    Ended,
}

impl WaitFor {
    /// Whether an instance has got so far. One that was suspended since has begun all the same.
    pub fn is_met(self, state: &InstanceState) -> bool {
        !state.is_live() || self == Self::Started && state.has_begun()
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Accepted; a repetition or a request without effect counts as accepted too.
    Done,
    /// Removed, with so many rows ([`InstanceState::rows`]).
    Purged {
        /// The rows.
        rows: u64,
    },
    /// The status record; `None` if the instance does not exist.
    Info(Option<Box<InstanceInfo>>),
    /// Refused; nothing changed.
    Refused(Refusal),
    /// The instance cannot be read; the text says why.
    Unreadable(String),
}

/// What a partition wants done. A `seq` names the commit that must be durable first.
#[derive(Debug)]
pub enum Output<R> {
    /// Make this commit durable, after those before it. It is applied in memory already.
    Commit {
        /// Its number, one above the last.
        seq: Seq,
        /// The commit.
        commit: Commit,
    },
    /// Tell all the fingerprints of stored ids again (A40).
    Fingerprints,
    /// Read an instance's state.
    Load(InstanceId),
    /// Read the durable part of a history.
    History {
        /// The instance.
        instance: InstanceId,
        /// The turn it is for.
        fence: Fence,
        /// The execution.
        execution: ExecutionKey,
    },
    /// Have a turn run. May run ahead of the disk; its answer counts only if its cause got there.
    Turn(TurnItem),
    /// Drop what a worker keeps live for the instance.
    Evict(InstanceId),
    /// Hand a message to another partition of the node; may run ahead of the disk, behind its commit (A29).
    Message {
        /// Its place.
        at: OutboxRef,
        /// The message.
        item: OutboxItem,
    },
    /// Have an activity run.
    Dispatch {
        /// After this commit.
        seq: Seq,
        /// The call.
        offer: TaskOffer,
    },
    /// The result of this call is no longer needed.
    Withdraw {
        /// After this commit.
        seq: Seq,
        /// The call.
        key: TaskKey,
    },
    /// The result of this call was taken note of; the dispatcher may forget it (A35).
    Settled {
        /// After this commit.
        seq: Seq,
        /// The call.
        key: TaskKey,
    },
    /// Answer a client.
    Reply {
        /// After this commit (A24).
        seq: Seq,
        /// Where to.
        to: R,
        /// The answer.
        reply: Reply,
    },
}

/// An activity call to be handed out.
#[derive(Clone, Debug)]
pub struct TaskOffer {
    /// The call.
    pub key: TaskKey,
    /// Id of its TaskScheduled event.
    pub event_id: i32,
    /// Name of the activity.
    pub name: Name,
    /// Its version.
    pub version: Option<Name>,
    /// Its input.
    pub input: Option<Payload>,
    /// Labels of the call.
    pub tags: Tags,
    /// Deliveries that were lost, as far as stored.
    pub deliveries: u32,
    /// Whether an earlier process may have handed it out and ended uncleanly: then the next hand-out is
    /// a redelivery (A35).
    pub may_be_running: bool,
}
