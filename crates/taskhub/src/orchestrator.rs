//! The context of an orchestrator: everything its code may use besides its own values.

use std::fmt::{self, Display};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use taskhub_core::action::{ActionKind, FIRE_AND_FORGET};
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::time::Timestamp;
use taskhub_core::turn::check_custom_status;
use uuid::Uuid;

use crate::codec;
use crate::error::{Awaited, Error, INVALID_NAME, INVALID_OPTION, Result};
use crate::guid;
use crate::ledger::{Continue, Shared};
use crate::retry::{self, ATTEMPT, RetryPolicy};
use crate::task::{Call, EventWait, EventWaitFor, Timer, as_is, from_json};

/// What an orchestrator works with: durable calls, timers, events, time and ids that come out the same
/// when it is replayed. Cloning it is cheap; it belongs to one execution and stays on its thread.
///
/// An orchestrator must take everything that could differ between two runs from here or from an activity,
/// and await nothing that this context did not make (R44).
///
/// Inputs and results are whatever serde can write. A [`Uuid`] of [`OrchestrationContext::new_guid`] can be one
/// as it is; a [`Timestamp`] goes as its text (`to_string`, read by [`Timestamp::parse`]), and so does an
/// [`InstanceId`] (`as_str`, read by [`InstanceId::new`]).
#[derive(Clone)]
pub struct OrchestrationContext {
    pub(crate) shared: Rc<Shared>,
}

/// How a call is made, besides its name and input.
///
/// ```
/// # use std::time::Duration;
/// # use taskhub::{CallOptions, OrchestrationContext, Result, RetryPolicy};
/// # async fn orchestrator(ctx: OrchestrationContext, _: ()) -> Result<()> {
/// let policy = RetryPolicy::new(3, Duration::from_secs(1));
/// let pay = CallOptions::from(policy).instance_id("payment-17").tag("kind", "payment");
/// ctx.call_sub_orchestrator_with::<()>("Pay", 17, pay).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    retry: Option<RetryPolicy>,
    version: Option<String>,
    instance_id: Option<String>,
    tags: Tags,
}

impl CallOptions {
    /// Nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the call again when it fails. An activity sees by its context which attempt it is; a sub-orchestration
    /// does not.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Runs under a version. By default an activity runs under that of its orchestrator (R76).
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Gives a sub-orchestration an id; each attempt has the same. Activities have none.
    #[must_use]
    pub fn instance_id(mut self, id: &str) -> Self {
        self.instance_id = Some(id.to_owned());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl From<RetryPolicy> for CallOptions {
    fn from(policy: RetryPolicy) -> Self {
        Self::new().retry(policy)
    }
}

/// How an execution continues as new.
#[derive(Clone, Debug)]
pub struct ContinueOptions {
    version: Option<String>,
    keeps_events: bool,
}

impl ContinueOptions {
    /// Same version; events that were received and not consumed go along (R89).
    pub fn new() -> Self {
        Self {
            version: None,
            keeps_events: true,
        }
    }

    /// Goes on under another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Drops events that this execution received and did not consume. Those that have not been
    /// delivered to it yet are kept all the same (R90).
    #[must_use]
    pub fn drop_unprocessed_events(mut self) -> Self {
        self.keeps_events = false;
        self
    }
}

impl Default for ContinueOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A call that can be made more than once.
#[derive(Clone)]
struct CallSpec {
    awaited: Awaited,
    name: Rc<str>,
    action: ActionKind,
}

/// Who and when.
impl OrchestrationContext {
    /// Id of this instance.
    pub fn instance_id(&self) -> &InstanceId {
        &self.shared.identity.instance
    }

    /// Id of this execution.
    pub fn execution_id(&self) -> ExecutionId {
        self.shared.identity.execution
    }

    /// Name of the orchestrator.
    pub fn name(&self) -> &str {
        self.shared.identity.name.as_str()
    }

    /// Version it runs under.
    pub fn version(&self) -> Option<&str> {
        self.shared.identity.version.as_ref().map(Name::as_str)
    }

    /// Id of the instance that called this one as a sub-orchestration and waits for it.
    pub fn parent_instance_id(&self) -> Option<&InstanceId> {
        self.shared.identity.parent.as_ref().map(|parent| &parent.instance)
    }

    /// Labels of the instance.
    pub fn tags(&self) -> &Tags {
        &self.shared.identity.tags
    }

    /// The current time: that of the turn, the same on every replay (R17).
    pub fn now(&self) -> Timestamp {
        self.shared.ledger.borrow().now
    }

    /// Whether the code runs through what it has done before. Good for leaving out side effects that do
    /// not matter, such as progress messages, and for nothing else.
    pub fn is_replaying(&self) -> bool {
        self.shared.ledger.borrow().is_replaying
    }

    /// Events of this execution so far. A long history costs memory and time after a restart, which
    /// [`OrchestrationContext::continue_as_new`] cuts off (R95).
    pub fn history_length(&self) -> u32 {
        self.shared.ledger.borrow().events_seen
    }

    /// A new id, the same on every replay (R200).
    pub fn new_guid(&self) -> Uuid {
        let mut ledger = self.shared.ledger.borrow_mut();
        let counter = ledger.guids;
        ledger.guids += 1;
        let identity = &self.shared.identity;
        guid::guid(&identity.instance, identity.execution, ledger.now, counter)
    }

    /// A random number, the same on every replay (R202). Not for secrets.
    pub fn random(&self) -> u64 {
        let mut ledger = self.shared.ledger.borrow_mut();
        let counter = ledger.randoms;
        ledger.randoms += 1;
        guid::random(self.shared.identity.execution, ledger.now, counter)
    }

    /// Shows a value as the custom status of the instance, from the end of this turn on (R96).
    ///
    /// # Errors
    ///
    /// If the value cannot be written as JSON, or has more than 16 KB as UTF-16 (R97). The status stays what it was
    /// then, and a replay comes to the same error.
    pub fn set_custom_status(&self, status: impl Serialize) -> Result<()> {
        let status = codec::encode(&status, "the custom status").map_err(Error::from_failure)?;
        let status = status.unwrap_or_default();
        check_custom_status(&status).map_err(|failure| Error::from_failure(*failure))?;
        self.shared.ledger.borrow_mut().custom_status = Some(status);
        Ok(())
    }

    /// Removes the custom status.
    pub fn clear_custom_status(&self) {
        self.shared.ledger.borrow_mut().custom_status = Some(Payload::default());
    }
}

/// Calls.
impl OrchestrationContext {
    /// Calls an activity. It is scheduled by this call, awaited or not.
    pub fn call_activity<O: DeserializeOwned>(&self, name: &str, input: impl Serialize) -> Call<O> {
        self.call_activity_with(name, input, CallOptions::new())
    }

    /// Calls an activity with a retry policy or other options.
    pub fn call_activity_with<O: DeserializeOwned>(
        &self,
        name: &str,
        input: impl Serialize,
        options: impl Into<CallOptions>,
    ) -> Call<O> {
        let input = self.encode(&input, format_args!("the input of activity `{name}`"));
        self.call(Awaited::Activity, name, input, options.into(), from_json)
    }

    /// Calls an activity with bytes as they are.
    pub fn call_activity_raw(
        &self,
        name: &str,
        input: Option<Payload>,
        options: impl Into<CallOptions>,
    ) -> Call<Option<Payload>> {
        let input = codec::shallow(input, format_args!("the input of activity `{name}`"));
        self.call(Awaited::Activity, name, input, options.into(), as_is)
    }

    /// Starts a sub-orchestration. It is started by this call, awaited or not.
    pub fn call_sub_orchestrator<O: DeserializeOwned>(&self, name: &str, input: impl Serialize) -> Call<O> {
        self.call_sub_orchestrator_with(name, input, CallOptions::new())
    }

    /// Starts a sub-orchestration with an id, a retry policy or other options.
    pub fn call_sub_orchestrator_with<O: DeserializeOwned>(
        &self,
        name: &str,
        input: impl Serialize,
        options: impl Into<CallOptions>,
    ) -> Call<O> {
        let input = self.encode(&input, format_args!("the input of sub-orchestration `{name}`"));
        self.call(Awaited::SubOrchestration, name, input, options.into(), from_json)
    }

    /// Starts a sub-orchestration with bytes as they are.
    pub fn call_sub_orchestrator_raw(
        &self,
        name: &str,
        input: Option<Payload>,
        options: impl Into<CallOptions>,
    ) -> Call<Option<Payload>> {
        let input = codec::shallow(input, format_args!("the input of sub-orchestration `{name}`"));
        self.call(Awaited::SubOrchestration, name, input, options.into(), as_is)
    }

    /// Starts an instance that goes its own way: this one neither waits for it nor hears of its end
    /// (R75). Gives its id, which is made up if the options name none.
    ///
    /// # Errors
    ///
    /// If the name or the id is none, or the input cannot be written as JSON; or if the options hold a retry
    /// policy, since nobody hears of a failure.
    pub fn start_new(&self, name: &str, input: impl Serialize, options: CallOptions) -> Result<InstanceId> {
        if options.retry.is_some() {
            let message = format!("orchestrator `{name}` goes its own way, so a retry policy has nothing to answer");
            return Err(Error::new(INVALID_OPTION, message).non_retriable());
        }
        let input = self.encode(&input, format_args!("the input of orchestrator `{name}`"));
        let id = options
            .instance_id
            .clone()
            .unwrap_or_else(|| self.new_guid().simple().to_string());
        let instance = new_instance(&id).map_err(invalid)?;
        let options = options.instance_id(&id).tag(FIRE_AND_FORGET, "true");
        let action = self.action(Awaited::SubOrchestration, name, input, &options);
        self.shared
            .ledger
            .borrow_mut()
            .act(action.map_err(Error::from_failure)?);
        Ok(instance)
    }

    /// Raises an event at another instance. Nobody is told if there is none or if it has ended (R81).
    ///
    /// # Errors
    ///
    /// If the name is none, or the payload cannot be written as JSON.
    pub fn raise_event(&self, instance: &InstanceId, name: &str, payload: impl Serialize) -> Result<()> {
        let input = self
            .encode(&payload, format_args!("the payload of event `{name}`"))
            .map_err(Error::from_failure)?;
        let action = ActionKind::SendEvent {
            instance: instance.clone(),
            name: Name::new(name)?,
            input,
        };
        self.shared.ledger.borrow_mut().act(action);
        Ok(())
    }

    /// A payload for an action. Once the turn asks for more than one may, its answer is refused, and what else it asks for is
    /// not worth the memory and the time.
    fn encode<T: Serialize + ?Sized>(&self, value: &T, what: impl Display + Copy) -> Result<Option<Payload>, Failure> {
        if self.shared.ledger.borrow().is_over() {
            return Ok(None);
        }
        codec::encode(value, what)
    }

    fn call<O>(
        &self,
        awaited: Awaited,
        name: &str,
        input: Result<Option<Payload>, Failure>,
        options: CallOptions,
        decode: fn(Option<Payload>, Awaited, &str) -> Result<O, Failure>,
    ) -> Call<O> {
        let name: Rc<str> = name.into();
        let action = match self.action(awaited, &name, input, &options) {
            Ok(action) => action,
            Err(failure) => return Call::refused((awaited, name), failure, decode),
        };
        let Some(policy) = options.retry else {
            let id = self.shared.ledger.borrow_mut().call(action);
            return Call::open((awaited, name), Rc::clone(&self.shared), id, decode);
        };
        let spec = CallSpec {
            awaited,
            name: Rc::clone(&name),
            action,
        };
        // The first attempt is made now, whether or not the call is ever awaited (A37).
        let first = (self.attempt(&spec, 1), self.now());
        let again = move |ctx: &Self, attempt| ctx.attempt(&spec, attempt);
        let attempts = retry::attempts(self.clone(), policy, first, again);
        Call::retrying((awaited, name), attempts, decode)
    }

    fn attempt(&self, CallSpec { awaited, name, action }: &CallSpec, attempt: u32) -> Call<Option<Payload>> {
        let mut action = action.clone();
        // A child has no use for it, and would hand it on to its own children.
        if let ActionKind::ScheduleTask { tags, .. } = &mut action
            && attempt > 1
        {
            tags.insert(ATTEMPT.to_owned(), attempt.to_string());
        }
        let id = self.shared.ledger.borrow_mut().call(action);
        Call::open((*awaited, Rc::clone(name)), Rc::clone(&self.shared), id, as_is)
    }

    fn action(
        &self,
        awaited: Awaited,
        name: &str,
        input: Result<Option<Payload>, Failure>,
        options: &CallOptions,
    ) -> Result<ActionKind, Failure> {
        let input = input?;
        let name = Name::new(name).map_err(invalid)?;
        let version = options.version.as_deref().map(Name::new).transpose().map_err(invalid)?;
        let tags = options.tags.clone();
        if tags.contains_key(ATTEMPT) {
            let message = format!("the label `{ATTEMPT}` tells attempts of a retry policy apart, so give another name");
            return Err(Failure::new(INVALID_OPTION, message).non_retriable());
        }
        Ok(if awaited == Awaited::Activity {
            let version = version.or_else(|| self.shared.identity.version.clone());
            ActionKind::ScheduleTask {
                name,
                version,
                input,
                tags,
            }
        } else {
            let instance = options
                .instance_id
                .as_deref()
                .map(new_instance)
                .transpose()
                .map_err(invalid)?;
            ActionKind::CreateSubOrchestration {
                instance,
                name,
                version,
                input,
                tags,
            }
        })
    }
}

/// The id of an instance that is to be started.
fn new_instance(id: &str) -> Result<InstanceId, Refusal> {
    let instance = InstanceId::new(id)?;
    instance.check_new()?;
    Ok(instance)
}

fn invalid(refusal: impl fmt::Display) -> Failure {
    Failure::new(INVALID_NAME, refusal.to_string()).non_retriable()
}

/// Timers, events, and what comes next.
impl OrchestrationContext {
    /// A timer that is due after some time.
    pub fn create_timer(&self, delay: Duration) -> Timer {
        self.create_timer_at(self.now().plus(delay))
    }

    /// A timer that is due at a moment; one that lies in the past fires at once.
    pub fn create_timer_at(&self, fire_at: Timestamp) -> Timer {
        let id = self
            .shared
            .ledger
            .borrow_mut()
            .call(ActionKind::CreateTimer { fire_at });
        Timer::new(Rc::clone(&self.shared), id, fire_at)
    }

    /// Waits for an external event. The wait begins with this call; names are compared without case (R77).
    pub fn wait_for_external_event<T: DeserializeOwned>(&self, name: &str) -> EventWait<T> {
        EventWait::new(Rc::clone(&self.shared), name, from_json)
    }

    /// Waits for an external event, for some time at most.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use taskhub::{OrchestrationContext, Result};
    /// async fn approval(ctx: OrchestrationContext, _: ()) -> Result<String> {
    ///     let day = Duration::from_secs(24 * 3600);
    ///     Ok(match ctx.wait_for_external_event_timeout::<bool>("Approval", day).await? {
    ///         Some(true) => "approved".to_owned(),
    ///         Some(false) => "rejected".to_owned(),
    ///         None => "escalated".to_owned(),
    ///     })
    /// }
    /// ```
    pub fn wait_for_external_event_timeout<T: DeserializeOwned>(
        &self,
        name: &str,
        timeout: Duration,
    ) -> EventWaitFor<T> {
        EventWaitFor::new(self.wait_for_external_event(name), self.create_timer(timeout))
    }

    /// Waits for an external event and gives its bytes as they are.
    pub fn wait_for_external_event_raw(&self, name: &str) -> EventWait<Option<Payload>> {
        EventWait::new(Rc::clone(&self.shared), name, as_is)
    }

    /// Ends this execution and begins the next one with a new input and an empty history (R87). The
    /// orchestrator must return what this gives; `return ctx.continue_as_new(next);` is the usual form.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use taskhub::{OrchestrationContext, Result};
    /// async fn counter(ctx: OrchestrationContext, count: u64) -> Result<()> {
    ///     let step: u64 = ctx.wait_for_external_event("Add").await?;
    ///     ctx.continue_as_new(count + step)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Always: the error is what ends the execution, or says that the input cannot be written as JSON.
    pub fn continue_as_new<T>(&self, input: impl Serialize) -> Result<T> {
        self.continue_as_new_with(input, ContinueOptions::new())
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// Always, as [`OrchestrationContext::continue_as_new`] does.
    pub fn continue_as_new_with<T>(&self, input: impl Serialize, options: ContinueOptions) -> Result<T> {
        let input = codec::encode(&input, "the input of the next execution").map_err(Error::from_failure)?;
        let ContinueOptions { version, keeps_events } = options;
        let version = version.as_deref().map(Name::new).transpose()?;
        let next = Continue {
            input,
            version,
            keeps_events,
        };
        self.shared.ledger.borrow_mut().continued = Some(next);
        Err(Error::continued())
    }
}

impl fmt::Debug for OrchestrationContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.shared.identity;
        write!(out, "OrchestrationContext({} `{}`)", identity.name, identity.instance)
    }
}
