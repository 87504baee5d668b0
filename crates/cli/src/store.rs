//! `taskhub store …`: tools for a store, which may be damaged. They work on its files, with no hub and no server.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use taskhub_api::time::fine;
use taskhub_store::embedded::repair::{self, Accepted, Left, Saved};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, Figures, HubFigures, Progress, figures};
use taskhub_store::{Error as StoreError, Space, Store as _};

use crate::args::StoreTool;
use crate::durable::json::Json;
use crate::durable::{compat, native};
use crate::find::{self, HubSelector};
use crate::hub_access::Record;
use crate::screen::Screen;
use crate::stop::{Result, Stop, exit};
use crate::world::{World, plain};

/// `taskhub store …`.
pub(crate) fn run(tool: &StoreTool, world: &World, screen: &mut Screen) -> Result<String> {
    match tool {
        StoreTool::Show { store, json } => {
            screen.errors_are_json = *json;
            show(&folder(store.as_deref(), world, screen)?, *json, screen)
        }
        StoreTool::Compact { store } => compact(&folder(store.as_deref(), world, screen)?, screen),
        StoreTool::Verify { store, json } => {
            screen.errors_are_json = *json;
            verify(&folder(store.as_deref(), world, screen)?, *json, screen)
        }
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
                Some("-") => {
                    let mut out = io::BufWriter::new(io::stdout().lock());
                    Some(save(&folder, "the standard output", &mut out)?)
                }
                Some(file) => Some(save_to(&folder, &world.folder.join(file))?),
                None => None,
            };
            // Continue with the other instances if some were left out.
            let mut is_whole = saved.is_none_or(|saved| saved.tell(screen));
            if *rebuild {
                is_whole &= write_anew(&folder, screen)?;
            }
            if is_whole {
                return Ok(String::new());
            }
            screen.flush()?;
            Err(Stop::silent(exit::FAILED))
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
    let selector = HubSelector {
        is_for_server: true,
        ..HubSelector::default()
    };
    let found = find::find(world, &selector, screen)?;
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
        // Overwrites the previous line; write errors are ignored.
        let _shown = write!(screen, "\r{what}: {done} of {of}\x1b[K");
    }
}

fn clear_progress() {
    let mut screen = io::stderr();
    if screen.is_terminal() {
        let _shown = write!(screen, "\r\x1b[K");
    }
}

fn show(folder: &Path, is_json: bool, screen: &mut Screen) -> Result<String> {
    let figures = figures(folder).map_err(|error| failed("read", folder, &error))?;
    let Figures {
        format,
        space: Space { bytes, free_bytes },
        log_bytes,
        hubs,
    } = figures;
    let place = folder.display();
    if is_json {
        let shape = Json::object([
            ("store", Json::Text(place.to_string())),
            ("format", Json::Number(format.into())),
            ("bytes", number(bytes)),
            ("freeBytes", number(free_bytes)),
            ("logBytes", number(log_bytes)),
            ("hubs", Json::Array(hubs.iter().map(shape_of).collect())),
        ]);
        screen.print(&(shape.pretty(0) + "\n"))?;
        return Ok(String::new());
    }
    screen.print(&format!(
        "store   {place}\nformat  {format}\nsize    {bytes} bytes, {free_bytes} of them free\nlog     {log_bytes} bytes\n"
    ))?;
    for HubFigures { hub, counts } in &hubs {
        let all: u64 = counts.iter().map(|(_, count)| count).sum();
        let each: Vec<String> = counts
            .iter()
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        let each = if each.is_empty() {
            String::new()
        } else {
            format!(" ({})", each.join(", "))
        };
        let (name, partitions) = (&hub.name, hub.partitions);
        screen.print(&format!(
            "hub     {name}: {partitions} partitions, {all} instances{each}\n"
        ))?;
    }
    Ok(String::new())
}

fn number(count: u64) -> Json {
    Json::Number(i64::try_from(count).unwrap_or(i64::MAX))
}

fn shape_of(HubFigures { hub, counts }: &HubFigures) -> Json {
    let each = counts
        .iter()
        .map(|(status, count)| (status.to_string(), number(*count)));
    Json::object([
        ("hub", Json::Text(hub.name.to_string())),
        ("partitions", Json::Number(hub.partitions.into())),
        ("createdTime", Json::Text(fine(hub.created_at))),
        ("instances", number(counts.iter().map(|(_, count)| count).sum())),
        ("statuses", Json::Object(each.collect())),
    ])
}

/// Returns the free space of a store to the disk, in steps.
fn compact(folder: &Path, screen: &mut Screen) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let shrink = async {
        let store = EmbeddedStore::open(folder, EmbeddedOptions::default())?;
        let before = store.space().await?;
        let mut after = store.compact().await?;
        while after.free_bytes > 0 {
            let next = store.compact().await?;
            if next.free_bytes >= after.free_bytes {
                break;
            }
            after = next;
        }
        Ok((before, after))
    };
    let (before, after): (Space, Space) = runtime
        .block_on(shrink)
        .map_err(|error| failed("compact", folder, &error))?;
    let given = before.bytes.saturating_sub(after.bytes);
    screen.note(&format!(
        "the store in {} has {} bytes; {given} were given back",
        folder.display(),
        after.bytes
    ));
    Ok(String::new())
}

fn verify(folder: &Path, is_json: bool, screen: &mut Screen) -> Result<String> {
    let report = repair::verify(folder, &mut progress);
    clear_progress();
    let report = report.map_err(|error| failed("check", folder, &error))?;
    let place = folder.display();
    let bytes = report.bytes;
    if is_json {
        let problems = report.problems.iter().map(|problem| Json::Text(problem.clone()));
        let value = Json::object([
            ("store", Json::Text(place.to_string())),
            ("bytes", Json::Number(i64::try_from(bytes).unwrap_or(i64::MAX))),
            ("problems", Json::Array(problems.collect())),
        ]);
        screen.print(&(value.pretty(0) + "\n"))?;
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
        Some(Accepted { what, kept, left }) => {
            let kept = kept.map(|kept| format!("; the log as it was is kept as {}", kept.display()));
            let left = left.map(|left| format!("; it goes on with {}", what_is_left(left)));
            let [kept, left] = [kept, left].map(Option::unwrap_or_default);
            format!("the store goes on without this: {what}{kept}{left}")
        }
        None => "the log lacks nothing; the store was left as it is".to_owned(),
    });
    Ok(())
}

/// Rebuilds a store and reports what was left out; returns whether it is complete.
fn write_anew(folder: &Path, screen: &mut Screen) -> Result<bool> {
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
    Ok(rebuilt.left_out.is_empty())
}

fn what_is_left(left: Left) -> String {
    let Left { instances, changed_at } = left;
    let last = changed_at.map(|at| format!(", the last change of which was at {at}"));
    format!("{instances} instances{}", last.unwrap_or_default())
}

/// Saves to a file, which must be new, and is there when all is in it.
fn save_to(folder: &Path, file: &Path) -> Result<Export> {
    let named = |error: io::Error| unwritten(file, &error);
    if file.symlink_metadata().is_ok() {
        let message = format!("{} already exists", file.display());
        return Err(Stop::error(exit::CONFLICT, "output-failed", message).hint("name a file that is new"));
    }
    let beside = PathBuf::from(format!("{}.part", file.display()));
    // For its user alone, as the store is: all payloads are in it.
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let part = options.open(&beside).map_err(|error| unwritten(&beside, &error))?;
    let write = || -> Result<Export> {
        let mut out = io::BufWriter::new(&part);
        let saved = save(folder, &file.display().to_string(), &mut out).map_err(|trouble| match trouble {
            Unsaved::Store(stop) => stop,
            Unsaved::Output(error) => named(error),
        })?;
        part.sync_all().map_err(named)?;
        fs::rename(&beside, file).map_err(named)?;
        Ok(saved)
    };
    write().inspect_err(|_| {
        let _gone = fs::remove_file(&beside);
    })
}

fn unwritten(file: &Path, error: &io::Error) -> Stop {
    let message = format!("cannot write {}: {error}", file.display());
    Stop::error(exit::FAILED, "output-failed", message)
}

/// Why nothing is saved.
enum Unsaved {
    /// The store cannot be read.
    Store(Stop),
    /// What is read cannot be written.
    Output(io::Error),
}

impl From<Unsaved> for Stop {
    fn from(trouble: Unsaved) -> Self {
        match trouble {
            Unsaved::Store(stop) => stop,
            Unsaved::Output(error) => error.into(),
        }
    }
}

/// What became of a store's instances.
struct Export {
    to: String,
    count: u64,
    lost: Vec<String>,
}

impl Export {
    /// Says it when all is written; true if nothing was left out.
    fn tell(self, screen: &mut Screen) -> bool {
        let Self { to, count, lost } = self;
        for line in &lost {
            screen.warn(&format!("left out: {line}"));
        }
        if lost.is_empty() {
            screen.note(&format!("all {count} instances are in {to}"));
        } else {
            screen.note(&format!(
                "{count} instances are in {to}; what was left out is said above"
            ));
        }
        lost.is_empty()
    }
}

fn save(folder: &Path, to: &str, out: &mut dyn Write) -> std::result::Result<Export, Unsaved> {
    let (mut count, mut refused) = (0_u64, None);
    let mut each = |saved: Saved| {
        count += 1;
        writeln!(out, "{}", line(saved).compact()).map_err(|error| {
            let kind = error.kind();
            refused = Some(error);
            kind.into()
        })
    };
    let saved = repair::save(folder, &mut each);
    // It ended for want of a place to write to, not because of the store.
    if let Some(error) = refused {
        return Err(Unsaved::Output(error));
    }
    let lost = saved.map_err(|error| Unsaved::Store(failed("read", folder, &error)))?;
    out.flush().map_err(Unsaved::Output)?;
    let to = to.to_owned();
    Ok(Export { to, count, lost })
}

/// An instance with all that is known of it.
fn line(saved: Saved) -> Json {
    let Saved { hub, state, histories } = saved;
    let unread: Vec<_> = state.inbox.values().map(|message| message.event.clone()).collect();
    let record = Record {
        history_events: state.history_events.into(),
        history_bytes: state.history_bytes,
        info: state.info,
    };
    let generations = histories.into_iter().map(|(ordinal, events)| {
        Json::object([
            ("generation", Json::Number(i64::from(ordinal) + 1)),
            ("events", Json::Array(compat::history(&events, true))),
        ])
    });
    let mut value = native::instance(&hub, &record);
    if let Json::Object(members) = &mut value {
        members.push(("histories".to_owned(), Json::Array(generations.collect())));
        members.push(("unread".to_owned(), Json::Array(compat::history(&unread, true))));
    }
    value
}
