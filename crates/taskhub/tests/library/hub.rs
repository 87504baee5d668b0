//! A whole hub in memory: what a program that embeds it sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskhub::{
    ActivityContext, ActivityOptions, Client, Error, EventKind, Hub, HubBuilder, HubError, Instance, InstanceId,
    InstanceInfo, Instances, OnNonDeterminism, OrchestrationContext, Payload, Raw, Registry, Result, RuntimeStatus,
    Store, join_all,
};
use taskhub_store::mem::{MemData, MemStore};

/// Nothing runs when it begins, so a stop does not wait; what takes longer hangs.
const GRACE: Duration = Duration::from_mins(2);

async fn say_hello(_: ActivityContext, city: String) -> Result<String> {
    Ok(format!("Hello {city}!"))
}

async fn hello_sequence(ctx: OrchestrationContext, (): ()) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call_activity("E1_SayHello", city).await?);
    }
    Ok(greetings)
}

/// Adds up what the event `Add` brings until that is 0, and shows the sum.
async fn adder(ctx: OrchestrationContext, mut sum: u64) -> Result<u64> {
    loop {
        ctx.set_custom_status(sum)?;
        let step: u64 = ctx.wait_for_external_event("Add").await?;
        if step == 0 {
            return Ok(sum);
        }
        sum += step;
    }
}

async fn failing(_: OrchestrationContext, text: String) -> Result<()> {
    Err(Error::new("Boom", text))
}

fn builder() -> HubBuilder {
    Hub::builder("SampleHub")
        .orchestrator("E1_HelloSequence", hello_sequence)
        .orchestrator("Adder", adder)
        .orchestrator("Failing", failing)
        .activity("E1_SayHello", say_hello)
        .check_replay(true)
}

/// Waits until an instance shows a custom status, by what it is told to do in between: nothing.
async fn shows(client: &Client, id: &Instance, wanted: &str) {
    loop {
        let status = client.get_status(id).await.ok().flatten();
        let shown = status
            .and_then(|status| status.info.custom_status)
            .map(|shown| shown.to_text());
        if shown.as_deref() == Some(wanted) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn work_for_a_function_that_is_missing_waits_if_the_hub_is_told_so() {
    let data = MemData::new();
    let open = |builder: HubBuilder| {
        let store = Arc::new(MemStore::over(&data));
        builder
            .on_nondeterminism(OnNonDeterminism::Block)
            .open_in(&Store::over(store))
    };
    let hub = open(Hub::builder("SampleHub")).await.unwrap();
    let id = hub.client().start_new("E1_HelloSequence", ()).await.unwrap();
    let status = hub.client().get_status(&id).await.unwrap().unwrap();
    let stall = status.info.stalled.unwrap();
    assert!(stall.reason.contains("`E1_HelloSequence`"), "{stall:?}");
    assert_eq!(status.info.status, RuntimeStatus::Pending);
    hub.stop(GRACE).await.unwrap();
    let hub = open(builder()).await.unwrap();
    let greetings: Vec<String> = hub.client().wait_for_completion(&id).await.unwrap();
    assert_eq!(greetings.len(), 3);
}

#[tokio::test]
async fn s_create_get() {
    let hub = builder().in_memory().await.unwrap();
    let client = hub.client();
    let id = client.start_new("E1_HelloSequence", ()).await.unwrap();
    assert_eq!(id.id().as_str().len(), 32);
    let greetings: Vec<String> = client.wait_for_completion(&id).await.unwrap();
    assert_eq!(greetings, ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);

    let status = id.status().with_history().without_input().await.unwrap().unwrap();
    assert_eq!(status.info.status, RuntimeStatus::Completed);
    assert!(status.info.created_at <= status.info.updated_at);
    assert_eq!(status.history.unwrap().len(), 12);
    assert_eq!(client.get_status("none").await.unwrap(), None);
    hub.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_failure_and_a_termination_are_told_to_whoever_waits() {
    let hub = builder().in_memory().await.unwrap();
    let client = hub.client();
    let id = client.start_new("Failing", "no way").await.unwrap();
    match client.wait_for_completion::<()>(&id).await {
        Err(error) => {
            assert_eq!(error.code(), "instance-failed");
            let HubError::Failed { failure, .. } = error else {
                panic!("{error:?}");
            };
            assert_eq!(failure.to_string(), "Boom: no way");
        }
        Ok(()) => panic!("it failed"),
    }
    let id = client.start_new("Adder", 0).await.unwrap();
    client.terminate(&id).reason("enough").await.unwrap();
    match client.wait_for_completion::<u64>(&id).await {
        Err(error) => {
            assert_eq!(error.code(), "instance-terminated");
            let HubError::Terminated { reason, .. } = error else {
                panic!("{error:?}");
            };
            assert_eq!(reason.as_deref(), Some("enough"));
        }
        Ok(sum) => panic!("it was terminated at {sum}"),
    }
    assert_eq!(
        client.raise_event(&id, "Add", 1).await.unwrap_err().code(),
        "instance-not-live"
    );
}

/// Asks an activity and a child, hears an event, sends one, and passes all on.
async fn talkative(ctx: OrchestrationContext, secret: String) -> Result<String> {
    let _: String = ctx.call_activity("E1_SayHello", &secret).await?;
    let _: Vec<String> = ctx.call_sub_orchestrator("E1_HelloSequence", ()).await?;
    ctx.raise_event(&InstanceId::new("nobody")?, "Psst", &secret)?;
    let heard: String = ctx.wait_for_external_event("Tell").await?;
    Ok(heard + &secret)
}

#[tokio::test]
async fn a_status_holds_no_more_than_was_asked_for() {
    let hub = builder()
        .orchestrator("Talkative", talkative)
        .in_memory()
        .await
        .unwrap();
    let client = hub.client();
    let id = client.start_new("Talkative", "secret").await.unwrap();
    client.raise_event(&id, "Tell", "told").await.unwrap();
    client.wait_for_end(&id).await.unwrap();
    // Payloads of calls and events, then those of results.
    let told = async |show_input: bool, show_history_output: bool| {
        let mut asked = client.get_status(&id).with_history();
        if show_history_output {
            asked = asked.with_history_output();
        }
        if !show_input {
            asked = asked.without_input();
        }
        let status = asked.await.unwrap().unwrap();
        assert_eq!(status.info.input.is_some(), show_input);
        assert_eq!(status.info.output.unwrap().to_text(), "\"toldsecret\"");
        let (mut inputs, mut results) = (0, 0);
        for event in status.history.unwrap() {
            match event.kind {
                EventKind::ExecutionStarted(started) => inputs += usize::from(started.input.is_some()),
                EventKind::TaskScheduled { input, .. }
                | EventKind::EventSent { input, .. }
                | EventKind::EventRaised { input, .. } => inputs += usize::from(input.is_some()),
                EventKind::TaskCompleted { result, .. }
                | EventKind::SubOrchestrationInstanceCompleted { result, .. }
                | EventKind::ExecutionCompleted { result, .. } => results += usize::from(result.is_some()),
                _ => {}
            }
        }
        (inputs, results)
    };
    assert_eq!(told(false, false).await, (0, 0));
    assert_eq!(told(true, false).await, (4, 0));
    assert_eq!(told(false, true).await, (0, 3));

    // The input is shown unless somebody says otherwise, by whatever way a record is read.
    let shown = |info: InstanceInfo| info.input.map(|input| input.to_text());
    let secret = Some("\"secret\"".to_owned());
    let status = client.get_status(&id).await.unwrap().unwrap();
    assert_eq!((shown(status.info), status.history), (secret.clone(), None));
    let status = id.status().with_history().await.unwrap().unwrap();
    assert!(status.history.is_some() && shown(status.info) == secret);
    let status = id.status().without_input().await.unwrap().unwrap();
    assert_eq!((shown(status.info), status.history), (None, None));
    assert_eq!(shown(client.wait_for_start(&id).await.unwrap()), secret);
    assert_eq!(shown(client.wait_for_end(&id).await.unwrap()), secret);
    let page = client.instances().page(None, 10).await.unwrap();
    let row = page.rows.into_iter().find(|row| row.instance == *id.id());
    assert_eq!(row.and_then(shown), secret);

    let listed = async |instances: Instances| {
        let info = instances.name("Talkative").await.unwrap().remove(0);
        (info.input.is_some(), info.output.is_some())
    };
    assert_eq!(listed(client.instances()).await, (true, true));
    assert_eq!(listed(client.instances().without_input()).await, (false, true));
    assert_eq!(listed(client.instances().without_output()).await, (true, false));
}

#[tokio::test]
async fn what_cannot_be_written_is_named_and_raw_bytes_need_not_be_json() {
    let echo = async |ctx: OrchestrationContext, Raw(input): Raw| -> Result<Raw> {
        let Raw(heard) = ctx.wait_for_external_event("Tell").await?;
        let both = [input, heard].into_iter().flatten().map(|payload| payload.to_text());
        Ok(Payload::text(&both.collect::<String>()).into())
    };
    let registry = Registry::new().orchestrator("Raw", echo);
    let hub = Hub::builder("SampleHub").registry(registry).in_memory().await.unwrap();
    let client = hub.client();
    let unwritable = BTreeMap::from([((), 1)]);
    let error = client.start_new("Raw", &unwritable).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot write the input of orchestrator `Raw`"),
        "{error}"
    );
    let text = Raw::from(Payload::text("{no "));
    let id = client.start("Raw", text).id("raw-1").await.unwrap();
    let error = client.raise_event(&id, "Tell", &unwritable).await.unwrap_err();
    let wanted = "cannot write the payload of event `Tell` for instance `raw-1`";
    assert!(error.to_string().starts_with(wanted), "{error}");
    client
        .raise_event(&id, "Tell", Raw::from(Payload::text("JSON")))
        .await
        .unwrap();
    let info = client.wait_for_end(&id).await.unwrap();
    assert_eq!(info.output.unwrap().to_text(), "{no JSON");
}

#[tokio::test]
async fn an_id_that_no_url_leads_to_is_not_given() {
    let hub = builder().in_memory().await.unwrap();
    let client = hub.client();
    for id in [".", ".."] {
        let refused = client.start("E1_HelloSequence", ()).id(id).await.unwrap_err();
        assert_eq!(refused.code(), "invalid-instance-id");
        // One that is there from earlier could be asked for.
        assert_eq!(client.get_status(id).await.unwrap(), None);
    }
    client.start("E1_HelloSequence", ()).id("...").await.unwrap();
}

#[tokio::test]
async fn a_weak_client_does_not_keep_the_hub() {
    let hub = builder().in_memory().await.unwrap();
    let weak = hub.client().downgrade();
    let id = weak.upgrade().unwrap().start_new("E1_HelloSequence", ()).await.unwrap();
    hub.client().wait_for_end(&id).await.unwrap();
    hub.stop(GRACE).await.unwrap();
    drop(hub);
    assert!(weak.upgrade().is_none());
    // Neither does a handle on an instance.
    assert_eq!(id.status().await.unwrap_err().code(), "hub-stopped");
    assert_eq!(id.terminate().await.unwrap_err().code(), "hub-stopped");
    assert_eq!(id.purge().await.unwrap_err().code(), "hub-stopped");
}

#[tokio::test]
async fn events_reach_an_instance_also_when_it_is_suspended() {
    let hub = builder().in_memory().await.unwrap();
    let client = hub.client();
    let id = client.start_new("Adder", 0).await.unwrap();
    client.raise_event(&id, "add", 1).await.unwrap();
    shows(&client, &id, "1").await;
    client.suspend(&id).reason("a pause").await.unwrap();
    client.raise_event(&id, "Add", 2).await.unwrap();
    let status = client.get_status(&id).await.unwrap().unwrap();
    assert_eq!(status.info.status, RuntimeStatus::Suspended);
    client.resume(&id).reason("go on").await.unwrap();
    client.raise_event(&id, "Add", 0).key("the end").await.unwrap();
    assert_eq!(client.wait_for_completion::<u64>(&id).await.unwrap(), 3);
}

#[tokio::test]
async fn instances_are_listed_by_filter_and_page_and_purged_the_same_way() {
    let hub = builder().in_memory().await.unwrap();
    let client = hub.client();
    for number in 0..5 {
        let id = format!("failing-{number}");
        let id = client.start("Failing", "on purpose").id(&id).await.unwrap();
        client.wait_for_end(&id).await.unwrap();
    }
    let live = client.start_new("Adder", 0).await.unwrap();
    client.wait_for_start(&live).await.unwrap();
    assert_eq!(client.get_status_all().await.unwrap().len(), 6);
    let failed = client.instances().statuses([RuntimeStatus::Failed]).name("Failing");
    assert_eq!(failed.clone().await.unwrap().len(), 5);
    let first = failed.clone().page(None, 2).await.unwrap();
    let rest = failed.page(first.next, 10).await.unwrap();
    assert_eq!((first.rows.len(), rest.rows.len(), rest.next), (2, 3, None));

    let last = client.get_status(&live).await.unwrap().unwrap().info;
    let none = client.instances().created_to(first.rows[0].created_at);
    assert_eq!(none.await.unwrap(), []);
    let newest = client.instances().created_from(last.created_at);
    assert_eq!(newest.await.unwrap().len(), 1);

    assert_eq!(
        client.purge_instance_history(&live).await.unwrap_err().code(),
        "instance-live"
    );
    assert_eq!(client.purge_instance_history(&first.rows[0].instance).await.unwrap(), 1);
    assert_eq!(client.purge_instance_history(&first.rows[0].instance).await.unwrap(), 0);
    assert_eq!(client.instances().purge().await.unwrap(), 4);
    assert_eq!(client.get_status_all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_instance_goes_on_after_a_restart_and_with_no_budget_for_live_futures() {
    let data = MemData::new();
    let open = || {
        builder()
            .live_bytes_max(0)
            .open_in(&Store::over(Arc::new(MemStore::over(&data))))
    };
    let hub = open().await.unwrap();
    for id in ["a", "b", "c"] {
        let id = hub.client().start("Adder", 0).id(id).await.unwrap();
        hub.client().raise_event(&id, "Add", 5).await.unwrap();
        shows(&hub.client(), &id, "5").await;
    }
    hub.stop(GRACE).await.unwrap();
    drop(hub);
    let hub = open().await.unwrap();
    for id in ["a", "b", "c"].map(|id| InstanceId::new(id).unwrap()) {
        hub.client().raise_event(&id, "Add", 6).await.unwrap();
        hub.client().raise_event(&id, "Add", 0).await.unwrap();
        assert_eq!(hub.client().wait_for_completion::<u64>(&id).await.unwrap(), 11);
    }
}

#[tokio::test]
async fn an_instance_on_disk_goes_on_in_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let hub = builder().open(folder.path()).await.unwrap();
    let id = hub.client().start_new("Adder", 0).await.unwrap();
    hub.client().raise_event(&id, "Add", 5).await.unwrap();
    shows(&hub.client(), &id, "5").await;
    hub.stop(GRACE).await.unwrap();
    drop(hub);
    let hub = builder().open(folder.path()).await.unwrap();
    hub.client().raise_event(&id, "Add", 6).await.unwrap();
    hub.client().raise_event(&id, "Add", 0).await.unwrap();
    assert_eq!(hub.client().wait_for_completion::<u64>(&id).await.unwrap(), 11);
    hub.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn no_more_calls_of_an_activity_run_at_once_than_it_allows() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let work = move |_: ActivityContext, (): ()| {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Error>(())
        }
    };
    let fan_out = async |ctx: OrchestrationContext, width: usize| -> Result<usize> {
        let results = join_all((0..width).map(|_| ctx.call_activity::<(), _>("Work", ()))).await;
        Ok(results.into_iter().flatten().count())
    };
    let hub = Hub::builder("SampleHub")
        .orchestrator("FanOut", fan_out)
        .activity("Work", work)
        .activity_options("Work", ActivityOptions::new().concurrency(3))
        .in_memory()
        .await
        .unwrap();
    let id = hub.client().start_new("FanOut", 50).await.unwrap();
    assert_eq!(hub.client().wait_for_completion::<usize>(&id).await.unwrap(), 50);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn an_orchestrator_that_sleeps_fails_at_once() {
    let sleeper = async |_: OrchestrationContext, (): ()| -> Result<()> {
        tokio::time::sleep(Duration::from_hours(1)).await; // tidy:allow: it is what must not be done
        Ok(())
    };
    let hub = Hub::builder("SampleHub")
        .orchestrator("Sleeper", sleeper)
        .in_memory()
        .await
        .unwrap();
    let id = hub.client().start_new("Sleeper", ()).await.unwrap();
    let info = hub.client().wait_for_end(&id).await.unwrap();
    assert_eq!(info.failure.unwrap().error_type, "ForeignAwaitError");
}

#[tokio::test]
async fn a_name_registered_twice_keeps_the_hub_closed() {
    let twice = builder().activity("E1_SayHello", say_hello).in_memory().await;
    let error = twice.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the functions cannot be registered: activity `E1_SayHello` is registered twice"
    );
    assert_eq!(
        Hub::builder("x").in_memory().await.unwrap_err().code(),
        "invalid-hub-name"
    );
}

#[tokio::test]
async fn whoever_asks_for_results_in_the_history_is_shown_the_history() {
    let hub = Hub::builder("Shown")
        .orchestrator("E1_HelloSequence", hello_sequence)
        .activity("E1_SayHello", say_hello)
        .in_memory()
        .await
        .unwrap();
    let id = hub.client().start("E1_HelloSequence", ()).await.unwrap();
    hub.client().wait_for_end(&id).await.unwrap();
    let status = hub
        .client()
        .get_status(&id)
        .with_history_output()
        .await
        .unwrap()
        .unwrap();
    let history = status.history.unwrap();
    let results = history.iter().filter(|event| match &event.kind {
        EventKind::TaskCompleted { result, .. } => result.is_some(),
        _ => false,
    });
    assert_eq!(results.count(), 3);
}

/// Whoever repeats a start because they did not hear the answer has no id yet.
#[tokio::test]
async fn a_start_that_is_repeated_with_its_key_and_without_an_id_is_one_instance() {
    let hub = Hub::builder("Keys")
        .orchestrator("Adder", adder)
        .in_memory()
        .await
        .unwrap();
    let client = hub.client();
    let start = async |key: &str| client.start("Adder", 1).key(key).await.unwrap().id().clone();
    let first = start("order-7").await;
    assert_eq!(start("order-7").await, first);
    assert_ne!(start("order-8").await, first);
    assert_eq!(client.instances().await.unwrap().len(), 2);
}
