//! Who may write: nodes, their leases, and the claims of partitions.
//!
//! A node has one lease for all that it owns, which it renews with [beats](crate::Store::beat). The lease only says when others
//! may *try* to take a partition; what keeps an old owner from writing is the epoch that every claim raises and every commit
//! carries (R190). So a lease that ran out by a wrong clock costs a reload, never a result.

use std::time::Duration;

use taskhub_core::id::Epoch;
use taskhub_core::time::Timestamp;

use crate::PartitionKey;

/// One run of one process, by a number that it draws at random when it starts: never the name of a machine, on which two
/// processes may run, or one after another (P32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// How long a node's lease lasts after each beat, unless it says otherwise (P33).
pub const LEASE_DEFAULT: Duration = Duration::from_secs(15);

/// Which partitions a claim takes of those that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Partitions without an owner, partitions of the claiming node, and partitions whose owner's lease has expired.
    Free,
    /// All partitions; only if the owner is known to be dead, or on an operator's order.
    All,
}

/// A wish to own partitions.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who claims. Its lease is renewed by it.
    pub node: NodeId,
    /// How long that lease lasts from now on.
    pub lasts: Duration,
    pub partitions: Vec<PartitionKey>,
    /// Which of them are taken.
    pub take: Take,
    /// The time of the node, for a store without a clock of its own.
    pub now: Timestamp,
}

impl Claim {
    /// A claim of free partitions.
    pub fn new(node: NodeId, partitions: &[PartitionKey], now: Timestamp) -> Self {
        Self {
            node,
            lasts: LEASE_DEFAULT,
            partitions: partitions.to_vec(),
            take: Take::Free,
            now,
        }
    }

    /// A claim of all partitions, whatever their owners.
    #[must_use]
    pub fn steal(self) -> Self {
        Self {
            take: Take::All,
            ..self
        }
    }
}

/// What came of a [`Claim`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Partitions that were taken, in the order of the claim.
    pub leases: Vec<Lease>,
    /// Partitions that another node owns.
    pub held: Vec<Ownership>,
}

/// The owner of a partition before a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// No owner, or an owner that released it with [`crate::Store::release`]: no activity of it can be running anywhere
    /// (A18, R186).
    Nobody,
    /// The same node: what it handed out it still knows of.
    ThisNode,
    /// Another node, or an earlier run of this process, that did not give it back: an activity of it may be running (R183).
    Other,
}

/// The right to commit to a partition: every commit carries its epoch, and a newer one refuses it (R190).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub partition: PartitionKey,
    /// The fence; grows with every claim, on the same node too (A21).
    pub epoch: Epoch,
    /// The previous owner.
    pub previous: Previous,
}

/// The owner of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub partition: PartitionKey,
    /// Its owner, be its lease over or not; absent if it was given back.
    pub node: Option<NodeId>,
    /// Its fence.
    pub epoch: Epoch,
}

/// The lease of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLease {
    pub node: NodeId,
    /// When the lease expires, by the store's clock; absent if leases never expire because the store has a single
    /// owner.
    pub ends_at: Option<Timestamp>,
}

/// What a node learns with each renewal of its lease (P35).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The store's time.
    pub now: Timestamp,
    /// The nodes whose lease is not over, by number.
    pub nodes: Vec<NodeLease>,
    /// All partitions with their owners.
    pub owners: Vec<Ownership>,
}
