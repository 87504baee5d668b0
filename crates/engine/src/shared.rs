//! What the threads and tasks of a hub share: routes to the partitions, the open group, the dispatcher.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use taskhub_core::commit::Commit;
use taskhub_core::id::{Epoch, HubName, InstanceId, Seq};
use taskhub_store::{Error as StoreError, FingerprintPage, PartitionKey, partition_of};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::dispatcher::{Dispatcher, Event, Order, Token};
use crate::executor::ThreadInput;
use crate::group::{Batch, OpenGroup, Release};
use crate::hub::To;
use crate::io::Input;
use crate::node::{Common, join};
use crate::queue::Queue;
use crate::worker::{ActivityCall, Functions, Offered};

/// The shared part of a hub.
pub(crate) struct Shared {
    pub(crate) node: Arc<Common>,
    /// Its number on the node.
    pub(crate) number: u32,
    pub(crate) hub: HubName,
    pub(crate) partitions: u16,
    pub(crate) functions: Arc<dyn Functions>,
    /// The orchestrators that run here (A51).
    pub(crate) orchestrators_offered: Offered,
    /// One per partition thread; partition `i` is served by thread `i mod threads`.
    pub(crate) threads: RwLock<Vec<ThreadLink>>,
    /// What must have ended before a stop is over: the partition threads, by number, and the main tasks.
    joins: Mutex<Joins>,
    dispatcher: Mutex<Dispatcher>,
    /// Assertions that broke since the last reload.
    broken: Mutex<Vec<Broken>>,
    /// The hub closed itself because its own tasks broke.
    pub(crate) is_broken: AtomicBool,
    /// Told, while the hub stops, when an activity has ended or its result is durable.
    activities_moved: Notify,
    /// No client is served any more.
    is_stopping: AtomicBool,
    /// Nothing is.
    is_closed: AtomicBool,
    /// The partitions were claimed without room, and do nothing that adds work until they are claimed anew.
    is_out_of_room: AtomicBool,
    /// Asks the supervisor to end the work in an orderly way.
    pub(crate) drains: mpsc::UnboundedSender<Drain>,
    /// Requests that are not answered yet.
    pub(crate) requests: AtomicUsize,
    /// Told when partitions must be dropped and claimed anew.
    pub(crate) reload: Notify,
    pub(crate) reloads: AtomicU64,
    /// Threads left to turns that do not return (A33).
    pub(crate) lost_threads: AtomicUsize,
}

#[derive(Default)]
struct Joins {
    threads: BTreeMap<usize, std::thread::JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    reads: JoinSet<()>,
}

/// The way to one partition thread.
#[derive(Clone, Debug)]
pub(crate) struct ThreadLink {
    pub(crate) inputs: Arc<Queue<ThreadInput>>,
    pub(crate) pulse: Arc<Pulse>,
}

/// Lets a watchdog see that a thread is stuck in a turn, at the cost of two counters per turn (A33).
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Odd while a turn runs.
    turns: AtomicU64,
    current: Mutex<Option<InstanceId>>,
    is_given_up: AtomicBool,
    /// What the thread will hand over when its round ends. Here, so that the commits made before a turn
    /// that blocks are not lost with it.
    batch: Mutex<Batch>,
}

impl Pulse {
    /// The pulse of a thread of a hub.
    pub(crate) fn new(hub: u32) -> Self {
        Self {
            turns: AtomicU64::new(0),
            current: Mutex::default(),
            is_given_up: AtomicBool::new(false),
            batch: Mutex::new(Batch::new(hub)),
        }
    }

    pub(crate) fn begin(&self, instance: &InstanceId) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance.clone());
        self.turns.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// No turn runs any more, however the last one ended.
    pub(crate) fn end_all(&self) {
        self.turns
            .fetch_add(self.turns.load(Ordering::Acquire) % 2, Ordering::Release);
    }

    /// The turn that runs now, by a number that no other turn of the thread has.
    pub(crate) fn running(&self) -> Option<(u64, InstanceId)> {
        let number = self.turns.load(Ordering::Acquire);
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        current.filter(|_| number % 2 == 1).map(|instance| (number, instance))
    }

    pub(crate) fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a commit to what is handed over, which is done at once when that is enough for a group.
    pub(crate) fn push(&self, group: &OpenGroup, partition: &PartitionKey, epoch: Epoch, seq: Seq, commit: Commit) {
        let is_enough = {
            let mut batch = self.batch();
            batch.push(partition, epoch, seq, commit);
            batch.bytes() >= group.limits().group_max
        };
        if is_enough {
            self.hand_over(group);
        }
    }

    /// Hands over what the thread has so far; nothing, once it is given up.
    pub(crate) fn hand_over(&self, group: &OpenGroup) {
        // The lock is held over the hand-over, so that a thread that was just given up cannot slip one in.
        let mut batch = self.batch();
        if !self.is_given_up() && !batch.is_empty() {
            group.hand_over(batch.take());
        }
    }

    /// Hands over what the thread made before the turn it is stuck in, and accepts nothing more from it.
    pub(crate) fn give_up(&self, group: &OpenGroup) {
        self.hand_over(group);
        self.is_given_up.store(true, Ordering::Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

/// An assertion that broke.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The instance whose work broke it, as far as that is known.
    pub(crate) instance: Option<InstanceId>,
    /// What it said.
    pub(crate) what: String,
    /// Nothing of the instance can be written, not even that it is set aside.
    pub(crate) is_unwritable: bool,
}

/// Asks for the end of all work.
#[derive(Debug)]
pub(crate) struct Drain {
    /// How long each thread has to end its round.
    pub(crate) limit: Duration,
    /// Told how giving the partitions back went.
    pub(crate) done: oneshot::Sender<Result<(), StoreError>>,
}

/// What a hub is made of.
pub(crate) struct Parts {
    pub(crate) node: Arc<Common>,
    pub(crate) hub: HubName,
    pub(crate) partitions: u16,
    pub(crate) functions: Arc<dyn Functions>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) orchestrators_offered: Offered,
    pub(crate) drains: mpsc::UnboundedSender<Drain>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            number: parts.node.next_hub(),
            node: parts.node,
            hub: parts.hub,
            partitions: parts.partitions,
            functions: parts.functions,
            orchestrators_offered: parts.orchestrators_offered,
            threads: RwLock::default(),
            joins: Mutex::default(),
            dispatcher: Mutex::new(parts.dispatcher),
            broken: Mutex::default(),
            is_broken: AtomicBool::new(false),
            activities_moved: Notify::new(),
            is_stopping: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_out_of_room: AtomicBool::new(false),
            drains: parts.drains,
            requests: AtomicUsize::new(0),
            reload: Notify::new(),
            reloads: AtomicU64::new(0),
            lost_threads: AtomicUsize::new(0),
        }
    }

    /// Has the partitions that are claimed next do nothing that adds work, or everything again.
    pub(crate) fn set_out_of_room(&self, is_out: bool) {
        self.is_out_of_room.store(is_out, Ordering::Release);
    }

    /// Whether partitions do nothing that adds work until they are claimed anew (A43).
    pub(crate) fn is_out_of_room(&self) -> bool {
        self.is_out_of_room.load(Ordering::Acquire)
    }

    pub(crate) fn partition(&self, index: u16) -> PartitionKey {
        PartitionKey {
            hub: self.hub.clone(),
            index,
        }
    }

    pub(crate) fn partition_of(&self, instance: &InstanceId) -> u16 {
        partition_of(instance, self.partitions)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Serves no client and hands out no activity from now on (R206); what was begun goes on.
    pub(crate) fn begin_stop(self: &Arc<Self>) {
        self.is_stopping.store(true, Ordering::Release);
        self.dispatch(Event::Drain);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Ends the threads and tasks. What waits for an answer hears that there is none.
    pub(crate) fn close(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.is_closed.store(true, Ordering::Release);
        for link in self.links() {
            link.inputs.close();
        }
        self.node.leave(self.number);
        self.reload.notify_one();
    }

    /// Waits until the dispatcher has got so far; for a stop.
    pub(crate) async fn activities(&self, have_got: impl Fn(&Dispatcher) -> bool) {
        loop {
            let moved = self.activities_moved.notified();
            let mut moved = std::pin::pin!(moved);
            // Registered before the look, so that a change in between is not missed.
            moved.as_mut().enable();
            if have_got(&self.dispatcher()) {
                return;
            }
            moved.await;
        }
    }

    /// Sends an input to the thread of a partition. Nobody there means that the hub is stopping or the
    /// thread was just given up: what matters of the input is durable, or its sender hears of the loss.
    pub(crate) fn send(&self, index: u16, input: Input<To>) {
        self.send_to_thread(usize::from(index), ThreadInput::Partition(index, input));
    }

    /// Sends to the thread with this number, modulo their count.
    pub(crate) fn send_to_thread(&self, number: usize, input: ThreadInput) {
        let threads = self.threads.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = number.checked_rem(threads.len()).and_then(|number| threads.get(number)) {
            link.inputs.push(input);
        }
    }

    pub(crate) fn links(&self) -> Vec<ThreadLink> {
        self.threads.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn broken(&self) -> MutexGuard<'_, Vec<Broken>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets effects go whose commits are durable.
    pub(crate) fn release(self: &Arc<Self>, releases: Vec<Release>) {
        let mut events = Vec::new();
        for release in releases {
            match release {
                Release::Reply(to, reply, _) => to.answer(reply),
                Release::Task(event) => events.push(event),
            }
        }
        if !events.is_empty() {
            self.dispatch_all(events);
        }
    }

    /// Tells the dispatcher something and does what it says.
    pub(crate) fn dispatch(self: &Arc<Self>, event: Event) {
        self.dispatch_all([event]);
    }

    fn dispatch_all(self: &Arc<Self>, events: impl IntoIterator<Item = Event>) {
        let mut orders = Vec::new();
        let mut calls = Vec::new();
        {
            let mut dispatcher = self.dispatcher();
            for event in events {
                dispatcher.step(event, &mut orders);
            }
            // Told under the lock: once a call counts as ended, its result is in its partition's queue.
            for order in orders {
                match order {
                    Order::Result { key, outcome } => self.send(key.partition.index, Input::TaskDone { key, outcome }),
                    Order::Redeliver { key, deliveries } => {
                        self.send(key.partition.index, Input::TaskRedelivered { key, deliveries });
                    }
                    Order::Run { call, token } => calls.push((call, token)),
                }
            }
        }
        if self.is_stopping() {
            self.activities_moved.notify_waiters();
        }
        for (call, token) in calls {
            self.run_activity(call, token);
        }
    }

    fn run_activity(self: &Arc<Self>, call: ActivityCall, token: Token) {
        // An activity that outlives its hub must not keep the store open.
        let shared = Arc::downgrade(self);
        let key = call.key.clone();
        let activity = self.functions.activity(call);
        self.spawn(async move {
            let outcome = activity.await;
            if let Some(shared) = shared.upgrade() {
                shared.dispatch(Event::Done { key, token, outcome });
            }
        });
    }

    /// The one place below the library that spawns tasks.
    #[expect(clippy::disallowed_methods, reason = "the shell's door to the runtime")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.node.runtime.spawn(task);
    }

    /// Spawns a read, which has the store open; a stop gives it up, so that the store is free then.
    pub(crate) fn spawn_read(&self, read: impl Future<Output = ()> + Send + 'static) {
        let reads = &mut self.joins().reads;
        // Those that have ended are forgotten.
        while reads.try_join_next().is_some() {}
        reads.spawn_on(read, &self.node.runtime);
    }

    /// Spawns a task that a stop waits for.
    #[expect(clippy::disallowed_methods, reason = "the shell's door to the runtime")]
    pub(crate) fn spawn_main(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.joins().tasks.push(self.node.runtime.spawn(task));
    }

    /// Starts a thread that a stop waits for.
    pub(crate) fn spawn_thread(
        &self,
        name: &str,
        number: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let join = started.map_err(|source| StoreError::Unavailable { source: source.into() })?;
        self.join_later(number, join);
        Ok(())
    }

    /// Has a stop wait for this thread in the place of the one that had its number; that one, given up, may
    /// never end.
    fn join_later(&self, number: usize, thread: std::thread::JoinHandle<()>) {
        self.joins().threads.insert(number, thread);
    }

    fn joins(&self) -> MutexGuard<'_, Joins> {
        self.joins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the threads, the main tasks and the reads have ended, which they do once the hub is closed.
    pub(crate) async fn ended(&self) {
        let (threads, tasks) = {
            let mut joins = self.joins();
            (std::mem::take(&mut joins.threads), std::mem::take(&mut joins.tasks))
        };
        join(threads.into_values().collect()).await;
        for task in tasks {
            let _panicked = task.await;
        }
        // Nobody begins one any more.
        let mut reads = std::mem::take(&mut self.joins().reads);
        reads.shutdown().await;
    }

    /// Fills a partition's filter of ids in the background (A40).
    pub(crate) async fn fill_filter(self: Arc<Self>, index: u16, epoch: Epoch) {
        const PAGE: usize = 10_000;
        let mut after = None;
        loop {
            let page = self.node.store.fingerprints(&self.partition(index), after, PAGE).await;
            let Ok(FingerprintPage { fingerprints, next }) = page else {
                // Without the filter every look-up of an unknown id reads the table: slower, never wrong.
                tracing::warn!(partition = index, "the filter of ids could not be filled");
                return;
            };
            self.send(
                index,
                Input::Fingerprints {
                    fingerprints,
                    is_last: next.is_none(),
                    epoch,
                },
            );
            if next.is_none() {
                return;
            }
            after = next;
        }
    }
}
