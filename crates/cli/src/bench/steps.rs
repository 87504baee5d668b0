//! One orchestration of many activities in a row: does a step cost the same at the end as at the start?

use std::path::Path;
use std::time::Duration;

use clap::Args;
use taskhub::{EventKind, Timestamp};

use super::measure::Reading;
use super::report::{Run, to_f64};
use crate::report::Result;

/// Steps at each end that are compared.
const ENDS: usize = 1_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of activities, one after the other.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) steps: u32,
    /// Evict every instance after each turn, so that every turn replays its history.
    #[arg(long)]
    pub(crate) evict: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 10_000,
            evict: false,
        }
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    // With everything replayed the cost grows with the square of the length, so fewer steps are taken.
    let steps = if settings.evict {
        settings.steps.min(2_000)
    } else {
        settings.steps
    };
    let (hub, store) = super::open(folder, "steps", |builder| {
        if settings.evict {
            builder.live_bytes_max(0).memory_bytes_max(0)
        } else {
            builder
        }
    })
    .await?;
    let client = hub.client();
    let before = Reading::now(store.as_ref());
    let id = client.start_new("Steps", steps).await?;
    let _: u32 = client.wait_for_completion(&id).await?;
    let used = before.until_now(store.as_ref());
    let status = id.status().with_history().await?;
    let history = status.and_then(|status| status.history).unwrap_or_default();
    let turns: Vec<Timestamp> = history
        .iter()
        .filter(|event| event.kind == EventKind::OrchestratorStarted)
        .map(|event| event.at)
        .collect();
    let ends = ENDS.min(turns.len() / 2).max(1);
    let span = |turns: &[Timestamp]| match turns {
        [first, .., last] => last.since(*first),
        _ => Duration::ZERO,
    };
    let first = span(&turns[..ends]);
    let last = span(&turns[turns.len() - ends..]);
    let kept = if settings.evict { "eviction forced" } else { "kept live" };
    let mut run = Run::new(format!("steps: {steps} in a row, {kept}"));
    let each = |total: f64| total / f64::from(steps);
    run.add("steps", f64::from(steps) / used.wall.as_secs_f64(), "/s")
        .add("cpu", each(used.cpu.as_secs_f64() * 1e6), "us each")
        .add("allocations", each(to_f64(used.allocations)), "each")
        .add("written", each(to_f64(used.bytes_written)), "bytes each")
        .add("syncs", each(to_f64(used.syncs)), "each")
        .add_ms("first steps, each", first / u32::try_from(ends).unwrap_or(1))
        .add_ms("last steps, each", last / u32::try_from(ends).unwrap_or(1))
        .add("last : first", last.as_secs_f64() / first.as_secs_f64().max(1e-9), "");
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(vec![run])
}
