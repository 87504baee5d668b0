//! A stop: what has to be kept, when the next process may believe that nothing was left running, and that
//! nothing keeps the process from ending.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::common::{GRACE, Plain, id, open, open_on, open_with, start};
use taskhub_core::id::{HubName, InstanceNumber};
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;
use taskhub_engine::{Hub, Options, WaitFor};
use taskhub_store::blocking::Writer;
use taskhub_store::faulty::{Fault, Faults, StoreCall};
use taskhub_store::layer::Layer;
use taskhub_store::mem::{MemData, MemStore};
use taskhub_store::{Claim, FingerprintPage, Fut, NodeId, PartitionKey, Previous, Store};

const COUNT: usize = 20;

/// Starts instances whose activities wait at the gate.
async fn start_all(hub: &Hub) {
    for index in 0..COUNT {
        hub.start(start(&format!("i{index}"), "Steps", Some("1")))
            .await
            .unwrap();
    }
    for index in 0..COUNT {
        hub.wait(&id(&format!("i{index}")), WaitFor::Started).await.unwrap();
    }
}

/// Stops the hub, and lets the activities through once the stop has begun.
async fn stop_while_they_end(hub: &Hub, functions: &Plain) {
    let ending = async { functions.gate.add_permits(COUNT) };
    let (stopped, ()) = tokio::join!(hub.stop(GRACE), ending);
    stopped.unwrap();
}

/// The next process finds every result there, so that no activity runs again.
async fn all_were_kept(data: &MemData) {
    let functions = Plain::new();
    let hub = open(data, &functions).await;
    for index in 0..COUNT {
        let info = hub.wait(&id(&format!("i{index}")), WaitFor::Ended).await.unwrap();
        assert_eq!(info.status, RuntimeStatus::Completed);
    }
    assert_eq!(functions.activities_run.load(Ordering::Acquire), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_for_an_instance_that_is_not_in_memory_is_kept() {
    let data = MemData::new();
    let functions = Plain::gated(0);
    let is_stopping = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&is_stopping);
    // Results come faster than the first read, which is made again.
    let faults = Faults::new(move |call| {
        let strikes = call == StoreCall::Load && stopping.swap(false, Ordering::AcqRel);
        if strikes { Fault::FailBefore } else { Fault::None }
    });
    let options = Options {
        memory_bytes_max: 0,
        ..Options::default()
    };
    let hub = open_on(&data, &faults, &functions, options).await;
    start_all(&hub).await;
    assert!(hub.report().await.instances < COUNT, "some have left memory");
    is_stopping.store(true, Ordering::Release);
    stop_while_they_end(&hub, &functions).await;
    drop(hub);
    all_were_kept(&data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_fails_within_the_grace_loses_no_result() {
    let data = MemData::new();
    let functions = Plain::gated(0);
    let is_stopping = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&is_stopping);
    // The first group of the stop is refused at its fence, so the results in it are in memory alone.
    let faults = Faults::new(move |call| {
        let strikes = call == StoreCall::Stage && stopping.swap(false, Ordering::AcqRel);
        if strikes { Fault::FailAfter } else { Fault::None }
    });
    let hub = open_on(&data, &faults, &functions, Options::default()).await;
    start_all(&hub).await;
    is_stopping.store(true, Ordering::Release);
    stop_while_they_end(&hub, &functions).await;
    assert_eq!(hub.reloads(), 1, "the partitions were read anew while the hub stopped");
    drop(hub);
    all_were_kept(&data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_kept_makes_the_end_unclean() {
    let data = MemData::new();
    let functions = Plain::gated(0);
    let is_stopping = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&is_stopping);
    let faults = Faults::new(move |call| {
        let strikes = call == StoreCall::Stage && stopping.load(Ordering::Acquire);
        if strikes { Fault::FailAfter } else { Fault::None }
    });
    let hub = open_on(&data, &faults, &functions, Options::default()).await;
    start_all(&hub).await;
    is_stopping.store(true, Ordering::Release);
    functions.gate.add_permits(COUNT);
    while functions.activities_run.load(Ordering::Acquire) < COUNT {
        tokio::task::yield_now().await;
    }
    hub.stop(Duration::ZERO).await.unwrap();
    drop(hub);
    assert!(
        !is_clean(&data),
        "the next process must take the calls for ones that may have run (A35)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_abandoned_at_the_end_of_the_grace_counts_as_not_run() {
    let data = MemData::new();
    let hub = open(&data, &Plain::gated(0)).await;
    start_all(&hub).await;
    // The threads get as long to end their rounds, which they do however busy the machine is.
    hub.stop(Duration::from_secs(5)).await.unwrap();
    drop(hub);
    assert!(is_clean(&data), "a shutdown is no lost delivery (R186)");
}

/// Whether the last owner gave its partitions back.
fn is_clean(data: &MemData) -> bool {
    let partition = PartitionKey {
        hub: HubName::new("TestHub").unwrap(),
        index: 0,
    };
    let claim = Claim::new(NodeId(1), &[partition], Timestamp::from_micros(0)).steal();
    let leases = data.writer().claim(&claim).unwrap().leases;
    leases.iter().all(|lease| lease.previous == Previous::Nobody)
}

#[test]
fn a_turn_that_never_returns_does_not_keep_the_process_from_ending() {
    let functions = Plain::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = Options {
            turn_limit: Duration::from_hours(1),
            ..Options::default()
        };
        let hub = open_with(&MemData::new(), &functions, options).await;
        hub.start(start("one", "Steps", Some("1"))).await.unwrap();
        let blocked = async {
            while functions.looping.load(Ordering::Acquire) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = hub.start(start("bad", "Loop", None)) => panic!("acknowledged while its turn blocks the thread that made it"),
            () = blocked => {}
        }
        hub.stop(Duration::ZERO).await.unwrap();
    });
    // Waits for all that runs on the runtime; the stuck thread is not part of that.
    drop(runtime);
    functions.unblock();
}

/// A store that never answers who asks which ids there are.
struct Silent(MemStore);

impl Layer for Silent {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    fn fingerprints<'a>(
        &'a self,
        _partition: &'a PartitionKey,
        _after: Option<InstanceNumber>,
        _rows_max: usize,
    ) -> Fut<'a, FingerprintPage> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_read_that_is_under_way_does_not_keep_the_store_beyond_a_stop() {
    let store = Arc::new(Silent(MemStore::empty()));
    let hub = Hub::open(
        Arc::clone(&store) as Arc<dyn Store>,
        HubName::new("TestHub").unwrap(),
        Options::default(),
        Arc::new(Plain::new()),
    )
    .await
    .unwrap();
    hub.stop(GRACE).await.unwrap();
    drop(hub);
    assert_eq!(
        Arc::strong_count(&store),
        1,
        "whoever opens it next would find it in use"
    );
}
