//! The history of one execution as the checker sees it grow: what may follow what.

use std::collections::BTreeMap;

use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::InstanceId;
use taskhub_core::instance::OpenClass;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::Violation;

/// One execution.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) events: Vec<HistoryEvent>,
    /// Scheduled and not completed; timers with their due times.
    open: BTreeMap<(OpenClass, i32), Option<Timestamp>>,
    turn_started_at: Timestamp,
    /// How it ended.
    pub(crate) ended: Option<RuntimeStatus>,
    /// Whether it was ended from outside, so that its last turn's wishes were never asked for.
    pub(crate) was_terminated: bool,
    is_suspended: bool,
}

impl Record {
    /// Adds the next event (I2, I6, R17, R18, R20).
    pub(crate) fn push(&mut self, instance: &InstanceId, event: &HistoryEvent) -> Result<(), Violation> {
        let wrong = |invariant, what: &str| Err(Violation::new(invariant, format!("`{instance}`: {what}: {event:?}")));
        if self.ended.is_some() {
            return wrong("I2", "an event after the end");
        }
        let is_second = self.events.len() == 1;
        if self.events.is_empty() && !matches!(event.kind, EventKind::OrchestratorStarted) {
            return wrong("I4", "a history that begins without a turn");
        }
        if is_second && !matches!(event.kind, EventKind::ExecutionStarted(_)) {
            return wrong("I4", "a history whose first message is not the start");
        }
        match &event.kind {
            EventKind::OrchestratorStarted => {
                if event.at < self.turn_started_at {
                    return wrong("I6", "logical time goes back (R197)");
                }
                self.turn_started_at = event.at;
            }
            EventKind::ExecutionStarted(_) if !is_second => return wrong("I2", "a second start (R19)"),
            EventKind::TaskScheduled { .. } => return self.opened(instance, OpenClass::Task, event, None),
            EventKind::TimerCreated { fire_at } => {
                return self.opened(instance, OpenClass::Timer, event, Some(*fire_at));
            }
            EventKind::SubOrchestrationInstanceCreated { tags, .. } => {
                if !tags.contains_key(taskhub_core::action::FIRE_AND_FORGET) {
                    return self.opened(instance, OpenClass::Child, event, None);
                }
            }
            EventKind::TaskCompleted { task_scheduled_id, .. } | EventKind::TaskFailed { task_scheduled_id, .. } => {
                if self.open.remove(&(OpenClass::Task, *task_scheduled_id)).is_none() {
                    return wrong("I2", "a result that nothing waits for");
                }
            }
            EventKind::SubOrchestrationInstanceCompleted { task_scheduled_id, .. }
            | EventKind::SubOrchestrationInstanceFailed { task_scheduled_id, .. } => {
                if self.open.remove(&(OpenClass::Child, *task_scheduled_id)).is_none() {
                    return wrong("I2", "a child's end that nothing waits for");
                }
            }
            EventKind::TimerFired { timer_id, fire_at } => {
                if self.open.remove(&(OpenClass::Timer, *timer_id)) != Some(Some(*fire_at)) {
                    return wrong("I2", "a timer that was not created so");
                }
                if milliseconds(event.at) <= milliseconds(*fire_at) {
                    return wrong("I6", "a timer fired early (R45)");
                }
            }
            EventKind::ExecutionSuspended { .. } => self.is_suspended = true,
            EventKind::ExecutionResumed { .. } => self.is_suspended = false,
            EventKind::ExecutionTerminated { .. } => self.was_terminated = true,
            EventKind::ExecutionCompleted { status, .. } => self.ended = Some(*status),
            EventKind::ExecutionStarted(_) | EventKind::EventSent { .. } | EventKind::EventRaised { .. } => {}
        }
        self.events.push(event.clone());
        Ok(())
    }

    fn opened(
        &mut self,
        instance: &InstanceId,
        class: OpenClass,
        event: &HistoryEvent,
        due: Option<Timestamp>,
    ) -> Result<(), Violation> {
        if self.open.insert((class, event.id), due).is_some() {
            let what = format!("`{instance}`: {event:?} while {class:?} {} is open (R33)", event.id);
            return Err(Violation::new("I2", what));
        }
        self.events.push(event.clone());
        Ok(())
    }

    /// The status that the history and then the unread messages say (I3, A26).
    pub(crate) fn status<'a>(&self, is_first: bool, unread: impl Iterator<Item = &'a EventKind>) -> RuntimeStatus {
        if let Some(ended) = self.ended {
            return ended;
        }
        let mut is_suspended = self.is_suspended;
        for kind in unread {
            match kind {
                EventKind::ExecutionSuspended { .. } => is_suspended = true,
                EventKind::ExecutionResumed { .. } => is_suspended = false,
                _ => {}
            }
        }
        if is_suspended {
            RuntimeStatus::Suspended
        } else if is_first && self.events.is_empty() {
            RuntimeStatus::Pending
        } else {
            RuntimeStatus::Running
        }
    }
}

fn milliseconds(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000)
}
