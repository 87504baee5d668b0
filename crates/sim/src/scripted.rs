//! A worker that runs plans directly over history events: live where it can, by replay where it must.

use std::collections::BTreeMap;

use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::{Epoch, ExecutionId, InstanceId};
use taskhub_engine::worker::{TurnItem, TurnOutcome, Worker};
use taskhub_store::PartitionKey;

use crate::machine::{Machine, diverged, is_recorded};

/// The worker.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    live: BTreeMap<(PartitionKey, InstanceId), Live>,
    /// The bug of [`crate::Bug::LiveOverReload`]: whatever is live is used, whether it fits or not.
    trusts_memory: bool,
}

#[derive(Debug)]
struct Live {
    execution: ExecutionId,
    epoch: Epoch,
    history_events: u32,
    machine: Machine,
}

impl Live {
    fn fits(&self, item: &TurnItem) -> bool {
        self.execution == item.execution && self.epoch == item.epoch() && self.history_events == item.past_events
    }
}

impl Scripted {
    pub(crate) fn new(trusts_memory: bool) -> Self {
        Self {
            live: BTreeMap::new(),
            trusts_memory,
        }
    }

    /// Runs a turn over the first `processed` events of its batch (R25).
    pub(crate) fn run(&mut self, item: &TurnItem, processed: usize) -> TurnOutcome {
        let key = (item.partition.clone(), item.instance.clone());
        let trusted = |live: &Live| live.fits(item) || (self.trusts_memory && live.execution == item.execution);
        let kept = self.live.remove(&key).filter(trusted);
        let mut machine = match (kept, &item.past) {
            (Some(live), None) => live.machine,
            (None, None) => return TurnOutcome::NeedsHistory,
            // Whoever sends the history wants it to be used.
            (_, Some(past)) => {
                let mut machine = Machine::new();
                if let Err(what) = machine.replay(past).and_then(|()| machine.nothing_unrecorded()) {
                    return answer(item, vec![failed(&what)], None, None);
                }
                machine
            }
        };
        let batch = item.new_events.get(..processed).unwrap_or(&item.new_events);
        let answered = machine.turn(batch);
        if !answered.is_end {
            let recorded = answered.actions.iter().filter(|action| is_recorded(action)).count();
            let events = u32::try_from(batch.len() + recorded).unwrap_or(u32::MAX);
            let (execution, epoch) = (item.execution, item.epoch());
            let history_events = item.past_events.saturating_add(events);
            self.live.insert(
                key,
                Live {
                    execution,
                    epoch,
                    history_events,
                    machine,
                },
            );
        }
        let partial = (batch.len() < item.new_events.len()).then_some(batch.len());
        answer(item, answered.actions, answered.custom_status, partial)
    }

    /// How much of a batch may be processed without the rest: anything behind the first message, but a
    /// start that carries events goes whole.
    pub(crate) fn shortest(events: &[HistoryEvent]) -> usize {
        let starts = events
            .iter()
            .any(|event| matches!(event.kind, EventKind::ExecutionStarted(_)));
        if starts { events.len() } else { 2.min(events.len()) }
    }
}

impl Worker for Scripted {
    fn turn(&mut self, item: &TurnItem) -> TurnOutcome {
        self.run(item, item.new_events.len())
    }

    fn evict(&mut self, partition: &PartitionKey, instance: &InstanceId) {
        self.live.remove(&(partition.clone(), instance.clone()));
    }

    fn forget(&mut self, partition: &PartitionKey) {
        self.live.retain(|(of, _), _| of != partition);
    }

    fn live_bytes(&self) -> usize {
        self.live.len() * size_of::<Live>()
    }
}

fn failed(what: &str) -> Action {
    let kind = ActionKind::CompleteOrchestration(Completion::Failed(Box::new(diverged(what))));
    Action { id: -1, kind }
}

fn answer(
    item: &TurnItem,
    actions: Vec<Action>,
    custom_status: Option<taskhub_core::payload::Payload>,
    events_processed: Option<usize>,
) -> TurnOutcome {
    TurnOutcome::Answer(TurnAnswer {
        fence: item.fence,
        actions,
        custom_status,
        events_processed,
    })
}
