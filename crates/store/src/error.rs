//! What can go wrong below the trait.

use std::error::Error as StdError;

use taskhub_core::id::{Epoch, HubName};
use taskhub_core::message::OutboxRef;
use thiserror::Error as ThisError;

use crate::{NodeId, PartitionKey};

/// How far damage goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Rows, which belong to one instance or are named: others can be read and written.
    Rows,
    /// The file, or a page of it: whatever has to be written there is refused, whose ever it is.
    Pages,
}

/// After any of these from `commit`, but `Full` and `Unavailable`, the owner drops the memory of every
/// partition that is ahead of the disk, claims anew and recovers (A1, A43).
#[derive(Debug, ThisError)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant's message says what it means; members are the data in it"
)]
pub enum Error {
    #[error("partition {partition} belongs to a newer owner")]
    Fenced { partition: PartitionKey, by: Option<Epoch> },
    /// A second delivery, which a crash or a lost answer can cause. What the receiver knows is old, so it is read anew; nothing
    /// is wrong with the instance that the message was for.
    #[error(
        "a commit to partition {partition} consumes message {}/{}/{}, which was consumed before",
        at.partition, at.seq, at.index
    )]
    Stale { partition: PartitionKey, at: OutboxRef },
    #[error("the lease of node {:016x} is over", node.0)]
    LeaseOver { node: NodeId },
    #[error("the store cannot be reached; nothing was changed")]
    Unavailable { source: Box<dyn StdError + Send + Sync> },
    #[error("the store failed; what was under way may or may not be durable")]
    Unknown { source: Box<dyn StdError + Send + Sync> },
    #[error(
        "the store has no room left: the disk, a quota or a limit on the size of files is reached; nothing was changed"
    )]
    Full,
    #[error("the store is damaged at {place}: {what}")]
    Corrupt {
        place: String,
        what: String,
        extent: Extent,
    },
    #[error("no hub `{hub}` exists")]
    NoSuchHub { hub: HubName },
    #[error("hub `{hub}` exists already")]
    HubExists { hub: HubName },
    #[error("the store in {folder} was taken away while it was in use: {why}; what was under way may be lost")]
    Lost { folder: String, why: String },
    #[error("the store in {folder} is in use by process {pid}")]
    Locked { folder: String, pid: u32 },
    #[error("the store in {folder} has format {found}, and this version reads up to {known}")]
    Format { folder: String, found: u32, known: u32 },
}

impl Error {
    /// The stable word of the condition (A10).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fenced { .. }
            | Self::Stale { .. }
            | Self::LeaseOver { .. }
            | Self::Unavailable { .. }
            | Self::Unknown { .. } => "store-unavailable",
            Self::Full => "store-full",
            Self::Corrupt { .. } => "store-corrupt",
            Self::NoSuchHub { .. } => "hub-not-found",
            Self::HubExists { .. } => "hub-exists",
            Self::Lost { .. } => "store-lost",
            Self::Locked { .. } => "store-locked",
            Self::Format { .. } => "store-format",
        }
    }
}
