//! The node's shell: moves inputs in and outputs out, one at a time, as the threads of the engine do.

use taskhub_core::commit::Change;
use taskhub_core::id::InstanceId;
use taskhub_engine::dispatcher::Event;
use taskhub_engine::group::Release;
use taskhub_engine::io::{Input, Output};
use taskhub_engine::worker::{TurnItem, TurnOutcome};
use taskhub_store::partition_of;

use super::work::JobKind;
use super::{Bug, Halt, ReplyTo, World};
use crate::Violation;
use crate::fault::Fault;

impl World {
    /// Queues an input for the partition of an instance.
    pub(super) fn send(&mut self, instance: &InstanceId, input: Input<ReplyTo>) {
        self.send_to(partition_of(instance, self.partitions), input);
    }

    /// Queues an input. A partition that is read anew while the others go on takes messages alone; whoever sent something else
    /// hears of the loss.
    pub(super) fn send_to(&mut self, index: u16, input: Input<ReplyTo>) {
        let is_kept = self.bug != Some(Bug::AwayLosesMessages) && matches!(input, Input::Message { .. });
        if self.node.away.contains(&index) && !is_kept {
            return;
        }
        if let Some(queue) = self.node.queues.get_mut(&index) {
            queue.push_back(input);
        }
    }

    pub(super) fn take_input(&mut self, index: u16) -> Result<(), Halt> {
        match self
            .node
            .queues
            .get_mut(&index)
            .and_then(std::collections::VecDeque::pop_front)
        {
            Some(input) => self.step_partition(index, input),
            None => Ok(()),
        }
    }

    pub(super) fn step_partition(&mut self, index: u16, input: Input<ReplyTo>) -> Result<(), Halt> {
        self.trace.line(|| format!("{} {index} < {input:?}", self.now));
        if self.node.is_idle && !input.adds_no_work() {
            if let Input::Request { to, .. } = input {
                self.give_up_request(to);
            }
            return Ok(());
        }
        if let Input::Turned {
            instance,
            fence,
            outcome,
        } = &input
            && !matches!(outcome, TurnOutcome::NeedsHistory)
            && self.node.turns_out.get(instance) == Some(fence)
        {
            self.node.turns_out.remove(instance);
        }
        let now = self.node_time();
        let Some(partition) = self.node.partitions.get_mut(&index) else {
            return Ok(());
        };
        let mut out = Vec::new();
        partition.step(input, now, &mut out);
        if partition.has_backlog() {
            partition.balance(now, &mut out);
        }
        self.carry_out(index, out)
    }

    pub(super) fn begin_turns(&mut self, index: u16) -> Result<(), Halt> {
        let now = self.node_time();
        let Some(partition) = self.node.partitions.get_mut(&index) else {
            return Ok(());
        };
        let mut out = Vec::new();
        partition.turns(now, usize::MAX, &mut out);
        partition.balance(now, &mut out);
        self.carry_out(index, out)
    }

    /// Does what a partition wants done: commits in order, messages behind them, turns last.
    pub(super) fn carry_out(&mut self, index: u16, out: Vec<Output<ReplyTo>>) -> Result<(), Halt> {
        let mut turns = Vec::new();
        for output in out {
            self.trace.line(|| format!("  {index} > {output:?}"));
            match output {
                Output::Commit { seq, commit } => {
                    let ends_turn = match &commit.change {
                        None => false,
                        Some(Change::Update(update)) => !update.events.is_empty(),
                        Some(Change::Create(_) | Change::Purge) => true,
                    };
                    if ends_turn {
                        self.node.turns_out.remove(&commit.instance);
                    }
                    if let Some(lease) = self.node.leases.get(&index) {
                        let epoch = lease.epoch;
                        let key = self.partition_key(index);
                        self.node.batch.push(&key, epoch, seq, commit);
                    }
                }
                Output::Fingerprints => {
                    let epoch = self.epoch_of(index);
                    self.fill_later(index, epoch, None);
                }
                Output::Load(instance) => {
                    let is_late = self.strikes(Fault::LoadDelayed);
                    let epoch = self.epoch_of(index);
                    self.later(is_late, JobKind::Load { index, epoch, instance });
                }
                Output::History {
                    instance,
                    fence,
                    execution,
                } => {
                    let is_late = self.strikes(Fault::HistoryDelayed);
                    self.later(
                        is_late,
                        JobKind::History {
                            instance,
                            fence,
                            execution,
                        },
                    );
                }
                Output::Turn(item) => turns.push(item),
                Output::Evict(instance) => {
                    self.tally.count(Fault::Evicted);
                    let key = self.partition_key(index);
                    self.node.evict(&key, &instance);
                }
                Output::Message { at, item } => {
                    let target = item.target.clone();
                    self.send(&target, Input::Message { at, item });
                }
                Output::Dispatch { seq, offer } => self.hold(index, seq, Release::Task(Event::Offer(offer)))?,
                Output::Withdraw { seq, key } => self.hold(index, seq, Release::Task(Event::Withdraw(key)))?,
                Output::Settled { seq, key } => self.hold(index, seq, Release::Task(Event::Settled(key)))?,
                Output::Reply { seq, to, reply } => {
                    self.hold(index, seq, Release::Reply(to, reply, Self::at(index, seq)))?;
                }
            }
        }
        for item in turns {
            self.turn_is_out(&item)?;
            self.run_turn(index, &item)?;
        }
        Ok(())
    }

    /// An instance's turn is out once at a time (R23).
    fn turn_is_out(&mut self, item: &TurnItem) -> Result<(), Violation> {
        let before = self.node.turns_out.insert(item.instance.clone(), item.fence);
        match before.filter(|before| *before != item.fence) {
            None => Ok(()),
            Some(before) => {
                let what = format!("`{}` is out under {before} and under {}", item.instance, item.fence);
                Err(Violation::new("R23", what))
            }
        }
    }
}
