//! What all hubs of a process have in common: the store, the threads that serve partitions, the group that is open, the threads
//! that write groups, the clock.
//!
//! Hubs are numbered as they are opened, and a number is not used again. Whatever a partition thread hands over belongs to one
//! hub; a group takes what is there, of whichever hub, so that one sync serves all of them. If a group fails, every hub may have
//! been ahead of the disk with what was in it or behind it, and each drops its memory and begins anew from the store (A1).

use std::sync::{Arc, Weak};
use std::time::Duration;

use taskhub_core::id::HubName;
use taskhub_store::{Error as StoreError, Store};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::common::Common;
use crate::error::{Error, chain};
use crate::hub::Hub;
use crate::options::Options;
use crate::worker::Functions;
use crate::{committer, thread, watchdog};

/// Beats for each time that a lease lasts.
const BEATS: u32 = 5;
/// One run of one process on a store, and the place where its hubs are opened. Clones are the same node; it ends with the last
/// of them and of its hubs.
#[derive(Clone, Debug)]
pub struct Node(Arc<Handle>);

/// Ends the node when its last user is dropped.
struct Handle(Arc<Common>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Handle").field(&self.0.id()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Node {
    /// Starts a node. Uses only the options that are marked as those of the node.
    ///
    /// # Errors
    ///
    /// `store-unavailable` if the system gives no threads or no random number.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, since activities run on it.
    pub fn start(store: Arc<dyn Store>, options: &Options) -> Result<Self, Error> {
        let id = getrandom::u64().map_err(|source| StoreError::Unavailable { source: source.into() })?;
        let common = Arc::new(Common::new(id, store, options));
        let node = Self(Arc::new(Handle(Arc::clone(&common))));
        committer::spawn(&common)?;
        for number in 0..options.threads.max(1) {
            common.add_link(thread::start(&common, number)?);
        }
        common.spawn(watchdog::watch(Arc::downgrade(&common)));
        if let Some(lasts) = options.lease {
            common.spawn(beat(Arc::downgrade(&common), lasts));
        }
        Ok(node)
    }

    /// Opens a hub, creating it in the store if necessary. Ignores the options of the node.
    ///
    /// # Errors
    ///
    /// An error of the store.
    pub async fn open(&self, name: HubName, options: Options, functions: Arc<dyn Functions>) -> Result<Hub, Error> {
        Hub::open_on(self.clone(), name, options, functions).await
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.0.store
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.0.0
    }

    /// Ends it, once its hubs are stopped: what they have handed over is written, and when this returns no thread of it has
    /// the store open.
    pub async fn stop(&self) {
        let common = self.common();
        common.close();
        let threads = std::mem::take(&mut *common.threads());
        join(threads.into_values().collect()).await;
    }
}

/// Waits until threads have ended.
async fn join(threads: Vec<std::thread::JoinHandle<()>>) {
    let (done, joined) = oneshot::channel();
    // Not one of the runtime's threads: that would keep the process from ending while a turn is stuck.
    let joining = std::thread::Builder::new().name("joins".to_owned()).spawn(move || {
        for thread in threads {
            // A thread that panicked has ended too.
            let _panicked = thread.join();
        }
        let _nobody_waits = done.send(());
    });
    if joining.is_ok() {
        let _ended = joined.await;
    }
}

/// Renews the lease of a node until the node is closed. A node whose lease has expired continues as a new node.
async fn beat(node: Weak<Common>, lasts: Duration) {
    loop {
        sleep(lasts / BEATS).await;
        let Some(node) = node.upgrade().filter(|node| !node.is_closed()) else {
            return;
        };
        if node.all_hubs().is_empty() {
            continue;
        }
        let sent = node.elapsed();
        match node.store.beat(node.id(), lasts, node.clock.now()).await {
            Ok(_) if node.note_lease(sent) => node.lose_all(),
            Ok(_) => {}
            Err(StoreError::LeaseOver { .. }) => node.begin_anew(),
            Err(error) => tracing::warn!(error = %chain(&error), "cannot renew the lease of this node"),
        }
    }
}
