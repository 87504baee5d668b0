//! A store in front of another one, for tests that change the behaviour of some calls.

use std::sync::Arc;
use std::time::Duration;

use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::Payloads;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::{
    Beat, Claim, Claimed, ExecutionKey, FingerprintPage, Fut, Group, HistoryChunk, HistoryRange, HubInfo, IdPage,
    InstancePage, Lease, NodeId, PartitionKey, Recovered, Selection, Space, Store, Verified, Work,
};

/// A store that forwards every call it does not override to the store below.
pub trait Layer: Send + Sync + 'static {
    fn below(&self) -> &dyn Store;

    fn work(&self) -> Work {
        self.below().work()
    }

    fn list_hubs(&self) -> Fut<'_, Vec<HubInfo>> {
        self.below().list_hubs()
    }

    fn create_hub<'a>(&'a self, name: &'a HubName, partitions: u16, now: Timestamp) -> Fut<'a, HubInfo> {
        self.below().create_hub(name, partitions, now)
    }

    fn delete_hub<'a>(&'a self, name: &'a HubName) -> Fut<'a, HubInfo> {
        self.below().delete_hub(name)
    }

    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat> {
        self.below().beat(node, lasts, now)
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed> {
        self.below().claim(claim)
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()> {
        self.below().release(leases)
    }

    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>> {
        self.below().recover(lease)
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        self.below().commit(group)
    }

    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>> {
        self.below().load(partition, instances)
    }

    fn history<'a>(&'a self, of: &'a ExecutionKey, range: HistoryRange) -> Fut<'a, Vec<HistoryChunk>> {
        self.below().history(of, range)
    }

    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage> {
        self.below().list(which, payloads)
    }

    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage> {
        self.below().list_ids(which)
    }

    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>> {
        self.below().counts(hub)
    }

    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage> {
        self.below().fingerprints(partition, after, rows_max)
    }

    fn verify(&self) -> Fut<'_, Verified> {
        self.below().verify()
    }

    fn space(&self) -> Fut<'_, Space> {
        self.below().space()
    }

    fn compact(&self) -> Fut<'_, Space> {
        self.below().compact()
    }

    fn find_room(&self) -> Fut<'_, ()> {
        self.below().find_room()
    }
}

impl<L: Layer> Store for L {
    fn work(&self) -> Work {
        Layer::work(self)
    }

    fn list_hubs(&self) -> Fut<'_, Vec<HubInfo>> {
        Layer::list_hubs(self)
    }

    fn create_hub<'a>(&'a self, name: &'a HubName, partitions: u16, now: Timestamp) -> Fut<'a, HubInfo> {
        Layer::create_hub(self, name, partitions, now)
    }

    fn delete_hub<'a>(&'a self, name: &'a HubName) -> Fut<'a, HubInfo> {
        Layer::delete_hub(self, name)
    }

    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat> {
        Layer::beat(self, node, lasts, now)
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed> {
        Layer::claim(self, claim)
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()> {
        Layer::release(self, leases)
    }

    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>> {
        Layer::recover(self, lease)
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        Layer::commit(self, group)
    }

    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>> {
        Layer::load(self, partition, instances)
    }

    fn history<'a>(&'a self, of: &'a ExecutionKey, range: HistoryRange) -> Fut<'a, Vec<HistoryChunk>> {
        Layer::history(self, of, range)
    }

    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage> {
        Layer::list(self, which, payloads)
    }

    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage> {
        Layer::list_ids(self, which)
    }

    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>> {
        Layer::counts(self, hub)
    }

    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage> {
        Layer::fingerprints(self, partition, after, rows_max)
    }

    fn verify(&self) -> Fut<'_, Verified> {
        Layer::verify(self)
    }

    fn space(&self) -> Fut<'_, Space> {
        Layer::space(self)
    }

    fn compact(&self) -> Fut<'_, Space> {
        Layer::compact(self)
    }

    fn find_room(&self) -> Fut<'_, ()> {
        Layer::find_room(self)
    }
}
