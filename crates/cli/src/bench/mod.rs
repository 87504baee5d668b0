//! `taskhub bench`: what the embedded store and the engine do on this machine, with every step synced.

mod fanout;
mod hello;
mod http;
mod http_size;
mod latency;
mod measure;
mod report;
mod size;
mod steps;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use taskhub::{ActivityContext, Error, Hub, HubBuilder, OrchestrationContext, join_all};
use taskhub_store::Store;
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};

use crate::report::{Result, Trouble};
use report::Run;

/// Options of `taskhub bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure [default: everything]
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Folder on the disk to measure [default: a temporary folder]
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Orchestrations of three activities each, in a closed loop.
    Hello(hello::Settings),
    /// One orchestration of many activities in a row.
    Steps(steps::Settings),
    /// One orchestration of many activities at once.
    Fanout(fanout::Settings),
    /// One activity alone, beside the disk's own sync.
    Latency(latency::Settings),
    /// Status, pages and purge over many instances, and the memory of waiting ones.
    Size(size::Settings),
    /// Starts over HTTP, beside an endpoint that does nothing.
    Http(http::Settings),
    /// Status and pages over HTTP, alone and beside starts; starts beside a purge.
    HttpSize(http_size::Settings),
}

/// Runs benchmarks and prints their figures.
pub(crate) async fn run(bench: Bench) -> Result<String> {
    let temporary;
    let folder = if let Some(folder) = &bench.folder {
        folder.as_path()
    } else {
        temporary = tempfile::tempdir()?;
        temporary.path()
    };
    let runs = match bench.what {
        Some(What::Hello(settings)) => hello::run(folder, &settings).await?,
        Some(What::Steps(settings)) => steps::run(folder, &settings).await?,
        Some(What::Fanout(settings)) => fanout::run(folder, &settings).await?,
        Some(What::Latency(settings)) => latency::run(folder, &settings).await?,
        Some(What::Size(settings)) => size::run(folder, &settings).await?,
        Some(What::Http(settings)) => http::run(folder, &settings).await?,
        Some(What::HttpSize(settings)) => http_size::run(folder, &settings).await?,
        None => all(folder).await?,
    };
    Ok(if bench.json {
        report::json_text(&runs)
    } else {
        report::table(&runs)
    })
}

async fn all(folder: &Path) -> Result<Vec<Run>> {
    let mut runs = latency::run(folder, &latency::Settings::default()).await?;
    for settings in hello::Settings::variants() {
        runs.extend(hello::run(folder, &settings).await?);
    }
    for evict in [false, true] {
        runs.extend(
            steps::run(
                folder,
                &steps::Settings {
                    evict,
                    ..steps::Settings::default()
                },
            )
            .await?,
        );
    }
    runs.extend(fanout::run(folder, &fanout::Settings::default()).await?);
    runs.extend(size::run(folder, &size::Settings::default()).await?);
    runs.extend(http::run(folder, &http::Settings::default()).await?);
    runs.extend(http_size::run(folder, &http_size::Settings::default()).await?);
    Ok(runs)
}

/// A hub on a fresh embedded store in a folder of its own below `folder`.
async fn open(
    folder: &Path,
    name: &str,
    adapt: impl FnOnce(HubBuilder) -> HubBuilder,
) -> Result<(Hub, Arc<dyn Store>)> {
    std::fs::create_dir_all(folder)?;
    let home = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(folder)?
        .keep();
    let store: Arc<dyn Store> = Arc::new(open_store(&home)?);
    let builder = Hub::builder("BenchHub")
        .orchestrator("Hello", hello)
        .orchestrator("Steps", steps_in_a_row)
        .orchestrator("Fanout", fan_out)
        .orchestrator("Wait", wait)
        .activity("Echo", echo)
        .activities_max(10_000);
    let hub = adapt(builder)
        .open_in(&taskhub::Store::over(Arc::clone(&store)))
        .await?;
    Ok((hub, store))
}

/// Opens the embedded store in a folder, which the error names.
pub(crate) fn open_store(home: &Path) -> Result<EmbeddedStore> {
    let attempt = || format!("cannot open the store in {}", home.display());
    EmbeddedStore::open(home, EmbeddedOptions::default()).map_err(|error| Trouble::while_trying(attempt(), error))
}

async fn echo(_: ActivityContext, text: String) -> taskhub::Result<String> {
    Ok(text)
}

async fn hello(ctx: OrchestrationContext, text: String) -> taskhub::Result<Vec<String>> {
    let mut greetings = Vec::with_capacity(3);
    for _ in 0..3 {
        greetings.push(ctx.call_activity("Echo", &text).await?);
    }
    Ok(greetings)
}

async fn steps_in_a_row(ctx: OrchestrationContext, count: u32) -> taskhub::Result<u32> {
    for _ in 0..count {
        let _: String = ctx.call_activity("Echo", "x").await?;
    }
    Ok(count)
}

async fn fan_out(ctx: OrchestrationContext, width: u32) -> taskhub::Result<usize> {
    let calls = (0..width).map(|index| ctx.call_activity::<String, _>("Echo", index.to_string()));
    let results = join_all(calls).await;
    let done = results.into_iter().collect::<taskhub::Result<Vec<_>, _>>()?;
    Ok(done.len())
}

async fn wait(ctx: OrchestrationContext, (): ()) -> taskhub::Result<Option<String>> {
    ctx.wait_for_external_event("Go").await.map_err(Error::from)
}
