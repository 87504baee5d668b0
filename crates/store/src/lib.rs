//! Where a hub is kept: one trait toward the engine, [`Store`], and the backends behind it.
//!
//! ```text
//!   engine ──Arc<Group>──▶ Store::commit        (the only way state changes)
//!          ◀─states, events, pages── load · history · list · recover
//! ```
//!
//! A backend knows nothing of the engine and nothing of the other backends. It is tested through this
//! trait alone, by the conformance suite (feature `testing`), which any other backend can run too.

// Rows and files may be damaged, so that no length in them is to be relied on.
#![warn(clippy::indexing_slicing)]

mod claim;
mod error;
mod fence;
mod group;
mod history;
mod lists;
mod recovered;

pub mod blocking;
#[cfg(feature = "testing")]
#[expect(clippy::indexing_slicing, reason = "checks fail by panicking")]
pub mod conformance;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod inline;
pub mod layer;
pub mod mem;
#[cfg(feature = "embedded")]
mod sql;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::id::{Epoch, HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::Payloads;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

pub use claim::{Beat, Claim, Claimed, LEASE_DEFAULT, Lease, NodeId, NodeLease, Ownership, Previous, Take};
pub use error::{Error, Extent};
pub use group::{Group, Room, Section};
pub(crate) use history::HistoryRead;
pub use history::{ExecutionKey, HistoryChunk, HistoryRange, decode_history};
pub use lists::{FingerprintPage, IdPage, InstancePage, Selection};
pub use recovered::Recovered;

/// What the methods of [`Store`] return: boxed, since they are called once per group commit.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Number of partitions of a hub unless its creator says otherwise (A15).
pub const PARTITIONS_DEFAULT: u16 = 8;

/// The partition an instance belongs to: a hash of its id, fixed for the life of the hub (A15).
pub fn partition_of(instance: &InstanceId, partitions: u16) -> u16 {
    let hash = xxhash_rust::xxh3::xxh3_64(instance.as_str().as_bytes());
    // The remainder is below a u16, so the conversion cannot fail.
    u16::try_from(hash % u64::from(partitions)).unwrap_or(0)
}

/// A fingerprint of an instance id, for the filter that tells which ids do not exist (A40).
pub fn fingerprint(instance: &InstanceId) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(instance.as_str().as_bytes(), 1)
}

/// Where the instances of a new hub are counted from. No two lives of a hub count alike, be it deleted and made anew in
/// one store or with its store: else an activity of the second life would have the key of one of the first (P4). Never
/// 0, which says "nothing yet"; far below 2^40, so that there is room for instances.
pub(crate) fn first_number(created_at: Timestamp, epoch_floor: Epoch) -> InstanceNumber {
    const ROOM: u64 = 1 << 38;
    let life = [created_at.ticks(), i64::from(epoch_floor.0)]
        .map(i64::to_be_bytes)
        .concat();
    InstanceNumber(1 + xxhash_rust::xxh3::xxh3_64_with_seed(&life, 2) % ROOM)
}

/// States of instances of one partition, in the order asked for; for one that cannot be read, what is wrong
/// with it, which is not its neighbours' trouble (R187).
///
/// # Errors
///
/// Whatever the store says but `Corrupt`.
pub async fn load_each(
    store: &dyn Store,
    partition: &PartitionKey,
    instances: &[InstanceId],
) -> Result<Vec<Result<Option<InstanceState>, String>>, Error> {
    match store.load(partition, instances).await {
        Ok(states) => return Ok(states.into_iter().map(Ok).collect()),
        Err(Error::Corrupt { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut states = Vec::with_capacity(instances.len());
    for instance in instances {
        states.push(match store.load(partition, std::slice::from_ref(instance)).await {
            Ok(found) => Ok(found.into_iter().flatten().next()),
            Err(Error::Corrupt { what, .. }) => Err(what),
            Err(error) => return Err(error),
        });
    }
    Ok(states)
}

/// A partition of a hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The hub.
    pub hub: HubName,
    /// 0 … partitions − 1.
    pub index: u16,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.hub, self.index)
    }
}

/// A hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubInfo {
    /// Its name as it was created.
    pub name: HubName,
    /// Number of its partitions.
    pub partitions: u16,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a check of the whole store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Contradictions, each as a line for people. Empty is good.
    pub problems: Vec<String>,
    /// Bytes that were looked at: the size of the store's file, 0 if it has none.
    pub bytes: u64,
}

/// How much room a store takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of its file; 0 if it has none.
    pub bytes: u64,
    /// How many of them hold nothing and are used before the file grows.
    pub free_bytes: u64,
}

/// Work done so far, for benchmarks and for tests, which count work and never time it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Groups made durable.
    pub groups: u64,
    /// Commits in them.
    pub commits: u64,
    /// Rows written or deleted.
    pub rows: u64,
    /// Completed syncs of the store's files.
    pub syncs: u64,
}

/// A store holds any number of hubs; one value per node, shared by its partitions. Dropping it is safe at any time.
pub trait Store: Send + Sync + 'static {
    /// What it did so far.
    fn work(&self) -> Work;

    /// All hubs, by name.
    fn list_hubs(&self) -> Fut<'_, Vec<HubInfo>>;

    /// Creates a hub with so many partitions, fixed from then on (A15); at least one. [`Error::HubExists`] if there is one of
    /// that name, whatever its case.
    fn create_hub<'a>(&'a self, name: &'a HubName, partitions: u16, now: Timestamp) -> Fut<'a, HubInfo>;

    /// Deletes a hub and everything in it, and fences all owners. Answers what it was.
    fn delete_hub<'a>(&'a self, name: &'a HubName) -> Fut<'a, HubInfo>;

    /// Renews the lease of a node, and tells it how the others stand. [`Error::LeaseOver`] if the lease is over: then others may
    /// have taken what it owned, and it goes on as a new node. A store with one owner for as long as it is open, such as the
    /// embedded one, has leases without an end.
    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat>;

    /// Takes partitions, also one's own anew, and renews the lease of the node. Every partition that is taken gets a higher
    /// epoch (A21). If one of them does not exist nothing is taken.
    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed>;

    /// Gives partitions back after a clean stop (A18); nothing can be committed under these leases any more.
    /// A lease that another owner has taken is left alone.
    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()>;

    /// What an owner needs before its first step, read once after each claim. A damaged row is an item, no error.
    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>>;

    /// The only way state changes. Whoever calls it does so from a thread of its own, one group after the
    /// other: the future may block the thread that polls it until the disk has answered. `Ok`: all of it is durable. `Err`:
    /// nothing is, or, where a backend cannot do better, a prefix in order. A section with an old epoch fails the group as
    /// [`Error::Fenced`]; one that consumes a message which is not there, as [`Error::Stale`].
    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()>;

    /// States of instances of one partition, in the order asked for.
    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>>;

    /// Chunks of a history, in order, without a gap; the first begins exactly with the event that is asked for. What does
    /// not exist has none. No chunk is read behind the one with which a bound of the range is reached.
    fn history<'a>(&'a self, of: &'a ExecutionKey, range: HistoryRange) -> Fut<'a, Vec<HistoryChunk>>;

    /// A page of status records, with the payloads that are wanted. It shows every commit that returned before the call, as
    /// all of these lists do.
    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage>;

    /// The ids of such a page, without reading the status records.
    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage>;

    /// How many instances of a hub there are in each status that occurs.
    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>>;

    /// Fingerprints of the ids in a partition behind an instance (A40), at most so many.
    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage>;

    /// Compares everything that is stored twice, and checks what carries checksums (I8, I12).
    fn verify(&self) -> Fut<'_, Verified>;

    /// How much room it takes.
    fn space(&self) -> Fut<'_, Space>;

    /// Gives back to the system what is free, in a bounded step. Answers how much room it then takes.
    fn compact(&self) -> Fut<'_, Space>;

    /// Whether there is room for new work: [`Error::Full`] if there is none (A43).
    fn find_room(&self) -> Fut<'_, ()>;
}
