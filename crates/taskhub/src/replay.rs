//! One execution in memory: its future, fed with events one at a time.
//!
//! Recorded history goes in with `is_replaying` true, new events with false. After each event, the code runs until it
//! blocks again (R22). Only the thread that feeds it polls it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent};
use taskhub_core::failure::Failure;
use taskhub_core::id::Name;
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

use crate::divergence::{self, Divergence};
use crate::error::{Error, FOREIGN_AWAIT, ORCHESTRATOR_NOT_REGISTERED, panic_message};
use crate::ledger::{CallOutcome, Identity, Shared, wake};
use crate::orchestrator::OrchestrationContext;
use crate::registry::Registry;

/// Future of an orchestrator; it stays on its thread (A33).
pub(crate) type OrchestratorFuture = Pin<Box<dyn Future<Output = Result<Option<Payload>, Error>>>>;

/// Why a turn has no answer.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The code panicked (A38).
    Panicked(String),
    /// It does not repeat its history.
    Diverged(Divergence),
    /// No code is registered under this name (R166).
    Unregistered(Box<Failure>),
}

/// What a turn came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) actions: Vec<Action>,
    pub(crate) custom_status: Option<Payload>,
}

impl Answered {
    /// Whether the execution is over.
    pub(crate) fn is_end(&self) -> bool {
        self.actions
            .last()
            .is_some_and(|action| matches!(action.kind, ActionKind::CompleteOrchestration(_)))
    }
}

/// The code of one execution.
pub(crate) struct Execution {
    shared: Rc<Shared>,
    future: Option<OrchestratorFuture>,
    root: Arc<Root>,
    waker: Waker,
    ended: Option<Ended>,
    events: u32,
    bytes: usize,
}

enum Ended {
    Returned(Option<Payload>),
    /// With the last arrival that the execution saw.
    Continued {
        seen: u64,
    },
    Failed(Box<Failure>),
}

impl Execution {
    /// An execution that has seen nothing yet. `None` if the events hold no start.
    pub(crate) fn of(mut events: impl Iterator<Item = impl std::borrow::Borrow<HistoryEvent>>) -> Option<Self> {
        let identity = events.find_map(|event| match &event.borrow().kind {
            EventKind::ExecutionStarted(started) => Some(identify(started)),
            _ => None,
        })?;
        let root = Arc::new(Root::default());
        let waker = Waker::from(Arc::clone(&root));
        Some(Self {
            shared: Shared::new(identity),
            future: None,
            root,
            waker,
            ended: None,
            events: 0,
            bytes: 0,
        })
    }

    /// Makes it a mere check of a turn that has an answer already: it logs nothing.
    pub(crate) fn into_check(self) -> Self {
        self.shared.ledger.borrow_mut().is_check = true;
        self
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Length of the history once the last answer is committed.
    pub(crate) fn history_events(&self) -> u32 {
        self.events
    }

    /// Bytes it takes, roughly: its future, and the payloads it was fed.
    pub(crate) fn size(&self) -> usize {
        let future = self.future.as_ref().map_or(0, |future| size_of_val(&**future));
        size_of::<Self>() + size_of::<Shared>() + future + self.bytes
    }

    /// Runs one turn: feeds the recorded history, if the code has not seen it yet, and then the new events. The code
    /// runs inside an idle Tokio runtime and under a waker of its own. That is how a foreign await is noticed: only
    /// events of the history wake the code through the ledger, so every other wake-up comes from something that a
    /// restart would lose.
    pub(crate) fn turn(
        &mut self,
        registry: &Registry,
        past: &[HistoryEvent],
        new: &[HistoryEvent],
    ) -> Result<Answered, Stop> {
        self.find_code(registry)?;
        let _context = IdleRuntime::enter();
        self.root.enter();
        let answered = self.feed_turn(registry, past, new);
        self.root.leave();
        answered
    }

    /// Looks up the code before feeding events, because missing code is not a divergence from the history (R166).
    fn find_code(&self, registry: &Registry) -> Result<(), Stop> {
        let name = &self.identity().name;
        if self.future.is_some() || registry.find_orchestrator(name).is_some() {
            return Ok(());
        }
        Err(unregistered(registry, name))
    }

    fn feed_turn(
        &mut self,
        registry: &Registry,
        past: &[HistoryEvent],
        new: &[HistoryEvent],
    ) -> Result<Answered, Stop> {
        if !past.is_empty() {
            self.shared.ledger.borrow_mut().is_replaying = true;
            for event in past {
                self.feed(registry, event)?;
            }
            if self.ended.is_some() {
                return Err(Stop::Diverged(divergence::early_end()));
            }
            self.shared.ledger.borrow_mut().end_past().map_err(Stop::Diverged)?;
        }
        self.shared.ledger.borrow_mut().is_replaying = false;
        for event in new {
            self.feed(registry, event)?;
        }
        Ok(self.answer(registry))
    }

    /// Runs through a whole recorded history without answering anything (R43).
    pub(crate) fn retrace(&mut self, registry: &Registry, history: &[HistoryEvent]) -> Result<(), Stop> {
        self.find_code(registry)?;
        self.shared.ledger.borrow_mut().is_replaying = true;
        let _context = IdleRuntime::enter();
        self.root.enter();
        let fed = history.iter().try_for_each(|event| self.feed(registry, event));
        self.root.leave();
        fed?;
        let end = history.last().and_then(|event| match event.kind {
            EventKind::ExecutionCompleted { status, .. } => Some(status),
            _ => None,
        });
        let diverged = match (end, &self.ended) {
            // A terminate ends the execution at any point of the code.
            (Some(RuntimeStatus::Terminated), _) => return Ok(()),
            (Some(_), None) => Err(divergence::late_end()),
            // A history whose execution continued as new has no end of its own.
            (Some(_), Some(_)) | (None, Some(Ended::Continued { .. })) => Ok(()),
            (None, Some(_)) => Err(divergence::early_end()),
            (None, None) => self.shared.ledger.borrow_mut().end_past(),
        };
        diverged.map_err(Stop::Diverged)
    }

    fn feed(&mut self, registry: &Registry, event: &HistoryEvent) -> Result<(), Stop> {
        self.bytes += event.size();
        self.events += 1;
        self.shared.ledger.borrow_mut().events_seen = self.events;
        match &event.kind {
            EventKind::OrchestratorStarted => self.shared.ledger.borrow_mut().now = event.at,
            EventKind::ExecutionStarted(started) => self.start(registry, started)?,
            EventKind::TaskCompleted {
                task_scheduled_id: id,
                result,
            }
            | EventKind::SubOrchestrationInstanceCompleted {
                task_scheduled_id: id,
                result,
            } => {
                self.complete(*id, Ok(result.clone()), event)?;
            }
            EventKind::TaskFailed {
                task_scheduled_id: id,
                failure,
            }
            | EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id: id,
                failure,
            } => {
                self.complete(*id, Err(failure.clone()), event)?;
            }
            EventKind::TimerFired { timer_id, .. } => self.complete(*timer_id, Ok(None), event)?,
            EventKind::EventRaised { .. } => {
                let waker = self.shared.ledger.borrow_mut().raise(event.clone());
                wake(waker);
                self.run()?;
            }
            EventKind::TaskScheduled { .. }
            | EventKind::TimerCreated { .. }
            | EventKind::SubOrchestrationInstanceCreated { .. }
            | EventKind::EventSent { .. } => {
                let confirmed = self.shared.ledger.borrow_mut().confirm(event.id, &event.kind);
                confirmed.map_err(Stop::Diverged)?;
            }
            // The code does not see suspensions, and an ended instance has no turns.
            EventKind::ExecutionSuspended { .. }
            | EventKind::ExecutionResumed { .. }
            | EventKind::ExecutionTerminated { .. }
            | EventKind::ExecutionCompleted { .. } => {}
        }
        Ok(())
    }

    fn start(&mut self, registry: &Registry, started: &ExecutionStarted) -> Result<(), Stop> {
        let name = &started.name;
        let orchestrator = registry
            .find_orchestrator(name)
            .ok_or_else(|| unregistered(registry, name))?;
        let ctx = OrchestrationContext {
            shared: Rc::clone(&self.shared),
        };
        let made = catch_unwind(AssertUnwindSafe(|| orchestrator(ctx, started.input.clone())));
        self.future = Some(made.map_err(|panic| Stop::Panicked(panic_message(&*panic)))?);
        self.root.is_woken.store(true, Ordering::Relaxed);
        self.run()
    }

    fn complete(&mut self, id: i32, outcome: CallOutcome, event: &HistoryEvent) -> Result<(), Stop> {
        let completed = self.shared.ledger.borrow_mut().complete(id, outcome);
        match completed {
            Ok(waker) => wake(waker),
            Err(()) => self.warn_of(id, event),
        }
        self.run()
    }

    fn warn_of(&self, id: i32, event: &HistoryEvent) {
        if self.shared.ledger.borrow().is_replaying {
            return;
        }
        let Identity {
            instance, execution, ..
        } = self.identity();
        let event = event.kind.name();
        tracing::warn!(%instance, %execution, id, event, "ignoring the completion of a call that the code never made");
    }

    /// Runs the code until it blocks or ends. After each single event the code runs as far as it can, before the next
    /// event is fed: with two completed calls in one turn, a `select` must see the one that came first in the history,
    /// live and in every replay. The future is polled only if something woke it, because one turn can feed thousands of
    /// events that concern other branches. Three outcomes are an error of the code: it was woken from outside, it
    /// blocks although no call of the context is open, or it panicked.
    fn run(&mut self) -> Result<(), Stop> {
        let Some(future) = &mut self.future else {
            return Ok(());
        };
        let mut polled = Poll::Pending;
        while polled.is_pending() && self.root.is_woken.swap(false, Ordering::AcqRel) {
            let mut context = Context::from_waker(&self.waker);
            let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
            polled = poll.map_err(|panic| Stop::Panicked(panic_message(&*panic)))?;
        }
        let has_waits = self.shared.ledger.borrow().parked() > 0;
        let is_foreign = self.root.is_foreign.load(Ordering::Acquire);
        match polled {
            Poll::Ready(returned) if !is_foreign => self.end(returned),
            Poll::Pending if !is_foreign && has_waits => Ok(()),
            _ => {
                self.fail(foreign_await(self.identity()));
                Ok(())
            }
        }
    }

    /// The orchestrator has returned, so the execution ends even if calls are open (R28).
    fn end(&mut self, returned: Result<Option<Payload>, Error>) -> Result<(), Stop> {
        self.drop_future()?;
        let ledger = self.shared.ledger.borrow();
        let (is_continued, seen) = (ledger.continued.is_some(), ledger.arrivals());
        self.ended = Some(match returned {
            Ok(_) if is_continued => Ended::Continued { seen },
            Err(error) if error.is_continued() && is_continued => Ended::Continued { seen },
            Ok(result) => Ended::Returned(result),
            Err(error) => Ended::Failed(Box::new(error.into_failure().limited())),
        });
        Ok(())
    }

    fn fail(&mut self, failure: Failure) {
        // The outcome is already decided, so a panic in a destructor changes nothing.
        let _ = self.drop_future();
        self.ended = Some(Ended::Failed(Box::new(failure)));
    }

    /// Drops everything that the code still holds before the answer is built, because events that it received and did
    /// not use go back into the buffer then.
    fn drop_future(&mut self) -> Result<(), Stop> {
        let future = self.future.take();
        catch_unwind(AssertUnwindSafe(|| drop(future))).map_err(|panic| Stop::Panicked(panic_message(&*panic)))
    }

    fn answer(&mut self, registry: &Registry) -> Answered {
        let mut ledger = self.shared.ledger.borrow_mut();
        let mut actions = ledger.take_actions();
        for action in &mut actions {
            registry.spell(&mut action.kind);
        }
        self.events +=
            u32::try_from(actions.iter().filter(|action| is_recorded(&action.kind)).count()).unwrap_or(u32::MAX);
        ledger.events_seen = self.events;
        let ended = self.ended.take().map(|ended| match ended {
            Ended::Returned(result) => Completion::Completed(result),
            Ended::Failed(failure) => Completion::Failed(failure),
            Ended::Continued { seen } => {
                let events = std::mem::take(&mut ledger.events);
                match ledger.continued.take() {
                    Some(next) => Completion::ContinuedAsNew {
                        input: next.input,
                        version: next.version,
                        // What came after the end was never received by the code (R90).
                        carried: events.into_unconsumed(if next.keeps_events { 0 } else { seen }),
                    },
                    None => unreachable!("an execution continues because it asked to"),
                }
            }
        });
        let id = ledger.next_id();
        actions.extend(ended.map(|ended| Action {
            id,
            kind: ActionKind::CompleteOrchestration(ended),
        }));
        Answered {
            actions,
            custom_status: ledger.custom_status.take(),
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        // A panic in a destructor of user code must not reach the caller that evicts it.
        let _ = self.drop_future();
    }
}

fn identify(started: &ExecutionStarted) -> Identity {
    Identity {
        instance: started.instance.clone(),
        execution: started.execution,
        name: started.name.clone(),
        version: started.version.clone(),
        parent: started.parent.clone(),
        tags: started.tags.clone(),
    }
}

fn unregistered(registry: &Registry, name: &Name) -> Stop {
    let failure = Failure::new(ORCHESTRATOR_NOT_REGISTERED, registry.orchestrator_missing(name));
    Stop::Unregistered(Box::new(failure.non_retriable()))
}

/// Whether the commit of an action makes an event, which is how long the history gets.
fn is_recorded(kind: &ActionKind) -> bool {
    match kind {
        ActionKind::ScheduleTask { .. }
        | ActionKind::CreateTimer { .. }
        | ActionKind::CreateSubOrchestration { .. }
        | ActionKind::SendEvent { .. } => true,
        ActionKind::CancelTimer { .. }
        | ActionKind::TerminateOrchestration { .. }
        | ActionKind::CompleteOrchestration(_) => false,
    }
}

fn foreign_await(Identity { name, .. }: &Identity) -> Failure {
    let message = format!(
        "orchestrator `{name}` awaits a future that its context did not create, such as a sleep, a channel or a \
        request. Nothing would wake it after a restart: await only the context's timers, events and calls, and move \
        all other work into activities"
    );
    Failure::new(FOREIGN_AWAIT, message).non_retriable()
}

/// A Tokio runtime that is never driven, entered during a turn if no runtime is current, such as in a test. With it, a
/// sleep or a socket can be created and stays pending, which is detected as a foreign await; without it, creating one
/// would panic (R44).
struct IdleRuntime;

impl IdleRuntime {
    fn enter() -> Option<EnterGuard<'static>> {
        static RUNTIME: LazyLock<Option<Runtime>> =
            LazyLock::new(|| Builder::new_current_thread().enable_all().build().ok());
        if Handle::try_current().is_ok() {
            return None;
        }
        RUNTIME.as_ref().map(Runtime::enter)
    }
}

/// The waker at the root of an execution. Only the thread of a turn may wake it, within the turn:
/// anything else wakes for reasons that no history holds (A37).
#[derive(Default)]
struct Root {
    is_woken: AtomicBool,
    is_foreign: AtomicBool,
    turn: Mutex<Option<ThreadId>>,
}

impl Root {
    fn enter(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
    }

    fn leave(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Wake for Root {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let turn = *self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if turn != Some(thread::current().id()) {
            self.is_foreign.store(true, Ordering::Release);
        }
        self.is_woken.store(true, Ordering::Release);
    }
}
