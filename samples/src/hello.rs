//! Function chaining: activities in a row, each result going into the answer.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use taskhub::{ActivityContext, OrchestrationContext, Registry, Result};

/// Greets its input; nothing to greet means the world.
///
/// # Errors
///
/// If the activity fails.
pub async fn hello_world(ctx: OrchestrationContext, input: Option<Box<RawValue>>) -> Result<String> {
    Ok(match input {
        Some(name) => ctx.call_activity("E1_SayHello", name).await?,
        None => ctx.call_activity("E1_SayHello", "World").await?,
    })
}

/// Greets three cities, one after the other.
///
/// # Errors
///
/// If an activity fails.
pub async fn hello_sequence(ctx: OrchestrationContext, _input: IgnoredAny) -> Result<Vec<String>> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call_activity("E1_SayHello", city).await?);
    }
    Ok(greetings)
}

/// The greeting: of a text, or of any other value as it is written.
///
/// # Errors
///
/// None.
pub async fn say_hello(_: ActivityContext, name: Box<RawValue>) -> Result<String> {
    Ok(match serde_json::from_str::<String>(name.get()) {
        Ok(name) => format!("Hello {name}!"),
        Err(_) => format!("Hello {name}!"),
    })
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .orchestrator("HelloWorld", hello_world)
        .orchestrator("E1_HelloSequence", hello_sequence)
        .activity("E1_SayHello", say_hello)
}
