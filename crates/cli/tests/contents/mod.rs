//! What a store holds, as text: hubs, states with all that waits in them, histories. Two stores with the same text
//! hold the same, however their files lie on the disk.

use std::fmt::Write as _;
use std::path::Path;

use taskhub_core::query::Filter;
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, Synchronous};
use taskhub_store::{ExecutionKey, HistoryRange, PartitionKey, Selection, Store as _, decode_history, partition_of};

/// The contents of the store in a folder, which a server may hold.
pub(crate) fn of(folder: &Path) -> String {
    let file = folder.join("store.db");
    if !file.exists() {
        return "no store".to_owned();
    }
    // A copy is read, as the store has its owner. The log goes first: a later file says nothing else with it.
    let copy = tempfile::tempdir().unwrap();
    for name in ["store.db-wal", "store.db"] {
        if folder.join(name).exists() {
            std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
    }
    let options = EmbeddedOptions {
        synchronous: Synchronous::Off,
        ..EmbeddedOptions::default()
    };
    match EmbeddedStore::open(copy.path(), options) {
        Ok(store) => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(told(&store))
        }
        // What is no store is to stay as it is to the byte.
        Err(error) => format!("{}: {:?}", error.code(), std::fs::read(file).unwrap()),
    }
}

async fn told(store: &EmbeddedStore) -> String {
    let mut text = String::new();
    for hub in store.list_hubs().await.unwrap() {
        writeln!(text, "{hub:?}").unwrap();
        let all = Selection {
            hub: hub.name.clone(),
            filter: Filter::default(),
            after: None,
            rows_max: 1_000,
        };
        for id in store.list_ids(&all).await.unwrap().ids {
            let partition = PartitionKey {
                hub: hub.name.clone(),
                index: partition_of(&id, hub.partitions),
            };
            let states = store.load(&partition, std::slice::from_ref(&id)).await.unwrap();
            let state = states.into_iter().flatten().next().unwrap();
            let execution = ExecutionKey {
                partition,
                number: state.number,
                ordinal: state.info.ordinal,
            };
            let history = store.history(&execution, HistoryRange::ALL).await.unwrap();
            writeln!(text, "{state:?}\n{:?}", decode_history(&history).unwrap()).unwrap();
        }
    }
    text
}
