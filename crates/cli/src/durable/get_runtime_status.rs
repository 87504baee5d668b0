//! `durable get-runtime-status` (cli.md §6.2).

use clap::Args;

use super::common::{Common, DONE, FAILED, Form, NOT_FOUND, Subject, UNAVAILABLE, USAGE, example_and_exits};
use super::compat;
use super::job::{Job, id_of};
use crate::screen::Colour;
use crate::stop::Result;

const EXAMPLE: &str = "\
Example:
  func durable get-runtime-status --id 0ab8c55a66644d68a3a8b220b12d209c \\
      --show-input true --show-output true";

/// Show the status of an instance.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, NOT_FOUND])
)]
pub(crate) struct GetRuntimeStatus {
    #[command(flatten)]
    subject: Subject,
    /// Show the input [default: false]
    #[arg(long, value_name = "BOOL")]
    show_input: Option<bool>,
    /// Show the output [default: false]
    #[arg(long, value_name = "BOOL")]
    show_output: Option<bool>,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &GetRuntimeStatus) -> Result<()> {
    let id_text = &given.subject.id;
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let record = match id_of(id_text) {
        Some(id) => target.record(&id).await?,
        None => None,
    };
    target.close().await;
    let Some(mut record) = record else {
        let line = format!("Could not find an orchestration instance with id '{id_text}'");
        return job.not_found(&line, Colour::Red);
    };
    if given.show_input != Some(true) {
        record.info.input = None;
    }
    if given.show_output != Some(true) {
        record.info.output = None;
    }
    match job.form {
        Form::Compat => {
            let shape = compat::instance(&record.info, record.history_bytes);
            job.screen.say(Colour::Plain, &shape.pretty(0))
        }
        Form::Json | Form::JsonLines | Form::Ids => job.answer_instance(&found.hub, &record),
    }
}
