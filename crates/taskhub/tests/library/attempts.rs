//! Attempts of a retry policy and deliveries of a call: two counts, which an activity can tell apart, and what the
//! orchestrator hears of the first in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskhub::testing::{TestHub, retrace};
use taskhub::{
    ActivityContext, Error, EventKind, Hub, HubBuilder, OrchestrationContext, Registry, Result, RetryPolicy, Store,
    join_all,
};
use taskhub_store::mem::{MemData, MemStore};
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

fn policy(attempts_max: u32) -> RetryPolicy {
    RetryPolicy::new(attempts_max, SECOND)
}

/// Fails until the attempt that its input names, and tells the counts then.
async fn work(ctx: ActivityContext, wanted: u32) -> Result<String> {
    assert_eq!(ctx.tags().len(), 1, "the hub's own labels are not shown");
    assert_eq!(ctx.tags()["kind"], "work");
    if ctx.attempt() < wanted {
        return Err(Error::new("Busy", format!("attempt {}", ctx.attempt())));
    }
    Ok(format!("attempt {}, delivery {}", ctx.attempt(), ctx.delivery()))
}

async fn retrying(ctx: OrchestrationContext, (attempts_max, wanted): (u32, u32)) -> Result<String> {
    let call = ctx.call_activity("Work", wanted);
    Ok(call.retry(policy(attempts_max)).tag("kind", "work").await?)
}

async fn once(ctx: OrchestrationContext, (): ()) -> Result<String> {
    Ok(ctx.call_activity("Work", 1).tag("kind", "work").await?)
}

async fn at_once(ctx: OrchestrationContext, wanted: Vec<u32>) -> Result<Vec<String>> {
    let call = |wanted| ctx.call_activity("Work", wanted).retry(policy(9)).tag("kind", "work");
    let results = join_all(wanted.into_iter().map(call)).await;
    Ok(results.into_iter().collect::<Result<_, _>>()?)
}

fn registry() -> Registry {
    Registry::new()
        .orchestrator("Retrying", retrying)
        .orchestrator("Once", once)
        .orchestrator("AtOnce", at_once)
        .activity("Work", work)
}

#[test]
fn an_activity_knows_which_attempt_it_is() {
    let mut hub = TestHub::new(registry());
    for wanted in 1..=4 {
        let told: String = hub.run_orchestrator("Retrying", (4, wanted)).unwrap();
        assert_eq!(told, format!("attempt {wanted}, delivery 1"));
    }
    assert_eq!(
        hub.run_orchestrator::<String, _>("Once", ()).unwrap(),
        "attempt 1, delivery 1"
    );
    let told: Vec<String> = hub.run_orchestrator("AtOnce", [3, 1, 2]).unwrap();
    assert_eq!(told, [3, 1, 2].map(|attempt| format!("attempt {attempt}, delivery 1")));
}

#[test]
fn the_attempt_is_the_same_on_replay() {
    let mut hub = TestHub::new(registry());
    let id = hub.start("Retrying", (5, 5));
    for _ in 0..5 {
        hub.settle();
        hub.restart().advance(SECOND);
    }
    assert_eq!(hub.output::<String>(&id).unwrap(), "attempt 5, delivery 1");
    let attempts: Vec<u32> = hub.activity_calls().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);

    // Histories from before there was such a label replay too.
    let mut history = hub.history(&id).to_vec();
    for event in &mut history {
        if let EventKind::TaskScheduled { tags, .. } = &mut event.kind {
            tags.retain(|key, _| key == "kind");
        }
    }
    retrace(&registry(), &history).unwrap();
}

#[test]
fn fakes_are_counted_too() {
    let mut hub = TestHub::new(registry());
    hub.fake_activity("Work", |_: u32| Err::<String, _>("no"));
    hub.run_orchestrator::<String, _>("Retrying", (3, 1)).unwrap_err();
    let attempts: Vec<u32> = hub.activity_calls().iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
}

#[test]
fn the_final_error_says_how_many_attempts_were_made() {
    let mut hub = TestHub::new(registry());
    for (attempts_max, said) in [(1, "1 attempt"), (2, "2 attempts"), (5, "5 attempts")] {
        let failure = hub
            .run_orchestrator::<String, _>("Retrying", (attempts_max, 9))
            .unwrap_err();
        let text = format!("activity `Work` failed after {said}: Busy: attempt {attempts_max}");
        assert_eq!((failure.error_type.as_str(), failure.message), ("TaskFailed", text));
        // The failure itself is that of the last attempt, and tells no more.
        let last = failure.inner.unwrap();
        assert_eq!(
            (last.error_type.as_str(), last.message),
            ("Busy", format!("attempt {attempts_max}"))
        );
    }
}

#[test]
fn who_handles_it_can_tell_type_and_attempts() {
    async fn handling(ctx: OrchestrationContext, policy: u8) -> Result<(u32, String, String)> {
        let call = ctx.call_activity::<(), _>("Fails", ());
        let call = match policy {
            0 => call,
            1 => call.retry(self::policy(7)),
            2 => call.retry(self::policy(7).handle(|failed| failed.attempt < 3)),
            _ => call.retry(self::policy(7).retry_timeout(SECOND * 4)),
        };
        match call.await {
            Err(failed) => Ok((
                failed.attempts(),
                failed.error_type().to_owned(),
                failed.message().to_owned(),
            )),
            Ok(()) => Ok((0, String::new(), String::new())),
        }
    }
    let mut hub = TestHub::new(Registry::new().orchestrator("Handling", handling));
    hub.fake_activity("Fails", |(): ()| Err::<(), _>(Error::new("Declined", "no funds")));
    for (policy, attempts) in [(0, 1), (1, 7), (2, 3), (3, 5)] {
        let told: (u32, String, String) = hub.run_orchestrator("Handling", policy).unwrap();
        assert_eq!(
            told,
            (attempts, "Declined".to_owned(), "no funds".to_owned()),
            "policy {policy}"
        );
    }
    hub.fake_activity("Fails", |(): ()| {
        Err::<(), _>(Error::new("Declined", "no").non_retriable())
    });
    let told: (u32, String, String) = hub.run_orchestrator("Handling", 1).unwrap();
    assert_eq!(told.0, 1);
}

#[test]
fn a_sub_orchestration_is_counted_by_its_caller_alone() {
    async fn child(ctx: OrchestrationContext, (): ()) -> Result<()> {
        assert!(ctx.tags().is_empty());
        let attempt: u32 = ctx.call_activity("Attempt", ()).await?;
        Err(Error::msg(format!("attempt {attempt} of the activity")))
    }
    async fn parent(ctx: OrchestrationContext, (): ()) -> Result<()> {
        Ok(ctx.call_sub_orchestrator("Child", ()).retry(policy(3)).await?)
    }
    async fn attempt(ctx: ActivityContext, (): ()) -> Result<u32> {
        Ok(ctx.attempt())
    }
    let registry = Registry::new()
        .orchestrator("Child", child)
        .orchestrator("Parent", parent)
        .activity("Attempt", attempt);
    let failure = TestHub::new(registry)
        .run_orchestrator::<(), _>("Parent", ())
        .unwrap_err();
    assert_eq!(
        failure.message,
        "sub-orchestration `Child` failed after 3 attempts: Error: attempt 1 of the activity"
    );
}

#[test]
fn the_label_of_attempts_is_not_for_others() {
    async fn forging(ctx: OrchestrationContext, (): ()) -> Result<()> {
        Ok(ctx.call_activity("Work", 1).tag("RetryAttempt", "7").await?)
    }
    let mut hub = TestHub::new(registry().orchestrator("Forging", forging));
    let failure = hub.run_orchestrator::<(), _>("Forging", ()).unwrap_err();
    let refused = failure.inner.unwrap();
    assert_eq!(refused.error_type, "InvalidOption");
    assert!(refused.message.contains("`RetryAttempt`") && refused.non_retriable);
}

/// Fails in the first attempt; the second does not end before it is let go.
fn crashing(reached: &Arc<Notify>, runs: &Arc<AtomicUsize>, ends: bool) -> HubBuilder {
    let (reached, runs) = (Arc::clone(reached), Arc::clone(runs));
    let crash = move |ctx: ActivityContext, (): ()| {
        let (reached, runs) = (Arc::clone(&reached), Arc::clone(&runs));
        async move {
            runs.fetch_add(1, Ordering::AcqRel);
            if ctx.attempt() == 1 {
                return Err(Error::msg("once more"));
            }
            reached.notify_one();
            if !ends {
                std::future::pending::<()>().await;
            }
            Ok(format!("attempt {}, delivery {}", ctx.attempt(), ctx.delivery()))
        }
    };
    let patient = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let policy = RetryPolicy::new(5, Duration::ZERO);
        Ok(ctx.call_activity("Crash", ()).retry(policy).await?)
    };
    Hub::builder("SampleHub")
        .orchestrator("Patient", patient)
        .activity("Crash", crash)
        .check_replay(true)
}

#[tokio::test]
async fn after_a_crash_the_attempt_is_the_same_and_the_delivery_another() {
    let data = MemData::new();
    let (reached, runs) = (Arc::default(), Arc::default());
    let open = |ends| crashing(&reached, &runs, ends).open_in(&Store::over(Arc::new(MemStore::over(&data))));
    let hub = open(false).await.unwrap();
    let id = hub.client().start_new("Patient", ()).await.unwrap();
    reached.notified().await;
    drop(hub);
    let hub = open(false).await.unwrap();
    reached.notified().await;
    drop(hub);
    let hub = open(true).await.unwrap();
    let told: String = hub.client().wait_for_completion(&id).await.unwrap();
    assert_eq!(told, "attempt 2, delivery 3");
    assert_eq!(runs.load(Ordering::Acquire), 4);
}
