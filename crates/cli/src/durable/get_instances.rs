//! `durable get-instances` (cli.md §6.4).

use taskhub_core::id::HubName;
use taskhub_core::query::Filter;
use taskhub_core::status::InstanceInfo;

use super::shape::Shape;
use super::{Form, Job, compat, native};
use crate::hub_access::{PAGE_ROWS, Record, Target};
use crate::screen::Colour;
use crate::stop::Result;

/// What Core Tools prints on the last page; given back it must not begin anew.
const LAST_OF_CORE_TOOLS: &str = "bnVsbA==";
/// Most instances in one answer.
const TOP_MAX: usize = 10_000;
/// Instances in an answer unless told otherwise.
const TOP: usize = 10;

pub(super) async fn run(job: &mut Job<'_>) -> Result<()> {
    let filter = job.filter()?;
    let top = top(job)?;
    let is_all = job.given.flag("all") == Some(true);
    let token = job.given.text("continuation-token").filter(|token| !token.is_empty());
    if is_all && token.is_some() {
        return Err(job.given.usage("`--all` and `--continuation-token` exclude each other"));
    }
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let mut printer = Printer {
        hub: found.hub.clone(),
        form: job.form,
        is_first: true,
    };
    let mut next = token.map(str::to_owned);
    // The word null, which Core Tools gives on its last page, is no way to begin anew.
    if next.as_deref() == Some(LAST_OF_CORE_TOOLS) {
        next = None;
    } else {
        let most = if is_all { usize::MAX } else { top };
        next = pages(job, &mut target, &filter, next, most, &mut printer).await?;
    }
    target.close().await;
    printer.end(job, next.as_deref(), is_all)
}

fn top(job: &Job<'_>) -> Result<usize> {
    let Some(text) = job.given.text("top") else {
        return Ok(TOP);
    };
    let number = text.parse().ok().filter(|top| (1..=TOP_MAX).contains(top));
    number.ok_or_else(|| {
        job.given
            .usage(format!("`--top` takes a number from 1 to {TOP_MAX}, not `{text}`"))
    })
}

/// Prints page after page; answers where the next answer begins.
async fn pages(
    job: &mut Job<'_>,
    target: &mut Target,
    filter: &Filter,
    mut next: Option<String>,
    mut most: usize,
    printer: &mut Printer,
) -> Result<Option<String>> {
    loop {
        let page = target.list(filter, next.as_deref(), most.min(PAGE_ROWS)).await?;
        most -= page.rows.len().min(most);
        for info in page.rows {
            printer.row(job, info)?;
        }
        next = page.next;
        if next.is_none() || most == 0 {
            return Ok(next);
        }
    }
}

/// Prints instances one by one, so that nothing is kept.
struct Printer {
    hub: HubName,
    form: Form,
    is_first: bool,
}

impl Printer {
    fn row(&mut self, job: &mut Job<'_>, info: InstanceInfo) -> Result<()> {
        let head = match (self.form, self.is_first) {
            (Form::Compat, true) => "[\n  ",
            (Form::Json, true) => "{\n  \"items\": [\n    ",
            (Form::Compat, false) => ",\n  ",
            (Form::Json, false) => ",\n    ",
            (Form::JsonLines | Form::Ids, _) => "",
        };
        self.is_first = false;
        job.screen.print(head)?;
        match self.form {
            Form::Compat => job.screen.print(&compat::instance(&info, 0).pretty(1)),
            Form::Ids => job.screen.say(Colour::Plain, info.instance.as_str()),
            Form::Json => job.screen.print(&self.native(info).pretty(2)),
            Form::JsonLines => {
                job.screen.say(Colour::Plain, &self.native(info).compact())?;
                job.screen.flush()
            }
        }
    }

    fn native(&self, info: InstanceInfo) -> Shape {
        let record = Record {
            info,
            history_events: 0,
            history_bytes: 0,
        };
        native::instance(&self.hub, &record)
    }

    fn end(&self, job: &mut Job<'_>, next: Option<&str>, is_all: bool) -> Result<()> {
        match self.form {
            Form::JsonLines | Form::Ids => Ok(()),
            Form::Json => {
                let head = if self.is_first { "{\n  \"items\": [" } else { "\n  " };
                let token = Shape::text(next).compact();
                job.screen
                    .print(&format!("{head}],\n  \"continuationToken\": {token}\n}}\n"))
            }
            Form::Compat => {
                job.screen.print(if self.is_first { "[]\n" } else { "\n]\n" })?;
                if is_all {
                    return Ok(());
                }
                let token = next.unwrap_or_default();
                let line = format!("Continuation token for next set of results: '{token}'");
                job.screen.say(Colour::Green, &line)
            }
        }
    }
}
