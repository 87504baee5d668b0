//! The binary `taskhub`: reads the command line, runs one command, prints its answer.

mod args;
mod bench;
mod demo;
mod durable;
mod errors;
mod files;
mod find;
mod hub_access;
mod random;
mod report;
mod screen;
mod serve;
mod shim;
mod stop;
mod store;

mod world;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::{Args, CommandFactory, FromArgMatches};
use clap_complete::Shell;
use report::Trouble;
use screen::Screen;
use serve::Mode;
use shim::HandedOn;
use stop::{Stop, exit};
use world::World;

fn main() -> ExitCode {
    let world = World::of_this_process();
    survive_file_limits();
    if let Some(code) = durable_context(&world) {
        return ExitCode::from(code);
    }
    let parsed = if world.is_func() {
        match shim::hand_on(&world, &mut Screen::new(&world)) {
            HandedOn::Done(code) => return ExitCode::from(code),
            HandedOn::Dev { called, options } => parse_start(&called, options),
        }
    } else {
        parse(world.args.iter().cloned())
    };
    let command = match parsed {
        Ok(command) => command,
        Err(told) => return ExitCode::from(tell(&told, &world)),
    };
    if !matches!(command, Command::Dev(_) | Command::Serve(_)) {
        log_warnings();
    }
    let mut screen = Screen::new(&world);
    let shown = answer(command, &world, &mut screen).and_then(|text| {
        screen.print(&text)?;
        Ok(screen.flush()?)
    });
    ExitCode::from(match shown.map_err(|ended| *ended) {
        Ok(()) => 0,
        Err(Ended::Trouble(trouble)) => {
            let _closed = write!(std::io::stderr(), "{trouble}");
            exit::UNAVAILABLE
        }
        Err(Ended::Stop(stop)) => screen.end(&stop),
    })
}

/// Has a write beyond the limit on the size of files (`ulimit -f`) fail, as one to a full disk does. The signal that comes
/// with it would end the process without a word; once somebody has listened to it, it does not, even when the listener
/// and its runtime are gone.
fn survive_file_limits() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let _inside = runtime.enter();
            signal(SignalKind::from_raw(libc::SIGXFSZ))
        };
        // Where one cannot listen, all else still works.
        let _heard = listen();
    }
}

/// The whole tree: what `durable` takes is said in tables of its own.
fn tree() -> clap::Command {
    Cli::command().subcommand(durable::completions())
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let matches = tree().try_get_matches_from(args)?;
    Ok(Cli::from_arg_matches(&matches)?.command)
}

/// The options of `func start`, as it was called, which is `dev`.
fn parse_start(called: &str, options: Vec<OsString>) -> Result<Command, clap::Error> {
    let start = args::Serve::augment_args(clap::Command::new("start").bin_name(called));
    let matches = start.no_binary_name(true).try_get_matches_from(options)?;
    Ok(Command::Dev(args::Serve::from_arg_matches(&matches)?))
}

/// Shows the help that was asked for, or what is not understood; answers the exit code.
fn tell(told: &clap::Error, world: &World) -> u8 {
    match told.print() {
        Err(error) if !told.use_stderr() => Screen::new(world).end(&error.into()),
        _ => u8::try_from(told.exit_code()).unwrap_or(exit::USAGE),
    }
}

/// Why a command gave no answer.
enum Ended {
    /// The machine or the store is in the way.
    Trouble(Trouble),
    /// Anything else.
    Stop(Stop),
}

impl From<Trouble> for Box<Ended> {
    fn from(trouble: Trouble) -> Self {
        Self::new(Ended::Trouble(trouble))
    }
}

impl From<Stop> for Box<Ended> {
    fn from(stop: Stop) -> Self {
        Self::new(Ended::Stop(stop))
    }
}

fn answer(command: Command, world: &World, screen: &mut Screen) -> Result<String, Box<Ended>> {
    Ok(match command {
        Command::Demo(demo) => block_on(demo::run(demo, world))?,
        Command::Dev(args) => serve(Mode::Dev, &args, world)?,
        Command::Serve(args) => serve(Mode::Serve, &args, world)?,
        Command::Bench(bench) => block_on(async { Ok(bench::run(bench).await?) })?,
        Command::Store(tool) => store::run(&tool, world, screen)?,
        Command::Errors { code } => errors::run(code.as_deref())?,
        Command::Shim(shim) => shim::run(&shim, world)?,
        Command::Version => version_line(),
        Command::Completions { shell } => completions(shell, &world.program())?,
    })
}

fn serve(mode: Mode, args: &args::Serve, world: &World) -> Result<String, Box<Ended>> {
    block_on(async {
        serve::run(mode, args, world, &mut Screen::new(world)).await?;
        Ok(String::new())
    })
}

/// The log of commands that do not serve, which have little to say.
fn log_warnings() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
}

fn completions(shell: Shell, program: &str) -> report::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(), program, &mut script);
    Ok(String::from_utf8(script)?)
}

fn block_on<T>(work: impl Future<Output = Result<T, Box<Ended>>>) -> Result<T, Box<Ended>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Trouble::from)?;
    let answer = runtime.block_on(work);
    // A blocking activity that did not end in time must not keep the process.
    runtime.shutdown_background();
    answer
}

/// What `version` prints.
pub(crate) fn version_line() -> String {
    format!("taskhub {}\n", env!("CARGO_PKG_VERSION"))
}

/// Runs the words of the `durable` context, which have a grammar of their own (L6); `None` if these are others.
fn durable_context(world: &World) -> Option<u8> {
    let args = world.args.get(1..).unwrap_or_default();
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if !is_durable(&words) {
        return None;
    }
    log_warnings();
    let mut screen = Screen::new(world);
    let unreadable = args.iter().find(|arg| arg.to_str().is_none());
    if let Some(arg) = unreadable.map(OsString::as_os_str) {
        let stop = Stop::usage(format!("`{}` is not UTF-8", arg.display()));
        return Some(screen.end(&stop));
    }
    Some(durable::run(world, &words, &mut screen))
}

/// Whether the first word, or the one behind `help`, is `durable`; options of every verb may come before it.
fn is_durable(words: &[String]) -> bool {
    let mut plain = words.iter().filter(|word| !word.starts_with('-'));
    match plain.next() {
        Some(first) if first.eq_ignore_ascii_case("help") => plain
            .next()
            .is_some_and(|second| second.eq_ignore_ascii_case("durable")),
        Some(first) if first.eq_ignore_ascii_case("durable") => true,
        // The value of an option of every verb: `--task-hub-name Other durable …`.
        Some(_) if words.first().is_some_and(|first| first.starts_with("--")) => {
            words.iter().any(|word| word.eq_ignore_ascii_case("durable"))
        }
        _ => false,
    }
}
