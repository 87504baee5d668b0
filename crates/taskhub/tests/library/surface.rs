//! Typed names, options on builders, handles and errors, as programs use them.

use std::sync::Arc;
use std::time::Duration;

use taskhub::testing::TestHub;
use taskhub::{
    Activity, ActivityContext, Clock, Error, Event, EventKind, Hub, HubError, InstanceId, OrchestrationContext,
    Orchestrator, Registry, Result, RetryPolicy, ReusePolicy, RuntimeStatus, STOP_PERIOD, Store, Timestamp, join_all,
    try_join_all,
};

const SECOND: Duration = Duration::from_secs(1);

const LENGTH: Activity<String, usize> = Activity::new("Length");
const SUM: Activity<Vec<usize>, usize> = Activity::new("Sum");
const MEASURE: Orchestrator<Vec<String>, usize> = Orchestrator::new("Measure");
const REPORT: Orchestrator<(), String> = Orchestrator::new("Report");
const WORDS: Event<Vec<String>> = Event::new("Words");

async fn measure(ctx: OrchestrationContext, words: Vec<String>) -> Result<usize> {
    let lengths = try_join_all(words.iter().map(|word| ctx.call_activity(LENGTH, word))).await?;
    let by_reference = ctx.call_activity(SUM, &lengths).await?;
    let as_slice = ctx.call_activity(SUM, lengths.as_slice()).await?;
    let literal = ctx.call_activity(LENGTH, "word").await?;
    let owned = ctx.call_activity(LENGTH, "word".to_owned()).await?;
    assert_eq!((by_reference, literal), (as_slice, owned));
    Ok(by_reference)
}

async fn report(ctx: OrchestrationContext, (): ()) -> Result<String> {
    let Some(words) = ctx.wait_for_external_event(WORDS).timeout(SECOND).await? else {
        return Ok("silence".to_owned());
    };
    let sum = ctx.call_sub_orchestrator(MEASURE, words).id("measured").await?;
    ctx.raise_event("measured", WORDS, vec![])?;
    Ok(sum.to_string())
}

fn typed() -> Registry {
    Registry::new()
        // The names tell the types of the closures.
        .activity(LENGTH, async |_: ActivityContext, word| Ok::<_, Error>(word.len()))
        .blocking_activity(SUM, |_: ActivityContext, lengths| Ok::<_, Error>(lengths.iter().sum()))
        .orchestrator(MEASURE, measure)
        .orchestrator(REPORT, report)
}

#[test]
fn a_typed_name_ties_caller_and_callee() {
    let mut hub = TestHub::new(typed());
    let id = hub.start(REPORT, ());
    hub.settle();
    hub.raise_event(&id, WORDS, vec!["one".to_owned(), "three".to_owned()])
        .unwrap();
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "8");
    assert_eq!(hub.run_orchestrator(REPORT, ()).unwrap(), "silence");
    hub.fake_activity(LENGTH, |_| Ok::<_, Error>(100));
    assert_eq!(hub.run_orchestrator(MEASURE, vec!["one".to_owned()]).unwrap(), 100);
    assert_eq!(hub.call_count(LENGTH), 7);
}

#[tokio::test]
async fn a_client_starts_and_raises_by_typed_names_and_by_text() {
    let hub = Hub::builder("Typed").registry(typed()).in_memory().await.unwrap();
    let client = hub.client();
    let words = ["one", "three"].map(str::to_owned).to_vec();
    let report = client.start(REPORT, ()).await.unwrap();
    report.raise_event(WORDS, &words).await.unwrap();
    assert_eq!(report.wait::<String>().await.unwrap(), "8");
    let report = client.start_new("Report", ()).id("by-text").await.unwrap();
    client.raise_event("by-text", "Words", &words).await.unwrap();
    let output: String = client.wait_for_completion(&report).await.unwrap();
    assert_eq!(output, "8");
}

/// What an instance scheduled: id, name and labels, in the order of its history.
fn scheduled(hub: &TestHub, id: &InstanceId) -> Vec<(i32, String, String)> {
    let events = hub.history(id).iter().filter_map(|event| match &event.kind {
        EventKind::TaskScheduled { name, tags, .. } | EventKind::SubOrchestrationInstanceCreated { name, tags, .. } => {
            Some((event.id, name, tags))
        }
        _ => None,
    });
    events
        .map(|(id, name, tags)| {
            let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            (id, name.to_string(), tags.join(","))
        })
        .collect()
}

fn echoing(
    orchestrator: impl AsyncFn(OrchestrationContext) -> Result<String> + Send + Sync + Clone + 'static,
) -> TestHub {
    let run = move |ctx: OrchestrationContext, (): ()| {
        let orchestrator = orchestrator.clone();
        async move { orchestrator(ctx).await }
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Run", run));
    for name in ["A", "B", "C"] {
        hub.fake_activity(name, move |(): ()| Ok::<_, String>(name));
    }
    hub
}

fn expect(found: &[(i32, String, String)], wanted: &[(i32, &str, &str)]) {
    let found: Vec<_> = found
        .iter()
        .map(|(id, name, tags)| (*id, name.as_str(), tags.as_str()))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn calls_with_options_are_made_when_they_are_called_in_the_order_of_the_calls() {
    let mut hub = echoing(async |ctx| {
        let policy = || RetryPolicy::new(3, SECOND);
        let first = ctx.call_activity::<String, _>("A", ()).retry(policy()).tag("n", "0");
        let second = ctx.call_activity::<String, _>("B", ()).tag("n", "1").retry(policy());
        let third = ctx.call_activity::<String, _>("C", ()).version("2");
        // Awaited backwards, and one of them never.
        let results = join_all([third, first]).await;
        drop(second);
        let results: Vec<String> = results.into_iter().collect::<Result<_, _>>()?;
        Ok(results.join(" "))
    });
    let id = hub.start("Run", ());
    hub.run();
    assert_eq!(hub.output::<String>(&id).unwrap(), "C A");
    expect(&scheduled(&hub, &id), &[(0, "A", "n=0"), (1, "B", "n=1"), (2, "C", "")]);
}

#[test]
fn a_call_that_is_dropped_with_its_options_is_made_all_the_same() {
    let mut hub = echoing(async |ctx| {
        drop(
            ctx.call_activity::<(), _>("A", ())
                .retry(RetryPolicy::new(3, SECOND))
                .tag("n", "0"),
        );
        drop(ctx.call_activity::<(), _>("B", ()).tag("n", "1"));
        ctx.create_timer(SECOND).await;
        Ok(String::new())
    });
    let id = hub.start("Run", ());
    hub.run();
    expect(&scheduled(&hub, &id), &[(0, "A", "n=0"), (1, "B", "n=1")]);
}

#[test]
fn each_attempt_has_the_options_that_were_set_before_and_after_its_policy() {
    let run = async |ctx: OrchestrationContext, (): ()| -> Result<()> {
        let call = ctx.call_activity("Fails", ()).tag("before", "1");
        Ok(call
            .retry(RetryPolicy::new(2, SECOND))
            .tag("after", "2")
            .version("7")
            .await?)
    };
    let mut hub = TestHub::new(Registry::new().orchestrator("Run", run));
    hub.fake_activity("Fails", |(): ()| Err::<(), _>("no"));
    let id = hub.start("Run", ());
    hub.run();
    let tags = scheduled(&hub, &id)
        .into_iter()
        .map(|(_, _, tags)| tags)
        .collect::<Vec<_>>();
    assert_eq!(tags, ["after=2,before=1", "RetryAttempt=2,after=2,before=1"]);
    let versions = hub.history(&id).iter().filter(|event| {
        matches!(&event.kind, EventKind::TaskScheduled { version: Some(version), .. } if version.as_str() == "7")
    });
    assert_eq!(versions.count(), 2);
}

#[test]
fn the_time_for_retries_runs_from_the_call_however_late_it_is_awaited() {
    let mut hub = echoing(async |ctx| {
        let policy = || RetryPolicy::new(9, SECOND).retry_timeout(SECOND * 10);
        let early = ctx.call_activity::<String, _>("Fails", ()).retry(policy());
        ctx.create_timer(SECOND * 20).await;
        let late = ctx.call_activity::<String, _>("Fails", ()).retry(policy());
        let (early, late) = (early.await.unwrap_err(), late.await.unwrap_err());
        Ok(format!("{} {}", early.attempts(), late.attempts()))
    });
    hub.fake_activity("Fails", |(): ()| Err::<String, _>("no"));
    let attempts = hub.run_orchestrator::<String, _>("Run", ()).unwrap();
    assert_eq!(attempts, "1 9");
}

#[test]
fn an_option_that_comes_too_late_fails_the_call_on_replay_too() {
    // Each turn is replayed and compared by the test hub.
    let mut hub = echoing(async |ctx| {
        let late = ctx.call_activity::<String, _>("A", ());
        let next = ctx.call_activity::<String, _>("B", ()).await?;
        let after_call = late.tag("n", "0").await.unwrap_err();
        let late = ctx.call_activity::<String, _>("C", ());
        ctx.wait_for_external_event::<()>("Go").await?;
        let after_wait = late.retry(RetryPolicy::new(2, SECOND)).await.unwrap_err();
        let detached = ctx.start_new("Run", ());
        ctx.raise_event(ctx.instance_id(), "Ignored", ())?;
        let after_event = detached.id("late").await.unwrap_err();
        assert_eq!(after_call.error_type(), after_wait.error_type());
        assert_eq!(after_call.error_type(), after_event.error_type());
        Ok(format!("{next} {}", after_call.error_type()))
    });
    let id = hub.start("Run", ());
    hub.settle();
    hub.restart();
    hub.raise_event(&id, "Go", ()).unwrap();
    hub.settle();
    assert_eq!(hub.output::<String>(&id).unwrap(), "B InvalidOption");
    let made = scheduled(&hub, &id);
    expect(
        &made,
        &[
            (0, "A", ""),
            (1, "B", ""),
            (2, "C", ""),
            (3, "Run", "FireAndForget=true"),
        ],
    );
}

#[test]
fn an_option_that_cannot_be_takes_the_call_back() {
    let mut hub = echoing(async |ctx| {
        let refused = ctx.call_activity::<String, _>("A", ()).version("").await.unwrap_err();
        let retried = ctx
            .call_activity::<String, _>("A", ())
            .retry(RetryPolicy::new(9, SECOND))
            .tag("RetryAttempt", "1");
        let retried = retried.await.unwrap_err();
        let child = ctx.call_sub_orchestrator::<(), _>("Run", ()).id("").await.unwrap_err();
        let detached = ctx.start_new("Run", ()).version("").await.unwrap_err();
        ctx.call_activity::<String, _>("B", ()).await?;
        let types = [
            refused.error_type(),
            retried.error_type(),
            child.error_type(),
            detached.error_type(),
        ];
        Ok(types.join(" "))
    });
    let id = hub.start("Run", ());
    hub.run();
    let said = hub.output::<String>(&id).unwrap();
    assert_eq!(said, "InvalidName InvalidOption InvalidName InvalidName");
    expect(&scheduled(&hub, &id), &[(0, "B", "")]);
}

#[test]
fn an_id_of_its_own_leaves_the_ids_that_are_made_up_as_they_are() {
    let ids = |own: bool| {
        let mut hub = echoing(async move |ctx| {
            let mut ids = Vec::new();
            if own {
                assert_eq!(ctx.start_new("Other", ()).id("own").await?.as_str(), "own");
            }
            ids.push(ctx.new_guid());
            // Of one that comes after another, nothing is given back.
            let detached = ctx.start_new("Other", ());
            ids.push(ctx.new_guid());
            let unnamed = detached.await?;
            ids.push(ctx.new_guid());
            Ok(format!("{ids:?} {unnamed}"))
        });
        let id = hub.start("Run", ());
        hub.settle();
        hub.output::<String>(&id).unwrap()
    };
    assert_eq!(ids(true), ids(false));
}

async fn waiting(ctx: OrchestrationContext, (): ()) -> Result<u32> {
    Ok(ctx.wait_for_external_event("Go").await?)
}

async fn parent(ctx: OrchestrationContext, (): ()) -> Result<u32> {
    let id = format!("{}-child", ctx.instance_id());
    Ok(ctx.call_sub_orchestrator("Waiting", ()).id(&id).await?)
}

fn waiters(name: &str) -> taskhub::HubBuilder {
    Hub::builder(name)
        .orchestrator("Waiting", waiting)
        .orchestrator("Parent", parent)
}

#[tokio::test]
async fn a_handle_steers_its_instance() {
    let hub = waiters("Handles").in_memory().await.unwrap();
    let client = hub.client();
    let started = client.start("Waiting", ()).id("one").await.unwrap();
    assert_eq!((started.id().as_str(), started.to_string().as_str()), ("one", "one"));
    let one = client.instance("one").unwrap();
    one.suspend().reason("a pause").await.unwrap();
    let status = one.status().await.unwrap().unwrap();
    assert_eq!(status.info.status, RuntimeStatus::Suspended);
    one.resume().await.unwrap();
    assert!(matches!(one.purge().await, Err(HubError::InstanceLive { .. })));
    one.raise_event("Go", 7).key("once").await.unwrap();
    one.raise_event("Go", 7).key("once").await.unwrap();
    assert_eq!(one.wait::<u32>().await.unwrap(), 7);
    assert_eq!(one.purge().await.unwrap(), 1);
    assert_eq!(one.status().await.unwrap(), None);
}

#[tokio::test]
async fn children_end_with_their_parent_if_it_is_said() {
    let hub = waiters("Families").in_memory().await.unwrap();
    let client = hub.client();
    for (id, is_recursive) in [("spared", false), ("ended", true)] {
        let parent = client.start("Parent", ()).id(id).await.unwrap();
        let child = client.instance(format!("{id}-child")).unwrap();
        while child.status().await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let end = parent.terminate().reason("enough");
        let end = if is_recursive { end.recursive() } else { end };
        end.await.unwrap();
        let error = parent.wait::<u32>().await.unwrap_err();
        assert!(matches!(&error, HubError::Terminated { reason: Some(reason), .. } if reason == "enough"));
        if is_recursive {
            assert_eq!(child.wait_for_end().await.unwrap().status, RuntimeStatus::Terminated);
        } else {
            child.raise_event("Go", 1).await.unwrap();
            assert_eq!(child.wait::<u32>().await.unwrap(), 1);
        }
    }
}

#[tokio::test]
async fn an_error_is_a_variant_with_what_its_handler_needs() {
    let hub = waiters("Errors").in_memory().await.unwrap();
    let client = hub.client();
    let one = client.start("Waiting", ()).id("one").key("k").await.unwrap();
    let error = client.start("Waiting", ()).id("one").await.unwrap_err();
    assert!(
        matches!(&error, HubError::InstanceExists { id, status: RuntimeStatus::Running | RuntimeStatus::Pending } if id == one.id())
    );
    let error = client.start("Parent", ()).id("one").key("k").await.unwrap_err();
    assert!(matches!(&error, HubError::IdempotencyConflict { key, .. } if key.as_str() == "k"));
    let error = client.terminate("none").await.unwrap_err();
    assert!(matches!(&error, HubError::InstanceNotFound { id } if id.as_str() == "none"));
    one.terminate().await.unwrap();
    let error = one.raise_event("Go", 1).await.unwrap_err();
    assert!(matches!(
        &error,
        HubError::InstanceNotLive {
            status: RuntimeStatus::Terminated,
            ..
        }
    ));
    // What is invalid is told when the builder is awaited, with its own limit and noun.
    let long = "k".repeat(300);
    let error = client.start("Waiting", ()).key(&long).await.unwrap_err();
    assert_eq!(error.code(), "invalid-idempotency-key");
    assert!(error.to_string().contains("256"), "{error}");
    assert_eq!(client.get_status("").await.unwrap_err().code(), "invalid-instance-id");
    assert_eq!(client.instance("").unwrap_err().code(), "invalid-instance-id");
    hub.stop(STOP_PERIOD).await.unwrap();
    assert!(matches!(client.start("Waiting", ()).await, Err(HubError::Stopped)));
}

#[tokio::test]
async fn a_start_says_version_labels_time_and_what_becomes_of_an_old_instance() {
    let told = async |ctx: OrchestrationContext, (): ()| -> Result<String> {
        let version = ctx.version().unwrap_or_default().to_owned();
        ctx.set_custom_status(format!("{version} {:?}", ctx.tags()))?;
        Ok(ctx.wait_for_external_event("Go").await?)
    };
    let hub = Hub::builder("Starts").orchestrator("Told", told).in_memory();
    let client = hub.await.unwrap().client();
    let first = client.start("Told", ()).id("a-1").version("7").tag("kind", "gift");
    let first = first.await.unwrap();
    let status = async |id: &str| client.get_status(id).await.unwrap().unwrap().info;
    while status("a-1").await.custom_status.is_none() {
        tokio::task::yield_now().await;
    }
    let shown = status("a-1").await.custom_status.unwrap().to_text();
    assert_eq!(shown, r#""7 {\"kind\": \"gift\"}""#);
    // A live instance is replaced if the start says so, and an ended one is not if it says that.
    let again = client.start("Told", ()).id(&first).reuse(ReusePolicy::ReplaceAny);
    again.await.unwrap().terminate().await.unwrap();
    let kept = client
        .start("Told", ())
        .id("a-1")
        .reuse(ReusePolicy::Replace(Vec::new()));
    assert_eq!(kept.await.unwrap_err().code(), "instance-exists");
    client.start("Told", ()).id("b-1").at(Timestamp::MAX).await.unwrap();
    assert_eq!(status("b-1").await.status, RuntimeStatus::Pending);
    let listed = client.instances().id_prefix("a-").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].instance.as_str(), "a-1");
}

#[tokio::test]
async fn two_hubs_of_a_process_share_a_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");
    let store = Store::open(&folder).await.unwrap();
    let orders = waiters("Orders").open_in(&store).await.unwrap();
    let invoices = waiters("Invoices").open_in(&store).await.unwrap();
    // The same id in each of them is another instance.
    let order = orders.client().start("Waiting", ()).id("one").await.unwrap();
    let invoice = invoices.client().start("Waiting", ()).id("one").await.unwrap();
    order.raise_event("Go", 1).await.unwrap();
    invoice.raise_event("Go", 2).await.unwrap();
    assert_eq!(order.wait::<u32>().await.unwrap(), 1);
    assert_eq!(invoice.wait::<u32>().await.unwrap(), 2);
    assert!(matches!(
        waiters("Orders").open(&folder).await.unwrap_err(),
        HubError::Locked { .. }
    ));
    orders.stop(STOP_PERIOD).await.unwrap();
    drop(orders);
    store.delete_hub("Orders").await.unwrap();
    assert!(matches!(
        store.delete_hub("Orders").await,
        Err(HubError::HubNotFound { .. })
    ));
    let left: Vec<String> = store
        .hubs()
        .await
        .unwrap()
        .iter()
        .map(|hub| hub.name.to_string())
        .collect();
    assert_eq!(left, ["Invoices"]);
    // The end of one is not that of the other.
    let other = invoices.client().start("Waiting", ()).id("two").await.unwrap();
    other.raise_event("Go", 3).await.unwrap();
    assert_eq!(other.wait::<u32>().await.unwrap(), 3);
    assert_eq!(invoices.client().get_status_all().await.unwrap().len(), 2);
    invoices.stop(STOP_PERIOD).await.unwrap();
    drop(invoices);
    // After the last one the store can be used for another, and when that is stopped it is nobody's any more.
    let orders = waiters("Orders").open_in(&store).await.unwrap();
    assert!(orders.client().get_status_all().await.unwrap().is_empty());
    orders.stop(STOP_PERIOD).await.unwrap();
    drop((orders, store));
    assert_eq!(Hub::list(&folder).await.unwrap().len(), 2);
}

/// A clock that stands still in 2001.
#[derive(Debug)]
struct Stands;

impl Clock for Stands {
    fn now(&self) -> Timestamp {
        Timestamp::from_parts(1_000_000_000, 0)
    }
}

#[tokio::test]
async fn hubs_in_one_store_share_what_serves_them_until_the_last_has_stopped() {
    let store = Store::in_memory();
    let first = waiters("First").clock(Arc::new(Stands)).open_in(&store).await.unwrap();
    let second = waiters("Second").open_in(&store).await.unwrap();
    // The clock is what one can see of it.
    let is_shared = async |hub: &Hub| {
        let started = hub.client().start("Waiting", ()).await.unwrap();
        let created_at = started.status().await.unwrap().unwrap().info.created_at;
        created_at < Timestamp::from_parts(1_100_000_000, 0)
    };
    assert!(is_shared(&second).await);
    first.stop(STOP_PERIOD).await.unwrap();
    assert!(is_shared(&second).await, "the first one is not needed");
    let third = waiters("Third").open_in(&store).await.unwrap();
    assert!(is_shared(&third).await);
    second.stop(STOP_PERIOD).await.unwrap();
    third.stop(STOP_PERIOD).await.unwrap();
    let fourth = waiters("Fourth").open_in(&store).await.unwrap();
    assert!(!is_shared(&fourth).await);
}

#[tokio::test]
async fn what_does_not_fit_into_a_store_is_refused_as_full() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path().join("store")).bytes_max(600 << 10).await;
    let hub = waiters("Small").open_in(&store.unwrap()).await.unwrap();
    let started = hub.client().start("Waiting", "x".repeat(1 << 20)).await;
    assert!(matches!(started, Err(HubError::Full)), "{started:?}");
}
