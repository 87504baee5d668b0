//! `durable get-history` (cli.md §6.3).

use clap::Args;

use super::common::{Common, DONE, FAILED, Form, NOT_FOUND, Subject, UNAVAILABLE, USAGE, example_and_exits};
use super::compat;
use super::job::{Job, id_of};
use super::json::Json;
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

const EXAMPLE: &str = "\
Example:
  func durable get-history --id 0ab8c55a66644d68a3a8b220b12d209c";

/// Show the history of an instance.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, NOT_FOUND])
)]
pub(crate) struct GetHistory {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &GetHistory) -> Result<()> {
    let id_text = &given.subject.id;
    let found = job.find()?;
    let shows_inputs = found.host.flag("storeInputsInOrchestrationHistory")?;
    let mut target = job.open_existing(&found).await?;
    let events = match id_of(id_text) {
        Some(id) => target.history(&id).await?,
        None => None,
    };
    target.close().await;
    let is_known = events.is_some();
    let line = format!("Could not find an orchestration instance with id '{id_text}'");
    if !is_known && job.form != Form::Compat {
        return Err(Stop::plain(exit::NOT_FOUND, "instance-not-found", line));
    }
    let values = compat::history(&events.unwrap_or_default(), shows_inputs);
    match job.form {
        Form::Compat => array(job, &values)?,
        Form::Json => {
            let items = Json::Array(values);
            let all = Json::object([("items", items), ("continuationToken", Json::Null)]);
            job.screen.say(Colour::Plain, &all.pretty(0))?;
        }
        Form::JsonLines => {
            for value in &values {
                job.screen.say(Colour::Plain, &value.compact())?;
            }
        }
        Form::Ids => {}
    }
    if is_known {
        return Ok(());
    }
    job.screen.flush()?;
    job.screen.warn(&line);
    job.missing()
}

/// Prints an array item by item.
pub(super) fn array(job: &mut Job<'_>, values: &[Json]) -> Result<()> {
    if values.is_empty() {
        return job.screen.say(Colour::Plain, "[]");
    }
    for (index, value) in values.iter().enumerate() {
        let head = if index == 0 { "[\n  " } else { ",\n  " };
        job.screen.print(head)?;
        job.screen.print(&value.pretty(1))?;
    }
    job.screen.print("\n]\n")
}
