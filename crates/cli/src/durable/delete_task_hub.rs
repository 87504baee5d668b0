//! `durable delete-task-hub` (cli.md §6.9).

use clap::Args;

use super::common::{Common, DONE, FAILED, Form, UNAVAILABLE, USAGE, example_and_exits};
use super::job::Job;
use super::json::Json;
use crate::find::Found;
use crate::hub_access::{self, HubSize, Intent};
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

const NO_HUB: (u8, &str) = (4, "with --strict: the task hub does not exist");

const EXAMPLE: &str = "\
Example:
  func durable delete-task-hub --task-hub-name UserTest";

/// Delete a task hub and everything in it.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, NO_HUB])
)]
pub(crate) struct DeleteTaskHub {
    /// Only show what would be deleted [default: false]
    #[arg(long, value_name = "BOOL")]
    dry_run: Option<bool>,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &DeleteTaskHub) -> Result<()> {
    let found = job.find()?;
    job.refuse_default_server(&found)?;
    let mut target = job.open_existing(&found).await?;
    let size = target.size(&found.hub).await;
    // The store is closed while the user decides, so that other processes can use it.
    target.close().await;
    let size = size?;
    if size.is_none() && job.needs_what_it_names() {
        return Err(missing(&found));
    }
    if given.dry_run == Some(true) {
        return dry(job, &found, size.as_ref());
    }
    if let Some(size) = &size {
        confirm(job, size)?;
    }
    let mut target = hub_access::open(&found, Intent::Use).await?;
    let existed = target.delete_hub().await;
    target.close().await;
    told(job, &found, existed?)
}

fn told(job: &mut Job<'_>, found: &Found, existed: bool) -> Result<()> {
    let hub = &found.hub;
    if !existed {
        if job.needs_what_it_names() {
            return Err(missing(found));
        }
        job.screen.note(&format!("task hub '{hub}' did not exist"));
    }
    if job.form == Form::Compat {
        return job
            .screen
            .say(Colour::Green, &format!("Task hub '{hub}' successfully deleted."));
    }
    let value = Json::object([("hub", Json::Text(hub.to_string())), ("existed", Json::Bool(existed))]);
    job.answer(&value, None)
}

fn missing(found: &Found) -> Stop {
    let message = format!("task hub '{}' does not exist", found.hub);
    Stop::error(exit::NOT_FOUND, "hub-not-found", message)
}

fn dry(job: &mut Job<'_>, found: &Found, size: Option<&HubSize>) -> Result<()> {
    let (instances, active) = size.map_or((0, 0), |size| (size.instances, size.active));
    if job.form == Form::Compat {
        let hub = &found.hub;
        let line = format!("Task hub '{hub}' would be deleted, with {instances} instances, {active} active.");
        return job.screen.say(Colour::Plain, &line);
    }
    let number = |number: u64| Json::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let value = Json::object([
        ("hub", Json::Text(found.hub.to_string())),
        ("existed", Json::Bool(size.is_some())),
        ("instances", number(instances)),
        ("active", number(active)),
        ("isDryRun", Json::Bool(true)),
    ]);
    job.answer(&value, None)
}

/// Asks an interactive user to confirm the deletion of a hub with live instances.
fn confirm(job: &mut Job<'_>, size: &HubSize) -> Result<()> {
    if job.is_sure || size.active == 0 || !job.world.asks || !job.world.err_is_terminal {
        return Ok(());
    }
    let HubSize {
        name,
        instances,
        active,
    } = size;
    let question = format!("Task hub '{name}' has {instances} instances, {active} active. Type the name to delete it:");
    job.screen.ask(&question);
    let mut typed = String::new();
    let read = std::io::stdin().read_line(&mut typed);
    if read.is_ok() && typed.trim().eq_ignore_ascii_case(name.as_str()) {
        return Ok(());
    }
    if !typed.ends_with('\n') {
        // The end of the input leaves the question's line open.
        job.screen.note("");
    }
    Err(Stop::error(
        exit::FAILED,
        "declined",
        "the name does not match; nothing was deleted",
    ))
}
