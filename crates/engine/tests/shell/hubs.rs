//! Several hubs on one node: one group and one sync serve them all, and what a group fails for costs each of them no more than
//! its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::common::{GRACE, Gate, Plain, TURN_LIMIT, Watched, ask, id, stalled, start};
use super::failing::{all_complete, start_surely};
use taskhub_core::id::{HubName, Name};
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::{Error, Hub, Node, Options, WaitFor};
use taskhub_store::Store;
use taskhub_store::faulty::{Fault, Faults, StoreCall};
use taskhub_store::inline::Inline;
use taskhub_store::mem::{MemData, MemStore};
use tokio::time::timeout;

async fn open(node: &Node, count: usize) -> Vec<Hub> {
    let mut hubs = Vec::new();
    for number in 0..count {
        let name = HubName::new(&format!("Hub{number}")).unwrap();
        let functions = Arc::new(Plain::new());
        hubs.push(node.open(name, Options::default(), functions).await.unwrap());
    }
    hubs
}

fn node(store: impl Store) -> Node {
    Node::start(Arc::new(store), &Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hubs_hand_over_goes_into_one_group() {
    let (data, gate) = (MemData::new(), Arc::new(Gate::default()));
    let passed = Arc::clone(&gate);
    let writer = Watched(data.writer(), move |group: &taskhub_store::Group| {
        passed.pass(group);
        Ok(())
    });
    let node = node(Inline::new(writer, data.reader()));
    let hubs = open(&node, 4).await;
    gate.set(true);
    // The first one waits at the gate, and behind it gathers what the others make.
    let first = ask(&hubs[0], vec![start("first", "Steps", Some("0"))], 1).await;
    let mut others = Vec::new();
    for (hub, name) in hubs[1..].iter().zip(["a", "b", "c"]) {
        others.extend(ask(hub, vec![start(name, "Steps", Some("0"))], 1).await);
    }
    gate.set(false);
    for start in first.into_iter().chain(others) {
        start.await.unwrap();
    }
    let groups = gate.groups.lock().unwrap();
    let of_several = groups.iter().filter(|(_, instances)| instances.len() > 1);
    assert!(of_several.count() > 0 && groups.len() < 4, "{groups:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_fails_costs_every_hub_its_memory_and_none_an_acknowledged_start() {
    let (data, groups) = (MemData::new(), AtomicU64::new(0));
    let faults = Faults::new(move |call| {
        let is_fifth = call == StoreCall::Seal && groups.fetch_add(1, Ordering::Relaxed) % 5 == 4;
        if is_fifth { Fault::FailAfter } else { Fault::None }
    });
    let node = node(Inline::new(faults.writer(data.writer()), faults.reader(data.reader())));
    let hubs = open(&node, 3).await;
    tokio::join!(
        all_complete(&hubs[0], 20, "3"),
        all_complete(&hubs[1], 20, "3"),
        all_complete(&hubs[2], 20, "3")
    );
    assert!(hubs.iter().all(|hub| hub.reloads() > 0));
}

/// The same ids in each, and one of the hubs goes while the others work.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_leaves_the_others() {
    let node = node(MemStore::empty());
    let mut hubs = open(&node, 3).await;
    for hub in &hubs {
        hub.start(start("one", "Steps", Some("2"))).await.unwrap();
    }
    let gone = hubs.remove(1);
    gone.stop(std::time::Duration::ZERO).await.unwrap();
    assert!(gone.start(start("late", "Steps", None)).await.is_err());
    drop(gone);
    for hub in &hubs {
        hub.start(start("two", "Steps", Some("2"))).await.unwrap();
        for name in ["one", "two"] {
            hub.wait(&id(name), WaitFor::Ended).await.unwrap();
        }
        assert_eq!(hub.reloads(), 0);
    }
    let name = HubName::new("Hub1").unwrap();
    let again = node
        .open(name, Options::default(), Arc::new(Plain::new()))
        .await
        .unwrap();
    again.wait(&id("one"), WaitFor::Ended).await.unwrap();
}

/// What its functions hold, such as connections, goes with it, though the threads that served it go on.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hub_that_stopped_nothing_is_kept() {
    let node = node(MemStore::empty());
    let others = open(&node, 1).await;
    let functions = Arc::new(Plain::new());
    let name = HubName::new("Goes").unwrap();
    let goes = node.open(name, Options::default(), functions.clone()).await.unwrap();
    goes.start(start("waits", "Wait", None)).await.unwrap();
    goes.stop(GRACE).await.unwrap();
    drop(goes);
    let is_free = async {
        while Arc::strong_count(&functions) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(GRACE, is_free).await.unwrap();
    others[0].start(start("goes-on", "Steps", Some("0"))).await.unwrap();
}

/// The thread is that of all three.
#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_in_one_hub_costs_the_others_nothing() {
    let node = node(MemStore::empty());
    let hubs = open(&node, 3).await;
    for hub in &hubs {
        hub.start(start("waits", "Wait", None)).await.unwrap();
    }
    // What was committed before its turn broke is durable.
    hubs[1].start(start("breaks", "Break", None)).await.unwrap();
    for hub in &hubs {
        while let Err(error) = hub
            .raise_event(&id("waits"), Name::new("Go").unwrap(), None, None)
            .await
        {
            assert!(matches!(error, Error::Unavailable | Error::Displaced), "{error}");
        }
        hub.wait(&id("waits"), WaitFor::Ended).await.unwrap();
    }
    assert!(
        stalled(&hubs[1], &id("breaks"))
            .await
            .contains("an internal assertion failed")
    );
    let reloads: Vec<u64> = hubs.iter().map(Hub::reloads).collect();
    assert_eq!(reloads, [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_blocks_the_thread_of_several_hubs_costs_each_a_reload_and_its_own_instance_alone() {
    let options = Options {
        turn_limit: TURN_LIMIT,
        ..Options::default()
    };
    let node = Node::start(Arc::new(MemStore::empty()), &options).unwrap();
    let functions = Plain::new();
    let mut hubs = Vec::new();
    for name in ["Blocks", "Goes"] {
        let name = HubName::new(name).unwrap();
        let functions = Arc::new(functions.clone());
        hubs.push(node.open(name, options.clone(), functions).await.unwrap());
    }
    for hub in &hubs {
        hub.start(start("good", "Wait", None)).await.unwrap();
    }
    hubs[0].start(start("bad", "Loop", None)).await.unwrap();
    for hub in &hubs {
        while let Err(error) = hub.raise_event(&id("good"), Name::new("Go").unwrap(), None, None).await {
            assert!(matches!(error, Error::Unavailable | Error::Displaced), "{error}");
        }
        hub.wait(&id("good"), WaitFor::Ended).await.unwrap();
    }
    let stall = hubs[0].info(&id("bad")).await.unwrap().unwrap().stalled.unwrap();
    assert!(stall.is_final(), "{stall:?}");
    functions.unblock();
    for hub in hubs {
        hub.stop(GRACE).await.unwrap();
    }
    node.stop().await;
}

/// Hubs are opened, used, stopped and opened again beside each other, while groups fail now and then.
#[tokio::test(flavor = "multi_thread")]
async fn hubs_that_come_and_go_beside_each_other_keep_what_was_acknowledged() {
    const HUBS: usize = 6;
    const LIVES: usize = 3;
    const STARTS: usize = 5;
    let (data, groups) = (MemData::new(), AtomicU64::new(0));
    let faults = Faults::new(move |call| {
        let strikes = call == StoreCall::Seal && groups.fetch_add(1, Ordering::Relaxed) % 11 == 10;
        if strikes { Fault::FailAfter } else { Fault::None }
    });
    let options = Options {
        threads: 2,
        ..Options::default()
    };
    let store = Inline::new(faults.writer(data.writer()), faults.reader(data.reader()));
    let node = Node::start(Arc::new(store), &options).unwrap();
    let live = async |number: usize| {
        let name = HubName::new(&format!("Hub{number}")).unwrap();
        for life in 0..LIVES {
            let functions = Arc::new(Plain::new());
            let hub = loop {
                // The store may fail while a hub is opened, which opens nothing.
                match node.open(name.clone(), Options::default(), functions.clone()).await {
                    Ok(hub) => break hub,
                    Err(error) => assert_eq!(error.code(), "store-unavailable", "{error}"),
                }
            };
            for number in 0..STARTS {
                start_surely(&hub, &format!("i{life}-{number}")).await;
            }
            for instance in (0..=life).flat_map(|life| (0..STARTS).map(move |number| format!("i{life}-{number}"))) {
                let info = hub.wait(&id(&instance), WaitFor::Ended).await.unwrap();
                assert_eq!(info.status, RuntimeStatus::Completed, "{name} {instance}");
            }
            let _failed = hub.stop(GRACE).await;
        }
    };
    tokio::join!(live(0), live(1), live(2), live(3), live(4), live(5));
    node.stop().await;
    let store = MemStore::over(&data);
    for number in 0..HUBS {
        let name = HubName::new(&format!("Hub{number}")).unwrap();
        let counts = store.counts(&name).await.unwrap();
        assert_eq!(counts, [(RuntimeStatus::Completed, (LIVES * STARTS) as u64)]);
    }
}
