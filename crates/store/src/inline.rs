//! A store without threads: each call is done when it returns, so its futures are always ready.
//!
//! It makes a [`Store`] of the two blocking halves of any backend: the whole of `mem`, and what the
//! simulator uses to run a real backend under its own schedule. It must not be used on an async
//! runtime's threads with a backend that waits for a disk.

use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::Payloads;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::blocking::{Reader, Writer};
use crate::{
    Beat, Claim, Claimed, Error, ExecutionKey, FingerprintPage, Fut, Group, HistoryChunk, HistoryRange, HubInfo,
    IdPage, InstancePage, Lease, NodeId, PartitionKey, Recovered, Selection, Space, Store, Verified, Work,
};

/// A writer and a reader behind locks of their own.
pub struct Inline<W, R> {
    writer: Mutex<W>,
    reader: Mutex<R>,
}

impl<W: Writer, R: Reader> Inline<W, R> {
    /// Puts the halves of one store together.
    pub fn new(writer: W, reader: R) -> Self {
        Self {
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
        }
    }

    fn writer(&self) -> MutexGuard<'_, W> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, R> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W, R> fmt::Debug for Inline<W, R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inline").finish_non_exhaustive()
    }
}

fn done<'a, T: Send + 'a>(result: Result<T, Error>) -> Fut<'a, T> {
    Box::pin(ready(result))
}

impl<W: Writer + 'static, R: Reader + 'static> Store for Inline<W, R> {
    fn work(&self) -> Work {
        self.writer().work()
    }

    fn list_hubs(&self) -> Fut<'_, Vec<HubInfo>> {
        done(self.writer().list_hubs())
    }

    fn create_hub<'a>(&'a self, name: &'a HubName, partitions: u16, now: Timestamp) -> Fut<'a, HubInfo> {
        done(self.writer().create_hub(name, partitions, now))
    }

    fn delete_hub<'a>(&'a self, name: &'a HubName) -> Fut<'a, HubInfo> {
        done(self.writer().delete_hub(name))
    }

    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat> {
        done(self.writer().beat(node, lasts, now))
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed> {
        done(self.writer().claim(claim))
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()> {
        done(self.writer().release(leases))
    }

    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>> {
        done(self.reader().recover(lease))
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        let mut writer = self.writer();
        done(writer.stage(&group).and_then(|()| writer.seal()))
    }

    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>> {
        done(self.reader().load(partition, instances))
    }

    fn history<'a>(&'a self, of: &'a ExecutionKey, range: HistoryRange) -> Fut<'a, Vec<HistoryChunk>> {
        done(self.reader().history(of, range))
    }

    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage> {
        done(self.reader().list(which, payloads))
    }

    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage> {
        done(self.reader().list_ids(which))
    }

    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>> {
        done(self.reader().counts(hub))
    }

    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage> {
        done(self.reader().fingerprints(partition, after, rows_max))
    }

    fn verify(&self) -> Fut<'_, Verified> {
        done(self.reader().verify())
    }

    fn space(&self) -> Fut<'_, Space> {
        done(self.reader().space())
    }

    fn compact(&self) -> Fut<'_, Space> {
        done(self.writer().compact())
    }

    fn find_room(&self) -> Fut<'_, ()> {
        done(self.writer().find_room())
    }
}
