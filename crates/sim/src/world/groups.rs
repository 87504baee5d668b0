//! Group commit under the scheduler's hand: the engine's own values gather, close and search; here is what a store, and a process
//! that ends, make of it.

use std::sync::Arc;

use taskhub_core::commit::Change;
use taskhub_core::id::{InstanceId, Seq};
use taskhub_core::time::Timestamp;
use taskhub_engine::dispatcher::Event;
use taskhub_engine::group::{At, HandedOver, Release};
use taskhub_engine::io::Input;
use taskhub_engine::writing::{Failure, Next, Told, Writing, Written};
use taskhub_store::{Error, Extent, Group, Room, Section};

use super::lives::is_passing;
use super::{Bug, Halt, ReplyTo, World};
use crate::checks;
use crate::disk::Trouble;
use crate::fault::Fault;

/// Number of the one hub.
pub(super) const HUB: u32 = 0;

/// A group on its way.
#[derive(Debug)]
pub(super) struct Offered {
    writing: Writing<ReplyTo>,
    pub(super) is_staged: bool,
    /// Whether its sealing began, so that it may be durable whatever the store says.
    is_sealing: bool,
    pub(super) not_before: Timestamp,
}

impl Offered {
    /// What may be there after a crash, and whether it may be durable.
    pub(super) fn doubt(&self) -> (Arc<Group>, bool) {
        (Arc::clone(self.writing.offered()), self.is_sealing)
    }
}

impl World {
    /// Hands over what a round has made.
    pub(super) fn hand_over(&mut self) {
        let batch = self.node.batch.take();
        if batch.is_empty() {
            return;
        }
        match self.node.gathering.hand_over(batch) {
            HandedOver::TurnedAway(callers) => self.displace(callers),
            HandedOver::Waiting(_) | HandedOver::Closed => {}
        }
    }

    fn displace(&mut self, callers: Vec<ReplyTo>) {
        for to in callers {
            self.displace_request(to);
        }
    }

    /// Throws away what a round has made and not handed over.
    pub(super) fn forget_round(&mut self) {
        let callers = self.node.batch.take().turn_away();
        self.displace(callers);
    }

    /// Takes the next group (A34).
    pub(super) fn close_group(&mut self) -> Result<(), Halt> {
        let Some(taken) = self.node.gathering.take() else {
            return Ok(());
        };
        self.trace.line(|| {
            let shown = taken.group().sections.iter().map(|section| {
                format!(
                    "{}:{}+{}",
                    section.partition.index,
                    section.first_seq,
                    section.commits.len()
                )
            });
            format!("{} group {}", self.now, shown.collect::<Vec<_>>().join(" "))
        });
        let now = self.elapsed();
        let next = Writing::begin(taken, &mut self.node.ledger, now);
        self.go_on(next)
    }

    /// Does what the value says is next.
    fn go_on(&mut self, next: Next<ReplyTo>) -> Result<(), Halt> {
        match next {
            Next::Offer(writing, pause) => {
                self.node.writing = Some(Offered {
                    writing,
                    is_staged: false,
                    is_sealing: false,
                    not_before: self.now.plus(pause),
                });
                Ok(())
            }
            Next::Durable(written) => self.release(written),
            Next::Failed(failure) => {
                self.trace.line(|| format!("{} failed {:?}", self.now, failure.error));
                self.give_up_group(Some(failure)).map_err(Halt::Found)
            }
        }
    }

    /// Stages what is offered, or seals it if it is staged.
    pub(super) fn write_group(&mut self) -> Result<(), Halt> {
        match &self.node.writing {
            None => Ok(()),
            Some(offered) if offered.is_staged => self.seal(),
            Some(_) => self.stage(),
        }
    }

    fn stage(&mut self) -> Result<(), Halt> {
        let Some(offered) = &mut self.node.writing else {
            return Ok(());
        };
        let group = Arc::clone(offered.writing.offered());
        if self.now < self.full_until && group.room() == Room::Free {
            return self.answer(Err(Error::Full));
        }
        if self.strikes(Fault::GroupLost) {
            return self.answer(Err(lost()));
        }
        if let Some(error) = self.refusal(&group) {
            return self.answer(Err(error));
        }
        if let Err(trouble) = self.disk.write(|writer| writer.stage(&group)) {
            return self.trouble(trouble);
        }
        if let Some(offered) = &mut self.node.writing {
            offered.is_staged = true;
        }
        if self.strikes(Fault::CrashInGroup) {
            return Err(Halt::Crash);
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Halt> {
        if self.strikes(Fault::GroupLost) {
            return self.answer(Err(lost()));
        }
        let is_unknown = self.strikes(Fault::GroupUnknown);
        if let Some(offered) = &mut self.node.writing {
            offered.is_sealing = true;
        }
        let sealed = self.disk.write(|writer| writer.seal());
        let passes = self.bug == Some(Bug::FailedSealPasses) && matches!(sealed, Err(Trouble::Store(_)));
        if let Err(trouble) = sealed
            && !passes
        {
            return self.trouble(trouble);
        }
        self.answer(if is_unknown { Err(lost()) } else { Ok(()) })
    }

    /// The store fails. That the partitions are another node's by now is an answer like others.
    fn trouble(&mut self, trouble: Trouble) -> Result<(), Halt> {
        match trouble {
            Trouble::Store(error @ Error::Fenced { .. }) if self.node.is_fenced => self.answer(Err(error)),
            // What the disk refused. The store is opened again, which rolls back what was staged.
            Trouble::Store(error) if is_passing(&error) => self.answer(Err(lost())),
            trouble => Err(self.halt(trouble)),
        }
    }

    /// Why the store refuses a group: something of an instance cannot be written.
    fn refusal(&mut self, group: &Group) -> Option<Error> {
        if self.is_calm {
            return None;
        }
        let commits: Vec<_> = group.sections.iter().flat_map(|section| &section.commits).collect();
        let existing = commits
            .iter()
            .filter(|commit| matches!(commit.change, Some(Change::Update(_))))
            .map(|commit| commit.instance.clone());
        let existing: Vec<InstanceId> = existing.collect();
        if self.node.damaged.is_none()
            && !existing.is_empty()
            && self.strikes(Fault::CommitRefused)
            && let Some(instance) = self.rng.choice(existing)
        {
            let extent = if self.rng.bool() { Extent::Rows } else { Extent::Pages };
            self.node.damaged = Some((instance, extent));
        }
        let (instance, extent) = self.node.damaged.as_ref()?;
        let is_refused = commits.iter().any(|commit| commit.instance == *instance);
        is_refused.then(|| Error::Corrupt {
            place: format!("instance `{instance}`"),
            what: "it was damaged on purpose".to_owned(),
            extent: *extent,
        })
    }

    /// The store has answered.
    fn answer(&mut self, answer: Result<(), Error>) -> Result<(), Halt> {
        let Some(offered) = self.node.writing.take() else {
            return Ok(());
        };
        match &answer {
            Ok(()) => self.journal_group(offered.writing.offered())?,
            Err(Error::Full) => self.node.is_full = true,
            Err(_) => {}
        }
        if answer.is_ok() && offered.writing.has_waited() && !self.node.is_idle {
            self.node.is_full = false;
        }
        // A part of it may be there, though nobody can know; a store that refuses has done nothing.
        self.in_doubt = answer.is_err().then(|| offered.doubt());
        let (elapsed, is_idle) = (self.elapsed(), self.node.is_idle);
        let next = offered
            .writing
            .answered(answer, &mut self.node.ledger, elapsed, is_idle);
        if let Next::Offer(..) = next {
            self.in_doubt = None;
        }
        self.go_on(next)
    }

    /// Writes everything that was handed over.
    pub(super) fn flush(&mut self) -> Result<(), Halt> {
        loop {
            match &self.node.writing {
                Some(offered) => {
                    self.now = self.now.max(offered.not_before);
                    self.write_group()?;
                }
                None if self.node.gathering.is_empty() => return Ok(()),
                None => self.close_group()?,
            }
        }
    }

    /// Lets an effect go, now if its commit is durable, else behind what the round hands over.
    pub(super) fn hold(&mut self, partition: u16, seq: Seq, release: Release<ReplyTo>) -> Result<(), Halt> {
        let served = self.node.partitions.get(&partition);
        let is_durable = served.is_some_and(|partition| seq <= partition.durable());
        if is_durable || self.bug == Some(Bug::EarlyRelease) {
            return self.let_go(release);
        }
        self.node.batch.hold(release);
        Ok(())
    }

    /// A commit of the hub.
    pub(super) fn at(partition: u16, seq: Seq) -> At {
        At {
            hub: HUB,
            partition,
            seq,
        }
    }

    /// Lets go what waited for a group.
    fn release(&mut self, written: Written<ReplyTo>) -> Result<(), Halt> {
        self.trace.line(|| format!("{} durable", self.now));
        self.node.failed_groups = 0;
        let _on = self.node.gathering.begin_release();
        for (_, releases) in written.releases {
            for release in releases {
                self.let_go(release)?;
            }
        }
        for at in written.upto {
            if let Some(queue) = self.node.queues.get_mut(&at.partition) {
                queue.push_back(Input::Durable(at.seq));
            }
        }
        self.node.gathering.end_release();
        self.node.gathering.end(&written.tickets);
        Ok(())
    }

    fn let_go(&mut self, release: Release<ReplyTo>) -> Result<(), Halt> {
        match release {
            Release::Reply(to, reply, _) => Ok(self.answered(to, reply)?),
            Release::Task(event) => {
                if let Event::Offer(offer) = &event {
                    checks::offered(self, offer)?;
                }
                self.dispatch(event)
            }
        }
    }

    /// Callers hear what became of their commits, as far as that is certain.
    pub(super) fn settle_failure(&mut self, failure: Option<Failure<ReplyTo>>) -> Result<(), crate::Violation> {
        let discarded = self.node.gathering.discard([HUB]);
        if self.bug == Some(Bug::AcceptsAfterFailure) {
            self.node.gathering.accept(HUB);
        }
        let Some(failure) = failure else {
            for batch in discarded {
                self.displace(batch.turn_away());
            }
            return Ok(());
        };
        self.node.is_damaged |= failure.is_hopeless;
        if let Some((_, broken)) = failure.blamed.clone() {
            self.blame(broken.instance, &broken.what, broken.by);
        }
        self.node.gathering.end(&failure.tickets);
        for (to, told) in failure.settle(discarded, &mut self.node.ledger) {
            match told {
                Told::Answer(reply) => self.answered(to, reply)?,
                Told::Refused(_) | Told::Displaced => self.displace_request(to),
            }
        }
        Ok(())
    }
}

/// A failure after which nobody knows what was done.
fn lost() -> Error {
    Error::Unknown {
        source: "the simulation lost it".into(),
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
