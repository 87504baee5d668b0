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
    /// Explain an error, or list all.
    Errors {
        /// The word in `error[...]`.
        code: Option<String>,
    },
    /// Put a `func` on the path that runs `func durable` here and hands everything else on.
    #[command(subcommand)]
    Shim(Shim),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Shim {
    /// Put it there.
    Install {
        /// The folder; that of this program unless said otherwise.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Take it away.
    Remove {
        /// The folder; that of this program unless said otherwise.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Say which `func` is on the path.
    Status,
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
