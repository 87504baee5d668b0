//! Beginning turns, and what becomes of their answers.

use super::{
    Destination, ExecutionKey, Fence, InstanceId, InstanceState, Output, Partition, PartitionKey, Stall, Timestamp,
    TurnItem, TurnOutcome, control, limits, turn,
};
use taskhub_core::event::HistoryEvent;
use taskhub_core::failure;
use taskhub_core::refusal::Refusal;

/// Reads of a history for one turn that may come out too short, as one does that was overtaken by commits.
/// More mean that the store has lost some of it.
const GAPS_MAX: u32 = 8;

impl<R: Destination> Partition<R> {
    /// Begins turns that are ready, so many at most.
    pub fn turns(&mut self, now: Timestamp, most: usize, out: &mut Vec<Output<R>>) {
        let now = self.advance(now);
        for _ in 0..most.min(self.ready.len()) {
            let Some(instance) = self.ready.pop_front() else {
                return;
            };
            self.at = Some(instance.clone());
            let counter = self.fence_counter;
            let Some(slot) = self.memory.get_mut(&instance) else {
                continue;
            };
            slot.is_queued = false;
            // It may have been replaced since it was queued.
            let is_waiting = slot.is_offered && slot.turn.is_none() && slot.retry_at.is_none_or(|at| at <= now);
            let Some(state) = slot.state.as_ref().filter(|state| is_waiting && state.is_ready(now)) else {
                continue;
            };
            if let Some(reason) = over_limit(state) {
                self.stall_for_good(&instance, reason, out);
                continue;
            }
            let fence = Fence {
                epoch: self.lease.epoch,
                counter,
            };
            let turn = turn::begin(state, fence, now);
            let past = (turn.expected_history == 0).then(Vec::new);
            let item = turn_item(&self.key, instance, &turn, past);
            slot.retry_at = None;
            slot.gaps = 0;
            slot.turn = Some(turn);
            self.fence_counter += 1;
            self.counts.turns += 1;
            out.push(Output::Turn(item));
        }
    }

    pub(super) fn turned(
        &mut self,
        instance: &InstanceId,
        fence: Fence,
        outcome: TurnOutcome,
        out: &mut Vec<Output<R>>,
    ) {
        let ids = &mut self.ids;
        let slot = self.memory.get_mut(instance);
        let current = slot.and_then(|slot| {
            let is_current = slot.turn.as_ref().is_some_and(|turn| turn.fence == fence);
            if is_current { Some(slot) } else { None }
        });
        let (Some(slot), outcome) = (current, outcome) else {
            self.counts.dropped += 1;
            return;
        };
        let (Some(state), Some(turn)) = (&slot.state, &slot.turn) else {
            return;
        };
        match outcome {
            TurnOutcome::Out => {}
            TurnOutcome::NeedsHistory => {
                self.counts.replays += 1;
                out.push(Output::History {
                    instance: instance.clone(),
                    fence,
                    execution: execution_key(&self.key, state),
                });
            }
            TurnOutcome::Failed { reason } => {
                slot.turn = None;
                self.counts.failed_turns += 1;
                self.stall(instance, reason, out);
            }
            TurnOutcome::Answer(answer) => match turn::finish(state, turn, answer, ids, self.last_now) {
                Ok(commit) => {
                    slot.turn = None;
                    self.commit(commit, None, out);
                }
                Err(refusal @ Refusal::PayloadTooLarge { .. }) => {
                    // It would ask for as much again.
                    slot.turn = None;
                    self.counts.failed_turns += 1;
                    out.push(Output::Evict(instance.clone()));
                    self.stall_for_good(
                        instance,
                        format!("{refusal}; schedule less in one turn, or terminate the instance"),
                        out,
                    );
                }
                Err(refusal) => {
                    // Its token was right, so the state has moved on without the turn being taken back: that
                    // is put down and tried again rather than waited for.
                    slot.turn = None;
                    self.counts.failed_turns += 1;
                    self.stall(instance, format!("cannot apply its turn: {refusal}"), out);
                }
            },
        }
    }

    /// Sends a turn out again, now with its history (R27).
    pub(super) fn take_history(
        &mut self,
        instance: &InstanceId,
        fence: Fence,
        events: Vec<HistoryEvent>,
        out: &mut Vec<Output<R>>,
    ) {
        let Some(slot) = self.memory.get(instance) else { return };
        let (Some(state), Some(turn)) = (&slot.state, &slot.turn) else {
            return;
        };
        if turn.fence != fence {
            return;
        }
        let wanted = turn.expected_history as usize;
        let found = events.len();
        if let Some(past) = slot.past(events, wanted) {
            out.push(Output::Turn(turn_item(&self.key, instance.clone(), turn, Some(past))));
            return;
        }
        let execution = execution_key(&self.key, state);
        let Some(slot) = self.memory.get_mut(instance) else {
            return;
        };
        slot.gaps += 1;
        if slot.gaps < GAPS_MAX {
            // Read before the last of it was durable, and shown after that was trimmed from memory.
            out.push(Output::History {
                instance: instance.clone(),
                fence,
                execution,
            });
        } else {
            slot.turn = None;
            self.counts.failed_turns += 1;
            let reason = format!("its history should have {wanted} events, but the store has {found}");
            self.stall(instance, reason, out);
        }
    }

    /// Puts down that a turn failed, and when it is tried again (R184).
    pub(super) fn stall(&mut self, instance: &InstanceId, reason: String, out: &mut Vec<Output<R>>) {
        let now = self.last_now;
        let reason = failure::limited_text(reason);
        let is_held = self.held.contains(instance);
        let Some(state) = self.state(instance).filter(|state| state.is_live()) else {
            return;
        };
        let earlier = state.info.stalled.as_deref();
        let since = earlier.map_or(now, |stall| stall.since);
        let counted = earlier.map_or(1, |stall| stall.attempts + 1);
        let attempts = if is_held {
            counted.max(limits::DELIVERIES_MAX)
        } else {
            counted
        };
        tracing::warn!(hub = %self.key.hub, %instance, attempts, reason, "a turn failed");
        let stall = Stall {
            since,
            reason,
            attempts,
        };
        let retry_at = (!stall.is_final()).then(|| now.plus(crate::backoff(attempts)));
        let commit = control::stall(state, Some(stall), now);
        match retry_at {
            Some(at) => self.timers.add_ready(instance.clone(), at),
            None => {
                self.held.insert(instance.clone());
            }
        }
        if let Some(slot) = self.memory.get_mut(instance) {
            slot.retry_at = retry_at;
        }
        self.commit(commit, None, out);
    }

    pub(super) fn stall_for_good(&mut self, instance: &InstanceId, reason: String, out: &mut Vec<Output<R>>) {
        self.held.insert(instance.clone());
        self.stall(instance, reason, out);
    }
}

/// The execution whose history a turn continues.
fn execution_key(partition: &PartitionKey, state: &InstanceState) -> ExecutionKey {
    ExecutionKey {
        partition: partition.clone(),
        number: state.number,
        ordinal: state.info.ordinal,
    }
}

/// What a worker is shown of a turn; without the history, unless it is known or was asked for (R27).
fn turn_item(
    partition: &PartitionKey,
    instance: InstanceId,
    turn: &turn::Turn,
    past: Option<Vec<HistoryEvent>>,
) -> TurnItem {
    TurnItem {
        partition: partition.clone(),
        instance,
        execution: turn.execution,
        fence: turn.fence,
        past_events: turn.expected_history,
        past,
        new_events: turn.events.clone(),
    }
}

/// Why an instance may not grow any more (R172).
fn over_limit(state: &InstanceState) -> Option<String> {
    let events = state.history_events >= limits::HISTORY_EVENTS_MAX;
    let bytes = state.history_bytes >= limits::HISTORY_BYTES_MAX;
    (events || bytes).then(|| {
        let (events, bytes) = (state.history_events, state.history_bytes);
        format!(
            "its history has reached the limit with {events} events and {bytes} bytes; continue as new earlier, \
            or terminate the instance"
        )
    })
}
