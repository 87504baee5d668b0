//! Tests of orchestrators without a disk, a runtime or a clock: everything runs on the caller's thread,
//! the clock is virtual, and every turn is also replayed from the start of its history and compared.
//!
//! ```
//! use std::time::Duration;
//! use taskhub::testing::TestHub;
//! use taskhub::{OrchestrationContext, Registry, Result, RetryPolicy};
//!
//! async fn fetch(ctx: OrchestrationContext, url: String) -> Result<String> {
//!     let patient = RetryPolicy::new(4, Duration::from_secs(60)).backoff_coefficient(2.0);
//!     Ok(ctx.call_activity("Get", url).retry(patient).await?)
//! }
//!
//! let mut hub = TestHub::new(Registry::new().orchestrator("Fetch", fetch));
//! let mut calls = 0;
//! hub.fake_activity("Get", move |url: String| {
//!     calls += 1;
//!     if calls < 3 { Err("unreachable".to_owned()) } else { Ok(format!("page at {url}")) }
//! });
//! let before = hub.now();
//! assert_eq!(hub.run_orchestrator::<String, _>("Fetch", "x.org").unwrap(), "page at x.org");
//! assert_eq!(hub.now().since(before).as_secs(), 60 + 120);
//! ```

mod fake;
mod run;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::event::HistoryEvent;
use taskhub_core::failure::Failure;
use taskhub_core::fold::{self, FoldedName};
use taskhub_core::id::{HubName, InstanceId, Name};
use taskhub_core::message::{Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_engine::Options;
use taskhub_engine::dispatcher::{Capacity, Dispatcher, Token};
use taskhub_engine::io::{Input, Reply, Request};
use taskhub_engine::partition::Partition;
use taskhub_engine::worker::TaskKey;
use taskhub_store::{PartitionKey, Recovered};

use crate::codec::{self, FromPayload, IntoPayload};
use crate::error::PANIC;
use crate::hub_error::HubError;
use crate::names::{CallOrchestrator, DefineActivity, Named, RaiseEvent, StartOrchestrator};
use crate::registry::{IntoError, Registry};
use crate::replay::{Execution, Stop};
use crate::worker::{LiveWorker, WorkerOptions};
use fake::Fake;
use run::{Caller, Disk};

/// Replays a recorded history with the current code, without any side effect, to check that the code still makes the
/// recorded calls. Use it with histories of running instances before you deploy a new build (R43).
///
/// ```
/// use taskhub::testing::{TestHub, retrace};
/// use taskhub::{OrchestrationContext, Registry, Result};
///
/// async fn old(ctx: OrchestrationContext, _: ()) -> Result<()> {
///     Ok(ctx.wait_for_external_event("Paid").await?)
/// }
/// async fn new(ctx: OrchestrationContext, _: ()) -> Result<()> {
///     ctx.call_activity::<(), _>("Reserve", ()).await?;
///     Ok(ctx.wait_for_external_event("Paid").await?)
/// }
///
/// let mut hub = TestHub::new(Registry::new().orchestrator("Order", old));
/// let order = hub.start("Order", ());
/// hub.run();
/// let failure = retrace(&Registry::new().orchestrator("Order", new), hub.history(&order)).unwrap_err();
/// assert!(failure.message.contains("the code schedules activity `Reserve` with id 0"));
/// ```
///
/// # Errors
///
/// The first place where code and history part, or the panic that the code came to.
pub fn retrace(registry: &Registry, history: &[HistoryEvent]) -> Result<(), Failure> {
    let Some(mut execution) = Execution::of(history.iter()).map(Execution::into_check) else {
        return Err(Failure::new(
            "NoStart",
            "the history contains no `ExecutionStarted` event",
        ));
    };
    execution.retrace(registry, history).map_err(|stop| match stop {
        Stop::Panicked(reason) => Failure::new(PANIC, reason),
        Stop::Diverged(divergence) => divergence.failure(execution.identity()),
        Stop::Unregistered(failure) => *failure,
    })
}

/// When the virtual clock begins: the start of 2024.
const EPOCH_SECONDS: i64 = 1_704_067_200;

/// A hub in memory with a virtual clock: the partition and the dispatcher of a real one, over a store in memory that
/// is never late. Limits of activities hold, a turn that gives no answer is tried again after growing pauses, and a timer
/// fires a millisecond late.
///
/// Other than on a real hub, activities take no time, but for fakes that say how much; one whose result nobody wants any
/// more ends at once; and turns begin only in [`TestHub::settle`], [`TestHub::advance`] and [`TestHub::run`]. Its methods
/// panic where a test is wrong, such as about the id of an instance.
pub struct TestHub {
    registry: Arc<Registry>,
    worker: LiveWorker,
    fakes: BTreeMap<FoldedName, Fake>,
    disk: Disk,
    partition: Partition<Caller>,
    dispatcher: Dispatcher,
    /// On their way to the partition.
    inputs: VecDeque<Input<Caller>>,
    /// The answer to the caller.
    reply: Option<Reply>,
    /// Activities that run, by when they end, with what comes of them.
    running: BTreeMap<(Timestamp, Token), (TaskKey, Outcome)>,
    histories: BTreeMap<InstanceId, Histories>,
    calls: Vec<ActivityRecord>,
    now: Timestamp,
    checks_replay: bool,
}

/// An activity call, each time that it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActivityRecord {
    /// The instance that made it.
    pub instance: InstanceId,
    /// Name of the activity.
    pub name: String,
    /// Its input.
    pub input: Option<Payload>,
    /// When it was handed out, by the virtual clock.
    pub at: Timestamp,
    /// Which attempt of its retry policy it is, as [`ActivityContext::attempt`](crate::ActivityContext::attempt) tells.
    pub attempt: u32,
    /// How often it was handed out, as [`ActivityContext::delivery`](crate::ActivityContext::delivery) tells.
    pub delivery: u32,
}

/// What was committed of an instance.
#[derive(Default)]
struct Histories {
    current: Vec<HistoryEvent>,
    earlier: Vec<Vec<HistoryEvent>>,
}

/// Setting up.
impl TestHub {
    /// A hub with these functions.
    ///
    /// # Panics
    ///
    /// If the registry has problems.
    pub fn new(registry: Registry) -> Self {
        let registry = sound(registry);
        let Ok(hub) = HubName::new("TestHub") else {
            unreachable!("the name follows the rules (A6)");
        };
        let now = Timestamp::from_parts(EPOCH_SECONDS, 0);
        let mut disk = Disk::new(PartitionKey { hub, index: 0 }, now);
        let (partition, _nothing) = disk.recover(false, now);
        Self {
            worker: worker(&registry, true),
            partition,
            dispatcher: Dispatcher::new(capacity(&registry)),
            registry,
            fakes: BTreeMap::new(),
            disk,
            inputs: VecDeque::new(),
            reply: None,
            running: BTreeMap::new(),
            histories: BTreeMap::new(),
            calls: Vec::new(),
            now,
            checks_replay: true,
        }
    }

    /// Whether every turn is also replayed and compared; on by default. For measurements.
    pub fn check_replay(&mut self, checks: bool) -> &mut Self {
        self.checks_replay = checks;
        self.worker = worker(&self.registry, checks);
        self
    }

    /// Puts a function in the place of an activity, whether that is registered or not.
    pub fn fake_activity<I, O, E>(
        &mut self,
        name: impl DefineActivity<I, O>,
        function: impl FnMut(I) -> Result<O, E> + 'static,
    ) -> &mut Self
    where
        I: FromPayload,
        O: IntoPayload,
        E: IntoError,
    {
        self.fake_activity_taking(name, Duration::ZERO, function)
    }

    /// The same for an activity that takes some time on the virtual clock. If it is registered with a limit
    /// of its own ([`ActivityOptions::start_to_close`](crate::ActivityOptions::start_to_close)) that is shorter,
    /// the call fails when that time is over.
    pub fn fake_activity_taking<I, O, E>(
        &mut self,
        name: impl DefineActivity<I, O>,
        time: Duration,
        function: impl FnMut(I) -> Result<O, E> + 'static,
    ) -> &mut Self
    where
        I: FromPayload,
        O: IntoPayload,
        E: IntoError,
    {
        let name = name.name();
        let fake = Fake::new(name, time, function);
        self.fakes.insert(FoldedName::new(Name::stored(name)), fake);
        self
    }

    /// Ends the hub and starts it again: live orchestrators are dropped, so that their next turns replay the history, and
    /// instances that were set aside, after a panic for example, are tried again (A38). Activities that run go on: their
    /// results are not lost, as after a stop with enough grace.
    pub fn restart(&mut self) -> &mut Self {
        self.recover(false);
        self
    }

    /// The same without a stop, as after a loss of power: activities that run are lost, and handed out once more, as
    /// [`ActivityRecord::delivery`] tells.
    pub fn crash(&mut self) -> &mut Self {
        self.running.clear();
        self.dispatcher = Dispatcher::new(capacity(&self.registry));
        self.recover(true);
        self
    }

    /// Goes on with other functions, as a deployment does: [`TestHub::restart`] with another registry.
    ///
    /// # Panics
    ///
    /// If the registry has problems.
    pub fn deploy(&mut self, registry: Registry) -> &mut Self {
        self.registry = sound(registry);
        self.worker = worker(&self.registry, self.checks_replay);
        self.dispatcher.set_capacity(capacity(&self.registry));
        self.restart()
    }
}

/// What clients do.
impl TestHub {
    /// Starts an orchestrator under an id that is made up: `test-1` and so on.
    pub fn start<I: IntoPayload>(&mut self, orchestrator: impl StartOrchestrator<I>, input: I) -> InstanceId {
        let id = format!("test-{}", self.histories.len() + 1);
        self.start_as(&id, orchestrator, input)
    }

    /// Starts an orchestrator under an id.
    ///
    /// # Panics
    ///
    /// If the start is refused.
    pub fn start_as<I: IntoPayload>(
        &mut self,
        id: &str,
        orchestrator: impl StartOrchestrator<I>,
        input: I,
    ) -> InstanceId {
        let (instance, name) = match (InstanceId::new(id), Name::new(orchestrator.name())) {
            (Ok(instance), Ok(name)) => (instance, name),
            (Err(refusal), _) | (_, Err(refusal)) => panic!("{refusal}"),
        };
        let input = written(input);
        self.start_request(&StartRequest {
            instance: instance.clone(),
            name,
            version: None,
            input,
            tags: BTreeMap::new(),
            scheduled_start: None,
            execution: None,
            reuse: ReusePolicy::default(),
            key: None,
            repeats: Repeats::default(),
        });
        instance
    }

    /// Starts an orchestrator with all that a request can say.
    ///
    /// # Panics
    ///
    /// If the start is refused.
    pub fn start_request(&mut self, request: &StartRequest) {
        let mut request = request.clone();
        if let Some(registered) = self.registry.orchestrator_name(&request.name) {
            request.name.clone_from(registered);
        }
        let instance = request.instance.clone();
        if let Err(refusal) = self.ask(&instance, Request::Start(Box::new(request))) {
            panic!("{refusal}");
        }
    }

    /// Raises an event.
    ///
    /// # Errors
    ///
    /// If the instance has ended, or the payload is too large.
    pub fn raise_event<T: IntoPayload>(
        &mut self,
        id: &InstanceId,
        name: impl RaiseEvent<T>,
        payload: T,
    ) -> Result<(), HubError> {
        let (name, input, key) = (Name::new(name.name())?, written(payload), None);
        self.change(id, Request::Raise { name, input, key })
    }

    /// Ends an instance.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn terminate(&mut self, id: &InstanceId, reason: &str) -> Result<(), HubError> {
        let (reason, recurse) = (Some(Payload::text(reason)), false);
        self.change(id, Request::Terminate { reason, recurse })
    }

    /// Sets an instance aside.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn suspend(&mut self, id: &InstanceId) -> Result<(), HubError> {
        self.change(id, Request::Suspend { reason: None })
    }

    /// Lets a suspended instance go on.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn resume(&mut self, id: &InstanceId) -> Result<(), HubError> {
        self.change(id, Request::Resume { reason: None })
    }

    fn change(&mut self, id: &InstanceId, request: Request) -> Result<(), HubError> {
        assert!(self.exists(id), "instance `{id}` does not exist in the test hub");
        Ok(self.ask(id, request)?)
    }

    /// Starts an orchestrator, runs everything to its end and gives its output.
    ///
    /// # Errors
    ///
    /// The failure of the orchestration, or that it has not ended.
    pub fn run_orchestrator<O: FromPayload, I: IntoPayload>(
        &mut self,
        orchestrator: impl CallOrchestrator<I, O>,
        input: I,
    ) -> Result<O, Failure> {
        let id = self.start(orchestrator.name(), input);
        self.run();
        self.output(&id)
    }
}

/// Looking.
impl TestHub {
    /// The virtual clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether an instance exists.
    pub fn exists(&self, id: &InstanceId) -> bool {
        self.partition.peek(id).is_some()
    }

    /// The status record of an instance.
    ///
    /// # Panics
    ///
    /// If the instance does not exist; the same applies to all methods that take an id.
    pub fn info(&self, id: &InstanceId) -> &InstanceInfo {
        let Some(info) = self.partition.peek(id) else {
            panic!("instance `{id}` does not exist in the test hub");
        };
        info
    }

    /// The status of an instance.
    pub fn status(&self, id: &InstanceId) -> RuntimeStatus {
        self.info(id).status
    }

    /// The output of an instance that has completed.
    ///
    /// # Errors
    ///
    /// The failure of an instance that has failed; a failure of the type `NotCompleted` for all others.
    pub fn output<O: FromPayload>(&self, id: &InstanceId) -> Result<O, Failure> {
        let info = self.info(id);
        if info.status == RuntimeStatus::Completed {
            return codec::decode(info.output.as_ref(), format_args!("the output of `{id}`"));
        }
        Err(info.failure.as_deref().cloned().unwrap_or_else(|| {
            let why = info
                .stalled
                .as_ref()
                .map(|stall| format!(", stalled because {}", stall.reason));
            Failure::new(
                "NotCompleted",
                format!("instance `{id}` is {}{}", info.status, why.unwrap_or_default()),
            )
        }))
    }

    /// The custom status of an instance as text.
    pub fn custom_status(&self, id: &InstanceId) -> Option<String> {
        self.info(id).custom_status.as_ref().map(Payload::to_text)
    }

    /// The history of the current execution.
    pub fn history(&self, id: &InstanceId) -> &[HistoryEvent] {
        &self.kept(id).current
    }

    /// The histories of the executions before the current one, oldest first.
    pub fn earlier_histories(&self, id: &InstanceId) -> &[Vec<HistoryEvent>] {
        &self.kept(id).earlier
    }

    /// The activity calls so far, in the order they were handed out.
    pub fn activity_calls(&self) -> &[ActivityRecord] {
        &self.calls
    }

    /// How often an activity was called.
    pub fn call_count(&self, activity: impl Named) -> usize {
        self.calls
            .iter()
            .filter(|call| fold::is_same(&call.name, activity.name()))
            .count()
    }

    /// Timers, activities and planned starts that lie ahead on the clock.
    pub fn pending_count(&self) -> usize {
        let stored = self.disk.read(self.partition.lease());
        let is_ahead = |item: &&Recovered| match item {
            Recovered::Task { .. } | Recovered::Timer { .. } => true,
            Recovered::Inbox { instance, .. } => self.info(instance).scheduled_start > Some(self.now),
            Recovered::Counters { .. } | Recovered::Message { .. } | Recovered::Damaged { .. } => false,
        };
        stored.iter().filter(is_ahead).count()
    }

    fn kept(&self, id: &InstanceId) -> &Histories {
        let Some(kept) = self.histories.get(id) else {
            panic!("instance `{id}` does not exist in the test hub");
        };
        kept
    }
}

/// A registry without problems.
fn sound(registry: Registry) -> Arc<Registry> {
    assert!(registry.problems().is_empty(), "{}", registry.problems().join("; "));
    Arc::new(registry)
}

fn worker(registry: &Arc<Registry>, check_replay: bool) -> LiveWorker {
    let options = WorkerOptions {
        check_replay,
        ..WorkerOptions::default()
    };
    LiveWorker::new(Arc::clone(registry), options)
}

/// The limits of a hub that says nothing about them, with those of the activities.
fn capacity(registry: &Registry) -> Capacity {
    Capacity {
        overall: Options::default().activities_max,
        by_name: registry.activity_limits().collect(),
    }
}

fn written(value: impl IntoPayload) -> Option<Payload> {
    match codec::encode(value, "a value of the test") {
        Ok(payload) => payload,
        Err(failure) => panic!("{failure}"),
    }
}

impl fmt::Debug for TestHub {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TestHub({} instances at {})", self.histories.len(), self.now)
    }
}
