//! The shell around partitions and dispatcher, on the store in memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::common::{GRACE, Plain, TURN_LIMIT, id, in_partition, open, open_with, start};
use taskhub_core::message::StartRequest;
use taskhub_core::query::Filter;
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::{Error, Options, WaitFor};
use taskhub_store::mem::MemData;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_orchestration_of_three_activities_takes_four_groups() {
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    let before = hub.store().work().groups;
    hub.start(start("one", "Steps", Some("3"))).await.unwrap();
    let info = hub.wait(&id("one"), WaitFor::Ended).await.unwrap();
    assert_eq!(info.status, RuntimeStatus::Completed);
    assert_eq!(hub.store().work().groups - before, 4);
    let names: Vec<_> = hub
        .history(&id("one"))
        .await
        .unwrap()
        .unwrap()
        .iter()
        .map(|event| event.kind.name())
        .collect();
    assert_eq!(names.first(), Some(&"OrchestratorStarted"));
    assert_eq!(names.last(), Some(&"ExecutionCompleted"));
    assert_eq!(names.len(), 2 + 3 * 3 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_orchestrations_share_groups_and_all_complete() {
    let data = MemData::new();
    let functions = Plain::new();
    let hub = open_with(
        &data,
        &functions,
        Options {
            threads: 2,
            ..Options::default()
        },
    )
    .await;
    let instances: Vec<String> = (0..1000).map(|index| format!("i{index}")).collect();
    for instance in &instances {
        hub.start(start(instance, "Steps", Some("3"))).await.unwrap();
    }
    for instance in &instances {
        assert_eq!(
            hub.wait(&id(instance), WaitFor::Ended).await.unwrap().status,
            RuntimeStatus::Completed
        );
    }
    assert_eq!(functions.activities_run.load(Ordering::Acquire), 3000);
    assert_eq!(hub.counts().await.unwrap(), vec![(RuntimeStatus::Completed, 1000)]);
    let before = hub.store().work();
    assert_eq!(hub.purge_where(Filter::default()).await.unwrap().count, 1000);
    assert_eq!(hub.counts().await.unwrap(), Vec::new());
    // Few of them share a group, so that a start beside them does not wait for long (A42).
    let after = hub.store().work();
    assert_eq!(after.commits - before.commits, 1000);
    assert!(after.groups - before.groups >= 1000_u64.div_ceil(16));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_where_it_was_after_a_restart() {
    let data = MemData::new();
    let functions = Plain::gated(1);
    let hub = open(&data, &functions).await;
    hub.start(start("one", "Steps", Some("3"))).await.unwrap();
    hub.start(start("two", "Wait", None)).await.unwrap();
    hub.wait(&id("one"), WaitFor::Started).await.unwrap();
    drop(hub);
    functions.gate.add_permits(10);
    let hub = open(&data, &functions).await;
    assert_eq!(
        hub.wait(&id("one"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Completed
    );
    hub.raise_event(&id("two"), taskhub_core::id::Name::new("Go").unwrap(), None, None)
        .await
        .unwrap();
    assert_eq!(
        hub.wait(&id("two"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Completed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_drain() {
    let data = MemData::new();
    let functions = Plain::gated(0);
    let hub = open(&data, &functions).await;
    hub.start(start("one", "Steps", Some("1"))).await.unwrap();
    hub.wait(&id("one"), WaitFor::Started).await.unwrap();
    let stopping = hub.stop(GRACE);
    // The activity that runs may finish within the grace, and its result is kept.
    functions.gate.add_permits(1);
    stopping.await.unwrap();
    assert!(matches!(hub.info(&id("one")).await, Err(Error::Stopped)));
    assert_eq!(functions.activities_run.load(Ordering::Acquire), 1);
    let hub = open(&data, &functions).await;
    assert_eq!(
        hub.wait(&id("one"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Completed
    );
    assert_eq!(functions.activities_run.load(Ordering::Acquire), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_turn_sets_its_instance_aside_and_no_other() {
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    hub.start(start("bad", "Panic", None)).await.unwrap();
    hub.start(start("good", "Steps", Some("2"))).await.unwrap();
    assert_eq!(
        hub.wait(&id("good"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Completed
    );
    let info = hub.info(&id("bad")).await.unwrap().unwrap();
    let stall = info.stalled.unwrap();
    assert_eq!(
        (info.status, stall.reason.as_str()),
        (RuntimeStatus::Pending, "it panicked")
    );
    assert_eq!(hub.reloads(), 0);
    hub.terminate(&id("bad"), None, false).await.unwrap();
    assert_eq!(hub.info(&id("bad")).await.unwrap().unwrap().stalled, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_blocks_its_thread_is_left_behind() {
    let data = MemData::new();
    let functions = Plain::new();
    let hub = open_with(
        &data,
        &functions,
        Options {
            turn_limit: TURN_LIMIT,
            ..Options::default()
        },
    )
    .await;
    hub.start(start("good", "Wait", None)).await.unwrap();
    let is_stuck = async {
        while functions.looping.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        hub.figures().instances
    };
    let (acknowledged, instances) = tokio::join!(hub.start(start("bad", "Loop", None)), is_stuck);
    // What was committed before the turn is handed over for it.
    acknowledged.unwrap();
    assert_eq!(instances, 1, "as of the round before the one that is stuck");
    // Whoever called while the thread was stuck is told to call again.
    let good = id("good");
    let go = || hub.raise_event(&good, taskhub_core::id::Name::new("Go").unwrap(), None, None);
    while let Err(error) = go().await {
        assert!(matches!(error, Error::Unavailable | Error::Displaced), "{error}");
    }
    assert_eq!(
        hub.wait(&id("good"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Completed
    );
    let stall = hub.info(&id("bad")).await.unwrap().unwrap().stalled.unwrap();
    assert!(stall.is_final() && stall.reason.contains("did not return"), "{stall:?}");
    assert!(!hub.is_unhealthy());
    functions.unblock();
    hub.stop(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_evicted_is_read_again() {
    let data = MemData::new();
    let hub = open_with(
        &data,
        &Plain::new(),
        Options {
            memory_bytes_max: 0,
            ..Options::default()
        },
    )
    .await;
    for index in 0..50 {
        hub.start(start(&format!("i{index}"), "Wait", None)).await.unwrap();
    }
    for index in 0..50 {
        hub.wait(&id(&format!("i{index}")), WaitFor::Started).await.unwrap();
    }
    hub.start(start("last", "Steps", Some("1"))).await.unwrap();
    hub.wait(&id("last"), WaitFor::Ended).await.unwrap();
    assert!(hub.report().await.instances < 50, "idle instances leave memory");
    for index in 0..50 {
        let instance = id(&format!("i{index}"));
        hub.raise_event(&instance, taskhub_core::id::Name::new("Go").unwrap(), None, None)
            .await
            .unwrap();
        assert_eq!(
            hub.wait(&instance, WaitFor::Ended).await.unwrap().status,
            RuntimeStatus::Completed
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_hub_leaves_nothing_behind() {
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    hub.start(start("one", "Wait", None)).await.unwrap();
    hub.delete().await.unwrap();
    assert!(matches!(
        hub.start(start("two", "Wait", None)).await,
        Err(Error::Stopped)
    ));
    let hub = open(&data, &Plain::new()).await;
    assert_eq!(hub.info(&id("one")).await.unwrap(), None);
    assert_eq!(hub.counts().await.unwrap(), Vec::new());
}

/// Nothing comes to the thread until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_goes_on_by_itself_when_something_is_due() {
    let options = Options::default();
    let soon = options.clock.now().plus(Duration::from_millis(200));
    let hub = open_with(&MemData::new(), &Plain::new(), options).await;
    let later = StartRequest {
        scheduled_start: Some(soon),
        ..start("later", "Steps", Some("0"))
    };
    hub.start(later).await.unwrap();
    let ended = timeout(GRACE, hub.wait(&id("later"), WaitFor::Ended)).await;
    assert_eq!(ended.unwrap().unwrap().status, RuntimeStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_all_threads() {
    let options = Options {
        partitions: 2,
        threads: 2,
        ..Options::default()
    };
    let hub = open_with(&MemData::new(), &Plain::new(), options).await;
    for partition in [0, 1] {
        let waits = in_partition(partition, 2, "waits");
        hub.start(start(&waits, "Wait", None)).await.unwrap();
    }
    // What a report is told in one round is published at its end, before the next report.
    hub.report().await;
    let report = hub.report().await;
    let figures = hub.figures();
    assert_eq!((report.instances, report.counts.turns), (2, 2));
    assert_eq!((figures.instances, figures.counts.turns), (2, 2));
    assert_eq!(figures.instance_bytes, report.instance_bytes);
}

/// More than are purged in one step.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_many_counts_the_rows_of_all() {
    const COUNT: u64 = 40;
    let hub = open(&MemData::new(), &Plain::new()).await;
    for number in 0..=COUNT {
        let instance = format!("i{number}");
        hub.start(start(&instance, "Steps", Some("1"))).await.unwrap();
        hub.wait(&id(&instance), WaitFor::Ended).await.unwrap();
    }
    let of_one = hub.purge(&id("i0")).await.unwrap();
    assert!(of_one.rows > 1);
    let of_all = hub.purge_where(Filter::default()).await.unwrap();
    assert_eq!((of_all.count, of_all.rows), (COUNT, COUNT * of_one.rows));
}
