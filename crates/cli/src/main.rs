//! The binary `taskhub`: reads the command line, runs one command, prints its answer.

mod args;
mod bench;
mod demo;
mod report;

use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use report::Result;

/// The machine or the store is in the way (`EX_UNAVAILABLE` of our table is 3).
const EXIT_UNAVAILABLE: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    match answer(cli.command) {
        Ok(text) => {
            // Whoever closed our output has read enough.
            let _closed = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _closed = write!(std::io::stderr(), "{error}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

fn answer(command: Command) -> Result<String> {
    match command {
        Command::Demo(demo) => block_on(demo::run(demo)),
        Command::Bench(bench) => block_on(bench::run(bench)),
        Command::Version => Ok(format!("taskhub {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "taskhub", &mut script);
            Ok(String::from_utf8(script)?)
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let answer = runtime.block_on(work);
    // A blocking activity that did not end in time must not keep the process.
    runtime.shutdown_background();
    answer
}
