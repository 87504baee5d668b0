//! Non-determinism: the code asks for something else than the recorded history says it did (R38–R40).

use std::fmt;

use taskhub_core::action::{Action, ActionKind};
use taskhub_core::event::EventKind;
use taskhub_core::failure::{Failure, NON_DETERMINISM};
use taskhub_core::id::Name;

use crate::ledger::Identity;

/// Where code and history part.
#[derive(Debug)]
pub(crate) struct Divergence(String);

impl Divergence {
    /// The failure of the instance: what happened, and what is likely the cause (R40).
    pub(crate) fn failure(&self, Identity { name, instance, .. }: &Identity) -> Failure {
        let message = format!(
            "orchestrator `{name}` of instance `{instance}` does not match its recorded history: {}. Either its code \
            changed while the instance was running, or it is not deterministic: it must take time, ids and random \
            numbers from its context, and do all input and output in activities",
            self.0
        );
        Failure::new(NON_DETERMINISM, message).non_retriable()
    }
}

/// A recorded action that code has not made (R38 a).
pub(crate) fn missing(id: i32, recorded: &EventKind) -> Divergence {
    let wanted = Recorded(recorded);
    Divergence(format!(
        "a previous execution scheduled {wanted} with id {id}, but the current one did not"
    ))
}

/// An action that code made and history lacks (A28).
pub(crate) fn unrecorded(id: i32, made: &ActionKind) -> Divergence {
    let made = Made(made);
    Divergence(format!(
        "the code schedules {made} with id {id}, but the history has no such event at this point"
    ))
}

/// The code ended where the history continues.
pub(crate) fn early_end() -> Divergence {
    Divergence("the code ends at a point where the recorded execution continued".to_owned())
}

/// The recorded execution ended where the code continues.
pub(crate) fn late_end() -> Divergence {
    Divergence("the recorded execution ended at a point where the code continues".to_owned())
}

/// The same turn, run again from the history, gave something else (A28).
pub(crate) fn unlike(first: &[Action], again: &[Action]) -> Divergence {
    let show = |actions: &[Action], place: usize| match actions.get(place) {
        Some(action) => format!("{} with id {}", Made(&action.kind), action.id),
        None => "nothing".to_owned(),
    };
    let same = first.iter().zip(again).take_while(|(one, other)| one == other).count();
    let (given, wanted) = (show(first, same), show(again, same));
    Divergence(if given == wanted {
        format!("the turn scheduled {given}, but its replay scheduled the same with other values")
    } else {
        format!("the turn scheduled {given}, but its replay scheduled {wanted}")
    })
}

/// The same turn, run again from the history, did not come to an answer at all.
pub(crate) fn stopped(reason: &str) -> Divergence {
    Divergence(format!("the turn returned a result, but in its replay {reason}"))
}

/// Compares kinds, names and targets; inputs and times may vary legitimately (R38 b–d).
pub(crate) fn compare(id: i32, recorded: &EventKind, made: &ActionKind) -> Result<(), Divergence> {
    let is_same = match (recorded, made) {
        (EventKind::TaskScheduled { name: was, .. }, ActionKind::ScheduleTask { name, .. }) => same(was, name),
        (EventKind::TimerCreated { .. }, ActionKind::CreateTimer { .. }) => true,
        (
            EventKind::SubOrchestrationInstanceCreated {
                instance: was_instance,
                name: was,
                ..
            },
            ActionKind::CreateSubOrchestration { instance, name, .. },
        ) => same(was, name) && instance.as_ref().is_none_or(|instance| instance == was_instance),
        (
            EventKind::EventSent {
                instance: was_instance,
                name: was,
                ..
            },
            ActionKind::SendEvent { instance, name, .. },
        ) => same(was, name) && instance == was_instance,
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    let (recorded, made) = (Recorded(recorded), Made(made));
    Err(Divergence(format!(
        "a previous execution scheduled {recorded} with id {id}, but the current one scheduled {made}"
    )))
}

fn same(one: &Name, other: &Name) -> bool {
    one.eq_ignore_case(other.as_str())
}

struct Recorded<'a>(&'a EventKind);

impl fmt::Display for Recorded<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            EventKind::TaskScheduled { name, .. } => write!(out, "activity `{name}`"),
            EventKind::TimerCreated { fire_at } => write!(out, "a timer for {fire_at}"),
            EventKind::SubOrchestrationInstanceCreated { name, instance, .. } => {
                write!(out, "sub-orchestration `{name}` as `{instance}`")
            }
            EventKind::EventSent { name, instance, .. } => write!(out, "event `{name}` to `{instance}`"),
            other => out.write_str(other.name()),
        }
    }
}

struct Made<'a>(&'a ActionKind);

impl fmt::Display for Made<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ActionKind::ScheduleTask { name, .. } => write!(out, "activity `{name}`"),
            ActionKind::CreateTimer { fire_at } => write!(out, "a timer for {fire_at}"),
            ActionKind::CancelTimer { timer_id } => write!(out, "the end of timer {timer_id}"),
            ActionKind::CreateSubOrchestration {
                name, instance: None, ..
            } => {
                write!(out, "sub-orchestration `{name}`")
            }
            ActionKind::CreateSubOrchestration {
                name,
                instance: Some(instance),
                ..
            } => {
                write!(out, "sub-orchestration `{name}` as `{instance}`")
            }
            ActionKind::SendEvent { name, instance, .. } => write!(out, "event `{name}` to `{instance}`"),
            ActionKind::TerminateOrchestration { instance, .. } => write!(out, "the end of `{instance}`"),
            ActionKind::CompleteOrchestration(_) => out.write_str("its own end"),
        }
    }
}
