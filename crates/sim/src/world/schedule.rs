//! The scheduler: what may happen next, and which of it does.

use std::time::Duration;

use taskhub_core::time::Timestamp;
use taskhub_engine::io::Input;
use taskhub_engine::supervision::Happening;

use super::work::Job;
use super::{Bug, Halt, START, World};
use crate::{Violation, lists};

/// Steps after which a simulation that does not come to rest is a failure.
const STEPS_MAX: u64 = 200_000;

/// What the scheduler may do next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Input(u16),
    Turns(u16),
    Tick(u16),
    Close,
    HandOver,
    Write,
    Job(usize),
    Request,
    Look,
    Order,
    Wake,
}

impl World {
    /// One move of the scheduler; false when nothing is left to do but to come to rest.
    pub(super) fn step(&mut self) -> Result<bool, Violation> {
        self.tally.steps += 1;
        if self.tally.steps > STEPS_MAX {
            return Err(Violation::new("liveness", "the simulation does not come to rest"));
        }
        match self.try_step() {
            Ok(goes_on) => Ok(goes_on),
            Err(Halt::Found(violation)) => Err(violation),
            Err(Halt::Crash) => self.crash().map(|()| true),
            Err(Halt::Reload) => self.give_up_group(None).map(|()| true),
        }
    }

    fn try_step(&mut self) -> Result<bool, Halt> {
        self.now = self.now.plus(Duration::from_micros(self.rng.u64(0..400)));
        self.strike()?;
        let moves = self.moves();
        let total: u32 = moves.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            return Ok(self.jump());
        }
        let mut drawn = self.rng.u32(..total);
        for (weight, next) in moves {
            if drawn < weight {
                self.make(next)?;
                break;
            }
            drawn -= weight;
        }
        Ok(true)
    }

    fn moves(&mut self) -> Vec<(u32, Move)> {
        let mut moves = Vec::new();
        let now = self.node_time();
        if self.has_order() {
            moves.push((8, Move::Order));
        }
        let wakes_at = self.node.supervision.wakes_at();
        if self.node.order.is_none() && wakes_at.is_some_and(|at| at <= self.elapsed()) {
            moves.push((8, Move::Wake));
        }
        let is_idle = self.node.is_idle;
        for (index, partition) in &self.node.partitions {
            let waits = self.node.queues.get(index).is_some_and(|queue| !queue.is_empty());
            if waits {
                moves.push((10, Move::Input(*index)));
            }
            if partition.has_ready() && !is_idle {
                moves.push((if waits { 1 } else { 8 }, Move::Turns(*index)));
            }
            if partition.next_tick().is_some_and(|at| self.ticks_from(at) <= now) && !is_idle {
                moves.push((6, Move::Tick(*index)));
            }
        }
        match &self.node.writing {
            Some(writing) if writing.not_before <= self.now => moves.push((6, Move::Write)),
            Some(_) => {}
            None if self.node.gathering.is_empty() => {}
            None => moves.push((4, Move::Close)),
        }
        if !self.node.batch.is_empty() {
            moves.push((self.round_weight, Move::HandOver));
        }
        let due = |(_, job): &(usize, &Job)| job.due <= self.now;
        moves.extend(
            self.jobs
                .iter()
                .enumerate()
                .filter(due)
                .map(|(index, _)| (5, Move::Job(index))),
        );
        if self.ops_left > 0 && self.next_request_at <= self.now {
            moves.push((3, Move::Request));
            moves.push((1, Move::Look));
        }
        moves
    }

    /// From when on a partition is told of something that is due.
    fn ticks_from(&self, due: Timestamp) -> Timestamp {
        match self.bug {
            Some(Bug::LateTicks) => due.plus(Duration::from_secs(2)),
            _ => due,
        }
    }

    fn make(&mut self, next: Move) -> Result<(), Halt> {
        match next {
            Move::Input(index) => self.take_input(index),
            Move::Turns(index) => self.begin_turns(index),
            Move::Tick(index) => self.step_partition(index, Input::Tick),
            Move::Close => self.close_group(),
            Move::HandOver => {
                self.hand_over();
                Ok(())
            }
            Move::Write => self.write_group(),
            Move::Job(index) => self.finish(index),
            Move::Request => {
                self.next_request();
                Ok(())
            }
            Move::Look => Ok(lists::agree(self)?),
            Move::Order => self.carry_out_order(),
            Move::Wake => {
                self.tell(Happening::Time);
                Ok(())
            }
        }
    }

    /// Nothing can happen now: time passes until something can.
    fn jump(&mut self) -> bool {
        // Nothing more comes of this process; the next one finds the store repaired.
        if self.node.is_damaged && self.ops_left == 0 {
            return false;
        }
        let jobs = self.jobs.iter().map(|job| job.due);
        let steady = self.node.steady.get();
        let ticks = self
            .node
            .partitions
            .values()
            .filter(|_| !self.node.is_idle)
            .filter_map(|partition| Some(self.now.plus(steady.until(self.ticks_from(partition.next_tick()?)))));
        let wakes = self.node.supervision.wakes_at().map(|at| START.plus(at));
        let writing = self.node.writing.iter().map(|writing| writing.not_before);
        let request = (self.ops_left > 0).then_some(self.next_request_at);
        let Some(next) = jobs.chain(ticks).chain(writing).chain(request).chain(wakes).min() else {
            return false;
        };
        self.now = self.now.max(next);
        self.trace.line(|| format!("{} jump", self.now));
        true
    }
}
