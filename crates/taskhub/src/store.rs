//! A store in which one or more hubs are opened.

use std::fmt;
use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use taskhub_core::id::HubName;
use taskhub_engine::worker::Functions;
use taskhub_engine::{Hub as Engine, Node, Options as EngineOptions};
use taskhub_store::HubInfo;
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};
use taskhub_store::mem::MemStore;

use crate::client::Answer;
use crate::hub_error::HubError;

/// A store, for hubs to be opened in with [`HubBuilder::open_in`](crate::HubBuilder::open_in). Cheap to clone. One process at
/// a time has the folder of a store, so the hubs of a process that share a folder share the store, and with it its syncs: a
/// further hub costs no threads that write.
///
/// ```
/// use taskhub::{Hub, Result, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// # let scratch = tempfile::tempdir()?;
/// # let folder = scratch.path().join("store");
/// let store = Store::open(&folder).bytes_max(10 << 30).await?;
/// let orders = Hub::builder("Orders").open_in(&store).await?;
/// let invoices = Hub::builder("Invoices").open_in(&store).await?;
/// assert_eq!(store.hubs().await?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    store: Arc<dyn taskhub_store::Store>,
    running: Mutex<Running>,
}

/// What runs on a store.
#[derive(Default)]
struct Running {
    /// The node that the hubs share, so that one sync covers all of them. It starts with the first hub and ends when
    /// the last hub is stopped, so that the folder can be opened again immediately after stopping all hubs.
    node: Option<Node>,
    hubs: Vec<Weak<Engine>>,
    /// Hubs that are being opened.
    opening: usize,
}

/// A hub that is being opened, for which the node is kept.
struct Opening<'a>(&'a Shared);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.running().opening -= 1;
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The embedded store in a folder; awaiting this creates the folder if necessary. [`OpenStore`] has the options.
    ///
    /// # Errors
    ///
    /// Awaiting it gives `store-locked` if a process, including this one, has the folder open; `store-format`,
    /// `store-corrupt`, or another error of the store.
    pub fn open(folder: impl AsRef<Path>) -> OpenStore {
        OpenStore {
            folder: folder.as_ref().to_owned(),
            options: EmbeddedOptions::default(),
        }
    }

    /// A store in memory; nothing outlives it. For tests and trials.
    pub fn in_memory() -> Self {
        Self::over(Arc::new(MemStore::empty()))
    }

    /// A store of another kind.
    pub fn over(store: Arc<dyn taskhub_store::Store>) -> Self {
        let running = Mutex::default();
        Self(Arc::new(Shared { store, running }))
    }

    /// The hubs in it, by name.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub async fn hubs(&self) -> Result<Vec<HubInfo>, HubError> {
        let mut hubs = self.0.store.list_hubs().await?;
        hubs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(hubs)
    }

    /// Deletes a hub with its instances, their histories and all waiting work. Stop a running hub first: deleting it
    /// takes its partitions away, so its running work is lost.
    ///
    /// # Errors
    ///
    /// `hub-not-found`, `invalid-hub-name`, or an error of the store.
    pub async fn delete_hub(&self, name: &str) -> Result<(), HubError> {
        let name = HubName::new(name)?;
        self.0.store.delete_hub(&name).await?;
        Ok(())
    }

    /// Opens a hub beside those that are open.
    pub(crate) async fn open_hub(
        &self,
        name: HubName,
        options: EngineOptions,
        functions: Arc<dyn Functions>,
    ) -> Result<Arc<Engine>, HubError> {
        let (node, opening) = {
            let mut running = self.0.running();
            let node = match running.node.take() {
                Some(node) => node,
                None => Node::start(Arc::clone(&self.0.store), &options)?,
            };
            running.node = Some(node.clone());
            running.opening += 1;
            (node, Opening(&self.0))
        };
        let engine = Arc::new(node.open(name, options, functions).await?);
        self.0.running().hubs.push(Arc::downgrade(&engine));
        drop(opening);
        Ok(engine)
    }

    /// Ends the shared node if no hub is running.
    pub(crate) async fn release(&self) {
        let node = {
            let mut running = self.0.running();
            let runs = |hub: &Weak<Engine>| hub.upgrade().is_some_and(|hub| !hub.is_stopping());
            running.hubs.retain(runs);
            if running.hubs.is_empty() && running.opening == 0 {
                running.node.take()
            } else {
                None
            }
        };
        if let Some(node) = node {
            node.stop().await;
        }
    }

    /// Opens the store in a folder if it exists; listing hubs must not create one.
    pub(crate) fn existing(folder: &Path) -> Result<Option<Self>, HubError> {
        if EmbeddedStore::is_in(folder) {
            Ok(Some(Self::over(Arc::new(EmbeddedStore::open(
                folder,
                EmbeddedOptions::default(),
            )?))))
        } else {
            Ok(None)
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Store").finish_non_exhaustive()
    }
}

/// The opening of a store, done by awaiting it; see [`Store::open`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened until this is awaited"]
pub struct OpenStore {
    folder: PathBuf,
    options: EmbeddedOptions,
}

impl OpenStore {
    /// The largest size of the file, in bytes; as large as the disk lets it get unless said otherwise. What does not fit is
    /// refused as [`HubError::Full`], but for purges, for which some room is kept.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.options.bytes_max = Some(bytes);
        self
    }
}

impl IntoFuture for OpenStore {
    type Output = Result<Store, HubError>;
    type IntoFuture = Answer<Store>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(Store::over(Arc::new(EmbeddedStore::open(&self.folder, self.options)?))) })
    }
}
