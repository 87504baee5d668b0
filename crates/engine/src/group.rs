//! Group commit as a value: what partitions hand over gathers in order, and goes into groups while the store writes the one
//! before. Nothing here waits, locks or knows a thread: [`OpenGroup`](crate::open_group) does, and the simulator drives the same value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use taskhub_core::commit::Commit;
use taskhub_core::id::{Epoch, Seq};
use taskhub_store::{Group, PartitionKey, Section};

use crate::dispatcher::Event;
use crate::io::Reply;

/// Most commits in one group, so that filling the next overlaps with writing this one (A34).
pub const GROUP_COMMITS_MAX: usize = 2048;

/// Bytes that a group takes beyond its first batch, and at which a batch is handed over, unless said otherwise: about
/// what a disk takes in the time of some syncs. A single commit may be larger.
pub const GROUP_BYTES_MAX: usize = 8 << 20;
/// Bytes of commits ahead of the disk above which nothing is begun, unless said otherwise.
pub(crate) const AHEAD_BYTES_MAX: usize = 64 << 20;

/// What one round of a partition thread hands over of a hub: commits in causal order, and what waits for them. Callers are
/// answered at addresses of type `A`.
#[derive(Debug)]
pub struct Batch<A> {
    /// Number of the hub.
    hub: u32,
    sections: Vec<Section>,
    releases: Vec<Release<A>>,
    commits: usize,
    bytes: usize,
    /// Number of the batch, once it is handed over.
    number: u64,
}

/// An effect that is released when everything handed over before it is durable (A36).
#[derive(Debug)]
pub enum Release<A> {
    /// The answer to a caller, and the commit that it waits for.
    Reply(A, Reply, At),
    /// Something for the dispatcher.
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
    /// Nothing yet of a hub.
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

    /// What there is, and nothing stays.
    pub fn take(&mut self) -> Self {
        let nothing = Self::new(self.hub);
        std::mem::replace(self, nothing)
    }

    /// Adds a commit behind those of its partition.
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

    /// Has an effect wait for everything that is in it.
    pub fn hold(&mut self, release: Release<A>) {
        self.releases.push(release);
    }

    /// Bytes of its commits, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to hand over.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty() && self.releases.is_empty()
    }

    /// Gives it up before any store has seen it; answers the callers who wait for a commit in it, of which nothing comes.
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

/// How much goes together, and how much runs ahead of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most commits in one group, unless a single batch has more.
    pub commits_max: usize,
    /// A group takes so many bytes more than its first batch; a batch is handed over once it is as large as that.
    pub group_max: usize,
    /// Above so many bytes ahead of the disk no turn is begun and nothing new is taken in.
    pub ahead_max: usize,
}

/// A batch that was handed over: its hub, and a number that grows.
pub type Ticket = (u32, u64);

/// What becomes of a batch that is handed over.
#[derive(Debug)]
pub enum HandedOver<A> {
    /// It waits to be written; so many bytes more are ahead of the disk.
    Waiting(usize),
    /// It was made on top of a group that failed. These callers wait for a commit in it, of which nothing comes.
    TurnedAway(Vec<A>),
    /// Its hub, or the node, is closed, and everybody has been told.
    Closed,
}

/// Whether the effects of a group are let go by the thread that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOn {
    /// By the same thread: nobody waits behind it.
    Here,
    /// By another one, so that the next group is written meanwhile, and in the order of the groups.
    OtherThread,
}

/// Batches that are handed over, from there until they are done with.
#[derive(Debug)]
pub struct Gathering<A> {
    limits: Limits,
    waiting: VecDeque<Batch<A>>,
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

/// A group taken for writing.
#[derive(Debug)]
pub struct Taken<A> {
    pub(crate) group: Arc<Group>,
    /// The hub of each section.
    pub(crate) hubs: Vec<u32>,
    pub(crate) bytes: usize,
    /// What waits for it, by batches and their hubs.
    pub(crate) releases: Vec<(u32, Vec<Release<A>>)>,
    pub(crate) tickets: Vec<Ticket>,
}

impl<A> Taken<A> {
    /// What the store is to make durable, whole or not at all.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Bytes of its commits, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batches in it, which [`Gathering::end`] wants to hear of once they are done with.
    pub fn tickets(&self) -> &[Ticket] {
        &self.tickets
    }

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

impl<A> Gathering<A> {
    /// Nothing yet, and no hub.
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

    /// Takes a batch behind those before it.
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

    /// Accepts batches of a hub again, once no memory of it is left that the failed group was part of.
    pub fn accept(&mut self, hub: u32) {
        self.refused.remove(&hub);
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the batches that go into the next group: the first, and those behind it as far as the limits allow.
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

    /// A group has failed: answers what is not written, which is thrown away, and turns away what these hubs still hand
    /// over until the memory it comes from is dropped (A1).
    pub fn discard(&mut self, hubs: impl IntoIterator<Item = u32>) -> VecDeque<Batch<A>> {
        self.refused.extend(hubs);
        let discarded = std::mem::take(&mut self.waiting);
        for batch in &discarded {
            self.under_way.remove(&batch.ticket());
        }
        discarded
    }

    /// A group is written, and its effects are let go next, behind those of the groups before it.
    pub fn begin_release(&mut self) -> ReleaseOn {
        self.releasing += 1;
        if self.releasing > 1 || !self.waiting.is_empty() {
            ReleaseOn::OtherThread
        } else {
            ReleaseOn::Here
        }
    }

    /// The effects of a group are let go.
    pub fn end_release(&mut self) {
        self.releasing -= 1;
    }

    /// These batches are done with.
    pub fn end(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            self.under_way.remove(ticket);
        }
    }

    /// Number of the next batch: those below it are handed over.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Whether everything that a hub handed over below this number is done with. What comes later is not waited for.
    pub fn is_flushed(&self, hub: u32, upto: u64) -> bool {
        self.under_way.range((hub, 0)..(hub, upto)).next().is_none()
    }

    /// Takes nothing more.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}
