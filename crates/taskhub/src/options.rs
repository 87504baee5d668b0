//! Options of durable calls. A call is made when it is called (A37), so an option changes an action that is there already.

use std::fmt;
use std::future::{IntoFuture, Ready, ready};
use std::rc::Rc;

use taskhub_core::action::ActionKind;
use taskhub_core::failure::Failure;
use taskhub_core::id::{InstanceId, Name};

use crate::error::{Error, INVALID_NAME, INVALID_OPTION, Result};
use crate::instance::ToInstanceId;
use crate::ledger::Shared;

/// The label of a call that says which attempt of its policy it is; the first has none. It is in the history like any
/// label, so it is the same on replay and after a crash.
pub(crate) const ATTEMPT: &str = "RetryAttempt";

/// Changes the action that was made last. The action of an option that cannot be is taken back.
pub(crate) fn set(
    shared: &Shared,
    id: i32,
    option: &str,
    change: impl FnOnce(&mut ActionKind) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut ledger = shared.ledger.borrow_mut();
    let mut changed = Ok(());
    if !ledger.amend(id, |kind| changed = change(kind)) {
        let message = format!("`{option}` was set too late: set options in the expression that makes the call");
        return Err(Failure::new(INVALID_OPTION, message).non_retriable());
    }
    if changed.is_err() {
        ledger.unmake(id);
    }
    changed
}

pub(crate) fn set_version(kind: &mut ActionKind, name: &str) -> Result<(), Failure> {
    let name = Name::new(name).map_err(invalid)?;
    if let ActionKind::ScheduleTask { version, .. } | ActionKind::CreateSubOrchestration { version, .. } = kind {
        *version = Some(name);
    }
    Ok(())
}

pub(crate) fn set_tag(kind: &mut ActionKind, key: String, value: String) -> Result<(), Failure> {
    if key == ATTEMPT {
        let message =
            format!("the tag `{ATTEMPT}` is reserved for the attempts of a retry policy; choose another name");
        return Err(Failure::new(INVALID_OPTION, message).non_retriable());
    }
    if let ActionKind::ScheduleTask { tags, .. } | ActionKind::CreateSubOrchestration { tags, .. } = kind {
        tags.insert(key, value);
    }
    Ok(())
}

/// Gives the instance that is to be started an id, and gives that back.
pub(crate) fn set_id(kind: &mut ActionKind, id: impl ToInstanceId) -> Result<InstanceId, Failure> {
    let id = id.to_instance_id().map_err(invalid)?;
    id.check_new().map_err(invalid)?;
    if let ActionKind::CreateSubOrchestration { instance, .. } = kind {
        *instance = Some(id.clone());
    }
    Ok(id)
}

pub(crate) fn invalid(refusal: impl fmt::Display) -> Failure {
    Failure::new(INVALID_NAME, refusal.to_string()).non_retriable()
}

/// The start of an independent instance, whose end is not reported (R75). The instance is started even if this value is
/// not awaited. Awaiting it returns immediately with the instance's id, which is generated unless [`Detached::id`] sets
/// it.
///
/// ```
/// # use taskhub::{OrchestrationContext, Result};
/// # async fn orchestrator(ctx: OrchestrationContext, _: ()) -> Result<()> {
/// let id = ctx.start_new("Cleanup", ()).id("cleanup-17").tag("kind", "cleanup").await?;
/// # Ok(()) }
/// ```
#[must_use = "awaiting it tells the id, or why the instance was not started"]
pub struct Detached(Result<Made, Failure>);

struct Made {
    shared: Rc<Shared>,
    id: i32,
    instance: InstanceId,
    /// Ids that were made up before this one.
    guids: u64,
}

impl Detached {
    pub(crate) fn refused(failure: Failure) -> Self {
        Self(Err(failure))
    }

    pub(crate) fn made(shared: Rc<Shared>, id: i32, instance: InstanceId, guids: u64) -> Self {
        Self(Ok(Made {
            shared,
            id,
            instance,
            guids,
        }))
    }

    /// Gives the instance an id.
    pub fn id(self, id: impl ToInstanceId) -> Self {
        Self(self.0.and_then(|mut made| {
            let given = &mut made.instance;
            set(&made.shared, made.id, "id", |kind| {
                *given = set_id(kind, id)?;
                Ok(())
            })?;
            // The id that was made up is the next one again, unless the code has made another since.
            let mut ledger = made.shared.ledger.borrow_mut();
            if ledger.guids == made.guids + 1 {
                ledger.guids = made.guids;
            }
            drop(ledger);
            Ok(made)
        }))
    }

    /// Runs it under a version.
    pub fn version(self, version: impl Into<String>) -> Self {
        self.set("version", |kind| set_version(kind, &version.into()))
    }

    /// Adds a label.
    pub fn tag(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set("tag", |kind| set_tag(kind, key.into(), value.into()))
    }

    fn set(self, option: &str, change: impl FnOnce(&mut ActionKind) -> Result<(), Failure>) -> Self {
        Self(self.0.and_then(|made| {
            set(&made.shared, made.id, option, change)?;
            Ok(made)
        }))
    }
}

impl IntoFuture for Detached {
    type Output = Result<InstanceId>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.0.map(|made| made.instance).map_err(Error::from_failure))
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(made) => write!(out, "Detached(`{}`)", made.instance),
            Err(failure) => write!(out, "Detached({failure})"),
        }
    }
}
