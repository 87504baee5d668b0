//! Kills a program at work over and over, and checks what it left on disk.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use taskhub_e2e::Result;
use taskhub_e2e::kills::{KillReport, KillSettings, run};

const USAGE: &str =
    "usage: kills [--rounds N] [--instances N] [--seed N] [--folder PATH] [--over-http] [--split-commits]";

fn main() -> ExitCode {
    let told = answer();
    let code = match &told {
        Ok(report) if report.checked.violations.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    // Whoever closed our output has read enough.
    let _closed = match told {
        Ok(report) => write!(std::io::stdout(), "{report}"),
        Err(error) => writeln!(std::io::stderr(), "error: {error}"),
    };
    code
}

fn answer() -> Result<KillReport> {
    let scratch = tempfile::tempdir()?;
    // Built beside this program.
    let program = std::env::current_exe()?.with_file_name(format!("kill-target{}", std::env::consts::EXE_SUFFIX));
    let mut settings = KillSettings::new(&program, scratch.path(), 10_000, 1);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        if name == "--over-http" {
            settings.target.over_http = true;
            continue;
        }
        if name == "--split-commits" {
            settings.target.split_commits = true;
            settings.stops_at_violation = true;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        match name.as_str() {
            "--rounds" => settings.rounds = value.parse()?,
            "--instances" => settings.instances = value.parse()?,
            "--seed" => settings.seed = value.parse()?,
            "--folder" => {
                settings.folder = PathBuf::from(value);
                settings.target.folder = settings.folder.join("store");
            }
            _ => return Err(USAGE.into()),
        }
    }
    writeln!(
        std::io::stdout(),
        "{} instances, seed {}",
        settings.instances,
        settings.seed
    )?;
    std::fs::create_dir_all(&settings.folder)?;
    run(&settings)
}
