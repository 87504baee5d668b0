//! Singleton: an instance with a fixed id. Starting it while it is live is refused by the hub, which is
//! what makes it the only one; there is nothing to check beforehand (R140).

use std::time::Duration;

use serde::Serialize;
use taskhub::{Client, HubError, OrchestrationContext, Registry, Result};

pub const INSTANCE_ID: &str = "singleton";

const BEAT: Duration = Duration::from_mins(1);

/// Counts minutes, until the event `Stop` comes; returns how many there were.
///
/// # Errors
///
/// None.
pub async fn singleton(ctx: OrchestrationContext, minutes: Option<u64>) -> Result<u64> {
    let minutes = minutes.unwrap_or(0);
    if ctx.wait_for_external_event::<()>("Stop").timeout(BEAT).await?.is_some() {
        return Ok(minutes);
    }
    ctx.continue_as_new(minutes + 1)
}

/// Starts the instance unless it is live. Tells whether it did.
///
/// # Errors
///
/// If the hub cannot say.
pub async fn start_once(client: &Client, input: impl Serialize) -> Result<bool, HubError> {
    match client.start("Singleton", input).id(INSTANCE_ID).await {
        Ok(_) => Ok(true),
        Err(HubError::InstanceExists { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry.orchestrator("Singleton", singleton)
}
