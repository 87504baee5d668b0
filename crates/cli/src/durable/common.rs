//! The options that several verbs take, and the exit codes that their help names.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use crate::screen::When;

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

/// When an instance was created.
#[derive(Debug, Args)]
pub(super) struct Created {
    /// Only instances created at this time or later [default: year 1]
    #[arg(long, value_name = "DATE")]
    pub(super) created_after: Option<String>,
    /// Only instances created at this time or earlier [default: year 9999]
    #[arg(long, value_name = "DATE")]
    pub(super) created_before: Option<String>,
}

/// Format of the output (L31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// The texts and the JSON of Azure Functions Core Tools.
    Compat,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    #[value(name = "jsonl")]
    JsonLines,
    /// One id per line.
    Ids,
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
