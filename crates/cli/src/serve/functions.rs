//! The functions in the server's process: none, or the samples. Work for other functions waits for a process that has
//! them, and does not fail (H63).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhub::Registry;
use taskhub::worker::{RegisteredFunctions, WorkerOptions};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{HubName, Name};
use taskhub_core::query::Filter;
use taskhub_engine::worker::{ActivityCall, ActivityFuture, Functions, Worker};
use taskhub_engine::{Error, Hub, Node, Options};
use taskhub_samples::{Files, Purger};
use taskhub_server::ClientBindings;
use taskhub_store::Store;
use tokio::sync::watch;
use tokio::time::timeout;

/// Shortest time that the end of the node gets.
const NODE_STOP_MIN: Duration = Duration::from_secs(1);

/// Opens the hubs of a store, all with the same functions.
pub(crate) struct Offer {
    store: Arc<dyn Store>,
    /// What the samples may look at, if they run.
    samples: Option<Files>,
    partitions: u16,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    node: Option<Node>,
    hubs: Vec<(Arc<Hub>, Arc<OwnFunctions>)>,
    /// Of the server in front of them, once it listens.
    bindings: Option<ClientBindings>,
}

impl Offer {
    pub(crate) fn new(store: Arc<dyn Store>, samples: Option<Files>, partitions: u16) -> Self {
        Self {
            store,
            samples,
            partitions,
            opened: Mutex::default(),
        }
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a hub, creating it if necessary. Its activities run when the server's address is known, because they may
    /// create links to it.
    pub(crate) async fn open(&self, name: &HubName) -> Result<Arc<Hub>, Error> {
        let purger = Purger::default();
        let registry = match &self.samples {
            Some(files) => taskhub_samples::register(Registry::new(), &purger, files),
            None => Registry::new(),
        };
        let (orchestrators, activities) = (names(registry.orchestrators()), names(registry.activities()));
        let functions = Arc::new(OwnFunctions {
            registered: Arc::new(RegisteredFunctions::new(registry, WorkerOptions::default())),
            is_served: watch::Sender::new(false),
        });
        let options = Options {
            partitions: self.partitions,
            orchestrators_offered: Some(orchestrators),
            activities_offered: Some(activities),
            ..Options::default()
        };
        let offered: Arc<dyn Functions> = Arc::clone(&functions) as _;
        let node = self.node(&options)?;
        let hub = Arc::new(node.open(name.clone(), options, offered).await?);
        connect(&purger, &hub);
        let mut opened = self.opened();
        // Those that were deleted meanwhile.
        opened.hubs.retain(|(hub, _)| !hub.is_stopping());
        if let Some(bindings) = &opened.bindings {
            functions.serve(&hub, bindings);
        }
        opened.hubs.push((Arc::clone(&hub), functions));
        Ok(hub)
    }

    /// The node that all hubs are on. It is started with the first of them, because that is done where there is a runtime.
    fn node(&self, options: &Options) -> Result<Node, Error> {
        let mut opened = self.opened();
        if let Some(node) = &opened.node {
            return Ok(node.clone());
        }
        let node = Node::start(Arc::clone(&self.store), options)?;
        opened.node = Some(node.clone());
        Ok(node)
    }

    /// Tells the functions of all hubs, also of those that are opened later, where they are served.
    pub(crate) fn serve(&self, bindings: ClientBindings) {
        let mut opened = self.opened();
        for (hub, functions) in &opened.hubs {
            functions.serve(hub, &bindings);
        }
        opened.bindings = Some(bindings);
    }

    /// Stops all hubs in order. One that was deleted is stopped already.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<(), Error> {
        let (hubs, node) = {
            let mut opened = self.opened();
            (std::mem::take(&mut opened.hubs), opened.node.take())
        };
        let mut ended = Ok(());
        for (hub, _) in hubs {
            let stopped = hub.stop(grace).await;
            ended = ended.and(stopped);
        }
        if let Some(node) = node {
            // A disk that hangs must not keep the process.
            let _late = timeout(grace.max(NODE_STOP_MIN), node.stop()).await;
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

/// The functions of this process; others may be elsewhere.
struct OwnFunctions {
    registered: Arc<RegisteredFunctions>,
    /// Whether the server's address is known. Activities that an earlier process left unfinished are dispatched before
    /// the server listens, and wait until then.
    is_served: watch::Sender<bool>,
}

impl OwnFunctions {
    fn serve(&self, hub: &Hub, bindings: &ClientBindings) {
        // If the address never arrives, the server has ended, and this process ends too.
        if let Some(binding) = bindings.of(hub.name()) {
            self.registered.set_client_binding(binding.into());
        }
        self.is_served.send_replace(true);
    }
}

impl Functions for OwnFunctions {
    fn worker(&self) -> Box<dyn Worker> {
        self.registered.worker()
    }

    fn orchestrator_name(&self, name: &Name) -> Option<Name> {
        self.registered.orchestrator_name(name)
    }

    fn activity(&self, call: ActivityCall) -> ActivityFuture {
        let registered = Arc::clone(&self.registered);
        let mut is_served = self.is_served.subscribe();
        Box::pin(async move {
            // This fails only if the receivers are gone, and then the hub is gone too.
            drop(is_served.wait_for(|is_served| *is_served).await);
            registered.activity(call).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    use taskhub_core::id::InstanceId;
    use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
    use taskhub_core::status::RuntimeStatus;
    use taskhub_engine::WaitFor;
    use taskhub_server::{Config, Server};
    use taskhub_store::mem::MemStore;

    async fn start(hub: &Hub, name: &str) -> InstanceId {
        let id = InstanceId::new(name).unwrap();
        let request = StartRequest {
            instance: id.clone(),
            name: Name::new(name).unwrap(),
            version: None,
            input: None,
            tags: std::collections::BTreeMap::new(),
            scheduled_start: None,
            execution: None,
            reuse: ReusePolicy::default(),
            key: None,
            repeats: Repeats::default(),
        };
        hub.start(request).await.unwrap();
        id
    }

    #[tokio::test]
    async fn an_activity_that_is_due_before_its_server_listens_waits_for_the_links() {
        let offer = Offer::new(Arc::new(MemStore::empty()), Some(Files::below(".")), 1);
        let hub = offer.open(&HubName::new("TestHub").unwrap()).await.unwrap();
        let id = start(&hub, "AnnounceInstance").await;
        // From here on the activity is out. Without the links it would fail, and the instance with it.
        hub.wait(&id, WaitFor::Started).await.unwrap();
        let config = Config {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ..Config::default()
        };
        let listening = Server::new(Arc::clone(&hub), config).bind().await.unwrap();
        offer.serve(listening.client_bindings());
        let info = hub.wait(&id, WaitFor::Ended).await.unwrap();
        let output = info.output.map(|output| output.to_text()).unwrap_or_default();
        assert_eq!(info.status, RuntimeStatus::Completed, "{output}");
        let address = listening.address().to_string();
        assert!(output.contains(&address), "{output}");
        offer.stop(Duration::from_secs(10)).await.unwrap();
    }
}
