//! The life of a hub's partition threads: start, reload, watchdog, stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use taskhub_core::id::InstanceId;
use taskhub_store::{Claim, Error as StoreError, Lease, Previous, Recovered};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::dispatcher::Event;
use crate::error::chain;
use crate::executor::{Executor, ThreadInput};
use crate::hub::{Options, To};
use crate::io::Output;
use crate::partition::{Partition, Random, Setup};
use crate::queue::Queue;
use crate::shared::{Drain, Pulse, Shared, ThreadLink};

/// A turn that takes longer is named in a warning (A33).
const TURN_WARN: Duration = Duration::from_secs(1);
/// Lost threads after which the process reports itself unhealthy (A33).
pub(crate) const LOST_THREADS_MAX: usize = 4;
/// The first pause after trouble that may come again at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Bound of the growing pause, in pauses.
const PAUSES_MAX: u32 = 50;
/// Pause between two looks at whether a full store has room again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// Fewer entries than this are not worth looking for dead ones among them.
const SWEEP_MIN: usize = 1_024;
/// Assertions that broke longer ago than this say nothing of the next one.
const BROKEN_FORGOTTEN: Duration = Duration::from_mins(1);

/// Keeps the partitions served: claims them, and claims them anew whenever their memory is dropped.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    options: Options,
    /// Instances not to be run in this process any more, and why.
    set_aside: BTreeMap<InstanceId, String>,
    /// Those that are not even looked at: an assertion broke again while they were set aside.
    out_of_service: BTreeMap<InstanceId, String>,
    lost_threads: usize,
    /// How often an assertion broke lately, and when the last one did.
    broken: (u32, Option<Instant>),
    /// Partitions whose last owner did not give them back, so that their activities may be running, until they are
    /// served (A35).
    unclean: BTreeSet<u16>,
    /// When a full store is asked next whether it has room.
    next_probe: Instant,
}

impl Supervisor {
    pub(crate) fn new(shared: Arc<Shared>, options: Options) -> Self {
        Self {
            shared,
            options,
            set_aside: BTreeMap::new(),
            out_of_service: BTreeMap::new(),
            lost_threads: 0,
            broken: (0, None),
            unclean: BTreeSet::new(),
            next_probe: now(),
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
        let is_full = self.is_full().await;
        self.shared.node.note_room(is_full);
        self.claim_all(is_full).await
    }

    /// Asks the store whether it has no room for work (A43). Whatever else it says, work will find out.
    async fn is_full(&mut self) -> bool {
        let found = self.shared.node.store.find_room().await;
        self.next_probe = now() + PROBE_PAUSE;
        matches!(found, Err(StoreError::Full))
    }

    /// Whether partitions that do no work for want of room may begin: one look at a time, now and then.
    async fn finds_room(&mut self) -> bool {
        let is_purging = self.shared.node.purges.load(Ordering::Acquire) > 0;
        let is_waiting = self.shared.is_out_of_room() && self.shared.node.damage().is_none();
        if !is_waiting || is_purging || now() < self.next_probe || self.is_full().await {
            return false;
        }
        self.shared.node.note_room(false);
        true
    }

    fn spawn_thread(&self, number: usize) -> Result<ThreadLink, StoreError> {
        let link = ThreadLink {
            inputs: Arc::new(Queue::new()),
            pulse: Arc::new(Pulse::new(self.shared.number)),
        };
        let (shared, thread) = (Arc::clone(&self.shared), link.clone());
        let run = move || Executor::new(shared, thread).run();
        self.shared.spawn_thread(&format!("partitions-{number}"), number, run)?;
        Ok(link)
    }

    /// Claims every partition, which raises its epoch (A21), and has the threads serve them. While the store is full
    /// they go on with nothing that was left (A43).
    async fn claim_all(&mut self, is_full: bool) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if is_full {
            shared.set_out_of_room(true);
        }
        let keys: Vec<_> = (0..shared.partitions).map(|index| shared.partition(index)).collect();
        // No two nodes serve one store yet, so whoever has a partition is gone.
        let claim = Claim::new(shared.node.id, &keys, shared.node.clock.now()).steal();
        let leases = shared.node.store.claim(&claim).await?.leases;
        let unclean = leases.iter().filter(|lease| lease.previous == Previous::Other);
        self.unclean.extend(unclean.map(|lease| lease.partition.index));
        let mut begun = Vec::new();
        for lease in leases {
            shared.dispatch(Event::Reset(lease.partition.clone()));
            begun.push(self.recover(lease, is_full).await?);
        }
        if !is_full {
            self.unclean.clear();
        }
        // All are served before the first says anything: a message to one that is not would be lost until
        // the next reload.
        let mut first_outputs = Vec::new();
        for (partition, outputs) in begun {
            let (index, epoch) = (partition.key().index, partition.lease().epoch);
            shared.send_to_thread(usize::from(index), ThreadInput::Adopt(Box::new(partition), is_full));
            first_outputs.push((index, epoch, outputs));
        }
        if is_full {
            return Ok(());
        }
        shared.set_out_of_room(false);
        for (index, epoch, outputs) in first_outputs {
            shared.send_to_thread(usize::from(index), ThreadInput::Begin(index, outputs));
            shared.spawn_read(Arc::clone(&shared).fill_filter(index, epoch));
        }
        Ok(())
    }

    async fn recover(&self, lease: Lease, is_full: bool) -> Result<(Partition<To>, Vec<Output<To>>), StoreError> {
        let shared = &self.shared;
        let index = lease.partition.index;
        let mut recovered = shared.node.store.recover(&lease).await?;
        let ours = |all: &BTreeMap<InstanceId, String>| {
            let ours = all
                .iter()
                .filter(|(instance, _)| shared.partition_of(instance) == index);
            ours.map(|(instance, why)| (instance.clone(), why.clone())).collect()
        };
        let mut set_aside: Vec<_> = ours(&self.set_aside);
        if is_full {
            // No turn begins, and there is no room to put down why one would not.
            set_aside.clear();
            recovered.retain(|item| matches!(item, Recovered::Counters { .. } | Recovered::Damaged { .. }));
        }
        let setup = Setup {
            random: Random::System,
            memory_bytes_max: self.options.memory_bytes_max / usize::from(shared.partitions),
            orchestrators_offered: shared.orchestrators_offered.clone(),
            set_aside,
            out_of_service: ours(&self.out_of_service),
            sweep_min: SWEEP_MIN,
            may_be_running: self.unclean.contains(&index),
            flaws: crate::flaw::Flaws::default(),
            lease,
        };
        let mut outputs = Vec::new();
        let partition = Partition::recover(setup, recovered, shared.node.clock.now(), &mut outputs);
        Ok((partition, outputs))
    }

    /// Reloads whenever asked to, and watches the threads, until the hub is closed or drained. All that
    /// happens in one task, so a drain never meets a reload half done.
    pub(crate) async fn supervise(mut self, mut drains: mpsc::UnboundedReceiver<Drain>) {
        // If this task breaks, nobody keeps the partitions served: better that callers hear of it.
        let _closing = CloseOnDrop(Arc::clone(&self.shared));
        let mut watched = BTreeMap::new();
        loop {
            let is_asked = tokio::select! {
                biased;
                drain = drains.recv() => {
                    if let Some(drain) = drain {
                        self.drain(drain).await;
                    }
                    return;
                }
                () = self.shared.reload.notified() => true,
                () = sleep(TURN_WARN / 4) => false,
            };
            if self.shared.is_closed() {
                return;
            }
            let blocked = self.watch(&mut watched);
            if is_asked || !blocked.is_empty() || self.finds_room().await {
                self.reload(blocked, &drains).await;
                watched.clear();
            }
        }
    }

    /// Has the threads end their rounds, and gives the partitions back once everything is written.
    async fn drain(&self, drain: Drain) {
        let shared = &self.shared;
        let mut leases = Vec::new();
        for link in shared.links() {
            let (done, drained) = oneshot::channel();
            link.inputs.push(ThreadInput::Drain(done));
            if let Ok(Ok(given_back)) = timeout(drain.limit, drained).await {
                leases.extend(given_back);
            }
        }
        shared.node.group.flush(shared.number).await;
        let unkept = shared.dispatcher().answered();
        let released = if unkept == 0 {
            shared.node.store.release(&leases).await
        } else {
            // The next process must take every open call for one that may have run (A35).
            tracing::error!(hub = %shared.hub, unkept, "results of activities could not be made durable before the stop; they run again");
            Ok(())
        };
        let _nobody_waits = drain.done.send(released);
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
    async fn reload(&mut self, blocked: Vec<(usize, InstanceId)>, drains: &mpsc::UnboundedReceiver<Drain>) {
        let count = self.shared.reloads.fetch_add(1, Ordering::AcqRel) + 1;
        for (number, instance) in blocked {
            self.give_up(number, instance);
        }
        // What failed may fail again at once; a pause keeps that from being all the process does.
        let broken = self.take_broken();
        let failed = self.shared.node.failed_groups.load(Ordering::Acquire).saturating_sub(1);
        sleep(PAUSE * broken.max(failed).min(PAUSES_MAX)).await;
        tracing::warn!(hub = %self.shared.hub, count, "dropping the memory of all partitions and reading them anew");
        self.drop_all().await;
        self.shared.node.group.accept(self.shared.number);
        // What was handed over by whole rounds is consistent; a failed store has discarded it already.
        self.shared.node.group.flush(self.shared.number).await;
        let is_idle = self.shared.node.is_full() || self.shared.node.damage().is_some();
        let mut pauses = 0;
        while let Err(error) = self.claim_all(is_idle).await {
            if matches!(error, StoreError::NoSuchHub { .. }) {
                tracing::error!(hub = %self.shared.hub, "the hub was deleted; its work ends here");
                self.shared.close();
                return;
            }
            self.shared.node.note_failing(true);
            pauses = PAUSES_MAX.min(pauses + 1);
            tracing::warn!(hub = %self.shared.hub, error = %chain(&error), "the partitions cannot be claimed; trying again");
            sleep(PAUSE * pauses).await;
            if self.shared.is_closed() || !drains.is_empty() {
                return;
            }
        }
        self.shared.node.note_failing(false);
    }

    /// Sets instances aside on which assertions broke. Says how many broke lately.
    fn take_broken(&mut self) -> u32 {
        let broken = std::mem::take(&mut *self.shared.broken());
        let (count, last) = &mut self.broken;
        if broken.is_empty() {
            return 0;
        }
        if last.is_some_and(|last| last.elapsed() > BROKEN_FORGOTTEN) {
            *count = 0;
        }
        (*count, *last) = (*count + 1, Some(now()));
        for broken in broken {
            let Some(instance) = broken.instance else { continue };
            let was_set_aside = self.set_aside.remove(&instance).is_some();
            if broken.is_unwritable || was_set_aside || self.out_of_service.contains_key(&instance) {
                // Its turns are not what breaks, so nothing of it is touched any more.
                self.out_of_service.insert(instance, broken.what);
            } else {
                self.set_aside.insert(instance, broken.what);
            }
        }
        *count
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
        self.set_aside.insert(instance, reason);
        match self.spawn_thread(number) {
            Ok(fresh) => {
                let mut threads = self.shared.threads.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(link) = threads.get_mut(number) {
                    link.pulse.give_up(&self.shared.node.group);
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
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Closes a hub whose heart stops.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(hub = %self.0.hub, "the task that keeps the partitions served broke; the hub is closed");
            self.0.is_broken.store(true, Ordering::Release);
            self.0.close();
        }
    }
}
