//! Monitor: look, wait, look again. Each look is an execution of its own, so the history stays short
//! however long it takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhub::{Activity, ActivityContext, OrchestrationContext, Registry, Result};

use crate::files::Files;

const FILE_EXISTS: Activity<String, bool> = Activity::new("FileExists");

/// What is watched, and how far the watching has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// The file that is waited for.
    pub path: String,
    /// Pause between two looks.
    #[serde(default = "default_interval_seconds")]
    pub interval_seconds: u64,
    /// Looks that are still to be made.
    #[serde(default = "default_looks_left")]
    pub looks_left: u32,
}

fn default_interval_seconds() -> u64 {
    30
}

fn default_looks_left() -> u32 {
    120
}

/// Waits until a file is there. Tells whether it came before the looks were used up.
///
/// # Errors
///
/// If the activity fails.
pub async fn monitor(ctx: OrchestrationContext, watch: Watch) -> Result<bool> {
    if ctx.call_activity(FILE_EXISTS, &watch.path).await? {
        return Ok(true);
    }
    let Some(looks_left) = watch.looks_left.checked_sub(1) else {
        return Ok(false);
    };
    ctx.set_custom_status(format!("{looks_left} looks left"))?;
    ctx.create_timer(Duration::from_secs(watch.interval_seconds)).await;
    ctx.continue_as_new(Watch { looks_left, ..watch })
}

pub(crate) fn register(registry: Registry, files: &Files) -> Registry {
    let files = files.clone();
    registry
        .orchestrator("Monitor", monitor)
        .blocking_activity(FILE_EXISTS, move |_: ActivityContext, path| {
            files.find(&path).map(|found| found.is_some())
        })
}
