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
    /// The file, or a page of it: writes to it are refused, whichever instance they belong to.
    Pages,
}

/// After any error of `commit` except `Full` and `Unavailable`, the owner cannot know what is durable. It drops the
/// memory of every partition that is ahead of the disk, claims the partitions again and recovers them (A1, A43).
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    #[error("partition {partition} belongs to a newer owner")]
    Fenced { partition: PartitionKey, by: Option<Epoch> },
    /// A message was delivered a second time, after a crash or a lost answer. The receiver's memory is out of date, so
    /// it reloads; the target instance is not damaged.
    #[error(
        "a commit to partition {partition} consumes message {}/{}/{}, which an earlier commit consumed",
        at.partition, at.seq, at.index
    )]
    Stale { partition: PartitionKey, at: OutboxRef },
    #[error("the lease of node {:016x} has expired", node.0)]
    LeaseOver { node: NodeId },
    #[error("the store cannot be reached; nothing was changed")]
    Unavailable { source: Box<dyn StdError + Send + Sync> },
    #[error("the store failed; unconfirmed changes may or may not be durable")]
    Unknown { source: Box<dyn StdError + Send + Sync> },
    #[error("the store is full: the disk, a quota or a file size limit is exhausted; nothing was changed")]
    Full,
    #[error("the store is damaged at {place}: {what}")]
    Corrupt {
        place: String,
        what: String,
        extent: Extent,
    },
    #[error("hub `{hub}` does not exist")]
    NoSuchHub { hub: HubName },
    #[error("hub `{hub}` already exists")]
    HubExists { hub: HubName },
    #[error(
        "the files of the store in {folder} were moved or replaced while in use: {why}; unconfirmed changes may be lost"
    )]
    Lost { folder: String, why: String },
    #[error("the store in {folder} is in use by process {pid}")]
    Locked { folder: String, pid: u32 },
    #[error("the store in {folder} has format {found}; this version reads formats up to {known}")]
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
