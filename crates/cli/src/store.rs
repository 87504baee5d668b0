//! `taskhub store …`: tools for a store that may be damaged. They work on its files, with no hub and no server.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use taskhub_store::Error as StoreError;
use taskhub_store::embedded::repair::{self, Accepted, Saved};
use taskhub_store::embedded::{EmbeddedStore, Progress};

use crate::args::StoreTool;
use crate::durable::shape::Shape;
use crate::durable::{compat, native};
use crate::find::{self, Wishes};
use crate::screen::Screen;
use crate::stop::{Result, Stop, exit};
use crate::target::Record;
use crate::world::{World, plain};

/// `taskhub store …`.
pub(crate) fn run(tool: &StoreTool, world: &World, screen: &mut Screen) -> Result<String> {
    match tool {
        StoreTool::Verify { store, json } => verify(&folder(store.as_deref(), world, screen)?, *json, screen),
        StoreTool::Repair {
            store,
            export,
            accept_loss,
            rebuild,
        } => {
            let folder = folder(store.as_deref(), world, screen)?;
            if *accept_loss {
                accept(&folder, screen)?;
            }
            let saved = match export.as_deref() {
                Some("-") => save(&folder, "the standard output", &mut io::stdout().lock(), screen),
                Some(file) => save_to(&folder, &world.folder.join(file), screen),
                None => Ok(()),
            };
            if *rebuild && !is_failure(&saved) {
                write_anew(&folder, screen)?;
            }
            saved.map(|()| String::new())
        }
    }
}

/// The folder that is meant, which must hold a store. One that is named needs no settings, which may be damaged too.
fn folder(store: Option<&str>, world: &World, screen: &mut Screen) -> Result<PathBuf> {
    let folder = match store {
        Some(folder) => plain(&world.folder.join(folder)),
        None => found(world, screen)?,
    };
    if EmbeddedStore::is_in(&folder) {
        return Ok(folder);
    }
    let message = format!("there is no store in {}", folder.display());
    Err(Stop::error(exit::NOT_FOUND, "file-not-found", message).hint("name its folder with `--store DIR`"))
}

fn found(world: &World, screen: &mut Screen) -> Result<PathBuf> {
    let wishes = Wishes {
        is_for_server: true,
        ..Wishes::default()
    };
    let found = find::find(world, &wishes, screen)?;
    found.place.folder().map(Path::to_owned)
}

fn failed(what: &str, folder: &Path, error: &StoreError) -> Stop {
    Stop::from_store(&format!("cannot {what} the store in {}", folder.display()), error)
}

/// Says how far the work is, on a terminal.
fn progress(progress: Progress) {
    let mut screen = io::stderr();
    if screen.is_terminal() {
        let Progress { what, done, of } = progress;
        // Over the line before; nobody is there to be told that it cannot be written.
        let _shown = write!(screen, "\r{what}: {done} of {of}\x1b[K");
    }
}

fn clear_progress() {
    let mut screen = io::stderr();
    if screen.is_terminal() {
        let _shown = write!(screen, "\r\x1b[K");
    }
}

fn verify(folder: &Path, is_json: bool, screen: &mut Screen) -> Result<String> {
    let report = repair::verify(folder, &mut progress);
    clear_progress();
    let report = report.map_err(|error| failed("check", folder, &error))?;
    let place = folder.display();
    let bytes = report.bytes.unwrap_or(0);
    if is_json {
        let problems = report.problems.iter().map(|problem| Shape::Text(problem.clone()));
        let shape = Shape::object([
            ("store", Shape::Text(place.to_string())),
            ("bytes", Shape::Number(i64::try_from(bytes).unwrap_or(i64::MAX))),
            ("problems", Shape::Array(problems.collect())),
        ]);
        screen.print(&(shape.pretty(0) + "\n"))?;
    } else {
        for problem in &report.problems {
            screen.print(&format!("{problem}\n"))?;
        }
        let line = match report.problems.len() {
            0 => format!("the store in {place} is whole ({bytes} bytes)\n"),
            1 => format!("1 thing is wrong in the store in {place}\n"),
            count => format!("{count} things are wrong in the store in {place}\n"),
        };
        screen.print(&line)?;
    }
    if report.problems.is_empty() {
        return Ok(String::new());
    }
    screen.flush()?;
    Err(Stop::silent(exit::FAILED))
}

fn accept(folder: &Path, screen: &mut Screen) -> Result<()> {
    let accepted = repair::accept_loss(folder).map_err(|error| failed("repair", folder, &error))?;
    screen.note(&match accepted {
        Some(Accepted { what, kept }) => {
            let kept = kept.map(|kept| format!("; the log as it was is kept as {}", kept.display()));
            format!("the store goes on without this: {what}{}", kept.unwrap_or_default())
        }
        None => "the log lacks nothing; the store was left as it is".to_owned(),
    });
    Ok(())
}

/// Whether it could not be done; that something was left out is no reason not to keep the rest.
fn is_failure(done: &Result<()>) -> bool {
    done.as_ref().is_err_and(|stop| !stop.code.is_empty())
}

fn write_anew(folder: &Path, screen: &mut Screen) -> Result<()> {
    let rebuilt = repair::rebuild(folder, &mut progress);
    clear_progress();
    let rebuilt = rebuilt.map_err(|error| failed("write anew", folder, &error))?;
    for line in &rebuilt.left_out {
        screen.warn(&format!("left out: {line}"));
    }
    let (count, kept) = (rebuilt.instances, rebuilt.kept.display());
    screen.note(&format!(
        "the store is written anew with {count} instances; the file as it was is kept as {kept}"
    ));
    if rebuilt.left_out.is_empty() {
        return Ok(());
    }
    screen.flush()?;
    Err(Stop::silent(exit::FAILED))
}

/// Saves to a file, which must be new, and is there when all is in it.
fn save_to(folder: &Path, file: &Path, screen: &mut Screen) -> Result<()> {
    let named = |error: io::Error| {
        let message = format!("cannot write {}: {error}", file.display());
        Stop::error(exit::FAILED, "output-failed", message)
    };
    if file.symlink_metadata().is_ok() {
        let message = format!("{} exists already", file.display());
        return Err(Stop::error(exit::CONFLICT, "output-failed", message).hint("name a file that is new"));
    }
    let beside = PathBuf::from(format!("{}.part", file.display()));
    // For its user alone, as the store is: all payloads are in it.
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = io::BufWriter::new(options.open(&beside).map_err(named)?);
    let saved = save(folder, &file.display().to_string(), &mut out, screen);
    if is_failure(&saved) {
        let _gone = fs::remove_file(&beside);
        return saved;
    }
    out.flush().map_err(named)?;
    out.get_ref().sync_all().map_err(named)?;
    fs::rename(&beside, file).map_err(named)?;
    saved
}

fn save(folder: &Path, to: &str, out: &mut dyn Write, screen: &mut Screen) -> Result<()> {
    let mut count = 0_u64;
    let mut each = |saved: Saved| {
        count += 1;
        writeln!(out, "{}", line(saved).compact())
    };
    let lost = repair::save(folder, &mut each).map_err(|error| failed("read", folder, &error))?;
    for line in &lost {
        screen.warn(&format!("left out: {line}"));
    }
    if lost.is_empty() {
        screen.note(&format!("all {count} instances are in {to}"));
        return Ok(());
    }
    screen.note(&format!(
        "{count} instances are in {to}; what was left out is said above"
    ));
    screen.flush()?;
    Err(Stop::silent(exit::FAILED))
}

/// An instance with all that is known of it.
fn line(saved: Saved) -> Shape {
    let Saved { hub, state, histories } = saved;
    let unread: Vec<_> = state.inbox.values().map(|message| message.event.clone()).collect();
    let record = Record {
        history_events: state.history_events.into(),
        history_bytes: state.history_bytes,
        info: state.info,
    };
    let generations = histories.into_iter().map(|(ordinal, events)| {
        Shape::object([
            ("generation", Shape::Number(i64::from(ordinal) + 1)),
            ("events", Shape::Array(compat::history(&events, true))),
        ])
    });
    let mut shape = native::instance(&hub, &record);
    if let Shape::Object(members) = &mut shape {
        members.push(("histories".to_owned(), Shape::Array(generations.collect())));
        members.push(("unread".to_owned(), Shape::Array(compat::history(&unread, true))));
    }
    shape
}
