//! What the threads and tasks of a hub share: routes to the partitions, the open group, the dispatcher.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhub_core::id::{Epoch, HubName, InstanceId};
use taskhub_store::{Error as StoreError, FingerprintPage, PartitionKey, partition_of};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::common::Common;
use crate::dispatcher::{Dispatcher, Event, Order, Token};
use crate::io::Input;
use crate::link::{HubInput, Report, ThreadInput, ThreadLink};
use crate::open_group::Release;
use crate::reply::To;
use crate::supervision::{Broken, Scope};
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
    /// What must have ended before a stop is over.
    joins: Mutex<Joins>,
    dispatcher: Mutex<Dispatcher>,
    /// Partitions to reload and failures that the supervision does not know yet.
    troubles: Mutex<(Scope, Vec<Broken>)>,
    /// Told when there is some trouble, or the hub is closed.
    pub(crate) troubled: Notify,
    /// The hub closed itself because its own tasks broke.
    pub(crate) is_broken: AtomicBool,
    /// Told, while the hub stops, when an activity has ended or its result is durable.
    activities_moved: Notify,
    /// No client is served any more.
    is_stopping: AtomicBool,
    /// Nothing is.
    is_closed: AtomicBool,
    /// The partitions were claimed on a full store, and do nothing that adds work until they are claimed again.
    is_out_of_room: AtomicBool,
    /// Asks the supervisor to end the work in an orderly way.
    pub(crate) drains: mpsc::UnboundedSender<Drain>,
    /// How the partitions of each thread were doing at the end of its last round.
    figures: Mutex<BTreeMap<usize, Report>>,
    /// Requests that are not answered yet.
    pub(crate) requests: AtomicUsize,
    /// The number of reloads.
    pub(crate) reloads: AtomicU64,
    /// How often each of them was: what is read for one must not be waited for any longer then.
    lives: Vec<AtomicU64>,
}

#[derive(Default)]
struct Joins {
    /// Confirmations of the partition threads that they have dropped the hub.
    left: Vec<oneshot::Receiver<()>>,
    tasks: Vec<JoinHandle<()>>,
    reads: JoinSet<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
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
            joins: Mutex::default(),
            dispatcher: Mutex::new(parts.dispatcher),
            troubles: Mutex::default(),
            troubled: Notify::new(),
            is_broken: AtomicBool::new(false),
            activities_moved: Notify::new(),
            is_stopping: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            is_out_of_room: AtomicBool::new(false),
            drains: parts.drains,
            figures: Mutex::default(),
            requests: AtomicUsize::new(0),
            reloads: AtomicU64::new(0),
            lives: (0..parts.partitions).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Sets whether partitions that are claimed next get limited or full service.
    pub(crate) fn set_out_of_room(&self, is_out: bool) {
        self.is_out_of_room.store(is_out, Ordering::Release);
    }

    /// Whether partitions do nothing that adds work until they are claimed again (A43).
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

    /// From now on, serves no client and dispatches no activity (R206); running work continues.
    pub(crate) fn begin_stop(self: &Arc<Self>) {
        self.is_stopping.store(true, Ordering::Release);
        self.dispatch(Event::Drain);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Ends its work, and notifies all waiters.
    pub(crate) fn close(&self) {
        self.is_stopping.store(true, Ordering::Release);
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let left = self.node.links().into_iter().map(|link| {
            let (done, left) = oneshot::channel();
            link.inputs.push(ThreadInput::Leave(self.number, done));
            left
        });
        self.joins().left.extend(left);
        self.node.leave(self.number);
        self.troubled.notify_one();
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

    /// Sends an input to the thread of a partition. If there is no thread, the hub is stopping or the thread was just
    /// abandoned; then the input is either durable or its sender is notified.
    pub(crate) fn send(&self, index: u16, input: Input<To>) {
        self.tell(index, HubInput::Partition(index, input));
    }

    /// Tells the hub something on the thread that serves this partition.
    pub(crate) fn tell(&self, index: u16, input: HubInput) {
        self.node
            .send_to_thread(usize::from(index), ThreadInput::Hub(self.number, input));
    }

    /// Tells it something on every thread.
    pub(crate) fn tell_all<T>(
        &self,
        mut input: impl FnMut(oneshot::Sender<T>) -> HubInput,
    ) -> Vec<oneshot::Receiver<T>> {
        let tell = |link: ThreadLink| {
            let (to, answer) = oneshot::channel();
            link.inputs.push(ThreadInput::Hub(self.number, input(to)));
            answer
        };
        self.node.links().into_iter().map(tell).collect()
    }

    /// Notes how the partitions of a thread are doing.
    pub(crate) fn publish(&self, thread: usize, report: Report) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.insert(thread, report);
    }

    /// How all partitions were doing when each thread last ended a round.
    pub(crate) fn figures(&self) -> Report {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = Report::default();
        figures.values().for_each(|report| total.add(report));
        total
    }

    /// Requests a reload of partitions.
    pub(crate) fn lose(&self, scope: Scope) {
        self.troubles().0.add(scope);
        self.troubled.notify_one();
    }

    /// Records the cause of the next loss of partitions.
    pub(crate) fn blame(&self, broken: Broken) {
        self.troubles().1.push(broken);
    }

    pub(crate) fn take_troubles(&self) -> (Scope, Vec<Broken>) {
        std::mem::take(&mut *self.troubles())
    }

    fn troubles(&self) -> MutexGuard<'_, (Scope, Vec<Broken>)> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the life of a partition's memory.
    pub(crate) fn life(&self, index: u16) -> u64 {
        let life = self.lives.get(usize::from(index));
        life.map_or(0, |life| life.load(Ordering::Acquire))
    }

    /// What is being read for these partitions is not wanted any more.
    pub(crate) fn forget_reads(&self, scope: &Scope) {
        for index in scope.of(self.partitions) {
            if let Some(life) = self.lives.get(usize::from(index)) {
                life.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Makes the threads drop the memory of partitions. Each thread confirms it.
    pub(crate) fn drop_memory(&self, scope: &Scope) -> Vec<oneshot::Receiver<()>> {
        match scope {
            Scope::All => self.tell_all(HubInput::Drop),
            Scope::Some(some) => {
                let tell = |index: &u16| {
                    let (to, dropped) = oneshot::channel();
                    self.tell(*index, HubInput::DropOne(*index, to));
                    dropped
                };
                some.iter().map(tell).collect()
            }
        }
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
                    Order::Run { call, token } if self.node.owns() => calls.push((call, token)),
                    // Before anything is offered anew: this node may have its partitions again, and begin anew, at any moment.
                    Order::Run { call, token } => dispatcher.forgo(&call.key, token),
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

    fn joins(&self) -> MutexGuard<'_, Joins> {
        self.joins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the threads have dropped the hub, and its tasks and reads have ended, which happens after it is
    /// closed.
    pub(crate) async fn ended(&self) {
        let (left, tasks) = {
            let mut joins = self.joins();
            (std::mem::take(&mut joins.left), std::mem::take(&mut joins.tasks))
        };
        for left in left {
            // A thread that is blocked in a turn never confirms it, and is abandoned.
            let _given_up = left.await;
        }
        for task in tasks {
            let _panicked = task.await;
        }
        // No new one begins.
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
                tracing::warn!(partition = index, "cannot load the filter of instance ids");
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
