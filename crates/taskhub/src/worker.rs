//! Runs registered functions for the engine: turns on its partition threads, activities on its runtime.
//!
//! Between turns the futures of orchestrators stay in memory, under a byte budget. One is used again only
//! for the turn that follows the last one it ran, under the same epoch; otherwise it is dropped, and the
//! next one replays the history (A22).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::failure::Failure;
use taskhub_core::id::{Epoch, ExecutionId, InstanceId, Name};
use taskhub_core::message::Outcome;
use taskhub_engine::worker::{ActivityCall, ActivityFuture, Functions, TurnItem, TurnOutcome, Worker};
use taskhub_store::PartitionKey;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::activity::{self, ActivityContext};
use crate::divergence;
use crate::error::ACTIVITY_NOT_REGISTERED;
use crate::management::{ClientBinding, Front};
use crate::registry::Registry;
use crate::replay::{Answered, Execution, Stop};

/// What becomes of an instance whose code does not repeat its history (R40, R41), or is not registered (R166).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNonDeterminism {
    /// It fails.
    #[default]
    Fail,
    /// It is set aside with the reason visible and tried again, which suits a deployment that is rolled back. Under a
    /// hub, one whose orchestrator is not registered takes no memory and begins no turn until it is.
    Block,
}

/// How registered functions are run.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Bytes of orchestrators kept live per partition thread, roughly. The one that ran last stays in any case,
    /// unless this is 0, which keeps none.
    pub live_bytes_max: usize,
    /// Runs every turn again from the start of its history and compares what it asks for (A28). Costly: for
    /// development and tests.
    pub check_replay: bool,
    /// What becomes of an instance whose code does not repeat its history.
    pub on_nondeterminism: OnNonDeterminism,
    /// Blocking activities that run at once.
    pub blocking_max: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            live_bytes_max: 256 << 20,
            check_replay: false,
            on_nondeterminism: OnNonDeterminism::default(),
            blocking_max: 64,
        }
    }
}

/// The functions of a [`Registry`] as the engine takes them.
#[derive(Debug)]
pub struct RegisteredFunctions {
    registry: Arc<Registry>,
    options: WorkerOptions,
    blocking: Arc<Semaphore>,
    /// Where it was made.
    runtime: Option<Handle>,
    front: Front,
}

impl RegisteredFunctions {
    /// Offers the functions of a registry. The Tokio runtime that is current now, if there is one, is current
    /// for orchestrators too.
    pub fn new(registry: Registry, options: WorkerOptions) -> Self {
        let blocking = Arc::new(Semaphore::new(options.blocking_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            registry: Arc::new(registry),
            options,
            blocking,
            runtime: Handle::try_current().ok(),
            front: Front::default(),
        }
    }

    /// Lets activities know where their hub is served.
    pub(crate) fn behind(mut self, front: Front) -> Self {
        self.front = front;
        self
    }

    /// Tells activities where their hub is served over HTTP, as its server says, so that they can hand out links to
    /// instances. Those that ask before are refused.
    pub fn set_client_binding(&self, binding: ClientBinding) {
        self.front.set(binding);
    }
}

impl Functions for RegisteredFunctions {
    fn worker(&self) -> Box<dyn Worker> {
        let worker = LiveWorker::new(Arc::clone(&self.registry), self.options.clone());
        Box::new(worker.within(self.runtime.clone()))
    }

    fn orchestrator_name(&self, name: &Name) -> Option<Name> {
        self.registry.orchestrator_name(name).cloned()
    }

    fn activity(&self, call: ActivityCall) -> ActivityFuture {
        let Some(entry) = self.registry.find_activity(&call.name) else {
            let message = self.registry.activity_missing(&call.name);
            let failure = Failure::new(ACTIVITY_NOT_REGISTERED, message).non_retriable();
            return Box::pin(std::future::ready(Outcome::Failed(Box::new(failure))));
        };
        let (entry, blocking) = (Arc::clone(entry), Arc::clone(&self.blocking));
        let context = ActivityContext::new(call, self.front.clone());
        Box::pin(async move { activity::perform(&entry, context, blocking).await })
    }
}

/// Runs the turns of one partition thread.
pub(crate) struct LiveWorker {
    registry: Arc<Registry>,
    options: WorkerOptions,
    runtime: Option<Handle>,
    live: HashMap<PartitionKey, HashMap<InstanceId, Live>>,
    /// When each live execution ran last, oldest first.
    by_use: BTreeMap<u64, (PartitionKey, InstanceId)>,
    uses: u64,
    bytes: usize,
}

/// An execution between two turns.
struct Live {
    execution: Execution,
    execution_id: ExecutionId,
    epoch: Epoch,
    last_use: u64,
    bytes: usize,
    /// Its history, kept only where turns are checked.
    history: Vec<HistoryEvent>,
}

impl Live {
    fn fits(&self, item: &TurnItem) -> bool {
        self.execution_id == item.execution
            && self.epoch == item.epoch()
            && self.execution.history_events() == item.past_events
    }
}

impl LiveWorker {
    pub(crate) fn new(registry: Arc<Registry>, options: WorkerOptions) -> Self {
        Self {
            registry,
            options,
            runtime: None,
            live: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
        }
    }

    /// Makes a runtime current for the code. What it makes of it, such as a sleep, then stays pending and is
    /// noticed, where it would panic on a thread without one (R44, A37).
    fn within(mut self, runtime: Option<Handle>) -> Self {
        self.runtime = runtime;
        self
    }

    fn take(&mut self, partition: &PartitionKey, instance: &InstanceId) -> Option<Live> {
        let live = self.live.get_mut(partition)?.remove(instance)?;
        self.by_use.remove(&live.last_use);
        self.bytes -= live.bytes;
        Some(live)
    }

    fn keep(&mut self, item: &TurnItem, mut live: Live) {
        self.uses += 1;
        live.last_use = self.uses;
        live.bytes = live.execution.size() + live.history.iter().map(HistoryEvent::size).sum::<usize>();
        self.bytes += live.bytes;
        self.by_use
            .insert(self.uses, (item.partition.clone(), item.instance.clone()));
        if let Some(partition) = self.live.get_mut(&item.partition) {
            partition.insert(item.instance.clone(), live);
        } else {
            self.live
                .insert(item.partition.clone(), HashMap::from([(item.instance.clone(), live)]));
        }
        // One that is larger than the whole budget would be replayed at every turn.
        let spared = usize::from(self.options.live_bytes_max > 0);
        while self.bytes > self.options.live_bytes_max && self.by_use.len() > spared {
            let Some((_, (partition, instance))) = self.by_use.pop_first() else {
                break;
            };
            self.take(&partition, &instance);
        }
    }

    fn run(&mut self, item: &TurnItem) -> TurnOutcome {
        let kept = self
            .take(&item.partition, &item.instance)
            .filter(|live| live.fits(item));
        let (mut live, past) = match (kept, &item.past) {
            (Some(live), None) => (live, &[][..]),
            // A caller that sends the history wants a replay.
            (_, Some(past)) => {
                let Some(execution) = Execution::of(past.iter().chain(item.new_events.iter())) else {
                    return TurnOutcome::Failed {
                        reason: "the history contains no `ExecutionStarted` event".to_owned(),
                    };
                };
                let (execution_id, epoch, history) = (item.execution, item.epoch(), past.clone());
                let history = if self.options.check_replay { history } else { Vec::new() };
                (
                    Live {
                        execution,
                        execution_id,
                        epoch,
                        last_use: 0,
                        bytes: 0,
                        history,
                    },
                    &past[..],
                )
            }
            (None, None) => return TurnOutcome::NeedsHistory,
        };
        let answered = live.execution.turn(&self.registry, past, &item.new_events);
        let answered = match answered {
            Ok(answered) if self.options.check_replay => {
                match check(&self.registry, &live.history, &item.new_events, &answered) {
                    Ok(()) => Ok(answered),
                    Err(failure) => return self.diverged(item, failure),
                }
            }
            other => other,
        };
        match answered {
            Ok(answered) => {
                if !answered.is_end() {
                    if self.options.check_replay {
                        live.history.extend(item.new_events.iter().cloned());
                        live.history.extend(answered.actions.iter().filter_map(recorded));
                    }
                    self.keep(item, live);
                }
                answer(item, answered)
            }
            Err(Stop::Panicked(reason)) => {
                let name = &live.execution.identity().name;
                TurnOutcome::Failed {
                    reason: format!("orchestrator `{name}` panicked: {reason}"),
                }
            }
            Err(Stop::Diverged(divergence)) => self.diverged(item, divergence.failure(live.execution.identity())),
            Err(Stop::Unregistered(failure)) => self.diverged(item, *failure),
        }
    }

    fn diverged(&self, item: &TurnItem, failure: Failure) -> TurnOutcome {
        match self.options.on_nondeterminism {
            OnNonDeterminism::Block => TurnOutcome::Failed {
                reason: failure.message,
            },
            OnNonDeterminism::Fail => answer(item, failed(failure)),
        }
    }
}

/// The answer that fails an instance. Its id is below those of all actions, since it belongs to none.
fn failed(failure: Failure) -> Answered {
    let kind = ActionKind::CompleteOrchestration(Completion::Failed(Box::new(failure)));
    Answered {
        actions: vec![Action { id: -1, kind }],
        custom_status: None,
    }
}

fn answer(item: &TurnItem, answered: Answered) -> TurnOutcome {
    TurnOutcome::Answer(TurnAnswer {
        fence: item.fence,
        actions: answered.actions,
        custom_status: answered.custom_status,
        events_processed: None,
    })
}

/// Runs a turn again from the start of its history and compares what it asks for (A28).
fn check(registry: &Registry, past: &[HistoryEvent], new: &[HistoryEvent], answered: &Answered) -> Result<(), Failure> {
    let Some(execution) = Execution::of(past.iter().chain(new)) else {
        return Ok(());
    };
    let mut execution = execution.into_check();
    let divergence = match execution.turn(registry, past, new) {
        Ok(again) if again == *answered => return Ok(()),
        Ok(again) => divergence::unlike(&answered.actions, &again.actions),
        Err(Stop::Panicked(reason)) => divergence::stopped(&format!("it panicked: {reason}")),
        Err(Stop::Diverged(divergence)) => divergence,
        // The answer already contains it.
        Err(Stop::Unregistered(_)) => return Ok(()),
    };
    Err(divergence.failure(execution.identity()))
}

/// The event a committed action leaves in the history, as far as a replay looks at it.
fn recorded(Action { id, kind }: &Action) -> Option<HistoryEvent> {
    let kind = match kind.clone() {
        ActionKind::ScheduleTask {
            name,
            version,
            input,
            tags,
        } => EventKind::TaskScheduled {
            name,
            version,
            input,
            tags,
        },
        ActionKind::CreateTimer { fire_at } => EventKind::TimerCreated { fire_at },
        ActionKind::CreateSubOrchestration {
            instance,
            name,
            version,
            input,
            tags,
        } => {
            // An id the engine makes up is not compared, so a stand-in will do.
            let instance = instance.or_else(|| InstanceId::new("derived").ok())?;
            EventKind::SubOrchestrationInstanceCreated {
                instance,
                name,
                version,
                input,
                tags,
            }
        }
        ActionKind::SendEvent { instance, name, input } => EventKind::EventSent { instance, name, input },
        ActionKind::CancelTimer { .. }
        | ActionKind::TerminateOrchestration { .. }
        | ActionKind::CompleteOrchestration(_) => return None,
    };
    Some(HistoryEvent {
        id: *id,
        at: taskhub_core::time::Timestamp::default(),
        kind,
    })
}

impl Worker for LiveWorker {
    fn turn(&mut self, item: &TurnItem) -> TurnOutcome {
        let runtime = self.runtime.clone();
        let _context = runtime.as_ref().map(Handle::enter);
        self.run(item)
    }

    fn evict(&mut self, partition: &PartitionKey, instance: &InstanceId) {
        self.take(partition, instance);
    }

    fn forget(&mut self, partition: &PartitionKey) {
        for live in self.live.remove(partition).into_iter().flat_map(HashMap::into_values) {
            self.by_use.remove(&live.last_use);
            self.bytes -= live.bytes;
        }
    }

    fn live_bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for LiveWorker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "LiveWorker({} executions, {} bytes)",
            self.by_use.len(),
            self.bytes
        )
    }
}
