//! `durable get-runtime-status` (cli.md §6.2).

use super::{Form, Job, compat};
use crate::screen::Colour;
use crate::stop::Result;

pub(super) async fn run(job: &mut Job<'_>) -> Result<()> {
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let record = match job.id() {
        Some(id) => target.record(&id).await?,
        None => None,
    };
    target.close().await;
    let Some(mut record) = record else {
        let line = format!("Could not find an orchestration instance with id '{}'", job.id_text());
        return job.not_found(&line, Colour::Red);
    };
    if job.given.flag("show-input") != Some(true) {
        record.info.input = None;
    }
    if job.given.flag("show-output") != Some(true) {
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
