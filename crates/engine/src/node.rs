//! What all hubs of a process have in common: the store, the threads that serve partitions, the group that is open, the threads
//! that write groups, the clock.
//!
//! Hubs are numbered as they are opened, and a number is not used again. Whatever a partition thread hands over belongs to one
//! hub; a group takes what is there, of whichever hub, so that one sync serves all of them. If a group fails, every hub may have
//! been ahead of the disk with what was in it or behind it, and each drops its memory and begins anew from the store (A1).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use taskhub_core::id::HubName;
use taskhub_store::{Claim, Error as StoreError, NodeId, PartitionKey, Store};
use tokio::runtime::Handle as Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::clock::{Clock, SteadyClock};
use crate::committer;
use crate::error::{Error, chain};
use crate::group::{GROUP_COMMITS_MAX, Limits};
use crate::hub::{Hub, Options};
use crate::open_group::OpenGroup;
use crate::run::now;
use crate::shared::Shared;
use crate::supervision::Scope;
use crate::thread::{ThreadInput, ThreadLink};
use crate::watchdog;
use crate::worker::Functions;

/// Beats for each time that a lease lasts.
const BEATS: u32 = 5;
/// Which part of a lease a node counts on, since others may count a little faster.
const SAFE: (u32, u32) = (11, 15);

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

/// The shared part of a node.
pub(crate) struct Common {
    /// Its number, until its lease is over.
    id: AtomicU64,
    /// How long its lease lasts, if others have the store open as well.
    lease: Option<Duration>,
    began: Instant,
    /// Until when it may take the lease for its own, in milliseconds since it began.
    owns_until: AtomicU64,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Runtime,
    pub(crate) group: OpenGroup,
    hubs: RwLock<BTreeMap<u32, Weak<Shared>>>,
    next_hub: AtomicU32,
    /// Groups that failed since the last one that did not.
    pub(crate) failed_groups: AtomicU32,
    /// The store has no room, so it takes no new work (A43).
    is_full: AtomicBool,
    /// The last group did not become durable, nor anything since.
    is_failing: AtomicBool,
    /// Damage of the store's file because of which no new work is accepted.
    damage: OnceLock<String>,
    /// Purges under way.
    pub(crate) purges: AtomicUsize,
    /// While the store is full: shared by purges, and held alone by whatever may use no more than a share of the
    /// room that is kept, so that the two never meet in one group.
    pub(crate) kept_room: tokio::sync::RwLock<()>,
    /// One per partition thread; a partition is served by the one whose number is its own, modulo their count.
    links: RwLock<Vec<ThreadLink>>,
    /// The threads that its end waits for: the partition threads by their numbers, and those that write groups.
    threads: Mutex<BTreeMap<usize, std::thread::JoinHandle<()>>>,
    /// Threads left to turns that do not return (A33).
    pub(crate) lost_threads: AtomicUsize,
    /// How long a turn may take.
    pub(crate) turn_limit: Duration,
    is_closed: AtomicBool,
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
        let common = Arc::new(Common {
            id: AtomicU64::new(id),
            lease: options.lease,
            began: now(),
            owns_until: AtomicU64::new(0),
            store,
            clock: Arc::new(SteadyClock::new(Arc::clone(&options.clock))),
            runtime: Runtime::current(),
            group: OpenGroup::new(Limits {
                commits_max: GROUP_COMMITS_MAX,
                group_max: options.group_bytes_max,
                ahead_max: options.ahead_bytes_max.max(1),
            }),
            hubs: RwLock::default(),
            next_hub: AtomicU32::new(0),
            failed_groups: AtomicU32::new(0),
            is_full: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            damage: OnceLock::new(),
            purges: AtomicUsize::new(0),
            kept_room: tokio::sync::RwLock::default(),
            links: RwLock::default(),
            threads: Mutex::default(),
            lost_threads: AtomicUsize::new(0),
            turn_limit: options.turn_limit,
            is_closed: AtomicBool::new(false),
        });
        let node = Self(Arc::new(Handle(Arc::clone(&common))));
        committer::spawn(&common)?;
        for number in 0..options.threads.max(1) {
            let link = common.serve(number)?;
            common.links.write().unwrap_or_else(PoisonError::into_inner).push(link);
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
        let sent = node.began.elapsed();
        match node.store.beat(node.id(), lasts, node.clock.now()).await {
            Ok(_) if node.note_lease(sent) => node.lose_all(),
            Ok(_) => {}
            Err(StoreError::LeaseOver { .. }) => node.begin_anew(),
            Err(error) => tracing::warn!(error = %chain(&error), "cannot renew the lease of this node"),
        }
    }
}

impl Common {
    /// The number by which the store knows it.
    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.id.load(Ordering::Acquire))
    }

    /// A claim of partitions, as this node may make it.
    pub(crate) fn claim_of(&self, partitions: &[PartitionKey]) -> Claim {
        let claim = Claim::new(self.id(), partitions, self.clock.now());
        match self.lease {
            Some(lasts) => Claim { lasts, ..claim },
            // The previous owner of a partition is dead.
            None => claim.steal(),
        }
    }

    /// Time since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The lease was renewed by a call that was begun at this time. True if the node had not counted on it any more, and so has
    /// left things undone.
    pub(crate) fn note_lease(&self, sent: Duration) -> bool {
        let had_lapsed = !self.owns() && self.owns_until.load(Ordering::Acquire) > 0;
        let safe = self.lease.unwrap_or_default() * SAFE.0 / SAFE.1;
        let until = u64::try_from((sent + safe).as_millis()).unwrap_or(u64::MAX);
        self.owns_until.fetch_max(until, Ordering::AcqRel);
        had_lapsed
    }

    /// Makes all hubs reload from the store.
    pub(crate) fn lose_all(&self) {
        for hub in self.all_hubs() {
            hub.lose(Scope::All);
        }
    }

    /// Whether what it owns is still its own. If not, it answers nothing and begins nothing: others may have taken it.
    pub(crate) fn owns(&self) -> bool {
        self.lease.is_none() || self.began.elapsed().as_millis() < self.owns_until.load(Ordering::Acquire).into()
    }

    /// The lease is over: what it owned may be another node's, so its memory is worth nothing.
    fn begin_anew(&self) {
        tracing::warn!(node = %self.id().0, "the lease of this node has expired; continuing as a new node");
        if let Ok(id) = getrandom::u64() {
            self.id.store(id, Ordering::Release);
        }
        self.lose_all();
    }

    /// A number for a hub that is opened.
    pub(crate) fn next_hub(&self) -> u32 {
        self.next_hub.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn enter(&self, hub: &Arc<Shared>) {
        let mut hubs = self.hubs.write().unwrap_or_else(PoisonError::into_inner);
        hubs.insert(hub.number, Arc::downgrade(hub));
        drop(hubs);
        self.group.enter(hub.number);
    }

    /// A hub is closed: nothing more is taken of it.
    pub(crate) fn leave(&self, hub: u32) {
        self.group.leave(hub);
        self.hubs.write().unwrap_or_else(PoisonError::into_inner).remove(&hub);
    }

    /// A hub that is open.
    pub(crate) fn hub(&self, number: u32) -> Option<Arc<Shared>> {
        let hubs = self.hubs.read().unwrap_or_else(PoisonError::into_inner);
        hubs.get(&number).and_then(Weak::upgrade)
    }

    /// All hubs that are open.
    pub(crate) fn all_hubs(&self) -> Vec<Arc<Shared>> {
        let hubs = self.hubs.read().unwrap_or_else(PoisonError::into_inner);
        hubs.values().filter_map(Weak::upgrade).collect()
    }

    fn threads(&self) -> MutexGuard<'_, BTreeMap<usize, std::thread::JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that the end of the node waits for, in the place of the one that had its number.
    pub(crate) fn spawn_thread(
        &self,
        name: &str,
        number: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let join = started.map_err(|source| StoreError::Unavailable { source: source.into() })?;
        self.threads().insert(number, join);
        Ok(())
    }

    /// Starts a partition thread.
    fn serve(&self, number: usize) -> Result<ThreadLink, StoreError> {
        let link = ThreadLink::new();
        let own = link.clone();
        self.spawn_thread(&format!("partitions-{number}"), number, move || own.serve(number))?;
        Ok(link)
    }

    /// Abandons a blocked thread and starts a new one in its place. Its queue is dropped, which notifies the waiters.
    pub(crate) fn replace_thread(&self, number: usize) -> Result<(), StoreError> {
        let fresh = self.serve(number)?;
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get_mut(number) {
            link.pulse.give_up(&self.group);
            link.inputs.close();
            *link = fresh;
        }
        Ok(())
    }

    /// The ways to all partition threads.
    pub(crate) fn links(&self) -> Vec<ThreadLink> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends to the thread with this number, modulo their count.
    pub(crate) fn send_to_thread(&self, number: usize, input: ThreadInput) {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = number.checked_rem(links.len()).and_then(|number| links.get(number)) {
            link.inputs.push(input);
        }
    }

    /// The only place below the library that spawns detached tasks.
    #[expect(clippy::disallowed_methods, reason = "the shell's door to the runtime")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for link in self.links() {
            link.inputs.close();
        }
        self.group.close();
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether the partitions of a hub were claimed without room.
    pub(crate) fn is_out_of_room(&self) -> bool {
        self.all_hubs().iter().any(|hub| hub.is_out_of_room())
    }

    /// Remembers whether the store has room, and says once when that changes.
    pub(crate) fn note_room(&self, is_full: bool) {
        let was_full = self.is_full.swap(is_full, Ordering::AcqRel);
        if is_full && !was_full {
            let error = StoreError::Full;
            tracing::error!(%error, "refusing new work until the store has free space");
        } else if was_full && !is_full {
            tracing::info!("the store has free space again");
        }
    }

    /// Whether the store has no room for new work.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    /// Remembers whether what was written last became durable.
    pub(crate) fn note_failing(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Release);
    }

    /// Whether what was written last did not become durable.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    /// Has nothing that adds work be done any more, because it could not be written.
    pub(crate) fn note_damage(&self, what: &str) {
        if self.damage.set(what.to_owned()).is_ok() {
            tracing::error!(
                what,
                "store-corrupt: the store's file is damaged where new work must be written; its hubs only answer \
                reads until the store is repaired and reopened; see `taskhub errors store-corrupt`"
            );
        }
    }

    /// Damage of the store's file because of which no new work is accepted.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }
}
