//! The worker as the engine sees it: live executions, their budget, activities, and log lines.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::cell::Cell;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskhub::testing::TestHub;
use taskhub::worker::{OnNonDeterminism, RegisteredFunctions, WorkerOptions};
use taskhub::{
    ActivityContext, ActivityOptions, Error, EventKind, ExecutionId, Failure, HistoryEvent, InstanceId,
    OrchestrationContext, Payload, Registry, Result, Timestamp,
};
use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::event::ExecutionStarted;
use taskhub_core::id::{Epoch, Fence, HubName, InstanceNumber, Name, Occurrence};
use taskhub_core::message::Outcome;
use taskhub_engine::worker::{ActivityCall, Cancellation, Functions, TaskKey, TurnItem, TurnOutcome, Worker};
use taskhub_store::PartitionKey;

async fn two_steps(ctx: OrchestrationContext, (): ()) -> Result<()> {
    ctx.log_info("begins");
    ctx.call_activity::<(), _>("Work", 1).await?;
    ctx.log_info("half way");
    ctx.call_activity::<(), _>("Work", 2).await?;
    ctx.log_info("ends");
    Ok(())
}

fn partition(index: u16) -> PartitionKey {
    PartitionKey {
        hub: HubName::new("TestHub").unwrap(),
        index,
    }
}

fn event(id: i32, kind: EventKind) -> HistoryEvent {
    HistoryEvent {
        id,
        at: Timestamp::from_micros(1),
        kind,
    }
}

fn started(instance: &str) -> HistoryEvent {
    let started = ExecutionStarted {
        name: Name::new("TwoSteps").unwrap(),
        version: Some(Name::new("1.2").unwrap()),
        input: None,
        instance: InstanceId::new(instance).unwrap(),
        execution: ExecutionId::new([7; 16]),
        parent: None,
        scheduled_start: None,
        tags: taskhub::Tags::new(),
    };
    event(-1, EventKind::ExecutionStarted(Box::new(started)))
}

fn scheduled(id: i32) -> HistoryEvent {
    let name = Name::new("Work").unwrap();
    event(
        id,
        EventKind::TaskScheduled {
            name,
            version: None,
            input: None,
            tags: taskhub::Tags::new(),
        },
    )
}

fn completed(id: i32) -> HistoryEvent {
    event(
        -1,
        EventKind::TaskCompleted {
            task_scheduled_id: id,
            result: None,
        },
    )
}

fn turn_started() -> HistoryEvent {
    event(-1, EventKind::OrchestratorStarted)
}

/// The n-th turn of an instance of `TwoSteps`, with the history only if that is wanted.
fn item(instance: &str, turn: usize, with_history: bool) -> TurnItem {
    let history = [
        vec![turn_started(), started(instance), scheduled(0)],
        vec![turn_started(), completed(0), scheduled(1)],
        vec![turn_started(), completed(1)],
    ];
    let past = history[..turn].concat();
    TurnItem {
        partition: partition(0),
        instance: InstanceId::new(instance).unwrap(),
        execution: ExecutionId::new([7; 16]),
        fence: Fence {
            epoch: Epoch(3),
            counter: turn as u64,
        },
        past_events: u32::try_from(past.len()).unwrap(),
        past: (with_history || turn == 0).then_some(past),
        new_events: history[turn][..2].into(),
    }
}

fn worker(options: WorkerOptions) -> Box<dyn Worker> {
    RegisteredFunctions::new(Registry::new().orchestrator("TwoSteps", two_steps), options).worker()
}

fn actions(outcome: TurnOutcome) -> Vec<Action> {
    match outcome {
        TurnOutcome::Answer(answer) => answer.actions,
        other => panic!("{other:?}"),
    }
}

fn scheduled_id(outcome: TurnOutcome) -> i32 {
    match &actions(outcome)[..] {
        [
            Action {
                id,
                kind: ActionKind::ScheduleTask { .. },
            },
        ] => *id,
        other => panic!("{other:?}"),
    }
}

fn ends(outcome: TurnOutcome) -> bool {
    matches!(
        &actions(outcome)[..],
        [Action {
            id: 2,
            kind: ActionKind::CompleteOrchestration(Completion::Completed(None))
        }]
    )
}

#[test]
fn a_live_execution_needs_no_history() {
    let mut worker = worker(WorkerOptions::default());
    assert_eq!(scheduled_id(worker.turn(&item("a", 0, false))), 0);
    assert_eq!(scheduled_id(worker.turn(&item("a", 1, false))), 1);
    assert!(worker.live_bytes() > 0);
    assert!(ends(worker.turn(&item("a", 2, false))));
    assert_eq!(worker.live_bytes(), 0, "an ended execution is dropped");
}

#[test]
fn any_doubt_about_a_live_execution_asks_for_the_history() {
    let doubts: [fn(&mut TurnItem); 4] = [
        |item| item.fence.epoch = Epoch(4),
        |item| item.execution = ExecutionId::new([8; 16]),
        |item| item.past_events += 1,
        |item| item.partition = partition(1),
    ];
    for doubt in doubts {
        let mut worker = worker(WorkerOptions::default());
        worker.turn(&item("a", 0, false));
        let mut doubtful = item("a", 1, false);
        doubt(&mut doubtful);
        assert!(matches!(worker.turn(&doubtful), TurnOutcome::NeedsHistory));
        assert_eq!(scheduled_id(worker.turn(&item("a", 1, true))), 1);
    }
}

#[test]
fn evicted_and_forgotten_executions_ask_for_the_history() {
    let mut worker = worker(WorkerOptions::default());
    worker.turn(&item("a", 0, false));
    worker.evict(&partition(0), &InstanceId::new("a").unwrap());
    assert!(matches!(worker.turn(&item("a", 1, false)), TurnOutcome::NeedsHistory));
    worker.turn(&item("b", 0, false));
    worker.forget(&partition(0));
    assert_eq!(worker.live_bytes(), 0);
    assert!(matches!(worker.turn(&item("b", 1, false)), TurnOutcome::NeedsHistory));
}

#[test]
fn above_the_budget_the_executions_used_longest_ago_go() {
    let mut worker = worker(WorkerOptions::default());
    worker.turn(&item("a", 0, false));
    let one = worker.live_bytes();
    let options = WorkerOptions {
        live_bytes_max: one * 2 + one / 2,
        ..WorkerOptions::default()
    };
    let mut worker = self::worker(options);
    for instance in ["a", "b"] {
        worker.turn(&item(instance, 0, false));
    }
    worker.turn(&item("a", 1, false));
    worker.turn(&item("c", 0, false));
    assert!(worker.live_bytes() <= one * 2 + one / 2);
    assert!(matches!(worker.turn(&item("b", 1, false)), TurnOutcome::NeedsHistory));
    assert!(ends(worker.turn(&item("a", 2, false))));
}

#[test]
fn a_checked_worker_keeps_the_history_it_checks_against() {
    let mut worker = worker(WorkerOptions {
        check_replay: true,
        ..WorkerOptions::default()
    });
    assert_eq!(scheduled_id(worker.turn(&item("a", 0, false))), 0);
    assert_eq!(scheduled_id(worker.turn(&item("a", 1, false))), 1);
    assert!(ends(worker.turn(&item("a", 2, false))));
}

#[test]
fn a_checked_worker_fails_an_instance_that_a_replay_answers_otherwise() {
    thread_local! {
        static TURNS: Cell<i32> = const { Cell::new(0) };
    }
    let reckless = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        TURNS.set(TURNS.get() + 1);
        Ok(ctx.call_activity(format!("Work{}", TURNS.get()), ()).await?)
    };
    let options = WorkerOptions {
        check_replay: true,
        ..WorkerOptions::default()
    };
    let mut worker = RegisteredFunctions::new(Registry::new().orchestrator("TwoSteps", reckless), options).worker();
    match &actions(worker.turn(&item("a", 0, false)))[..] {
        [
            Action {
                kind: ActionKind::CompleteOrchestration(Completion::Failed(failure)),
                ..
            },
        ] => {
            assert_eq!(failure.error_type, "NonDeterministicOrchestrationError");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.live_bytes(), 0);
}

#[test]
fn s_nondet_block() {
    let options = WorkerOptions {
        on_nondeterminism: OnNonDeterminism::Block,
        ..WorkerOptions::default()
    };
    let other = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ctx.create_timer(Duration::from_secs(1)).await;
        Ok(())
    };
    let mut bad = RegisteredFunctions::new(Registry::new().orchestrator("TwoSteps", other), options.clone()).worker();
    match bad.turn(&item("a", 1, true)) {
        TurnOutcome::Failed { reason } => assert!(reason.contains("does not match its recorded history"), "{reason}"),
        other => panic!("{other:?}"),
    }
    // So does one that lacks the orchestrator (R166).
    let empty = RegisteredFunctions::new(Registry::new(), options.clone());
    match empty.worker().turn(&item("a", 1, true)) {
        TurnOutcome::Failed { reason } => {
            assert_eq!(reason, "no orchestrator `TwoSteps` is registered; registered: none");
        }
        other => panic!("{other:?}"),
    }
    // The old build goes on where it was.
    assert_eq!(scheduled_id(worker(options).turn(&item("a", 1, true))), 1);
}

fn call(name: &str, input: &str) -> ActivityCall {
    ActivityCall {
        key: TaskKey {
            partition: partition(0),
            number: InstanceNumber(4),
            occurrence: Occurrence(2),
            instance: InstanceId::new("order-17").unwrap(),
        },
        event_id: 2,
        name: Name::new(name).unwrap(),
        version: None,
        input: Some(Payload::text(input)),
        tags: taskhub::Tags::new(),
        delivery: 3,
        cancellation: Cancellation::default(),
    }
}

fn functions(registry: Registry) -> RegisteredFunctions {
    RegisteredFunctions::new(
        registry,
        WorkerOptions {
            blocking_max: 1,
            ..WorkerOptions::default()
        },
    )
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => *failure,
        Outcome::Completed(result) => panic!("{result:?}"),
    }
}

#[tokio::test]
async fn an_activity_knows_its_call() {
    let describe = async |ctx: ActivityContext, input: u32| {
        Ok::<_, Error>(format!(
            "{} {} {} {} {input} {}",
            ctx.name(),
            ctx.instance_id(),
            ctx.attempt(),
            ctx.delivery(),
            ctx.stable_key()
        ))
    };
    let functions = functions(Registry::new().activity("Describe", describe));
    let wanted = Payload::text("\"Describe order-17 1 3 5 TestHub/0/order-17/4.2\"");
    assert_eq!(
        functions.activity(call("Describe", "5")).await,
        Outcome::Completed(Some(wanted))
    );
}

#[tokio::test]
async fn panics_of_activities_are_failures() {
    let registry = Registry::new()
        .activity("Async", async |_, (): ()| -> Result<()> { panic!("async") })
        .blocking_activity("Blocking", |_, (): ()| -> Result<()> { panic!("blocking {}", 1) });
    let functions = functions(registry);
    let outcome = functions.activity(call("Async", "null")).await;
    assert_eq!(failure(outcome).to_string(), "Panic: async");
    let outcome = functions.activity(call("Blocking", "null")).await;
    assert_eq!(failure(outcome).to_string(), "Panic: blocking 1");
}

#[tokio::test(start_paused = true)]
async fn s_activity_timeout() {
    let options = ActivityOptions::new().start_to_close(Duration::from_secs(3));
    let hang = async |_: ActivityContext, (): ()| -> Result<()> { std::future::pending().await };
    let functions = functions(Registry::new().activity("Hang", hang).activity_options("Hang", options));
    let call = call("Hang", "null");
    let cancellation = call.cancellation.clone();
    let failure = failure(functions.activity(call).await);
    assert_eq!(
        failure.to_string(),
        "ActivityTimeout: activity `Hang` timed out after 3s"
    );
    assert!(!failure.non_retriable && cancellation.is_cancelled());
}

#[tokio::test]
async fn blocking_activities_run_on_a_pool_of_their_own_limit() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let work = move |_: ActivityContext, (): ()| -> Result<()> {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    let functions = functions(Registry::new().blocking_activity("Work", work));
    let calls = (0..20).map(|_| functions.activity(call("Work", "null")));
    for outcome in taskhub::join_all(calls).await {
        assert_eq!(outcome, Outcome::Completed(None));
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_activity_that_is_missing_is_named_with_those_that_are_there() {
    let functions = functions(Registry::new().activity("Here", async |_, (): ()| Ok::<_, Error>(())));
    let failure = failure(functions.activity(call("Gone", "null")).await);
    assert_eq!(
        failure.to_string(),
        "ActivityNotRegisteredError: no activity `Gone` is registered; registered: `Here`"
    );
    assert!(failure.non_retriable);
}

/// Keeps the lines that are logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "taskhub::orchestrator"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

#[test]
fn s_log_replay_safe() {
    let lines = Lines::default();
    let execution = tracing::subscriber::with_default(lines.clone(), || {
        let mut hub = TestHub::new(Registry::new().orchestrator("TwoSteps", two_steps));
        hub.fake_activity_taking("Work", Duration::from_secs(1), |_: u32| Ok::<_, Error>(()));
        let id = hub.start_as("a", "TwoSteps", ());
        for _ in 0..3 {
            hub.restart().advance(Duration::from_secs(1));
        }
        format!("execution={}", hub.info(&id).execution)
    });
    let lines = lines.0.lock().unwrap();
    let messages: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split("message=").nth(1)?.split(" instance").next())
        .collect();
    assert_eq!(messages, ["begins", "half way", "ends"]);
    for field in ["INFO", "instance=a", &execution, "name=TwoSteps", "version="] {
        assert!(lines[0].contains(field), "{}", lines[0]);
    }
}

/// The first turn of an instance whose orchestrator is registered as `TwoSteps`, and later ones with what came before.
fn turn_of(past_events: u32, new_events: &[HistoryEvent]) -> TurnItem {
    TurnItem {
        past_events,
        past: (past_events == 0).then(Vec::new),
        new_events: new_events.into(),
        ..item("a", 0, false)
    }
}

fn worker_of<F>(orchestrator: F) -> Box<dyn Worker>
where
    F: AsyncFn(OrchestrationContext) -> Result<u32> + Clone + Send + Sync + 'static,
{
    let function = move |ctx, (): ()| {
        let orchestrator = orchestrator.clone();
        async move { orchestrator(ctx).await }
    };
    let registry = Registry::new().orchestrator("TwoSteps", function);
    RegisteredFunctions::new(registry, WorkerOptions::default()).worker()
}

fn raised(name: &str, input: &str) -> HistoryEvent {
    let (name, input) = (Name::new(name).unwrap(), Some(Payload::text(input)));
    event(-1, EventKind::EventRaised { name, input })
}

#[test]
fn a_timer_that_has_fired_is_not_cancelled() {
    let mut worker = worker_of(async |ctx: OrchestrationContext| {
        let timer = ctx.create_timer(Duration::from_hours(1));
        ctx.wait_for_external_event::<u32>("Go").await?;
        drop(timer);
        Ok(ctx.wait_for_external_event("End").await?)
    });
    let made = actions(worker.turn(&turn_of(0, &[turn_started(), started("a")])));
    let [
        Action {
            id: 0,
            kind: ActionKind::CreateTimer { fire_at },
        },
    ] = made[..]
    else {
        panic!("{made:?}")
    };
    let fired = event(-1, EventKind::TimerFired { timer_id: 0, fire_at });
    assert_eq!(
        actions(worker.turn(&turn_of(3, &[turn_started(), fired, raised("Go", "1")]))),
        []
    );
}

/// A store that was restored may have two of them.
#[test]
fn the_first_result_of_a_call_counts() {
    let mut worker = worker_of(async |ctx: OrchestrationContext| {
        let call = ctx.call_activity::<u32, _>("Work", ());
        ctx.wait_for_external_event::<u32>("Go").await?;
        Ok(call.await?)
    });
    worker.turn(&turn_of(0, &[turn_started(), started("a")]));
    let result = |number: u32| {
        let (task_scheduled_id, result) = (0, Some(Payload::text(&number.to_string())));
        let kind = EventKind::TaskCompleted {
            task_scheduled_id,
            result,
        };
        event(-1, kind)
    };
    let new = [turn_started(), result(1), result(2), raised("Go", "3")];
    let ended = actions(worker.turn(&turn_of(3, &new)));
    let ActionKind::CompleteOrchestration(Completion::Completed(output)) = &ended[0].kind else {
        panic!("{ended:?}")
    };
    assert_eq!(output.as_ref().map(Payload::to_text).as_deref(), Some("1"));
}

/// What it makes is part of its history from then on.
#[test]
fn a_live_execution_that_sent_an_event_needs_no_history() {
    let mut worker = worker_of(async |ctx: OrchestrationContext| {
        ctx.raise_event("b", "Hi", ())?;
        ctx.wait_for_external_event::<u32>("Go").await?;
        Ok(ctx.wait_for_external_event("End").await?)
    });
    let made = actions(worker.turn(&turn_of(0, &[turn_started(), started("a")])));
    assert!(
        matches!(made[0].kind, ActionKind::SendEvent { .. }) && made.len() == 1,
        "{made:?}"
    );
    assert_eq!(
        actions(worker.turn(&turn_of(3, &[turn_started(), raised("Go", "1")]))),
        []
    );
}

#[test]
fn a_live_execution_takes_what_it_was_fed() {
    const BYTES: usize = 100_000;
    let mut worker = worker_of(async |ctx: OrchestrationContext| {
        ctx.wait_for_external_event::<String>("Go").await?;
        Ok(ctx.wait_for_external_event("End").await?)
    });
    worker.turn(&turn_of(0, &[turn_started(), started("a")]));
    let before = worker.live_bytes();
    let text = format!("\"{}\"", "x".repeat(BYTES));
    worker.turn(&turn_of(2, &[turn_started(), raised("Go", &text)]));
    let fed = worker.live_bytes() - before;
    assert!((BYTES..BYTES + 1_000).contains(&fed), "{fed} bytes");
}

#[test]
fn one_execution_above_the_whole_budget_stays_and_none_beside_it() {
    let options = |live_bytes_max| WorkerOptions {
        live_bytes_max,
        ..WorkerOptions::default()
    };
    let mut one = worker(options(1));
    one.turn(&item("a", 0, false));
    assert_eq!(scheduled_id(one.turn(&item("a", 1, false))), 1);
    one.turn(&item("b", 0, false));
    assert!(matches!(one.turn(&item("a", 2, false)), TurnOutcome::NeedsHistory));
    let mut none = worker(options(0));
    none.turn(&item("a", 0, false));
    assert!(matches!(none.turn(&item("a", 1, false)), TurnOutcome::NeedsHistory));
    assert_eq!(none.live_bytes(), 0);
}
