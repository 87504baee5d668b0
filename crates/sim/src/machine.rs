//! Runs a plan, one history event at a time: live, on replay, and when a finished history is checked.
//!
//! It is a second implementation of what orchestrator code is to the engine, independent of the library:
//! a pure function from history to actions.

use std::collections::{BTreeMap, VecDeque};

use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::failure::{Failure, NON_DETERMINISM};
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::instance::OpenClass;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use crate::plan::{Act, Plan, quoted, text};

mod steps;

/// Name of the orchestrator that this module is.
pub(crate) const SCRIPTED: &str = "scripted";

type Key = (OpenClass, i32);

/// An execution of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    plan: Option<Plan>,
    next_step: usize,
    next_id: i32,
    now: Timestamp,
    doing: Doing,
    /// Raised and not consumed.
    buffered: VecDeque<HistoryEvent>,
    seen: Vec<String>,
    digest: u64,
    /// Wished for and not yet found in the history.
    actions: VecDeque<Action>,
    custom_status: Option<Payload>,
}

#[derive(Clone, Debug)]
enum Doing {
    NotStarted,
    Steps,
    Join(BTreeMap<Key, Option<String>>),
    Retry { act: Act, left: u8, waits_for: Key },
    Wait(u8),
    Race { event: u8, timer: i32 },
    Ended(Result<(), Box<Failure>>),
}

/// What a turn asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) actions: Vec<Action>,
    pub(crate) custom_status: Option<Payload>,
    pub(crate) is_end: bool,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            plan: None,
            next_step: 0,
            next_id: 0,
            now: Timestamp::default(),
            doing: Doing::NotStarted,
            buffered: VecDeque::new(),
            seen: Vec::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            actions: VecDeque::new(),
            custom_status: None,
        }
    }

    /// Replays recorded events. Those that record an action must match what the plan asks for.
    pub(crate) fn replay(&mut self, history: &[HistoryEvent]) -> Result<(), String> {
        for event in history {
            match &event.kind {
                EventKind::OrchestratorStarted => {
                    self.nothing_unrecorded()?;
                    self.feed(event);
                }
                EventKind::TaskScheduled { .. }
                | EventKind::TimerCreated { .. }
                | EventKind::SubOrchestrationInstanceCreated { .. }
                | EventKind::EventSent { .. } => self.recorded(event)?,
                EventKind::ExecutionCompleted { .. } | EventKind::ExecutionTerminated { .. } => {}
                _ => self.feed(event),
            }
        }
        self.custom_status = None;
        Ok(())
    }

    /// Fails if the plan asked for more than was recorded (R39, A28).
    pub(crate) fn nothing_unrecorded(&mut self) -> Result<(), String> {
        self.actions.retain(is_recorded);
        match self.actions.front() {
            None => Ok(()),
            Some(action) => Err(format!("the plan asks for {action:?}, which the history does not have")),
        }
    }

    fn recorded(&mut self, event: &HistoryEvent) -> Result<(), String> {
        self.actions.retain(is_recorded);
        let Some(action) = self.actions.pop_front() else {
            return Err(format!("the history has {event:?}, which the plan does not ask for"));
        };
        let fits = action.id == event.id
            && match (&action.kind, &event.kind) {
                (
                    ActionKind::ScheduleTask { name, input, .. },
                    EventKind::TaskScheduled {
                        name: other,
                        input: given,
                        ..
                    },
                ) => name == other && input == given,
                (ActionKind::CreateTimer { fire_at }, EventKind::TimerCreated { fire_at: other }) => fire_at == other,
                (
                    ActionKind::CreateSubOrchestration { input, .. },
                    EventKind::SubOrchestrationInstanceCreated { input: other, .. },
                ) => input == other,
                (
                    ActionKind::SendEvent { instance, name, input },
                    EventKind::EventSent {
                        instance: other,
                        name: called,
                        input: given,
                    },
                ) => instance == other && name == called && input == given,
                _ => false,
            };
        if fits {
            Ok(())
        } else {
            Err(format!("the history has {event:?} where the plan asks for {action:?}"))
        }
    }

    /// Takes the new events of a turn and says what it asks for.
    pub(crate) fn turn(&mut self, events: &[HistoryEvent]) -> Answered {
        for event in events {
            self.feed(event);
        }
        let mut actions: Vec<Action> = self.actions.drain(..).collect();
        let completion = self.completion();
        let is_end = completion.is_some();
        actions.extend(completion.map(|kind| Action {
            id: self.next_id,
            kind: ActionKind::CompleteOrchestration(kind),
        }));
        Answered {
            actions,
            custom_status: self.custom_status.take(),
            is_end,
        }
    }

    /// How it ended. Events that came behind the end in the same batch are carried over too (R89).
    fn completion(&mut self) -> Option<Completion> {
        let Doing::Ended(ended) = &self.doing else { return None };
        if let Err(failure) = ended {
            return Some(Completion::Failed(failure.clone()));
        }
        let plan = self.plan.as_ref()?;
        Some(match plan.next(self.seen.clone()) {
            Some(next) => Completion::ContinuedAsNew {
                input: Some(next.payload()),
                version: None,
                carried: self.buffered.drain(..).collect(),
            },
            None => Completion::Completed(Some(quoted(&format!(
                "{} {:016x} {}",
                plan.tag,
                self.digest,
                self.seen.join(",")
            )))),
        })
    }

    /// Whether it waits for nothing but an event, and for which: a simulation that comes to rest sends it.
    pub(crate) fn awaited_event(&self) -> Option<u8> {
        match &self.doing {
            Doing::Wait(event) => Some(*event),
            _ => None,
        }
    }

    fn feed(&mut self, event: &HistoryEvent) {
        match &event.kind {
            EventKind::OrchestratorStarted => self.now = event.at,
            EventKind::ExecutionStarted(started) => self.start(started.input.as_ref()),
            EventKind::TaskCompleted {
                task_scheduled_id,
                result,
            } => {
                self.done((OpenClass::Task, *task_scheduled_id), Ok(text(result.as_ref())));
            }
            EventKind::TaskFailed {
                task_scheduled_id,
                failure,
            } => {
                self.done((OpenClass::Task, *task_scheduled_id), Err(failure));
            }
            EventKind::SubOrchestrationInstanceCompleted {
                task_scheduled_id,
                result,
            } => {
                self.done((OpenClass::Child, *task_scheduled_id), Ok(text(result.as_ref())));
            }
            EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id,
                failure,
            } => {
                self.done((OpenClass::Child, *task_scheduled_id), Err(failure));
            }
            EventKind::TimerFired { timer_id, .. } => self.done((OpenClass::Timer, *timer_id), Ok(String::new())),
            EventKind::EventRaised { .. } => self.raised(event),
            _ => {}
        }
    }

    fn start(&mut self, input: Option<&Payload>) {
        let Some(plan) = Plan::read(input) else {
            let failure = Failure::new("NoPlan", format!("{input:?} is no plan")).non_retriable();
            self.doing = Doing::Ended(Err(Box::new(failure)));
            return;
        };
        self.seen.clone_from(&plan.seen);
        self.plan = Some(plan);
        self.doing = Doing::Steps;
        self.go_on();
    }

    fn done(&mut self, key: Key, result: Result<String, &Failure>) {
        let shown = result.unwrap_or_else(|failure| format!("!{}", failure.error_type));
        match &mut self.doing {
            Doing::Join(waiting) => {
                let Some(place) = waiting.get_mut(&key) else { return };
                *place = Some(shown);
                if waiting.values().any(Option::is_none) {
                    return;
                }
                for (_, result) in std::mem::take(waiting) {
                    self.mix(&result.unwrap_or_default());
                }
            }
            Doing::Retry { act, left, waits_for } if *waits_for == key => {
                let (act, left) = (*act, *left);
                if key.0 == OpenClass::Timer {
                    self.call(act, left);
                    return;
                }
                if shown.starts_with('!') && left > 0 {
                    let timer = self.timer(u64::from(left) * 50);
                    self.doing = Doing::Retry {
                        act,
                        left: left - 1,
                        waits_for: (OpenClass::Timer, timer),
                    };
                    return;
                }
                self.mix(&shown);
            }
            Doing::Race { timer, .. } if key == (OpenClass::Timer, *timer) => self.mix("late"),
            _ => return,
        }
        self.doing = Doing::Steps;
        self.go_on();
    }

    fn raised(&mut self, event: &HistoryEvent) {
        self.buffered.push_back(event.clone());
        let (wanted, timer) = match self.doing {
            Doing::Wait(wanted) => (wanted, None),
            Doing::Race { event, timer } => (event, Some(timer)),
            _ => return,
        };
        if self.consume(wanted) {
            if let Some(timer_id) = timer {
                self.push(ActionKind::CancelTimer { timer_id });
            }
            self.doing = Doing::Steps;
            self.go_on();
        }
    }

    /// Takes the oldest buffered event with that name.
    fn consume(&mut self, wanted: u8) -> bool {
        let wanted = event_name(wanted);
        let is_it =
            |event: &HistoryEvent| matches!(&event.kind, EventKind::EventRaised { name, .. } if *name == wanted);
        let Some(index) = self.buffered.iter().position(is_it) else {
            return false;
        };
        if let Some(HistoryEvent {
            kind: EventKind::EventRaised { input, .. },
            ..
        }) = self.buffered.remove(index)
        {
            let payload = text(input.as_ref());
            self.mix(&payload);
            self.seen.push(payload);
        }
        true
    }
}

/// Whether an action leaves an event in the history.
pub(crate) fn is_recorded(action: &Action) -> bool {
    match action.kind {
        ActionKind::ScheduleTask { .. }
        | ActionKind::CreateTimer { .. }
        | ActionKind::CreateSubOrchestration { .. }
        | ActionKind::SendEvent { .. } => true,
        ActionKind::CancelTimer { .. }
        | ActionKind::TerminateOrchestration { .. }
        | ActionKind::CompleteOrchestration(_) => false,
    }
}

/// The name of a plan's event.
pub(crate) fn event_name(event: u8) -> Name {
    Name::stored(&format!("e{event}"))
}

/// The id of an instance that clients start.
pub(crate) fn root(index: u8) -> Option<InstanceId> {
    InstanceId::new(&format!("i{index}")).ok()
}

/// The id of a child that several plans want to start.
pub(crate) fn shared_child(index: u8) -> Option<InstanceId> {
    InstanceId::new(&format!("shared{index}")).ok()
}

/// The failure that says that code took another path on replay (R40).
pub(crate) fn diverged(what: &str) -> Failure {
    Failure::new(NON_DETERMINISM, what).non_retriable()
}
