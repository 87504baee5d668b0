//! Start, query, steer, wait for and purge instances: the article's operations under Rust names.

use std::fmt::Display;
use std::sync::{Arc, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_engine::{Hub as Engine, WaitFor};
use uuid::Uuid;

use crate::codec;
use crate::hub_error::HubError;
use crate::management::{CheckStatusOptions, CheckStatusResponse, Front, HttpManagementPayload};

/// Rows that a listing without pages reads at a time.
const PAGE_ROWS: usize = 1_000;

/// What a start may say besides name and input.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    instance_id: Option<String>,
    version: Option<String>,
    tags: Tags,
    at: Option<Timestamp>,
    reuse: ReusePolicy,
    key: Option<String>,
}

impl StartOptions {
    /// Nothing said.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of the instance; a random one unless said otherwise.
    #[must_use]
    pub fn instance_id(mut self, id: &str) -> Self {
        self.instance_id = Some(id.to_owned());
        self
    }

    /// The version to run under (R159).
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// A label.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Not to start before this moment (R15).
    #[must_use]
    pub fn at(mut self, moment: Timestamp) -> Self {
        self.at = Some(moment);
        self
    }

    /// What may become of an existing instance with the id. Unless said otherwise it is replaced when it
    /// has ended, and the start is refused while it is live (R136).
    #[must_use]
    pub fn reuse(mut self, policy: ReusePolicy) -> Self {
        self.reuse = policy;
        self
    }

    /// Makes a repeated start with the same key succeed without effect for 24 hours, so that a start whose
    /// answer was lost can be repeated. With a key and no id, the id is derived from the key (R139, A31). A key stands
    /// for one start of one instance: with another orchestrator or input the start is refused with
    /// `idempotency-conflict`. It is kept when the id is started again, and forgotten when the instance is purged.
    #[must_use]
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

/// What [`Client::get_status_with`] answers. Unless said otherwise the status record with the input, and no history.
///
/// ```
/// use taskhub::StatusOptions;
///
/// let all = StatusOptions::new().show_history(true).show_history_output(true);
/// assert!(all.show_input);
/// let short = StatusOptions::new().show_input(false);
/// assert!(!short.show_input && !short.show_history);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusOptions {
    /// The history too.
    pub show_history: bool,
    /// In the history, also results: of activities, of children, and of the execution. The instance's own
    /// result is in the status record in any case, and failures are in the history.
    pub show_history_output: bool,
    /// The input too: of the instance, and in its history of calls and events.
    pub show_input: bool,
}

impl StatusOptions {
    /// The input, and no history.
    pub fn new() -> Self {
        Self {
            show_history: false,
            show_history_output: false,
            show_input: true,
        }
    }

    /// Whether the history is shown; it is not unless said otherwise.
    #[must_use]
    pub fn show_history(mut self, shows: bool) -> Self {
        self.show_history = shows;
        self
    }

    /// Whether results are shown in the history; they are not unless said otherwise.
    #[must_use]
    pub fn show_history_output(mut self, shows: bool) -> Self {
        self.show_history_output = shows;
        self
    }

    /// Whether inputs are shown; they are unless said otherwise.
    #[must_use]
    pub fn show_input(mut self, shows: bool) -> Self {
        self.show_input = shows;
        self
    }
}

impl Default for StatusOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// An instance's status record, and its history if asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The record.
    pub info: InstanceInfo,
    /// The history of the current execution.
    pub history: Option<Vec<HistoryEvent>>,
}

/// Which instances. All of them, unless restricted. A listing shows the input and the output of each,
/// unless told not to; what is purged is the same either way.
#[derive(Clone, Debug, Default)]
pub struct StatusFilter {
    filter: Filter,
    hides_input: bool,
    hides_output: bool,
}

impl StatusFilter {
    /// All instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// Created at this moment or later.
    #[must_use]
    pub fn created_from(mut self, moment: Timestamp) -> Self {
        self.filter.created_from = Some(moment);
        self
    }

    /// Created before this moment.
    #[must_use]
    pub fn created_to(mut self, moment: Timestamp) -> Self {
        self.filter.created_before = Some(moment);
        self
    }

    /// In one of these statuses.
    #[must_use]
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = RuntimeStatus>) -> Self {
        self.filter.statuses = statuses.into_iter().collect();
        self
    }

    /// Of this orchestrator; the case of its name does not matter.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.filter.name = Some(name.to_owned());
        self
    }

    /// Whether a listing shows inputs; it does unless said otherwise.
    #[must_use]
    pub fn show_input(mut self, shows: bool) -> Self {
        self.hides_input = !shows;
        self
    }

    /// Whether a listing shows outputs; it does unless said otherwise.
    #[must_use]
    pub fn show_output(mut self, shows: bool) -> Self {
        self.hides_output = !shows;
        self
    }

    /// With an id that starts so.
    #[must_use]
    pub fn instance_id_prefix(mut self, prefix: &str) -> Self {
        self.filter.id_prefix = Some(prefix.to_owned());
        self
    }
}

/// The way to the instances of a hub. Cheap to clone.
///
/// A client keeps the hub: as long as one lives, the hub runs and its store stays locked, even if the
/// [`Hub`](crate::Hub) itself is gone. What the hub's own functions hold, an activity that queries instances
/// for example, is a [`WeakClient`].
#[derive(Clone, Debug)]
pub struct Client {
    engine: Arc<Engine>,
    front: Front,
}

/// A client that does not keep the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WeakClient {
    engine: Weak<Engine>,
    front: Front,
}

impl WeakClient {
    /// The client, unless the hub is gone.
    pub fn upgrade(&self) -> Option<Client> {
        let engine = self.engine.upgrade()?;
        Some(Client::new(engine, self.front.clone()))
    }
}

impl Client {
    pub(crate) fn new(engine: Arc<Engine>, front: Front) -> Self {
        Self { engine, front }
    }

    /// A client that does not keep the hub.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient {
            engine: Arc::downgrade(&self.engine),
            front: self.front.clone(),
        }
    }

    /// Starts an orchestration under a random id. When this returns it is on disk.
    ///
    /// # Errors
    ///
    /// `invalid-name`, `payload-too-large`, `payload-too-deep`, an input that cannot be written as JSON, or the hub's
    /// trouble.
    pub async fn start_new(&self, name: &str, input: impl Serialize) -> Result<InstanceId, HubError> {
        self.start_new_with(name, input, StartOptions::new()).await
    }

    /// Starts an orchestration. When this returns it is on disk.
    ///
    /// # Errors
    ///
    /// As [`Client::start_new`]; also `invalid-instance-id`, and `instance-exists` as the policy says (R136).
    pub async fn start_new_with(
        &self,
        name: &str,
        input: impl Serialize,
        options: StartOptions,
    ) -> Result<InstanceId, HubError> {
        let input = encode(&input, format_args!("the input of orchestrator `{name}`"))?;
        self.start_new_raw(name, input, options).await
    }

    /// Starts an orchestration with bytes as they are. When this returns it is on disk.
    ///
    /// # Errors
    ///
    /// As [`Client::start_new_with`], but for the JSON.
    pub async fn start_new_raw(
        &self,
        name: &str,
        input: Option<Payload>,
        options: StartOptions,
    ) -> Result<InstanceId, HubError> {
        let instance = instance_id(&options)?;
        codec::check_levels(input.as_ref(), format_args!("the input of orchestrator `{name}`"))?;
        let request = StartRequest {
            instance: instance.clone(),
            name: Name::new(name)?,
            version: options.version.as_deref().map(Name::new).transpose()?,
            input,
            tags: options.tags,
            scheduled_start: options.at,
            execution: None,
            reuse: options.reuse,
            key: options.key.as_deref().map(IdempotencyKey::new).transpose()?,
            repeats: Repeats::Always,
        };
        self.engine.start(request).await?;
        Ok(instance)
    }

    /// The status record of an instance, with its input, which [`Client::get_status_with`] can leave out; absent if
    /// there is no such instance.
    ///
    /// # Errors
    ///
    /// The hub's trouble.
    pub async fn get_status(&self, instance: &InstanceId) -> Result<Option<Status>, HubError> {
        self.get_status_with(instance, StatusOptions::default()).await
    }

    /// The status record of an instance and what else is asked for; absent if there is no such instance.
    ///
    /// # Errors
    ///
    /// The hub's trouble.
    pub async fn get_status_with(
        &self,
        instance: &InstanceId,
        options: StatusOptions,
    ) -> Result<Option<Status>, HubError> {
        let Some(mut info) = self.engine.info(instance).await? else {
            return Ok(None);
        };
        if !options.show_input {
            info.input = None;
        }
        let mut history = if options.show_history {
            self.engine.history(instance).await?
        } else {
            None
        };
        for event in history.iter_mut().flatten() {
            hide(&mut event.kind, options);
        }
        Ok(Some(Status { info, history }))
    }

    /// The status records of all instances, by created time, then id.
    ///
    /// # Errors
    ///
    /// The hub's trouble.
    pub async fn get_status_all(&self) -> Result<Vec<InstanceInfo>, HubError> {
        self.get_status_by(StatusFilter::new()).await
    }

    /// The status records of some instances, by created time, then id.
    ///
    /// # Errors
    ///
    /// The hub's trouble.
    pub async fn get_status_by(&self, filter: StatusFilter) -> Result<Vec<InstanceInfo>, HubError> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let page = self.get_status_page(filter.clone(), after, PAGE_ROWS).await?;
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }

    /// A page of status records. The next one begins where `next` says; a page may hold fewer rows than
    /// asked for. An instance that is there all the while is on exactly one page (R13).
    ///
    /// # Errors
    ///
    /// The hub's trouble.
    pub async fn get_status_page(
        &self,
        filter: StatusFilter,
        after: Option<Cursor>,
        rows_max: usize,
    ) -> Result<Page, HubError> {
        let payloads = Payloads {
            input: !filter.hides_input,
            output: !filter.hides_output,
        };
        Ok(self.engine.query_with(filter.filter, after, rows_max, payloads).await?)
    }

    /// Raises an event. When this returns it is on disk.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, `instance-not-live`, `inbox-full`, or as [`Client::start_new`].
    pub async fn raise_event(
        &self,
        instance: &InstanceId,
        name: &str,
        payload: impl Serialize,
    ) -> Result<(), HubError> {
        let payload = encode_event(&payload, instance, name)?;
        self.raise_event_raw(instance, name, payload).await
    }

    /// Raises an event with bytes as they are. When this returns it is on disk.
    ///
    /// # Errors
    ///
    /// As [`Client::raise_event`], but for the JSON.
    pub async fn raise_event_raw(
        &self,
        instance: &InstanceId,
        name: &str,
        payload: Option<Payload>,
    ) -> Result<(), HubError> {
        self.raise(instance, name, payload, None).await
    }

    /// The same with a key, which makes a repetition succeed without effect for 24 hours, however many keys come
    /// meanwhile; each takes some 200 bytes of memory until then (R83). Keys of events and of starts are apart.
    ///
    /// # Errors
    ///
    /// As [`Client::raise_event`], and `idempotency-conflict` if an event with another name or payload was raised under
    /// the key.
    pub async fn raise_event_once(
        &self,
        instance: &InstanceId,
        name: &str,
        payload: impl Serialize,
        key: &str,
    ) -> Result<(), HubError> {
        let payload = encode_event(&payload, instance, name)?;
        self.raise(instance, name, payload, Some(IdempotencyKey::new(key)?))
            .await
    }

    async fn raise(
        &self,
        instance: &InstanceId,
        name: &str,
        payload: Option<Payload>,
        key: Option<IdempotencyKey>,
    ) -> Result<(), HubError> {
        codec::check_levels(payload.as_ref(), of_event(instance, name))?;
        Ok(self
            .engine
            .raise_event(instance, Name::new(name)?, payload, key)
            .await?)
    }

    /// Ends an instance at once; its children go on (R100, R104).
    ///
    /// # Errors
    ///
    /// `instance-not-found`, `instance-not-live`, or the hub's trouble.
    pub async fn terminate(&self, instance: &InstanceId, reason: &str) -> Result<(), HubError> {
        Ok(self
            .engine
            .terminate(instance, Some(Payload::text(reason)), false)
            .await?)
    }

    /// Ends an instance at once, and its children with it.
    ///
    /// # Errors
    ///
    /// As [`Client::terminate`].
    pub async fn terminate_recursive(&self, instance: &InstanceId, reason: &str) -> Result<(), HubError> {
        Ok(self
            .engine
            .terminate(instance, Some(Payload::text(reason)), true)
            .await?)
    }

    /// Sets an instance aside until it is resumed (R108).
    ///
    /// # Errors
    ///
    /// As [`Client::terminate`].
    pub async fn suspend(&self, instance: &InstanceId, reason: &str) -> Result<(), HubError> {
        Ok(self.engine.suspend(instance, Some(Payload::text(reason))).await?)
    }

    /// Lets a suspended instance go on (R111).
    ///
    /// # Errors
    ///
    /// As [`Client::terminate`].
    pub async fn resume(&self, instance: &InstanceId, reason: &str) -> Result<(), HubError> {
        Ok(self.engine.resume(instance, Some(Payload::text(reason))).await?)
    }

    /// Waits until an instance has begun, and answers its status record. To give up earlier, drop the future.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, or the hub's trouble.
    pub async fn wait_for_start(&self, instance: &InstanceId) -> Result<InstanceInfo, HubError> {
        Ok(self.engine.wait(instance, WaitFor::Started).await?)
    }

    /// Waits until an instance has ended, however it ended, and answers its status record.
    ///
    /// # Errors
    ///
    /// `instance-not-found`, or the hub's trouble.
    pub async fn wait_for_end(&self, instance: &InstanceId) -> Result<InstanceInfo, HubError> {
        Ok(self.engine.wait(instance, WaitFor::Ended).await?)
    }

    /// Waits until an instance has completed, and answers its result.
    ///
    /// # Errors
    ///
    /// [`HubError::Failed`] and [`HubError::Terminated`] if it ended so, a result that is no `T`, and as
    /// [`Client::wait_for_end`].
    pub async fn wait_for_completion<T: DeserializeOwned>(&self, instance: &InstanceId) -> Result<T, HubError> {
        let info = self.wait_for_end(instance).await?;
        let instance = info.instance;
        match info.status {
            RuntimeStatus::Completed => {
                let result = codec::decode(
                    info.output.as_ref(),
                    format_args!("the result of instance `{instance}`"),
                );
                result.map_err(|failure| HubError::Codec {
                    failure: Box::new(failure),
                })
            }
            RuntimeStatus::Failed => Err(HubError::Failed {
                instance,
                failure: info.failure.unwrap_or_default(),
            }),
            _ => Err(HubError::Terminated {
                instance,
                reason: info.output.as_ref().map(Payload::to_text),
            }),
        }
    }

    /// Where an instance is managed over HTTP, to be sent to other systems. Nobody is asked; whether the
    /// instance exists does not matter.
    ///
    /// # Errors
    ///
    /// `not-served` if the hub was not told of a server, see [`Hub::set_client_binding`](crate::Hub::set_client_binding).
    pub fn create_http_management_payload(&self, instance: &InstanceId) -> Result<HttpManagementPayload, HubError> {
        Ok(self.front.get()?.payload(instance))
    }

    /// The answer of an HTTP function that has started an instance: 202, with where to ask for it and when.
    ///
    /// # Errors
    ///
    /// As [`Client::create_http_management_payload`].
    pub fn create_check_status_response(&self, instance: &InstanceId) -> Result<CheckStatusResponse, HubError> {
        Ok(CheckStatusResponse::pending(
            &self.create_http_management_payload(instance)?,
        ))
    }

    /// The answer of an HTTP function that waits for an instance: its output if it completes in time, its
    /// status if it ends otherwise, with 500 if it failed, and as
    /// [`Client::create_check_status_response`] if it takes longer.
    ///
    /// # Errors
    ///
    /// `invalid-argument` if the interval is longer than the wait, as
    /// [`Client::create_http_management_payload`], `instance-not-found`, or the hub's trouble.
    pub async fn wait_for_completion_or_create_check_status_response(
        &self,
        instance: &InstanceId,
        options: CheckStatusOptions,
    ) -> Result<CheckStatusResponse, HubError> {
        options.check()?;
        let pending = self.create_check_status_response(instance)?;
        match tokio::time::timeout(options.timeout, self.wait_for_end(instance)).await {
            Ok(ended) => Ok(CheckStatusResponse::ended(&ended?)),
            // The last look decides. A wait for no time at all has not even heard the answer of the first one.
            Err(_) => match self.engine.info(instance).await? {
                Some(info) if info.status.is_terminal() => Ok(CheckStatusResponse::ended(&info)),
                Some(_) => Ok(pending),
                None => Err(Refusal::InstanceNotFound {
                    instance: instance.clone(),
                }
                .into()),
            },
        }
    }

    /// Removes an ended instance and everything about it; says how many went, 0 or 1 (R129).
    ///
    /// # Errors
    ///
    /// `instance-live` if it has not ended, or the hub's trouble.
    pub async fn purge_instance_history(&self, instance: &InstanceId) -> Result<u64, HubError> {
        Ok(self.engine.purge(instance).await?.count)
    }

    /// Removes the ended instances among some; without statuses in the filter, all ended ones (R130).
    ///
    /// # Errors
    ///
    /// The hub's trouble; what was removed before stays so.
    pub async fn purge_instance_history_by(&self, filter: StatusFilter) -> Result<u64, HubError> {
        Ok(self.engine.purge_where(filter.filter).await?.count)
    }
}

/// The id of a new instance: the given one, one derived from the key, or a random one (R2, A31).
fn instance_id(options: &StartOptions) -> Result<InstanceId, Refusal> {
    match (&options.instance_id, &options.key) {
        (Some(id), _) => InstanceId::new(id),
        (None, Some(key)) => InstanceId::new(&Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()).simple().to_string()),
        (None, None) => InstanceId::new(&Uuid::new_v4().simple().to_string()),
    }
}

fn encode_event(payload: &impl Serialize, instance: &InstanceId, name: &str) -> Result<Option<Payload>, HubError> {
    encode(payload, of_event(instance, name))
}

/// What the payload of an event is called.
fn of_event(instance: &InstanceId, name: &str) -> String {
    format!("the payload of event `{name}` for instance `{instance}`")
}

/// Writes a value. How deep it is nested is looked at where it is handed over.
fn encode(value: &impl Serialize, what: impl Display) -> Result<Option<Payload>, HubError> {
    codec::write(value, what).map_err(|failure| HubError::Codec {
        failure: Box::new(failure),
    })
}

/// Takes out of an event what was not asked for.
fn hide(kind: &mut EventKind, options: StatusOptions) {
    let (payload, is_shown) = match kind {
        EventKind::ExecutionStarted(started) => (&mut started.input, options.show_input),
        EventKind::TaskScheduled { input, .. }
        | EventKind::SubOrchestrationInstanceCreated { input, .. }
        | EventKind::EventSent { input, .. }
        | EventKind::EventRaised { input, .. } => (input, options.show_input),
        EventKind::TaskCompleted { result, .. }
        | EventKind::SubOrchestrationInstanceCompleted { result, .. }
        | EventKind::ExecutionCompleted { result, .. } => (result, options.show_history_output),
        EventKind::OrchestratorStarted
        | EventKind::TaskFailed { .. }
        | EventKind::TimerCreated { .. }
        | EventKind::TimerFired { .. }
        | EventKind::SubOrchestrationInstanceFailed { .. }
        | EventKind::ExecutionSuspended { .. }
        | EventKind::ExecutionResumed { .. }
        | EventKind::ExecutionTerminated { .. } => return,
    };
    if !is_shown {
        *payload = None;
    }
}
