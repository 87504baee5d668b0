//! The ways to the threads that serve partitions: what is sent to them, and what can be seen of them from outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhub_core::commit::Commit;
use taskhub_core::id::{Epoch, InstanceId, Seq};
use taskhub_store::{Lease, PartitionKey};
use tokio::sync::oneshot;

use crate::io::{Input, Output};
use crate::open_group::{Batch, OpenGroup, Release, displace};
use crate::partition::{Counts, Partition};
use crate::queue::Queue;
use crate::reply::To;
use crate::shared::Shared;

/// An input of a partition thread.
#[derive(Debug)]
pub(crate) enum ThreadInput {
    /// Something for a hub, by its number.
    Hub(u32, HubInput),
    /// A hub is closed: drop its partitions, then confirm.
    Leave(u32, oneshot::Sender<()>),
    /// Less is ahead of the disk, for which some wait.
    Room,
}

/// The way to one partition thread.
#[derive(Clone, Debug)]
pub(crate) struct ThreadLink {
    pub(crate) inputs: Arc<Queue<ThreadInput>>,
    pub(crate) pulse: Arc<Pulse>,
}

impl ThreadLink {
    pub(crate) fn new() -> Self {
        Self {
            inputs: Arc::new(Queue::new()),
            pulse: Arc::new(Pulse::default()),
        }
    }
}

/// A partition to be served from now on.
pub(crate) struct Adopted {
    pub(crate) hub: Arc<Shared>,
    pub(crate) partition: Partition<To>,
    /// As all others it does nothing that adds work, for want of room.
    pub(crate) has_no_room: bool,
}

impl std::fmt::Debug for Adopted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Adopted").field(self.partition.key()).finish()
    }
}

/// An input of a hub on one of the threads.
#[derive(Debug)]
pub(crate) enum HubInput {
    /// Something for one of its partitions.
    Partition(u16, Input<To>),
    /// Serve this partition.
    Adopt(Box<Adopted>),
    /// These are its first outputs; told once every partition of the hub is served.
    Begin(u16, Vec<Output<To>>),
    /// Drop all partitions, then confirm.
    Drop(oneshot::Sender<()>),
    /// Drop this partition, then confirm. Messages to it are kept until it is served again.
    DropOne(u16, oneshot::Sender<()>),
    /// End this round, then give the partitions back.
    Drain(oneshot::Sender<Vec<Lease>>),
    /// Say how the partitions are doing.
    Report(oneshot::Sender<Report>),
}

/// How the partitions of a thread are doing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// What happened in them.
    pub counts: Counts,
    /// Instances in memory.
    pub instances: usize,
    /// Bytes they take, roughly.
    pub instance_bytes: usize,
    /// Bytes that workers keep live, roughly.
    pub live_bytes: usize,
}

impl Report {
    /// Adds another thread's or partition's figures.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.turns += other.counts.turns;
        self.counts.dropped += other.counts.dropped;
        self.counts.replays += other.counts.replays;
        self.counts.failed_turns += other.counts.failed_turns;
        self.instances += other.instances;
        self.instance_bytes += other.instance_bytes;
        self.live_bytes += other.live_bytes;
    }
}

/// Lets a watchdog see that a thread is stuck in a turn, at the cost of two counters per turn (A33).
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Odd while a turn runs.
    turns: AtomicU64,
    /// The hub and the instance of the turn.
    current: Mutex<Option<(u32, InstanceId)>>,
    is_given_up: AtomicBool,
    /// What the thread will hand over of each hub when its round ends. Here, so that the commits made before a turn
    /// that blocks are not lost with it.
    batches: Mutex<BTreeMap<u32, Batch>>,
}

/// A commit, and where it was made.
pub(crate) struct Made<'p> {
    pub(crate) partition: &'p PartitionKey,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) commit: Commit,
}

impl Pulse {
    pub(crate) fn begin(&self, hub: u32, instance: &InstanceId) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((hub, instance.clone()));
        self.turns.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// No turn runs any more, however the last one ended.
    pub(crate) fn end_all(&self) {
        self.turns
            .fetch_add(self.turns.load(Ordering::Acquire) % 2, Ordering::Release);
    }

    /// The turn that runs now, by a number that no other turn of the thread has, with its hub and instance.
    pub(crate) fn running(&self) -> Option<(u64, u32, InstanceId)> {
        let number = self.turns.load(Ordering::Acquire);
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (hub, instance) = current.filter(|_| number % 2 == 1)?;
        Some((number, hub, instance))
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<u32, Batch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a commit to what is handed over, which is done at once when that is enough for a group.
    pub(crate) fn push(&self, hub: &Shared, made: Made<'_>) {
        let is_enough = {
            let mut batches = self.batches();
            let batch = batches.entry(hub.number).or_insert_with(|| Batch::new(hub.number));
            batch.push(made.partition, made.epoch, made.seq, made.commit);
            batch.bytes() >= hub.node.group.limits().group_max
        };
        if is_enough {
            self.hand_over(hub);
        }
    }

    /// Makes an effect wait for the next batch of the hub.
    pub(crate) fn hold(&self, hub: u32, release: Release) {
        let mut batches = self.batches();
        let batch = batches.entry(hub).or_insert_with(|| Batch::new(hub));
        batch.hold(release);
    }

    /// Throws away what is not handed over of a hub, and tells those who wait for it that nothing came of it.
    pub(crate) fn forget(&self, hub: u32) {
        let forgotten = self.batches().remove(&hub);
        if let Some(batch) = forgotten {
            displace(batch.turn_away());
        }
    }

    /// Hands over what the thread has so far of a hub; nothing, once it is given up.
    pub(crate) fn hand_over(&self, hub: &Shared) {
        // The lock is held over the hand-over, so that a thread that was just given up cannot slip one in.
        let mut batches = self.batches();
        if let Some(batch) = batches.get_mut(&hub.number)
            && !self.is_given_up()
            && !batch.is_empty()
        {
            hub.node.group.hand_over(batch.take());
        }
    }

    /// Hands over what the thread made before the turn it is stuck in, and accepts nothing more from it.
    pub(crate) fn give_up(&self, group: &OpenGroup) {
        let mut batches = self.batches();
        for batch in std::mem::take(&mut *batches).into_values() {
            if !batch.is_empty() {
                group.hand_over(batch);
            }
        }
        self.is_given_up.store(true, Ordering::Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }
}
