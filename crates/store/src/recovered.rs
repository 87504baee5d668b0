//! The state with which the owner of a partition continues.

use taskhub_core::commit::Open;
use taskhub_core::id::{InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::message::{OutboxItem, OutboxRef};

/// What the owner of a partition needs before its first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The next numbers. The first item of a partition, exactly once.
    Counters {
        /// Number of the next commit.
        next_seq: Seq,
        /// Number of the next instance.
        next_instance: InstanceNumber,
        /// Number of the next commit of every partition of the hub, by partition number. Every message of an earlier
        /// commit to this partition is either among these items or already consumed; so if such a message is delivered
        /// again, it is a repetition and can be dropped.
        horizon: Vec<Seq>,
    },
    /// An activity that still has to run, or runs.
    Task {
        instance: InstanceId,
        /// Key of the instance.
        number: InstanceNumber,
        /// The call; always of the kind `Task`.
        open: Open,
    },
    /// A timer that is not fired.
    Timer {
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
        instance: InstanceId,
        /// Name of its orchestrator: an instance whose orchestrator no worker offers is not loaded (A51).
        name: Name,
        /// Stored bytes of its unread messages and open work: an estimate of the memory that loading it takes.
        bytes: u64,
    },
    /// A row that cannot be read. It stays where it is; the instance it belongs to must not be run without
    /// what it says, and everything else can (R187).
    Damaged {
        /// Its instance, if that much is known.
        instance: Option<InstanceId>,
        /// The place of the damage, for operators.
        place: String,
        /// Describes the damage.
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
