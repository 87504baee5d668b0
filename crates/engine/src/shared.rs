//! What the threads and tasks of a hub share: routes to the partitions, the open group, the dispatcher.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use taskhub_core::id::{Epoch, HubName, InstanceId};
use taskhub_store::{Freshness, PartitionKey, Query, Store, partition_of};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::dispatcher::{Dispatcher, Event, Order};
use crate::executor::ThreadInput;
use crate::group::{Batch, OpenGroup, Release};
use crate::hub::To;
use crate::io::Input;
use crate::queue::Queue;
use crate::worker::Functions;

/// The shared part of a hub.
pub(crate) struct Shared {
    pub(crate) hub: HubName,
    pub(crate) partitions: u16,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) functions: Arc<dyn Functions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Handle,
    pub(crate) group: OpenGroup,
    /// One per partition thread; partition `i` is served by thread `i mod threads`.
    pub(crate) threads: RwLock<Vec<ThreadLink>>,
    /// What must have ended before a stop is over: the partition threads, by number, and the main tasks.
    joins: Mutex<Joins>,
    dispatcher: Mutex<Dispatcher>,
    /// Instances in whose work an assertion broke, and what it said.
    broken: Mutex<Vec<(InstanceId, String)>>,
    /// Told when an activity ends.
    pub(crate) activity_ended: Notify,
    pub(crate) is_stopping: AtomicBool,
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
}

/// The way to one partition thread.
#[derive(Clone, Debug)]
pub(crate) struct ThreadLink {
    pub(crate) inputs: Arc<Queue<ThreadInput>>,
    pub(crate) pulse: Arc<Pulse>,
}

/// Lets a watchdog see that a thread is stuck in a turn, at the cost of two counters per turn (A33).
#[derive(Debug, Default)]
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

    /// Hands over what the thread has so far; nothing, once it is given up.
    pub(crate) fn hand_over(&self, group: &OpenGroup) {
        // The lock is held over the hand-over, so that a thread that was just given up cannot slip one in.
        let mut batch = self.batch();
        if !self.is_given_up() && !batch.is_empty() {
            group.hand_over(std::mem::take(&mut *batch));
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

/// What a hub is made of.
pub(crate) struct Parts {
    pub(crate) hub: HubName,
    pub(crate) partitions: u16,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) functions: Arc<dyn Functions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Handle,
    pub(crate) dispatcher: Dispatcher,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            hub: parts.hub,
            partitions: parts.partitions,
            store: parts.store,
            functions: parts.functions,
            clock: parts.clock,
            runtime: parts.runtime,
            group: OpenGroup::default(),
            threads: RwLock::default(),
            joins: Mutex::default(),
            dispatcher: Mutex::new(parts.dispatcher),
            broken: Mutex::default(),
            activity_ended: Notify::new(),
            is_stopping: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            reload: Notify::new(),
            reloads: AtomicU64::new(0),
            lost_threads: AtomicUsize::new(0),
        }
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

    pub(crate) fn broken(&self) -> MutexGuard<'_, Vec<(InstanceId, String)>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets effects go whose commits are durable.
    pub(crate) fn release(self: &Arc<Self>, releases: Vec<Release>) {
        let mut orders = Vec::new();
        let mut events = Vec::new();
        for release in releases {
            match release {
                Release::Reply(to, reply) => to.answer(reply),
                Release::Task(event) => events.push(event),
            }
        }
        if !events.is_empty() {
            let mut dispatcher = self.dispatcher();
            for event in events {
                dispatcher.step(event, &mut orders);
            }
        }
        self.carry_out(orders);
    }

    /// Tells the dispatcher something and does what it says.
    pub(crate) fn dispatch(self: &Arc<Self>, event: Event) {
        let mut orders = Vec::new();
        self.dispatcher().step(event, &mut orders);
        self.carry_out(orders);
    }

    fn carry_out(self: &Arc<Self>, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Result { key, outcome } => self.send(key.partition.index, Input::TaskDone { key, outcome }),
                Order::Redeliver { key, deliveries } => {
                    self.send(key.partition.index, Input::TaskRedelivered { key, deliveries });
                }
                Order::Run { call, token } => {
                    // An activity that outlives its hub must not keep the store open.
                    let shared = Arc::downgrade(self);
                    let key = call.key.clone();
                    let activity = self.functions.activity(call);
                    self.spawn(async move {
                        let outcome = activity.await;
                        if let Some(shared) = shared.upgrade() {
                            shared.dispatch(Event::Done { key, token, outcome });
                            shared.activity_ended.notify_waiters();
                        }
                    });
                }
            }
        }
    }

    /// The one place below the library that spawns tasks.
    #[expect(clippy::disallowed_methods, reason = "the shell's door to the runtime")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Spawns a task that a stop waits for.
    #[expect(clippy::disallowed_methods, reason = "the shell's door to the runtime")]
    pub(crate) fn spawn_main(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.joins().tasks.push(self.runtime.spawn(task));
    }

    /// Has a stop wait for this thread in the place of the one that had its number; that one, given up, may
    /// never end.
    pub(crate) fn join_later(&self, number: usize, thread: std::thread::JoinHandle<()>) {
        self.joins().threads.insert(number, thread);
    }

    fn joins(&self) -> MutexGuard<'_, Joins> {
        self.joins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the threads and the main tasks have ended, which they do once the hub is closed.
    pub(crate) async fn ended(&self) {
        let Joins { threads, tasks } = std::mem::take(&mut *self.joins());
        let joined = self.runtime.spawn_blocking(move || {
            for thread in threads.into_values() {
                // A thread that panicked has ended too.
                let _panicked = thread.join();
            }
        });
        let _panicked = joined.await;
        for task in tasks {
            let _panicked = task.await;
        }
    }

    /// Fills a partition's filter of ids in the background (A40).
    pub(crate) async fn fill_filter(self: Arc<Self>, index: u16, epoch: Epoch) {
        const PAGE: usize = 10_000;
        let mut after = None;
        loop {
            let query = Query::Fingerprints {
                partition: self.partition(index),
                after,
                rows_max: PAGE,
            };
            let answer = self.store.query(&query, Freshness::Committed).await;
            let Ok(taskhub_store::Answer::Fingerprints { fingerprints, next }) = answer else {
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
