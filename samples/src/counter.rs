//! Input and output belong into activities: an orchestrator that wants a file asks one to read it.

use serde_json::value::RawValue;
use taskhub::{ActivityContext, Error, OrchestrationContext, Registry, Result};

use crate::files::Files;

/// The file that is read if the input names none.
pub const DEFAULT_PATH: &str = "counter-data.json";

/// Returns what a JSON file holds, as it is written there.
///
/// # Errors
///
/// If the activity fails.
pub async fn counter(ctx: OrchestrationContext, path: Option<String>) -> Result<Box<RawValue>> {
    let path = path.unwrap_or_else(|| DEFAULT_PATH.to_owned());
    Ok(ctx.call_activity("ReadJsonFile", path).await?)
}

/// Reads a JSON file. What is no JSON will not get better, so it is not retried.
fn read_json_file(files: &Files, path: &str) -> Result<Box<RawValue>> {
    serde_json::from_str(&files.read(path)?).map_err(|error| {
        Error::msg(format!("{path} is no JSON"))
            .caused_by(error)
            .non_retriable()
    })
}

pub(crate) fn register(registry: Registry, files: &Files) -> Registry {
    let files = files.clone();
    registry
        .orchestrator("Counter", counter)
        // It blocks its thread, so it is registered as such.
        .blocking_activity("ReadJsonFile", move |_: ActivityContext, path: String| {
            read_json_file(&files, &path)
        })
}
