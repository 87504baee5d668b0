//! One orchestration of many activities at once: does an activity cost the same among many as among few?

use std::path::Path;

use clap::Args;

use super::measure::Reading;
use super::report::{Run, to_f64};
use crate::report::Result;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of activities at the same time.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) width: u32,
    /// Number of activities to compare with.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) baseline: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            width: 100_000,
            baseline: 10_000,
        }
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    // Once for what only the first one pays.
    one(folder, settings.baseline.min(1_000)).await?;
    let (small, small_cost) = one(folder, settings.baseline).await?;
    let (mut large, large_cost) = one(folder, settings.width).await?;
    large.add("cost of an activity, as a ratio", large_cost / small_cost, "");
    Ok(vec![small, large])
}

async fn one(folder: &Path, width: u32) -> Result<(Run, f64)> {
    let (hub, store) = super::open(folder, "fanout", |builder| builder).await?;
    let client = hub.client();
    let before = Reading::now(store.as_ref());
    let id = client.start_new("Fanout", width).await?;
    let done: u32 = client.wait_for_completion(&id).await?;
    assert_eq!(done, width, "an activity's result is missing");
    let used = before.until_now(store.as_ref());
    let each = |total: f64| total / f64::from(width);
    let mut run = Run::new(format!("fanout: {width} at once"));
    run.add("activities", f64::from(width) / used.wall.as_secs_f64(), "/s")
        .add("wall", each(used.wall.as_secs_f64() * 1e6), "us each")
        .add("cpu", each(used.cpu.as_secs_f64() * 1e6), "us each")
        .add("allocations", each(to_f64(used.allocations)), "each")
        .add("rows", each(to_f64(used.rows)), "each")
        .add("groups", to_f64(used.groups), "");
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok((run, each(used.wall.as_secs_f64())))
}
