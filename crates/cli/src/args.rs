//! The commands and their options. One definition gives parsing, help, completions and the manual (L77); those of
//! `durable` are in [`crate::durable::verbs`] and beside each verb.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bench::Bench;
use crate::durable::verbs::Durable;
use crate::errors;

/// Durable execution in a task hub you host yourself.
#[derive(Debug, Parser)]
#[command(name = "taskhub", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run three sample orchestrations, show what was stored, and serve the hub until Ctrl-C.
    Demo(Demo),
    /// Serve the project in this folder, with its data in .taskhub.
    Dev(Serve),
    /// Serve a store in production.
    Serve(Serve),
    Durable(Durable),
    /// Show how large a store is, check it for damage, and recover what is intact.
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreTool),
    /// Measure this machine, with every step synced to disk.
    Bench(Bench),
    /// Explain an error code, or list all of them.
    Errors {
        /// The code in `error[...]`. Without it, all codes are listed.
        #[arg(value_parser = PossibleValuesParser::new(errors::codes()), hide_possible_values = true)]
        code: Option<String>,
    },
    /// Install a `func` that runs `func durable` here and passes everything else on.
    #[command(subcommand, arg_required_else_help = true)]
    Shim(Shim),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write one page per command.
    Man {
        /// Folder to write the pages to. Without it, the main page is printed.
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

/// The groups of `taskhub help`.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[
    ("Get started", &["demo"]),
    ("Run a server", &["dev", "serve"]),
    ("Work with instances", &["durable", "shim"]),
    ("Maintain", &["store", "bench"]),
    ("Reference", &["errors", "completions", "man", "version"]),
];

/// The page of `taskhub help`, as a template of clap: a table of contents.
pub(crate) fn contents(tree: &clap::Command) -> String {
    let mut page = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (group, names) in GROUPS {
        // Writing to a text cannot fail.
        let _ok = write!(page, "\n{group}:\n");
        for command in names.iter().filter_map(|name| tree.find_subcommand(name)) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ok = writeln!(page, "  {:<12} {about}", command.get_name());
        }
    }
    page + "\nOptions:\n{options}\n\nRun `taskhub help <command>` for the options of a command.\n"
}

/// Options of `dev` and `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Port to listen on; 0 takes any free port [default: 7071]
    #[arg(long, short, value_parser = port)]
    pub(crate) port: Option<u16>,
    /// Address to listen on; any but loopback needs keys, or --no-auth [default: 127.0.0.1]
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    /// Origin of all links, such as `https://hub.example.org` [default: the setting TASKHUB_PUBLIC_URL, else the host that
    /// the request was sent to; in links made by functions, the server's address]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Further host names, with or without a port, that requests without a key may use. Always allowed: localhost and
    /// the server's own addresses.
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    pub(crate) allow_host: Vec<String>,
    /// Origins such as `https://app.example.org` whose pages may call the server from a browser.
    #[arg(long, value_name = "ORIGIN,…", value_delimiter = ',')]
    pub(crate) cors: Vec<String>,
    /// Folder of the store [default for dev: .taskhub]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Name of the task hub [default: from host.json, else DurableFunctionsHub]
    #[arg(long, short = 'H', visible_alias = "task-hub-name", value_name = "NAME")]
    pub(crate) hub: Option<String>,
    /// Whether starting an instance creates its task hub if it does not exist [default: true for dev, false for serve]
    #[arg(long, value_name = "BOOL")]
    pub(crate) auto_create_hubs: Option<bool>,
    /// Folder of the project, which holds host.json and local.settings.json [default: searched upwards]
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Keep the data in a temporary folder, and delete it at the end.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Run the sample functions in the server. Those that read files see only what is below DIR [default for DIR: the
    /// project]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub(crate) samples: Option<PathBuf>,
    /// Write the addresses to this file, as JSON, when the server is ready.
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// File that holds the system key [default: the key in TASKHUB_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File that holds the master key [default: the key in TASKHUB_MASTER_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) master_key_file: Option<PathBuf>,
    /// Serve other machines without asking for keys.
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Serve programs on this machine without a key although there are keys. Do not use this behind a reverse proxy on
    /// the same machine: every caller would look local.
    #[arg(long)]
    pub(crate) rpc_open_loopback: bool,
    /// Certificate in PEM format; the server then uses HTTPS.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM format.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert_key: Option<PathBuf>,
    /// Format of log lines [default: text for dev, json for serve]
    #[arg(long)]
    pub(crate) log_format: Option<Format>,
    /// Least severe messages to log.
    #[arg(long, default_value = "info")]
    pub(crate) log_level: Level,
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "expected a port number from 0 to 65535")
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line of text for people.
    Text,
    /// One JSON object per line for tools.
    Json,
}

/// Least severe messages to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Failures.
    Error,
    /// Also warnings.
    Warn,
    /// Also life-cycle events.
    Info,
    /// Also every request.
    Debug,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreTool {
    /// Show the size of a store, how much of it is free, its format and its hubs.
    ///
    /// Can run beside a server.
    Show {
        /// Folder of the store [default: the store that `durable` would use]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Return the free space in a store to the disk.
    ///
    /// No server may have the store open. A server returns most of the free space by itself.
    Compact {
        /// Folder of the store [default: the store that `durable` would use]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
    },
    /// Check a store: checksums, structure, indexes, counts and log.
    ///
    /// Changes nothing, and can run beside a server. The exit code is 1 if the store is damaged.
    Verify {
        /// Folder of the store [default: the store that `durable` would use]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Export or rebuild what is intact in a damaged store, or accept the loss of its log.
    ///
    /// No other process may have the store open. At least one of the options is needed.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
    Repair {
        /// Folder of the store [default: the store that `durable` would use]
        #[arg(long, value_name = "DIR")]
        store: Option<String>,
        /// Write every intact instance, with its history, to this new file as JSON lines; `-` is standard output. The
        /// exit code is 1 if instances were left out.
        #[arg(long, value_name = "FILE", group = "what")]
        export: Option<String>,
        /// Continue without what was lost with a damaged or missing log. The log is kept as `store.db-wal.damaged`.
        #[arg(long, group = "what")]
        accept_loss: bool,
        /// Replace the store by a new one with everything that is intact. What is left out is listed, and the exit code
        /// is 1 then. The old file is kept as `store.db.damaged`.
        #[arg(long, group = "what")]
        rebuild: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Shim {
    /// Install the `func`.
    Install {
        /// Folder of the `func` [default: the folder of this program]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Remove the `func`.
    Remove {
        /// Folder of the `func` [default: the folder of this program]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show which `func` programs are on the path.
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Exit after the run instead of serving the hub.
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep the store in this folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
