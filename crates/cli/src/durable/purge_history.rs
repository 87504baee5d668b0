//! `durable purge-history` (cli.md §6.8).

use taskhub_core::query::Filter;
use taskhub_core::status::RuntimeStatus;

use super::shape::Shape;
use super::{Form, Interrupt, Job, dates};
use crate::hub_access::{PAGE_ROWS, Purged, Target};
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

pub(super) async fn run(job: &mut Job<'_>) -> Result<()> {
    let mut filter = job.filter()?;
    if filter.statuses.iter().any(|status| !status.is_terminal()) {
        let what = "only ended instances can be purged: completed, failed, terminated, canceled";
        return Err(job.given.usage(what));
    }
    let named = filter.statuses.clone();
    if filter.statuses.is_empty() {
        let is_ended = |status: &RuntimeStatus| status.is_terminal();
        filter.statuses = RuntimeStatus::ALL.into_iter().filter(is_ended).collect();
    }
    let found = job.find()?;
    job.refuse_chance(&found)?;
    let mut target = job.open_existing(&found).await?;
    if job.given.flag("dry-run") == Some(true) {
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
        return report(job, &named, purged);
    }
    // What is gone is gone; run again to go on.
    report(job, &named, purged)?;
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
    let shape = Shape::object([("matched", number(count)), ("isDryRun", Shape::Bool(true))]);
    job.answer(&shape, None)
}

fn number(number: u64) -> Shape {
    Shape::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

fn report(job: &mut Job<'_>, named: &[RuntimeStatus], purged: Purged) -> Result<()> {
    if job.form != Form::Compat {
        let shape = Shape::object([
            ("instancesDeleted", number(purged.instances)),
            ("rowsDeleted", number(purged.rows)),
        ]);
        return job.answer(&shape, None);
    }
    let after = dates::in_sentence(job.moment("created-after")?.unwrap_or(dates::MIN));
    let before = dates::in_sentence(job.moment("created-before")?.unwrap_or(dates::DEFAULT_BEFORE));
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
