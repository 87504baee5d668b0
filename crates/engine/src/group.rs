//! Group commit: what the partition threads hand over gathers while the store writes the group before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhub_core::commit::Commit;
use taskhub_core::id::{Epoch, Seq};
use taskhub_store::{Group, PartitionKey, Section};
use tokio::sync::Notify;

use crate::dispatcher::Event;
use crate::error::Error;
use crate::hub::To;
use crate::io::Reply;

/// Most commits in one group, so that filling the next overlaps with writing this one (A34).
pub(crate) const GROUP_COMMITS_MAX: usize = 2048;

/// Bytes that a group takes beyond its first batch, and at which a batch is handed over, unless said otherwise: about
/// what a disk takes in the time of some syncs. A single commit may be larger.
pub(crate) const GROUP_BYTES_MAX: usize = 8 << 20;
/// Bytes of commits ahead of the disk above which nothing is begun, unless said otherwise.
pub(crate) const AHEAD_BYTES_MAX: usize = 64 << 20;

/// What one round of a partition thread hands over of a hub: commits in causal order, and what waits for them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of the hub.
    pub(crate) hub: u32,
    pub(crate) sections: Vec<Section>,
    pub(crate) releases: Vec<Release>,
    commits: usize,
    bytes: usize,
    /// Number of the batch, once it is handed over.
    number: u64,
}

/// An effect that is released when everything handed over before it is durable (A36).
#[derive(Debug)]
pub(crate) enum Release {
    /// The answer to a caller, and the commit that it waits for.
    Reply(To, Reply, At),
    Task(Event),
}

/// A commit, by its partition and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Number of the hub.
    pub(crate) hub: u32,
    pub(crate) partition: u16,
    pub(crate) seq: Seq,
}

impl Batch {
    /// Nothing yet of a hub.
    pub(crate) fn new(hub: u32) -> Self {
        Self {
            hub,
            sections: Vec::new(),
            releases: Vec::new(),
            commits: 0,
            bytes: 0,
            number: 0,
        }
    }

    fn ticket(&self) -> Ticket {
        (self.hub, self.number)
    }

    /// What there is, and nothing stays.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Self::new(self.hub);
        std::mem::replace(self, nothing)
    }

    /// Adds a commit behind those of its partition.
    pub(crate) fn push(&mut self, partition: &PartitionKey, epoch: Epoch, seq: Seq, commit: Commit) {
        self.commits += 1;
        self.bytes += commit.size();
        if let Some(last) = self.sections.last_mut()
            && last.partition == *partition
        {
            last.commits.push(commit);
            return;
        }
        self.sections.push(Section {
            partition: partition.clone(),
            epoch,
            first_seq: seq,
            commits: vec![commit],
        });
    }

    /// Bytes of its commits, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sections.is_empty() && self.releases.is_empty()
    }

    /// Tells those who wait for its commits that nothing came of them, because no store has seen them.
    pub(crate) fn turn_away(self) {
        let has = |at: &At| {
            self.sections.iter().any(|section| {
                let numbers = section.first_seq.0..section.first_seq.0 + section.commits.len() as u64;
                section.partition.index == at.partition && numbers.contains(&at.seq.0)
            })
        };
        for release in self.releases {
            if let Release::Reply(to, _, at) = release
                && has(&at)
            {
                to.refuse(Error::Displaced);
            }
        }
    }
}

/// The group that is being filled.
#[derive(Debug)]
pub(crate) struct OpenGroup {
    batches: Mutex<Batches>,
    filled: Notify,
    emptied: Notify,
    limits: Limits,
    /// Bytes that are handed over and not durable.
    ahead: AtomicUsize,
    /// Whether a thread waits for fewer of them.
    is_waited_for: AtomicBool,
}

/// How much goes together, and how much runs ahead of the disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A group takes so much more than its first batch; a batch is handed over once it is as large as that.
    pub(crate) group_max: usize,
    /// Above so much no turn is begun and nothing new is taken in.
    pub(crate) ahead_max: usize,
}

#[derive(Debug, Default)]
struct Batches {
    waiting: VecDeque<Batch>,
    /// Hubs whose memory is not dropped since a group has failed: what was made on top of it must not become durable (R188).
    refused: BTreeSet<u32>,
    /// Hubs that are open.
    open: BTreeSet<u32>,
    /// Batches that are handed over, but neither released nor lost.
    under_way: BTreeSet<Ticket>,
    next_ticket: u64,
    /// Groups that are written, but whose effects are not released yet.
    releasing: usize,
    is_closed: bool,
}

/// A batch that was handed over: its hub, and a number that grows.
pub(crate) type Ticket = (u32, u64);

/// A group taken for writing.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) group: Arc<Group>,
    /// The hub of each section.
    pub(crate) hubs: Vec<u32>,
    /// Bytes of its commits, about.
    pub(crate) bytes: usize,
    /// What waits for it, by batches and their hubs.
    pub(crate) releases: Vec<(u32, Vec<Release>)>,
    /// The batches in it.
    pub(crate) tickets: Vec<Ticket>,
}

impl Taken {
    /// The last commit in it of each partition.
    pub(crate) fn upto(&self) -> Vec<At> {
        let mut upto: BTreeMap<(u32, u16), Seq> = BTreeMap::new();
        for (hub, section) in self.hubs.iter().zip(&self.group.sections) {
            let last = Seq(section.first_seq.0 + section.commits.len() as u64 - 1);
            upto.insert((*hub, section.partition.index), last);
        }
        let at = |((hub, partition), seq)| At { hub, partition, seq };
        upto.into_iter().map(at).collect()
    }
}

impl OpenGroup {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            batches: Mutex::default(),
            filled: Notify::default(),
            emptied: Notify::default(),
            limits,
            ahead: AtomicUsize::new(0),
            is_waited_for: AtomicBool::new(false),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether what is ahead of the disk is as the caller wants it. If not, all threads are woken once it has become
    /// less.
    pub(crate) fn is_ahead(&self, wanted: impl Fn(usize) -> bool) -> bool {
        if wanted(self.ahead.load(Ordering::SeqCst)) {
            return true;
        }
        // It may have become less between the look and the mark.
        self.is_waited_for.store(true, Ordering::SeqCst);
        wanted(self.ahead.load(Ordering::SeqCst))
    }

    /// Whether more may be made ahead of the disk. If not, all threads are woken once there is less.
    pub(crate) fn has_room(&self) -> bool {
        self.is_ahead(|ahead| ahead < self.limits.ahead_max)
    }

    /// Subtracts bytes that are durable or discarded from the bytes ahead of the disk. Returns whether a thread waits
    /// for that.
    pub(crate) fn settle(&self, bytes: usize) -> bool {
        self.ahead.fetch_sub(bytes, Ordering::SeqCst);
        self.is_waited_for.swap(false, Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        // A panic while the lock is held leaves a list of whole batches behind.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a batch over. After a failed group or the end of its hub it is dropped, and its waiters are notified.
    pub(crate) fn hand_over(&self, mut batch: Batch) {
        let mut batches = self.lock();
        if batches.is_closed || !batches.open.contains(&batch.hub) {
            return;
        }
        if batches.refused.contains(&batch.hub) {
            drop(batches);
            batch.turn_away();
            return;
        }
        self.ahead.fetch_add(batch.bytes, Ordering::SeqCst);
        batch.number = batches.next_ticket;
        batches.next_ticket += 1;
        batches.under_way.insert(batch.ticket());
        batches.waiting.push_back(batch);
        drop(batches);
        self.filled.notify_one();
    }

    /// Accepts batches of a hub again, once no memory of it is left that the failed group was part of.
    pub(crate) fn accept(&self, hub: u32) {
        self.lock().refused.remove(&hub);
    }

    /// Accepts batches of a hub from now on.
    pub(crate) fn enter(&self, hub: u32) {
        self.lock().open.insert(hub);
    }

    /// Accepts nothing more of a hub; what it has handed over is still written.
    pub(crate) fn leave(&self, hub: u32) {
        let mut batches = self.lock();
        batches.open.remove(&hub);
        batches.refused.remove(&hub);
    }

    /// Waits for batches and takes those that go into one group; `None` once closed and empty.
    pub(crate) async fn take(&self) -> Option<Taken> {
        loop {
            {
                let mut batches = self.lock();
                if let Some(taken) = take_waiting(&mut batches, self.limits.group_max) {
                    return Some(taken);
                }
                if batches.is_closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Throws away what is not written, and what these hubs still hand over until the memory it comes from is
    /// dropped (A1).
    pub(crate) fn discard(&self, hubs: impl IntoIterator<Item = u32>) -> VecDeque<Batch> {
        let discarded = {
            let mut batches = self.lock();
            batches.refused.extend(hubs);
            let discarded = std::mem::take(&mut batches.waiting);
            for batch in &discarded {
                batches.under_way.remove(&batch.ticket());
            }
            discarded
        };
        self.emptied.notify_waiters();
        self.ahead
            .fetch_sub(discarded.iter().map(Batch::bytes).sum(), Ordering::SeqCst);
        discarded
    }

    /// Called when a group is written, before its effects are released. Returns whether the releasing thread must do
    /// it, either after the effects of earlier groups or because more batches wait to be written.
    pub(crate) fn begin_release(&self) -> bool {
        let mut batches = self.lock();
        batches.releasing += 1;
        batches.releasing > 1 || !batches.waiting.is_empty()
    }

    /// Called when the effects of a group are released.
    pub(crate) fn end_release(&self) {
        self.lock().releasing -= 1;
    }

    /// Marks these batches as finished.
    pub(crate) fn end(&self, tickets: &[Ticket]) {
        let mut batches = self.lock();
        for ticket in tickets {
            batches.under_way.remove(ticket);
        }
        drop(batches);
        self.emptied.notify_waiters();
    }

    /// Waits until everything that a hub has handed over so far is written and its effects are released.
    pub(crate) async fn flush(&self, hub: u32) {
        let upto = self.lock().next_ticket;
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Registered before the look, so that an emptying in between is not missed.
            emptied.as_mut().enable();
            {
                let batches = self.lock();
                if batches.under_way.range((hub, 0)..(hub, upto)).next().is_none() {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Ends [`OpenGroup::take`] once everything is written.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }
}

fn take_waiting(batches: &mut Batches, bytes_max: usize) -> Option<Taken> {
    let first = batches.waiting.pop_front()?;
    // Behind one that is large there is room for small ones.
    let bytes_max = first.bytes + bytes_max;
    let (mut commits, mut bytes) = (first.commits, first.bytes);
    let mut hubs = vec![first.hub; first.sections.len()];
    let mut tickets = vec![first.ticket()];
    let (mut sections, mut releases) = (first.sections, vec![(first.hub, first.releases)]);
    while let Some(next) = batches.waiting.front()
        && commits + next.commits <= GROUP_COMMITS_MAX
        && bytes + next.bytes <= bytes_max
    {
        let Some(next) = batches.waiting.pop_front() else { break };
        commits += next.commits;
        bytes += next.bytes;
        hubs.resize(hubs.len() + next.sections.len(), next.hub);
        tickets.push(next.ticket());
        sections.extend(next.sections);
        releases.push((next.hub, next.releases));
    }
    Some(Taken {
        group: Arc::new(Group { sections }),
        hubs,
        bytes,
        releases,
        tickets,
    })
}
