//! What became durable, commit by commit: the reference that the store, every answer and every history
//! is held against.
//!
//! It knows nothing of partitions, queues or threads. It folds commits with a fold of its own, and looks at each of them with the
//! eyes of the rules.

use std::collections::{BTreeMap, BTreeSet};

use taskhub_core::commit::{Change, Commit, Creation, OpenKind};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::failure::INVALID_RESPONSE;
use taskhub_core::id::{ExecutionId, InstanceId, InstanceNumber, Seq};
use taskhub_core::message::{OutboxBody, OutboxItem, OutboxRef};
use taskhub_core::status::InstanceInfo;
use taskhub_store::{Group, Recovered, Section, partition_of};

use crate::Violation;
use crate::plan::{Plan, text};
use crate::record::Record;
use crate::reference::Reference;
use crate::rules;

/// Everything durable, and how it came to be.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    partitions: u16,
    next_seq: Vec<Seq>,
    /// Absent until the store has said where a new hub begins to count.
    next_instance: Vec<Option<InstanceNumber>>,
    /// Sent and not yet taken in.
    pub(crate) outbox: BTreeMap<OutboxRef, OutboxItem>,
    /// Which instance has an id now.
    present: BTreeMap<InstanceId, InstanceNumber>,
    /// Every instance there ever was.
    pub(crate) books: BTreeMap<(u16, InstanceNumber), Book>,
    /// For each id the status records it had, absent ones included.
    timelines: BTreeMap<InstanceId, Vec<Moment>>,
    /// Ids that were ever given to an execution, or to an instance.
    executions: BTreeSet<ExecutionId>,
    instances: BTreeSet<InstanceId>,
    /// Tags of the starts that took place.
    pub(crate) started: BTreeMap<String, u32>,
    /// Places of the last message from a partition to an instance.
    last_taken: BTreeMap<(u16, InstanceId), (Seq, u32)>,
    /// Commits so far.
    pub(crate) clock: u64,
}

/// One instance from creation to removal.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) state: Reference,
    /// One per execution.
    pub(crate) records: Vec<Record>,
    /// Names and payloads of the events it was sent, in order.
    pub(crate) arrivals: Vec<(String, String)>,
    pub(crate) is_gone: bool,
}

/// A status record and since which commit it was the current one.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) since: u64,
    pub(crate) info: Option<Box<InstanceInfo>>,
}

impl Book {
    /// The history of its current execution.
    pub(crate) fn events(&self) -> &[HistoryEvent] {
        self.records.last().map_or(&[], |record| &record.events)
    }

    /// Whether it failed because its plan asks for a child with an id that is its own (R36).
    pub(crate) fn asks_for_itself(&self) -> bool {
        let failure = self.state.info.failure.as_deref();
        failure.is_some_and(|failure| {
            failure.error_type == INVALID_RESPONSE && failure.message.contains("itself or its parent")
        })
    }
}

/// Whether an orchestrator had the id made as a new one; those that are made of the parent's may come again
/// with it (R70).
fn is_random(instance: &InstanceId) -> bool {
    let text = instance.as_str();
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Journal {
    pub(crate) fn new(partitions: u16) -> Self {
        let count = usize::from(partitions);
        Self {
            partitions,
            next_seq: vec![Seq(1); count],
            next_instance: vec![None; count],
            ..Self::default()
        }
    }

    /// That of a hub which takes the place of this one; what was unique stays so.
    pub(crate) fn of_next_hub(&mut self, partitions: u16) -> Self {
        Self {
            executions: std::mem::take(&mut self.executions),
            instances: std::mem::take(&mut self.instances),
            ..Self::new(partitions)
        }
    }

    /// Takes in a group that became durable.
    pub(crate) fn apply(&mut self, group: &Group) -> Result<(), Violation> {
        for section in &group.sections {
            let next = self.next_seq(section.partition.index);
            if section.first_seq != next {
                let what = format!(
                    "partition {}: commit {} where {next} is next",
                    section.partition, section.first_seq
                );
                return Err(Violation::new("I4", what));
            }
            for commit in &section.commits {
                self.commit(section, commit)?;
            }
        }
        Ok(())
    }

    pub(crate) fn next_seq(&self, partition: u16) -> Seq {
        self.next_seq.get(usize::from(partition)).copied().unwrap_or_default()
    }

    /// Whether instances are counted on from this number.
    pub(crate) fn goes_on_with(&mut self, partition: u16, number: InstanceNumber) -> bool {
        let next = self.next_instance.get_mut(usize::from(partition));
        next.is_some_and(|next| *next.get_or_insert(number) == number)
    }

    fn commit(&mut self, section: &Section, commit: &Commit) -> Result<(), Violation> {
        let partition = section.partition.index;
        let seq = self.next_seq(partition);
        if partition_of(&commit.instance, self.partitions) != partition {
            return Err(Violation::new(
                "I5",
                format!("`{}` is not of partition {partition}", commit.instance),
            ));
        }
        self.clock += 1;
        if let Some(at) = commit.consumed {
            self.consume(at, commit)?;
        } else if let Some(Change::Create(creation)) = &commit.change
            && creation.info.parent.is_some()
        {
            let what = format!("child `{}` came into being without a message", commit.instance);
            return Err(Violation::new("I5", what));
        }
        match &commit.change {
            None => {}
            Some(Change::Create(creation)) => self.create(partition, commit, creation)?,
            Some(Change::Update(_)) => self.update(partition, commit)?,
            Some(Change::Purge) => self.remove(partition, &commit.instance, commit.number)?,
        }
        for (index, item) in (0..).zip(&commit.outbox) {
            self.outbox.insert(OutboxRef { partition, seq, index }, item.clone());
        }
        if let Some(next) = self.next_seq.get_mut(usize::from(partition)) {
            *next = seq.next();
        }
        if commit.change.is_some() {
            let info = self.info(&commit.instance).cloned().map(Box::new);
            let since = self.clock;
            self.timelines
                .entry(commit.instance.clone())
                .or_default()
                .push(Moment { since, info });
        }
        Ok(())
    }

    /// A message is taken in once, by its target, in the order sent, and with its effect (I5, I11, A29).
    fn consume(&mut self, at: OutboxRef, commit: &Commit) -> Result<(), Violation> {
        let Some(item) = self.outbox.remove(&at) else {
            let what = format!("`{}` takes in {at:?}, which is in no outbox", commit.instance);
            return Err(Violation::new("I5", what));
        };
        if item.target != commit.instance {
            return Err(Violation::new(
                "I5",
                format!("`{}` takes in what is for `{}`", commit.instance, item.target),
            ));
        }
        let place = (at.seq, at.index);
        let before = self.last_taken.insert((at.partition, item.target.clone()), place);
        if before.is_some_and(|before| before >= place) {
            return Err(Violation::new(
                "I11",
                format!("`{}` takes in {at:?} behind {before:?}", item.target),
            ));
        }
        let target = self.book(&item.target).map(|book| &book.state);
        let is_live = target.is_some_and(Reference::is_live);
        let update = commit.update();
        if is_random(&item.target) && matches!(item.body, OutboxBody::Start(_)) && self.instances.contains(&item.target)
        {
            let what = format!("`{}` is made as a new id a second time", item.target);
            return Err(Violation::new("ids", what));
        }
        let has_effect = match &item.body {
            OutboxBody::Start(start) => {
                let is_created = matches!(&commit.change, Some(Change::Create(made)) if made.info.parent.as_deref() == start.parent.as_ref());
                let is_refused = commit.change.is_none() && commit.outbox.len() == usize::from(start.parent.is_some());
                if is_live { is_refused } else { is_created }
            }
            OutboxBody::Event { name, input } => {
                let raised = EventKind::EventRaised {
                    name: name.clone(),
                    input: input.clone(),
                };
                let is_added =
                    update.is_some_and(|update| update.inbox_added.iter().any(|message| message.event.kind == raised));
                is_added == is_live
            }
            OutboxBody::ChildEnded {
                execution, occurrence, ..
            } => {
                let is_wanted = target.is_some_and(|state| {
                    let open = state.open.get(occurrence);
                    state.info.execution == *execution
                        && open.is_some_and(|open| matches!(open.kind, OpenKind::Child { .. }))
                });
                update.is_some_and(|update| update.closed.contains(occurrence)) == is_wanted
            }
            OutboxBody::Terminate { child_of, .. } => {
                let parent = target
                    .and_then(|state| state.info.parent.as_ref())
                    .map(|parent| parent.execution);
                let is_meant = is_live && (child_of.is_none() || *child_of == parent);
                update.is_some_and(|update| update.ending.is_some()) == is_meant
            }
        };
        if has_effect {
            Ok(())
        } else {
            Err(Violation::new(
                "I5",
                format!("{item:?} was taken in without its effect: {commit:?}"),
            ))
        }
    }

    fn create(&mut self, partition: u16, commit: &Commit, creation: &Creation) -> Result<(), Violation> {
        let number = commit.number;
        let next = self.next_instance.get_mut(usize::from(partition));
        if let Some(next) = next {
            if next.is_some_and(|next| number < next) {
                return Err(Violation::new(
                    "I4",
                    format!("instance number {number} is given out twice"),
                ));
            }
            *next = Some(number.next());
        }
        if creation.replaces != self.present.get(&commit.instance).copied() {
            let what = format!(
                "`{}` is created over {:?}",
                commit.instance,
                self.present.get(&commit.instance)
            );
            return Err(Violation::new("I1", what));
        }
        if let Some(old) = creation.replaces {
            self.remove(partition, &commit.instance, old)?;
        }
        if let Some(plan) = Plan::read(creation.info.input.as_ref()) {
            *self.started.entry(plan.tag).or_default() += 1;
        }
        self.present.insert(commit.instance.clone(), number);
        self.instances.insert(commit.instance.clone());
        self.new_execution(creation.info.execution)?;
        let state = Reference::created(number, creation);
        let book = Book {
            state,
            records: vec![Record::default()],
            arrivals: Vec::new(),
            is_gone: false,
        };
        self.books.insert((partition, number), book);
        Ok(())
    }

    fn update(&mut self, partition: u16, commit: &Commit) -> Result<(), Violation> {
        let instance = &commit.instance;
        let (Some(update), Some(book)) = (commit.update(), self.books.get_mut(&(partition, commit.number))) else {
            return Err(Violation::new(
                "I1",
                format!("`{instance}` is changed and does not exist"),
            ));
        };
        if book.is_gone {
            return Err(Violation::new(
                "I1",
                format!("`{instance}` is changed after it was removed"),
            ));
        }
        if book.state.is_live() {
            rules::says_what_it_records(instance, &update.events, commit)?;
            rules::tells_of_its_end(&book.state, update, commit)?;
        }
        let history = book.events().len();
        book.state.take(update, history)?;
        let next = update.continued.as_ref().map(|next| next.execution);
        let record = book.records.last_mut();
        if let Some(record) = record {
            for event in &update.events {
                record.push(instance, event)?;
            }
        }
        for message in &update.inbox_added {
            if let EventKind::EventRaised { name, input } = &message.event.kind {
                book.arrivals.push((name.as_str().to_owned(), text(input.as_ref())));
            }
        }
        if update.continued.is_some() {
            book.records.push(Record::default());
        }
        rules::check_status(instance, book)?;
        next.map_or(Ok(()), |next| self.new_execution(next))
    }

    /// No two executions have the same id, whatever the clock does.
    fn new_execution(&mut self, execution: ExecutionId) -> Result<(), Violation> {
        if self.executions.insert(execution) {
            return Ok(());
        }
        Err(Violation::new(
            "ids",
            format!("execution {execution} begins a second time"),
        ))
    }

    fn remove(&mut self, partition: u16, instance: &InstanceId, number: InstanceNumber) -> Result<(), Violation> {
        let removed = self.present.remove(instance);
        let book = self.books.get_mut(&(partition, number));
        let (Some(book), true) = (book, removed == Some(number)) else {
            return Err(Violation::new(
                "I1",
                format!("`{instance}` is removed and is not there"),
            ));
        };
        book.is_gone = true;
        Ok(())
    }

    /// The instance that has the id now.
    pub(crate) fn book(&self, instance: &InstanceId) -> Option<&Book> {
        let number = self.present.get(instance)?;
        self.books.get(&(partition_of(instance, self.partitions), *number))
    }

    /// Its status record.
    pub(crate) fn info(&self, instance: &InstanceId) -> Option<&InstanceInfo> {
        self.book(instance).map(|book| &book.state.info)
    }

    /// Those that exist now.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Book> {
        self.books.values().filter(|book| !book.is_gone)
    }

    /// The status records that were current at some time since a commit.
    pub(crate) fn since(&self, instance: &InstanceId, clock: u64) -> Vec<Option<&InstanceInfo>> {
        let timeline = self.timelines.get(instance).map_or(&[][..], Vec::as_slice);
        let first = timeline.partition_point(|moment| moment.since <= clock);
        let mut seen = Vec::new();
        match first.checked_sub(1).and_then(|index| timeline.get(index)) {
            Some(moment) => seen.push(moment.info.as_deref()),
            None => seen.push(None),
        }
        seen.extend(timeline.iter().skip(first).map(|moment| moment.info.as_deref()));
        seen
    }

    /// What a recovery of the partition must find, in no particular order.
    pub(crate) fn recoverable(&self, partition: u16) -> BTreeSet<String> {
        let mut items = Vec::new();
        let of_partition = |(index, _): &(u16, InstanceNumber)| *index == partition;
        for ((_, number), book) in self
            .books
            .iter()
            .filter(|(key, book)| of_partition(key) && !book.is_gone)
        {
            let (state, number) = (&book.state, *number);
            let instance = &state.info.instance;
            for open in state.open.values() {
                let (instance, open) = (instance.clone(), open.clone());
                match open.kind {
                    OpenKind::Task { .. } => items.push(Recovered::Task { instance, number, open }),
                    OpenKind::Timer { .. } => items.push(Recovered::Timer { instance, number, open }),
                    OpenKind::Child { .. } => {}
                }
            }
            if !state.inbox.is_empty() {
                items.push(Recovered::Inbox {
                    instance: instance.clone(),
                    name: state.info.name.clone(),
                    bytes: 0,
                });
            }
        }
        let outbox = self
            .outbox
            .iter()
            .filter(|(_, item)| partition_of(&item.target, self.partitions) == partition);
        items.extend(outbox.map(|(at, item)| Recovered::Message {
            at: *at,
            item: item.clone(),
        }));
        items.iter().map(|item| format!("{item:?}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Medium, world};

    #[test]
    fn an_execution_that_begins_a_second_time_is_told() {
        let first = (0..).find_map(|seed| world::first_creation_of(&Config::new(seed, Medium::Mem)));
        let (partitions, mut group) = first.unwrap();
        let mut journal = Journal::new(partitions);
        journal.apply(&group).unwrap();
        let section = &mut group.sections[0];
        section.first_seq = journal.next_seq(section.partition.index);
        let commit = &mut section.commits[0];
        let Some(Change::Create(creation)) = &mut commit.change else {
            unreachable!("it creates an instance")
        };
        creation.replaces = Some(commit.number);
        commit.number = commit.number.next();
        assert_eq!(journal.apply(&group).unwrap_err().invariant, "ids");
    }
}
