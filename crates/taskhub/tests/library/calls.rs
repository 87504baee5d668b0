//! Activities and sub-orchestrations: retries, failures, fan-out, and the combinators of the ecosystem.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use taskhub::testing::TestHub;
use taskhub::{
    Error, Failure, First, InstanceId, OrchestrationContext, Registry, Result, RetryPolicy, RuntimeStatus, join_all,
    select, select_all, try_join_all,
};

const SECOND: Duration = Duration::from_secs(1);

async fn work_with(ctx: &OrchestrationContext, policy: RetryPolicy) -> Result<u32> {
    Ok(ctx.call_activity("Work", ()).retry(policy).await?)
}

/// A hub with one orchestrator and an activity `Work` that fails so many times before it succeeds.
fn failing<F>(times: u32, error: Error, policy: F) -> TestHub
where
    F: Fn() -> RetryPolicy + Clone + Send + Sync + 'static,
{
    let orchestrator = move |ctx: OrchestrationContext, (): ()| {
        let policy = policy.clone();
        async move { work_with(&ctx, policy()).await }
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Retrying", orchestrator));
    let mut calls = 0;
    hub.fake_activity("Work", move |(): ()| {
        calls += 1;
        if calls <= times { Err(error.clone()) } else { Ok(calls) }
    });
    hub
}

fn pauses(hub: &TestHub) -> Vec<u64> {
    let calls = hub.activity_calls();
    calls
        .windows(2)
        .map(|pair| pair[1].at.since(pair[0].at).as_secs())
        .collect()
}

#[test]
fn s_retry_delays() {
    let policy = || {
        RetryPolicy::new(6, SECOND * 5)
            .backoff_coefficient(2.0)
            .max_interval(SECOND * 15)
    };
    let mut hub = failing(5, Error::msg("not yet"), policy);
    assert_eq!(hub.run_orchestrator::<u32, _>("Retrying", ()).unwrap(), 6);
    assert_eq!(pauses(&hub), [5, 10, 15, 15, 15]);
}

#[test]
fn attempts_are_used_up_and_the_last_failure_is_reported() {
    let mut hub = failing(9, Error::new("Busy", "try later"), || RetryPolicy::new(3, SECOND));
    let failure = hub.run_orchestrator::<u32, _>("Retrying", ()).unwrap_err();
    assert_eq!(failure.inner.unwrap().error_type, "Busy");
    assert_eq!(hub.call_count("Work"), 3);
}

#[test]
fn no_attempt_is_made_past_the_retry_timeout() {
    let policy = || RetryPolicy::new(100, SECOND * 10).retry_timeout(SECOND * 25);
    let mut hub = failing(100, Error::msg("no"), policy);
    hub.run_orchestrator::<u32, _>("Retrying", ()).unwrap_err();
    assert_eq!(hub.call_count("Work"), 4);
}

#[test]
fn no_attempt_is_made_at_the_very_retry_timeout() {
    let retrying = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        let policy = RetryPolicy::new(100, SECOND).retry_timeout(SECOND * 10);
        Ok(ctx.call_activity("Fails", ()).retry(policy).await?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Retrying", retrying));
    hub.fake_activity_taking("Fails", SECOND * 10, |(): ()| Err::<(), _>(Error::msg("no")));
    hub.run_orchestrator::<(), _>("Retrying", ()).unwrap_err();
    assert_eq!(hub.call_count("Fails"), 1);
}

#[test]
fn s_retry_nonretriable() {
    let mut hub = failing(9, Error::new("Declined", "no funds").non_retriable(), || {
        RetryPolicy::new(5, SECOND)
    });
    let failure = hub.run_orchestrator::<u32, _>("Retrying", ()).unwrap_err();
    assert!(failure.non_retriable && failure.inner.unwrap().error_type == "Declined");
    assert_eq!(hub.call_count("Work"), 1);
}

#[test]
fn s_retry_handler() {
    let policy =
        || RetryPolicy::new(9, SECOND).handle(|failed| failed.attempt < 3 && failed.failure.message == "again");
    let mut hub = failing(9, Error::msg("again"), policy);
    hub.run_orchestrator::<u32, _>("Retrying", ()).unwrap_err();
    assert_eq!(hub.call_count("Work"), 3);
}

#[test]
fn a_handler_that_panics_means_no() {
    let policy = || RetryPolicy::new(9, SECOND).handle(|_| panic!("what now"));
    let mut hub = failing(9, Error::new("Busy", "try later"), policy);
    let failure = hub.run_orchestrator::<u32, _>("Retrying", ()).unwrap_err();
    assert_eq!(failure.inner.unwrap().error_type, "Busy");
    assert_eq!(hub.call_count("Work"), 1);
}

/// Fails the first attempt for each input.
fn flaky(hub: &mut TestHub) {
    let mut seen = std::collections::BTreeSet::new();
    hub.fake_activity(
        "Flaky",
        move |place: u32| if seen.insert(place) { Err("first") } else { Ok(place) },
    );
}

#[test]
fn s_retry_in_whenall() {
    let all = async |ctx: OrchestrationContext, (): ()| -> Result<u32> {
        let calls = (0..20).map(|place| {
            ctx.call_activity::<u32, _>("Flaky", place)
                .retry(RetryPolicy::new(3, SECOND))
        });
        Ok(try_join_all(calls).await?.iter().sum())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("All", all));
    flaky(&mut hub);
    assert_eq!(hub.run_orchestrator::<u32, _>("All", ()).unwrap(), 190);
    assert_eq!(hub.call_count("Flaky"), 40);
}

#[test]
fn s_retry_in_whenany() {
    let any = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let retried = ctx
            .call_activity::<u32, _>("Flaky", 7)
            .retry(RetryPolicy::new(3, SECOND * 60));
        let timer = ctx.create_timer(SECOND * 30);
        let First::Other(()) = select(retried, timer).await else {
            return Ok("retried".to_owned());
        };
        // The pause of the retry was dropped with it, so no second attempt comes.
        ctx.create_timer(SECOND * 3600).await;
        Ok("timer".to_owned())
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Any", any));
    flaky(&mut hub);
    assert_eq!(hub.run_orchestrator::<String, _>("Any", ()).unwrap(), "timer");
    assert_eq!(hub.call_count("Flaky"), 1);
}

#[test]
fn a_retried_call_that_is_not_awaited_makes_its_first_attempt() {
    let lazy = async |ctx: OrchestrationContext, (): ()| -> Result<u32> {
        let call = ctx.call_activity("Flaky", 1).retry(RetryPolicy::new(3, SECOND));
        ctx.create_timer(SECOND * 9).await;
        Ok(call.await?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Lazy", lazy));
    flaky(&mut hub);
    let before = hub.now();
    assert_eq!(hub.run_orchestrator::<u32, _>("Lazy", ()).unwrap(), 1);
    assert_eq!(hub.activity_calls()[0].at, before);
}

async fn child(ctx: OrchestrationContext, name: String) -> Result<String> {
    if name.is_empty() {
        return Err(Error::new("NoName", "a name is needed"));
    }
    Ok(format!(
        "{name} of {}",
        ctx.parent_instance_id().map_or("nobody", InstanceId::as_str)
    ))
}

#[test]
fn s_child_basic() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        Ok(ctx.call_sub_orchestrator("Child", "Ada").await?)
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Child", child),
    );
    let id = hub.start_as("p", "Parent", ());
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "Ada of p");
    assert_eq!(
        hub.status(&InstanceId::new("p:0000").unwrap()),
        RuntimeStatus::Completed
    );
}

#[test]
fn s_child_fail_details() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        Ok(ctx.call_sub_orchestrator("Child", "").await?)
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Child", child),
    );
    let failure = hub.run_orchestrator::<String, _>("Parent", ()).unwrap_err();
    assert_eq!(
        failure.message,
        "sub-orchestration `Child` failed: NoName: a name is needed"
    );
    assert_eq!(failure.inner.unwrap().error_type, "NoName");
}

#[test]
fn s_child_retry_same_id() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<u32> {
        let policy = RetryPolicy::new(3, SECOND);
        Ok(ctx
            .call_sub_orchestrator("Flaky", ())
            .retry(policy)
            .id("the-child")
            .await?)
    };
    let flaky = async |ctx: OrchestrationContext, (): ()| -> Result<u32> { Ok(ctx.call_activity("Work", ()).await?) };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Flaky", flaky),
    );
    let calls = Rc::new(Cell::new(0));
    let counter = Rc::clone(&calls);
    hub.fake_activity("Work", move |(): ()| {
        counter.set(counter.get() + 1);
        if counter.get() < 3 {
            Err("not yet")
        } else {
            Ok(counter.get())
        }
    });
    assert_eq!(hub.run_orchestrator::<u32, _>("Parent", ()).unwrap(), 3);
    assert_eq!(
        hub.status(&InstanceId::new("the-child").unwrap()),
        RuntimeStatus::Completed
    );
}

#[test]
fn s_child_id_live_collision() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let failed = ctx
            .call_sub_orchestrator::<String, _>("Child", "x")
            .id("taken")
            .await
            .unwrap_err();
        Ok(failed.error_type().to_owned())
    };
    let waits =
        async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.wait_for_external_event("Go").await?) };
    let registry = Registry::new()
        .orchestrator("Parent", parent)
        .orchestrator("Waits", waits);
    let mut hub = TestHub::new(registry.orchestrator("Child", child));
    hub.start_as("taken", "Waits", ());
    hub.settle();
    assert_eq!(
        hub.run_orchestrator::<String, _>("Parent", ()).unwrap(),
        "OrchestrationAlreadyExists"
    );
}

#[test]
fn s_child_own_id() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        let own = ctx.instance_id().as_str();
        Ok(ctx.call_sub_orchestrator("Child", "x").id(own).await?)
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Child", child),
    );
    let failure = hub.run_orchestrator::<(), _>("Parent", ()).unwrap_err();
    assert_eq!(failure.error_type, "InvalidOrchestratorResponse");
}

#[test]
fn s_child_terminated() {
    let parent = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let failed = ctx.call_sub_orchestrator::<(), _>("Waits", ()).await.unwrap_err();
        Ok(format!("{}: {}", failed.error_type(), failed.message()))
    };
    let waits =
        async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.wait_for_external_event("Go").await?) };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Waits", waits),
    );
    let id = hub.start_as("p", "Parent", ());
    hub.settle();
    hub.terminate(&InstanceId::new("p:0000").unwrap(), "enough").unwrap();
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "OrchestrationTerminated: enough");
}

#[test]
fn s_child_can() {
    let parent =
        async |ctx: OrchestrationContext, (): ()| -> Result<u32> { Ok(ctx.call_sub_orchestrator("Steps", 0).await?) };
    let steps = async |ctx: OrchestrationContext, step: u32| -> Result<u32> {
        if step == 5 {
            Ok(step)
        } else {
            ctx.continue_as_new(step + 1)
        }
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Steps", steps),
    );
    assert_eq!(hub.run_orchestrator::<u32, _>("Parent", ()).unwrap(), 5);
}

#[test]
fn s_parent_can_drops_child() {
    let parent = async |ctx: OrchestrationContext, is_second: bool| -> Result<String> {
        if is_second {
            return Ok(ctx.wait_for_external_event("Go").await?);
        }
        let _child = ctx.call_sub_orchestrator::<String, _>("Child", "Ada");
        ctx.continue_as_new(true)
    };
    let mut hub = TestHub::new(
        Registry::new()
            .orchestrator("Parent", parent)
            .orchestrator("Child", child),
    );
    let id = hub.start("Parent", false);
    hub.run();
    hub.raise_event(&id, "Go", "on").unwrap();
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "on");
    let heard = hub
        .history(&id)
        .iter()
        .any(|event| event.kind.name().starts_with("SubOrchestration"));
    assert!(!heard, "the new execution hears nothing of the old one's child");
}

#[test]
fn a_child_under_an_id_that_no_url_leads_to_is_refused_where_it_is_asked_for() {
    let parent = async |ctx: OrchestrationContext, id: String| -> Result<String> {
        let detached = ctx.start_new("Child", "Ada").id(&id).await.unwrap_err();
        let child = ctx.call_sub_orchestrator::<String, _>("Child", "Ada").id(&id).await;
        assert_eq!(detached.error_type(), "InvalidName");
        Ok(format!("{} / {}", detached.message(), child.unwrap_err().message()))
    };
    for id in [".", ".."] {
        let mut hub = TestHub::new(
            Registry::new()
                .orchestrator("Parent", parent)
                .orchestrator("Child", child),
        );
        let why = format!(
            "invalid instance id `{id}`: clients take `.` and `..` out of a URL, so that none leads to the instance"
        );
        let said = hub.run_orchestrator::<String, _>("Parent", id).unwrap();
        assert_eq!(said, format!("{why} / {why}"));
    }
}

#[test]
fn s_can_actions_applied() {
    let parent = async |ctx: OrchestrationContext, is_second: bool| -> Result<String> {
        if is_second {
            return Ok("done".to_owned());
        }
        drop(ctx.call_activity::<(), _>("Work", ()));
        ctx.start_new("Child", "Ada").id("detached").await?;
        ctx.raise_event(&InstanceId::new("receiver")?, "Go", "hi")?;
        ctx.continue_as_new(true)
    };
    let waits =
        async |ctx: OrchestrationContext, (): ()| -> Result<String> { Ok(ctx.wait_for_external_event("Go").await?) };
    let registry = Registry::new()
        .orchestrator("Parent", parent)
        .orchestrator("Waits", waits);
    let mut hub = TestHub::new(registry.orchestrator("Child", child));
    hub.fake_activity("Work", |(): ()| Ok::<_, Error>(()));
    let receiver = hub.start_as("receiver", "Waits", ());
    assert_eq!(hub.run_orchestrator::<String, _>("Parent", false).unwrap(), "done");
    assert_eq!(hub.call_count("Work"), 1);
    assert_eq!(hub.output::<String>(&receiver).unwrap(), "hi");
    assert_eq!(
        hub.output::<String>(&InstanceId::new("detached").unwrap()).unwrap(),
        "Ada of nobody"
    );
}

fn timed(hub: &mut TestHub) {
    for (name, seconds) in [("Fast", 1), ("Medium", 2), ("Slow", 3)] {
        let result = name.to_owned();
        hub.fake_activity_taking(name, SECOND * seconds, move |(): ()| Ok::<_, Error>(result.clone()));
    }
}

#[test]
fn select_all_gives_the_first_and_leaves_the_others() {
    let races = async |ctx: OrchestrationContext, (): ()| -> Result<Vec<String>> {
        let mut calls: Vec<_> = ["Slow", "Fast", "Medium"]
            .iter()
            .map(|name| ctx.call_activity::<String, _>(name, ()))
            .collect();
        let mut order = Vec::new();
        while !calls.is_empty() {
            let (_, name, others) = select_all(calls).await;
            order.push(name?);
            calls = others;
        }
        Ok(order)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Races", races));
    timed(&mut hub);
    assert_eq!(
        hub.run_orchestrator::<Vec<String>, _>("Races", ()).unwrap(),
        ["Fast", "Medium", "Slow"]
    );
}

#[test]
fn the_combinators_of_the_futures_crate_work() {
    let mixed = async |ctx: OrchestrationContext, (): ()| -> Result<Vec<String>> {
        let names = ["Slow", "Fast", "Medium"];
        let joined = futures_util::future::join_all(names.map(|name| ctx.call_activity::<String, _>(name, ()))).await;
        let mut order: Vec<String> = joined.into_iter().collect::<Result<_, _>>()?;
        let mut unordered: FuturesUnordered<_> = names
            .map(|name| ctx.call_activity::<String, _>(name, ()))
            .into_iter()
            .collect();
        while let Some(name) = unordered.next().await {
            order.push(name?);
        }
        let race = futures_util::future::select(ctx.call_activity::<String, _>("Slow", ()), ctx.create_timer(SECOND));
        if let Either::Right(((), slow)) = race.await {
            order.push(format!("before {}", slow.await?));
        }
        Ok(order)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Mixed", mixed));
    timed(&mut hub);
    let order: Vec<String> = hub.run_orchestrator("Mixed", ()).unwrap();
    assert_eq!(
        order,
        ["Slow", "Fast", "Medium", "Fast", "Medium", "Slow", "before Slow"]
    );
}

#[test]
fn a_biased_select_of_tokio_works() {
    let chosen = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let mut slow = ctx.call_activity::<String, _>("Slow", ());
        loop {
            tokio::select! {
                biased;
                name = &mut slow => return Ok(name?),
                () = ctx.create_timer(SECOND) => ctx.set_custom_status(ctx.now().to_string())?,
            }
        }
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Chosen", chosen));
    timed(&mut hub);
    let id = hub.start("Chosen", ());
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "Slow");
    assert_eq!(hub.custom_status(&id).unwrap(), "\"2024-01-01T00:00:02.0020000Z\"");
}

async fn wide(ctx: OrchestrationContext, width: u64) -> Result<u64> {
    let results = join_all((0..width).map(|place| ctx.call_activity::<u64, _>("Work", place))).await;
    let mut sum = 0;
    for result in results {
        sum += result?;
    }
    Ok(sum)
}

fn fan_out(width: u64, checks_replay: bool) -> std::result::Result<u64, Failure> {
    let mut hub = TestHub::new(Registry::new().orchestrator("Wide", wide));
    hub.check_replay(checks_replay);
    hub.fake_activity("Work", |place: u64| Ok::<_, Error>(place));
    hub.run_orchestrator("Wide", width)
}

#[test]
fn s_fanout_10k() {
    assert_eq!(fan_out(10_000, true).unwrap(), 49_995_000);
}

#[test]
fn s_fanout_100k() {
    assert_eq!(fan_out(100_000, false).unwrap(), 4_999_950_000);
}

/// A future that counts how often it is polled.
struct Counted<F> {
    future: F,
    polls: Rc<Cell<usize>>,
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.set(self.polls.get() + 1);
        Pin::new(&mut self.future).poll(context)
    }
}

#[test]
fn s_fanout_linear() {
    thread_local! {
        static POLLS: Rc<Cell<usize>> = Rc::default();
    }
    // The results come one by one, each in a turn of its own, and the one called last comes first.
    let slow = async |ctx: OrchestrationContext, width: u64| -> Result<usize> {
        let chain = |place: u64| {
            let timer = ctx.create_timer(SECOND * u32::try_from(width - place).unwrap_or(u32::MAX));
            Counted {
                future: timer,
                polls: POLLS.with(Rc::clone),
            }
        };
        Ok(join_all((0..width).map(chain)).await.len())
    };
    for width in [1000, 2000] {
        POLLS.with(|polls| polls.set(0));
        let mut hub = TestHub::new(Registry::new().orchestrator("Slow", slow));
        hub.check_replay(false);
        hub.run_orchestrator::<usize, _>("Slow", width).unwrap();
        let polls = POLLS.with(|polls| polls.get());
        assert_eq!(polls as u64, 2 * width, "once to begin and once to end, for each");
    }
}

#[test]
fn calls_given_to_a_combinator_are_made_at_once() {
    let fan_out = async |ctx: OrchestrationContext, (): ()| -> Result<u32> {
        let all = join_all((0..3).map(|place| ctx.call_activity::<u32, _>("Work", place)));
        let tried = try_join_all((3..6).map(|place| ctx.call_activity::<u32, _>("Work", place)));
        let first = select_all((6..9).map(|place| ctx.call_activity::<u32, _>("Work", place)));
        ctx.call_activity::<u32, _>("Work", 9).await?;
        let mut sum: u32 = tried.await?.into_iter().sum();
        for result in all.await {
            sum += result?;
        }
        let (_, result, _) = first.await;
        Ok(sum + result?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("FanOut", fan_out));
    hub.fake_activity_taking("Work", SECOND, |place: u32| Ok::<_, Error>(place));
    let id = hub.start("FanOut", ());
    hub.settle();
    let inputs: Vec<String> = hub
        .activity_calls()
        .iter()
        .filter_map(|call| Some(call.input.as_ref()?.to_text()))
        .collect();
    assert_eq!(inputs, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    hub.run();
    assert_eq!(hub.output::<u32>(&id).unwrap(), 21);
}

#[test]
fn a_guid_is_an_input() {
    let starter = async |ctx: OrchestrationContext, (): ()| -> Result<taskhub::Uuid> {
        Ok(ctx.call_activity("Echo", ctx.new_guid()).await?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Starter", starter));
    hub.fake_activity("Echo", |guid: taskhub::Uuid| Ok::<_, Error>(guid));
    let guid: String = hub.run_orchestrator("Starter", ()).unwrap();
    assert_eq!(guid.len(), 36);
}
