//! A store without threads: each call is done when it returns, so its futures are always ready.
//!
//! It makes a [`Store`] of the two blocking halves of any backend: the whole of `mem`, and what the
//! simulator uses to run a real backend under its own schedule. It must not be used on an async
//! runtime's threads with a backend that waits for a disk.

use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhub_core::id::InstanceId;
use taskhub_core::instance::InstanceState;
use taskhub_core::time::Timestamp;

use crate::blocking::{Reader, Writer};
use crate::{
    Answer, Capabilities, Error, ExecutionKey, Freshness, Fut, Group, HistoryChunk, HubAsk, HubInfo, Job, JobReport,
    Lease, PartitionKey, Query, Recovered, Store, Work,
};

/// A writer and a reader behind locks of their own.
pub struct Inline<W, R> {
    capabilities: Capabilities,
    writer: Mutex<W>,
    reader: Mutex<R>,
}

impl<W: Writer, R: Reader> Inline<W, R> {
    /// Puts the halves of one store together.
    pub fn new(capabilities: Capabilities, writer: W, reader: R) -> Self {
        Self {
            capabilities,
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
        out.debug_struct("Inline")
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

fn done<'a, T: Send + 'a>(result: Result<T, Error>) -> Fut<'a, T> {
    Box::pin(ready(result))
}

impl<W: Writer + 'static, R: Reader + 'static> Store for Inline<W, R> {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn work(&self) -> Work {
        self.writer().work()
    }

    fn hubs<'a>(&'a self, ask: &'a HubAsk) -> Fut<'a, Vec<HubInfo>> {
        done(self.writer().hubs(ask))
    }

    fn claim<'a>(&'a self, partitions: &'a [PartitionKey], now: Timestamp) -> Fut<'a, Vec<Lease>> {
        done(self.writer().claim(partitions, now))
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

    fn history<'a>(&'a self, of: &'a ExecutionKey, from: u32) -> Fut<'a, Vec<HistoryChunk>> {
        done(self.reader().history(of, from))
    }

    fn query<'a>(&'a self, query: &'a Query, _freshness: Freshness) -> Fut<'a, Answer> {
        done(self.reader().query(query))
    }

    fn maintain(&self, job: Job) -> Fut<'_, JobReport> {
        done(self.writer().maintain(job))
    }
}
