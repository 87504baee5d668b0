//! Runs cargo calls one after the other, times them and says plainly which one failed. What has to be there before the
//! first of them is timed like one.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::tree;

/// One cargo call with the name its failure is reported under.
#[derive(Debug)]
pub(crate) struct Stage {
    name: &'static str,
    args: Vec<&'static str>,
    env: Vec<(OsString, OsString)>,
}

impl Stage {
    /// A stage that runs cargo with these arguments.
    pub(crate) fn new(name: &'static str, args: &[&'static str]) -> Self {
        Self {
            name,
            args: args.to_vec(),
            env: Vec::new(),
        }
    }

    /// The same stage with one more variable in its environment.
    pub(crate) fn env(mut self, name: OsString, value: OsString) -> Self {
        self.env.push((name, value));
        self
    }

    fn command(&self) -> Command {
        let mut command = cargo();
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// How long each stage took, in the order they ran.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<(&'static str, Duration, bool)>);

impl Times {
    /// Does what comes before the stages.
    pub(crate) fn set_up<T>(&mut self, set_up: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        println!("==> setup");
        let started = now();
        let done = set_up()?;
        self.0.push(("setup", now() - started, true));
        Ok(done)
    }

    fn measure(&mut self, stage: &Stage, run: impl FnOnce() -> io::Result<bool>) -> bool {
        println!("==> {}: cargo {}", stage.name, stage.args.join(" "));
        let started = now();
        let passed = run().unwrap_or_else(|error| {
            eprintln!("error: cannot run cargo: {error}");
            false
        });
        self.0.push((stage.name, now() - started, passed));
        passed
    }

    fn print(&self) {
        println!("\nstage          seconds");
        for (name, took, passed) in &self.0 {
            let mark = if *passed { "" } else { "  FAILED" };
            println!("{name:<14} {:>7.1}{mark}", took.as_secs_f64());
        }
    }
}

/// Runs the stages up to the first that fails.
pub(crate) fn run(stages: &[Stage]) -> ExitCode {
    let mut times = Times::default();
    let failed = first_failure(stages, &mut times);
    times.print();
    match failed {
        None => ExitCode::SUCCESS,
        Some(name) => fail(&format!("stage `{name}` failed")),
    }
}

/// Runs the stages, then the one that runs tests, and ends with the count of those tests.
pub(crate) fn run_then_count(mut times: Times, stages: &[Stage], tests: &Stage) -> ExitCode {
    if let Some(name) = first_failure(stages, &mut times) {
        times.print();
        return fail(&format!("stage `{name}` failed; the tests were not run"));
    }
    let mut counts = Counts::default();
    let passed = times.measure(tests, || run_counting(tests, &mut counts));
    if !passed {
        counts.program_failed();
    }
    times.print();
    let code = if !passed {
        fail(&format!("stage `{}` failed", tests.name))
    } else if counts.passed == 0 {
        fail("no test ran")
    } else {
        ExitCode::SUCCESS
    };
    println!("\n{counts}");
    code
}

/// Runs cargo with fixed arguments followed by the caller's, and ends as it ended.
pub(crate) fn hand_over(fixed: &[&str], rest: &[String]) -> ExitCode {
    match cargo().args(fixed).args(rest).status() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => fail(&format!("cannot run cargo: {error}")),
    }
}

fn first_failure(stages: &[Stage], times: &mut Times) -> Option<&'static str> {
    let run_one = |stage: &Stage| stage.command().status().map(|status| status.success());
    stages
        .iter()
        .find(|stage| !times.measure(stage, || run_one(stage)))
        .map(|stage| stage.name)
}

/// Passes the child's output on line by line, because waiting for the end would look like a hang.
fn run_counting(stage: &Stage, counts: &mut Counts) -> io::Result<bool> {
    let mut child = stage.command().stdout(Stdio::piped()).spawn()?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            counts.take(&String::from_utf8_lossy(&line));
            let mut terminal = io::stdout().lock();
            terminal.write_all(&line)?;
            terminal.write_all(b"\n")?;
        }
    }
    Ok(child.wait()?.success())
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(tree::root());
    command
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

#[expect(
    clippy::disallowed_methods,
    reason = "stage times are for people, not for the engine"
)]
fn now() -> Instant {
    Instant::now()
}
