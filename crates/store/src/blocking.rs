//! The synchronous half of a backend: what one thread drives in production and the simulator drives by
//! hand, so that a crash can be put before, inside and after a group (A41).

use std::time::Duration;

use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::Payloads;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::{
    Beat, Claim, Claimed, Error, ExecutionKey, FingerprintPage, Group, HistoryChunk, HistoryRange, HubInfo, IdPage,
    InstancePage, Lease, NodeId, PartitionKey, Recovered, Selection, Space, Verified, Work,
};

/// Reads. Each call sees every group that was sealed before it began. Methods and their errors are those of
/// [`crate::Store`].
#[expect(clippy::missing_errors_doc, reason = "each is the method of `Store` of that name")]
pub trait Reader: Send {
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, Error>;
    fn load(&mut self, partition: &PartitionKey, instances: &[InstanceId])
    -> Result<Vec<Option<InstanceState>>, Error>;
    fn history(&mut self, of: &ExecutionKey, range: HistoryRange) -> Result<Vec<HistoryChunk>, Error>;
    fn list(&mut self, which: &Selection, payloads: Payloads) -> Result<InstancePage, Error>;
    fn list_ids(&mut self, which: &Selection) -> Result<IdPage, Error>;
    fn counts(&mut self, hub: &HubName) -> Result<Vec<(RuntimeStatus, u64)>, Error>;
    fn fingerprints(
        &mut self,
        partition: &PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Result<FingerprintPage, Error>;
    fn verify(&mut self) -> Result<Verified, Error>;
    fn space(&mut self) -> Result<Space, Error>;
}

/// The writing half of a store; each store has one. Its methods and errors are those of [`crate::Store`], except that
/// `commit` is split into `stage` and `seal`.
#[expect(clippy::missing_errors_doc, reason = "each is the method of `Store` of that name")]
pub trait Writer: Send {
    fn list_hubs(&mut self) -> Result<Vec<HubInfo>, Error>;
    fn create_hub(&mut self, name: &HubName, partitions: u16, now: Timestamp) -> Result<HubInfo, Error>;
    fn delete_hub(&mut self, name: &HubName) -> Result<HubInfo, Error>;
    fn beat(&mut self, node: NodeId, lasts: Duration, now: Timestamp) -> Result<Beat, Error>;
    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Error>;
    fn release(&mut self, leases: &[Lease]) -> Result<(), Error>;

    /// Prepares a group: checks its fences and writes it where a crash still takes it back as a whole. After an error
    /// nothing of the group is left.
    fn stage(&mut self, group: &Group) -> Result<(), Error>;

    /// Makes the staged group durable; when this returns, every reader sees it.
    fn seal(&mut self) -> Result<(), Error>;

    fn compact(&mut self) -> Result<Space, Error>;
    fn find_room(&mut self) -> Result<(), Error>;
    fn work(&self) -> Work;
}
