//! `durable start-new` (cli.md §6.1).

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use taskhub_api::id::{self as ids, BadId};
use taskhub_core::fnv::hash_128;
use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use super::common::{Common, DONE, FAILED, Form, UNAVAILABLE, USAGE, example_and_exits};
use super::job::{Interrupt, Job};
use super::payload::Type;
use super::{dates, payload};
use crate::find::Found;
use crate::hub_access::{self, Intent, Record, Target};
use crate::screen::Colour;
use crate::stop::{Result, Stop, exit};

const EXITS: &[(u8, &str)] = &[
    DONE,
    FAILED,
    USAGE,
    UNAVAILABLE,
    (
        4,
        "no task hub is named, and the default one does not exist beside others",
    ),
    (5, "the instance exists"),
    (10, "with --wait: the instance failed"),
    (11, "with --wait: the instance was terminated"),
    (12, "with --wait: the instance was canceled"),
    (13, "with --wait: the instance was purged or replaced meanwhile"),
];

/// What to do if an instance with the id exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IfExists {
    /// Fail.
    Error,
    /// Keep the existing instance, and succeed.
    Reuse,
    /// Replace it if it has ended.
    ReplaceEnded,
    /// Replace the existing instance in any status.
    ReplaceAny,
}

const EXAMPLE: &str = "\
Example:
  func durable start-new --function-name HelloWorld --input @counter-data.json \\
      --task-hub-name TestTaskHub";

/// Start a new instance of an orchestrator.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLE,
    after_long_help = example_and_exits(EXAMPLE, EXITS)
)]
pub(crate) struct StartNew {
    /// Name of the orchestrator.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    function_name: String,
    /// Id of the new instance [default: random]
    #[arg(long)]
    id: Option<String>,
    /// Input: inline, @FILE, or @- for standard input [default: null]
    #[arg(long, value_name = "DATA")]
    input: Option<String>,
    /// How an inline input is read [default: auto]
    #[arg(long, value_name = "TYPE")]
    input_type: Option<Type>,
    /// What to do if an instance with this id exists [default: from host.json, else replace-ended]
    #[arg(long, value_name = "POLICY")]
    if_exists: Option<IfExists>,
    /// Wait until the instance has ended, and show its output [default: false]
    #[arg(long, value_name = "BOOL")]
    wait: Option<bool>,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(super) async fn run(job: &mut Job<'_>, given: &StartNew) -> Result<()> {
    let name = Name::new(&given.function_name).map_err(|refusal| Stop::from(&refusal))?;
    let id = match &given.id {
        Some(id) => check_id(id)?,
        None => ids::fresh(None).map_err(|refusal| Stop::from(&refusal))?,
    };
    let kind = given.input_type.unwrap_or_default();
    let text = given.input.as_deref();
    let input = payload::read(text, kind, "input", &job.world.folder)?;
    if let Some(doubt) = payload::doubt(text, kind, "input", "input-type") {
        job.screen.warn(&doubt);
    }
    let found = job.find()?;
    // Before a store or a hub is made.
    let wanted = Wanted {
        version: version(&found)?,
        reuse: policy(given.if_exists, &found)?,
        id,
        name,
        input,
    };
    let mut target = job.open_or_create(&found).await?;
    match begin(job, given, &found, &mut target, &wanted).await {
        Ok(interrupt) if given.wait == Some(true) => wait(job, &found, target, &wanted.id, interrupt).await,
        ended => {
            // What was taken is given back, also when the start was refused.
            target.close().await;
            ended.map(|_| ())
        }
    }
}

/// What is to be started.
struct Wanted {
    id: InstanceId,
    name: Name,
    version: Option<Name>,
    input: Option<Payload>,
    reuse: ReusePolicy,
}

/// Starts the instance and prints its id; from then on, handles Ctrl-C.
async fn begin(
    job: &mut Job<'_>,
    given: &StartNew,
    found: &Found,
    target: &mut Target,
    wanted: &Wanted,
) -> Result<Interrupt> {
    let stated = given.if_exists;
    let existing = target.record(&wanted.id).await?.map(|record| record.info);
    let request = StartRequest {
        key: key(wanted, stated)?,
        // One that has ended is replaced, as A7 says, and then that start is the one that is repeated.
        repeats: Repeats::WhileLive,
        instance: wanted.id.clone(),
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        input: wanted.input.clone(),
        tags: std::collections::BTreeMap::new(),
        scheduled_start: None,
        execution: None,
        reuse: wanted.reuse.clone(),
    };
    // Another process may create an instance with the id between the check and the start; the start is then refused,
    // and the check is repeated.
    if let Some(info) = existing.filter(|_| stated == Some(IfExists::Reuse)) {
        let (id, status) = (&wanted.id, info.status);
        job.screen
            .note(&format!("instance '{id}' exists and is {status}; it was left as it is"));
    } else {
        start(target, request, stated.is_some()).await?;
    }
    // A reader of the first line may interrupt the command immediately.
    let interrupt = Interrupt::new()?;
    told(job, given, found, target, &wanted.id).await?;
    job.screen.flush()?;
    Ok(interrupt)
}

/// The id of a new instance; what is wrong with it is named.
fn check_id(text: &str) -> Result<InstanceId> {
    let bad = match ids::check(text) {
        Ok(id) => return Ok(id),
        Err(bad) => bad,
    };
    let why = match bad {
        BadId::Character(letter) if letter.is_control() => format!(
            "an instance id must not contain the control character U+{:04X}",
            u32::from(letter)
        ),
        BadId::Character(letter) => format!("an instance id must not contain `{letter}`"),
        BadId::Entity => "an instance id must not begin with `@`, which is for entities".to_owned(),
        BadId::Dots => "an instance id must not be `.` or `..`, since no URL leads to it".to_owned(),
        BadId::Length => format!(
            "an instance id has 1 to 256 characters, and this one has {}",
            text.chars().count()
        ),
    };
    Err(Stop::error(exit::USAGE, "bad-instance-id", why))
}

/// The version that host.json names.
fn version(found: &Found) -> Result<Option<Name>> {
    let version = found.host.text("defaultVersion")?;
    let version = version.map(|version| Name::new(&version)).transpose();
    version.map_err(|refusal| Stop::from(&refusal))
}

/// What may become of an instance that has the id: as asked, else as host.json says (R136).
fn policy(wanted: Option<IfExists>, found: &Found) -> Result<ReusePolicy> {
    Ok(match wanted {
        // An existing one is not even asked to be replaced.
        Some(IfExists::Error | IfExists::Reuse) => ReusePolicy::Replace(Vec::new()),
        Some(IfExists::ReplaceAny) => ReusePolicy::ReplaceAny,
        Some(IfExists::ReplaceEnded) => ReusePolicy::ReplaceEnded,
        None => match found.host.text("overridableExistingInstanceStates")?.as_deref() {
            Some(states) if states.eq_ignore_ascii_case("AnyState") => ReusePolicy::ReplaceAny,
            _ => ReusePolicy::ReplaceEnded,
        },
    })
}

/// Whether the command repeats an earlier one whose answer was lost, and therefore gets the same answer (R139): same
/// id, name and input, while the instance is live. This does not apply if `--if-exists` says what to do with an
/// existing instance.
fn key(wanted: &Wanted, policy: Option<IfExists>) -> Result<Option<IdempotencyKey>> {
    if policy.is_some() {
        return Ok(None);
    }
    let Wanted { id, name, input, .. } = wanted;
    let input = input.as_ref().map_or(&b""[..], |input| input.bytes());
    let name = name.folded();
    let hash = hash_128(&[id.as_str().as_bytes(), name.as_bytes(), input]);
    let key = IdempotencyKey::new(&format!("start-new-{hash:032x}"));
    key.map(Some).map_err(|refusal| Stop::from(&refusal))
}

/// Starts the instance; refusals in the words of Core Tools.
async fn start(target: &mut Target, request: StartRequest, is_stated: bool) -> Result<()> {
    let id = request.instance.clone();
    let Err(stop) = target.start(request, is_stated).await else {
        return Ok(());
    };
    let could_not = |exit, code| Stop::plain(exit, code, format!("Could not start new instance '{id}'."));
    Err(match stop.code {
        "instance-exists" => {
            let status = target
                .record(&id)
                .await?
                .map_or(RuntimeStatus::Running, |record| record.info.status);
            let policy = if status.is_terminal() {
                "replace-ended"
            } else {
                "replace-any"
            };
            let hint = format!("it exists and is {status}; use --if-exists {policy}, or another --id");
            could_not(exit::CONFLICT, stop.code).hint(hint)
        }
        "timed-out" => could_not(exit::UNAVAILABLE, stop.code)
            .hint("not scheduled within 30 seconds; repeating with the same --id is safe"),
        _ => stop,
    })
}

/// Says what runs now. A repeated command shows what the first one did. A record is printed once: when the end is
/// waited for, that of the end.
async fn told(job: &mut Job<'_>, given: &StartNew, found: &Found, target: &mut Target, id: &InstanceId) -> Result<()> {
    if given.wait == Some(true) && matches!(job.form, Form::Json | Form::JsonLines) {
        return Ok(());
    }
    let record = target.record(id).await?;
    if job.form != Form::Compat {
        return match record {
            Some(record) => job.answer_instance(&found.hub, &record),
            None => Ok(()),
        };
    }
    let asked = given.function_name.clone();
    let now = job.world.now;
    let (name, at) = record.map_or((asked, now), |record| {
        (record.info.name.to_string(), record.info.created_at)
    });
    let at = dates::in_sentence(at);
    job.screen.say(
        Colour::Green,
        &format!("Started '{name}' at {at}. Instance ID: '{id}'."),
    )
}

/// Waits for the end and shows what came of it; how it ended is the exit code (L37).
async fn wait(
    job: &mut Job<'_>,
    found: &Found,
    mut target: Target,
    id: &InstanceId,
    mut interrupt: Interrupt,
) -> Result<()> {
    let created = target.record(id).await?.map(|record| record.info.created_at);
    if !target.has_server() {
        job.screen
            .warn("no server holds the store: the instance stays Pending until one does");
    }
    // The wait may be long.
    job.screen.release();
    // Closes the store, because the process that runs the instance needs it.
    target.close().await;
    let Some(ended) = interrupt.or(until_ended(found, id, created)).await else {
        job.screen.note(&format!("instance '{id}' goes on"));
        return Err(Stop::silent(exit::INTERRUPTED));
    };
    let Some(record) = ended? else {
        let message = format!("instance `{id}` was purged or replaced while it was waited for");
        return Err(Stop::error(13, "instance-not-found", message));
    };
    match job.form {
        Form::Compat => {
            let output = record.info.output.as_ref();
            let output = output.map_or_else(|| "null".to_owned(), Payload::to_text);
            job.screen.say(Colour::Plain, &output)?;
        }
        Form::Json | Form::JsonLines => job.answer_instance(&found.hub, &record)?,
        // The id was printed after the start.
        Form::Ids => {}
    }
    match record.info.status {
        RuntimeStatus::Failed => Err(Stop::silent(10)),
        RuntimeStatus::Terminated => Err(Stop::silent(11)),
        RuntimeStatus::Canceled => Err(Stop::silent(12)),
        _ => Ok(()),
    }
}

async fn until_ended(found: &Found, id: &InstanceId, created: Option<Timestamp>) -> Result<Option<Record>> {
    loop {
        let mut target = hub_access::open(found, Intent::Use).await?;
        let record = target.record(id).await?;
        match record.filter(|record| created.is_none_or(|created| record.info.created_at == created)) {
            Some(record) if !record.info.status.is_terminal() => target.pause(id).await?,
            ended => {
                target.close().await;
                return Ok(ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_id_is_named() {
        for (text, said) in [
            ("a/b", "an instance id must not contain `/`"),
            ("a\\b", "an instance id must not contain `\\`"),
            ("a#b", "an instance id must not contain `#`"),
            ("a?b", "an instance id must not contain `?`"),
            ("a\nb", "an instance id must not contain the control character U+000A"),
            ("@a", "an instance id must not begin with `@`, which is for entities"),
            ("", "an instance id has 1 to 256 characters, and this one has 0"),
            (
                &"x".repeat(257),
                "an instance id has 1 to 256 characters, and this one has 257",
            ),
        ] {
            let stop = check_id(text).unwrap_err();
            assert_eq!(
                (stop.message.as_str(), stop.code, stop.exit),
                (said, "bad-instance-id", 2)
            );
        }
        assert!(check_id(&"é".repeat(256)).is_ok());
    }
}
