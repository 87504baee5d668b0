//! A store with a bug put in: it commits in two groups what belongs in one. The checker must notice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use taskhub_core::commit::{Change, Commit, Update};
use taskhub_core::id::Seq;
use taskhub_store::layer::Layer;
use taskhub_store::{Fut, Group, Lease, PartitionKey, Recovered, Section, Store};

/// How long it is between the halves, measured by the first of them: most kills come then, on any machine.
const GAP: u32 = 5;

/// Wraps a store. Of each instance the last commit of a group is cut in two: what history and status are
/// goes with the group, what is waited for and what came in goes with a second one. Alive, nobody can
/// tell; a death in between shows.
///
/// It does not translate the places of outbox items, so the workload must send no messages.
pub struct SplitStore<S> {
    inner: S,
    /// Numbers of the next commits below, where there are more of them than above.
    next: Mutex<BTreeMap<PartitionKey, Seq>>,
}

impl<S: Store> SplitStore<S> {
    /// Wraps a store.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            next: Mutex::default(),
        }
    }

    /// The two halves of a group, numbered without a gap.
    fn halves(&self, group: &Group) -> (Group, Group) {
        let (mut first, mut second) = (Group::default(), Group::default());
        let mut cut = BTreeSet::new();
        // From the end, since what is behind a cut commit must not need its second half.
        for section in group.sections.iter().rev() {
            let (mut whole, mut rest) = (Vec::new(), Vec::new());
            for commit in section.commits.iter().rev() {
                let is_last = cut.insert((section.partition.clone(), commit.number));
                match commit.update().filter(|_| is_last) {
                    Some(update) => {
                        let (one, other) = halve(update);
                        whole.push(with_update(commit, one));
                        rest.push(with_update(commit, other));
                    }
                    None => whole.push(commit.clone()),
                }
            }
            first.sections.push(part(section, whole));
            second.sections.push(part(section, rest));
        }
        for half in [&mut first, &mut second] {
            half.sections.reverse();
            half.sections.retain(|section| !section.commits.is_empty());
            self.number(half);
        }
        (first, second)
    }

    fn number(&self, group: &mut Group) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for section in &mut group.sections {
            let seq = next.entry(section.partition.clone()).or_insert(section.first_seq);
            section.first_seq = *seq;
            *seq = Seq(seq.0 + section.commits.len() as u64);
        }
    }
}

fn part(section: &Section, mut backwards: Vec<Commit>) -> Section {
    backwards.reverse();
    Section {
        partition: section.partition.clone(),
        epoch: section.epoch,
        first_seq: section.first_seq,
        commits: backwards,
    }
}

fn halve(update: &Update) -> (Update, Update) {
    let added = u32::try_from(update.events.len()).unwrap_or(u32::MAX);
    let is_continued = update.continued.is_some();
    let other = Update {
        expected_history: if is_continued {
            0
        } else {
            update.expected_history + added
        },
        at: update.at,
        inbox_added: update.inbox_added.clone(),
        opened: update.opened.clone(),
        closed: update.closed.clone(),
        deliveries: update.deliveries.clone(),
        ..Update::default()
    };
    let one = Update {
        inbox_added: Vec::new(),
        opened: Vec::new(),
        closed: Vec::new(),
        deliveries: Vec::new(),
        ..update.clone()
    };
    (one, other)
}

fn with_update(commit: &Commit, update: Update) -> Commit {
    Commit::new(commit.instance.clone(), commit.number, Change::Update(Box::new(update)))
}

impl<S> fmt::Debug for SplitStore<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SplitStore").finish_non_exhaustive()
    }
}

impl<S: Store> Layer for SplitStore<S> {
    fn below(&self) -> &dyn Store {
        &self.inner
    }

    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>> {
        Box::pin(async {
            let recovered = self.inner.recover(lease).await?;
            if let Some(Recovered::Counters { next_seq, .. }) = recovered.first() {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                next.insert(lease.partition.clone(), *next_seq);
            }
            Ok(recovered)
        })
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        let (first, second) = self.halves(&group);
        Box::pin(async {
            let begun = crate::now();
            self.inner.commit(Arc::new(first)).await?;
            if second.sections.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(begun.elapsed() * GAP).await;
            self.inner.commit(Arc::new(second)).await
        })
    }
}
