//! A program that uses the library, and that is watched while it does: one call after another, each with a
//! line when it is answered and the hub has nothing else to do.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use taskhub::{Client, Hub, Store, Timestamp};
use taskhub_e2e::Result;
use taskhub_e2e::facts::Fact;
use taskhub_e2e::workload::{EVENT, HUB, JOB, Job, Pace, registry};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, Synchronous};

const JOBS: u32 = 10;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Fact::Closed("error".to_owned(), error.to_string()).tell();
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: trace-target FOLDER [--unsynced]")?;
    let synchronous = match args.next() {
        Some(_) => Synchronous::Off,
        None => Synchronous::Full,
    };
    let options = EmbeddedOptions {
        synchronous,
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open(folder.as_ref(), options)?;
    let hub = Hub::builder(HUB)
        .registry(registry(Pace::none()))
        .open_in(&Store::over(Arc::new(store)))
        .await?;
    for number in 0..JOBS {
        work(&hub.client(), number).await?;
    }
    hub.stop(Duration::from_secs(1)).await?;
    Fact::Finished.tell();
    Ok(())
}

/// Each step waits for the one before, so that what is written belongs to what is acknowledged next.
async fn work(client: &Client, number: u32) -> Result<()> {
    let job = Job { number, step_waves: 0 };
    let acked = |what: &str| Fact::Acked(number, what.to_owned()).tell();

    // Not yet begun: nothing follows from the start, and the event waits.
    let later = job.start(client).at(Timestamp::MAX).await?;
    acked("started");
    client.raise_event(&later, EVENT, number).await?;
    acked("raised");
    client.terminate(&later).reason("enough").await?;
    acked("terminated");
    client.purge_instance_history(&later).await?;
    acked("purged");

    // One that runs: when it has ended, nothing is left to write.
    let whole = client.start(JOB, job).id(format!("whole-{number}")).await?;
    client.raise_event(&whole, EVENT, number).await?;
    let answer: u64 = client.wait_for_completion(&whole).await?;
    acked("completed");
    if answer == job.output() {
        Ok(())
    } else {
        Err("a job returned an unexpected result".into())
    }
}
