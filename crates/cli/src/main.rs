//! The binary `taskhub`: reads the command line, runs one command, prints its answer.

mod args;
mod argv;
mod bench;
mod demo;
mod durable;
mod errors;
mod files;
mod find;
mod hub_access;
mod manual;
mod parse;
mod proposed;
mod random;
mod report;
mod screen;
mod serve;
mod shim;
mod stop;
mod store;
mod usage;
mod world;

use std::io::Write;
use std::process::ExitCode;

use args::Command;
use durable::verbs::Durable;
use parse::{Asked, Refused};
use report::Trouble;
use screen::Screen;
use serve::Mode;
use shim::HandedOn;
use stop::{Stop, exit};
use usage::Usage;
use world::World;

fn main() -> ExitCode {
    let world = World::of_this_process();
    ignore_sigxfsz();
    let mut screen = Screen::new(&world);
    let asked = match read(&world, &mut screen) {
        Ok(asked) => asked,
        Err(code) => return ExitCode::from(code),
    };
    let answered = match asked {
        Asked::Page(page) => Ok(page),
        Asked::Run(command, usage) => {
            if !matches!(*command, Command::Dev(_) | Command::Serve(_)) {
                log_warnings();
            }
            answer(*command, &usage, &world, &mut screen)
        }
    };
    let shown = answered.and_then(|text| {
        screen.print(&text)?;
        Ok(screen.flush()?)
    });
    ExitCode::from(match shown.map_err(|ended| *ended) {
        Ok(()) => {
            screen.release();
            0
        }
        Err(Ended::Trouble(trouble)) => {
            let _closed = write!(std::io::stderr(), "{trouble}");
            exit::UNAVAILABLE
        }
        Err(Ended::Stop(stop)) => screen.end(&stop),
    })
}

/// What the words of this process ask for, or the exit code if they ask for nothing that is done here.
fn read(world: &World, screen: &mut Screen) -> Result<Asked, u8> {
    let tree = parse::tree(&world.program());
    let mut line = argv::normalise(&tree, &world.args);
    let mut called = None;
    if world.is_func() && line.path.first().is_none_or(|word| word != "durable") {
        match shim::hand_on(world, screen) {
            HandedOn::Done(code) => return Err(code),
            HandedOn::Same(name) => line = argv::normalise(&tree, &[world.program().into(), name.into()]),
            HandedOn::Dev { called: words, options } => called = Some((words, options)),
        }
    }
    screen.errors_are_json = parse::wants_json(&line, world);
    let asked = match called {
        Some((called, options)) => parse::start(&called, &options),
        None => parse::command(tree, &line),
    };
    asked.map_err(|refused| match refused {
        Refused::Group(page) => {
            screen.tell(page.trim_end());
            exit::USAGE
        }
        Refused::Stop(stop) => screen.end(&stop),
    })
}

/// Makes a write beyond the file size limit (`ulimit -f`) fail with an error, like a write to a full disk. By default
/// the signal SIGXFSZ would kill the process silently. Listening to it once prevents that permanently, even after the
/// listener and its runtime are dropped.
fn ignore_sigxfsz() {
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

fn answer(command: Command, usage: &Usage, world: &World, screen: &mut Screen) -> Result<String, Box<Ended>> {
    Ok(match command {
        Command::Demo(demo) => block_on(demo::run(demo, world))?,
        Command::Dev(args) => serve(Mode::Dev, &args, world)?,
        Command::Serve(args) => serve(Mode::Serve, &args, world)?,
        Command::Durable(Durable { verb: None }) => manual::page(&world.program(), "durable"),
        Command::Durable(Durable { verb: Some(verb) }) => {
            durable::run(world, &verb, usage, screen)?;
            String::new()
        }
        Command::Store(tool) => store::run(&tool, world, screen)?,
        Command::Bench(bench) => block_on(async { Ok(bench::run(bench).await?) })?,
        Command::Errors { code } => errors::run(code.as_deref()),
        Command::Shim(shim) => shim::run(&shim, world)?,
        Command::Completions { shell } => manual::completions(shell, &world.program())?,
        Command::Man { dir } => manual::run(dir.as_deref(), world)?,
        Command::Version => version_line(),
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
