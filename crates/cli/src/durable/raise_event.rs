//! `durable raise-event` (cli.md §6.6).

use taskhub_core::id::{IdempotencyKey, Name};

use super::payload::Type;
use super::shape::Shape;
use super::{Form, Job, payload};
use crate::hub_access::Outcome;
use crate::random::digits;
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

pub(super) async fn run(job: &mut Job<'_>) -> Result<()> {
    let given = job.given;
    let name = match given.text("event-name") {
        Some("") => return Err(given.usage("`--event-name` must not be empty")),
        Some(name) => name.to_owned(),
        None if given.text("idempotency-key").is_some() => {
            return Err(
                given.usage("`--idempotency-key` needs `--event-name`: without one each command makes up another")
            );
        }
        None => format!("Event_{}", digits()?),
    };
    let event = Name::new(&name).map_err(|refusal| Stop::from(&refusal))?;
    let key = given.text("idempotency-key").map(IdempotencyKey::new).transpose();
    let key = key.map_err(|refusal| Stop::from(&refusal))?;
    let kind = Type::of_word(given.text("data-type"));
    let data = payload::read(given.text("event-data"), kind, "event-data", &job.world.folder)?;
    if let Some(doubt) = payload::doubt(given.text("event-data"), kind, "event-data", "data-type") {
        job.screen.warn(&doubt);
    }
    let found = job.find()?;
    let mut target = job.open_existing(&found).await?;
    let outcome = match job.id() {
        Some(id) => target.raise(&id, event, data, key).await,
        None => Ok(Outcome::Missing),
    };
    target.close().await;
    let outcome = outcome?;
    let id = job.id_text().to_owned();
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
                let shape = Shape::object([
                    ("hub", Shape::Text(hub.to_string())),
                    ("instanceId", Shape::Text(id.clone())),
                    ("eventName", Shape::Text(name)),
                    ("delivered", Shape::Bool(discarded.is_none())),
                ]);
                job.answer(&shape, Some(&id))?;
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
