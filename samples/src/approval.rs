//! Human interaction: wait for an answer, but not for ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhub::{Activity, ActivityContext, Event, OrchestrationContext, Orchestrator, Registry, Result};

pub const APPROVAL_FLOW: Orchestrator<Option<Request>, Decision> = Orchestrator::new("ApprovalFlow");
/// The event that decides.
pub const APPROVAL: Event<bool> = Event::new("Approval");

const ESCALATE: Activity<String, ()> = Activity::new("Escalate");

/// What is to be approved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// For whoever decides.
    pub what: String,
    /// How long they may take.
    pub timeout_seconds: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            what: "a request".to_owned(),
            timeout_seconds: 72 * 3600,
        }
    }
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The event `Approval` said `true`.
    Approved,
    /// The event `Approval` said `false`.
    Rejected,
    /// Nobody answered in time, so somebody else was told.
    Escalated,
}

/// Waits for the event `Approval`; if there is none in time, escalates.
///
/// # Errors
///
/// If the event's payload is no boolean, or the activity fails.
pub async fn approval_flow(ctx: OrchestrationContext, request: Option<Request>) -> Result<Decision> {
    let request = request.unwrap_or_default();
    ctx.set_custom_status(format!("waiting for approval of {}", request.what))?;
    let timeout = Duration::from_secs(request.timeout_seconds);
    let answer = ctx.wait_for_external_event(APPROVAL).timeout(timeout).await?;
    let decision = match answer {
        Some(true) => Decision::Approved,
        Some(false) => Decision::Rejected,
        None => {
            ctx.call_activity(ESCALATE, request.what).await?;
            Decision::Escalated
        }
    };
    ctx.set_custom_status(decision)?;
    Ok(decision)
}

/// Stands in for a message to somebody.
///
/// # Errors
///
/// None.
pub async fn escalate(_: ActivityContext, _what: String) -> Result<()> {
    Ok(())
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .orchestrator(APPROVAL_FLOW, approval_flow)
        .activity(ESCALATE, escalate)
}
