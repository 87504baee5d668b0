//! The smallest orchestrators there are: one returns, one waits, one fails.

use taskhub::{Error, OrchestrationContext, Payload, Registry, Result};

/// Returns its input, byte for byte.
///
/// # Errors
///
/// None.
pub async fn echo(_: OrchestrationContext, input: Option<Payload>) -> Result<Option<Payload>> {
    Ok(input)
}

/// Waits for the event `Go` and returns its payload, byte for byte.
///
/// # Errors
///
/// None.
pub async fn wait_event(ctx: OrchestrationContext, _input: Option<Payload>) -> Result<Option<Payload>> {
    Ok(ctx.wait_for_external_event_raw("Go").await?)
}

/// Fails, with its input as the message.
///
/// # Errors
///
/// Always.
pub async fn fail(_: OrchestrationContext, message: Option<String>) -> Result<()> {
    let message = message.unwrap_or_else(|| "it was asked to".to_owned());
    Err(Error::new("SampleFailure", message))
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .orchestrator_raw("Echo", echo)
        .orchestrator_raw("WaitEvent", wait_event)
        .orchestrator("Fail", fail)
}
