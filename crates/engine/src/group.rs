//! Group commit as a value: the batches of partitions are collected in order, and form the next group while the store
//! writes the previous one. This module neither waits, locks nor uses threads; `OpenGroup` does,
//! and the simulator drives the same value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use taskhub_core::commit::Commit;
use taskhub_core::id::{Epoch, Seq};
use taskhub_store::{Group, PartitionKey, Section};

use crate::dispatcher::Event;
use crate::io::Reply;

/// Most commits in one group, so that filling the next overlaps with writing this one (A34).
pub const GROUP_COMMITS_MAX: usize = 2048;

/// Default number of bytes that a group takes beyond its first batch, and at which a batch is handed over: about what a
/// disk writes in the time of a few syncs. A single commit may be larger.
pub const GROUP_BYTES_MAX: usize = 8 << 20;
/// Default number of bytes of commits ahead of the disk above which nothing new begins.
pub(crate) const AHEAD_BYTES_MAX: usize = 64 << 20;

/// The commits of one hub from one round of a partition thread, in causal order, and the effects that wait for them.
/// Callers are answered at addresses of type `A`.
#[derive(Debug)]
pub struct Batch<A> {
    /// Number of the hub.
    hub: u32,
    sections: Vec<Section>,
    releases: Vec<Release<A>>,
    commits: usize,
    bytes: usize,
    /// Number of the batch, assigned when it is handed over.
    number: u64,
}

/// An effect that is released when everything handed over before it is durable (A36).
#[derive(Debug)]
pub enum Release<A> {
    /// The answer to a caller, and the commit that it waits for.
    Reply(A, Reply, At),
    /// An event for the dispatcher.
    Task(Event),
}

/// A commit, by its partition and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the hub.
    pub hub: u32,
    /// The partition.
    pub partition: u16,
    /// Number of the commit in it.
    pub seq: Seq,
}

impl<A> Batch<A> {
    /// An empty batch of a hub.
    pub fn new(hub: u32) -> Self {
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

    /// Takes the contents and leaves an empty batch.
    pub fn take(&mut self) -> Self {
        let nothing = Self::new(self.hub);
        std::mem::replace(self, nothing)
    }

    /// Adds a commit after the earlier ones of its partition.
    pub fn push(&mut self, partition: &PartitionKey, epoch: Epoch, seq: Seq, commit: Commit) {
        self.commits += 1;
        self.bytes += commit.size();
        if let Some(last) = self.sections.last_mut()
            && last.partition == *partition
            && last.epoch == epoch
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

    /// Makes an effect wait for everything in the batch.
    pub fn hold(&mut self, release: Release<A>) {
        self.releases.push(release);
    }

    /// Approximate bytes of its commits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty() && self.releases.is_empty()
    }

    /// Discards the batch before a store has seen it; returns the callers whose commits thereby have no effect.
    pub fn turn_away(self) -> Vec<A> {
        let Self { sections, releases, .. } = self;
        let has = |at: &At| {
            sections.iter().any(|section| {
                let numbers = section.first_seq.0..section.first_seq.0 + section.commits.len() as u64;
                section.partition.index == at.partition && numbers.contains(&at.seq.0)
            })
        };
        let turned_away = releases.into_iter().filter_map(|release| match release {
            Release::Reply(to, _, at) => has(&at).then_some(to),
            Release::Task(_) => None,
        });
        turned_away.collect()
    }

    pub(crate) fn into_parts(self) -> (u32, Vec<Section>, Vec<Release<A>>) {
        (self.hub, self.sections, self.releases)
    }
}

/// Limits of a group and of the commits ahead of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most commits in one group, unless a single batch has more.
    pub commits_max: usize,
    /// Bytes that a group takes beyond its first batch; a batch is handed over when it reaches this size.
    pub group_max: usize,
    /// Bytes ahead of the disk above which no turn begins and no new work is accepted.
    pub ahead_max: usize,
}

/// Identifies a batch that was handed over: its hub and an increasing number.
pub type Ticket = (u32, u64);

/// The result of handing a batch over.
#[derive(Debug)]
pub enum HandedOver<A> {
    /// The batch waits to be written, and adds this many bytes to those ahead of the disk.
    Waiting(usize),
    /// The batch builds on a group that failed, so it is discarded. The commits of these callers have no effect.
    TurnedAway(Vec<A>),
    /// Its hub or the node is closed, and all callers have been notified.
    Closed,
}

/// The thread that releases the effects of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOn {
    /// The thread that wrote it, because no other group waits.
    Here,
    /// Another thread, in the order of the groups, so that the next group is written meanwhile.
    OtherThread,
}

/// All batches from the time they are handed over until they are finished.
#[derive(Debug)]
pub struct Gathering<A> {
    limits: Limits,
    waiting: VecDeque<Batch<A>>,
    /// Hubs that have not dropped their memory since a group failed: their batches build on the failed group, so they
    /// must not become durable (R188).
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

/// A group taken for writing.
#[derive(Debug)]
pub struct Taken<A> {
    pub(crate) group: Arc<Group>,
    /// The hub of each section.
    pub(crate) hubs: Vec<u32>,
    pub(crate) bytes: usize,
    /// The effects that wait for it, by batch, with the number of the hub.
    pub(crate) releases: Vec<(u32, Vec<Release<A>>)>,
    pub(crate) tickets: Vec<Ticket>,
}

impl<A> Taken<A> {
    /// The group for the store, which becomes durable as a whole or not at all.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Approximate bytes of its commits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batches in it; pass them to [`Gathering::end`] when they are finished.
    pub fn tickets(&self) -> &[Ticket] {
        &self.tickets
    }

    /// The last commit of each partition in it.
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

impl<A> Gathering<A> {
    /// Without batches and hubs.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            refused: BTreeSet::new(),
            open: BTreeSet::new(),
            under_way: BTreeSet::new(),
            next_ticket: 0,
            releasing: 0,
            is_closed: false,
        }
    }

    /// Appends a batch.
    pub fn hand_over(&mut self, mut batch: Batch<A>) -> HandedOver<A> {
        if self.is_closed || !self.open.contains(&batch.hub) {
            return HandedOver::Closed;
        }
        if self.refused.contains(&batch.hub) {
            return HandedOver::TurnedAway(batch.turn_away());
        }
        let bytes = batch.bytes;
        batch.number = self.next_ticket;
        self.next_ticket += 1;
        self.under_way.insert(batch.ticket());
        self.waiting.push_back(batch);
        HandedOver::Waiting(bytes)
    }

    /// Accepts batches of a hub from now on.
    pub fn enter(&mut self, hub: u32) {
        self.open.insert(hub);
    }

    /// Accepts nothing more of a hub; what it has handed over is still written.
    pub fn leave(&mut self, hub: u32) {
        self.open.remove(&hub);
        self.refused.remove(&hub);
    }

    /// Accepts batches of a hub again, after it has dropped the memory that built on the failed group.
    pub fn accept(&mut self, hub: u32) {
        self.refused.remove(&hub);
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the batches of the next group: the first one, and the following ones within the limits.
    pub fn take(&mut self) -> Option<Taken<A>> {
        let first = self.waiting.pop_front()?;
        // Behind one that is large there is room for small ones.
        let bytes_max = first.bytes + self.limits.group_max;
        let (mut commits, mut bytes) = (first.commits, first.bytes);
        let mut hubs = vec![first.hub; first.sections.len()];
        let mut tickets = vec![first.ticket()];
        let (mut sections, mut releases) = (first.sections, vec![(first.hub, first.releases)]);
        while let Some(next) = self.waiting.front()
            && commits + next.commits <= self.limits.commits_max
            && bytes + next.bytes <= bytes_max
        {
            let Some(next) = self.waiting.pop_front() else { break };
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

    /// Called after a group has failed: discards and returns all unwritten batches, and refuses further batches of
    /// these hubs until they have dropped the memory that builds on the failed group (A1).
    pub fn discard(&mut self, hubs: impl IntoIterator<Item = u32>) -> VecDeque<Batch<A>> {
        self.refused.extend(hubs);
        let discarded = std::mem::take(&mut self.waiting);
        for batch in &discarded {
            self.under_way.remove(&batch.ticket());
        }
        discarded
    }

    /// Called when a group is written, before its effects are released; returns which thread must release them, so that
    /// the effects of all groups are released in order.
    pub fn begin_release(&mut self) -> ReleaseOn {
        self.releasing += 1;
        if self.releasing > 1 || !self.waiting.is_empty() {
            ReleaseOn::OtherThread
        } else {
            ReleaseOn::Here
        }
    }

    /// Called when the effects of a group are released.
    pub fn end_release(&mut self) {
        self.releasing -= 1;
    }

    /// Marks these batches as finished.
    pub fn end(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            self.under_way.remove(ticket);
        }
    }

    /// Number of the next batch; all lower numbers are handed over.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Whether all batches of a hub below this number are finished. Later batches do not count.
    pub fn is_flushed(&self, hub: u32, upto: u64) -> bool {
        self.under_way.range((hub, 0)..(hub, upto)).next().is_none()
    }

    /// Accepts no more batches.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}
