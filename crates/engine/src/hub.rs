//! The façade: a hub's verbs. Fronts and the library decode, call one of these, and encode.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{ExecutionId, HubName, IdempotencyKey, InstanceId, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_store::{Error as StoreError, ExecutionKey, Extent, Selection, Store, decode_history};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::common::Common;
use crate::dispatcher::{Capacity, Dispatcher};
use crate::error::Error;
use crate::io::{Input, Reply, Request, WaitFor};
use crate::link::{HubInput, Report};
use crate::node::Node;
use crate::options::Options;
pub use crate::purge::Purged;
pub use crate::reply::Held;
use crate::reply::{Claim, To};
use crate::run::Supervisor;
use crate::shared::{Drain, Parts, Shared};
use crate::watchdog::LOST_THREADS_MAX;
use crate::worker::{Functions, Offered};
pub use taskhub_store::HistoryRange;

/// A read not answered within this time answers "timed out"; what would change something and is not begun within it is
/// taken back (R191).
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between attempts to wait on a hub whose partitions are reloading.
pub(crate) const WAIT_PAUSE_MIN: Duration = Duration::from_millis(10);
pub(crate) const WAIT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Requests that may wait for an answer; more are refused at once (P8).
const REQUESTS_MAX: usize = 100_000;
/// Shortest time a stop gives a thread to end its round.
const DRAIN_MIN: Duration = Duration::from_secs(1);

/// What keeps a hub from making anything durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its store has no room for new work (A43).
    Full,
    /// Its store is out of reach, or fails.
    Failing,
    /// The file of its store is damaged where work has to be written. Until the store is repaired and opened again only
    /// reads are answered.
    Damaged,
}

/// Part of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPart {
    /// Its events.
    pub events: Vec<HistoryEvent>,
    /// Bytes that they have in the store.
    pub bytes: usize,
    /// Events that the history had when it was looked for.
    pub total: u32,
    /// Whose it is; a part of another execution does not go on with it.
    pub execution: ExecutionId,
}

/// A running hub. Dropping it ends its threads; [`Hub::stop`] does so without leaving work half done.
#[derive(Debug)]
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
    node: Node,
    /// The node belongs to this hub alone, and stops with it.
    owns_node: bool,
}

impl Hub {
    /// Opens a hub on a store, creating it if necessary.
    ///
    /// # Errors
    ///
    /// An error of the store.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, since activities run on it.
    pub async fn open(
        store: Arc<dyn Store>,
        name: HubName,
        options: Options,
        functions: Arc<dyn Functions>,
    ) -> Result<Self, Error> {
        let node = Node::start(store, &options)?;
        let mut hub = Self::open_on(node, name, options, functions).await?;
        hub.owns_node = true;
        Ok(hub)
    }

    pub(crate) async fn open_on(
        node: Node,
        name: HubName,
        options: Options,
        functions: Arc<dyn Functions>,
    ) -> Result<Self, Error> {
        let partitions = open_hub(node.common(), &name, &options).await?;
        let capacity = Capacity {
            overall: options.activities_max.max(1),
            by_name: options.activities_by_name.clone(),
        };
        let (drains, asked_to_drain) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(Parts {
            node: Arc::clone(node.common()),
            hub: name,
            partitions,
            functions,
            dispatcher: Dispatcher::new(capacity).offering(options.activities_offered.clone()),
            orchestrators_offered: Offered::new(options.orchestrators_offered.clone()),
            drains,
        }));
        node.common().enter(&shared);
        let hub = Self {
            shared: Arc::clone(&shared),
            node,
            owns_node: false,
        };
        let supervisor = Supervisor::start(Arc::clone(&shared), options).await?;
        shared.spawn_main(supervisor.supervise(asked_to_drain));
        Ok(hub)
    }

    /// Its name.
    pub fn name(&self) -> &HubName {
        &self.shared.hub
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.node.store
    }

    /// Starts an instance. When this returns it is durable. It goes by the registered name of its orchestrator, as far
    /// as that is known here (R77).
    ///
    /// # Errors
    ///
    /// `instance-exists` as the request's policy says (R136), and as all calls.
    pub async fn start(&self, request: StartRequest) -> Result<(), Error> {
        self.start_until(request, sleep(CALL_DEADLINE), None).await
    }

    /// The same, if it is begun until it is enough: otherwise it is taken back, and nothing has come of it. What is begun
    /// is waited for until it is durable, or known to be lost. Something may be kept until the request is done with, also
    /// when nobody waits for it any longer.
    ///
    /// # Errors
    ///
    /// `store-unavailable` if it was taken back, and as [`Hub::start`].
    pub async fn start_until(
        &self,
        mut request: StartRequest,
        enough: impl Future<Output = ()>,
        held: Option<Held>,
    ) -> Result<(), Error> {
        if let Some(registered) = self.shared.functions.orchestrator_name(&request.name) {
            request.name = registered;
        }
        let instance = request.instance.clone();
        self.change(&instance, Request::Start(Box::new(request)), enough, held)
            .await
    }

    /// The status record of an instance; `None` if it does not exist (R12).
    ///
    /// # Errors
    ///
    /// As all calls: the store failed, the hub has stopped or overloaded.
    pub async fn info(&self, instance: &InstanceId) -> Result<Option<InstanceInfo>, Error> {
        let info = match self.read(instance, Request::Info, Some(CALL_DEADLINE)).await? {
            Some(info) => info,
            None => self.stored(instance).await?.map(|state| state.info),
        };
        Ok(info.map(|info| self.with_reason(info)))
    }

    /// Adds to the status of an instance that no worker here has its orchestrator (R164). This is not stored, because
    /// the next process may have the function.
    fn with_reason(&self, mut info: InstanceInfo) -> InstanceInfo {
        let is_idle = info.status.is_terminal() || info.status == RuntimeStatus::Suspended;
        if !is_idle && info.stalled.is_none() && !self.shared.orchestrators_offered.has(&info.name) {
            info.stalled = Some(Box::new(Stall {
                since: info.updated_at,
                reason: format!(
                    "no worker has the orchestrator `{}`; the instance waits until one does",
                    info.name
                ),
                attempts: 0,
            }));
        }
        info
    }

    /// The stored state of an instance without its history; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// As all calls.
    pub async fn state(&self, instance: &InstanceId) -> Result<Option<InstanceState>, Error> {
        // The answer waits for the last commit it shows, so the store has all of it by now.
        match self.info(instance).await? {
            Some(_) => Ok(self.stored(instance).await?.map(|mut state| {
                state.info = self.with_reason(state.info);
                state
            })),
            None => Ok(None),
        }
    }

    /// The history of an instance's current execution; `None` if the instance does not exist.
    ///
    /// # Errors
    ///
    /// As all calls.
    pub async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryEvent>>, Error> {
        let part = self.history_part(instance, HistoryRange::ALL).await?;
        Ok(part.map(|part| part.events))
    }

    /// Part of it: at least as many events as the range says, if there are. What is stored together is read together.
    ///
    /// # Errors
    ///
    /// As all calls.
    pub async fn history_part(&self, instance: &InstanceId, range: HistoryRange) -> Result<Option<HistoryPart>, Error> {
        // The answer waits for the last commit it shows, so the store has all of it by now.
        let Some(info) = self.info(instance).await? else {
            return Ok(None);
        };
        let Some(state) = self.stored(instance).await? else {
            return Ok(None);
        };
        let ordinal = state.info.ordinal.max(info.ordinal);
        let execution = ExecutionKey {
            partition: self.shared.partition(self.shared.partition_of(instance)),
            number: state.number,
            ordinal,
        };
        let chunks = self.shared.node.store.history(&execution, range).await?;
        Ok(Some(HistoryPart {
            events: decode_history(&chunks)?,
            bytes: chunks.iter().map(|chunk| chunk.body.len()).sum(),
            total: state.history_events,
            execution: state.info.execution,
        }))
    }

    /// A page of status records, by created time, then id (R13).
    ///
    /// # Errors
    ///
    /// As all calls.
    pub async fn query(&self, filter: Filter, after: Option<Cursor>, rows_max: usize) -> Result<Page, Error> {
        self.query_with(filter, after, rows_max, Payloads::ALL).await
    }

    /// The same with some payloads only.
    ///
    /// # Errors
    ///
    /// As all calls.
    pub async fn query_with(
        &self,
        filter: Filter,
        after: Option<Cursor>,
        rows_max: usize,
        payloads: Payloads,
    ) -> Result<Page, Error> {
        let which = Selection {
            hub: self.shared.hub.clone(),
            filter,
            after,
            rows_max,
        };
        let mut page = self.shared.node.store.list(&which, payloads).await?.page;
        page.rows = page.rows.into_iter().map(|info| self.with_reason(info)).collect();
        Ok(page)
    }

    /// How many instances there are in each status.
    ///
    /// # Errors
    ///
    /// As all calls.
    pub async fn counts(&self) -> Result<Vec<(RuntimeStatus, u64)>, Error> {
        Ok(self.shared.node.store.counts(&self.shared.hub).await?)
    }

    /// Raises an event (R77). When this returns it is durable.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, `instance-not-live` (R81), `inbox-full` (R86), and as all calls.
    pub async fn raise_event(
        &self,
        instance: &InstanceId,
        name: Name,
        input: Option<Payload>,
        key: Option<IdempotencyKey>,
    ) -> Result<(), Error> {
        let raise = Request::Raise { name, input, key };
        self.change(instance, raise, sleep(CALL_DEADLINE), None).await
    }

    /// The same, and keeps something as [`Hub::start_until`] does.
    ///
    /// # Errors
    ///
    /// As [`Hub::raise_event`].
    pub async fn raise_event_holding(
        &self,
        instance: &InstanceId,
        (name, input): (Name, Option<Payload>),
        key: Option<IdempotencyKey>,
        held: Held,
    ) -> Result<(), Error> {
        let raise = Request::Raise { name, input, key };
        self.change(instance, raise, sleep(CALL_DEADLINE), Some(held)).await
    }

    /// Ends an instance at once (A25).
    ///
    /// # Errors
    ///
    /// `instance-not-found`, `instance-not-live`, and as all calls.
    pub async fn terminate(&self, instance: &InstanceId, reason: Option<Payload>, recurse: bool) -> Result<(), Error> {
        self.control(instance, Request::Terminate { reason, recurse }).await
    }

    /// Sets an instance aside until it is resumed (R108).
    ///
    /// # Errors
    ///
    /// `instance-not-found`, `instance-not-live`, and as all calls.
    pub async fn suspend(&self, instance: &InstanceId, reason: Option<Payload>) -> Result<(), Error> {
        self.control(instance, Request::Suspend { reason }).await
    }

    /// Lets a suspended instance go on (R111).
    ///
    /// # Errors
    ///
    /// `instance-not-found`, `instance-not-live`, and as all calls.
    pub async fn resume(&self, instance: &InstanceId, reason: Option<Payload>) -> Result<(), Error> {
        self.control(instance, Request::Resume { reason }).await
    }

    /// Waits until an instance has begun or ended, however long that takes. The caller may give up by
    /// dropping the future.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, also when it is purged meanwhile, and as all calls.
    pub async fn wait(&self, instance: &InstanceId, wait: WaitFor) -> Result<InstanceInfo, Error> {
        let mut pause = WAIT_PAUSE_MIN;
        let info = loop {
            if let Some(info) = self.read(instance, Request::Wait(wait), None).await? {
                break info;
            }
            let stored = self.stored(instance).await?;
            if stored.as_ref().is_none_or(|state| wait.is_met(state)) {
                break stored.map(|state| state.info);
            }
            // The partitions are reloading, or cannot reload at the moment.
            sleep(pause).await;
            pause = WAIT_PAUSE_MAX.min(pause * 2);
        };
        info.map(|info| self.with_reason(info)).ok_or_else(|| {
            Refusal::InstanceNotFound {
                instance: instance.clone(),
            }
            .into()
        })
    }

    /// Ends the hub's work: no activity is handed out any more, those that run get `grace` to finish,
    /// everything acknowledged is on disk (R206, R209).
    ///
    /// # Errors
    ///
    /// If the store cannot take the partitions back; everything acknowledged is safe even so.
    pub async fn stop(&self, grace: Duration) -> Result<(), Error> {
        let shared = &self.shared;
        shared.begin_stop();
        let have_ended = |dispatcher: &Dispatcher| dispatcher.running() == 0 && dispatcher.answered() == 0;
        if timeout(grace, shared.activities(have_ended)).await.is_err() {
            // The rest is abandoned (R186), but not the results that are there already.
            shared.dispatcher().cancel_all();
            let are_kept = |dispatcher: &Dispatcher| dispatcher.answered() == 0;
            let _late = timeout(DRAIN_MIN, shared.activities(are_kept)).await;
        }
        let limit = grace.max(DRAIN_MIN);
        let (done, drained) = oneshot::channel();
        let asked = shared.drains.send(Drain { limit, done });
        let drained = match asked {
            Ok(()) => drained.await.unwrap_or(Ok(())),
            // It was stopped before.
            Err(_) => Ok(()),
        };
        shared.close();
        // The store is free for the next opener once this hub is dropped.
        let ended = async {
            shared.ended().await;
            if self.owns_node {
                self.node.stop().await;
            }
        };
        let _late = timeout(limit, ended).await;
        Ok(drained?)
    }

    /// Whether it is stopping or has stopped.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    /// Stops the hub and removes it and everything in it from its store.
    ///
    /// # Errors
    ///
    /// An error of the store; the hub has stopped anyway.
    pub async fn delete(&self) -> Result<(), Error> {
        self.stop(Duration::ZERO).await?;
        let name = self.shared.hub.clone();
        self.shared.node.store.delete_hub(&name).await?;
        Ok(())
    }

    /// How the partitions were doing when their threads last ended a round. It never waits, also while a turn blocks a thread.
    pub fn figures(&self) -> Report {
        self.shared.figures()
    }

    /// How the partitions are doing, once what their threads work on is done.
    pub async fn report(&self) -> Report {
        let mut total = Report::default();
        for report in self.shared.tell_all(HubInput::Report) {
            if let Ok(report) = report.await {
                total.add(&report);
            }
        }
        total
    }

    /// Whether so many threads were lost to blocked turns, or so much of the hub itself broke, that the
    /// process had better be restarted (A33).
    pub fn is_unhealthy(&self) -> bool {
        self.shared.node.lost_threads.load(Ordering::Acquire) >= LOST_THREADS_MAX
            || self.shared.is_broken.load(Ordering::Acquire)
    }

    /// What keeps it from making anything durable, as far as the last attempt tells; absent if nothing does.
    pub fn trouble(&self) -> Option<Trouble> {
        if self.shared.node.is_full() {
            return Some(Trouble::Full);
        }
        if self.shared.node.damage().is_some() {
            return Some(Trouble::Damaged);
        }
        self.shared.node.is_failing().then_some(Trouble::Failing)
    }

    /// The number of reloads of partitions.
    pub fn reloads(&self) -> u64 {
        self.shared.reloads.load(Ordering::Acquire)
    }

    async fn change(
        &self,
        instance: &InstanceId,
        request: Request,
        enough: impl Future<Output = ()>,
        held: Option<Held>,
    ) -> Result<(), Error> {
        let answer = self.send_holding(instance, request, held)?;
        self.settle(answer, enough).await.map(|_| ())
    }

    /// What becomes of a request that changes something: taken back if it is not begun when it is enough, else known.
    pub(crate) async fn settle(&self, mut answer: Pending, enough: impl Future<Output = ()>) -> Result<Reply, Error> {
        tokio::select! {
            biased;
            reply = &mut answer.answer => return self.tell(&answer, reply),
            () = enough => {}
        }
        if answer.take_back() {
            // It was not begun, behind a disk that does not keep up: nothing has come of it, and nothing will.
            let source = "it does not keep up with what was asked for before".into();
            return Err(StoreError::Unavailable { source }.into());
        }
        self.receive(answer, None).await
    }

    /// A read's answer; `None` if a reload took it away.
    async fn read(
        &self,
        instance: &InstanceId,
        request: Request,
        deadline: Option<Duration>,
    ) -> Result<Option<Option<InstanceInfo>>, Error> {
        let answer = self.send(instance, request)?;
        match self.receive(answer, deadline).await {
            Ok(Reply::Info(info)) => Ok(Some(info.map(|info| *info))),
            Ok(Reply::Done | Reply::Purged { .. } | Reply::Refused(_) | Reply::Unreadable(_)) => {
                unreachable!("reads are answered with a status record")
            }
            Err(Error::Unavailable | Error::Displaced | Error::Store(StoreError::Full)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The state in the store. While partitions have no memory, everything acknowledged is in the store, so reads work
    /// even if the partitions cannot be claimed (A43).
    async fn stored(&self, instance: &InstanceId) -> Result<Option<InstanceState>, Error> {
        let partition = self.shared.partition(self.shared.partition_of(instance));
        let states = self
            .shared
            .node
            .store
            .load(&partition, std::slice::from_ref(instance))
            .await?;
        Ok(states.into_iter().flatten().next())
    }

    pub(crate) fn send(&self, instance: &InstanceId, request: Request) -> Result<Pending, Error> {
        self.send_holding(instance, request, None)
    }

    fn send_holding(&self, instance: &InstanceId, request: Request, held: Option<Held>) -> Result<Pending, Error> {
        if self.shared.is_stopping() {
            return Err(Error::Stopped);
        }
        if self.shared.node.is_full() && request.adds_work() {
            return Err(StoreError::Full.into());
        }
        if let Some(what) = self.shared.node.damage().filter(|_| request.adds_work()) {
            return Err(StoreError::Corrupt {
                place: format!("hub `{}`", self.shared.hub),
                what: what.to_owned(),
                extent: Extent::Pages,
            }
            .into());
        }
        // A wait may last forever, so it does not count as overload.
        let is_counted = !matches!(request, Request::Wait(_));
        let waiting = self
            .shared
            .requests
            .fetch_add(usize::from(is_counted), Ordering::AcqRel);
        let (to, answer) = oneshot::channel();
        let claim = request.is_change().then(Claim::default);
        let pending = Pending {
            shared: Arc::clone(&self.shared),
            instance: instance.clone(),
            is_counted,
            claim: claim.clone(),
            answer,
        };
        if is_counted && waiting >= REQUESTS_MAX {
            return Err(Error::Overloaded { waiting });
        }
        let index = self.shared.partition_of(instance);
        self.shared.send(
            index,
            Input::Request {
                instance: instance.clone(),
                request,
                to: To::new(to, claim, held),
            },
        );
        Ok(pending)
    }

    pub(crate) async fn receive(&self, mut pending: Pending, deadline: Option<Duration>) -> Result<Reply, Error> {
        let answer = match deadline {
            None => (&mut pending.answer).await,
            Some(deadline) => timeout(deadline, &mut pending.answer)
                .await
                .map_err(|_| Error::TimedOut)?,
        };
        self.tell(&pending, answer)
    }

    fn tell(
        &self,
        pending: &Pending,
        answer: Result<Result<Reply, Error>, oneshot::error::RecvError>,
    ) -> Result<Reply, Error> {
        match answer {
            Ok(Err(error)) => Err(error),
            Ok(Ok(Reply::Refused(refusal))) => Err(Error::Refused(refusal)),
            Ok(Ok(Reply::Unreadable(what))) => Err(StoreError::Corrupt {
                place: format!("instance `{}`", pending.instance),
                what,
                extent: Extent::Rows,
            }
            .into()),
            Ok(Ok(reply)) => Ok(reply),
            Err(_) if self.shared.is_stopping() => Err(Error::Stopped),
            Err(_) if pending.came_to_nothing() => Err(Error::Displaced),
            Err(_) => Err(Error::Unavailable),
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A request on its way.
pub(crate) struct Pending {
    shared: Arc<Shared>,
    instance: InstanceId,
    is_counted: bool,
    claim: Option<Claim>,
    answer: oneshot::Receiver<Result<Reply, Error>>,
}

impl Pending {
    /// Takes the request back, unless it is begun.
    fn take_back(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::take_back)
    }

    /// Whether the request had no effect, if it is no longer answered.
    fn came_to_nothing(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| !claim.is_made())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared
            .requests
            .fetch_sub(usize::from(self.is_counted), Ordering::AcqRel);
    }
}

/// Finds or creates the hub in the store; returns its number of partitions.
async fn open_hub(node: &Common, name: &HubName, options: &Options) -> Result<u16, Error> {
    let store = &node.store;
    let find = |hubs: Vec<taskhub_store::HubInfo>| hubs.into_iter().find(|hub| hub.name == *name);
    if let Some(found) = find(store.list_hubs().await?) {
        return Ok(found.partitions);
    }
    let created = store.create_hub(name, options.partitions, node.clock.now()).await?;
    Ok(created.partitions)
}
