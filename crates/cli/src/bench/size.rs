//! Many instances: status, pages and purge over finished ones, memory of waiting ones.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use taskhub::{Client, InstanceId, RuntimeStatus};
use taskhub_core::id::HubName;
use taskhub_core::query::{Cursor, Filter, Payloads};
use taskhub_store::{Selection, Store};

use super::measure::{Spread, live_bytes, now, resident_bytes};
use super::report::{Run, to_f64};
use crate::report::Result;

/// Rows of a page.
const PAGE: usize = 100;
/// Status reads and pages that are timed.
const READS: usize = 2_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of instances.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) count: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { count: 100_000 }
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    Ok(vec![
        finished(folder, settings.count).await?,
        waiting(folder, settings.count, false).await?,
        waiting(folder, settings.count, true).await?,
    ])
}

/// Starts instances `p0`, `p1`, … of an orchestrator, many at a time; awaits their ends if asked to.
pub(super) async fn start(client: &Client, name: &'static str, count: usize, ends: bool) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (client, next) = (client.clone(), Arc::clone(&next));
        lanes.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok::<_, taskhub::HubError>(());
                }
                let start = client.start(name, if ends { Some(0) } else { None });
                let id = start.id(format!("p{index}")).await?;
                if ends {
                    client.wait_for_end(&id).await?;
                } else {
                    client.wait_for_start(&id).await?;
                }
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

async fn finished(folder: &Path, count: usize) -> Result<Run> {
    // A small memory budget, so that status reads are those of instances that have left memory.
    let (hub, store) = super::open(folder, "size", |builder| builder.memory_bytes_max(1 << 20)).await?;
    let client = hub.client();
    start(&client, "Steps", count, true).await?;
    let mut run = Run::new(format!("size: {count} finished instances"));
    let mut random = fastrand::Rng::with_seed(1);
    let mut status = Spread::default();
    for _ in 0..READS {
        let id = InstanceId::new(&format!("p{}", random.usize(0..count)))?;
        let begin = now();
        assert!(client.get_status(&id).await?.is_some(), "an instance is missing");
        status.add(begin.elapsed());
    }
    run.add_ms("status by id p50", status.percentile(50))
        .add_ms("status by id p99", status.percentile(99));
    pages(store.as_ref(), &mut run).await?;
    let begin = now();
    let purged = client.instances().purge().await?;
    assert_eq!(usize::try_from(purged), Ok(count), "purge left something behind");
    run.add(
        "purge by filter",
        to_f64(purged) / begin.elapsed().as_secs_f64(),
        "instances/s",
    );
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(run)
}

/// Pages through everything by status and created time; times the first, all, and the last page.
async fn pages(store: &dyn Store, run: &mut Run) -> Result<()> {
    let hub = HubName::new("BenchHub")?;
    let which = |filter: Filter, after: Option<Cursor>| Selection {
        hub: hub.clone(),
        filter,
        after,
        rows_max: PAGE,
    };
    let completed = || Filter {
        statuses: vec![RuntimeStatus::Completed],
        ..Filter::default()
    };
    let (mut spread, mut first, mut last) = (Spread::default(), Spread::default(), Spread::default());
    let (mut read, mut shown, mut after) = (0, 0, None);
    let mut middle = None;
    loop {
        let begin = now();
        let found = store.list(&which(completed(), after.clone()), Payloads::ALL).await?;
        let took = begin.elapsed();
        spread.add(took);
        if after.is_none() {
            first.add(took);
        }
        let page = found.page;
        read += found.rows_read;
        shown += page.rows.len();
        if shown > 1_000 && middle.is_none() {
            middle = page.rows.first().map(|row| row.created_at);
        }
        after = page.next;
        if after.is_none() {
            last.add(took);
            break;
        }
    }
    run.add_ms("page of 100, p99 of all pages", spread.percentile(99))
        .add_ms("first page", first.percentile(50))
        .add_ms("last page", last.percentile(50))
        .add("rows read for a row shown", to_f64(read) / to_f64(shown.max(1)), "");
    let mut ranged = Spread::default();
    for _ in 0..READS / 10 {
        let filter = Filter {
            created_from: middle,
            ..completed()
        };
        let begin = now();
        store.list(&which(filter, None), Payloads::ALL).await?;
        ranged.add(begin.elapsed());
    }
    run.add_ms("page by status and created time p99", ranged.percentile(99));
    let rare = Filter {
        statuses: vec![RuntimeStatus::Failed],
        ..Filter::default()
    };
    let begin = now();
    let found = store.list(&which(rare, None), Payloads::ALL).await?;
    run.add_ms("page of a status that nobody has", begin.elapsed()).add(
        "rows read for it",
        to_f64(found.rows_read),
        "",
    );
    Ok(())
}

async fn waiting(folder: &Path, count: usize, evict: bool) -> Result<Run> {
    let (before, resident_before) = (live_bytes(), resident_bytes());
    let (hub, _store) = super::open(folder, "waiting", |builder| {
        if evict {
            builder.live_bytes_max(0).memory_bytes_max(0)
        } else {
            builder.live_bytes_max(4 << 30).memory_bytes_max(4 << 30)
        }
    })
    .await?;
    let client = hub.client();
    start(&client, "Wait", count, false).await?;
    let report = hub.engine().report().await;
    let kept = if evict { "evicted" } else { "hot" };
    let mut run = Run::new(format!("size: {count} instances waiting for an event, {kept}"));
    run.add(
        "allocated",
        to_f64(live_bytes().saturating_sub(before)) / to_f64(count),
        "bytes each",
    )
    .add(
        "resident",
        to_f64(resident_bytes().saturating_sub(resident_before)) / to_f64(count),
        "bytes each",
    )
    .add("instances in memory", to_f64(report.instances), "");
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(run)
}
