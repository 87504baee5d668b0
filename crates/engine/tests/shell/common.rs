//! A worker simple enough to be read at a glance, for tests of the shell around it.

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{HubName, InstanceId, Name};
use taskhub_core::limits;
use taskhub_core::message::{Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::status::InstanceInfo;
use taskhub_core::time::Timestamp;
use taskhub_engine::worker::{ActivityCall, ActivityFuture, Functions, TurnItem, TurnOutcome, Worker};
use taskhub_engine::{Error, Hub, Options};
use taskhub_store::blocking::{Reader, Writer};
use taskhub_store::faulty::Faults;
use taskhub_store::inline::Inline;
use taskhub_store::mem::{MemData, MemStore};
use taskhub_store::{
    Beat, Claim, Claimed, Error as StoreError, Group, HubInfo, Lease, NodeId, PartitionKey, Space, Store, Work,
    partition_of,
};
use tokio::sync::Semaphore;

/// Orchestrators: `Steps` (as many activities in a row as its input says), `Wait` (an event `Go`),
/// `Again` (for ever, with its input), `Huge` (asks for more at once than is accepted),
/// `Panic` (no answer), `Break` (an assertion of ours), `Loop` (blocks until [`Plain::unblock`]).
#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) activities_run: Arc<AtomicUsize>,
    /// Activities wait for a permit each.
    pub(crate) gate: Arc<Semaphore>,
    /// Orchestrators that loop, or did.
    pub(crate) looping: Arc<AtomicUsize>,
    /// Workers that were made.
    pub(crate) workers: Arc<AtomicUsize>,
    unblock: Arc<AtomicUsize>,
}

impl Plain {
    /// Activities that run at once.
    pub(crate) fn new() -> Self {
        Self::gated(Semaphore::MAX_PERMITS)
    }

    /// Activities of which only so many get through.
    pub(crate) fn gated(permits: usize) -> Self {
        Self {
            activities_run: Arc::default(),
            gate: Arc::new(Semaphore::new(permits)),
            looping: Arc::default(),
            workers: Arc::default(),
            unblock: Arc::default(),
        }
    }

    /// Lets the orchestrators that loop return.
    pub(crate) fn unblock(&self) {
        self.unblock.store(1, Ordering::Release);
    }
}

struct PlainWorker(Plain, HashMap<InstanceId, Vec<HistoryEvent>>);

impl Functions for Plain {
    fn worker(&self) -> Box<dyn Worker> {
        self.workers.fetch_add(1, Ordering::AcqRel);
        Box::new(PlainWorker(self.clone(), HashMap::new()))
    }

    fn orchestrator_name(&self, _name: &Name) -> Option<Name> {
        None
    }

    fn activity(&self, call: ActivityCall) -> ActivityFuture {
        let (run, gate) = (Arc::clone(&self.activities_run), Arc::clone(&self.gate));
        Box::pin(async move {
            tokio::select! {
                () = call.cancellation.cancelled() => Outcome::Failed(Box::new(Failure::new("Cancelled", "cancelled"))),
                permit = gate.acquire() => {
                    permit.unwrap().forget();
                    run.fetch_add(1, Ordering::AcqRel);
                    Outcome::Completed(call.input)
                }
            }
        })
    }
}

impl Worker for PlainWorker {
    fn turn(&mut self, item: &TurnItem) -> TurnOutcome {
        let live = self
            .1
            .remove(&item.instance)
            .filter(|live| live.len() == item.past_events as usize);
        let Some(mut events) = item.past.clone().or(live) else {
            return TurnOutcome::NeedsHistory;
        };
        events.extend(item.new_events.iter().cloned());
        let mut name = String::new();
        let mut steps = 0;
        let mut done = 0;
        let mut raised = false;
        let mut input = None;
        for event in &events {
            match &event.kind {
                EventKind::ExecutionStarted(started) => {
                    name = started.name.to_string();
                    input.clone_from(&started.input);
                    steps = started
                        .input
                        .as_ref()
                        .map_or(0, |input| input.to_text().parse().unwrap());
                }
                EventKind::TaskCompleted { .. } => done += 1,
                EventKind::EventRaised { .. } => raised = true,
                _ => {}
            }
        }
        let schedule = |index: i32| Action {
            id: index,
            kind: ActionKind::ScheduleTask {
                name: Name::new("Step").unwrap(),
                version: None,
                input: Some(Payload::text("x")),
                tags: Tags::new(),
            },
        };
        let complete = Action {
            id: 99,
            kind: ActionKind::CompleteOrchestration(Completion::Completed(Some(Payload::text("ok")))),
        };
        let actions = match name.as_str() {
            "Break" => panic!("a broken assertion"),
            "Panic" => {
                return TurnOutcome::Failed {
                    reason: "it panicked".to_owned(),
                };
            }
            "Loop" => {
                self.0.looping.fetch_add(1, Ordering::AcqRel);
                while self.0.unblock.load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                }
                vec![complete]
            }
            "Again" => vec![Action {
                id: 0,
                kind: ActionKind::CompleteOrchestration(Completion::ContinuedAsNew {
                    input,
                    version: None,
                    carried: Vec::new(),
                }),
            }],
            "Huge" => {
                let input = Some(Payload::new(vec![b'0'; limits::PAYLOAD_BYTES_MAX]));
                let task = || ActionKind::ScheduleTask {
                    name: Name::stored("Step"),
                    version: None,
                    input: input.clone(),
                    tags: Tags::new(),
                };
                let count = i32::try_from(limits::TURN_ANSWER_BYTES_MAX / limits::PAYLOAD_BYTES_MAX).unwrap();
                (0..=count).map(|id| Action { id, kind: task() }).collect()
            }
            "Wait" if !raised => Vec::new(),
            "Steps" if done < steps => vec![schedule(done)],
            _ => vec![complete],
        };
        // The action events of this turn take their places in history too.
        events.extend(
            actions
                .iter()
                .map(|_| HistoryEvent::inbound(item.new_events[0].at, EventKind::OrchestratorStarted)),
        );
        self.1.insert(item.instance.clone(), events);
        TurnOutcome::Answer(TurnAnswer {
            fence: item.fence,
            actions,
            custom_status: None,
            events_processed: None,
        })
    }

    fn evict(&mut self, _partition: &PartitionKey, instance: &InstanceId) {
        self.1.remove(instance);
    }

    fn forget(&mut self, _partition: &PartitionKey) {
        self.1.clear();
    }

    fn live_bytes(&self) -> usize {
        0
    }
}

pub(crate) fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

/// An id with this beginning whose instance is in the partition, of so many.
pub(crate) fn in_partition(partition: u16, partitions: u16, begin: &str) -> String {
    let mut ids = (0..).map(|number| format!("{begin}{number}"));
    ids.find(|text| partition_of(&id(text), partitions) == partition)
        .unwrap()
}

pub(crate) fn start(instance: &str, name: &str, input: Option<&str>) -> StartRequest {
    StartRequest {
        instance: id(instance),
        name: Name::new(name).unwrap(),
        version: None,
        input: input.map(Payload::text),
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    }
}

pub(crate) async fn open(data: &MemData, functions: &Plain) -> Hub {
    open_with(data, functions, Options::default()).await
}

pub(crate) async fn open_with(data: &MemData, functions: &Plain, options: Options) -> Hub {
    open_store(MemStore::over(data), functions, options).await
}

async fn open_store(store: impl Store, functions: &Plain, options: Options) -> Hub {
    let name = HubName::new("TestHub").unwrap();
    let functions = Arc::new(functions.clone());
    Hub::open(Arc::new(store), name, options, functions).await.unwrap()
}

/// A hub on a store whose calls meet faults, those of its readers too.
pub(crate) async fn open_on(data: &MemData, faults: &Faults, functions: &Plain, options: Options) -> Hub {
    open_halves(
        faults.writer(data.writer()),
        faults.reader(data.reader()),
        functions,
        options,
    )
    .await
}

/// A hub on a store made of two halves.
pub(crate) async fn open_halves(
    writer: impl Writer + 'static,
    reader: impl Reader + 'static,
    functions: &Plain,
    options: Options,
) -> Hub {
    open_store(Inline::new(writer, reader), functions, options).await
}

/// What takes longer hangs. Nothing passes by waiting for it.
pub(crate) const GRACE: Duration = Duration::from_mins(2);

/// So long that no turn that returns is taken for one that does not, whatever else the machine has to do.
pub(crate) const TURN_LIMIT: Duration = Duration::from_secs(5);

/// A writer whose groups are looked at before they are staged, and may be refused.
pub(crate) struct Watched<W, F>(pub(crate) W, pub(crate) F);

impl<W: Writer, F: FnMut(&Group) -> Result<(), StoreError> + Send> Writer for Watched<W, F> {
    fn list_hubs(&mut self) -> Result<Vec<HubInfo>, StoreError> {
        self.0.list_hubs()
    }

    fn create_hub(&mut self, name: &HubName, partitions: u16, now: Timestamp) -> Result<HubInfo, StoreError> {
        self.0.create_hub(name, partitions, now)
    }

    fn delete_hub(&mut self, name: &HubName) -> Result<HubInfo, StoreError> {
        self.0.delete_hub(name)
    }

    fn beat(&mut self, node: NodeId, lasts: Duration, now: Timestamp) -> Result<Beat, StoreError> {
        self.0.beat(node, lasts, now)
    }

    fn claim(&mut self, claim: &Claim) -> Result<Claimed, StoreError> {
        self.0.claim(claim)
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), StoreError> {
        self.0.release(leases)
    }

    fn stage(&mut self, group: &Group) -> Result<(), StoreError> {
        (self.1)(group)?;
        self.0.stage(group)
    }

    fn seal(&mut self) -> Result<(), StoreError> {
        self.0.seal()
    }

    fn compact(&mut self) -> Result<Space, StoreError> {
        self.0.compact()
    }

    fn find_room(&mut self) -> Result<(), StoreError> {
        self.0.find_room()
    }

    fn work(&self) -> Work {
        self.0.work()
    }
}

/// Lets groups through while it is open, and remembers them.
#[derive(Default)]
pub(crate) struct Gate {
    is_shut: Mutex<bool>,
    moved: Condvar,
    /// Groups that wait before it.
    held: AtomicUsize,
    /// Of each group, the bytes and the instances of its commits.
    pub(crate) groups: Mutex<Vec<(usize, BTreeSet<String>)>>,
}

impl Gate {
    pub(crate) fn set(&self, is_shut: bool) {
        *self.is_shut.lock().unwrap() = is_shut;
        self.moved.notify_all();
    }

    /// Waits until a group is before it, so that what comes from now on goes into another one.
    pub(crate) async fn holds_one(&self) {
        while self.held.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn pass(&self, group: &Group) {
        self.held.fetch_add(1, Ordering::AcqRel);
        let is_shut = self.is_shut.lock().unwrap();
        drop(self.moved.wait_while(is_shut, |is_shut| *is_shut).unwrap());
        self.held.fetch_sub(1, Ordering::AcqRel);
        let commits = || group.sections.iter().flat_map(|section| &section.commits);
        let bytes = commits().map(taskhub_core::commit::Commit::size).sum();
        let instances = commits().map(|commit| commit.instance.to_string()).collect();
        self.groups.lock().unwrap().push((bytes, instances));
    }
}

/// Goes on with it once.
pub(crate) async fn is_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) {
    poll_fn(|context| {
        assert!(Pin::new(&mut *future).poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

pub(crate) type Started<'h> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'h>>;

/// Asks for starts in this order, and answers once so many instances have begun and what came of them is handed over.
pub(crate) async fn ask(hub: &Hub, requests: Vec<StartRequest>, begun: usize) -> Vec<Started<'_>> {
    let mut starts: Vec<Started<'_>> = requests
        .into_iter()
        .map(|request| Box::pin(hub.start(request)) as Started<'_>)
        .collect();
    poll_fn(|context| {
        for start in &mut starts {
            assert!(start.as_mut().poll(context).is_pending());
        }
        Poll::Ready(())
    })
    .await;
    round(hub, begun).await;
    starts
}

/// Waits until so many instances are there, and for the end of the round that made the last.
pub(crate) async fn round(hub: &Hub, instances: usize) {
    while hub.report().await.instances < instances {
        tokio::task::yield_now().await;
    }
    hub.report().await;
}

/// Why an instance is set aside, once that is put down.
pub(crate) async fn stalled(hub: &Hub, id: &InstanceId) -> String {
    loop {
        match hub.info(id).await {
            Ok(Some(InstanceInfo {
                stalled: Some(stall), ..
            })) => return stall.reason,
            Ok(_) | Err(Error::Unavailable) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
