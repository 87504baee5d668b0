//! The command line: one definition per option gives parsing, help and completions.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// Run three sample orchestrations, show what was written, and serve the hub until Ctrl-C.
    Demo(Demo),
    /// Serve this project, with its data in .taskhub.
    Dev(Serve),
    /// Serve a store for production.
    Serve(Serve),
    /// Measure this machine, with every step synced to disk.
    Bench(Bench),
    /// Look after a store: its size, whether it is damaged, and saving what is whole.
    #[command(subcommand)]
    Store(StoreTool),
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

/// Options of `dev` and `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Port to listen on; 0 takes any that is free. [default: 7071]
    #[arg(long, short)]
    pub(crate) port: Option<u16>,
    /// Address to listen on; others than loopback need keys, or --no-auth. [default: 127.0.0.1]
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    /// Origin of all links, such as `https://hub.example.org`; without it the setting TASKHUB_PUBLIC_URL. [default: as the
    /// server was called, for functions its address]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Hosts, with or without a port, by which callers without a key may call the server besides localhost and its address.
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    pub(crate) allow_host: Vec<String>,
    /// Origins such as `https://app.example.org` whose pages may use the server in a browser.
    #[arg(long, value_name = "ORIGIN,…", value_delimiter = ',')]
    pub(crate) cors: Vec<String>,
    /// Folder of the store. [default for dev: .taskhub]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// The task hub. [default: host.json, DurableFunctionsHub]
    #[arg(long, short = 'H', visible_alias = "task-hub-name", value_name = "NAME")]
    pub(crate) hub: Option<String>,
    /// Whether a start creates a task hub that does not exist. [default: true for dev, false for serve]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) auto_create_hubs: Option<bool>,
    /// Folder of the project, with host.json and local.settings.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Forget everything at the end.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Run the sample functions in the server; those that look at files see what is below DIR alone. [default of DIR: the
    /// project]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub(crate) samples: Option<PathBuf>,
    /// Write the addresses to this file as JSON when all is ready.
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// File with the system key; without it TASKHUB_KEY.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the master key; without it TASKHUB_MASTER_KEY.
    #[arg(long, value_name = "FILE")]
    pub(crate) master_key_file: Option<PathBuf>,
    /// Serve other machines without keys.
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Answer programs on this machine without a key although there are keys.
    #[arg(long)]
    pub(crate) rpc_open_loopback: bool,
    /// Certificate in PEM; the server then speaks HTTPS.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert_key: Option<PathBuf>,
    /// Form of log lines. [default: text for dev, json for serve]
    #[arg(long)]
    pub(crate) log_format: Option<Format>,
    /// What is logged.
    #[arg(long, default_value = "info")]
    pub(crate) log_level: Level,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For tools.
    Json,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// What broke.
    Error,
    /// Also what is wrong.
    Warn,
    /// Also what happens.
    Info,
    /// Also every call.
    Debug,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreTool {
    /// Show the size of a store, how much of it is free, its format, and its hubs with their instances. May be done beside a server.
    Show {
        /// Folder of the store. [default: as `durable` finds it]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give all that is free in a store back to the disk. Nobody else may have it; a server gives most of it back by itself.
    Compact {
        /// Folder of the store. [default: as `durable` finds it]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
    },
    /// Check a store: checksums, structure, indexes, counts, log. Changes nothing, and may be done beside a server. The
    /// exit code is 1 if something is wrong.
    Verify {
        /// Folder of the store. [default: as `durable` finds it]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Save what is whole in a store, or have it go on without what its log has lost. Nobody else may have it.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
    Repair {
        /// Folder of the store. [default: as `durable` finds it]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
        /// Write every instance that is whole, with its history, to this new file as JSON lines; `-` is the standard
        /// output. The exit code is 1 if some were left out.
        #[arg(long, value_name = "FILE", group = "what")]
        export: Option<String>,
        /// Go on without what a damaged or missing log has lost. The log is kept as `store.db-wal.damaged`.
        #[arg(long, group = "what")]
        accept_loss: bool,
        /// Write the store anew with all that is whole, and have that take its place. What is left out is said, and the exit
        /// code is 1 then. The file as it was is kept as `store.db.damaged`.
        #[arg(long, group = "what")]
        rebuild: bool,
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
    /// End after the run.
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep the store in this folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
