//! Group commit under the scheduler's hand: gathering, staging, sealing, and letting go what waited.

use taskhub_core::commit::{Change, Commit};
use taskhub_core::id::Seq;
use taskhub_core::time::Timestamp;
use taskhub_engine::attempt::{self, Attempt, Next};
use taskhub_engine::dispatcher::Event;
use taskhub_engine::io::{Input, Reply};
use taskhub_store::{Error, Group, Room, Section};

use super::{Bug, Halt, ReplyTo, World};
use crate::checks;
use crate::disk::Trouble;
use crate::fault::Fault;

/// A group on its way.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) group: Group,
    pub(super) is_staged: bool,
    /// Whether its sealing began, so that it may be durable whatever the store says.
    pub(super) is_sealing: bool,
    attempt: Attempt,
    pub(super) not_before: Timestamp,
}

/// An effect that waits for a commit (A36).
#[derive(Debug)]
pub(super) struct Held {
    partition: u16,
    seq: Seq,
    release: Release,
}

#[derive(Debug)]
pub(super) enum Release {
    Reply(ReplyTo, Reply),
    Task(Event),
}

impl World {
    /// Adds a commit to the group that is gathered.
    pub(super) fn gather(&mut self, index: u16, seq: Seq, commit: Commit) {
        if self.node.refuses {
            return;
        }
        let partition = self.partition_key(index);
        let Some(lease) = self.node.leases.get(&index) else {
            return;
        };
        self.node.gathered += 1;
        if let Some(last) = self.node.open.last_mut()
            && last.partition == partition
            && last.epoch == lease.epoch
        {
            last.commits.push(commit);
            return;
        }
        self.node.open.push(Section {
            partition,
            epoch: lease.epoch,
            first_seq: seq,
            commits: vec![commit],
        });
    }

    /// Takes what was gathered first, up to the limit of a group (A34).
    pub(super) fn close_group(&mut self) {
        let mut room = self.group_commits_max;
        let mut sections = Vec::new();
        while room > 0 && !self.node.open.is_empty() {
            let mut section = self.node.open.remove(0);
            if section.commits.len() > room {
                let rest = section.commits.split_off(room);
                let first_seq = Seq(section.first_seq.0 + room as u64);
                self.node.open.insert(
                    0,
                    Section {
                        first_seq,
                        commits: rest,
                        ..section.clone()
                    },
                );
            }
            room -= section.commits.len();
            sections.push(section);
        }
        self.trace.line(|| {
            let shown = sections.iter().map(|section| {
                format!(
                    "{}:{}+{}",
                    section.partition.index,
                    section.first_seq,
                    section.commits.len()
                )
            });
            format!("{} group {}", self.now, shown.collect::<Vec<_>>().join(" "))
        });
        self.node.writing = Some(Writing {
            group: Group { sections },
            is_staged: false,
            is_sealing: false,
            attempt: Attempt::new(self.elapsed()),
            not_before: self.now,
        });
    }

    /// Stages the group, or seals it if it is staged.
    pub(super) fn write_group(&mut self) -> Result<(), Halt> {
        match &self.node.writing {
            None => Ok(()),
            Some(writing) if writing.is_staged => self.seal(),
            Some(_) => self.stage(),
        }
    }

    fn stage(&mut self) -> Result<(), Halt> {
        let room = self.node.writing.as_ref().map(|writing| writing.group.room());
        if self.now < self.full_until && room == Some(Room::Free) {
            return self.refuse();
        }
        if self.strikes(Fault::GroupLost) {
            return Err(Halt::Reload);
        }
        let Some(writing) = &mut self.node.writing else {
            return Ok(());
        };
        let staged = self.disk.write(|writer| writer.stage(&writing.group));
        writing.is_staged = true;
        staged.map_err(|trouble| self.halt(trouble))?;
        if self.strikes(Fault::CrashInGroup) {
            return Err(Halt::Crash);
        }
        Ok(())
    }

    /// The store is full: the same group is tried again for a while (A43).
    fn refuse(&mut self) -> Result<(), Halt> {
        self.node.is_full = true;
        let (now, elapsed, is_idle) = (self.now, self.elapsed(), self.node.is_idle);
        let Some(writing) = &mut self.node.writing else {
            return Ok(());
        };
        match writing.attempt.answered(Err(&Error::Full), elapsed, is_idle) {
            Next::Again => {
                writing.not_before = now.plus(attempt::PAUSE);
                Ok(())
            }
            Next::Failed | Next::Durable => Err(Halt::Reload),
        }
    }

    fn seal(&mut self) -> Result<(), Halt> {
        if self.strikes(Fault::GroupLost) {
            return Err(Halt::Reload);
        }
        let is_unknown = self.strikes(Fault::GroupUnknown);
        if let Some(writing) = &mut self.node.writing {
            writing.is_sealing = true;
        }
        let sealed = self.disk.write(|writer| writer.seal());
        if self.bug != Some(Bug::FailedSealPasses) || !matches!(sealed, Err(Trouble::Store(_))) {
            sealed.map_err(|trouble| self.halt(trouble))?;
        }
        if is_unknown {
            return Err(Halt::Reload);
        }
        let Some(writing) = self.node.writing.take() else {
            return Ok(());
        };
        self.journal_group(&writing.group)?;
        self.node.failed_groups = 0;
        if writing.attempt.has_waited() && !self.node.is_idle {
            self.node.is_full = false;
        }
        for section in &writing.group.sections {
            let index = section.partition.index;
            let upto = Seq(section.first_seq.0 + section.commits.len() as u64 - 1);
            self.node.settled += section.commits.len() as u64;
            self.node.durable.insert(index, upto);
            if let Some(queue) = self.node.queues.get_mut(&index) {
                queue.push_back(Input::Durable(upto));
            }
        }
        self.trace.line(|| format!("{} durable", self.now));
        self.release()
    }

    /// Writes everything that was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Halt> {
        loop {
            match &self.node.writing {
                Some(writing) => {
                    self.now = self.now.max(writing.not_before);
                    self.write_group()?;
                }
                None if self.node.open.is_empty() => return Ok(()),
                None => self.close_group(),
            }
        }
    }

    /// Lets an effect go, now if its commit is durable, else when it is.
    pub(super) fn hold(&mut self, partition: u16, seq: Seq, release: Release) -> Result<(), Halt> {
        let is_durable = self.node.durable.get(&partition).is_some_and(|durable| seq <= *durable);
        if is_durable || self.bug == Some(Bug::EarlyRelease) {
            return self.let_go(release);
        }
        // What it waits for is thrown away.
        if self.node.refuses {
            if let Release::Reply(to, _) = release {
                self.give_up_request(to);
            }
            return Ok(());
        }
        self.node.held.push(Held {
            partition,
            seq,
            release,
        });
        Ok(())
    }

    /// Lets go what waited for commits that are durable now, each as early as its number allows.
    fn release(&mut self) -> Result<(), Halt> {
        let durable = &self.node.durable;
        let is_durable = |held: &mut Held| durable.get(&held.partition).is_some_and(|upto| held.seq <= *upto);
        let released: Vec<Held> = self.node.held.extract_if(.., is_durable).collect();
        for held in released {
            self.let_go(held.release)?;
        }
        Ok(())
    }

    fn let_go(&mut self, release: Release) -> Result<(), Halt> {
        match release {
            Release::Reply(to, reply) => Ok(self.answered(to, reply)?),
            Release::Task(event) => {
                if let Event::Offer(offer) = &event {
                    checks::offered(self, offer)?;
                }
                self.dispatch(event)
            }
        }
    }
}

/// The commits of a group up to the middle.
pub(super) fn half_group(group: &Group) -> Group {
    let commits: usize = group.sections.iter().map(|section| section.commits.len()).sum();
    let mut room = commits / 2;
    let mut sections = Vec::new();
    for section in &group.sections {
        let taken = room.min(section.commits.len());
        room -= taken;
        if taken > 0 {
            let commits = section.commits.iter().take(taken).cloned().collect();
            sections.push(Section {
                commits,
                ..section.clone()
            });
        }
    }
    Group { sections }
}

/// A group whose last commit lost what it opens and sends.
pub(super) fn half_commit(group: &Group) -> Group {
    let mut sections = group.sections.clone();
    if let Some(commit) = sections.last_mut().and_then(|section| section.commits.last_mut()) {
        commit.outbox.clear();
        if let Some(Change::Update(update)) = &mut commit.change {
            update.opened.clear();
            update.inbox_added.clear();
        }
    }
    Group { sections }
}
