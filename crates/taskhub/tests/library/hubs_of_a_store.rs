//! Listing and deleting hubs: what a program that looks after a store sees.
#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use taskhub::{Hub, HubError, OrchestrationContext, Result, STOP_PERIOD, Store};
use taskhub_store::mem::{MemData, MemStore};

async fn waiting(ctx: OrchestrationContext, (): ()) -> Result<()> {
    Ok(ctx.wait_for_external_event("Go").await?)
}

async fn open(folder: &Path, name: &str) -> Hub {
    Hub::builder(name)
        .orchestrator("Waiting", waiting)
        .open(folder)
        .await
        .unwrap()
}

/// A hub with one instance in it, which has ended its work.
async fn leave(folder: &Path, name: &str) {
    let hub = open(folder, name).await;
    hub.client().start("Waiting", ()).id("one").await.unwrap();
    hub.stop(STOP_PERIOD).await.unwrap();
    assert!(hub.is_stopping());
}

async fn names(folder: &Path) -> Result<Vec<String>, HubError> {
    let hubs = Hub::list(folder).await?;
    Ok(hubs.into_iter().map(|hub| hub.name.to_string()).collect())
}

#[tokio::test]
async fn a_deleted_hub_is_gone_with_its_instances_and_the_others_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    for name in ["Orders", "invoices", "Mail"] {
        leave(folder, name).await;
    }
    assert_eq!(names(folder).await.unwrap(), ["invoices", "Mail", "Orders"]);
    Hub::delete(folder, "ORDERS").await.unwrap();
    assert_eq!(names(folder).await.unwrap(), ["invoices", "Mail"]);
    assert_eq!(Hub::delete(folder, "Orders").await.unwrap_err().code(), "hub-not-found");
    for (name, instances) in [("Orders", 0), ("Mail", 1)] {
        let hub = open(folder, name).await;
        assert_eq!(hub.client().get_status_all().await.unwrap().len(), instances, "{name}");
        hub.stop(STOP_PERIOD).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_in_use_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let hub = open(folder, "Orders").await;
    assert!(!hub.is_stopping());
    assert_eq!(names(folder).await.unwrap_err().code(), "store-locked");
    assert_eq!(Hub::delete(folder, "Orders").await.unwrap_err().code(), "store-locked");
    hub.client().start_new("Waiting", ()).await.unwrap();
    hub.stop(STOP_PERIOD).await.unwrap();
    drop(hub);
    assert_eq!(names(folder).await.unwrap(), ["Orders"]);
}

#[tokio::test]
async fn looking_for_a_hub_makes_no_store() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = &scratch.path().join("none");
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(folder).unwrap();
        }
        assert_eq!(names(folder).await.unwrap(), Vec::<String>::new());
        assert_eq!(Hub::delete(folder, "Orders").await.unwrap_err().code(), "hub-not-found");
        assert_eq!(
            Hub::delete(folder, "no name").await.unwrap_err().code(),
            "invalid-hub-name"
        );
        assert_eq!(folder.exists(), is_there);
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[tokio::test]
async fn hubs_of_an_open_store_are_listed_and_deleted_too() {
    let data = MemData::new();
    let store = Store::over(Arc::new(MemStore::over(&data)));
    for name in ["Orders", "Mail"] {
        let hub = Hub::builder(name).partitions(3).open_in(&store).await;
        hub.unwrap().stop(STOP_PERIOD).await.unwrap();
    }
    let hubs = store.hubs().await.unwrap();
    let listed: Vec<_> = hubs.iter().map(|hub| (hub.name.as_str(), hub.partitions)).collect();
    assert_eq!(listed, [("Mail", 3), ("Orders", 3)]);
    store.delete_hub("Mail").await.unwrap();
    let hubs = store.hubs().await.unwrap();
    assert_eq!(hubs.len(), 1);
    assert_eq!(store.delete_hub("Mail").await.unwrap_err().code(), "hub-not-found");
}
