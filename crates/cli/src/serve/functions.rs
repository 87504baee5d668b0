//! What runs in the server's process: nothing, or the samples. Work for functions that are not here waits for
//! whoever has them (H63); it does not fail.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taskhub::Registry;
use taskhub::worker::{RegisteredFunctions, WorkerOptions};
use taskhub_core::event::EventKind;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{HubName, InstanceId, Name};
use taskhub_core::query::Filter;
use taskhub_engine::worker::{ActivityCall, ActivityFuture, Functions, TurnItem, TurnOutcome, Worker};
use taskhub_engine::{Error, Hub, Options};
use taskhub_samples::Purger;
use taskhub_store::{PartitionKey, Store};

/// Opens the hubs of a store, all with the same functions.
pub(crate) struct Offer {
    store: Arc<dyn Store>,
    has_samples: bool,
    partitions: u16,
    hubs: Mutex<Vec<Arc<Hub>>>,
}

impl Offer {
    pub(crate) fn new(store: Arc<dyn Store>, has_samples: bool, partitions: u16) -> Self {
        Self {
            store,
            has_samples,
            partitions,
            hubs: Mutex::default(),
        }
    }

    /// Opens a hub, and creates it if need be.
    pub(crate) async fn open(&self, name: &HubName) -> Result<Arc<Hub>, Error> {
        let purger = Purger::default();
        let registry = if self.has_samples {
            taskhub_samples::register(Registry::new(), &purger)
        } else {
            Registry::new()
        };
        let activities = names(registry.activities());
        let functions = OwnFunctions {
            orchestrators: Arc::new(names(registry.orchestrators())),
            registered: RegisteredFunctions::new(registry, WorkerOptions::default()),
        };
        let options = Options {
            partitions: self.partitions,
            activities_offered: Some(activities),
            ..Options::default()
        };
        let hub = Hub::open(Arc::clone(&self.store), name.clone(), options, Arc::new(functions)).await?;
        let hub = Arc::new(hub);
        connect(&purger, &hub);
        self.hubs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&hub));
        Ok(hub)
    }

    /// Stops all hubs in order. One that was deleted is stopped already.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<(), Error> {
        let hubs = std::mem::take(&mut *self.hubs.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ended = Ok(());
        for hub in hubs {
            let stopped = hub.stop(grace).await;
            ended = ended.and(stopped);
        }
        ended
    }
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> BTreeSet<FoldedName> {
    names
        .filter_map(|name| Name::new(name).ok())
        .map(FoldedName::new)
        .collect()
}

/// The sample that purges does so in its own hub, which it must not keep alive.
fn connect(purger: &Purger, hub: &Arc<Hub>) {
    let hub = Arc::downgrade(hub);
    purger.connect(move |before| {
        let hub = hub.upgrade();
        async move {
            let Some(hub) = hub else {
                return Err(taskhub::Error::new("NotConnected", "the hub of the purger is gone"));
            };
            let old = Filter {
                created_before: Some(before),
                ..Filter::default()
            };
            let gone = hub.purge_where(old).await;
            gone.map(|gone| gone.count).map_err(taskhub::Error::msg)
        }
    });
}

/// Functions of which others may be elsewhere.
struct OwnFunctions {
    registered: RegisteredFunctions,
    orchestrators: Arc<BTreeSet<FoldedName>>,
}

impl Functions for OwnFunctions {
    fn worker(&self) -> Box<dyn Worker> {
        Box::new(OwnWorker {
            registered: self.registered.worker(),
            orchestrators: Arc::clone(&self.orchestrators),
        })
    }

    fn orchestrator_name(&self, name: &Name) -> Option<Name> {
        self.registered.orchestrator_name(name)
    }

    fn activity(&self, call: ActivityCall) -> ActivityFuture {
        self.registered.activity(call)
    }
}

struct OwnWorker {
    registered: Box<dyn Worker>,
    orchestrators: Arc<BTreeSet<FoldedName>>,
}

impl Worker for OwnWorker {
    fn turn(&mut self, item: &TurnItem) -> TurnOutcome {
        let is_other = |name: &Name| !self.orchestrators.contains(&FoldedName::from(name));
        match orchestrator(item) {
            // It is out, and stays so until somebody else serves the hub.
            Some(name) if is_other(name) => TurnOutcome::Out,
            // Somebody else may have begun it; without its history one cannot tell whose it is.
            None if self.orchestrators.is_empty() => TurnOutcome::Out,
            Some(_) | None => self.registered.turn(item),
        }
    }

    fn evict(&mut self, partition: &PartitionKey, instance: &InstanceId) {
        self.registered.evict(partition, instance);
    }

    fn forget(&mut self, partition: &PartitionKey) {
        self.registered.forget(partition);
    }

    fn live_bytes(&self) -> usize {
        self.registered.live_bytes()
    }
}

/// The orchestrator a turn is for, as far as its events tell.
fn orchestrator(item: &TurnItem) -> Option<&Name> {
    let past = item.past.iter().flatten();
    past.chain(item.new_events.iter()).find_map(|event| match &event.kind {
        EventKind::ExecutionStarted(started) => Some(&started.name),
        _ => None,
    })
}
