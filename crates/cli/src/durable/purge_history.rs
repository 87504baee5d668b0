//! `durable purge-history` (cli.md §6.8).

use clap::Args;
use taskhub_core::query::Filter;
use taskhub_core::status::RuntimeStatus;

use super::common::{Common, Created, DONE, FAILED, Form, UNAVAILABLE, USAGE, example_and_exits};
use super::dates;
use super::job::{Interrupt, Job};
use super::json::Json;
use super::statuses::WORDS;
use crate::hub_access::{PAGE_ROWS, Purged, Target};
use crate::proposed::Proposed;
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

const INTERRUPTED: (u8, &str) = (130, "interrupted; what was deleted until then stays deleted");

const EXAMPLE: &str = "\
Example:
  func durable purge-history --created-before 2018-11-14T19:35:00.0000000Z \\
      --runtime-status failed";

/// Delete ended instances and everything stored about them.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, INTERRUPTED])
)]
pub(crate) struct PurgeHistory {
    #[command(flatten)]
    created: Created,
    /// Only instances in one of these ended statuses [default: all ended]
    #[arg(long, value_name = "STATUS", num_args = 1.., value_parser = Proposed(WORDS), hide_possible_values = true)]
    runtime_status: Vec<String>,
    /// Only instances of this orchestrator.
    #[arg(long)]
    name: Option<String>,
    /// Only show how many instances would be deleted [default: false]
    #[arg(long, value_name = "BOOL")]
    dry_run: Option<bool>,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &PurgeHistory) -> Result<()> {
    let mut filter = Filter {
        name: given.name.clone(),
        ..job.filter(&given.created, &given.runtime_status)?
    };
    if filter.statuses.iter().any(|status| !status.is_terminal()) {
        let what = "only ended instances can be purged: completed, failed, terminated, canceled";
        return Err(job.usage.error(what));
    }
    let named = filter.statuses.clone();
    if filter.statuses.is_empty() {
        let is_ended = |status: &RuntimeStatus| status.is_terminal();
        filter.statuses = RuntimeStatus::ALL.into_iter().filter(is_ended).collect();
    }
    let found = job.find()?;
    job.refuse_default_server(&found)?;
    let mut target = job.open_existing(&found).await?;
    if given.dry_run == Some(true) {
        let count = count(&mut target, &filter).await?;
        target.close().await;
        return dry(job, count);
    }
    let mut purged = Purged::default();
    let mut interrupt = Interrupt::new()?;
    let ended = interrupt.or(purge(&mut target, &filter, &mut purged)).await;
    target.close().await;
    if let Some(done) = ended {
        done?;
        return report(job, given, &named, purged);
    }
    // What is gone is gone; run again to go on.
    report(job, given, &named, purged)?;
    Err(Stop::silent(exit::INTERRUPTED))
}

async fn purge(target: &mut Target, filter: &Filter, purged: &mut Purged) -> Result<()> {
    let mut after = None;
    while let Some(some) = target.purge_some(filter, &mut after).await? {
        purged.instances += some.instances;
        purged.rows += some.rows;
        if after.is_none() {
            break;
        }
        // An interrupt is heard between two pages.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn count(target: &mut Target, filter: &Filter) -> Result<u64> {
    let mut count = 0;
    let mut after = None;
    loop {
        let page = target.list(filter, after.as_deref(), PAGE_ROWS).await?;
        count += page.rows.len() as u64;
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}

fn dry(job: &mut Job<'_>, count: u64) -> Result<()> {
    if job.form == Form::Compat {
        return job
            .screen
            .say(Colour::Plain, &format!("Instances that would be deleted: {count}"));
    }
    let value = Json::object([("matched", number(count)), ("isDryRun", Json::Bool(true))]);
    job.answer(&value, None)
}

fn number(number: u64) -> Json {
    Json::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

fn report(job: &mut Job<'_>, given: &PurgeHistory, named: &[RuntimeStatus], purged: Purged) -> Result<()> {
    if job.form != Form::Compat {
        let value = Json::object([
            ("instancesDeleted", number(purged.instances)),
            ("rowsDeleted", number(purged.rows)),
        ]);
        return job.answer(&value, None);
    }
    let (after, before) = job.times(&given.created)?;
    let after = dates::in_sentence(after.unwrap_or(dates::MIN));
    let before = dates::in_sentence(before.unwrap_or(dates::DEFAULT_BEFORE));
    let mut line = format!("Purged orchestration history for all instances created between '{after}' and '{before}'");
    if !named.is_empty() {
        let words: Vec<String> = named.iter().map(ToString::to_string).collect();
        let list = words.join(",");
        line = format!("{line} and whose runtime status matched one of the following: [{list}]");
    }
    job.screen.say(Colour::Green, &line)?;
    job.screen
        .say(Colour::Plain, &format!("Instances deleted: {}", purged.instances))?;
    job.screen.say(Colour::Plain, &format!("Rows deleted: {}", purged.rows))
}
