//! An activity that tells another system where its instance is managed: whoever has the links can look at it
//! and steer it, and needs to know nothing else.

use serde_json::{Value, json};
use taskhub::{ActivityContext, OrchestrationContext, Registry, Result};

/// Sends the links of this very instance away, and returns what was sent.
///
/// # Errors
///
/// If the activity fails.
pub async fn announce(ctx: OrchestrationContext, _input: Value) -> Result<Value> {
    Ok(ctx.call_activity("SendInstanceInfo", ()).await?)
}

/// Stands in for the write to a database: makes the document that would be stored.
///
/// # Errors
///
/// If the hub is not served over HTTP, and so has no links.
pub async fn send_instance_info(ctx: ActivityContext, _input: Value) -> Result<Value> {
    let payload = ctx.create_http_management_payload(ctx.instance_id())?;
    Ok(json!({ "id": ctx.instance_id().as_str(), "payload": payload }))
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .orchestrator("AnnounceInstance", announce)
        .activity("SendInstanceInfo", send_instance_info)
}
