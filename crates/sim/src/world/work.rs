//! What goes on outside the partitions: turns at workers, and activities.

use std::ops::Range;
use std::time::Duration;

use taskhub_core::action::TurnAnswer;
use taskhub_core::failure::Failure;
use taskhub_core::id::{Epoch, Fence, InstanceId, InstanceNumber};
use taskhub_core::message::Outcome;
use taskhub_core::time::Timestamp;
use taskhub_engine::dispatcher::{Event, Order, Token};
use taskhub_engine::io::Input;
use taskhub_engine::worker::{ActivityCall, TaskKey, TurnItem, TurnOutcome};
use taskhub_store::{ExecutionKey, partition_of};

use super::{Halt, ReplyTo, World};
use crate::Violation;
use crate::fault::Fault;
use crate::machine::SCRIPTED;
use crate::plan::{quoted, text};
use crate::scripted::Scripted;

/// Something that is under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) due: Timestamp,
    pub(super) kind: JobKind,
}

#[derive(Debug)]
pub(super) enum JobKind {
    Load {
        index: u16,
        epoch: Epoch,
        instance: InstanceId,
    },
    History {
        instance: InstanceId,
        fence: Fence,
        execution: ExecutionKey,
    },
    Fill {
        index: u16,
        epoch: Epoch,
        after: Option<InstanceNumber>,
    },
    /// What was read is on its way.
    Read {
        index: u16,
        epoch: Epoch,
        input: Box<Input<ReplyTo>>,
    },
    Answer {
        instance: InstanceId,
        fence: Fence,
        answer: Result<TurnAnswer, String>,
    },
    Activity {
        key: TaskKey,
        token: Token,
        outcome: Outcome,
    },
}

impl World {
    /// Has something done after a while, in microseconds.
    pub(super) fn after(&mut self, micros: Range<u64>, kind: JobKind) {
        let due = self.now.plus(Duration::from_micros(self.rng.u64(micros)));
        self.jobs.push(Job { due, kind });
    }

    /// Has something done soon, or late.
    pub(super) fn later(&mut self, is_late: bool, kind: JobKind) {
        self.after(if is_late { 100_000..3_000_000 } else { 0..500 }, kind);
    }

    /// What is under way is done.
    pub(super) fn finish(&mut self, position: usize) -> Result<(), Halt> {
        let job = self.jobs.remove(position);
        self.trace.line(|| format!("{} job {:?}", self.now, job.kind));
        match job.kind {
            JobKind::Load { index, epoch, instance } => self.load(index, epoch, instance),
            JobKind::History {
                instance,
                fence,
                execution,
            } => self.read_history(instance, fence, &execution),
            JobKind::Fill { index, epoch, after } => self.fill(index, epoch, after),
            JobKind::Read { index, epoch, input } => {
                if self.epoch_of(index) != epoch {
                    self.tally.count(Fault::StaleRead);
                }
                self.send_to(index, *input);
                Ok(())
            }
            JobKind::Answer {
                instance,
                fence,
                answer,
            } => {
                self.turn_is_answered(instance, fence, answer);
                Ok(())
            }
            JobKind::Activity { key, token, outcome } => {
                self.node.running.remove(&key);
                self.dispatch(Event::Done { key, token, outcome })
            }
        }
    }

    fn turn_is_answered(&mut self, instance: InstanceId, fence: Fence, answer: Result<TurnAnswer, String>) {
        let index = partition_of(&instance, self.partitions);
        if self.epoch_of(index) != fence.epoch {
            self.tally.count(Fault::StaleAnswer);
        }
        let outcome = match answer {
            Ok(answer) => TurnOutcome::Answer(answer),
            Err(reason) => TurnOutcome::Failed { reason },
        };
        self.send_to(
            index,
            Input::Turned {
                instance,
                fence,
                outcome,
            },
        );
    }

    /// Has a turn run: here and now, or at a worker whose answer comes later, twice, or never.
    pub(super) fn run_turn(&mut self, index: u16, item: &TurnItem) -> Result<(), Halt> {
        self.tally.turns += 1;
        let (instance, fence) = (item.instance.clone(), item.fence);
        let name = self
            .node
            .partitions
            .get(&index)
            .and_then(|partition| Some(partition.peek(&instance)?.name.clone()));
        if let Some(name) = name.as_ref().filter(|name| !self.node.offered.has(name)) {
            let what = format!("a turn of `{instance}` begins, and `{name}` does not run here");
            return Err(Violation::new("A51", what).into());
        }
        let is_scripted = name.is_some_and(|name| name.as_str() == SCRIPTED);
        if item.past.is_none() && self.strikes(Fault::HistoryDemanded) {
            self.node.evict(&item.partition, &instance);
            return self.step_partition(
                index,
                Input::Turned {
                    instance,
                    fence,
                    outcome: TurnOutcome::NeedsHistory,
                },
            );
        }
        let all = item.new_events.len();
        let shortest = Scripted::shortest(&item.new_events);
        let is_partial = is_scripted && shortest < all && self.strikes(Fault::PartialAnswer);
        let processed = if is_partial { self.rng.usize(shortest..all) } else { all };
        let panics = self.strikes(Fault::TurnPanicked);
        let outcome = if is_scripted && panics {
            self.node.evict(&item.partition, &instance);
            let reason = "the code broke".to_owned();
            TurnOutcome::Failed { reason }
        } else if is_scripted {
            self.node.scripted.run(item, processed)
        } else if panics {
            self.node.library.turn_that_panics(item)
        } else {
            self.node.library.0.turn(item)
        };
        let is_remote = self.rng.u32(..100) < self.remote_percent;
        match outcome {
            TurnOutcome::Answer(answer) if is_remote => {
                self.answer_later(&instance, fence, answer);
                Ok(())
            }
            outcome => self.step_partition(
                index,
                Input::Turned {
                    instance,
                    fence,
                    outcome,
                },
            ),
        }
    }

    fn answer_later(&mut self, instance: &InstanceId, fence: Fence, answer: TurnAnswer) {
        let kind = |answer| JobKind::Answer {
            instance: instance.clone(),
            fence,
            answer,
        };
        if self.strikes(Fault::AnswerLost) {
            self.after(500_000..2_000_000, kind(Err("the worker is gone".to_owned())));
            return;
        }
        if self.strikes(Fault::AnswerDoubled) {
            self.after(0..1_000_000, kind(Ok(answer.clone())));
        }
        let micros = if self.strikes(Fault::AnswerDelayed) {
            100_000..3_000_000
        } else {
            0..3_000
        };
        self.after(micros, kind(Ok(answer)));
    }

    /// Tells the dispatcher something and does what it says.
    pub(super) fn dispatch(&mut self, event: Event) -> Result<(), Halt> {
        let mut orders = Vec::new();
        self.node.dispatcher.step(event, &mut orders);
        for order in orders {
            self.trace.line(|| format!("  dispatcher > {order:?}"));
            match order {
                Order::Result { key, outcome } => self.send_to(key.partition.index, Input::TaskDone { key, outcome }),
                Order::Redeliver { key, deliveries } => {
                    self.send_to(key.partition.index, Input::TaskRedelivered { key, deliveries });
                }
                Order::Run { call, token } => self.run_activity(&call, token)?,
            }
        }
        Ok(())
    }

    fn run_activity(&mut self, call: &ActivityCall, token: Token) -> Result<(), Violation> {
        let key = call.key.clone();
        if let Some(before) = self.node.running.insert(key.clone(), token) {
            let what = format!("{key:?} runs under the tokens {before} and {token}");
            return Err(Violation::new("R185", what));
        }
        if self.node.running.len() > self.node.activities_max {
            let (running, most) = (self.node.running.len(), self.node.activities_max);
            return Err(Violation::new(
                "P8",
                format!("{running} activities run, and {most} may"),
            ));
        }
        if self.strikes(Fault::ActivityGone) {
            self.node.lost_activities += 1;
            return Ok(());
        }
        let is_slow = self.rng.u8(..4) == 0;
        let micros = if is_slow { 0..1_500_000 } else { 0..20_000 };
        let outcome = self.perform(call);
        if self.strikes(Fault::ActivityTwice) {
            let again = self.perform(call);
            let kind = JobKind::Activity {
                key: key.clone(),
                token,
                outcome: again,
            };
            self.after(micros.clone(), kind);
        }
        self.after(micros, JobKind::Activity { key, token, outcome });
        Ok(())
    }

    /// Each run of an activity gives another result, so that one that counts twice is seen.
    fn perform(&mut self, call: &ActivityCall) -> Outcome {
        self.activity_runs += 1;
        let failed = |kind: &str| Outcome::Failed(Box::new(Failure::new(kind, "the plan wants it so")));
        match call.name.as_str() {
            "broken" => failed("Broken"),
            "flaky" if self.rng.u8(..3) == 0 => failed("Flaky"),
            _ => {
                let result = format!("{}~{}", text(call.input.as_ref()), self.activity_runs);
                Outcome::Completed(Some(quoted(&result)))
            }
        }
    }
}
