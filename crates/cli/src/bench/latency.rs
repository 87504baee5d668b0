//! One activity alone, beside the disk's own sync, and an orchestration of three activities alone.

use std::path::Path;

use clap::Args;

use super::measure::{Reading, Spread, fdatasync, now};
use super::report::{Run, to_f64};
use crate::report::Result;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of orchestrations, one after the other.
    #[arg(long, default_value_t = 500)]
    pub(crate) count: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { count: 500 }
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    let (hub, store) = super::open(folder, "latency", |builder| builder).await?;
    let client = hub.client();
    let mut sync = fdatasync(folder, settings.count)?;
    let mut runs = Vec::new();
    for activities in [1_u32, 3] {
        let mut spread = Spread::default();
        let before = Reading::now(store.as_ref());
        for _ in 0..settings.count {
            let start = now();
            let id = client.start_new("Steps", activities).await?;
            let _: u32 = client.wait_for_completion(&id).await?;
            spread.add(start.elapsed());
        }
        let used = before.until_now(store.as_ref());
        let groups = to_f64(used.groups) / to_f64(settings.count);
        let sync_p50 = sync.percentile(50);
        let allowed = sync_p50.mul_f64(2.5 * groups) + std::time::Duration::from_micros(200);
        let mut run = Run::new(format!("latency: an orchestration of {activities} activities, alone"));
        run.add("groups", groups, "each")
            .add_ms("latency p50", spread.percentile(50))
            .add_ms("latency p99", spread.percentile(99))
            .add_ms("fdatasync p50", sync_p50)
            .add_ms("2.5 x groups x fdatasync + 0.2 ms", allowed);
        runs.push(run);
    }
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(runs)
}
