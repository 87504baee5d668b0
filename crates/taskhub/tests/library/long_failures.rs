//! A failure has a limit as a whole, wherever it comes from: what is above it is cut, and says so.

use std::time::Duration;

use taskhub::testing::TestHub;
use taskhub::{ActivityContext, Error, Failure, Hub, OrchestrationContext, Registry, Result, RuntimeStatus};
use taskhub_core::limits::{FAILURE_BYTES_MAX, FAILURE_CAUSES_MAX};

/// Far above any limit, as the text of an error that quotes what it cannot read.
const LONG: usize = 70 << 20;

fn long() -> String {
    "x".repeat(LONG)
}

#[track_caller]
fn is_cut(failure: &Failure) {
    assert!(failure.size() <= FAILURE_BYTES_MAX, "{} bytes", failure.size());
    assert!(failure.message.ends_with(" bytes cut]"), "{}", failure.error_type);
    let mark = failure.message.trim_end_matches(" bytes cut]").rsplit_once("… [");
    let count = mark.and_then(|(_, count)| count.parse().ok());
    assert!(
        count.is_some_and(|count| (LONG - FAILURE_BYTES_MAX..=LONG).contains(&count)),
        "{count:?}"
    );
}

async fn calls(ctx: OrchestrationContext, name: String) -> Result<()> {
    Ok(ctx.call_activity(&name, ()).await?)
}

async fn quotes(_: OrchestrationContext, kind: u8) -> Result<()> {
    match kind {
        0 => Err(Error::new("Unreadable", long())),
        1 => Err(Error::new(&long(), "the type is long")),
        2 => Err(Error::new("Unreadable", "short").caused_by(Error::msg(long()))),
        _ => Err(Error::other(long())),
    }
}

async fn fails(_: ActivityContext, (): ()) -> Result<()> {
    Err(Error::new("Unreadable", long()).non_retriable())
}

async fn panics(_: ActivityContext, (): ()) -> Result<()> {
    panic!("{}", long())
}

fn blocking(_: ActivityContext, (): ()) -> Result<(), String> {
    Err(long())
}

/// Its causes go far deeper than anybody reads.
async fn nests(_: ActivityContext, (): ()) -> Result<()> {
    let first = Error::msg("the first");
    Err((0..100_000).fold(first, |cause, _| Error::msg("because").caused_by(cause)))
}

async fn unreadable(_: ActivityContext, (): ()) -> Result<String> {
    Ok(long())
}

async fn reads(ctx: OrchestrationContext, (): ()) -> Result<u32> {
    Ok(ctx.call_activity("Unreadable", ()).await?)
}

async fn waits(ctx: OrchestrationContext, (): ()) -> Result<()> {
    Ok(ctx.wait_for_external_event("Go").await?)
}

async fn parent(ctx: OrchestrationContext, (): ()) -> Result<()> {
    let id = format!("{}-child", ctx.instance_id());
    Ok(ctx.call_sub_orchestrator("Waits", ()).id(&id).await?)
}

async fn grandparent(ctx: OrchestrationContext, depth: u32) -> Result<()> {
    if depth == 0 {
        return Ok(ctx.call_activity("Fails", ()).await?);
    }
    Ok(ctx.call_sub_orchestrator("Grandparent", depth - 1).await?)
}

fn registry() -> Registry {
    Registry::new()
        .orchestrator("Calls", calls)
        .orchestrator("Quotes", quotes)
        .orchestrator("Reads", reads)
        .orchestrator("Waits", waits)
        .orchestrator("Parent", parent)
        .orchestrator("Grandparent", grandparent)
        .orchestrator("Panics", async |_: OrchestrationContext, (): ()| -> Result<()> {
            panic!("{}", long())
        })
        .activity("Fails", fails)
        .activity("Panics", panics)
        .activity("Nests", nests)
        .activity("Unreadable", unreadable)
        .blocking_activity("Blocking", blocking)
}

#[test]
fn the_failure_of_an_activity_is_cut() {
    let mut hub = TestHub::new(registry());
    hub.fake_activity("Fake", |(): ()| Err::<(), _>(long()));
    for (name, error_type) in [
        ("Fails", "Unreadable"),
        ("Panics", "Panic"),
        ("Blocking", "Error"),
        ("Fake", "Error"),
    ] {
        let failure = hub.run_orchestrator::<(), _>("Calls", name).unwrap_err();
        is_cut(&failure);
        let inner = failure.inner.unwrap();
        is_cut(&inner);
        assert_eq!(
            (inner.error_type.as_str(), inner.non_retriable),
            (error_type, name == "Fails")
        );
    }
    let failure = hub.run_orchestrator::<(), _>("Calls", "Nests").unwrap_err();
    let causes = std::iter::successors(failure.inner.as_deref(), |failure| failure.inner.as_deref());
    assert_eq!(causes.clone().count(), FAILURE_CAUSES_MAX);
    let last = &causes.last().unwrap().message;
    assert!(
        last.starts_with("because … [") && last.ends_with(" causes cut]"),
        "{last}"
    );
}

#[test]
fn the_failure_of_an_orchestrator_is_cut_whichever_part_is_long() {
    let mut hub = TestHub::new(registry());
    for kind in 0..4 {
        let failure = hub.run_orchestrator::<(), _>("Quotes", kind).unwrap_err();
        assert!(failure.size() <= FAILURE_BYTES_MAX);
        match kind {
            1 => assert!(failure.error_type.ends_with(" bytes cut]") && failure.message == "the type is long"),
            2 => {
                assert_eq!(failure.message, "short");
                is_cut(failure.inner.as_deref().unwrap());
            }
            _ => is_cut(&failure),
        }
    }
}

#[test]
fn a_failure_that_goes_up_through_many_stays_within_the_limit() {
    let mut hub = TestHub::new(registry());
    let mut failure = Some(Box::new(hub.run_orchestrator::<(), _>("Grandparent", 5).unwrap_err()));
    assert!(failure.as_ref().unwrap().size() <= FAILURE_BYTES_MAX);
    let mut types = Vec::new();
    while let Some(level) = failure {
        types.push(level.error_type.clone());
        is_cut(&Failure {
            inner: None,
            ..(*level).clone()
        });
        failure = level.inner;
    }
    assert_eq!(types.last().unwrap(), "Unreadable");
    assert_eq!(types.len(), 7);
}

#[test]
fn a_long_reason_to_terminate_a_child_is_cut_for_its_parent() {
    let mut hub = TestHub::new(registry());
    let id = hub.start("Parent", ());
    hub.run();
    let child = taskhub::InstanceId::new(&format!("{id}-child")).unwrap();
    let reason = "r".repeat(60 << 20);
    hub.terminate(&child, &reason).unwrap();
    hub.run();
    let failure = hub.output::<()>(&id).unwrap_err();
    assert!(failure.size() <= FAILURE_BYTES_MAX);
    let inner = failure.inner.unwrap();
    assert_eq!(inner.error_type, "OrchestrationTerminated");
    assert!(inner.message.ends_with(" bytes cut]"));
    // The reason itself is a payload, and has the limit of those.
    assert_eq!(hub.info(&child).output.as_ref().unwrap().len(), reason.len());
}

#[test]
fn a_long_panic_of_an_orchestrator_is_cut_where_it_is_shown() {
    let mut hub = TestHub::new(registry());
    let id = hub.start("Panics", ());
    hub.run();
    let stall = hub.info(&id).stalled.clone().unwrap();
    assert!(stall.reason.len() <= FAILURE_BYTES_MAX && stall.reason.ends_with(" bytes cut]"));
}

#[tokio::test]
async fn an_output_is_below_the_limit_of_a_payload() {
    let hub = Hub::builder("SampleHub")
        .registry(registry())
        .in_memory()
        .await
        .unwrap();
    let client = hub.client();
    for (name, input) in [
        ("Calls", "\"Fails\""),
        ("Calls", "\"Panics\""),
        ("Quotes", "0"),
        ("Reads", "null"),
    ] {
        let input: serde_json::Value = serde_json::from_str(input).unwrap();
        let id = client.start_new(name, input).await.unwrap();
        let info = client.wait_for_end(&id).await.unwrap();
        assert_eq!(info.status, RuntimeStatus::Failed);
        let failure = info.failure.unwrap();
        assert!(failure.size() <= FAILURE_BYTES_MAX, "{name}");
        assert_eq!(info.output.unwrap().to_text(), failure.to_string());
    }
    hub.stop(Duration::ZERO).await.unwrap();
}
