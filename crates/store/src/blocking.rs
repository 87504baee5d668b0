//! The synchronous half of a backend: what one thread drives in production and the simulator drives by
//! hand, so that a crash can be put before, inside and after a group (A41).

use taskhub_core::id::InstanceId;
use taskhub_core::instance::InstanceState;
use taskhub_core::time::Timestamp;

use crate::{
    Answer, Error, ExecutionKey, Group, HistoryBounds, HistoryChunk, HubAsk, HubInfo, Job, JobReport, Lease,
    PartitionKey, Query, Recovered, Work,
};

/// Reads. Each call sees every group that was sealed before it began.
pub trait Reader: Send {
    /// See [`crate::Store::recover`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, Error>;

    /// See [`crate::Store::load`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn load(&mut self, partition: &PartitionKey, instances: &[InstanceId])
    -> Result<Vec<Option<InstanceState>>, Error>;

    /// See [`crate::Store::history`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn history(&mut self, of: &ExecutionKey, from: u32) -> Result<Vec<HistoryChunk>, Error>;

    /// See [`crate::Store::history_part`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn history_part(
        &mut self,
        of: &ExecutionKey,
        from: u32,
        bounds: HistoryBounds,
    ) -> Result<Vec<HistoryChunk>, Error> {
        let mut chunks = self.history(of, from)?;
        bounds.cut(&mut chunks);
        Ok(chunks)
    }

    /// See [`crate::Store::query`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn query(&mut self, query: &Query) -> Result<Answer, Error>;
}

/// Writes. There is one writer per store.
pub trait Writer: Send {
    /// See [`crate::Store::hubs`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn hubs(&mut self, ask: &HubAsk) -> Result<Vec<HubInfo>, Error>;

    /// See [`crate::Store::claim`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn claim(&mut self, partitions: &[PartitionKey], now: Timestamp) -> Result<Vec<Lease>, Error>;

    /// See [`crate::Store::release`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn release(&mut self, leases: &[Lease]) -> Result<(), Error>;

    /// Prepares a group: checks its fences and writes it where a crash still takes it back as a whole.
    ///
    /// # Errors
    ///
    /// As [`crate::Store::commit`]; nothing of the group is left.
    fn stage(&mut self, group: &Group) -> Result<(), Error>;

    /// Makes the staged group durable; when this returns, every reader sees it.
    ///
    /// # Errors
    ///
    /// As [`crate::Store::commit`].
    fn seal(&mut self) -> Result<(), Error>;

    /// See [`crate::Store::maintain`].
    ///
    /// # Errors
    ///
    /// As the store's.
    fn maintain(&mut self, job: Job) -> Result<JobReport, Error>;

    /// Work done so far.
    fn work(&self) -> Work;
}
