//! The test hub at work: what is due happens, messages arrive, turns run, commits are applied.

use std::sync::Arc;
use std::time::Duration;

use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::commit::{Change, Commit, Open, OpenKind, Update};
use taskhub_core::control;
use taskhub_core::failure::NON_DETERMINISM;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{Epoch, Fence, InstanceId, InstanceNumber, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxRef, Outcome};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::Stall;
use taskhub_core::time::Timestamp;
use taskhub_core::turn::{self, Turn};
use taskhub_engine::worker::{ActivityCall, Cancellation, TaskKey, TurnItem, TurnOutcome, Worker};

use super::{ActivityRecord, Due, Kept, TestHub, committed, fake};
use crate::activity::timed_out;
use crate::replay::Answered;
use crate::retry::take_attempt;
use crate::worker::{check, failed};

/// Turns of one call of `run`; a test that needs more runs for ever.
const TURNS_MAX: usize = 1_000_000;

impl TestHub {
    /// Runs until nothing is left to do; whenever all wait, the clock jumps to what is due next.
    ///
    /// # Panics
    ///
    /// If it never ends: run an endless orchestration with [`TestHub::advance`].
    pub fn run(&mut self) {
        let mut turns = self.settle();
        while let Some(next) = self.next_due() {
            self.now = self.now.max(next);
            turns += self.settle();
            assert!(
                turns < TURNS_MAX,
                "the instances never become idle; use `advance` for instances that never end"
            );
        }
    }

    /// Runs all that can run without moving the clock, and tells how many turns that took.
    ///
    /// # Panics
    ///
    /// If it never ends.
    pub fn settle(&mut self) -> usize {
        let mut turns = 0;
        loop {
            self.happen();
            let Some(id) = self.touched.pop_first() else {
                return turns;
            };
            if self
                .instances
                .get(&id)
                .is_some_and(|kept| may_run(&kept.state, self.now))
            {
                self.turn(&id);
                turns += 1;
                assert!(turns < TURNS_MAX, "the instances never become idle at {}", self.now);
            }
        }
    }

    /// Moves the clock, running all that is due on the way.
    ///
    /// # Panics
    ///
    /// If it never ends.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now.plus(time);
        self.settle();
        while let Some(next) = self.next_due().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// When something that still matters is due.
    fn next_due(&mut self) -> Option<Timestamp> {
        while let Some((key, due)) = self.due.first_key_value() {
            if self.is_wanted(due) {
                return Some(key.0);
            }
            self.due.pop_first();
        }
        None
    }

    pub(super) fn is_wanted(&self, due: &Due) -> bool {
        match due {
            Due::Timer {
                instance,
                number,
                occurrence,
            }
            | Due::Result {
                instance,
                number,
                occurrence,
                ..
            } => self
                .owner(instance, *number)
                .is_some_and(|state| state.open.contains_key(occurrence)),
            Due::Start(instance) => self.instances.get(instance).is_some_and(|kept| kept.state.is_live()),
        }
    }

    fn owner(&self, instance: &InstanceId, number: InstanceNumber) -> Option<&InstanceState> {
        let state = &self.instances.get(instance)?.state;
        (state.number == number).then_some(state)
    }

    /// Delivers messages and everything that is due.
    fn happen(&mut self) {
        loop {
            if let Some(item) = self.outbox.pop_front() {
                self.counter += 1;
                let from = OutboxRef {
                    partition: 0,
                    seq: Seq(self.counter),
                    index: 0,
                };
                let state = self.instances.get(&item.target).map(|kept| &kept.state);
                let commit = control::receive(state, &item, from, &mut self.ids, self.now);
                self.apply(commit);
                continue;
            }
            let is_due = self.due.first_key_value().is_some_and(|((at, _), _)| *at <= self.now);
            let Some((_, due)) = is_due.then(|| self.due.pop_first()).flatten() else {
                return;
            };
            self.take_due(due);
        }
    }

    fn take_due(&mut self, due: Due) {
        let commit = match due {
            Due::Timer {
                instance,
                number,
                occurrence,
            } => {
                let state = self.owner(&instance, number);
                state.and_then(|state| control::fire_timers(state, &[occurrence], self.now))
            }
            Due::Result {
                instance,
                number,
                occurrence,
                outcome,
            } => {
                let state = self.owner(&instance, number);
                state.and_then(|state| control::complete_task(state, occurrence, outcome, self.now))
            }
            Due::Start(instance) => {
                self.touched.insert(instance);
                None
            }
        };
        self.apply_if_any(commit);
    }

    pub(super) fn apply(&mut self, commit: Commit) {
        self.touched.insert(commit.instance.clone());
        match &commit.change {
            Some(Change::Create(creation)) => {
                let state = InstanceState::created(commit.number, creation);
                if let Some(at) = state.starts_at() {
                    self.plan(at, Due::Start(commit.instance.clone()));
                }
                let kept = Kept {
                    state,
                    history: Vec::new(),
                    earlier: Vec::new(),
                };
                self.instances.insert(commit.instance.clone(), kept);
            }
            Some(Change::Update(update)) => self.update(&commit, update),
            Some(Change::Purge) => {
                self.instances.remove(&commit.instance);
            }
            None => {}
        }
        self.outbox.extend(commit.outbox);
    }

    fn update(&mut self, commit: &Commit, update: &Update) {
        let Some(kept) = self.instances.get_mut(&commit.instance) else {
            unreachable!("an update is made from an instance that exists");
        };
        kept.history.extend(update.events.iter().cloned());
        kept.state.apply(commit);
        if update.continued.is_some() {
            kept.earlier.push(std::mem::take(&mut kept.history));
        }
        for open in &update.opened {
            self.open(commit, open);
        }
    }

    fn open(&mut self, commit: &Commit, open: &Open) {
        let (instance, number, occurrence) = (commit.instance.clone(), commit.number, open.occurrence);
        match &open.kind {
            // One millisecond late, as on a real hub (R45).
            OpenKind::Timer { fire_at } => {
                self.plan(
                    fire_at.fires_at().max(self.now),
                    Due::Timer {
                        instance,
                        number,
                        occurrence,
                    },
                );
            }
            OpenKind::Task {
                name,
                version,
                input,
                tags,
                ..
            } => {
                let (at, input) = (self.now, input.clone());
                let record = ActivityRecord {
                    instance: instance.clone(),
                    name: name.to_string(),
                    input,
                    at,
                    attempt: take_attempt(&mut tags.clone()),
                };
                self.calls.push(record.clone());
                let (outcome, time) = if let Some(fake) = self.fakes.get_mut(&FoldedName::from(name)) {
                    let done = fake.call(record.input.as_ref());
                    let entry = self.registry.find_activity(name);
                    match entry.and_then(|entry| entry.options.timeout) {
                        Some(timeout) if timeout < fake.time => {
                            (Outcome::Failed(Box::new(timed_out(name.as_str(), timeout))), timeout)
                        }
                        _ => (done, fake.time),
                    }
                } else {
                    let partition = self.partition.clone();
                    let call = ActivityCall {
                        key: TaskKey {
                            partition,
                            number,
                            occurrence,
                            instance: instance.clone(),
                        },
                        event_id: open.event_id,
                        name: name.clone(),
                        version: version.clone(),
                        input: record.input,
                        tags: tags.clone(),
                        delivery: 1,
                        cancellation: Cancellation::default(),
                    };
                    (fake::perform(&self.registry, call), Duration::ZERO)
                };
                self.plan(
                    self.now.plus(time),
                    Due::Result {
                        instance,
                        number,
                        occurrence,
                        outcome,
                    },
                );
            }
            OpenKind::Child { .. } => {}
        }
    }

    fn plan(&mut self, at: Timestamp, due: Due) {
        self.counter += 1;
        self.due.insert((at, self.counter), due);
    }

    fn turn(&mut self, id: &InstanceId) {
        self.counter += 1;
        let fence = Fence {
            epoch: Epoch(1),
            counter: self.counter,
        };
        let turn = turn::begin(self.state(id), fence, self.now);
        let answer = self.answer(id, &turn);
        let Some(Kept { state, .. }) = self.instances.get(id) else {
            unreachable!("a turn is of an instance that exists");
        };
        let (ids, now) = (&mut self.ids, self.now);
        let made = answer.and_then(|answer| match turn::finish(state, &turn, answer, ids, now) {
            // As the engine has it.
            Err(refusal @ Refusal::PayloadTooLarge { .. }) => {
                self.worker.evict(&self.partition, id);
                Err(format!(
                    "{refusal}; schedule less in one turn, or terminate the instance"
                ))
            }
            made => Ok(committed(made)),
        });
        let commit = made.unwrap_or_else(|reason| {
            let stall = Stall {
                since: now,
                reason,
                attempts: 1,
            };
            control::stall(state, Some(stall), now)
        });
        self.apply(commit);
    }

    fn answer(&mut self, id: &InstanceId, turn: &Turn) -> Result<TurnAnswer, String> {
        let mut item = TurnItem {
            partition: self.partition.clone(),
            instance: id.clone(),
            execution: turn.execution,
            fence: turn.fence,
            past_events: turn.expected_history,
            past: (turn.expected_history == 0).then(Vec::new),
            new_events: Arc::clone(&turn.events),
        };
        let mut outcome = self.worker.turn(&item);
        if matches!(outcome, TurnOutcome::NeedsHistory) {
            item.past = Some(self.history(id).to_vec());
            outcome = self.worker.turn(&item);
        }
        match outcome {
            TurnOutcome::Answer(answer) if self.checks_replay => Ok(self.checked(id, &item, answer)),
            TurnOutcome::Answer(answer) => Ok(answer),
            TurnOutcome::Failed { reason } => Err(reason),
            TurnOutcome::NeedsHistory | TurnOutcome::Out => unreachable!("the worker is ours and has the history"),
        }
    }

    /// The answer, or one that fails the instance because a replay gives another (A28).
    fn checked(&mut self, id: &InstanceId, item: &TurnItem, mut answer: TurnAnswer) -> TurnAnswer {
        let (actions, custom_status) = (std::mem::take(&mut answer.actions), answer.custom_status.take());
        let has_diverged = actions.iter().any(is_divergence);
        let mut answered = Answered { actions, custom_status };
        if let Err(failure) = check(&self.registry, self.history(id), &item.new_events, &answered)
            && !has_diverged
        {
            self.worker.evict(&item.partition, id);
            answered = failed(failure);
        }
        answer.actions = answered.actions;
        answer.custom_status = answered.custom_status;
        answer
    }
}

fn may_run(state: &InstanceState, now: Timestamp) -> bool {
    state.is_ready(now) && state.info.stalled.is_none()
}

fn is_divergence(action: &Action) -> bool {
    match &action.kind {
        ActionKind::CompleteOrchestration(Completion::Failed(failure)) => failure.error_type == NON_DETERMINISM,
        _ => false,
    }
}
