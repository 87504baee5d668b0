//! One instance: its history in itself, and against the rest of its state.

use std::collections::BTreeMap;

use taskhub_core::commit::OpenKind;
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::instance::InstanceState;
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::workload::{EVENT, Job, STEPS};

/// What must hold at any moment: each commit is there as a whole or not at all (P2).
pub(super) fn consistent(state: &InstanceState, events: &[HistoryEvent]) -> Vec<String> {
    let mut found = Vec::new();
    if events.len() != state.history_events as usize {
        let wanted = state.history_events;
        found.push(format!(
            "its history has {} events, but its state says {wanted} (I4)",
            events.len()
        ));
    }
    shape(state, events, &mut found);
    status(state, events, &mut found);
    let mut waits = Waits::default();
    for event in events {
        waits.take(event, &mut found);
    }
    // A message that is accepted stands where its event will be (I3).
    for message in state.inbox.values() {
        waits.take(&message.event, &mut found);
    }
    waits.compare(state, &mut found);
    found
}

/// What must hold of a job that has ended.
pub(super) fn finished(state: &InstanceState, events: &[HistoryEvent]) -> Vec<String> {
    let mut found = Vec::new();
    if state.info.status != RuntimeStatus::Completed {
        found.push(format!("its status is {}, expected Completed", state.info.status));
        return found;
    }
    let output = Job::read(state.info.input.as_ref()).map(|job| job.output().to_string());
    let answered = state.info.output.as_ref().map(Payload::to_text);
    if answered != output || output.is_none() {
        found.push(format!("its output is {answered:?}, expected {output:?}"));
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for event in events {
        *counts.entry(event.kind.name()).or_default() += 1;
    }
    let wanted = [
        ("TaskScheduled", STEPS),
        ("TaskCompleted", STEPS),
        ("TaskFailed", 0),
        ("TimerCreated", 1),
        ("TimerFired", 1),
        ("EventRaised", 1),
        ("ExecutionStarted", 1),
        ("ExecutionCompleted", 1),
    ];
    for (name, wanted) in wanted {
        let count = counts.get(name).copied().unwrap_or(0);
        if count != wanted {
            found.push(format!("its history has {count} {name}, expected {wanted} (I2)"));
        }
    }
    if !state.inbox.is_empty() || !state.open.is_empty() {
        let (inbox, open) = (state.inbox.len(), state.open.len());
        found.push(format!(
            "it has ended with {inbox} messages unread and {open} calls open"
        ));
    }
    found
}

/// The order of events that every execution has.
fn shape(state: &InstanceState, events: &[HistoryEvent], found: &mut Vec<String>) {
    let mut last_turn = Timestamp::default();
    for (index, event) in events.iter().enumerate() {
        match &event.kind {
            EventKind::OrchestratorStarted => {
                if event.at < last_turn {
                    found.push(format!("turn time goes back at event {index} (R30)"));
                }
                last_turn = event.at;
            }
            EventKind::ExecutionStarted(started)
                if index != 1 || started.instance != state.info.instance || started.input != state.info.input =>
            {
                found.push(format!("event {index} starts another execution (R18)"));
            }
            EventKind::ExecutionCompleted { .. } if index + 1 < events.len() => {
                found.push(format!("something follows the end at event {index} (R17)"));
            }
            _ => {}
        }
    }
    let begins = |index: usize, name| events.get(index).is_none_or(|event| event.kind.name() == name);
    if !begins(0, "OrchestratorStarted") || !begins(1, "ExecutionStarted") || events.len() == 1 {
        found.push("its history does not begin with the start of a turn and of an execution (R17, R18)".to_owned());
    }
}

/// The status is what history and inbox come to (I3).
fn status(state: &InstanceState, events: &[HistoryEvent], found: &mut Vec<String>) {
    let is_start = |event: &HistoryEvent| matches!(event.kind, EventKind::ExecutionStarted(_));
    let folded = match events.last().map(|event| &event.kind) {
        Some(EventKind::ExecutionCompleted { status, result, .. }) => {
            if *status == RuntimeStatus::Completed && *result != state.info.output {
                let output = &state.info.output;
                found.push(format!(
                    "its history ends with {result:?}, but its record says {output:?} (I3)"
                ));
            }
            *status
        }
        Some(_) => RuntimeStatus::Running,
        None => RuntimeStatus::Pending,
    };
    if folded != state.info.status {
        found.push(format!(
            "its status is {}, but its history says {folded} (I3)",
            state.info.status
        ));
    }
    let starts = state.inbox.values().filter(|message| is_start(&message.event)).count();
    if starts + events.iter().filter(|event| is_start(event)).count() != 1 {
        found.push(format!(
            "it has {starts} start messages unread and {} events (I3)",
            events.len()
        ));
    }
    if state.info.stalled.is_some() {
        found.push(format!("it is stalled: {:?}", state.info.stalled));
    }
}

/// What history and inbox say is waited for.
#[derive(Default)]
struct Waits {
    tasks: BTreeMap<i32, bool>,
    timers: BTreeMap<i32, (Timestamp, bool)>,
    raised: u32,
}

impl Waits {
    fn take(&mut self, event: &HistoryEvent, found: &mut Vec<String>) {
        match &event.kind {
            EventKind::TaskScheduled { .. } => {
                let earlier = self.tasks.insert(event.id, false);
                found.extend(earlier.map(|_| format!("task {} is scheduled twice (R33)", event.id)));
            }
            EventKind::TimerCreated { fire_at } => {
                let earlier = self.timers.insert(event.id, (*fire_at, false));
                found.extend(earlier.map(|_| format!("timer {} is created twice (R33)", event.id)));
            }
            EventKind::TaskCompleted {
                task_scheduled_id: id, ..
            }
            | EventKind::TaskFailed {
                task_scheduled_id: id, ..
            } => match self.tasks.insert(*id, true) {
                Some(false) => {}
                Some(true) => found.push(format!("task {id} is completed twice (I2)")),
                None => found.push(format!("task {id} is completed but was never scheduled (I2)")),
            },
            EventKind::TimerFired { timer_id: id, fire_at } => match self.timers.insert(*id, (*fire_at, true)) {
                Some((due, false)) if due == *fire_at && event.at >= due => {}
                Some((due, false)) => {
                    let at = event.at;
                    found.push(format!(
                        "timer {id} is due at {due} and fires at {at}, for {fire_at} (I6)"
                    ));
                }
                Some((_, true)) => found.push(format!("timer {id} fires twice (I6)")),
                None => found.push(format!("timer {id} fires but was never created (I6)")),
            },
            EventKind::EventRaised { name, .. } => {
                self.raised += 1;
                if name.as_str() != EVENT || self.raised > 1 {
                    let times = self.raised;
                    found.push(format!("event `{name}` has come in {times} times in all (R83)"));
                }
            }
            _ => {}
        }
    }

    /// What is not answered is open, and nothing else is.
    fn compare(&self, state: &InstanceState, found: &mut Vec<String>) {
        let unanswered = |(id, is_done): (&i32, &bool)| (!is_done).then_some(*id);
        let tasks: Vec<i32> = self.tasks.iter().filter_map(unanswered).collect();
        let timers: Vec<(i32, Timestamp)> = self
            .timers
            .iter()
            .filter_map(|(id, (due, is_done))| (!is_done).then_some((*id, *due)))
            .collect();
        let (mut open_tasks, mut open_timers) = (Vec::new(), Vec::new());
        for open in state.open.values() {
            match &open.kind {
                OpenKind::Task { .. } => open_tasks.push(open.event_id),
                OpenKind::Timer { fire_at } => open_timers.push((open.event_id, *fire_at)),
                OpenKind::Child { .. } => found.push("a job has a child".to_owned()),
            }
        }
        open_tasks.sort_unstable();
        open_timers.sort_unstable();
        if open_tasks != tasks {
            found.push(format!(
                "tasks {tasks:?} are not answered, and {open_tasks:?} are open (P2, R34)"
            ));
        }
        if open_timers != timers {
            found.push(format!(
                "timers {timers:?} have not fired, and {open_timers:?} are open (P2, I6)"
            ));
        }
    }
}
