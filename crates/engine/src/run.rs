//! The life of a hub's threads and tasks: start, group commit, reload, watchdog, stop. This is the only
//! place with concurrency; what it moves is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use taskhub_core::id::InstanceId;
use taskhub_store::{Error as StoreError, Lease};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::dispatcher::Event;
use crate::executor::{Executor, ThreadInput};
use crate::group::Taken;
use crate::hub::{Options, To};
use crate::io::{Input, Output};
use crate::partition::{Partition, Setup};
use crate::queue::Queue;
use crate::shared::{Pulse, Shared, ThreadLink};

/// A turn that takes longer is named in a warning (A33).
const TURN_WARN: Duration = Duration::from_secs(1);
/// Lost threads after which the process reports itself unhealthy (A33).
pub(crate) const LOST_THREADS_MAX: usize = 4;
/// How long a group is tried again while the store is full or out of reach (A43).
const COMMIT_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between such tries, and the first one after a broken assertion.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// Bound of the growing pause after broken assertions, in pauses.
const BROKEN_PAUSES_MAX: u32 = 50;

/// Keeps the partitions served: claims them, and claims them anew whenever their memory is dropped.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    options: Options,
    /// Instances not to be run in this process any more, and why.
    set_aside: Vec<(InstanceId, String)>,
    lost_threads: usize,
    /// How often an assertion broke.
    broken: u32,
    is_first: bool,
}

impl Supervisor {
    pub(crate) fn new(shared: Arc<Shared>, options: Options) -> Self {
        Self {
            shared,
            options,
            set_aside: Vec::new(),
            lost_threads: 0,
            broken: 0,
            is_first: true,
        }
    }

    /// Starts the threads and serves the partitions.
    pub(crate) async fn start(&mut self) -> Result<(), StoreError> {
        for number in 0..self.options.threads.max(1) {
            let link = self.spawn_thread(number)?;
            self.shared
                .threads
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .push(link);
        }
        self.claim_all().await
    }

    fn spawn_thread(&self, number: usize) -> Result<ThreadLink, StoreError> {
        let link = ThreadLink {
            inputs: Arc::new(Queue::new()),
            pulse: Arc::new(Pulse::default()),
        };
        let (shared, thread) = (Arc::clone(&self.shared), link.clone());
        let builder = std::thread::Builder::new().name(format!("partitions-{number}"));
        let join = builder
            .spawn(move || Executor::new(shared, thread).run())
            .map_err(|source| StoreError::Unavailable { source: source.into() })?;
        self.shared.join_later(number, join);
        Ok(link)
    }

    /// Claims every partition, which raises its epoch (A21), and has the threads serve them.
    async fn claim_all(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let keys: Vec<_> = (0..shared.partitions).map(|index| shared.partition(index)).collect();
        let leases = shared.store.claim(&keys, shared.clock.now()).await?;
        let mut begun = Vec::new();
        for lease in leases {
            shared.dispatch(Event::Reset(lease.partition.clone()));
            begun.push(self.recover(lease).await?);
        }
        // All are served before the first says anything: a message to one that is not would be lost until
        // the next reload.
        let mut first_outputs = Vec::new();
        for (partition, outputs) in begun {
            let (index, epoch) = (partition.key().index, partition.lease().epoch);
            shared.send_to_thread(usize::from(index), ThreadInput::Adopt(Box::new(partition)));
            first_outputs.push((index, epoch, outputs));
        }
        for (index, epoch, outputs) in first_outputs {
            shared.send_to_thread(usize::from(index), ThreadInput::Begin(index, outputs));
            shared.spawn(Arc::clone(&shared).fill_filter(index, epoch));
        }
        self.is_first = false;
        Ok(())
    }

    async fn recover(&self, lease: Lease) -> Result<(Partition<To>, Vec<Output<To>>), StoreError> {
        let shared = &self.shared;
        let index = lease.partition.index;
        let recovered = shared.store.recover(&lease).await?;
        let is_ours = |(instance, _): &&(InstanceId, String)| shared.partition_of(instance) == index;
        let setup = Setup {
            seed: seed(),
            memory_bytes_max: self.options.memory_bytes_max / usize::from(shared.partitions),
            set_aside: self.set_aside.iter().filter(is_ours).cloned().collect(),
            is_first: self.is_first,
            flaws: crate::flaw::Flaws::default(),
            lease,
        };
        let mut outputs = Vec::new();
        let partition = Partition::recover(setup, recovered, shared.clock.now(), &mut outputs);
        Ok((partition, outputs))
    }

    /// Reloads whenever asked to, and watches the threads, until the hub stops.
    pub(crate) async fn supervise(mut self) {
        let mut watched = BTreeMap::new();
        while !self.shared.is_stopping() {
            let asked = timeout(TURN_WARN / 4, self.shared.reload.notified()).await.is_ok();
            let blocked = self.watch(&mut watched);
            if self.shared.is_stopping() {
                return;
            }
            if asked || !blocked.is_empty() {
                self.reload(blocked).await;
                watched.clear();
            }
        }
    }

    /// The threads that are stuck in one turn for too long. Names a slow turn once (A33).
    fn watch(&self, watched: &mut BTreeMap<usize, Watched>) -> Vec<(usize, InstanceId)> {
        let mut blocked = Vec::new();
        for (number, link) in self.shared.links().into_iter().enumerate() {
            let Some((turn, instance)) = link.pulse.running() else {
                watched.remove(&number);
                continue;
            };
            let entry = watched.entry(number).or_insert_with(|| Watched::new(turn));
            if entry.turn != turn {
                *entry = Watched::new(turn);
            }
            let age = entry.since.elapsed();
            if age >= self.options.turn_limit {
                blocked.push((number, instance));
            } else if age >= TURN_WARN && !entry.is_named {
                entry.is_named = true;
                let seconds = age.as_secs();
                tracing::warn!(hub = %self.shared.hub, %instance, seconds, "a turn does not return; orchestrators must not block");
            }
        }
        blocked
    }

    /// Drops the memory of all partitions and begins anew from the store (A1).
    async fn reload(&mut self, blocked: Vec<(usize, InstanceId)>) {
        let count = self.shared.reloads.fetch_add(1, Ordering::AcqRel) + 1;
        for (number, instance) in blocked {
            self.give_up(number, instance);
        }
        let broken = std::mem::take(&mut *self.shared.broken());
        if !broken.is_empty() {
            // What broke may break again at once; a pause keeps that from being all the process does.
            self.broken += 1;
            sleep(COMMIT_PAUSE * self.broken.min(BROKEN_PAUSES_MAX)).await;
            self.set_aside.extend(broken);
        }
        tracing::warn!(hub = %self.shared.hub, count, "dropping the memory of all partitions and reading them anew");
        self.drop_all().await;
        self.shared.group.accept();
        // What was handed over by whole rounds is consistent; a failed store has discarded it already.
        self.shared.group.flush().await;
        while let Err(error) = self.claim_all().await {
            tracing::warn!(hub = %self.shared.hub, %error, "the partitions cannot be claimed; trying again");
            sleep(COMMIT_PAUSE).await;
            if self.shared.is_stopping() {
                return;
            }
        }
    }

    /// Leaves a thread to its turn and puts a fresh one in its place (A33).
    fn give_up(&mut self, number: usize, instance: InstanceId) {
        self.lost_threads += 1;
        tracing::error!(hub = %self.shared.hub, %instance, lost = self.lost_threads, "a turn blocks its thread, which is given up");
        let limit = self.options.turn_limit;
        let reason = format!(
            "a turn did not return within {limit:?}, so its thread was given up; \
             the instance is not run any more in this process"
        );
        self.set_aside.push((instance, reason));
        match self.spawn_thread(number) {
            Ok(fresh) => {
                let mut threads = self.shared.threads.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(link) = threads.get_mut(number) {
                    link.pulse.give_up(&self.shared.group);
                    link.inputs.close();
                    *link = fresh;
                }
            }
            Err(error) => tracing::error!(%error, "no fresh thread could be started"),
        }
        self.shared.lost_threads.store(self.lost_threads, Ordering::Release);
    }

    async fn drop_all(&self) {
        for link in self.shared.links() {
            let (done, dropped) = oneshot::channel();
            link.inputs.push(ThreadInput::Drop(done));
            // A thread that does not answer in time is stuck; the watchdog gives it up next.
            let _late = timeout(self.options.turn_limit, dropped).await;
        }
    }
}

/// A turn seen by the watchdog.
struct Watched {
    turn: u64,
    since: Instant,
    is_named: bool,
}

impl Watched {
    fn new(turn: u64) -> Self {
        Self {
            turn,
            since: now(),
            is_named: false,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the watchdog and the commit deadline measure the machine, not the hub"
)]
fn now() -> Instant {
    Instant::now()
}

/// Randomness of the process for a partition's ids.
fn seed() -> u64 {
    fastrand::u64(..)
}

/// Starts the thread that writes groups. It is one of its own because a store may block it.
pub(crate) fn spawn_committer(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let committing = commit_groups(Arc::clone(shared));
    let runtime = shared.runtime.clone();
    let builder = std::thread::Builder::new().name("commits".to_owned());
    let join = builder
        .spawn(move || runtime.block_on(committing))
        .map_err(|source| StoreError::Unavailable { source: source.into() })?;
    shared.join_later(usize::MAX, join);
    Ok(())
}

/// Writes groups until the hub is closed and everything handed over is written.
async fn commit_groups(shared: Arc<Shared>) {
    while let Some(taken) = shared.group.take().await {
        write(&shared, taken).await;
    }
}

async fn write(shared: &Arc<Shared>, taken: Taken) {
    if !taken.group.sections.is_empty()
        && let Err(error) = commit(shared, &taken).await
    {
        tracing::error!(hub = %shared.hub, %error, "a group could not be made durable");
        // Nothing that waited is let go, so nobody is told what is now forgotten (A1).
        drop(taken);
        shared.group.discard();
        shared.reload.notify_one();
        return;
    }
    let upto = taken.upto();
    shared.release(taken.releases);
    for (partition, seq) in upto {
        shared.send(partition.index, Input::Durable(seq));
    }
}

/// Commits a group; a store that is full or out of reach is tried again for a while (A43).
async fn commit(shared: &Arc<Shared>, taken: &Taken) -> Result<(), StoreError> {
    let deadline = now() + COMMIT_DEADLINE;
    loop {
        match shared.store.commit(Arc::clone(&taken.group)).await {
            Err(StoreError::Full | StoreError::Unavailable { .. }) if now() < deadline => sleep(COMMIT_PAUSE).await,
            result => return result,
        }
    }
}
