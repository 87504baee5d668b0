//! What all hubs of a process share: the store, the ways to the partition threads, the open group, the lease, and how the store is
//! doing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use taskhub_store::{Claim, Error as StoreError, NodeId, PartitionKey, Store};
use tokio::runtime::Handle as Runtime;
use tokio::time::Instant;

use crate::clock::{Clock, SteadyClock, now};
use crate::group::{GROUP_COMMITS_MAX, Limits};
use crate::link::{ThreadInput, ThreadLink};
use crate::open_group::OpenGroup;
use crate::options::Options;
use crate::shared::Shared;
use crate::supervision::Scope;

/// Which part of a lease a node counts on, since others may count a little faster.
const SAFE: (u32, u32) = (11, 15);

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

impl Common {
    /// Of a node with this number. Uses only the options that are marked as those of the node.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, since activities run on it.
    pub(crate) fn new(id: u64, store: Arc<dyn Store>, options: &Options) -> Self {
        Self {
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
        }
    }

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
    pub(crate) fn begin_anew(&self) {
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

    pub(crate) fn threads(&self) -> MutexGuard<'_, BTreeMap<usize, std::thread::JoinHandle<()>>> {
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

    /// Adds the way to one more partition thread.
    pub(crate) fn add_link(&self, link: ThreadLink) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).push(link);
    }

    /// Puts the way to a fresh thread in the place of one that is stuck. The queue of the old one is dropped, which notifies
    /// the waiters.
    pub(crate) fn replace_link(&self, number: usize, fresh: ThreadLink) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get_mut(number) {
            link.pulse.give_up(&self.group);
            link.inputs.close();
            *link = fresh;
        }
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

    pub(crate) fn close(&self) {
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
