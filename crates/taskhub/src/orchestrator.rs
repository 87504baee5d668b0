//! The context of an orchestrator: everything its code may use besides its own values.

use std::fmt::{self, Display};
use std::rc::Rc;
use std::time::Duration;

use taskhub_core::action::{ActionKind, FIRE_AND_FORGET};
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_core::turn::check_custom_status;
use uuid::Uuid;

use crate::codec::{self, FromPayload, IntoPayload, Raw};
use crate::error::{Awaited, Error, Result};
use crate::guid;
use crate::instance::ToInstanceId;
use crate::ledger::{Continue, Identity, Shared};
use crate::names::{AwaitEvent, CallActivity, CallOrchestrator, RaiseEvent, StartOrchestrator};
use crate::options::{self, ATTEMPT, Detached};
use crate::task::{Call, Called, EventWait, SubOrchestrationCall, Timer, from_payload};

/// What an orchestrator works with: durable calls, timers, events, time and ids that come out the same
/// when it is replayed. Cloning it is cheap; it belongs to one execution and stays on its thread.
///
/// An orchestrator must take everything that could differ between two runs from here or from an activity,
/// and await nothing that this context did not make (R44).
///
/// Inputs and results are all types that serde supports. A [`Uuid`] of [`OrchestrationContext::new_guid`] is one of
/// them; pass a [`Timestamp`] as its text (`to_string`, read by [`Timestamp::parse`]), and an [`InstanceId`] too
/// (`as_str`, read by [`InstanceId::new`]).
#[derive(Clone)]
pub struct OrchestrationContext {
    pub(crate) shared: Rc<Shared>,
}

/// How an execution continues as new; made by [`OrchestrationContext::next_execution`].
#[derive(Debug)]
#[must_use = "nothing happens until `continue_as_new` is called and its result returned"]
pub struct NextExecution {
    ctx: OrchestrationContext,
    version: Option<String>,
    keeps_events: bool,
}

impl NextExecution {
    /// Goes on under another version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Drops events that this execution received and did not consume. Those that have not been
    /// delivered to it yet are kept all the same (R90).
    pub fn drop_unprocessed_events(mut self) -> Self {
        self.keeps_events = false;
        self
    }

    /// As [`OrchestrationContext::continue_as_new`], with these options.
    ///
    /// # Errors
    ///
    /// Always, as that does.
    pub fn continue_as_new<T>(self, input: impl IntoPayload) -> Result<T> {
        let input = codec::encode(input, "the input of the next execution").map_err(Error::from_failure)?;
        let next = Continue {
            input,
            version: self.version.as_deref().map(Name::new).transpose()?,
            keeps_events: self.keeps_events,
        };
        self.ctx.shared.ledger.borrow_mut().continued = Some(next);
        Err(Error::continued())
    }
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
    /// If the value cannot be written as JSON, or its JSON has more than 16 KB in UTF-16 (R97). The status then stays
    /// unchanged, and a replay gets the same error.
    pub fn set_custom_status(&self, status: impl IntoPayload) -> Result<()> {
        let status = codec::encode(status, "the custom status").map_err(Error::from_failure)?;
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
    /// Calls an activity. It is scheduled by this call, awaited or not. [`Call`] has the options, such as a retry policy.
    ///
    /// The name is plain text or an [`Activity`](crate::Activity), which knows the types.
    pub fn call_activity<O: FromPayload, I: IntoPayload>(&self, name: impl CallActivity<I, O>, input: I) -> Call<O> {
        let name = name.name();
        let input = self.encode(input, format_args!("the input of activity `{name}`"));
        self.call((Awaited::Activity, name.into()), input)
    }

    /// Starts a sub-orchestration. It is started by this call, awaited or not. [`SubOrchestrationCall`] has the options,
    /// such as its id.
    ///
    /// The name is plain text or an [`Orchestrator`](crate::Orchestrator), which knows the types.
    pub fn call_sub_orchestrator<O: FromPayload, I: IntoPayload>(
        &self,
        name: impl CallOrchestrator<I, O>,
        input: I,
    ) -> SubOrchestrationCall<O> {
        let name = name.name();
        let input = self.encode(input, format_args!("the input of sub-orchestration `{name}`"));
        self.call((Awaited::SubOrchestration, name.into()), input)
    }

    /// Starts an instance that goes its own way: this one neither waits for it nor hears of its end (R75). It is started
    /// by this call; awaiting what it gives tells the id.
    pub fn start_new<I: IntoPayload>(&self, name: impl StartOrchestrator<I>, input: I) -> Detached {
        let name = name.name();
        let input = self.encode(input, format_args!("the input of orchestrator `{name}`"));
        let guids = self.shared.ledger.borrow().guids;
        let made = action(&self.shared.identity, Awaited::SubOrchestration, name, input).and_then(|mut action| {
            let id = options::set_id(&mut action, self.new_guid().simple().to_string())?;
            options::set_tag(&mut action, FIRE_AND_FORGET.to_owned(), "true".to_owned())?;
            Ok((action, id))
        });
        match made {
            Ok((action, id)) => {
                let made = self.shared.ledger.borrow_mut().act(action);
                Detached::made(Rc::clone(&self.shared), made, id, guids)
            }
            Err(failure) => Detached::refused(failure),
        }
    }

    /// Raises an event at another instance. There is no error if the instance does not exist or has ended (R81).
    ///
    /// # Errors
    ///
    /// If the name or the id is invalid, or the payload cannot be written as JSON.
    pub fn raise_event<T: IntoPayload>(
        &self,
        instance: impl ToInstanceId,
        name: impl RaiseEvent<T>,
        payload: T,
    ) -> Result<()> {
        let name = name.name();
        let input = self
            .encode(payload, format_args!("the payload of event `{name}`"))
            .map_err(Error::from_failure)?;
        let action = ActionKind::SendEvent {
            instance: instance.to_instance_id()?,
            name: Name::new(name)?,
            input,
        };
        self.shared.ledger.borrow_mut().act(action);
        Ok(())
    }

    pub(crate) fn of(shared: &Rc<Shared>) -> Self {
        Self {
            shared: Rc::clone(shared),
        }
    }

    /// A payload for an action. Once the turn asks for more than one may, its answer is refused, and what else it asks for is
    /// not worth the memory and the time.
    fn encode<T: IntoPayload>(&self, value: T, what: impl Display) -> Result<Option<Payload>, Failure> {
        if self.shared.ledger.borrow().is_over() {
            return Ok(None);
        }
        codec::encode(value, what)
    }

    fn call<O: FromPayload, K>(&self, called: Called, input: Result<Option<Payload>, Failure>) -> Call<O, K> {
        match action(&self.shared.identity, called.0, &called.1, input) {
            Ok(action) => {
                let id = self.shared.ledger.borrow_mut().call(action);
                Call::open(called, Rc::clone(&self.shared), id, from_payload)
            }
            Err(failure) => Call::refused(called, failure, from_payload),
        }
    }

    /// A further attempt of a call with a retry policy.
    pub(crate) fn attempt(&self, called: &Called, action: &ActionKind, attempt: u32) -> Call<Raw> {
        let mut action = action.clone();
        // A child has no use for it, and would hand it on to its own children.
        if let ActionKind::ScheduleTask { tags, .. } = &mut action {
            tags.insert(ATTEMPT.to_owned(), attempt.to_string());
        }
        let id = self.shared.ledger.borrow_mut().call(action);
        Call::open(called.clone(), Rc::clone(&self.shared), id, from_payload)
    }
}

fn action(
    identity: &Identity,
    awaited: Awaited,
    name: &str,
    input: Result<Option<Payload>, Failure>,
) -> Result<ActionKind, Failure> {
    let (input, name, tags) = (input?, Name::new(name).map_err(options::invalid)?, Tags::new());
    Ok(if awaited == Awaited::Activity {
        let version = identity.version.clone();
        ActionKind::ScheduleTask {
            name,
            version,
            input,
            tags,
        }
    } else {
        ActionKind::CreateSubOrchestration {
            instance: None,
            name,
            version: None,
            input,
            tags,
        }
    })
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
    /// [`EventWait::timeout`] limits it.
    pub fn wait_for_external_event<T: FromPayload>(&self, name: impl AwaitEvent<T>) -> EventWait<T> {
        EventWait::new(Rc::clone(&self.shared), name.name(), from_payload)
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
    pub fn continue_as_new<T>(&self, input: impl IntoPayload) -> Result<T> {
        self.next_execution().continue_as_new(input)
    }

    /// The next execution, for options before it is begun: same version unless said otherwise, and events that were
    /// received and not consumed go along (R89).
    ///
    /// ```
    /// # use taskhub::{OrchestrationContext, Result};
    /// async fn migrate(ctx: OrchestrationContext, count: u64) -> Result<()> {
    ///     ctx.next_execution().version("2").drop_unprocessed_events().continue_as_new(count)
    /// }
    /// ```
    pub fn next_execution(&self) -> NextExecution {
        NextExecution {
            ctx: self.clone(),
            version: None,
            keeps_events: true,
        }
    }
}

impl fmt::Debug for OrchestrationContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.shared.identity;
        write!(out, "OrchestrationContext({} `{}`)", identity.name, identity.instance)
    }
}
