//! Computes the net effect of a group: only the last state of each instance is written, and rows that are created and
//! removed within the group are never written.
//!
//! Folding borrows from the group and touches no table. It looks up the stored head of each instance at most once. It
//! makes the same checks as core's own fold: a commit that was not made from the stored state is refused (R26), and
//! then nothing of the group is written.

use std::collections::BTreeMap;

use taskhub_core::commit::{Change, Commit, Continued, Creation, Ending, Open, Update};
use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{InstanceNumber, Seq};
use taskhub_core::message::{Message, OutboxItem, OutboxRef};
use taskhub_core::payload::Payload;
use taskhub_core::seen::SeenKey;
use taskhub_core::status::{RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;

use super::Contradiction;
use super::hubs::{Hubs, Part};
use super::record::{Head, Key, Stored, int};
use super::sums::print;
use crate::fence::{check_epoch, check_seq};
use crate::{Error, Group, PartitionKey, Section};

/// The reasons why a group cannot be folded: a contradiction, an error of the store trait such as an old epoch, or an
/// error of the backend during a lookup.
pub(crate) trait FoldError: From<Contradiction> + From<Error> {}

impl<E: From<Contradiction> + From<Error>> FoldError for E {}

/// Looks up what is stored of an instance. A backend that cannot run statements during the fold reads the heads of all
/// instances in the group beforehand.
type Lookup<'l, E> = dyn FnMut(Key) -> Result<Option<Stored>, E> + 'l;

/// Place of an outbox item: part, seq, index.
pub(crate) type OutboxKey = (i64, i64, u32);

/// An outbox item that was stored before the group, and the partition whose commit consumes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumed<'g> {
    pub(crate) key: OutboxKey,
    by: &'g PartitionKey,
    at: OutboxRef,
}

impl Consumed<'_> {
    /// The error if the item is missing.
    pub(crate) fn stale(&self) -> Error {
        let partition = self.by.clone();
        Error::Stale { partition, at: self.at }
    }
}

/// The net effect of a group.
#[derive(Debug, Default)]
pub(crate) struct Folded<'g> {
    /// Instances that exist after the group, by key, so that rows are written in the order of their tables.
    order: BTreeMap<Key, usize>,
    /// The instances, at the indexes in `order`. They are large, so they stay in place instead of moving inside a map.
    instances: Vec<Instance<'g>>,
    /// Stored instances that no longer exist after the group.
    pub(crate) removed: BTreeMap<Key, Head>,
    pub(crate) outbox: BTreeMap<OutboxKey, &'g OutboxItem>,
    /// Stored items that the group consumes.
    pub(crate) consumed: Vec<Consumed<'g>>,
    /// Partitions after the group.
    pub(crate) parts: BTreeMap<i64, Part>,
    pub(crate) commits: u64,
}

/// The net effect of a group on one instance.
#[derive(Debug)]
#[expect(
    clippy::option_option,
    reason = "as in core's update: absent changes nothing, the inner `None` clears"
)]
pub(crate) struct Instance<'g> {
    pub(crate) origin: Origin<'g>,
    pub(crate) head: Head,
    pub(crate) runs: Vec<Run<'g>>,
    /// Numbers of stored messages that the group removes.
    pub(crate) taken: Vec<i64>,
    pub(crate) added: BTreeMap<i64, &'g Message>,
    /// Stored occurrences that the group closes.
    pub(crate) closed: Vec<i64>,
    pub(crate) opened: BTreeMap<i64, (&'g Open, Option<u32>)>,
    /// New delivery counts of stored tasks.
    pub(crate) deliveries: BTreeMap<i64, u32>,
    pub(crate) keys: Vec<(i64, &'g SeenKey)>,
    /// Stored keys that expired by this time are deleted.
    pub(crate) keys_after: Option<Timestamp>,
    pub(crate) ending: Option<&'g Ending>,
    pub(crate) custom: Option<Option<&'g Payload>>,
    pub(crate) stalled: Option<Option<&'g Stall>>,
    pub(crate) continued: Option<&'g Continued>,
}

/// The state of an instance before the group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'g> {
    /// It was stored with this head.
    Stored(Stored),
    /// The group creates it.
    Created { hub: i64, creation: &'g Creation },
}

/// Events the group adds to one execution.
#[derive(Debug)]
pub(crate) struct Run<'g> {
    pub(crate) ordinal: u32,
    pub(crate) first: u32,
    pub(crate) events: Vec<&'g [HistoryEvent]>,
}

/// Folds a group over the stored state.
pub(crate) fn fold<'g, E: FoldError>(
    group: &'g Group,
    hubs: &Hubs,
    lookup: &mut Lookup<'_, E>,
) -> Result<Folded<'g>, E> {
    let mut folded = Folded::default();
    for section in &group.sections {
        folded.section(section, hubs, lookup)?;
    }
    Ok(folded)
}

fn contradiction<T>(what: String) -> Result<T, Contradiction> {
    Err(Contradiction(what))
}

impl<'g> Folded<'g> {
    fn section<E: FoldError>(
        &mut self,
        section: &'g Section,
        hubs: &Hubs,
        lookup: &mut Lookup<'_, E>,
    ) -> Result<(), E> {
        let part = hubs.part(&section.partition)?;
        check_epoch(&section.partition, section.epoch, part.epoch)?;
        let mut next = self.part(part).counters;
        check_seq(section, next.next_seq)?;
        for commit in &section.commits {
            self.commit(commit, next.next_seq, part, lookup)?;
            if let Some(from) = commit.consumed {
                let sender = PartitionKey {
                    hub: section.partition.hub.clone(),
                    index: from.partition,
                };
                let sender = hubs.part(&sender)?;
                let key = (sender.row, int(from.seq.0), from.index);
                let consumed = Consumed {
                    key,
                    by: &section.partition,
                    at: from,
                };
                let items = &mut self.part(sender).items;
                *items = items.checked_sub(1).ok_or_else(|| consumed.stale())?;
                if self.outbox.remove(&key).is_none() {
                    self.consumed.push(consumed);
                }
            }
            next.next_seq = next.next_seq.next();
            if let Some(Change::Create(_)) = commit.change {
                next.next_number = next.next_number.max(commit.number.next());
            }
        }
        self.commits += section.commits.len() as u64;
        self.part(part).counters = next;
        Ok(())
    }

    /// The partition as changed by the group so far.
    fn part(&mut self, part: &Part) -> &mut Part {
        self.parts.entry(part.row).or_insert_with(|| part.clone())
    }

    fn commit<E: FoldError>(
        &mut self,
        commit: &'g Commit,
        seq: Seq,
        part: &Part,
        lookup: &mut Lookup<'_, E>,
    ) -> Result<(), E> {
        let key = Key::new(part.row, commit.number);
        match &commit.change {
            Some(Change::Create(creation)) => {
                if let Some(old) = creation.replaces {
                    self.remove(Key::new(part.row, old), commit, lookup)?;
                }
                if !self.insert(key, Instance::created(part.hub, seq, creation)) {
                    return Err(Contradiction(format!("`{}` is created although it exists", commit.instance)).into());
                }
            }
            Some(Change::Update(update)) => self.instance(key, commit, lookup)?.update(commit, seq, update)?,
            Some(Change::Purge) => self.remove(key, commit, lookup)?,
            None => {}
        }
        self.part(part).items += commit.outbox.len() as u64;
        for (index, item) in (0..).zip(&commit.outbox) {
            self.outbox.insert((part.row, int(seq.0), index), item);
        }
        Ok(())
    }

    fn instance<E: FoldError>(
        &mut self,
        key: Key,
        commit: &Commit,
        lookup: &mut Lookup<'_, E>,
    ) -> Result<&mut Instance<'g>, E> {
        let place = if let Some(place) = self.order.get(&key) {
            *place
        } else {
            let stored = self.stored(key, commit, lookup)?;
            self.insert(key, Instance::stored(stored));
            self.instances.len() - 1
        };
        match self.instances.get_mut(place) {
            Some(instance) => Ok(instance),
            None => unreachable!("each place in the order is taken"),
        }
    }

    /// Adds an instance; returns false if one with this key exists already.
    fn insert(&mut self, key: Key, instance: Instance<'g>) -> bool {
        self.instances.push(instance);
        self.order.insert(key, self.instances.len() - 1).is_none()
    }

    /// Instances that exist after the group, by key.
    pub(crate) fn instances(&self) -> impl ExactSizeIterator<Item = (Key, &Instance<'g>)> {
        self.order.iter().map(|(key, place)| match self.instances.get(*place) {
            Some(instance) => (*key, instance),
            None => unreachable!("each place in the order is taken"),
        })
    }

    fn remove<E: FoldError>(&mut self, key: Key, commit: &Commit, lookup: &mut Lookup<'_, E>) -> Result<(), E> {
        let place = self.order.remove(&key);
        let stored = match place
            .and_then(|place| self.instances.get(place))
            .map(|found| &found.origin)
        {
            Some(Origin::Created { .. }) => return Ok(()),
            Some(Origin::Stored(stored)) => *stored,
            None => self.stored(key, commit, lookup)?,
        };
        self.removed.insert(key, stored.head);
        Ok(())
    }

    /// Looks up the stored instance of a commit, and checks that the row belongs to the commit's instance id.
    fn stored<E: FoldError>(&self, key: Key, commit: &Commit, lookup: &mut Lookup<'_, E>) -> Result<Stored, E> {
        let stored = if self.removed.contains_key(&key) {
            None
        } else {
            lookup(key)?
        };
        let InstanceNumber(number) = key.number();
        let id = &commit.instance;
        match stored {
            Some(stored) if stored.prints.id == print(id.as_str().as_bytes()) => Ok(stored),
            Some(_) => Err(Contradiction(format!("instance number {number} does not belong to `{id}`")).into()),
            None => Err(Contradiction(format!(
                "a commit changes instance number {number}, which does not exist"
            ))
            .into()),
        }
    }

    /// The changes of the instance counts by partition and status.
    pub(crate) fn count_changes(&self) -> BTreeMap<(i64, RuntimeStatus), i64> {
        let mut changes = BTreeMap::new();
        let mut count = |key: Key, status, by| *changes.entry((key.part(), status)).or_insert(0) += by;
        for (key, head) in &self.removed {
            count(*key, head.status, -1);
        }
        for (key, instance) in self.instances() {
            match &instance.origin {
                Origin::Stored(before) if before.head.status == instance.head.status => {}
                Origin::Stored(before) => {
                    count(key, before.head.status, -1);
                    count(key, instance.head.status, 1);
                }
                Origin::Created { .. } => count(key, instance.head.status, 1),
            }
        }
        changes.retain(|_, by| *by != 0);
        changes
    }
}

impl<'g> Instance<'g> {
    fn new(origin: Origin<'g>, head: Head) -> Self {
        Self {
            origin,
            head,
            runs: Vec::new(),
            taken: Vec::new(),
            added: BTreeMap::new(),
            closed: Vec::new(),
            opened: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            keys: Vec::new(),
            keys_after: None,
            ending: None,
            custom: None,
            stalled: None,
            continued: None,
        }
    }

    fn stored(stored: Stored) -> Self {
        Self::new(Origin::Stored(stored), stored.head)
    }

    fn created(hub: i64, seq: Seq, creation: &'g Creation) -> Self {
        let head = Head {
            status: creation.info.status,
            ordinal: creation.info.ordinal,
            updated_at: creation.info.updated_at,
            completed_at: creation.info.completed_at,
            history_events: 0,
            history_bytes: 0,
            next_message: creation.start.number.next(),
            next_occurrence: creation.next_occurrence,
            waits: 0,
            keys: 0,
        };
        let mut instance = Self::new(Origin::Created { hub, creation }, head);
        instance.added.insert(int(creation.start.number.0), &creation.start);
        // The keys get distinct positions in their order, all before the keys of later commits.
        let first = int(seq.0) + 1 - int(creation.keys.len() as u64);
        instance.keys.extend((first..).zip(&creation.keys));
        instance
    }

    /// Applies an update to the head and collects the row changes, in the same order as core's `InstanceState::apply`.
    /// The order matters: a commit may take a message and add another, or close an occurrence and open the next one,
    /// and the events belong to the execution that was current before the update continues as new. Both folds exist
    /// because this one works on the few columns of a head, without loading the instance; the conformance suite
    /// compares their results.
    fn update(&mut self, commit: &Commit, seq: Seq, update: &'g Update) -> Result<(), Contradiction> {
        if update.expected_history != self.head.history_events {
            let (expected, found) = (update.expected_history, self.head.history_events);
            let id = &commit.instance;
            return contradiction(format!(
                "a commit of `{id}` extends a history of {expected} events, but the stored one has {found}"
            ));
        }
        self.head.updated_at = self.head.updated_at.max(update.at);
        self.append(&update.events);
        for number in &update.inbox_taken {
            self.take(int(number.0), commit)?;
        }
        for occurrence in &update.closed {
            self.close(int(occurrence.0), commit)?;
        }
        for open in &update.opened {
            self.head.next_occurrence = self.head.next_occurrence.max(open.occurrence.next());
            self.opened.insert(int(open.occurrence.0), (open, None));
        }
        for (occurrence, count) in &update.deliveries {
            match self.opened.get_mut(&int(occurrence.0)) {
                Some((_, deliveries)) => *deliveries = Some(*count),
                None => drop(self.deliveries.insert(int(occurrence.0), *count)),
            }
        }
        self.update_info(update);
        for message in &update.inbox_added {
            self.head.next_message = self.head.next_message.max(message.number.next());
            self.added.insert(int(message.number.0), message);
        }
        if let Some(key) = &update.key {
            self.keys_after = self.keys_after.max(Some(update.at));
            self.keys.retain(|(_, seen)| seen.until > update.at);
            self.keys.push((int(seq.0), key));
        }
        Ok(())
    }

    fn append(&mut self, events: &'g [HistoryEvent]) {
        if events.is_empty() {
            return;
        }
        let (ordinal, first) = (self.head.ordinal, self.head.history_events);
        match self.runs.last_mut() {
            Some(run) if run.ordinal == ordinal => run.events.push(events),
            _ => self.runs.push(Run {
                ordinal,
                first,
                events: vec![events],
            }),
        }
        self.head.history_events += u32::try_from(events.len()).unwrap_or(u32::MAX);
        self.head.history_bytes += events.iter().map(|event| event.size() as u64).sum::<u64>();
    }

    fn take(&mut self, number: i64, commit: &Commit) -> Result<(), Contradiction> {
        if self.added.remove(&number).is_some() {
            return Ok(());
        }
        if let Origin::Created { .. } = self.origin {
            return contradiction(format!("`{}` takes message {number} twice (R188)", commit.instance));
        }
        self.taken.push(number);
        Ok(())
    }

    fn close(&mut self, occurrence: i64, commit: &Commit) -> Result<(), Contradiction> {
        if self.opened.remove(&occurrence).is_some() {
            return Ok(());
        }
        if let Origin::Created { .. } = self.origin {
            return contradiction(format!(
                "`{}` closes occurrence {occurrence} twice (R34)",
                commit.instance
            ));
        }
        self.closed.push(occurrence);
        Ok(())
    }

    fn update_info(&mut self, update: &'g Update) {
        if let Some(status) = update.status {
            self.head.status = status;
        }
        if let Some(ending) = &update.ending {
            self.head.completed_at = Some(self.head.updated_at);
            self.ending = Some(ending);
            self.stalled = Some(None);
        }
        if let Some(custom) = &update.custom_status {
            self.custom = Some(custom.as_ref());
        }
        if let Some(stalled) = &update.stalled {
            self.stalled = Some(stalled.as_ref());
        }
        if let Some(next) = &update.continued {
            self.continued = Some(next);
            self.head.ordinal += 1;
            self.head.history_events = 0;
            self.head.history_bytes = 0;
        }
    }

    /// Whether a status index is concerned.
    pub(crate) fn changes_status(&self) -> bool {
        matches!(self.origin, Origin::Stored(before) if before.head.status != self.head.status)
    }

    /// Rows of `pending` that belong to it afterwards.
    pub(crate) fn waits(&self) -> Result<u32, Contradiction> {
        let (done, new) = (
            self.taken.len() + self.closed.len(),
            self.added.len() + self.opened.len(),
        );
        let before = match self.origin {
            Origin::Stored(stored) => stored.head.waits as usize,
            Origin::Created { .. } => 0,
        };
        let after = (before + new)
            .checked_sub(done)
            .and_then(|after| u32::try_from(after).ok());
        after.ok_or_else(|| {
            Contradiction(format!(
                "a commit removes {done} rows from `pending`, which has {before}"
            ))
        })
    }

    /// Whether a payload is the input that its row holds afterwards.
    pub(crate) fn has_input(&self, input: &Payload) -> bool {
        match (self.continued, self.origin) {
            (Some(next), _) => next.input.as_ref().is_some_and(|own| is_same(own, input)),
            (None, Origin::Created { creation, .. }) => {
                creation.info.input.as_ref().is_some_and(|own| is_same(own, input))
            }
            (None, Origin::Stored(stored)) => stored.prints.input == print(input.bytes()),
        }
    }
}

/// Whether two payloads are the same, which mostly they are as one piece of memory.
fn is_same(one: &Payload, other: &Payload) -> bool {
    let (one, other) = (one.bytes(), other.bytes());
    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
}
