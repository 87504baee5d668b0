//! Turns and replay: what code sees, what its answer becomes, and what non-determinism looks like.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskhub::testing::{TestHub, retrace};
use taskhub::{
    ActivityContext, ActivityOptions, Error, EventKind, OrchestrationContext, Registry, Result, RuntimeStatus, join,
    join_all,
};

const NON_DETERMINISM: &str = "NonDeterministicOrchestrationError";

async fn hello_sequence(ctx: OrchestrationContext, (): ()) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call_activity("E1_SayHello", city).await?);
    }
    Ok(greetings)
}

fn kinds(hub: &TestHub, id: &taskhub::InstanceId) -> Vec<String> {
    hub.history(id)
        .iter()
        .map(|event| format!("{} {}", event.kind.name(), event.id))
        .collect()
}

fn echo(hub: &mut TestHub, names: &[&str]) {
    for name in names {
        hub.fake_activity(name, |input: serde_json::Value| Ok::<_, Error>(input));
    }
}

#[test]
fn s_hello_sequence() {
    let mut hub = TestHub::new(Registry::new().orchestrator("E1_HelloSequence", hello_sequence));
    hub.fake_activity("E1_SayHello", |city: String| Ok::<_, Error>(format!("Hello {city}!")));
    let id = hub.start("E1_HelloSequence", ());
    hub.run();
    let greetings: Vec<String> = hub.output(&id).unwrap();
    assert_eq!(greetings, ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);
    let wanted = [
        "OrchestratorStarted -1",
        "ExecutionStarted -1",
        "TaskScheduled 0",
        "OrchestratorStarted -1",
        "TaskCompleted -1",
        "TaskScheduled 1",
        "OrchestratorStarted -1",
        "TaskCompleted -1",
        "TaskScheduled 2",
        "OrchestratorStarted -1",
        "TaskCompleted -1",
        "ExecutionCompleted 3",
    ];
    assert_eq!(kinds(&hub, &id), wanted);
}

#[test]
fn a_restart_before_every_turn_changes_nothing() {
    let mut hub = TestHub::new(Registry::new().orchestrator("E1_HelloSequence", hello_sequence));
    hub.fake_activity_taking("E1_SayHello", Duration::from_secs(1), |city: String| {
        Ok::<_, Error>(city)
    });
    let id = hub.start("E1_HelloSequence", ());
    for _ in 0..4 {
        hub.restart().advance(Duration::from_secs(1));
    }
    assert_eq!(hub.output::<Vec<String>>(&id).unwrap().len(), 3);
}

async fn changed(ctx: OrchestrationContext, (): ()) -> Result<()> {
    ctx.wait_for_external_event::<()>("Next").await?;
    ctx.call_activity::<(), _>("Work", ()).await?;
    Ok(())
}

/// Runs `before` until it waits for the event `Next` or a result that takes long, deploys `after`, and
/// gives the failure that ends the instance.
fn redeployed<A, B>(before: A, after: B) -> taskhub::Failure
where
    A: AsyncFn(OrchestrationContext) -> Result<()> + Clone + Send + Sync + 'static,
    B: AsyncFn(OrchestrationContext) -> Result<()> + Clone + Send + Sync + 'static,
{
    let before = move |ctx, (): ()| {
        let before = before.clone();
        async move { before(ctx).await }
    };
    let after = move |ctx, (): ()| {
        let after = after.clone();
        async move { after(ctx).await }
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Changing", before));
    echo(&mut hub, &["Work", "Other"]);
    let id = hub.start_as("order-17", "Changing", ());
    hub.settle();
    assert_eq!(hub.status(&id), RuntimeStatus::Running);
    hub.deploy(Registry::new().orchestrator("Changing", after));
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.settle();
    let failure = hub.output::<()>(&id).unwrap_err();
    assert_eq!(
        (failure.error_type.as_str(), failure.non_retriable),
        (NON_DETERMINISM, true)
    );
    assert!(
        failure.message.contains("`Changing` of instance `order-17`"),
        "{failure}"
    );
    assert_eq!(hub.info(&id).failure.as_deref(), Some(&failure));
    failure
}

async fn work_then_wait(ctx: OrchestrationContext) -> Result<()> {
    ctx.call_activity::<(), _>("Work", ()).await?;
    Ok(ctx.wait_for_external_event("Next").await?)
}

#[test]
fn s_nondet_missing() {
    let failure = redeployed(work_then_wait, async |ctx: OrchestrationContext| {
        Ok(ctx.wait_for_external_event("Next").await?)
    });
    let wanted = "a previous execution scheduled activity `Work` with id 0, but the current one did not";
    assert!(failure.message.contains(wanted), "{failure}");
}

#[test]
fn s_nondet_kind() {
    let failure = redeployed(work_then_wait, async |ctx: OrchestrationContext| {
        ctx.create_timer(Duration::from_secs(1)).await;
        Ok(())
    });
    let wanted = "a previous execution scheduled activity `Work` with id 0, but the current one scheduled a timer for \
        2024-01-01T00:00:01";
    assert!(failure.message.contains(wanted), "{failure}");
}

#[test]
fn s_nondet_name() {
    let failure = redeployed(work_then_wait, async |ctx: OrchestrationContext| {
        Ok(ctx.call_activity("Other", ()).await?)
    });
    let wanted = "a previous execution scheduled activity `Work` with id 0, but the current one scheduled activity \
        `Other`";
    assert!(failure.message.contains(wanted), "{failure}");
}

#[test]
fn an_action_that_the_history_lacks_is_non_determinism() {
    let before = async |ctx: OrchestrationContext| Ok(ctx.wait_for_external_event("Next").await?);
    let failure = redeployed(before, work_then_wait);
    let wanted = "the code schedules activity `Work` with id 0, but the history has no such event at this point";
    assert!(failure.message.contains(wanted), "{failure}");
}

#[test]
fn an_end_where_the_history_goes_on_is_non_determinism() {
    let before = async |ctx: OrchestrationContext| Ok(ctx.wait_for_external_event("Next").await?);
    let failure = redeployed(before, async |_| Ok(()));
    assert!(
        failure
            .message
            .contains("the code ends at a point where the recorded execution continued"),
        "{failure}"
    );
}

#[test]
fn an_event_that_is_sent_to_somebody_else_is_non_determinism() {
    let sends = |to: &'static str| {
        move |ctx: OrchestrationContext| async move {
            ctx.raise_event(to, "Hi", ())?;
            Ok(ctx.wait_for_external_event("Next").await?)
        }
    };
    let failure = redeployed(sends("order-1"), sends("order-2"));
    assert!(failure.message.contains("event `Hi` to `order-1`"), "{failure}");
}

#[test]
fn names_that_differ_in_case_only_are_the_same() {
    let mut hub = TestHub::new(Registry::new().orchestrator("Changing", changed));
    echo(&mut hub, &["Work", "WORK"]);
    let id = hub.start("Changing", ());
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.fake_activity_taking("Work", Duration::from_secs(9), |(): ()| Ok::<_, Error>(()));
    hub.settle();
    let other_case = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ctx.wait_for_external_event::<()>("NEXT").await?;
        Ok(ctx.call_activity("WORK", ()).await?)
    };
    hub.deploy(Registry::new().orchestrator("Changing", other_case));
    hub.run();
    hub.output::<()>(&id).unwrap();
}

#[test]
fn a_turn_that_a_replay_answers_otherwise_fails_at_once() {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    let reckless = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        let call = CALLS.get();
        CALLS.set(call + 1);
        Ok(ctx.call_activity(format!("Work{call}"), ()).await?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Reckless", reckless));
    echo(&mut hub, &["Work0", "Work1"]);
    let failure = hub.run_orchestrator::<(), _>("Reckless", ()).unwrap_err();
    assert_eq!(failure.error_type, NON_DETERMINISM);
    let wanted = "the turn scheduled activity `Work0` with id 0, but its replay scheduled activity `Work1` with id 0";
    assert!(failure.message.contains(wanted), "{failure}");
    assert_eq!(hub.activity_calls(), []);
}

#[test]
fn s_replay_check() {
    let registry = || Registry::new().orchestrator("E1_HelloSequence", hello_sequence);
    let mut hub = TestHub::new(registry());
    hub.fake_activity("E1_SayHello", |city: String| Ok::<_, Error>(city));
    let id = hub.start("E1_HelloSequence", ());
    hub.run();
    let history = hub.history(&id).to_vec();
    retrace(&registry(), &history).unwrap();
    retrace(&registry(), &history[..6]).unwrap();
    let longer = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        hello_sequence(ctx.clone(), ()).await?;
        Ok(ctx.wait_for_external_event("More").await?)
    };
    let failure = retrace(&Registry::new().orchestrator("E1_HelloSequence", longer), &history).unwrap_err();
    assert!(
        failure
            .message
            .contains("the recorded execution ended at a point where the code continues"),
        "{failure}"
    );
    let shorter = async |_: OrchestrationContext, (): ()| Ok::<_, Error>(());
    let failure = retrace(&Registry::new().orchestrator("E1_HelloSequence", shorter), &history).unwrap_err();
    assert!(
        failure.message.contains("scheduled activity `E1_SayHello` with id 0"),
        "{failure}"
    );
}

/// Wherever it was when it was terminated is no divergence.
#[test]
fn a_history_that_was_ended_from_outside_is_replayed() {
    let registry = || Registry::new().orchestrator("Changing", changed);
    let mut hub = TestHub::new(registry());
    let id = hub.start("Changing", ());
    hub.settle();
    hub.terminate(&id, "enough").unwrap();
    hub.run();
    assert_eq!(hub.status(&id), RuntimeStatus::Terminated);
    retrace(&registry(), hub.history(&id)).unwrap();
}

#[test]
fn s_fail_fanout_replay() {
    let fan_out = async |ctx: OrchestrationContext, (): ()| -> Result<usize> {
        let results = join_all((0..50).map(|place| ctx.call_activity::<u32, _>("Work", place))).await;
        Ok(results.iter().filter(|result| result.is_err()).count())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("FanOut", fan_out));
    hub.fake_activity(
        "Work",
        |place: u32| if place % 5 < 2 { Err("broken") } else { Ok(place) },
    );
    assert_eq!(hub.run_orchestrator::<usize, _>("FanOut", ()).unwrap(), 20);
}

#[test]
fn s_return_with_open_tasks() {
    let hasty = async |ctx: OrchestrationContext, (): ()| -> Result<&'static str> {
        let _work = ctx.call_activity::<(), _>("Work", ());
        let _timer = ctx.create_timer(Duration::from_hours(1));
        let _child = ctx.call_sub_orchestrator::<(), _>("Child", ());
        ctx.wait_for_external_event::<()>("Go").await?;
        Ok("done")
    };
    let child =
        async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.wait_for_external_event("Stop").await?) };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Hasty", hasty)
            .orchestrator("Child", child),
    );
    hub.fake_activity_taking("Work", Duration::from_mins(1), |(): ()| Ok::<_, Error>(()));
    let id = hub.start_as("p", "Hasty", ());
    hub.settle();
    hub.raise_event(&id, "Go", ()).unwrap();
    hub.settle();
    assert_eq!(hub.output::<String>(&id).unwrap(), "done");
    assert_eq!(hub.pending_count(), 1, "the activity runs on, the timer does not");
    let child = taskhub::InstanceId::new("p:0002").unwrap();
    assert_eq!(hub.status(&child), RuntimeStatus::Running);
    hub.run();
    assert_eq!(kinds(&hub, &id).last().unwrap(), "ExecutionCompleted 3");
}

#[test]
fn s_throw_with_open_tasks() {
    let failing = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        let _child = ctx.call_sub_orchestrator::<(), _>("Child", ());
        ctx.call_activity::<(), _>("Work", ()).await?;
        Ok(())
    };
    let child =
        async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.wait_for_external_event("Stop").await?) };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Failing", failing)
            .orchestrator("Child", child),
    );
    hub.fake_activity("Work", |(): ()| Err::<(), _>(Error::new("Boom", "it broke")));
    let id = hub.start("Failing", ());
    hub.run();
    let failure = hub.output::<()>(&id).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "TaskFailed: activity `Work` failed: Boom: it broke"
    );
    assert_eq!(failure.inner.unwrap().error_type, "Boom");
    assert_eq!(
        hub.info(&id).output.as_ref().unwrap().to_text(),
        "TaskFailed: activity `Work` failed: Boom: it broke"
    );
}

#[test]
fn a_call_that_is_never_awaited_is_made_all_the_same() {
    let careless = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        drop(ctx.call_activity::<(), _>("Work", 1));
        ctx.call_activity::<(), _>("Work", 2).await?;
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Careless", careless));
    echo(&mut hub, &["Work"]);
    hub.fake_activity("Work", |_: u32| Ok::<_, Error>(()));
    hub.run_orchestrator::<(), _>("Careless", ()).unwrap();
    assert_eq!(hub.call_count("Work"), 2);
}

#[test]
fn awaiting_something_foreign_fails_at_once() {
    let sleeper = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ctx.call_activity::<(), _>("Work", ()).await?;
        std::future::pending::<()>().await;
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Sleeper", sleeper));
    echo(&mut hub, &["Work"]);
    let failure = hub.run_orchestrator::<(), _>("Sleeper", ()).unwrap_err();
    assert_eq!(failure.error_type, "ForeignAwaitError");
    assert!(
        failure
            .message
            .contains("orchestrator `Sleeper` awaits a future that its context did not create"),
        "{failure}"
    );
}

#[test]
fn what_tokio_makes_is_foreign_and_no_panic() {
    let sleeper = async |ctx: OrchestrationContext, is_spawning: bool| -> Result<()> {
        ctx.call_activity::<(), _>("Work", ()).await?;
        if is_spawning {
            #[expect(clippy::disallowed_methods, reason = "it is what must not be done")]
            let spawned = tokio::spawn(std::future::pending::<()>());
            spawned.await?;
        }
        tokio::time::sleep(Duration::from_hours(1)).await; // tidy:allow: it is what must not be done
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Sleeper", sleeper));
    echo(&mut hub, &["Work"]);
    for is_spawning in [false, true] {
        let failure = hub.run_orchestrator::<(), _>("Sleeper", is_spawning).unwrap_err();
        assert_eq!(failure.error_type, "ForeignAwaitError", "{failure}");
    }
}

#[test]
fn a_wake_from_outside_of_a_turn_fails_the_instance() {
    let senders = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&senders);
    let foreign = move |ctx: OrchestrationContext, (): ()| {
        let senders = Arc::clone(&kept);
        async move {
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            senders.lock().unwrap().push(sender);
            let (_, _) = join(ctx.wait_for_external_event::<()>("Go"), receiver).await;
            Ok::<_, Error>(())
        }
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Foreign", foreign));
    let id = hub.start("Foreign", ());
    hub.settle();
    assert_eq!(hub.status(&id), RuntimeStatus::Running);
    for sender in senders.lock().unwrap().drain(..) {
        // The receiver of the replayed turn is gone.
        let _sent = sender.send(());
    }
    hub.raise_event(&id, "Go", ()).unwrap();
    hub.settle();
    assert_eq!(hub.output::<()>(&id).unwrap_err().error_type, "ForeignAwaitError");
}

#[test]
fn an_orchestrator_that_is_not_registered_fails_its_instance_and_names_those_that_are() {
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("A", hello_sequence)
            .orchestrator("B", hello_sequence),
    );
    let failure = hub.run_orchestrator::<(), _>("C", ()).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "OrchestratorNotRegisteredError: no orchestrator `C` is registered; registered: `A`, `B`"
    );
}

#[test]
fn a_running_instance_whose_orchestrator_is_gone_says_so() {
    let waits = async |ctx: OrchestrationContext| work_then_wait(ctx).await;
    let waits = move |ctx, (): ()| waits(ctx);
    let mut hub = TestHub::new(Registry::new().orchestrator("Gone", waits));
    echo(&mut hub, &["Work"]);
    let id = hub.start("Gone", ());
    hub.settle();
    hub.deploy(Registry::new().orchestrator("Other", hello_sequence));
    hub.raise_event(&id, "Next", ()).unwrap();
    hub.settle();
    let wanted = "OrchestratorNotRegisteredError: no orchestrator `Gone` is registered; registered: `Other`";
    assert_eq!(hub.output::<()>(&id).unwrap_err().to_string(), wanted);
    let history = hub.history(&id);
    let failure = retrace(&Registry::new().orchestrator("Other", hello_sequence), history).unwrap_err();
    assert_eq!(failure.to_string(), wanted);
}

#[test]
fn an_input_of_the_wrong_type_fails_with_function_and_type() {
    let add = async |_: OrchestrationContext, number: u32| -> Result<u32> { Ok(number + 1) };
    let mut hub = TestHub::new(Registry::new().orchestrator("Add", add));
    let failure = hub.run_orchestrator::<u32, _>("Add", "seven").unwrap_err();
    assert_eq!(failure.error_type, "DeserializationError");
    assert!(
        failure
            .message
            .starts_with("cannot read the input of orchestrator `Add` as `u32`"),
        "{failure}"
    );
}

#[test]
fn a_result_of_the_wrong_type_fails_the_call() {
    let mut hub = TestHub::new(Registry::new().orchestrator("E1_HelloSequence", hello_sequence));
    hub.fake_activity("E1_SayHello", |_: String| Ok::<_, Error>(7));
    let failure = hub
        .run_orchestrator::<Vec<String>, _>("E1_HelloSequence", ())
        .unwrap_err();
    let wanted = "cannot read the result of activity `E1_SayHello` as `alloc::string::String`";
    assert!(failure.message.contains(wanted), "{failure}");
}

#[test]
fn a_panic_sets_the_instance_aside_with_its_message() {
    let shaky = async |_: OrchestrationContext, number: u32| -> Result<()> {
        assert!(number > 7, "{number} is too small");
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Shaky", shaky));
    let failure = hub.run_orchestrator::<(), _>("Shaky", 3).unwrap_err();
    assert!(
        failure
            .message
            .contains("stalled because orchestrator `Shaky` panicked: 3 is too small"),
        "{failure}"
    );
}

#[test]
fn a_panic_in_an_activity_is_a_failure() {
    let mut hub = TestHub::new(Registry::new().orchestrator("E1_HelloSequence", hello_sequence));
    hub.fake_activity("E1_SayHello", |city: String| -> Result<String> {
        panic!("no way to {city}")
    });
    let failure = hub
        .run_orchestrator::<Vec<String>, _>("E1_HelloSequence", ())
        .unwrap_err();
    assert_eq!(failure.inner.unwrap().to_string(), "Panic: no way to Tokyo");
}

#[test]
fn an_activity_that_is_not_registered_fails_the_call_for_good() {
    let mut hub = TestHub::new(Registry::new().orchestrator("E1_HelloSequence", hello_sequence));
    let failure = hub
        .run_orchestrator::<Vec<String>, _>("E1_HelloSequence", ())
        .unwrap_err();
    let cause = failure.inner.unwrap();
    assert_eq!(
        cause.to_string(),
        "ActivityNotRegisteredError: no activity `E1_SayHello` is registered; registered: none"
    );
    assert!(cause.non_retriable);
}

#[test]
fn time_and_ids_are_the_same_on_replay() {
    let timely = async |ctx: OrchestrationContext, (): ()| -> Result<Vec<String>> {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(format!("{} {} {}", ctx.now(), ctx.new_guid(), ctx.random()));
            // Anything that changed on replay would change this input, and with it the turn.
            ctx.call_activity::<(), _>("Show", seen.join(",")).await?;
            ctx.create_timer(Duration::from_mins(1)).await;
        }
        Ok(seen)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Timely", timely));
    hub.fake_activity("Show", |_: String| Ok::<_, Error>(()));
    let seen: Vec<String> = hub.run_orchestrator("Timely", ()).unwrap();
    assert!(seen[0].starts_with("2024-01-01T00:00:00.0000000Z "), "{seen:?}");
    assert!(seen[1].starts_with("2024-01-01T00:01:00.0010000Z "), "{seen:?}");
}

#[test]
fn history_keeps_the_input_as_it_was_given() {
    let mut hub =
        TestHub::new(Registry::new().orchestrator("Raw", async |_, input: taskhub::Raw| Ok::<_, Error>(input)));
    let id = hub.start("Raw", serde_json::json!({"b": 1, "a": 2}));
    hub.run();
    let EventKind::ExecutionStarted(started) = &hub.history(&id)[1].kind else {
        panic!()
    };
    assert_eq!(started.input, hub.info(&id).output);
}

#[test]
fn an_instance_that_is_set_aside_is_tried_again_after_a_deployment() {
    let broken = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ctx.call_activity::<(), _>("Work", ()).await?;
        panic!("not finished yet");
    };
    let mended = async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.call_activity("Work", ()).await?) };
    let mut hub = TestHub::new(Registry::new().orchestrator("Order", broken));
    echo(&mut hub, &["Work"]);
    let id = hub.start("Order", ());
    hub.run();
    assert!(hub.info(&id).stalled.is_some());
    hub.deploy(Registry::new().orchestrator("Order", mended)).run();
    hub.output::<()>(&id).unwrap();
    assert_eq!((&hub.info(&id).stalled, hub.call_count("Work")), (&None, 1));
}

#[test]
fn a_fake_that_takes_longer_than_the_activity_may_is_timed_out() {
    let asks = async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.call_activity("Slow", ()).await?) };
    let slow = async |_: ActivityContext, (): ()| Ok::<_, Error>(());
    let options = ActivityOptions::new().start_to_close(Duration::from_secs(5));
    let registry = Registry::new()
        .orchestrator("Asks", asks)
        .activity("Slow", slow)
        .activity_options("Slow", options);
    let mut hub = TestHub::new(registry);
    for (seconds, wanted) in [(5, None), (6, Some("ActivityTimeout"))] {
        hub.fake_activity_taking("Slow", Duration::from_secs(seconds), |(): ()| Ok::<_, Error>(()));
        let before = hub.now();
        let failure = hub.run_orchestrator::<(), _>("Asks", ()).err();
        let error_type = failure
            .as_ref()
            .and_then(|failure| Some(failure.inner.as_ref()?.error_type.as_str()));
        assert_eq!((error_type, hub.now().since(before).as_secs()), (wanted, 5));
    }
}

/// A value of 30 MiB that counts how often it is encoded.
struct Large<'c>(&'c Cell<u32>);

impl serde::Serialize for Large<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.set(self.0.get() + 1);
        to.serialize_str(&"x".repeat(30 << 20))
    }
}

#[test]
fn what_a_turn_asks_for_beyond_its_limit_is_not_encoded() {
    thread_local! {
        static ENCODED: Cell<u32> = const { Cell::new(0) };
    }
    let greedy = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        ENCODED.set(0);
        let count = Cell::new(0);
        let calls: Vec<_> = (0..40)
            .map(|_| ctx.call_activity::<(), _>("Store", Large(&count)))
            .collect();
        ENCODED.set(count.get());
        join_all(calls).await;
        Ok(())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Greedy", greedy));
    let id = hub.start("Greedy", ());
    hub.run();
    let stall = hub.info(&id).stalled.clone().unwrap();
    assert!(stall.reason.contains("at most 268435456"), "{stall:?}");
    assert!(stall.is_final(), "it would ask for as much again: {stall:?}");
    assert_eq!(ENCODED.get(), 9, "256 MiB are eight and a half");
}
