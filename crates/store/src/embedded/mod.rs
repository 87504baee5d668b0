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
mod columns;
mod disk_space;
mod figures;
mod folder;
mod frames;
mod hubs;
mod instance_rows;
mod layout;
mod listing;
mod log;
mod migrate;
mod own;
mod reader;
mod rebuild;
mod recovery;
pub mod repair;
mod reserve;
#[cfg(feature = "testing")]
mod resum;
mod rows;
mod store_file;
mod threads;
mod trouble;
mod verify;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
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

#[cfg(feature = "testing")]
pub use anew::stop_migration_after;
pub use figures::{Figures, HubFigures, figures};
pub use reader::SqliteReader;
#[cfg(feature = "testing")]
pub use reserve::refuse_reserves;
#[cfg(feature = "testing")]
pub use resum::resum;
#[cfg(feature = "testing")]
pub use taskhub_pages::testing::{Access, Lie, fail_access, fail_syncs, lie_about_write, pages_read};
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
pub struct EmbeddedOptions {
    /// What the store waits for before it acknowledges a commit.
    pub synchronous: Synchronous,
    /// Largest size of the file; what does not fit is refused as `Full`, but for purges, for which some is kept.
    pub bytes_max: Option<u64>,
    /// The store returns free bytes to the disk when they exceed this number and a fifth of the file; 8 MiB by default.
    /// It does so between groups, after instances were removed.
    pub free_bytes_max: Option<u64>,
}

/// What the store waits for before it acknowledges a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A completed sync of the file: acknowledged data survives a power failure (P1).
    #[default]
    Full,
    /// Nothing. For the simulator, whose crashes are its own, and for tests: a power cut may leave the
    /// file unreadable.
    Off,
}

/// A store in a folder.
///
/// After instances were removed the writer's own thread gives free pages back to the disk, some at a time, whenever it has no
/// call to run: so a store becomes smaller by itself, also if nothing is written any more.
///
/// Groups are written on the thread that polls [`Store::commit`], which the disk blocks. Other calls are
/// handed to the store's threads in the order they are made, when they are made: a future that is dropped
/// does not take its call back. Dropping the store waits for calls under way.
#[derive(Debug)]
pub struct EmbeddedStore {
    watch: Watch,
    threads: Threads,
}

impl EmbeddedStore {
    /// Checks whether the files of the open store still exist. The store also checks before each acknowledgement; this
    /// method is for callers that have nothing to write.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether a folder holds a store, or something in the place of one that only opening it can tell from one.
    pub fn is_in(folder: &Path) -> bool {
        layout::holds_file(folder)
    }

    /// Opens a store, which is made if the folder holds none.
    ///
    /// # Errors
    ///
    /// `Locked` if the folder is in use, `Format` if a newer version wrote the file, `Corrupt` if it is
    /// damaged or not a store at all, `Unavailable` if the folder cannot be used.
    pub fn open(folder: &Path, options: EmbeddedOptions) -> Result<Self, Error> {
        let writer = SqliteWriter::open(folder, options)?;
        let open = |count| (0..count).map(|_| SqliteReader::open(folder)).collect::<Result<_, _>>();
        Ok(Self {
            watch: writer.watch().clone(),
            threads: Threads::start(writer, open(READERS)?, open(SCANNERS)?)?,
        })
    }
}

impl Store for EmbeddedStore {
    /// A sync is counted for each sealed group and each other change, and two for each time a long log is
    /// written back to the file; none with [`Synchronous::Off`], where SQLite asks for none.
    fn work(&self) -> Work {
        self.threads.work()
    }

    fn list_hubs(&self) -> Fut<'_, Vec<HubInfo>> {
        self.threads.write(Writer::list_hubs)
    }

    fn create_hub<'a>(&'a self, name: &'a HubName, partitions: u16, now: Timestamp) -> Fut<'a, HubInfo> {
        let name = name.clone();
        self.threads
            .write(move |writer| writer.create_hub(&name, partitions, now))
    }

    fn delete_hub<'a>(&'a self, name: &'a HubName) -> Fut<'a, HubInfo> {
        let name = name.clone();
        self.threads.write(move |writer| writer.delete_hub(&name))
    }

    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat> {
        self.threads.write(move |writer| writer.beat(node, lasts, now))
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed> {
        let claim = claim.clone();
        self.threads.write(move |writer| writer.claim(&claim))
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

    fn history<'a>(&'a self, of: &'a ExecutionKey, range: HistoryRange) -> Fut<'a, Vec<HistoryChunk>> {
        let of = of.clone();
        self.threads.read(move |reader| reader.history(&of, range))
    }

    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage> {
        let which = which.clone();
        self.threads.scan(move |reader| reader.list(&which, payloads))
    }

    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage> {
        let which = which.clone();
        self.threads.scan(move |reader| reader.list_ids(&which))
    }

    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>> {
        let hub = hub.clone();
        self.threads.scan(move |reader| reader.counts(&hub))
    }

    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage> {
        let partition = partition.clone();
        self.threads
            .scan(move |reader| reader.fingerprints(&partition, after, rows_max))
    }

    fn verify(&self) -> Fut<'_, Verified> {
        // It takes long and changes nothing, so it must not stand in the writer's way.
        self.threads.scan(Reader::verify)
    }

    fn space(&self) -> Fut<'_, Space> {
        self.threads.read(Reader::space)
    }

    fn compact(&self) -> Fut<'_, Space> {
        self.threads.write(Writer::compact)
    }

    fn find_room(&self) -> Fut<'_, ()> {
        self.threads.write(Writer::find_room)
    }
}
