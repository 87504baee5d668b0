//! The one door for code that does work: a Rust function in this process and a program behind a
//! stream implement the same traits and get the same items.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use taskhub_core::action::TurnAnswer;
use taskhub_core::event::{HistoryEvent, Tags};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{Epoch, ExecutionId, Fence, InstanceId, InstanceNumber, Name, Occurrence};
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_store::PartitionKey;
use tokio::sync::Notify;

/// One delivery to orchestrator code.
#[derive(Clone, Debug)]
pub struct TurnItem {
    /// The partition of the instance.
    pub partition: PartitionKey,
    /// The instance.
    pub instance: InstanceId,
    /// Its execution.
    pub execution: ExecutionId,
    /// The token the answer must carry (R24); its epoch is the partition's.
    pub fence: Fence,
    /// Length of the history before this turn. A live future serves the item only if it saw exactly
    /// these events, of this execution, under this epoch (A22).
    pub past_events: u32,
    /// The history, present when the worker said that it needs it (R27), and when it is empty.
    pub past: Option<Vec<HistoryEvent>>,
    /// The new events. Never empty; the first is OrchestratorStarted.
    pub new_events: Arc<[HistoryEvent]>,
}

/// What a worker makes of a turn.
#[derive(Debug)]
pub enum TurnOutcome {
    /// The answer.
    Answer(TurnAnswer),
    /// The same item again, with its history, please (R27).
    NeedsHistory,
    /// No answer could be made: the code panicked, or is to be set aside (R41, A38). Counts as a delivery (R184).
    Failed {
        /// For people.
        reason: String,
    },
    /// The item is at a remote worker; the answer comes later.
    Out,
}

/// Runs turns on one partition thread. Values behind it need not be `Send` (A33).
pub trait Worker {
    /// Runs a turn, or sends it out.
    fn turn(&mut self, item: &TurnItem) -> TurnOutcome;

    /// Drops what is kept live for an instance that leaves memory.
    fn evict(&mut self, partition: &PartitionKey, instance: &InstanceId);

    /// Drops what is kept live for a partition, before it reloads (A22).
    fn forget(&mut self, partition: &PartitionKey);

    /// Bytes kept live, roughly, for the budget.
    fn live_bytes(&self) -> usize;
}

/// One activity call.
#[derive(Clone, Debug)]
pub struct ActivityCall {
    /// Which call, among all of the node.
    pub key: TaskKey,
    /// Id of its TaskScheduled event.
    pub event_id: i32,
    /// Name of the activity.
    pub name: Name,
    /// Its version.
    pub version: Option<Name>,
    /// Its input.
    pub input: Option<Payload>,
    /// Labels of the call.
    pub tags: Tags,
    /// 1 for the first time it is handed out, one more for each that was lost (P4).
    pub delivery: u32,
    /// Signals that the result is no longer needed (R60).
    pub cancellation: Cancellation,
}

impl ActivityCall {
    /// A key that is the same for every delivery of this call and no other, for idempotent side effects (P4).
    pub fn stable_key(&self) -> String {
        format!(
            "{}/{}/{}.{}",
            self.key.partition, self.key.instance, self.key.number, self.key.occurrence
        )
    }
}

/// Identity of one logical activity call; never reused, even when the instance is purged and created again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    /// The partition of the instance.
    pub partition: PartitionKey,
    /// Key of the instance.
    pub number: InstanceNumber,
    /// The occurrence (R34).
    pub occurrence: Occurrence,
    /// The instance.
    pub instance: InstanceId,
}

/// Boxed future of an activity.
pub type ActivityFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Functions that a node offers: turns by a worker per partition thread, activities on the runtime.
pub trait Functions: Send + Sync + 'static {
    /// A worker for one partition thread.
    fn worker(&self) -> Box<dyn Worker>;

    /// The registered spelling of an orchestrator's name, if it is registered: names are case-insensitive, and
    /// histories contain the registered spelling (R77).
    fn orchestrator_name(&self, name: &Name) -> Option<Name>;

    /// Starts an activity. Panics inside must come out as a failure (A38).
    fn activity(&self, call: ActivityCall) -> ActivityFuture;
}

/// Names of the orchestrators that run in a process; all, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Offered(Option<Arc<BTreeSet<FoldedName>>>);

impl Offered {
    /// These, or all if absent.
    pub fn new(names: Option<BTreeSet<FoldedName>>) -> Self {
        Self(names.map(Arc::new))
    }

    /// Whether this name is among them, ignoring case (R77).
    pub fn has(&self, name: &Name) -> bool {
        let names = self.0.as_ref();
        names.is_none_or(|names| names.contains(&FoldedName::from(name)))
    }
}

/// Signals a running activity that its result is no longer needed.
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    shared: Arc<(AtomicBool, Notify)>,
}

impl Cancellation {
    /// Cancels; repeating it changes nothing.
    pub fn cancel(&self) {
        self.shared.0.store(true, Ordering::Release);
        self.shared.1.notify_waiters();
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.shared.0.load(Ordering::Acquire)
    }

    /// Waits until it is cancelled.
    pub async fn cancelled(&self) {
        let notified = self.shared.1.notified();
        let mut notified = std::pin::pin!(notified);
        // Registered before the flag is read, so that a cancel in between is not missed.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }
}

impl TurnItem {
    /// The partition's fence.
    pub fn epoch(&self) -> Epoch {
        self.fence.epoch
    }
}
