//! Orchestrations of three activities each, in a closed loop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use taskhub::Client;

use super::measure::{Reading, Spread, now};
use super::report::{Run, to_f64};
use crate::report::Result;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of orchestrations.
    #[arg(long, default_value_t = 30_000)]
    pub(crate) count: usize,
    /// Orchestrations running at the same time.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) in_flight: usize,
    /// Bytes of random text as input, and as input and result of each activity.
    #[arg(long, default_value_t = 5)]
    pub(crate) payload: usize,
    /// Evict every instance after each turn, so that every turn replays its history.
    #[arg(long)]
    pub(crate) evict: bool,
    /// Threads that run orchestrators.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            count: 30_000,
            in_flight: 1_000,
            payload: 5,
            evict: false,
            threads: 1,
        }
    }
}

impl Settings {
    /// The runs of a plain `taskhub bench`.
    pub(crate) fn variants() -> Vec<Self> {
        vec![
            Self {
                count: 500,
                in_flight: 1,
                ..Self::default()
            },
            Self::default(),
            Self {
                payload: 200,
                ..Self::default()
            },
            Self {
                count: 5_000,
                evict: true,
                ..Self::default()
            },
            Self {
                count: 5_000,
                payload: 200,
                evict: true,
                ..Self::default()
            },
        ]
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    let (hub, store) = super::open(folder, "hello", |builder| {
        let builder = builder.threads(settings.threads);
        if settings.evict {
            builder.live_bytes_max(0).memory_bytes_max(0)
        } else {
            builder
        }
    })
    .await?;
    let client = hub.client();
    // What the first orchestrations pay for and the others do not: pages, caches, connections.
    many(&client, settings.in_flight.min(500), settings).await?;
    let before = Reading::now(store.as_ref());
    let mut spread = many(&client, settings.count, settings).await?;
    let used = before.until_now(store.as_ref());
    let Settings {
        in_flight,
        payload,
        evict,
        threads,
        ..
    } = settings;
    let kept = if *evict { "eviction forced" } else { "kept live" };
    let mut run = Run::new(format!(
        "hello: {in_flight} in flight, {payload} byte payloads, {kept}, {threads} thread(s)"
    ));
    run.add_used(&used, settings.count)
        .add("activities", to_f64(3 * settings.count) / used.wall.as_secs_f64(), "/s")
        .add_ms("latency p50", spread.percentile(50))
        .add_ms("latency p99", spread.percentile(99));
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(vec![run])
}

/// Starts and awaits `count` orchestrations with limited concurrency; returns the duration of each.
async fn many(client: &Client, count: usize, settings: &Settings) -> Result<Spread> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut loops = tokio::task::JoinSet::new();
    for lane in 0..settings.in_flight.min(count) {
        let (client, begun, bytes) = (client.clone(), Arc::clone(&begun), settings.payload);
        let mut random = fastrand::Rng::with_seed(lane as u64);
        loops.spawn(async move {
            let mut taken = Vec::new();
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect();
                let start = now();
                let id = client.start_new("Hello", &text).await?;
                let greetings: Vec<String> = client.wait_for_completion(&id).await?;
                assert_eq!(greetings.len(), 3, "an orchestration gave a wrong result");
                taken.push(start.elapsed());
            }
            Ok::<_, taskhub::HubError>(taken)
        });
    }
    let mut spread = Spread::default();
    while let Some(taken) = loops.join_next().await {
        for sample in taken?? {
            spread.add(sample);
        }
    }
    Ok(spread)
}
