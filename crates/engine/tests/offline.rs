//! A hub that no process runs: what is asked of it becomes durable, and nothing of it begins to run.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::sync::Arc;

use taskhub_core::event::Tags;
use taskhub_core::id::{HubName, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;
use taskhub_engine::OfflineHub;
use taskhub_engine::io::{Reply, Request};
use taskhub_store::mem::{MemData, MemStore};
use taskhub_store::{Claim, NodeId, PartitionKey, Previous, Recovered, Store};

const PARTITIONS: u16 = 2;

fn hub() -> HubName {
    HubName::new("hub").unwrap()
}

fn instance(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

fn start(id: &str) -> (InstanceId, Request) {
    let request = Request::Start(Box::new(StartRequest {
        instance: instance(id),
        name: Name::stored("Anything"),
        version: None,
        input: None,
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::ReplaceEnded,
        key: None,
        repeats: Repeats::default(),
    }));
    (instance(id), request)
}

async fn store() -> Arc<MemStore> {
    let store = Arc::new(MemStore::over(&MemData::new()));
    store
        .create_hub(&hub(), PARTITIONS, Timestamp::default())
        .await
        .unwrap();
    store
}

fn keys() -> Vec<PartitionKey> {
    let key = |index| PartitionKey { hub: hub(), index };
    (0..PARTITIONS).map(key).collect()
}

#[tokio::test]
async fn requests_are_answered_in_order_and_durable() {
    let store = store().await;
    let mut offline = OfflineHub::new(hub(), PARTITIONS);
    let ids = ["a", "b", "c", "d", "e", "f"];
    let mut requests: Vec<_> = ids.iter().map(|id| start(id)).collect();
    requests.push(start("c"));
    requests.push((instance("b"), Request::Info));
    let replies = offline.ask(store.as_ref(), requests).await.unwrap();
    let (made, others) = replies.split_at(ids.len());
    assert!(made.iter().all(|reply| matches!(reply, Reply::Done)), "{made:?}");
    let [Reply::Refused(Refusal::InstanceExists { .. }), Reply::Info(Some(info))] = others else {
        panic!("{others:?}");
    };
    assert_eq!(info.status, RuntimeStatus::Pending, "nothing runs");
    let left = (
        instance("a"),
        Request::Terminate {
            reason: None,
            recurse: false,
        },
    );
    offline.ask(store.as_ref(), vec![left]).await.unwrap();
    offline.close(store.as_ref()).await.unwrap();

    let claimed = store
        .claim(&Claim::new(NodeId(7), &keys(), Timestamp::default()))
        .await
        .unwrap();
    let mut waiting = 0;
    for lease in claimed.leases {
        assert_eq!(lease.previous, Previous::Nobody, "it was given back");
        let recovered = store.recover(&lease).await.unwrap();
        waiting += recovered
            .iter()
            .filter(|item| matches!(item, Recovered::Inbox { .. }))
            .count();
    }
    assert_eq!(waiting, 5, "those that were not terminated are to be run");
}

#[tokio::test]
async fn an_owner_that_ended_without_giving_back_stays_known() {
    let store = store().await;
    let crashed = Claim::new(NodeId(1), &keys(), Timestamp::default());
    store.claim(&crashed).await.unwrap();
    let mut offline = OfflineHub::new(hub(), PARTITIONS);
    offline
        .ask(store.as_ref(), ["a", "b", "c", "d"].map(start).into())
        .await
        .unwrap();
    offline.close(store.as_ref()).await.unwrap();
    let next = Claim::new(NodeId(3), &keys(), Timestamp::default()).steal();
    let leases = store.claim(&next).await.unwrap().leases;
    assert!(
        leases.iter().all(|lease| lease.previous == Previous::Other),
        "{leases:?}"
    );
}
