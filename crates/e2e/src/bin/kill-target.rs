//! A program that uses the library, and that drivers kill: starts jobs, sees to their end those that
//! earlier runs left, and tells what happens.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use taskhub::{Client, Hub, HubError, InstanceId, RuntimeStatus, Store};
use taskhub_e2e::Result;
use taskhub_e2e::door::{Door, Line};
use taskhub_e2e::facts::Fact;
use taskhub_e2e::split::SplitStore;
use taskhub_e2e::target::Target;
use taskhub_e2e::workload::{HUB, Job, Pace, registry};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Time over which starts are spread, so that some are answered while others are asked.
const WAVE_MICROS: u64 = 5_000;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.downcast_ref().map_or("error", HubError::code);
            Fact::Closed(code.to_owned(), error.to_string()).tell();
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let target = Target::parse(std::env::args().skip(1))?;
    let jobs = target.jobs()?;
    // Before the hub opens, so that no signal finds the default, which is death.
    let mut signals = Signals::new()?;
    let (count, waves) = watch::channel(0);
    let pace = Pace {
        hold: target.hold.clone(),
        waves,
    };
    let hub = Hub::builder(HUB)
        .registry(registry(pace))
        .activities_max(target.activities_max)
        .open_in(&open(&target)?)
        .await?;
    let mut serving = JoinSet::new();
    let door = if target.over_http {
        Door::Http(Arc::new(Line::to_own_server(&hub, &mut serving).await?))
    } else {
        Door::Direct(hub.client())
    };
    Fact::Ready.tell();
    let is_done = tokio::select! {
        done = work(hub.client(), &door, &target, jobs, count) => done.map(|()| true)?,
        () = signals.come() => false,
    };
    drop((door, serving));
    let mut stop = pin!(hub.stop(Duration::from_millis(target.grace_ms)));
    // The stop has begun before this is reported, so nothing more is dispatched afterwards.
    let stopped = poll_fn(|context| Poll::Ready(stop.as_mut().poll(context))).await;
    if !is_done {
        Fact::Stopping.tell();
    }
    match stopped {
        Poll::Ready(stopped) => stopped?,
        Poll::Pending => stop.await?,
    }
    if is_done { Fact::Finished } else { Fact::Stopped }.tell();
    Ok(())
}

fn open(target: &Target) -> Result<Store, HubError> {
    let store = EmbeddedStore::open(&target.folder, EmbeddedOptions::default())?;
    Ok(if target.split_commits {
        Store::over(Arc::new(SplitStore::new(store)))
    } else {
        Store::over(Arc::new(store))
    })
}

/// Ctrl-C, and where there is one the signal by which a supervisor asks for the end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }

    #[cfg(not(unix))]
    async fn come(&mut self) {
        let _pressed = tokio::signal::ctrl_c().await;
    }
}

/// Sees everything that is live to its end, and starts `jobs` in waves.
async fn work(client: Client, door: &Door, target: &Target, jobs: Vec<u32>, count: watch::Sender<u64>) -> Result<()> {
    let mut tasks = JoinSet::new();
    let live = [RuntimeStatus::Pending, RuntimeStatus::Running];
    for info in client.instances().statuses(live).await? {
        let job = Job::read(info.input.as_ref()).ok_or("the input of an instance is not a job")?;
        Fact::Live(job.number).tell();
        tasks.spawn(follow(door.clone(), info.instance, job));
    }
    Fact::Listed.tell();
    let unanswered = Arc::new(Semaphore::new(target.wave.max(1)));
    for wave in jobs.chunks(target.wave.max(1)) {
        for &number in wave {
            let step_waves = target.step_waves;
            let unanswered = Arc::clone(&unanswered).acquire_owned().await?;
            tasks.spawn(start(door.clone(), Job { number, step_waves }, unanswered));
        }
        count.send_modify(|waves| *waves += 1);
    }
    drop(count);
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

async fn start(door: Door, job: Job, unanswered: OwnedSemaphorePermit) {
    tokio::time::sleep(Duration::from_micros(fastrand::u64(..WAVE_MICROS))).await;
    Fact::Asked(job.number).tell();
    let answer = door.start(job).await;
    drop(unanswered);
    match answer {
        Ok(instance) => {
            Fact::Acked(job.number, instance.to_string()).tell();
            follow(door, instance, job).await;
        }
        Err(code) => Fact::Failed(job.number, code).tell(),
    }
}

/// Raises a job's event once it runs, and waits for its end.
async fn follow(door: Door, instance: InstanceId, job: Job) {
    let raised = || Fact::Raised(job.number).tell();
    match door.follow(&instance, job, raised).await {
        Ok(status) => Fact::Ended(job.number, status).tell(),
        Err(code) => Fact::Failed(job.number, code).tell(),
    }
}
