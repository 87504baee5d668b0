//! Fan-out, fan-in: as many activities at once as there are files, and a sum of their results.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use taskhub::{
    ActivityContext, ActivityOptions, CallOptions, OrchestrationContext, Registry, Result, RetryPolicy, try_join_all,
};

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

/// Paths of the files in a folder and its subfolders, sorted; links are not followed.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn list_files(_: ActivityContext, folder: String) -> io::Result<Vec<String>> {
    let mut folders = vec![PathBuf::from(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The size of a file in bytes.
///
/// # Errors
///
/// If the file is gone or cannot be looked at.
pub fn file_size(_: ActivityContext, file: String) -> io::Result<u64> {
    Ok(fs::metadata(file)?.len())
}

pub(crate) fn register(registry: Registry) -> Registry {
    let limited = ActivityOptions::new().concurrency(READERS_MAX);
    registry
        .orchestrator("FanOutFiles", fan_out_files)
        .blocking_activity("ListFiles", list_files)
        .blocking_activity_with("FileSize", limited, file_size)
}
