//! Fan-out, fan-in: as many activities at once as there are files, and a sum of their results.

use std::fs;
use std::time::Duration;

use taskhub::{
    ActivityContext, ActivityOptions, CallOptions, Error, OrchestrationContext, Registry, Result, RetryPolicy,
    try_join_all,
};

use crate::files::Files;

/// Files whose sizes are read at once.
const READERS_MAX: usize = 16;

/// Adds up the sizes of all files in a folder and its subfolders, in bytes.
///
/// # Errors
///
/// If an activity fails, after its retries.
pub async fn fan_out_files(ctx: OrchestrationContext, folder: Option<String>) -> Result<u64> {
    let folder = folder.unwrap_or_else(|| ".".to_owned());
    let files: Vec<String> = ctx.call_activity("ListFiles", folder).await?;
    let patient = CallOptions::from(RetryPolicy::new(3, Duration::from_secs(1)).backoff_coefficient(2.0));
    let calls = files
        .into_iter()
        .map(|file| ctx.call_activity_with::<u64>("FileSize", file, patient.clone()));
    Ok(try_join_all(calls).await?.into_iter().sum())
}

/// The size of a file in bytes.
fn file_size(files: &Files, file: &str) -> Result<u64> {
    let found = files.find(file)?;
    let found = found.ok_or_else(|| Error::msg(format!("`{file}` is not there")))?;
    Ok(fs::metadata(found)?.len())
}

pub(crate) fn register(registry: Registry, files: &Files) -> Registry {
    let limited = ActivityOptions::new().concurrency(READERS_MAX);
    let (listed, measured) = (files.clone(), files.clone());
    registry
        .orchestrator("FanOutFiles", fan_out_files)
        .blocking_activity("ListFiles", move |_: ActivityContext, folder: String| {
            listed.list(&folder)
        })
        .blocking_activity_with("FileSize", limited, move |_: ActivityContext, file: String| {
            file_size(&measured, &file)
        })
}
