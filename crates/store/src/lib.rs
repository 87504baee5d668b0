//! Where a hub is kept: one trait toward the engine, [`Store`], and the backends behind it.
//!
//! ```text
//!   engine ──Arc<Group>──▶ Store::commit        (the only way state changes)
//!          ◀─states, events, pages── load · history · query · recover
//! ```
//!
//! A backend knows nothing of the engine and nothing of the other backends. It is tested through this
//! trait alone, by the conformance suite (feature `testing`), which any other backend can run too.

mod error;
mod fence;

pub mod blocking;
#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod inline;
pub mod mem;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use taskhub_core::commit::{Change, Commit, Open};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::{Epoch, HubName, InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{Message, OutboxItem, OutboxRef};
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

pub use error::{Error, Extent};

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

/// The right to commit to a partition: every commit carries its epoch, and a newer one refuses it (R190).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The partition.
    pub partition: PartitionKey,
    /// The fence; grows with every claim, on the same node too (A21).
    pub epoch: Epoch,
    /// Whether the last owner gave the partition back with [`Store::release`], or there was none: then no
    /// activity of it can still be running anywhere (A18, A35). A claim clears the mark, a release sets it.
    pub is_clean: bool,
}

/// One atomic unit of commits, in order, shared with the writer's thread and never copied (A41).
#[derive(Debug, Default)]
pub struct Group {
    /// Runs of commits. A partition may have several, in causal order (A33).
    pub sections: Vec<Section>,
}

/// Largest commit that may be made in a share of the room that is kept, in bytes of payload and names.
const SMALL_COMMIT_BYTES_MAX: usize = 64 << 10;

/// In which room something is made while there is no other (A43).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// It waits until there is some.
    Free,
    /// In a share of the room that is kept, so that enough stays for what makes some.
    Share,
    /// In all of the room that is kept.
    Kept,
}

impl Group {
    /// In which room it may be made while there is no other: in all that is kept if it does nothing but remove
    /// instances; in a share if what it does besides is little, and what an operator gets by with: it terminates, suspends
    /// and resumes instances.
    pub fn room(&self) -> Room {
        if self.sections.is_empty() {
            return Room::Free;
        }
        let mut room = Room::Kept;
        for commit in self.sections.iter().flat_map(|section| &section.commits) {
            room = room.min(room_of(commit));
            if room == Room::Free {
                break;
            }
        }
        room
    }
}

fn room_of(commit: &Commit) -> Room {
    let update = match &commit.change {
        Some(Change::Purge) => return Room::Kept,
        Some(Change::Update(update)) => update,
        Some(Change::Create(_)) | None => return Room::Free,
    };
    let is_control = |message: &Message| {
        matches!(
            message.event.kind,
            EventKind::ExecutionSuspended { .. } | EventKind::ExecutionResumed { .. }
        )
    };
    let is_end = |event: &HistoryEvent| matches!(event.kind, EventKind::ExecutionTerminated { .. });
    let is_terminated = update.events.iter().any(is_end);
    let is_set_aside = !update.inbox_added.is_empty() && update.inbox_added.iter().all(is_control);
    let adds_work = !update.opened.is_empty() || update.continued.is_some();
    let events = update.events.iter().map(HistoryEvent::size);
    let bytes: usize = events.chain(update.inbox_added.iter().map(Message::size)).sum();
    if !adds_work && (is_terminated || is_set_aside) && bytes <= SMALL_COMMIT_BYTES_MAX {
        Room::Share
    } else {
        Room::Free
    }
}

/// Consecutive commits of one partition.
#[derive(Clone, Debug)]
pub struct Section {
    /// The partition.
    pub partition: PartitionKey,
    /// The fence they were made under.
    pub epoch: Epoch,
    /// Number of the first; the others follow without a gap.
    pub first_seq: Seq,
    /// The commits.
    pub commits: Vec<Commit>,
}

/// What is asked about hubs.
#[derive(Clone, Debug)]
pub enum HubAsk {
    /// All of them.
    List,
    /// A new one.
    Create {
        /// Its name.
        name: HubName,
        /// Number of partitions, fixed from then on (A15).
        partitions: u16,
        /// When.
        now: Timestamp,
    },
    /// One of them and everything in it; fences all owners.
    Delete {
        /// Its name.
        name: HubName,
    },
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

/// What the owner of a partition needs before its first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Where counting goes on. Exactly one per partition, the first item.
    Counters {
        /// Number of the next commit.
        next_seq: Seq,
        /// Number of the next instance.
        next_instance: InstanceNumber,
    },
    /// An activity that still has to run, or runs.
    Task {
        /// Its instance.
        instance: InstanceId,
        /// Key of the instance.
        number: InstanceNumber,
        /// The call; always of the kind `Task`.
        open: Open,
    },
    /// A timer that is not fired.
    Timer {
        /// Its instance.
        instance: InstanceId,
        /// Key of the instance.
        number: InstanceNumber,
        /// The timer; always of the kind `Timer`.
        open: Open,
    },
    /// A message its receiver has not taken in yet.
    Outbox {
        /// Its place.
        at: OutboxRef,
        /// The message.
        item: OutboxItem,
    },
    /// An instance with unread messages. What they say is read with the instance, and only when it is needed.
    Inbox {
        /// The instance.
        instance: InstanceId,
        /// Name of its orchestrator: nothing is read of one that nobody here runs (A51).
        name: Name,
        /// Bytes of what is unread and open of it, as they are stored: about what reading it takes.
        bytes: u64,
    },
    /// A row that cannot be read. It stays where it is; the instance it belongs to must not be run without
    /// what it says, and everything else can (R187).
    Damaged {
        /// Its instance, if that much is known.
        instance: Option<InstanceId>,
        /// Where it is, for whoever repairs it.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Recovered {
    /// The same without the size of an inbox, which each backend counts in its own way: for comparisons.
    #[must_use]
    pub fn without_size(mut self) -> Self {
        if let Self::Inbox { bytes, .. } = &mut self {
            *bytes = 0;
        }
        self
    }
}

/// Part of a history: encoded once, when its commit was made, and handed on as these bytes (A3, A39).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryChunk {
    /// Position of its first event in the history, from 0.
    pub first: u32,
    /// How many events it holds.
    pub events: u32,
    /// The events as protocol messages, see `taskhub_proto::chunk`.
    pub body: Bytes,
}

impl HistoryChunk {
    /// Decodes the events.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the bytes are no events.
    pub fn decode(&self) -> Result<Vec<HistoryEvent>, Error> {
        taskhub_proto::decode_chunk(&self.body).map_err(|source| Error::Corrupt {
            place: format!("history chunk at event {}", self.first),
            what: source.to_string(),
            extent: Extent::Rows,
        })
    }
}

/// How much of a history is read at once. Chunks are not divided, and one is read at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Events with which it is enough.
    pub events: u32,
    /// Bytes of chunks with which it is enough.
    pub bytes: usize,
}

impl HistoryBounds {
    /// All of it.
    pub const NONE: Self = Self {
        events: u32::MAX,
        bytes: usize::MAX,
    };

    fn cut(self, chunks: &mut Vec<HistoryChunk>) {
        let mut read = HistoryRead::default();
        let enough = chunks.iter().position(|chunk| {
            read.add(chunk);
            read.is_reached(self)
        });
        chunks.truncate(enough.map_or(chunks.len(), |last| last + 1));
    }
}

/// How much of a history was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistoryRead {
    events: u64,
    bytes: usize,
}

impl HistoryRead {
    pub(crate) fn add(&mut self, chunk: &HistoryChunk) {
        self.events += u64::from(chunk.events);
        self.bytes += chunk.body.len();
    }

    /// Whether that is enough.
    pub(crate) fn is_reached(self, bounds: HistoryBounds) -> bool {
        self.events >= u64::from(bounds.events) || self.bytes >= bounds.bytes
    }
}

/// Decodes the events of consecutive chunks, as [`Store::history`] gives them.
///
/// # Errors
///
/// [`Error::Corrupt`] if the bytes of one are no events.
pub fn decode_history(chunks: &[HistoryChunk]) -> Result<Vec<HistoryEvent>, Error> {
    let mut events = Vec::new();
    for chunk in chunks {
        events.extend(chunk.decode()?);
    }
    Ok(events)
}

/// One execution of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionKey {
    /// The partition of the instance.
    pub partition: PartitionKey,
    /// Key of the instance.
    pub number: InstanceNumber,
    /// Ordinal of the execution.
    pub ordinal: u32,
}

/// A question over many instances.
#[derive(Clone, Debug)]
pub enum Query {
    /// A page of status records, ordered by created time, then id (R13).
    Page {
        /// The hub.
        hub: HubName,
        /// Which instances.
        filter: Filter,
        /// Begin behind this row.
        after: Option<Cursor>,
        /// At most so many rows; a page also ends at [`taskhub_core::limits::PAGE_BYTES_MAX`].
        rows_max: usize,
        /// What the rows come with.
        payloads: Payloads,
    },
    /// The ids of such a page, without reading the status records.
    Ids {
        /// The hub.
        hub: HubName,
        /// Which instances.
        filter: Filter,
        /// Begin behind this row.
        after: Option<Cursor>,
        /// At most so many.
        rows_max: usize,
    },
    /// How many instances there are in each status.
    Counts {
        /// The hub.
        hub: HubName,
    },
    /// Fingerprints of the ids in a partition, by ascending instance number (A40).
    Fingerprints {
        /// The partition.
        partition: PartitionKey,
        /// Begin behind this instance.
        after: Option<InstanceNumber>,
        /// At most so many.
        rows_max: usize,
    },
}

/// The answer to a [`Query`], variant by variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Page`.
    Page {
        /// The rows and where the next page begins.
        page: Page,
        /// Rows that had to be read to find them.
        rows_read: u64,
    },
    /// To `Ids`.
    Ids {
        /// The ids, in the order of the listing.
        ids: Vec<InstanceId>,
        /// Where the next page begins; absent on the last one.
        next: Option<Cursor>,
        /// Rows that had to be read to find them.
        rows_read: u64,
    },
    /// To `Counts`: only statuses that occur.
    Counts(Vec<(RuntimeStatus, u64)>),
    /// To `Fingerprints`; `next` is absent when these were the last.
    Fingerprints {
        /// The fingerprints.
        fingerprints: Vec<u64>,
        /// Where to go on.
        next: Option<InstanceNumber>,
    },
}

impl Answer {
    /// The page.
    ///
    /// # Panics
    ///
    /// If it does not answer [`Query::Page`], which would be a bug of the backend.
    pub fn into_page(self) -> Page {
        match self {
            Self::Page { page, .. } => page,
            Self::Ids { .. } | Self::Counts(_) | Self::Fingerprints { .. } => {
                unreachable!("a page is answered with a page")
            }
        }
    }

    /// The ids, and where the next ones begin.
    ///
    /// # Panics
    ///
    /// If it does not answer [`Query::Ids`], which would be a bug of the backend.
    pub fn into_ids(self) -> (Vec<InstanceId>, Option<Cursor>) {
        match self {
            Self::Ids { ids, next, .. } => (ids, next),
            Self::Page { .. } | Self::Counts(_) | Self::Fingerprints { .. } => {
                unreachable!("ids are answered with ids")
            }
        }
    }

    /// The counts.
    ///
    /// # Panics
    ///
    /// If it does not answer [`Query::Counts`], which would be a bug of the backend.
    pub fn into_counts(self) -> Vec<(RuntimeStatus, u64)> {
        match self {
            Self::Counts(counts) => counts,
            Self::Page { .. } | Self::Ids { .. } | Self::Fingerprints { .. } => {
                unreachable!("counts are answered with counts")
            }
        }
    }
}

/// How up to date an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Shows every commit that returned before the call.
    Committed,
    /// May be a little behind, where that is cheaper.
    Eventual,
}

/// Upkeep, in bounded steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Compares everything that is stored twice, and checks what carries checksums (I8, I12).
    Verify,
    /// Gives space back.
    Compact,
    /// Finds out whether there is room for new work: [`Error::Full`] if there is none (A43).
    FindRoom,
}

/// What a [`Job`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Contradictions, each as a line for people. Empty is good.
    pub problems: Vec<String>,
    /// Size of the store in bytes, if the backend knows it.
    pub bytes: Option<u64>,
}

/// What a backend can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Name for logs and tables.
    pub name: &'static str,
    /// Whether what it acknowledges survives power loss.
    pub is_durable: bool,
    /// Whether a group that fails leaves nothing behind, rather than a prefix.
    pub is_group_atomic: bool,
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
    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// What it did so far.
    fn work(&self) -> Work;

    /// Lists, creates, deletes hubs. Answers the hubs concerned.
    fn hubs<'a>(&'a self, ask: &'a HubAsk) -> Fut<'a, Vec<HubInfo>>;

    /// Takes partitions, also one's own anew. Every claim raises the epoch (A21).
    fn claim<'a>(&'a self, partitions: &'a [PartitionKey], now: Timestamp) -> Fut<'a, Vec<Lease>>;

    /// Gives partitions back after a clean stop (A18); nothing can be committed under these leases any more.
    /// A lease that another owner has taken is left alone.
    fn release<'a>(&'a self, leases: &'a [Lease]) -> Fut<'a, ()>;

    /// What an owner needs before its first step, read once after each claim. A damaged row is an item, no error.
    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>>;

    /// The only way state changes. Whoever calls it does so from a thread of its own, one group after the
    /// other: the future may block the thread that polls it until the disk has answered. `Ok`: all of it is durable. `Err`: nothing is (or, without
    /// `is_group_atomic`, a prefix in order). A section with an old epoch fails the group as `Fenced`.
    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()>;

    /// States of instances of one partition, in the order asked for.
    fn load<'a>(
        &'a self,
        partition: &'a PartitionKey,
        instances: &'a [InstanceId],
    ) -> Fut<'a, Vec<Option<InstanceState>>>;

    /// Chunks of a history from an event on, in order, without a gap; the first begins exactly there. What does
    /// not exist has none.
    fn history<'a>(&'a self, of: &'a ExecutionKey, from: u32) -> Fut<'a, Vec<HistoryChunk>>;

    /// The same, but no chunk behind the one with which a bound is reached.
    fn history_part<'a>(
        &'a self,
        of: &'a ExecutionKey,
        from: u32,
        bounds: HistoryBounds,
    ) -> Fut<'a, Vec<HistoryChunk>> {
        Box::pin(async move {
            let mut chunks = self.history(of, from).await?;
            bounds.cut(&mut chunks);
            Ok(chunks)
        })
    }

    /// Answers a question over many instances.
    fn query<'a>(&'a self, query: &'a Query, freshness: Freshness) -> Fut<'a, Answer>;

    /// Does a piece of upkeep.
    fn maintain(&self, job: Job) -> Fut<'_, JobReport>;
}
