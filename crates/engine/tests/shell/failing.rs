//! The shell over a store that fails: memory is dropped, nothing that was acknowledged is lost, and what
//! was under way goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::common::{Plain, id, open, start};
use taskhub_core::id::{HubName, Name};
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::{Error, Hub, Options, WaitFor};
use taskhub_store::faulty::{Call, Fault, Faults};
use taskhub_store::inline::Inline;
use taskhub_store::mem::MemData;
use taskhub_store::{Capabilities, Store};

/// A hub whose every `nth` group meets the fault.
async fn failing(nth: u64, fault: Fault, functions: &Plain, options: Options) -> Hub {
    let groups = AtomicU64::new(0);
    let faults = Faults::new(move |call| {
        let counts = call == Call::Seal && groups.fetch_add(1, Ordering::Relaxed) % nth == nth - 1;
        if counts { fault } else { Fault::None }
    });
    let data = MemData::new();
    let capabilities = Capabilities {
        name: "faulty",
        is_durable: false,
        is_group_atomic: true,
    };
    let store = Inline::new(capabilities, faults.writer(data.writer()), faults.reader(data.reader()));
    let store: Arc<dyn Store> = Arc::new(store);
    Hub::open(
        store,
        HubName::new("TestHub").unwrap(),
        options,
        Arc::new(functions.clone()),
    )
    .await
    .unwrap()
}

/// Starts instances until each is acknowledged, and sees all of them complete.
async fn all_complete(hub: &Hub, count: usize) {
    for index in 0..count {
        let instance = format!("i{index}");
        while let Err(error) = hub.start(start(&instance, "Steps", Some("3"))).await {
            match error {
                // The start may have taken effect before its answer was lost.
                Error::Refused(refusal) => {
                    assert_eq!(refusal.code(), "instance-exists");
                    break;
                }
                other => assert!(matches!(other, Error::Unavailable), "{other}"),
            }
        }
    }
    for index in 0..count {
        let info = hub.wait(&id(&format!("i{index}")), WaitFor::Ended).await.unwrap();
        assert_eq!(info.status, RuntimeStatus::Completed);
    }
    assert_eq!(
        hub.counts().await.unwrap(),
        vec![(RuntimeStatus::Completed, count as u64)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_out_of_reach_is_tried_again() {
    let hub = failing(7, Fault::FailBefore, &Plain::new(), Options::default()).await;
    all_complete(&hub, 40).await;
    assert_eq!(
        hub.reloads(),
        0,
        "nothing was made, so the same group can be made (A43)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_unknown_outcome_are_applied_once() {
    let options = Options {
        threads: 2,
        ..Options::default()
    };
    let hub = failing(5, Fault::FailAfter, &Plain::new(), options).await;
    all_complete(&hub, 40).await;
    assert!(hub.reloads() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s_disk_full() {
    // A full disk is no reload: the same group is tried again until there is room (A43).
    let hub = failing(3, Fault::Full, &Plain::new(), Options::default()).await;
    all_complete(&hub, 5).await;
    assert_eq!(hub.reloads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_assertion_costs_a_reload_and_nothing_that_was_acknowledged() {
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    hub.start(start("waits", "Wait", None)).await.unwrap();
    // The round that breaks is dropped as a whole, so this start has no effect and is not acknowledged.
    let broken = hub.start(start("breaks", "Break", None)).await;
    assert!(matches!(broken, Err(Error::Unavailable)), "{broken:?}");
    assert_eq!(hub.info(&id("breaks")).await.unwrap(), None);
    let waits = id("waits");
    let go = || hub.raise_event(&waits, Name::new("Go").unwrap(), None, None);
    while let Err(error) = go().await {
        assert!(matches!(error, Error::Unavailable), "{error}");
    }
    assert_eq!(hub.reloads(), 1);
    assert_eq!(
        hub.wait(&waits, WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Completed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_the_partitions_cannot_be_claimed() {
    let faults = Faults::none();
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    hub.start(start("one", "Wait", None)).await.unwrap();
    hub.wait(&id("one"), WaitFor::Started).await.unwrap();
    drop(hub);
    // The first group has an unknown outcome, so that memory is dropped; no claim after that succeeds.
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = Arc::clone(&is_lost);
    let faults_after = Faults::new(move |call| match call {
        Call::Seal => {
            lost.store(true, Ordering::Release);
            Fault::FailAfter
        }
        Call::Claim if lost.load(Ordering::Acquire) => Fault::FailBefore,
        _ => Fault::None,
    });
    let capabilities = Capabilities {
        name: "faulty",
        is_durable: false,
        is_group_atomic: true,
    };
    let store = Inline::new(
        capabilities,
        faults_after.writer(data.writer()),
        faults.reader(data.reader()),
    );
    let hub = Hub::open(
        Arc::new(store),
        HubName::new("TestHub").unwrap(),
        Options::default(),
        Arc::new(Plain::new()),
    )
    .await
    .unwrap();
    let ended = hub.terminate(&id("one"), None, false).await;
    assert!(matches!(ended, Err(Error::Unavailable)), "{ended:?}");
    // It did take effect, as whoever asks again is told.
    assert_eq!(
        hub.info(&id("one")).await.unwrap().unwrap().status,
        RuntimeStatus::Terminated
    );
    assert_eq!(
        hub.wait(&id("one"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Terminated
    );
}
