//! Names of functions are compared without case, and histories keep the registered spelling (R77).

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskhub::testing::{TestHub, retrace};
use taskhub::{
    ActivityContext, ActivityOptions, Error, EventKind, HistoryEvent, Hub, InstanceId, OrchestrationContext, Registry,
    Result, RetryPolicy, RuntimeStatus, join_all,
};

/// Does everything that names a function, each under another spelling than the registered one.
async fn caller(ctx: OrchestrationContext, round: u32) -> Result<String> {
    if round == 0 {
        return ctx.continue_as_new(1);
    }
    let greeting: String = ctx.call_activity("sayhello", "Tokyo").await?;
    let patient = RetryPolicy::new(2, Duration::from_secs(1));
    let again: String = ctx.call_activity("SAYHELLO", greeting).retry(patient).await?;
    ctx.start_new("CALLED", "detached").id("detached").await?;
    Ok(ctx.call_sub_orchestrator("cALLED", again).await?)
}

async fn called(ctx: OrchestrationContext, text: String) -> Result<String> {
    Ok(format!("{} {text}", ctx.name()))
}

async fn say_hello(ctx: ActivityContext, name: String) -> Result<String> {
    Ok(format!("{} {name}", ctx.name()))
}

fn registry() -> Registry {
    Registry::new()
        .orchestrator("Caller", caller)
        .orchestrator("Called", called)
        .activity("SayHello", say_hello)
}

/// The names of functions in a history, in its order.
fn names(history: &[HistoryEvent]) -> Vec<String> {
    let name = |event: &HistoryEvent| match &event.kind {
        EventKind::ExecutionStarted(started) => Some(started.name.to_string()),
        EventKind::TaskScheduled { name, .. } | EventKind::SubOrchestrationInstanceCreated { name, .. } => {
            Some(name.to_string())
        }
        _ => None,
    };
    history.iter().filter_map(name).collect()
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

#[test]
fn two_names_that_differ_in_case_only_are_refused() {
    let twice = registry()
        .orchestrator("CALLER", called)
        .activity("sayHELLO", say_hello);
    assert_eq!(
        twice.problems(),
        [
            "orchestrator `CALLER` differs from `Caller` only in case, and names are case-insensitive; choose another \
            name",
            "activity `sayHELLO` differs from `SayHello` only in case, and names are case-insensitive; choose another \
            name",
        ]
    );
    for (one, other) in [
        ("ΤΕΛΟΣ", "τελος"),
        ("\u{b5}s", "μS"),
        ("Straẞe", "straße"),
        ("K", "\u{212a}"),
    ] {
        let twice = Registry::new().orchestrator(one, called).orchestrator(other, called);
        assert_eq!(twice.problems().len(), 1, "{one} {other}");
    }
    let apart = Registry::new().orchestrator("ı", called).orchestrator("i", called);
    assert!(apart.problems().is_empty());
    let kinds_apart = Registry::new()
        .orchestrator("Hello", called)
        .activity("HELLO", say_hello);
    assert!(kinds_apart.problems().is_empty());
    let same = registry().orchestrator("Caller", caller);
    assert_eq!(same.problems(), ["orchestrator `Caller` is registered twice"]);
}

#[test]
fn every_call_finds_its_function_by_any_spelling() {
    let mut hub = TestHub::new(registry());
    let caller = hub.start_as("caller", "CALLER", 0);
    hub.run();
    let greeting = "Called SayHello SayHello Tokyo";
    assert_eq!(hub.output::<String>(&caller).unwrap(), greeting);
    assert_eq!(hub.output::<String>(&id("detached")).unwrap(), "Called detached");
    assert_eq!(
        names(hub.history(&caller)),
        ["Caller", "SayHello", "SayHello", "Called", "Called"]
    );
    assert_eq!(names(&hub.earlier_histories(&caller)[0]), ["Caller"]);
    assert_eq!(names(hub.history(&id("detached"))), ["Called"]);
    assert_eq!(hub.info(&caller).name.as_str(), "Caller");
    assert_eq!(hub.call_count("sayHello"), 2);
    retrace(&registry(), hub.history(&caller)).unwrap();
}

#[test]
fn a_fake_stands_for_every_spelling_and_takes_the_limit_of_the_registered_activity() {
    let hour = Duration::from_hours(1);
    let limited = ActivityOptions::new().start_to_close(Duration::from_secs(5));
    let registry = Registry::new()
        .orchestrator("Called", called)
        .orchestrator("Caller", caller)
        .activity("SayHello", say_hello)
        .activity_options("SayHello", limited);
    let mut hub = TestHub::new(registry);
    hub.fake_activity_taking("sAYhELLO", hour, |_: String| Ok::<_, Error>("late".to_owned()));
    let failure = hub.run_orchestrator::<String, _>("caller", 1).unwrap_err();
    assert!(failure.message.contains("timed out after 5s"), "{failure}");
}

#[test]
fn a_deployment_may_spell_its_names_anew() {
    let waiting = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let first: String = ctx.call_activity("SayHello", "1").await?;
        ctx.wait_for_external_event::<()>("Go").await?;
        Ok(ctx.call_activity("SayHello", first).await?)
    };
    let old = Registry::new()
        .orchestrator("Waiting", waiting)
        .activity("SayHello", say_hello);
    let new = Registry::new()
        .orchestrator("WAITING", waiting)
        .activity("SAYHELLO", say_hello);
    let mut hub = TestHub::new(old);
    let waiting = hub.start("waiting", ());
    hub.settle();
    hub.deploy(new);
    hub.raise_event(&waiting, "GO", ()).unwrap();
    hub.run();
    assert_eq!(hub.output::<String>(&waiting).unwrap(), "SAYHELLO SayHello 1");
    assert_eq!(names(hub.history(&waiting)), ["Waiting", "SayHello", "SAYHELLO"]);
}

#[tokio::test]
async fn a_hub_finds_functions_and_lists_instances_by_any_spelling() {
    let builder = Hub::builder("TestHub").registry(registry()).check_replay(true);
    let hub = builder.in_memory().await.unwrap();
    let client = hub.client();
    let start = |name| client.start(name, 0).id("one").key("key");
    let caller = start("caller").await.unwrap();
    start("CALLER").await.unwrap();
    let greeting: String = client.wait_for_completion(&caller).await.unwrap();
    assert_eq!(greeting, "Called SayHello SayHello Tokyo");
    for spelling in ["Caller", "cALLER"] {
        let found = client.instances().name(spelling).await.unwrap();
        let found: Vec<&str> = found.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(found, ["Caller"]);
    }
    client.wait_for_end(&id("detached")).await.unwrap();
    let gone = client.instances().name("CALLED").purge();
    assert_eq!(gone.await.unwrap(), 2);
}

#[tokio::test]
async fn the_limit_of_an_activity_holds_for_all_its_spellings() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    let alone = async |_: ActivityContext, (): ()| -> Result<bool> {
        let is_alone = RUNNING.fetch_add(1, Ordering::SeqCst) == 0;
        tokio::task::yield_now().await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        Ok(is_alone)
    };
    let all = async |ctx: OrchestrationContext, (): ()| -> Result<bool> {
        let spellings = ["Alone", "alone", "ALONE", "aLONE"].into_iter().cycle().take(40);
        let calls = join_all(spellings.map(|name| ctx.call_activity::<bool, _>(name, ()))).await;
        Ok(calls.into_iter().all(|alone| alone.unwrap()))
    };
    let one = ActivityOptions::new().concurrency(1);
    let hub = Hub::builder("TestHub").orchestrator("All", all);
    let hub = hub
        .activity("Alone", alone)
        .activity_options("Alone", one)
        .in_memory()
        .await
        .unwrap();
    let id = hub.client().start_new("ALL", ()).await.unwrap();
    assert!(hub.client().wait_for_completion::<bool>(&id).await.unwrap());
}

#[tokio::test]
async fn an_unknown_name_is_told_as_it_was_given() {
    let hub = Hub::builder("TestHub").registry(registry()).in_memory().await.unwrap();
    let client = hub.client();
    let id = client.start_new("Calls", ()).await.unwrap();
    let info = client.wait_for_end(&id).await.unwrap();
    assert_eq!((info.status, info.name.as_str()), (RuntimeStatus::Failed, "Calls"));
    let failure = info.failure.unwrap();
    assert!(
        failure.message.starts_with("no orchestrator `Calls` is registered"),
        "{failure}"
    );
}
