//! What the owner of a partition goes on with.

use taskhub_core::commit::Open;
use taskhub_core::id::{InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::message::{OutboxItem, OutboxRef};

/// What the owner of a partition needs before its first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Where counting goes on. Exactly one per partition, the first item.
    Counters {
        /// Number of the next commit.
        next_seq: Seq,
        /// Number of the next instance.
        next_instance: InstanceNumber,
        /// Number of the next commit of every partition of the hub, by their numbers. Whatever a commit before that said to this
        /// partition is among the messages here or was taken in: if it is told again it is a repetition.
        horizon: Vec<Seq>,
    },
    /// An activity that still has to run, or runs.
    Task {
        /// Its instance.
        instance: InstanceId,
        /// Key of the instance.
        number: InstanceNumber,
        /// The call; always of the kind `Task`.
        open: Open,
    },
    /// A timer that is not fired.
    Timer {
        /// Its instance.
        instance: InstanceId,
        /// Key of the instance.
        number: InstanceNumber,
        /// The timer; always of the kind `Timer`.
        open: Open,
    },
    /// A message to an instance of the partition that has not been taken in; those of one sender in the order in which they
    /// were sent.
    Message {
        /// Its place in the outbox of its sender.
        at: OutboxRef,
        /// The message.
        item: OutboxItem,
    },
    /// An instance with unread messages. What they say is read with the instance, and only when it is needed.
    Inbox {
        /// The instance.
        instance: InstanceId,
        /// Name of its orchestrator: nothing is read of one that nobody here runs (A51).
        name: Name,
        /// Bytes of what is unread and open of it, as they are stored: about what reading it takes.
        bytes: u64,
    },
    /// A row that cannot be read. It stays where it is; the instance it belongs to must not be run without
    /// what it says, and everything else can (R187).
    Damaged {
        /// Its instance, if that much is known.
        instance: Option<InstanceId>,
        /// Where it is, for whoever repairs it.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Recovered {
    /// The same without the size of an inbox, which each backend counts in its own way: for comparisons.
    #[must_use]
    pub fn without_size(mut self) -> Self {
        if let Self::Inbox { bytes, .. } = &mut self {
            *bytes = 0;
        }
        self
    }
}
