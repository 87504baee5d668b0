//! The smallest orchestrators there are: one returns, one waits, one fails.

use taskhub::{Error, OrchestrationContext, Raw, Registry, Result};

/// Returns its input, byte for byte.
///
/// # Errors
///
/// None.
pub async fn echo(_: OrchestrationContext, input: Raw) -> Result<Raw> {
    Ok(input)
}

/// Waits for the event `Go` and returns its payload, byte for byte.
///
/// # Errors
///
/// None.
pub async fn wait_event(ctx: OrchestrationContext, _input: Raw) -> Result<Raw> {
    Ok(ctx.wait_for_external_event("Go").await?)
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
        .orchestrator("Echo", echo)
        .orchestrator("WaitEvent", wait_event)
        .orchestrator("Fail", fail)
}
