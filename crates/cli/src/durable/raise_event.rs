//! `durable raise-event` (cli.md §6.6).

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use taskhub_core::id::{IdempotencyKey, Name};

use super::common::{Common, DONE, FAILED, Form, NOT_FOUND, Subject, UNAVAILABLE, USAGE, example_and_exits};
use super::job::{Job, id_of};
use super::json::Json;
use super::payload;
use super::payload::Type;
use crate::hub_access::Outcome;
use crate::random::digits;
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

const KEY_USED: (u8, &str) = (5, "the idempotency key was used for another event");

const EXAMPLE: &str = "\
Example:
  func durable raise-event --id 0ab8c55a66644d68a3a8b220b12d209c --event-name MyEvent \\
      --event-data @eventdata.json";

/// Send an event to an instance.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, &[DONE, FAILED, USAGE, UNAVAILABLE, NOT_FOUND, KEY_USED])
)]
pub(crate) struct RaiseEvent {
    #[command(flatten)]
    subject: Subject,
    /// Name of the event [default: Event_ and a random number]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    event_name: Option<String>,
    /// Data of the event: inline, @FILE, or @- for standard input [default: null]
    #[arg(long, value_name = "DATA")]
    event_data: Option<String>,
    /// How inline data is read [default: auto]
    #[arg(long, value_name = "TYPE")]
    data_type: Option<Type>,
    /// Raise the event only once, however often the command is repeated with this key within a day; needs --event-name.
    #[arg(long, value_name = "KEY", requires = "event_name")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &RaiseEvent) -> Result<()> {
    let name = match &given.event_name {
        Some(name) => name.clone(),
        None => format!("Event_{}", digits()?),
    };
    let event = Name::new(&name).map_err(|refusal| Stop::from(&refusal))?;
    let key = given.idempotency_key.as_deref().map(IdempotencyKey::new).transpose();
    let key = key.map_err(|refusal| Stop::from(&refusal))?;
    let kind = given.data_type.unwrap_or_default();
    let text = given.event_data.as_deref();
    let data = payload::read(text, kind, "event-data", &job.world.folder)?;
    if let Some(doubt) = payload::doubt(text, kind, "event-data", "data-type") {
        job.screen.warn(&doubt);
    }
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let outcome = match id_of(&given.subject.id) {
        Some(id) => target.raise(&id, event, data, key).await,
        None => Ok(Outcome::Missing),
    };
    target.close().await;
    let outcome = outcome?;
    let id = given.subject.id.clone();
    let hub = &found.hub;
    let discarded = match outcome {
        Outcome::Done => None,
        Outcome::Missing => Some((
            format!("does not exist in task hub '{hub}'"),
            exit::NOT_FOUND,
            "instance-not-found",
        )),
        Outcome::Ended(status) => Some((format!("has ended ({status})"), exit::FAILED, "instance-not-live")),
    };
    let is_refused = match outcome {
        Outcome::Done => false,
        Outcome::Missing => job.needs_what_it_names(),
        Outcome::Ended(_) => job.is_strict,
    };
    if !is_refused {
        let line = format!("Raised event '{name}' to instance '{id}'.");
        match job.form {
            Form::Compat => job.screen.say(Colour::Green, &line)?,
            Form::Json | Form::JsonLines | Form::Ids => {
                let value = Json::object([
                    ("hub", Json::Text(hub.to_string())),
                    ("instanceId", Json::Text(id.clone())),
                    ("eventName", Json::Text(name)),
                    ("delivered", Json::Bool(discarded.is_none())),
                ]);
                job.answer(&value, Some(&id))?;
            }
        }
        job.screen.flush()?;
    }
    if let Some((why, exit, code)) = discarded {
        let what = format!("instance '{id}' {why}; the event was discarded.");
        if is_refused && job.form != Form::Compat {
            return Err(Stop::plain(exit, code, what));
        }
        job.screen.warn(&format!("Warning: {what}"));
        if is_refused {
            return Err(Stop::silent(exit));
        }
    }
    Ok(())
}
