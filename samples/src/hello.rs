//! Function chaining: activities in a row, each result going into the answer.

use serde_json::Value;
use taskhub::{ActivityContext, OrchestrationContext, Registry, Result};

/// Greets its input; nothing to greet means the world.
///
/// # Errors
///
/// If the activity fails.
pub async fn hello_world(ctx: OrchestrationContext, input: Value) -> Result<String> {
    let name = if input.is_null() { Value::from("World") } else { input };
    Ok(ctx.call_activity("E1_SayHello", name).await?)
}

/// Greets three cities, one after the other.
///
/// # Errors
///
/// If an activity fails.
pub async fn hello_sequence(ctx: OrchestrationContext, _input: Value) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call_activity("E1_SayHello", city).await?);
    }
    Ok(greetings)
}

/// The greeting.
///
/// # Errors
///
/// None.
pub async fn say_hello(_: ActivityContext, name: Value) -> Result<String> {
    Ok(match name {
        Value::String(name) => format!("Hello {name}!"),
        other => format!("Hello {other}!"),
    })
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .orchestrator("HelloWorld", hello_world)
        .orchestrator("E1_HelloSequence", hello_sequence)
        .activity("E1_SayHello", say_hello)
}
