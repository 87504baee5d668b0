//! Several hubs on one node: one group and one sync serve them all, and what a group fails for costs each of them no more than
//! its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::common::{Gate, Plain, Watched, ask, id, start};
use super::failing::all_complete;
use taskhub_core::id::HubName;
use taskhub_engine::{Hub, Node, Options, WaitFor};
use taskhub_store::Store;
use taskhub_store::faulty::{Call, Fault, Faults};
use taskhub_store::inline::Inline;
use taskhub_store::mem::{MemData, MemStore};

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
    let together = groups.iter().find(|(_, instances)| instances.contains("a"));
    let (_, together) = together.unwrap();
    assert!(together.contains("b") && together.contains("c"), "{groups:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_fails_costs_every_hub_its_memory_and_none_an_acknowledged_start() {
    let (data, groups) = (MemData::new(), AtomicU64::new(0));
    let faults = Faults::new(move |call| {
        let is_fifth = call == Call::Seal && groups.fetch_add(1, Ordering::Relaxed) % 5 == 4;
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
