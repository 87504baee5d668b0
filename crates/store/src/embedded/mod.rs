//! The embedded store: SQLite in a folder, one owner, one file that people can look into.
//!
//! ```text
//!   commit ──▶ [caller's thread]  fold ─▶ rows ─▶ COMMIT (one sync for the group)
//!   hubs, claim, release ──▶ [writer's thread]
//!   load, history, recover ──▶ [reading threads]  each call a snapshot of its own
//!   query, verify ──▶ [reading threads of their own]  for what may take long
//! ```
//!
//! A group is folded before anything is written: of an instance only its last state, of a message that
//! came and went nothing. Nothing here knows what a commit means beyond that; whether two states agree
//! is core's matter, and whether two backends agree the conformance suite's.

mod anew;
mod beside;
mod fold;
mod folder;
mod frames;
mod hubs;
mod instance_rows;
mod listing;
mod log;
mod migrate;
mod own;
mod reader;
mod rebuild;
mod recent;
mod record;
mod recovery;
pub mod repair;
mod reserve;
#[cfg(feature = "testing")]
mod resum;
mod rows;
mod sums;
mod threads;
mod trouble;
mod verify;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;

use taskhub_core::id::InstanceId;
use taskhub_core::instance::InstanceState;
use taskhub_core::time::Timestamp;

use crate::blocking::{Reader, Writer};
use crate::{
    Answer, Capabilities, Error, ExecutionKey, Freshness, Fut, Group, HistoryBounds, HistoryChunk, HubAsk, HubInfo,
    Job, JobReport, Lease, PartitionKey, Query, Recovered, Store, Work,
};

#[cfg(feature = "testing")]
pub use anew::stop_migration_after;
pub use reader::SqliteReader;
#[cfg(feature = "testing")]
pub use reserve::refuse_reserves;
#[cfg(feature = "testing")]
pub use resum::resum;
#[cfg(feature = "testing")]
pub use taskhub_pages::testing::{fail_syncs, pages_read};
pub use verify::Progress;
pub use watch::Watch;
pub use writer::SqliteWriter;

use threads::Threads;

/// Connections for loads, histories and recoveries.
const READERS: usize = 2;
/// Connections for listings and the check, which may take long and must not hold up a load.
const SCANNERS: usize = 2;

/// How a store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is waited for before a commit counts as durable.
    pub synchronous: Synchronous,
    /// Largest size of the file; what does not fit is refused as `Full`, but for purges, for which some is kept.
    pub bytes_max: Option<u64>,
}

/// What is waited for before a commit counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A completed sync of the file: what is acknowledged survives a power cut (P1).
    #[default]
    Full,
    /// Nothing. For the simulator, whose crashes are its own, and for tests: a power cut may leave the
    /// file unreadable.
    Off,
}

/// What the embedded store can do.
pub fn capabilities(options: Options) -> Capabilities {
    let is_durable = options.synchronous == Synchronous::Full;
    Capabilities {
        name: "embedded",
        is_durable,
        is_group_atomic: true,
    }
}

/// A store in a folder.
///
/// Groups are written on the thread that polls [`Store::commit`], which the disk blocks. Other calls are
/// handed to the store's threads in the order they are made, when they are made: a future that is dropped
/// does not take its call back. Dropping the store waits for calls under way.
#[derive(Debug)]
pub struct EmbeddedStore {
    capabilities: Capabilities,
    watch: Watch,
    threads: Threads,
}

impl EmbeddedStore {
    /// A look at whether its files are still there, for as long as it is open. It is taken before each acknowledgement as
    /// well; whoever has nothing to write hears of it here.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether a folder holds a store, or something in the place of one that only opening it can tell from one.
    pub fn is_in(folder: &Path) -> bool {
        folder::holds_file(folder)
    }

    /// Opens a store, which is made if the folder holds none.
    ///
    /// # Errors
    ///
    /// `Locked` if the folder is in use, `Format` if a newer version wrote the file, `Corrupt` if it is
    /// damaged or not a store at all, `Unavailable` if the folder cannot be used.
    pub fn open(folder: &Path, options: Options) -> Result<Self, Error> {
        let writer = SqliteWriter::open(folder, options)?;
        let open = |count| (0..count).map(|_| SqliteReader::open(folder)).collect::<Result<_, _>>();
        Ok(Self {
            capabilities: capabilities(options),
            watch: writer.watch().clone(),
            threads: Threads::start(writer, open(READERS)?, open(SCANNERS)?)?,
        })
    }
}

impl Store for EmbeddedStore {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    /// A sync is counted for each sealed group and each other change, and two for each time the log is
    /// written back to the file; none with [`Synchronous::Off`], where SQLite asks for none.
    fn work(&self) -> Work {
        self.threads.work()
    }

    fn hubs<'a>(&'a self, ask: &'a HubAsk) -> Fut<'a, Vec<HubInfo>> {
        let ask = ask.clone();
        self.threads.write(move |writer| writer.hubs(&ask))
    }

    fn claim<'a>(&'a self, partitions: &'a [PartitionKey], now: Timestamp) -> Fut<'a, Vec<Lease>> {
        let partitions = partitions.to_vec();
        self.threads.write(move |writer| writer.claim(&partitions, now))
    }

    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()> {
        let leases = leases.to_vec();
        self.threads.write(move |writer| writer.release(&leases))
    }

    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>> {
        let lease = lease.clone();
        self.threads.read(move |reader| reader.recover(&lease))
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        self.threads.write_here(move |writer| writer.commit(&group))
    }

    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>> {
        let (partition, instances) = (partition.clone(), instances.to_vec());
        self.threads.read(move |reader| reader.load(&partition, &instances))
    }

    fn history<'a>(&'a self, of: &'a ExecutionKey, from: u32) -> Fut<'a, Vec<HistoryChunk>> {
        let of = of.clone();
        self.threads.read(move |reader| reader.history(&of, from))
    }

    fn history_part<'a>(
        &'a self,
        of: &'a ExecutionKey,
        from: u32,
        bounds: HistoryBounds,
    ) -> Fut<'a, Vec<HistoryChunk>> {
        let of = of.clone();
        self.threads.read(move |reader| reader.history_part(&of, from, bounds))
    }

    fn query<'a>(&'a self, query: &'a Query, _freshness: Freshness) -> Fut<'a, Answer> {
        let query = query.clone();
        self.threads.scan(move |reader| reader.query(&query))
    }

    fn maintain(&self, job: Job) -> Fut<'_, JobReport> {
        match job {
            // It takes long and changes nothing, so it must not stand in the writer's way.
            Job::Verify => self.threads.scan(SqliteReader::verify),
            Job::Compact | Job::FindRoom => self.threads.write(move |writer| writer.maintain(job)),
        }
    }
}
