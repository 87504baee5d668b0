//! `taskhub durable …`, and `func durable …`, which is the same (L1): the nine commands of Core Tools.
//!
//! ```text
//!   Verb with its options ─▶ find (which hub) ─▶ hub_access (store or server) ─▶ one file per command
//! ```

mod common;
pub(crate) mod compat;
pub(crate) mod dates;
mod delete_task_hub;
mod get_history;
mod get_instances;
mod get_runtime_status;
mod job;
pub(crate) mod json;
pub(crate) mod native;
mod payload;
mod purge_history;
mod raise_event;
mod rewind;
mod start_new;
mod statuses;
mod terminate;
pub(crate) mod verbs;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::argv::boolean;
use crate::screen::{Screen, When};
use crate::stop::{Result, Stop, exit};
use crate::usage::Usage;
use crate::world::World;
use common::Form;
use job::Job;
use verbs::Verb;

pub(crate) use job::key_of_file;

/// Runs a verb.
pub(crate) fn run(world: &World, verb: &Verb, usage: &Usage, screen: &mut Screen) -> Result<()> {
    let common = verb.common();
    screen.colour_when(
        twin(common.color, "TASKHUB_COLOR", world, usage)?.unwrap_or(When::Auto),
        world,
    );
    if switch(common.quiet, "TASKHUB_QUIET", world, usage)? {
        screen.be_quiet();
    }
    let form = twin(common.output, "TASKHUB_OUTPUT", world, usage)?.unwrap_or(Form::Compat);
    screen.errors_are_json = matches!(form, Form::Json | Form::JsonLines);
    let mut world = world.clone();
    if let Some(root) = &common.script_root {
        world.folder = script_root(&world, root)?;
    }
    let mut job = Job {
        is_strict: switch(common.strict, "TASKHUB_STRICT", &world, usage)?,
        is_sure: switch(common.yes, "TASKHUB_YES", &world, usage)?,
        common,
        usage,
        world: &world,
        screen,
        form,
        last_word: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Stop::error(exit::UNAVAILABLE, "failed", format!("cannot start: {error}")))?;
    let ended = runtime.block_on(perform(&mut job, verb));
    if let Some(line) = job.last_word.take() {
        job.screen.flush()?;
        job.screen.note(&line);
    }
    if ended.is_err() && common.pause_on_error == Some(true) && world.asks {
        job.screen.ask("Press Enter to go on.");
        let _any = std::io::stdin().read_line(&mut String::new());
    }
    ended
}

/// An option, or its twin in the environment (L57).
fn twin<T: ValueEnum>(said: Option<T>, name: &str, process: &World, usage: &Usage) -> Result<Option<T>> {
    let Some(word) = process.filled(name).filter(|_| said.is_none()) else {
        return Ok(said);
    };
    let value = T::from_str(word, false);
    value.map(Some).map_err(|_| {
        let known = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let known: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
        let known = known.join(", ");
        usage.error(format!("invalid value '{word}' for {name}; expected one of {known}"))
    })
}

/// The same of a switch.
fn switch(said: Option<bool>, name: &str, process: &World, usage: &Usage) -> Result<bool> {
    let Some(word) = process.filled(name).filter(|_| said.is_none()) else {
        return Ok(said.unwrap_or(false));
    };
    let wrong = || usage.error(format!("invalid value '{word}' for {name}; expected true or false"));
    boolean(word).ok_or_else(wrong)
}

/// `--script-root` (L14).
fn script_root(world: &World, root: &str) -> Result<PathBuf> {
    let folder = world.path(root);
    if folder.is_dir() {
        // Its real name, so that what is above it is what one thinks.
        return Ok(folder.canonicalize().unwrap_or(folder));
    }
    let message = format!("\"{}\" doesn't exist.", folder.display());
    Err(Stop::plain(exit::FAILED, "invalid-argument", message))
}

/// Does what the verb says.
async fn perform(job: &mut Job<'_>, verb: &Verb) -> Result<()> {
    match verb {
        Verb::StartNew(given) => start_new::run(job, given).await,
        Verb::GetRuntimeStatus(given) => get_runtime_status::run(job, given).await,
        Verb::GetHistory(given) => get_history::run(job, given).await,
        Verb::GetInstances(given) => get_instances::run(job, given).await,
        Verb::Terminate(given) => terminate::run(job, given).await,
        Verb::RaiseEvent(given) => raise_event::run(job, given).await,
        Verb::Rewind(_) => Err(rewind::refuse()),
        Verb::PurgeHistory(given) => purge_history::run(job, given).await,
        Verb::DeleteTaskHub(given) => delete_task_hub::run(job, given).await,
    }
}
