//! The `durable` verbs, and the options that all of them take. What is a verb's own is in its file.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::Form;
use super::delete_task_hub::DeleteTaskHub;
use super::get_history::GetHistory;
use super::get_instances::GetInstances;
use super::get_runtime_status::GetRuntimeStatus;
use super::purge_history::PurgeHistory;
use super::raise_event::RaiseEvent;
use super::rewind::Rewind;
use super::start_new::StartNew;
use super::terminate::Terminate;
use crate::screen::When;

/// Start, query and manage instances, with the commands of `func durable`.
#[derive(Debug, Args)]
#[command(after_help = "Add --help to a command for its options, an example and its exit codes.")]
pub(crate) struct Durable {
    /// Without one, the verbs are listed (L5).
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// The nine verbs of Core Tools, in the order of its documentation.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    StartNew(StartNew),
    GetRuntimeStatus(GetRuntimeStatus),
    GetHistory(GetHistory),
    GetInstances(GetInstances),
    Terminate(Terminate),
    RaiseEvent(RaiseEvent),
    Rewind(Rewind),
    PurgeHistory(PurgeHistory),
    DeleteTaskHub(DeleteTaskHub),
}

impl Verb {
    /// The options that every verb takes.
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::StartNew(verb) => &verb.common,
            Self::GetRuntimeStatus(verb) => &verb.common,
            Self::GetHistory(verb) => &verb.common,
            Self::GetInstances(verb) => &verb.common,
            Self::Terminate(verb) => &verb.common,
            Self::RaiseEvent(verb) => &verb.common,
            Self::Rewind(verb) => &verb.common,
            Self::PurgeHistory(verb) => &verb.common,
            Self::DeleteTaskHub(verb) => &verb.common,
        }
    }
}

/// The instance that a verb is about.
#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// Id of the instance.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: String,
}

/// Options of every verb (L14, L57).
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every durable command")]
pub(crate) struct Common {
    /// Name of the setting that holds the connection string [default: AzureWebJobsStorage]
    #[arg(long, value_name = "NAME")]
    pub(crate) connection_string_setting: Option<String>,
    /// Name of the task hub [default: from host.json, else DurableFunctionsHub]
    #[arg(long, short = 'H', visible_alias = "hub", value_name = "NAME")]
    pub(crate) task_hub_name: Option<String>,
    /// Act as if started in this folder.
    #[arg(long, visible_alias = "prefix", value_name = "DIR")]
    pub(crate) script_root: Option<String>,
    /// Use the server at this URL.
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    pub(crate) server: Option<String>,
    /// Use the store in this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<String>,
    /// Key of the server. Other users of this machine may see it; prefer --key-file.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// File that holds the key of the server.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// PEM file of the authority that issued the server's certificate, trusted beside those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Format of the output [default: compat]
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) output: Option<Form>,
    /// Fail if the instance or the task hub does not exist [default: false]
    #[arg(long, value_name = "BOOL")]
    pub(crate) strict: Option<bool>,
    /// Skip confirmations, and use the only running server without naming it [default: false]
    #[arg(long, short, value_name = "BOOL")]
    pub(crate) yes: Option<bool>,
    /// When to use colors [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub(crate) color: Option<When>,
    /// Leave out notes and hints [default: false]
    #[arg(long, short, value_name = "BOOL")]
    pub(crate) quiet: Option<bool>,
    /// Also print which files, settings, store and hub are used [default: false]
    #[arg(long, short, value_name = "BOOL")]
    pub(crate) verbose: Option<bool>,
    /// Accepted and ignored: errors always show their causes [default: false]
    #[arg(long, value_name = "BOOL")]
    debug: Option<bool>,
    /// After an error, wait for a key [default: false]
    #[arg(long, value_name = "BOOL")]
    pub(crate) pause_on_error: Option<bool>,
    /// Accepted and ignored [default: false]
    #[arg(long, value_name = "BOOL")]
    offline: Option<bool>,
}

/// An exit code and its meaning.
type Exit = (u8, &'static str);

pub(super) const DONE: Exit = (0, "success");
pub(super) const FAILED: Exit = (1, "refused or failed");
pub(super) const USAGE: Exit = (2, "invalid command line");
pub(super) const UNAVAILABLE: Exit = (3, "the server or the store is not available");
pub(super) const NOT_FOUND: Exit = (4, "with --strict: the instance does not exist");

/// What stands below the options on the long page of a verb: a line of the article, and the exit codes (L5).
pub(super) fn example_and_exits(example: &str, exits: &[Exit]) -> String {
    let mut text = format!("{example}\n\nExit codes:");
    for (code, meaning) in exits {
        // Writing to a text cannot fail.
        let _ok = write!(text, "\n  {code:>3}  {meaning}");
    }
    text
}
