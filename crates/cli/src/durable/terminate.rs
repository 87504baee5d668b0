//! `durable terminate` (cli.md §6.5).

use std::time::Duration;

use clap::Args;
use taskhub_core::id::InstanceId;
use taskhub_core::status::RuntimeStatus;

use super::common::{Common, DONE, FAILED, Form, NOT_FOUND, Subject, UNAVAILABLE, USAGE, example_and_exits};
use super::job::{Interrupt, Job, id_of};
use crate::find::Found;
use crate::hub_access::{Outcome, Target};
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

/// How long an end is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// An end that comes within this time is not worth a word about waiting.
const SOON: Duration = Duration::from_millis(100);
/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(20);

const EXAMPLE: &str = "\
Example:
  func durable terminate --id 0ab8c55a66644d68a3a8b220b12d209c \\
      --reason \"It was time to be done.\"";

/// Stop an instance.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, NOT_FOUND])
)]
pub(crate) struct Terminate {
    #[command(flatten)]
    subject: Subject,
    /// Why it is stopped; becomes its output.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &Terminate) -> Result<()> {
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let ended = terminate(job, given, &found, &mut target).await;
    target.close().await;
    ended
}

async fn terminate(job: &mut Job<'_>, given: &Terminate, found: &Found, target: &mut Target) -> Result<()> {
    let unknown = |job: &mut Job<'_>| {
        let line = format!(
            "Failed to find instance '{}'. No instance was terminated.",
            given.subject.id
        );
        job.not_found(&line, Colour::Yellow)
    };
    let Some(id) = id_of(&given.subject.id) else {
        return unknown(job);
    };
    match target.record(&id).await?.map(|record| record.info.status) {
        None => return unknown(job),
        Some(RuntimeStatus::Terminated) => return success(job, found, target, &id).await,
        Some(_) => {}
    }
    match target.terminate(&id, given.reason.as_deref()).await? {
        Outcome::Missing => unknown(job),
        Outcome::Done => wait(job, found, target, &id).await,
        // Somebody else was faster.
        Outcome::Ended(RuntimeStatus::Terminated) => success(job, found, target, &id).await,
        Outcome::Ended(status) => Err(already(&id, status)),
    }
}

fn already(id: &InstanceId, status: RuntimeStatus) -> Stop {
    let message = format!("Instance '{id}' is already {status}; nothing was terminated.");
    Stop::plain(exit::FAILED, "instance-not-live", message)
}

async fn success(job: &mut Job<'_>, found: &Found, target: &mut Target, id: &InstanceId) -> Result<()> {
    if job.form == Form::Compat {
        return job
            .screen
            .say(Colour::Green, &format!("Successfully terminated '{id}'"));
    }
    match target.record(id).await? {
        Some(record) => job.answer_instance(&found.hub, &record),
        None => Ok(()),
    }
}

/// Waits until the instance is over, which it is at once (A25).
async fn wait(job: &mut Job<'_>, found: &Found, target: &mut Target, id: &InstanceId) -> Result<()> {
    let mut waited = Duration::ZERO;
    let mut interrupt = Interrupt::new()?;
    loop {
        match target.record(id).await?.map(|record| record.info.status) {
            // Purged meanwhile: it is over.
            None | Some(RuntimeStatus::Terminated) => return success(job, found, target, id).await,
            Some(status) if status.is_terminal() => return Err(already(id, status)),
            Some(_) => {}
        }
        if waited >= PATIENCE {
            let message = "Instance did not terminate within the given timeout.";
            return Err(Stop::plain(exit::FAILED, "timed-out", message));
        }
        if waited == SOON && job.form == Form::Compat {
            let line = format!(
                "Sent a termination message to instance '{id}'. Waiting up to 30 seconds for the orchestration to actually \
                 terminate..."
            );
            job.screen.say(Colour::Plain, &line)?;
            job.screen.flush()?;
        }
        if interrupt.or(tokio::time::sleep(PAUSE)).await.is_none() {
            return Err(Stop::silent(exit::INTERRUPTED));
        }
        waited += PAUSE;
    }
}
