//! The command line: one definition per option gives parsing, help and completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::Bench;

/// Durable execution in a task hub you host yourself.
#[derive(Debug, Parser)]
#[command(name = "taskhub", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run three sample orchestrations on an embedded store and show what was written.
    Demo(Demo),
    /// Measure this machine, with every step synced to disk.
    Bench(Bench),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the run. It always does, until there is a server to go on serving.
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep the store in this folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
