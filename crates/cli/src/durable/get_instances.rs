//! `durable get-instances` (cli.md §6.4).

use clap::Args;
use taskhub_core::id::HubName;
use taskhub_core::query::Filter;
use taskhub_core::status::InstanceInfo;

use super::common::{Common, Created, DONE, FAILED, Form, UNAVAILABLE, USAGE, example_and_exits};
use super::job::Job;
use super::json::Json;
use super::statuses::WORDS;
use super::{compat, native};
use crate::hub_access::{PAGE_ROWS, Record, Target};
use crate::proposed::Proposed;
use crate::screen::Colour;
use crate::stop::Result;

/// The token that Core Tools prints on the last page; passing it back must not restart the list.
const LAST_OF_CORE_TOOLS: &str = "bnVsbA==";
/// Most instances in one answer.
const TOP_MAX: usize = 10_000;

const EXAMPLE: &str = "\
Example:
  func durable get-instances --created-after 2018-03-10T13:57:31Z \\
      --created-before 2018-03-10T23:59Z --top 15";

/// List instances, by creation time.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE])
)]
pub(crate) struct GetInstances {
    #[command(flatten)]
    created: Created,
    /// Only instances in one of these statuses [default: all]
    #[arg(long, value_name = "STATUS", num_args = 1.., value_parser = Proposed(WORDS))]
    runtime_status: Vec<String>,
    /// How many instances to list, 1 to 10000.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = top)]
    top: usize,
    /// Continue after the page that printed this token.
    #[arg(long, value_name = "TOKEN")]
    continuation_token: Option<String>,
    /// Only instances of this orchestrator.
    #[arg(long)]
    name: Option<String>,
    /// Only instances whose id starts with this.
    #[arg(long, value_name = "PREFIX")]
    id_prefix: Option<String>,
    /// List all pages, without a token [default: false]
    #[arg(long, value_name = "BOOL")]
    all: Option<bool>,
    #[command(flatten)]
    pub(crate) common: Common,
}

fn top(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|top| (1..=TOP_MAX).contains(top));
    number.ok_or_else(|| format!("expected a number from 1 to {TOP_MAX}"))
}

pub(super) async fn run(job: &mut Job<'_>, given: &GetInstances) -> Result<()> {
    let filter = Filter {
        name: given.name.clone(),
        id_prefix: given.id_prefix.clone(),
        ..job.filter(&given.created, &given.runtime_status)?
    };
    let is_all = given.all == Some(true);
    let token = given.continuation_token.as_deref().filter(|token| !token.is_empty());
    if is_all && token.is_some() {
        let what = "`--all` cannot be used with `--continuation-token`";
        return Err(job.usage.error(what));
    }
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let mut printer = Printer {
        hub: found.hub.clone(),
        form: job.form,
        is_first: true,
    };
    let mut next = token.map(str::to_owned);
    // The word null, which Core Tools print on the last page, must not restart the list.
    if next.as_deref() == Some(LAST_OF_CORE_TOOLS) {
        next = None;
    } else {
        let most = if is_all { usize::MAX } else { given.top };
        next = pages(job, &mut target, &filter, next, most, &mut printer).await?;
    }
    target.close().await;
    printer.end(job, next.as_deref(), is_all)
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

    fn native(&self, info: InstanceInfo) -> Json {
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
                let token = Json::text(next).compact();
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
