//! The test hub does what a real one does: turns that fail, limits of activities, lost calls, and the clock.

use std::cell::Cell;
use std::time::Duration;

use taskhub::testing::TestHub;
use taskhub::{
    ActivityOptions, Error, InstanceId, OrchestrationContext, Registry, Result, ReusePolicy, StartRequest, Timestamp,
    join_all,
};
use taskhub_core::event::Tags;
use taskhub_core::id::Name;
use taskhub_core::message::Repeats;
use taskhub_core::payload::Payload;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const LATE: Duration = Duration::from_millis(1);

thread_local! {
    /// Turns that panic before one works.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

async fn shaky(ctx: OrchestrationContext, (): ()) -> Result<u32> {
    let left = PANICS.get();
    PANICS.set(left.saturating_sub(1));
    assert_eq!(left, 0, "it is not the time for it");
    ctx.create_timer(SECOND).await;
    Ok(7)
}

fn shaky_hub(panics: u32) -> (TestHub, InstanceId) {
    PANICS.set(panics);
    let mut hub = TestHub::new(Registry::new().orchestrator("Shaky", shaky));
    let id = hub.start("Shaky", ());
    assert_eq!(hub.settle(), 1);
    (hub, id)
}

fn attempts(hub: &TestHub, id: &InstanceId) -> u32 {
    hub.info(id).stalled.as_ref().map_or(0, |stall| stall.attempts)
}

#[test]
fn a_turn_that_panics_is_tried_again_after_growing_pauses_until_it_works() {
    let (mut hub, id) = shaky_hub(3);
    let begun = hub.now();
    let stall = hub.info(&id).stalled.clone().unwrap();
    assert!(stall.reason.contains("it is not the time for it"), "{stall:?}");
    assert_eq!((stall.since, stall.attempts), (begun, 1));
    assert_eq!(hub.settle(), 0, "not before the pause is over");
    for (pause, failed) in [(1, 2), (2, 3)] {
        hub.advance(SECOND * (pause - 1) + SECOND / 2);
        assert_eq!(attempts(&hub, &id), failed - 1);
        hub.advance(SECOND / 2);
        assert_eq!(attempts(&hub, &id), failed);
    }
    hub.advance(SECOND * 4);
    assert_eq!(hub.info(&id).stalled, None);
    hub.run();
    assert_eq!(hub.output::<u32>(&id).unwrap(), 7);
    assert_eq!(hub.now().since(begun), SECOND * (1 + 2 + 4) + SECOND + LATE);
}

#[test]
fn a_turn_that_never_works_is_given_up_until_the_next_start() {
    let (mut hub, id) = shaky_hub(11);
    let begun = hub.now();
    hub.run();
    assert_eq!(attempts(&hub, &id), 10);
    assert_eq!(
        hub.now().since(begun).as_secs(),
        (0..9).map(|pause| 1 << pause).sum::<u64>()
    );
    hub.restart().run();
    assert_eq!(attempts(&hub, &id), 11, "the next start tries it once");
    hub.restart().run();
    assert_eq!(hub.output::<u32>(&id).unwrap(), 7);
    assert_eq!(hub.info(&id).stalled, None);
}

#[test]
fn a_terminated_instance_is_not_tried_again() {
    let (mut hub, id) = shaky_hub(3);
    let before = hub.now();
    hub.terminate(&id, "enough").unwrap();
    hub.run();
    assert_eq!(hub.now(), before, "the clock does not move to where nothing happens");
}

async fn fan_out(ctx: OrchestrationContext, calls: usize) -> Result<usize> {
    let calls = (0..calls).map(|_| ctx.call_activity::<(), _>("work", ()));
    Ok(join_all(calls).await.into_iter().flatten().count())
}

/// With an activity that takes an hour, and of which so many calls run at once.
fn working(calls_max: Option<usize>) -> TestHub {
    let mut hub = TestHub::new(limited(calls_max));
    hub.fake_activity_taking("Work", HOUR, |(): ()| Ok::<_, Error>(()));
    hub
}

fn limited(calls_max: Option<usize>) -> Registry {
    let registry = Registry::new()
        .orchestrator("FanOut", fan_out)
        .activity("Work", async |_, (): ()| Ok::<_, Error>(()));
    let options = ActivityOptions::new();
    registry.activity_options(
        "Work",
        calls_max.map_or(options.clone(), |most| options.concurrency(most)),
    )
}

#[test]
fn no_more_calls_of_an_activity_run_at_once_than_it_is_limited_to() {
    let mut hub = working(Some(2));
    let (id, begun) = (hub.start("FanOut", 5), hub.now());
    hub.settle();
    assert_eq!((hub.call_count("Work"), hub.pending_count()), (2, 5));
    hub.advance(HOUR);
    assert_eq!((hub.call_count("Work"), hub.pending_count()), (4, 3));
    hub.run();
    assert_eq!(hub.output::<usize>(&id).unwrap(), 5);
    assert_eq!(hub.now().since(begun), HOUR * 3);
    let at: Vec<u64> = hub
        .activity_calls()
        .iter()
        .map(|call| call.at.since(begun).as_secs() / 3600)
        .collect();
    assert_eq!(at, [0, 0, 1, 1, 2]);
}

#[test]
fn a_thousand_activities_run_at_once_and_no_more() {
    let mut hub = working(None);
    let (id, begun) = (hub.start("FanOut", 1_001), hub.now());
    hub.settle();
    assert_eq!(hub.call_count("Work"), 1_000);
    hub.run();
    assert_eq!(hub.output::<usize>(&id).unwrap(), 1_001);
    assert_eq!(hub.now().since(begun), HOUR * 2);
}

#[test]
fn a_call_that_nobody_waits_for_leaves_its_place() {
    let mut hub = working(Some(1));
    let first = hub.start("FanOut", 1);
    hub.settle();
    let (second, begun) = (hub.start("FanOut", 1), hub.now());
    hub.settle();
    assert_eq!(hub.call_count("Work"), 1);
    hub.terminate(&first, "enough").unwrap();
    assert_eq!(hub.call_count("Work"), 2);
    hub.run();
    assert_eq!(hub.output::<usize>(&second).unwrap(), 1);
    assert_eq!(hub.now().since(begun), HOUR);
}

#[test]
fn a_deployment_has_its_own_limits_and_keeps_what_runs() {
    let mut hub = working(Some(3));
    let (id, begun) = (hub.start("FanOut", 6), hub.now());
    hub.settle();
    hub.deploy(limited(Some(1))).settle();
    assert_eq!(hub.call_count("Work"), 3);
    hub.run();
    assert_eq!(hub.output::<usize>(&id).unwrap(), 6);
    assert_eq!((hub.call_count("Work"), hub.now().since(begun)), (6, HOUR * 4));
}

fn deliveries(hub: &TestHub) -> Vec<u32> {
    hub.activity_calls().iter().map(|call| call.delivery).collect()
}

#[test]
fn a_call_that_is_lost_in_a_crash_is_delivered_again() {
    let mut hub = working(None);
    let (id, begun) = (hub.start("FanOut", 1), hub.now());
    hub.advance(HOUR / 2);
    hub.restart().settle();
    assert_eq!(deliveries(&hub), [1], "a restart loses nothing");
    hub.crash().settle();
    assert_eq!(deliveries(&hub), [1, 2]);
    hub.run();
    assert_eq!(hub.output::<usize>(&id).unwrap(), 1);
    assert_eq!(hub.now().since(begun), HOUR / 2 + HOUR);
}

#[test]
fn a_call_that_every_crash_loses_fails() {
    let call = async |ctx: OrchestrationContext, (): ()| -> Result<()> { Ok(ctx.call_activity("Work", ()).await?) };
    let mut hub = TestHub::new(Registry::new().orchestrator("Call", call));
    hub.fake_activity_taking("Work", HOUR, |(): ()| Ok::<_, Error>(()));
    let id = hub.start("Call", ());
    hub.settle();
    for _ in 0..10 {
        hub.crash().settle();
    }
    assert_eq!(deliveries(&hub), (1..=10).collect::<Vec<_>>());
    let failure = hub.output::<()>(&id).unwrap_err();
    assert_eq!(failure.inner.unwrap().error_type, "PoisonMessage");
}

#[test]
fn a_crash_keeps_what_was_committed() {
    let mut hub = working(None);
    let (done, open) = (hub.start("FanOut", 0), hub.start("FanOut", 2));
    hub.settle();
    let before = (
        hub.info(&done).clone(),
        hub.info(&open).clone(),
        hub.history(&open).to_vec(),
    );
    hub.crash();
    let after = (
        hub.info(&done).clone(),
        hub.info(&open).clone(),
        hub.history(&open).to_vec(),
    );
    assert_eq!(after, before);
    hub.run();
    assert_eq!(hub.output::<usize>(&open).unwrap(), 2);
}

#[test]
fn a_timer_fires_a_millisecond_late_and_one_of_the_past_at_once() {
    let sleeper = async |ctx: OrchestrationContext, time: u64| -> Result<()> {
        ctx.create_timer(Duration::from_secs(time)).await;
        ctx.create_timer_at(Timestamp::from_micros(0)).await;
        ctx.create_timer_at(ctx.now()).await;
        Ok(())
    };
    for time in [10, 0] {
        let mut hub = TestHub::new(Registry::new().orchestrator("Sleeper", sleeper));
        let begun = hub.now();
        hub.run_orchestrator::<(), _>("Sleeper", time).unwrap();
        assert_eq!(hub.now().since(begun), SECOND * u32::try_from(time).unwrap() + LATE * 2);
    }
}

#[test]
fn a_planned_start_that_is_terminated_is_not_waited_for() {
    let mut hub = working(None);
    let before = hub.now();
    let id = InstanceId::new("planned").unwrap();
    hub.start_request(&StartRequest {
        instance: id.clone(),
        name: Name::new("FanOut").unwrap(),
        version: None,
        input: Some(Payload::new("0")),
        tags: Tags::new(),
        scheduled_start: Some(before.plus(HOUR)),
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    });
    hub.settle();
    assert_eq!(hub.pending_count(), 1);
    hub.restart().terminate(&id, "enough").unwrap();
    hub.run();
    assert_eq!((hub.pending_count(), hub.now()), (0, before));
}
