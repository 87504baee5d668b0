//! Input and output belong into activities: an orchestrator that wants a file asks one to read it.

use std::fs;

use serde_json::value::RawValue;
use taskhub::{ActivityContext, Error, OrchestrationContext, Registry, Result};

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

/// Reads a JSON file. It blocks its thread, so it is registered as such.
///
/// # Errors
///
/// If the file cannot be read or holds no JSON; the latter will not get better, so it is not retried.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the context and the input belong to the activity"
)]
pub fn read_json_file(_: ActivityContext, path: String) -> Result<Box<RawValue>> {
    let text = fs::read_to_string(&path).map_err(|error| Error::msg(format!("cannot read {path}")).caused_by(error))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::msg(format!("{path} is no JSON"))
            .caused_by(error)
            .non_retriable()
    })
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .orchestrator("Counter", counter)
        .blocking_activity("ReadJsonFile", read_json_file)
}
