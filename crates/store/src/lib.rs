//! Storage of hubs: the trait [`Store`], which the engine uses, and its backends.
//!
//! ```text
//!   engine ──Arc<Group>──▶ Store::commit        (the only way state changes)
//!          ◀─states, events, pages── load · history · list · recover
//! ```
//!
//! A backend depends neither on the engine nor on other backends. The conformance suite (feature `testing`) tests it
//! only through this trait; third-party backends can run the suite too.

// Rows and files may be damaged, so lengths in them cannot be trusted.
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

/// The return type of the methods of [`Store`]. The box costs little, because the methods are called once per group.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Default number of partitions of a new hub (A15).
pub const PARTITIONS_DEFAULT: u16 = 8;

/// The partition an instance belongs to: a hash of its id, fixed for the life of the hub (A15).
pub fn partition_of(instance: &InstanceId, partitions: u16) -> u16 {
    let hash = xxhash_rust::xxh3::xxh3_64(instance.as_str().as_bytes());
    // The remainder is below a u16, so the conversion cannot fail.
    u16::try_from(hash % u64::from(partitions)).unwrap_or(0)
}

/// A fingerprint of an instance id, for the filter that recognises ids that do not exist, so that a start with a new id
/// needs no read (A40).
pub fn fingerprint(instance: &InstanceId) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(instance.as_str().as_bytes(), 1)
}

/// The first instance number of a new hub. It differs each time a hub of the same name is created, even after its store
/// was deleted: the stable key of an activity contains the instance number, and a later hub must never repeat the key
/// of an earlier one (P4). It is never 0, which means "none yet", and far below 2^40, so that enough numbers remain.
pub(crate) fn first_number(created_at: Timestamp, epoch_floor: Epoch) -> InstanceNumber {
    const ROOM: u64 = 1 << 38;
    let life = [created_at.ticks(), i64::from(epoch_floor.0)]
        .map(i64::to_be_bytes)
        .concat();
    InstanceNumber(1 + xxhash_rust::xxh3::xxh3_64_with_seed(&life, 2) % ROOM)
}

/// Loads the states of instances of one partition, in the requested order. A damaged instance yields a description of
/// the damage and does not keep the others from being loaded (R187).
///
/// # Errors
///
/// Every error of the store except `Corrupt`.
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
    pub hub: HubName,
    /// 0 … partitions − 1.
    pub index: u16,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.hub, self.index)
    }
}

/// Description of a hub in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubInfo {
    /// Its name as it was created.
    pub name: HubName,
    /// Number of its partitions.
    pub partitions: u16,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The result of a check of the whole store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Contradictions found, each as a readable line; empty if the store is intact.
    pub problems: Vec<String>,
    /// Size of the checked file in bytes, 0 if the store has no file.
    pub bytes: u64,
}

/// Disk space used by a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size of the file in bytes, 0 if the store has no file.
    pub bytes: u64,
    /// Free bytes inside the file, which are used before the file grows.
    pub free_bytes: u64,
}

/// Counters of work since the store was opened, for benchmarks and for tests, which count work instead of measuring
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Groups of commits made durable.
    pub groups: u64,
    /// Commits in them.
    pub commits: u64,
    /// Rows written or deleted.
    pub rows: u64,
    /// Completed syncs of the store's files.
    pub syncs: u64,
}

/// A store of any number of hubs. A node has one value, which all its partitions share. Dropping it is safe at any
/// time.
pub trait Store: Send + Sync + 'static {
    /// Counters of the work done so far.
    fn work(&self) -> Work;

    /// All hubs, by name.
    fn list_hubs(&self) -> Fut<'_, Vec<HubInfo>>;

    /// Creates a hub with a number of partitions, at least one, that never changes (A15). Fails with
    /// [`Error::HubExists`] if a hub has the same name, ignoring case.
    fn create_hub<'a>(&'a self, name: &'a HubName, partitions: u16, now: Timestamp) -> Fut<'a, HubInfo>;

    /// Deletes a hub and everything in it, and fences all owners. Returns the deleted hub.
    fn delete_hub<'a>(&'a self, name: &'a HubName) -> Fut<'a, HubInfo>;

    /// Renews the lease of a node, and returns the leases of all nodes. Fails with [`Error::LeaseOver`] if the lease
    /// has expired: other nodes may have claimed its partitions, so the caller must continue as a new node. In a store
    /// with a single owner, such as the embedded one, leases never expire.
    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat>;

    /// Claims partitions, including those that the node already owns, and renews the node's lease. Each claimed
    /// partition gets a higher epoch, so that commits of earlier owners are refused (A21). If one of the partitions
    /// does not exist, none is claimed.
    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed>;

    /// Releases partitions after a clean stop (A18). Afterwards these leases allow no more commits. Ignores a lease
    /// whose partition has another owner.
    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()>;

    /// Reads the state that an owner needs before its first step; called once after each claim. A damaged row is
    /// returned as an item, not as an error.
    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>>;

    /// Makes a group of commits durable; the only method that changes instances. Call it from a dedicated thread, one
    /// group after the other, because the future may block its thread until the disk has synced. After `Ok`, the whole
    /// group is durable. After an error, nothing of it is, or, if a backend cannot guarantee that, a prefix in order. A
    /// section with an old epoch fails with [`Error::Fenced`], a section that consumes a missing message with
    /// [`Error::Stale`].
    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()>;

    /// Loads the states of instances of one partition, in the requested order; `None` for an unknown id.
    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>>;

    /// Reads the chunks of a history in order and without a gap; the first one begins exactly at the requested event.
    /// An unknown execution has no chunks. Reads no chunk after the one that reaches a bound of the range.
    fn history<'a>(&'a self, of: &'a ExecutionKey, range: HistoryRange) -> Fut<'a, Vec<HistoryChunk>>;

    /// Reads a page of status records with the requested payloads. Like all list methods, it reflects every commit that
    /// returned before the call.
    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage>;

    /// Reads the ids of such a page without the status records.
    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage>;

    /// Counts the instances of a hub in each status that occurs.
    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>>;

    /// Reads up to `rows_max` fingerprints of the ids of a partition, beginning after an instance (A40).
    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage>;

    /// Compares all redundant data and verifies all checksums (I8, I12).
    fn verify(&self) -> Fut<'_, Verified>;

    /// Returns the disk space used.
    fn space(&self) -> Fut<'_, Space>;

    /// Returns free space to the system in one bounded step. Returns the disk space used afterwards.
    fn compact(&self) -> Fut<'_, Space>;

    /// Checks for enough free space for new work, and fails with [`Error::Full`] if there is not enough (A43).
    fn find_room(&self) -> Fut<'_, ()>;
}
