//! Plans as an orchestrator of the library, so that its worker, replay and futures are part of what is
//! simulated. Every turn is run again by replay and compared (A28).

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use taskhub::worker::{RegisteredFunctions, WorkerOptions};
use taskhub::{Error, OrchestrationContext, Registry, Result, RetryPolicy, join, join_all};
use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::failure::NON_DETERMINISM;
use taskhub_core::id::{Epoch, Fence};
use taskhub_engine::worker::{Functions, TurnItem, TurnOutcome, Worker};
use taskhub_store::PartitionKey;

use crate::journal::Book;
use crate::machine::{event_name, root, shared_child};
use crate::plan::{Act, Plan, Step};

/// Name of the orchestrator that this module is.
pub(crate) const LIBRARY: &str = "library";
/// What the custom status begins with while a plan waits for an event and nothing else.
pub(crate) const AWAITS: &str = "awaits ";

thread_local! {
    /// The next step that an orchestrator takes panics.
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// The library's worker.
pub(crate) struct Library(pub(crate) Box<dyn Worker>);

impl Library {
    pub(crate) fn new(live_bytes_max: usize) -> Self {
        let options = WorkerOptions {
            check_replay: true,
            live_bytes_max,
            ..WorkerOptions::default()
        };
        let registry = Registry::new().orchestrator(LIBRARY, follow);
        Self(RegisteredFunctions::new(registry, options).worker())
    }
}

impl Library {
    /// Runs a turn that panics at its first new step, if it takes one.
    pub(crate) fn turn_that_panics(&mut self, item: &TurnItem) -> TurnOutcome {
        PANICS.set(true);
        let outcome = self.0.turn(item);
        PANICS.set(false);
        outcome
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Library({} bytes live)", self.0.live_bytes())
    }
}

/// The orchestrator.
async fn follow(ctx: OrchestrationContext, input: String) -> Result<String> {
    let plan = Plan::parse(&input).ok_or_else(|| Error::new("NoPlan", format!("`{input}` is no plan")))?;
    let mut run = Run {
        ctx,
        seen: plan.seen.clone(),
        plan,
        heard: Vec::new(),
    };
    for step in run.plan.steps.clone() {
        run.step(step).await?;
    }
    if let Some(next) = run.plan.next(run.seen.clone()) {
        return run.ctx.continue_as_new(next.to_string());
    }
    Ok(format!("{} {} {}", run.plan.tag, run.heard.len(), run.seen.join(",")))
}

struct Run {
    ctx: OrchestrationContext,
    plan: Plan,
    seen: Vec<String>,
    /// Results and failures so far.
    heard: Vec<String>,
}

impl Run {
    async fn step(&mut self, step: Step) -> Result<()> {
        let ctx = self.ctx.clone();
        if !ctx.is_replaying() && PANICS.take() {
            // As a panic, but for the report that nobody wants.
            std::panic::resume_unwind(Box::new("the code broke"));
        }
        match step {
            Step::Activity(act) => {
                let result = ctx.call_activity::<String, _>(act.name(), self.tag()).await;
                self.hear(result);
            }
            Step::Retry(act, times) => {
                let policy = RetryPolicy::new(u32::from(times) + 1, Duration::from_millis(50));
                let call = ctx.call_activity::<String, _>(act.name(), self.tag());
                self.hear(call.retry(policy).await);
            }
            Step::FanOut(count) => {
                let calls: Vec<_> = (0..count)
                    .map(|_| ctx.call_activity::<String, _>(Act::Echo.name(), self.tag()))
                    .collect();
                for result in join_all(calls).await {
                    self.hear(result);
                }
            }
            Step::Mixed(ms, steps) => {
                let activity = ctx.call_activity::<String, _>(Act::Flaky.name(), self.tag());
                let timer = ctx.create_timer(Duration::from_millis(u64::from(ms)));
                let child = ctx.call_sub_orchestrator::<String, _>(LIBRARY, self.child(&steps));
                let ((activity, ()), child) = join(join(activity, timer), child).await;
                self.hear(activity);
                self.hear(child);
            }
            Step::Timer(ms) => ctx.create_timer(Duration::from_millis(u64::from(ms))).await,
            Step::Wait(event) => {
                ctx.set_custom_status(format!("{AWAITS}{event}"))?;
                let payload = ctx
                    .wait_for_external_event::<String>(event_name(event).as_str())
                    .await?;
                ctx.clear_custom_status();
                self.seen.push(payload);
            }
            Step::Race(event, ms) => {
                let limit = Duration::from_millis(u64::from(ms));
                let name = event_name(event);
                let payload = ctx
                    .wait_for_external_event::<String>(name.as_str())
                    .timeout(limit)
                    .await?;
                self.seen.extend(payload);
            }
            Step::Child(id, steps) => {
                let call = ctx.call_sub_orchestrator::<String, _>(LIBRARY, self.child(&steps));
                let call = match id.and_then(shared_child) {
                    Some(id) => call.id(&id),
                    None => call,
                };
                self.hear(call.await);
            }
            Step::Detached(steps) => {
                ctx.start_new(LIBRARY, self.child(&steps)).await?;
            }
            Step::Send(target, event) => {
                if let Some(target) = root(target) {
                    ctx.raise_event(&target, event_name(event).as_str(), self.tag())?;
                }
            }
            Step::Terminate(_) => {}
            Step::Status => ctx.set_custom_status(self.heard.len())?,
            Step::Fail => return Err(Error::new("Planned", "the plan fails here")),
        }
        Ok(())
    }

    fn hear(&mut self, result: std::result::Result<String, taskhub::TaskFailed>) {
        self.heard
            .push(result.unwrap_or_else(|failed| failed.error_type().to_owned()));
    }

    /// Tells this action from every other one of the simulation.
    fn tag(&self) -> String {
        format!("{}.{}.{}", self.plan.tag, self.plan.round, self.ctx.new_guid().simple())
    }

    fn child(&self, steps: &[Step]) -> String {
        self.plan
            .child(&self.ctx.new_guid().simple().to_string(), steps)
            .to_string()
    }
}

/// Runs the last turn of each execution again, from its history, and compares what is asked for with what
/// was recorded (I9).
pub(crate) fn repeats(book: &Book, partition: &PartitionKey) -> std::result::Result<(), String> {
    let state = &book.state;
    for record in &book.records {
        let is_turn = |event: &HistoryEvent| matches!(event.kind, EventKind::OrchestratorStarted);
        let Some(last) = record.events.iter().rposition(is_turn) else {
            continue;
        };
        let (past, turn) = record.events.split_at(last);
        let batch = turn.iter().take_while(|event| !is_wish(event)).cloned();
        let batch: Vec<HistoryEvent> = batch.filter(|event| !is_end(event)).collect();
        let item = TurnItem {
            partition: partition.clone(),
            instance: state.info.instance.clone(),
            execution: state.info.execution,
            fence: Fence {
                epoch: Epoch(0),
                counter: 0,
            },
            past_events: u32::try_from(past.len()).unwrap_or(u32::MAX),
            past: Some(past.to_vec()),
            new_events: Arc::from(batch),
        };
        let answer = match Library::new(0).0.turn(&item) {
            TurnOutcome::Answer(answer) => answer,
            other => return Err(format!("replay gives {other:?}")),
        };
        for action in &answer.actions {
            if let ActionKind::CompleteOrchestration(Completion::Failed(failure)) = &action.kind
                && failure.error_type == NON_DETERMINISM
            {
                return Err(failure.to_string());
            }
        }
        let asked = answer.actions.iter().filter(|action| {
            !matches!(
                action.kind,
                ActionKind::CancelTimer { .. } | ActionKind::CompleteOrchestration(_)
            )
        });
        let asked: Vec<i32> = asked.map(|action| action.id).collect();
        let recorded: Vec<i32> = turn
            .iter()
            .filter(|event| is_wish(event))
            .map(|event| event.id)
            .collect();
        // What the code made of the messages that a terminate recorded was never asked for (A25).
        if !record.was_terminated && !book.asks_for_itself() && asked != recorded {
            return Err(format!("replay asks for {asked:?}, and the history has {recorded:?}"));
        }
    }
    Ok(())
}

fn is_wish(event: &HistoryEvent) -> bool {
    matches!(
        event.kind,
        EventKind::TaskScheduled { .. }
            | EventKind::TimerCreated { .. }
            | EventKind::SubOrchestrationInstanceCreated { .. }
            | EventKind::EventSent { .. }
    )
}

fn is_end(event: &HistoryEvent) -> bool {
    matches!(
        event.kind,
        EventKind::ExecutionCompleted { .. } | EventKind::ExecutionTerminated { .. }
    )
}
