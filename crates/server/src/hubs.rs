//! The hubs a server answers for: one that it was given, and others that it may have opened on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use taskhub_core::id::HubName;
use taskhub_engine::{Error, Hub};
use taskhub_store::{HubInfo, Store};
use tokio::sync::Mutex;

/// A hub that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Arc<Hub>, Error>> + Send + 'a>>;

/// Opens further hubs of the same store, with their functions.
pub trait OpenHub: Send + Sync + 'static {
    /// Opens a hub, creating it if necessary.
    fn open<'a>(&'a self, name: &'a HubName) -> Opening<'a>;
}

/// The hubs of a server.
pub(crate) struct Hubs {
    first: HubName,
    store: Arc<dyn Store>,
    open: RwLock<BTreeMap<HubName, Arc<Hub>>>,
    opener: Option<Arc<dyn OpenHub>>,
    /// How many may be open; each has threads of its own.
    most: usize,
    /// Held while a hub is opened or deleted, so that none is opened twice.
    changing: Mutex<()>,
}

impl Hubs {
    pub(crate) fn new(hub: Arc<Hub>, opener: Option<Arc<dyn OpenHub>>, most: usize) -> Self {
        Self {
            first: hub.name().clone(),
            store: Arc::clone(hub.store()),
            open: RwLock::new(BTreeMap::from([(hub.name().clone(), hub)])),
            opener,
            most,
            changing: Mutex::new(()),
        }
    }

    /// The name of the default hub (H13).
    pub(crate) fn first(&self) -> &HubName {
        &self.first
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Those that are open now.
    pub(crate) fn all_open(&self) -> Vec<Arc<Hub>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().map(Arc::clone).collect()
    }

    /// All of the store.
    pub(crate) async fn all(&self) -> Result<Vec<HubInfo>, Error> {
        Ok(self.store.list_hubs().await?)
    }

    /// An existing hub, opened if necessary.
    pub(crate) async fn find(&self, name: &HubName) -> Result<Option<Arc<Hub>>, Error> {
        self.get(name, false).await
    }

    /// A hub, created if necessary and if this server can create hubs.
    pub(crate) async fn find_or_create(&self, name: &HubName) -> Result<Option<Arc<Hub>>, Error> {
        self.get(name, true).await
    }

    /// Removes a hub and everything in it; tells whether there was one.
    pub(crate) async fn delete(&self, name: &HubName) -> Result<bool, Error> {
        let _alone = self.changing.lock().await;
        let running = self.open.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(hub) = running {
            hub.delete().await?;
            return Ok(true);
        }
        if !self.all().await?.iter().any(|hub| hub.name == *name) {
            return Ok(false);
        }
        self.store.delete_hub(name).await?;
        Ok(true)
    }

    async fn get(&self, name: &HubName, creates: bool) -> Result<Option<Arc<Hub>>, Error> {
        if let Some(hub) = self.running(name) {
            return Ok(Some(hub));
        }
        let Some(opener) = &self.opener else { return Ok(None) };
        let _alone = self.changing.lock().await;
        if let Some(hub) = self.running(name) {
            return Ok(Some(hub));
        }
        if !creates && !self.all().await?.iter().any(|hub| hub.name == *name) {
            return Ok(None);
        }
        let open = self.all_open().len();
        if open >= self.most {
            return Err(Error::TooManyHubs { open });
        }
        let hub = opener.open(name).await?;
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hub.name().clone(), Arc::clone(&hub));
        Ok(Some(hub))
    }

    fn running(&self, name: &HubName) -> Option<Arc<Hub>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(name).map(Arc::clone)
    }
}

impl fmt::Debug for Hubs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Hubs({}, …)", self.first)
    }
}
