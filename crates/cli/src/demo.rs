//! `taskhub demo`: three sample orchestrations on an embedded store, from start to what is on disk; then a
//! server in front of them, to try what the article does.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use serde_json::{Value, json};
use taskhub::{Client, Hub, InstanceId, Registry, STOP_PERIOD};
use taskhub_samples::{Files, Purger};
use taskhub_store::Store;
use taskhub_store::embedded::EmbeddedStore;
use tempfile::TempDir;

use crate::Ended;
use crate::args::Demo;
use crate::bench::open_store;
use crate::report::Result;
use crate::serve::{RunningServer, Signals};
use crate::world::World;

/// Name of the demo's hub.
const HUB: &str = "DemoHub";

/// Text files that the demo makes for the fan-out to count.
const FILES: [(&str, &str); 3] = [
    ("tokyo.txt", "Hello Tokyo!\n"),
    ("seattle.txt", "Hello Seattle!\n"),
    ("london.txt", "Hello London!\n"),
];

/// Runs the demo; progress goes out line by line, the answer is what was done and written.
pub(crate) async fn run(demo: Demo, world: &World) -> Result<String, Box<Ended>> {
    let Demo { once, keep } = demo;
    let (home, temporary) = prepare(keep.as_deref())?;
    let embedded = Arc::new(open_store(&home)?);
    let store: Arc<dyn Store> = Arc::clone(&embedded) as _;
    // Before the first output, so that no signal is missed.
    let signals = Signals::new()?;
    let (report, is_whole) = play(&store, &home, temporary.path(), keep.is_some()).await?;
    if once || !is_whole {
        return Ok(report);
    }
    say(report.trim_end());
    serve(embedded, &home, &temporary.path().join("files"), world, signals).await?;
    Ok(String::new())
}

/// Serves what the demo left, on the next free port, until a signal comes.
async fn serve(
    store: Arc<EmbeddedStore>,
    home: &Path,
    files: &Path,
    world: &World,
    signals: Signals,
) -> crate::stop::Result<()> {
    let hub = crate::find::hub_name::check(HUB)?;
    let served = RunningServer::of_demo(store, home, files, &hub).await?;
    let (_running, _notice) = served.announce(None, world)?;
    let url = format!("http://{}", served.address());
    let instances = format!("{url}/runtime/webhooks/durabletask/instances");
    let program = world.program();
    say(&format!(
        "\nserving hub {HUB} at {url}; try, in another terminal:\n  \
         curl -X POST '{url}/orchestrators/E1_HelloSequence/wait?timeout=2&retryInterval=0.5'\n  \
         curl '{instances}?taskHub={HUB}&top=10'\n  \
         {program} durable get-instances --server {url} --task-hub-name {HUB}\nCtrl-C ends it"
    ));
    // This is the normal end of a demo, not a failure.
    let _signal = served.until(signals).await?;
    Ok(())
}

/// The folders of the demo, and the files that it counts.
fn prepare(keep: Option<&Path>) -> Result<(PathBuf, TempDir)> {
    let temporary = tempfile::tempdir()?;
    let home = keep.unwrap_or(temporary.path()).join("store");
    let files = temporary.path().join("files");
    std::fs::create_dir(&files)?;
    for (name, text) in FILES {
        std::fs::write(files.join(name), text)?;
    }
    Ok((home, temporary))
}

/// Runs the orchestrations; returns their figures, and whether all of them ended.
async fn play(store: &Arc<dyn Store>, home: &Path, temporary: &Path, is_kept: bool) -> Result<(String, bool)> {
    let files = temporary.join("files");
    let registry = taskhub_samples::register(Registry::new(), &Purger::default(), &Files::below(&files));
    let hub = Hub::builder(HUB)
        .registry(registry)
        .open_in(&taskhub::Store::over(Arc::clone(store)))
        .await?;
    let mut report = String::new();
    let is_whole = to_the_end(&hub, home, &files, &mut report).await?;
    if !is_whole {
        report.push_str("\nstopped before the end; what was acknowledged is on disk\n");
    }
    written(store.as_ref(), home, is_kept, &mut report)?;
    Ok((report, is_whole))
}

/// Runs the samples, then stops the hub; a termination signal stops it earlier. Returns whether the samples ended.
async fn to_the_end(hub: &Hub, home: &Path, files: &Path, report: &mut String) -> Result<bool> {
    let mut stopping = pin!(hub.stop_on_signal(STOP_PERIOD));
    tokio::select! {
        // Looked at first, so that it listens before the first line is out.
        biased;
        stopped = &mut stopping => {
            stopped?;
            Ok(false)
        }
        ran = samples(hub, home, files, report) => {
            if hub.is_stopping() {
                stopping.await?;
                return match ran {
                    Ok(()) => Ok(true),
                    Err(trouble) if trouble.code() == "hub-stopped" => Ok(false),
                    Err(trouble) => Err(trouble),
                };
            }
            ran?;
            hub.stop(STOP_PERIOD).await?;
            Ok(true)
        }
    }
}

async fn samples(hub: &Hub, home: &Path, files: &Path, report: &mut String) -> Result<()> {
    say(&format!("hub {HUB} is open on an embedded store in {}", home.display()));
    let client = hub.client();
    for (name, input, event) in [
        ("E1_HelloSequence", Value::Null, None),
        ("FanOutFiles", json!(files), None),
        (
            "ApprovalFlow",
            json!({ "what": "the demo", "timeout_seconds": 3600 }),
            Some(("Approval", json!(true))),
        ),
    ] {
        let id = one(&client, name, &input, event).await?;
        describe(&client, &id, report).await?;
    }
    Ok(())
}

async fn one(client: &Client, name: &str, input: &Value, event: Option<(&str, Value)>) -> Result<InstanceId> {
    say(&format!("starting {name}"));
    let id = client.start_new(name, input).await?;
    say(&format!("  instance {id} is on disk"));
    if let Some((event, payload)) = event {
        client.wait_for_start(&id).await?;
        say(&format!("  it waits; raising event {event} {payload}"));
        client.raise_event(&id, event, payload).await?;
    }
    let info = client.wait_for_end(&id).await?;
    let output = info.output.as_ref().map(taskhub::Payload::to_text).unwrap_or_default();
    say(&format!("  {}: {output}", info.status));
    Ok(id.into())
}

async fn describe(client: &Client, id: &InstanceId, report: &mut String) -> Result<()> {
    let Some(status) = client.get_status(id).with_history_output().await? else {
        return Ok(());
    };
    writeln!(report, "\nhistory of {} {id}", status.info.name)?;
    for event in status.history.unwrap_or_default() {
        writeln!(report, "  {}  {event}", event.at)?;
    }
    Ok(())
}

fn written(store: &dyn Store, home: &Path, is_kept: bool, report: &mut String) -> Result<()> {
    let work = store.work();
    writeln!(
        report,
        "\nwritten to disk: {} commits in {} groups, {} rows, {} syncs",
        work.commits, work.groups, work.rows, work.syncs
    )?;
    let mut files: Vec<_> = std::fs::read_dir(home)?.collect::<std::io::Result<_>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        writeln!(
            report,
            "  {:>9} bytes  {}",
            file.metadata()?.len(),
            file.file_name().to_string_lossy()
        )?;
    }
    let fate = if is_kept {
        "kept"
    } else {
        "removed at the end; keep it with --keep DIR"
    };
    writeln!(report, "  the store is {fate}")?;
    Ok(())
}

fn say(line: &str) {
    // A reader that went away does not end the demo.
    let _closed = writeln!(std::io::stdout(), "{line}");
}
