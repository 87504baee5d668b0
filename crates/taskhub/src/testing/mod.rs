//! Tests of orchestrators without a store, a runtime or a clock: everything runs on the caller's thread,
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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::commit::Commit;
use taskhub_core::control::{self, Started};
use taskhub_core::event::HistoryEvent;
use taskhub_core::failure::Failure;
use taskhub_core::fold::{self, FoldedName};
use taskhub_core::id::{ExecutionId, HubName, InstanceId, InstanceNumber, Name, Occurrence};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxItem, Outcome, Repeats, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_store::PartitionKey;

use crate::codec::{self, FromPayload, IntoPayload};
use crate::error::PANIC;
use crate::hub_error::HubError;
use crate::names::{CallOrchestrator, DefineActivity, Named, RaiseEvent, StartOrchestrator};
use crate::registry::{IntoError, Registry};
use crate::replay::{Execution, Stop};
use crate::worker::{LiveWorker, WorkerOptions};
use fake::Fake;

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

/// A hub in memory with a virtual clock. Activities are run at once: the registered ones, or fakes in
/// their place. Its methods panic where a test is wrong, such as about the id of an instance.
pub struct TestHub {
    registry: Arc<Registry>,
    worker: LiveWorker,
    fakes: BTreeMap<FoldedName, Fake>,
    instances: BTreeMap<InstanceId, Kept>,
    /// Instances that something happened to and that may have a turn to run.
    touched: BTreeSet<InstanceId>,
    outbox: VecDeque<OutboxItem>,
    due: BTreeMap<(Timestamp, u64), Due>,
    calls: Vec<ActivityRecord>,
    ids: CountedIds,
    partition: PartitionKey,
    now: Timestamp,
    counter: u64,
    checks_replay: bool,
}

/// An activity call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActivityRecord {
    /// The instance that made it.
    pub instance: InstanceId,
    /// Name of the activity.
    pub name: String,
    /// Its input.
    pub input: Option<Payload>,
    /// When it was scheduled, by the virtual clock.
    pub at: Timestamp,
    /// Which attempt of its retry policy it is, as [`ActivityContext::attempt`](crate::ActivityContext::attempt) tells.
    pub attempt: u32,
}

struct Kept {
    state: InstanceState,
    history: Vec<HistoryEvent>,
    earlier: Vec<Vec<HistoryEvent>>,
}

/// What happens at some time.
enum Due {
    Timer {
        instance: InstanceId,
        number: InstanceNumber,
        occurrence: Occurrence,
    },
    Result {
        instance: InstanceId,
        number: InstanceNumber,
        occurrence: Occurrence,
        outcome: Outcome,
    },
    Start(InstanceId),
}

/// Ids by counting, so that a test sees the same ones each time.
#[derive(Default)]
struct CountedIds(u64);

impl taskhub_core::Ids for CountedIds {
    fn execution(&mut self) -> ExecutionId {
        self.0 += 1;
        ExecutionId::new(u128::from(self.0).to_be_bytes())
    }

    fn instance_number(&mut self) -> InstanceNumber {
        self.0 += 1;
        InstanceNumber(self.0)
    }
}

/// Setting up.
impl TestHub {
    /// A hub with these functions.
    ///
    /// # Panics
    ///
    /// If the registry has problems.
    pub fn new(registry: Registry) -> Self {
        assert!(registry.problems().is_empty(), "{}", registry.problems().join("; "));
        let registry = Arc::new(registry);
        let Ok(hub) = HubName::new("TestHub") else {
            unreachable!("the name follows the rules (A6)");
        };
        Self {
            worker: LiveWorker::new(Arc::clone(&registry), WorkerOptions::default()),
            registry,
            fakes: BTreeMap::new(),
            instances: BTreeMap::new(),
            touched: BTreeSet::new(),
            outbox: VecDeque::new(),
            due: BTreeMap::new(),
            calls: Vec::new(),
            ids: CountedIds::default(),
            partition: PartitionKey { hub, index: 0 },
            now: Timestamp::from_parts(EPOCH_SECONDS, 0),
            counter: 0,
            checks_replay: true,
        }
    }

    /// Whether every turn is also replayed and compared; on by default. For measurements.
    pub fn check_replay(&mut self, checks: bool) -> &mut Self {
        self.checks_replay = checks;
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

    /// Drops all live orchestrators, as a restart does: their next turns replay the history.
    pub fn restart(&mut self) -> &mut Self {
        taskhub_engine::worker::Worker::forget(&mut self.worker, &self.partition);
        self
    }

    /// Goes on with other functions, as a deployment does. Live orchestrators are dropped, and instances that
    /// were set aside, after a panic for example, are tried again (A38).
    ///
    /// # Panics
    ///
    /// If the registry has problems.
    pub fn deploy(&mut self, registry: Registry) -> &mut Self {
        assert!(registry.problems().is_empty(), "{}", registry.problems().join("; "));
        self.registry = Arc::new(registry);
        self.worker = LiveWorker::new(Arc::clone(&self.registry), WorkerOptions::default());
        let states = self.instances.values().map(|kept| &kept.state);
        let stalled = states.filter(|state| state.info.stalled.is_some());
        let retried: Vec<Commit> = stalled.map(|state| control::stall(state, None, self.now)).collect();
        for commit in retried {
            self.apply(commit);
        }
        self
    }
}

/// What clients do.
impl TestHub {
    /// Starts an orchestrator under an id that is made up: `test-1` and so on.
    pub fn start<I: IntoPayload>(&mut self, orchestrator: impl StartOrchestrator<I>, input: I) -> InstanceId {
        let id = format!("test-{}", self.instances.len() + 1);
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
            reuse: taskhub_core::message::ReusePolicy::default(),
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
        let existing = self.instances.get(&request.instance).map(|kept| &kept.state);
        match control::create(existing, &request, &mut self.ids, self.now) {
            Ok(Started::New(commit)) => self.apply(*commit),
            Ok(Started::Repeated) => {}
            Err(refusal) => panic!("{refusal}"),
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
        let (name, payload) = (Name::new(name.name())?, written(payload));
        let commit = control::raise_event(self.state(id), name, payload, None, self.now)?;
        self.apply_if_any(commit);
        Ok(())
    }

    /// Ends an instance.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn terminate(&mut self, id: &InstanceId, reason: &str) -> Result<(), HubError> {
        let commit = control::terminate(self.state(id), Some(&Payload::text(reason)), false, self.now)?;
        self.apply(commit);
        Ok(())
    }

    /// Sets an instance aside.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn suspend(&mut self, id: &InstanceId) -> Result<(), HubError> {
        let commit = control::suspend(self.state(id), None, self.now)?;
        self.apply_if_any(commit);
        Ok(())
    }

    /// Lets a suspended instance go on.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn resume(&mut self, id: &InstanceId) -> Result<(), HubError> {
        let commit = control::resume(self.state(id), None, self.now)?;
        self.apply_if_any(commit);
        Ok(())
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
        self.instances.contains_key(id)
    }

    /// The status record of an instance.
    ///
    /// # Panics
    ///
    /// If the instance does not exist; the same applies to all methods that take an id.
    pub fn info(&self, id: &InstanceId) -> &InstanceInfo {
        &self.state(id).info
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
        &self.kept(id).history
    }

    /// The histories of the executions before the current one, oldest first.
    pub fn earlier_histories(&self, id: &InstanceId) -> &[Vec<HistoryEvent>] {
        &self.kept(id).earlier
    }

    /// The activity calls so far, in the order they were made.
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
        self.due.values().filter(|due| self.is_wanted(due)).count()
    }

    fn apply_if_any(&mut self, commit: Option<Commit>) {
        if let Some(commit) = commit {
            self.apply(commit);
        }
    }

    fn kept(&self, id: &InstanceId) -> &Kept {
        let Some(kept) = self.instances.get(id) else {
            panic!("instance `{id}` does not exist in the test hub");
        };
        kept
    }

    fn state(&self, id: &InstanceId) -> &InstanceState {
        &self.kept(id).state
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
        write!(out, "TestHub({} instances at {})", self.instances.len(), self.now)
    }
}

/// A commit of the test hub's own is never refused.
fn committed(commit: Result<Commit, Refusal>) -> Commit {
    match commit {
        Ok(commit) => commit,
        Err(refusal) => unreachable!("an answer given at once is current (R24): {refusal}"),
    }
}
