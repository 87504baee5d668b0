//! Fan-out, fan-in: as many activities at once as there are files, and a sum of their results.

use std::fs;
use std::time::Duration;

use taskhub::{
    Activity, ActivityContext, ActivityOptions, Error, OrchestrationContext, Registry, Result, RetryPolicy,
    try_join_all,
};

use crate::files::Files;

const LIST_FILES: Activity<String, Vec<String>> = Activity::new("ListFiles");
const FILE_SIZE: Activity<String, u64> = Activity::new("FileSize");

/// Files whose sizes are read at once.
const READERS_MAX: usize = 16;

/// Adds up the sizes of all files in a folder and its subfolders, in bytes.
///
/// # Errors
///
/// If an activity fails, after its retries.
pub async fn fan_out_files(ctx: OrchestrationContext, folder: Option<String>) -> Result<u64> {
    let folder = folder.unwrap_or_else(|| ".".to_owned());
    let files = ctx.call_activity(LIST_FILES, folder).await?;
    let patient = RetryPolicy::new(3, Duration::from_secs(1)).backoff_coefficient(2.0);
    let calls = files
        .iter()
        .map(|file| ctx.call_activity(FILE_SIZE, file).retry(patient.clone()));
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
        .blocking_activity(LIST_FILES, move |_: ActivityContext, folder| listed.list(&folder))
        .blocking_activity(FILE_SIZE, move |_: ActivityContext, file| file_size(&measured, &file))
        .activity_options(FILE_SIZE, limited)
}
