//! Many finished instances behind a server: status and pages, idle and beside starts, and starts beside a purge.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use http::header::HeaderName;
use http::{Method, StatusCode};
use taskhub_api::client::{HttpAnswer, HttpRequest};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

use super::http::{client, serve, start, unanswered};
use super::measure::{Spread, now};
use super::report::{Run, to_f64};
use super::size;
use crate::hub_access::http::{Http, request};
use crate::report::{Result, Trouble};

/// Starts that may be under way at once; when these are not enough, the pace is what the server can take.
const UNDER_WAY_MAX: usize = 512;
/// Starts a second beside a purge.
const STARTS_BESIDE_PURGE: u32 = 100;
/// How long a purge may take.
const PURGE_PATIENCE: Duration = Duration::from_mins(5);

const TOKEN: HeaderName = HeaderName::from_static("x-ms-continuation-token");
const BASE: &str = "/runtime/webhooks/durabletask";
const START: &str = "/runtime/webhooks/durabletask/orchestrators/Steps";

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of instances.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) count: usize,
    /// Number of status reads, and least number of pages, to time.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) reads: usize,
    /// Starts per second beside the reads.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Seconds of starts before the purge, to compare those beside the purge with.
    #[arg(long, default_value_t = 60)]
    pub(crate) quiet: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            count: 100_000,
            reads: 2_000,
            rate: 5_000,
            quiet: 60,
        }
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    // A small memory budget, so that status reads are those of instances that have left memory.
    let (hub, _store) = super::open(folder, "http-size", |builder| builder.memory_bytes_max(1 << 20)).await?;
    size::start(&hub.client(), "Steps", settings.count, true).await?;
    let mut tasks = JoinSet::new();
    let address = serve(&hub, &mut tasks).await?;
    let count = settings.count;
    let mut idle = Run::new(format!("http-size: {count} finished instances, idle"));
    reads(address, settings, &mut idle).await?;
    let rate = settings.rate;
    let mut loaded = Run::new(format!("http-size: {count} finished instances beside {rate} starts/s"));
    let pacer = Pacer::begin(address, rate);
    reads(address, settings, &mut loaded).await?;
    pacer.end().await?.show(&mut loaded);
    let purged = purge(address, settings).await?;
    tasks.shutdown().await;
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(vec![idle, loaded, purged])
}

/// Times status reads by id and pages of a list.
async fn reads(address: SocketAddr, settings: &Settings, run: &mut Run) -> Result<()> {
    let client = client(address)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut spread = Spread::default();
    for _ in 0..settings.reads {
        let begin = now();
        let path = format!("{BASE}/instances/p{}", random.usize(0..settings.count));
        let answer = call(&client, request(Method::GET, path)).await?;
        assert_eq!(answer.status, StatusCode::OK, "an instance is missing");
        spread.add(begin.elapsed());
    }
    run.add_ms("status by id p50", spread.percentile(50))
        .add_ms("status by id p99", spread.percentile(99))
        .add_ms("slowest status", spread.percentile(100));
    let mut pages = Spread::default();
    let mut token = None;
    for _ in 0..settings.reads.max(settings.count.div_ceil(100)) {
        let path = format!("{BASE}/instances?top=100&runtimeStatus=Completed&createdTimeFrom=2000-01-01T00:00:00Z");
        let begin = now();
        let mut ask = request(Method::GET, path);
        if let Some(token) = token.take() {
            ask = ask.header(TOKEN, token);
        }
        let answer = call(&client, ask).await?;
        assert_eq!(answer.status, StatusCode::OK, "a list was refused");
        pages.add(begin.elapsed());
        // After the last page begins the first again.
        token = answer.headers.get(TOKEN).cloned();
    }
    run.add_ms("page of 100 p50", pages.percentile(50))
        .add_ms("page of 100 p99", pages.percentile(99))
        .add_ms("slowest page", pages.percentile(100));
    Ok(())
}

async fn call(client: &Http, ask: HttpRequest) -> Result<HttpAnswer> {
    client.ask(ask).await.map_err(|stop| unanswered("a call", stop))
}

/// Purges all of the instances beside starts, whose latency is compared with that of the time before.
async fn purge(address: SocketAddr, settings: &Settings) -> Result<Run> {
    let mut run = Run::new(format!(
        "http-size: purge of {} instances beside {STARTS_BESIDE_PURGE} starts/s",
        settings.count
    ));
    let pacer = Pacer::begin(address, STARTS_BESIDE_PURGE);
    tokio::time::sleep(Duration::from_secs(settings.quiet)).await;
    let mut before = pacer.end().await?;
    let pacer = Pacer::begin(address, STARTS_BESIDE_PURGE);
    let begin = now();
    // The ids of the concurrent starts are hexadecimal, so they do not match the prefix.
    let path = format!("{BASE}/instances?createdTimeFrom=2000-01-01T00:00:00Z&instanceIdPrefix=p");
    let ask = request(Method::DELETE, path).within(PURGE_PATIENCE);
    let answer = call(&client(address)?, ask).await?;
    let took = begin.elapsed();
    let mut beside = pacer.end().await?;
    let expected = format!("{{\"instancesDeleted\":{}}}", settings.count);
    assert_eq!(answer.body, expected.as_bytes(), "a purge left something behind");
    let ratio = beside.spread.percentile(99).as_secs_f64() / before.spread.percentile(99).as_secs_f64().max(1e-9);
    run.add("purged", to_f64(settings.count) / took.as_secs_f64(), "instances/s")
        .add("starts before", to_f64(before.spread.count()), "")
        .add_ms("before it: start p50", before.spread.percentile(50))
        .add_ms("before it: start p99", before.spread.percentile(99))
        .add_ms("before it: slowest start", before.spread.percentile(100))
        .add("starts beside it", to_f64(beside.spread.count()), "")
        .add_ms("beside it: start p50", beside.spread.percentile(50))
        .add_ms("beside it: start p99", beside.spread.percentile(99))
        .add_ms("beside it: slowest start", beside.spread.percentile(100))
        .add("p99 beside it to p99 before it", ratio, "");
    Ok(run)
}

/// Starts at an even pace, whether those before them are answered or not.
struct Pacer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Pace>>,
}

/// How starts went.
struct Pace {
    spread: Spread,
    took: Duration,
}

impl Pacer {
    #[expect(
        clippy::disallowed_methods,
        reason = "starts go on beside what is measured; whoever begins them ends them"
    )]
    fn begin(address: SocketAddr, rate: u32) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(pace(address, rate, stopped));
        Self { stop, task }
    }

    async fn end(self) -> Result<Pace> {
        drop(self.stop);
        self.task.await?
    }
}

impl Pace {
    fn show(mut self, run: &mut Run) {
        run.add("starts", to_f64(self.spread.count()) / self.took.as_secs_f64(), "/s")
            .add_ms("start p50", self.spread.percentile(50))
            .add_ms("start p99", self.spread.percentile(99));
    }
}

async fn pace(address: SocketAddr, rate: u32, mut stopped: oneshot::Receiver<()>) -> Result<Pace> {
    // The timer knows milliseconds.
    let at_once = rate.div_ceil(1_000);
    let mut ticks = interval(Duration::from_secs(1) * at_once / rate);
    let idle = Arc::new(Mutex::new(Vec::new()));
    let start_some = |under_way: &mut JoinSet<_>| {
        for _ in 0..at_once {
            if under_way.len() < UNDER_WAY_MAX {
                under_way.spawn(start_one(address, Arc::clone(&idle)));
            }
        }
    };
    let mut under_way = JoinSet::new();
    let (mut spread, begin) = (Spread::default(), now());
    // The first tick comes at once, so that the shortest time has a start.
    ticks.tick().await;
    start_some(&mut under_way);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            _ = ticks.tick() => start_some(&mut under_way),
            Some(taken) = under_way.join_next() => spread.add(taken??),
        }
    }
    while let Some(taken) = under_way.join_next().await {
        spread.add(taken??);
    }
    Ok(Pace {
        spread,
        took: begin.elapsed(),
    })
}

/// Starts one over a connection that is idle, or a new one, and says how long that took.
async fn start_one(address: SocketAddr, idle: Arc<Mutex<Vec<Http>>>) -> Result<Duration, Trouble> {
    let begin = now();
    let used = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let client = match used {
        Some(client) => client,
        None => client(address)?,
    };
    start(&client, START).await?;
    let took = begin.elapsed();
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
    Ok(took)
}
