//! `taskhub demo`: three sample orchestrations on an embedded store, from start to what is on disk.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use serde_json::{Value, json};
use taskhub::{Client, Hub, InstanceId, Registry, STOP_PERIOD, StatusOptions};
use taskhub_samples::Purger;
use taskhub_store::Store;

use crate::args::Demo;
use crate::bench::open_store;
use crate::report::Result;

/// Text files that the demo makes for the fan-out to count.
const FILES: [(&str, &str); 3] = [
    ("tokyo.txt", "Hello Tokyo!\n"),
    ("seattle.txt", "Hello Seattle!\n"),
    ("london.txt", "Hello London!\n"),
];

/// Runs the demo; progress goes out line by line, the answer is what was done and written. Ctrl-C and SIGTERM end
/// it early and in good order.
pub(crate) async fn run(demo: Demo) -> Result<String> {
    // There is no server yet that it could go on serving, so it always ends after the run.
    let Demo { once: _, keep } = demo;
    let temporary = tempfile::tempdir()?;
    let home = keep.as_deref().unwrap_or(temporary.path()).join("store");
    let files = temporary.path().join("files");
    std::fs::create_dir(&files)?;
    for (name, text) in FILES {
        std::fs::write(files.join(name), text)?;
    }
    let store: Arc<dyn Store> = Arc::new(open_store(&home)?);
    let registry = taskhub_samples::register(Registry::new(), &Purger::default());
    let hub = Hub::builder("DemoHub")
        .registry(registry)
        .open_with(Arc::clone(&store))
        .await?;

    let mut report = String::new();
    if !to_the_end(&hub, &home, &files, &mut report).await? {
        report.push_str("\nstopped before the end; what was acknowledged is on disk\n");
    }
    written(store.as_ref(), &home, keep.is_some(), &mut report)?;
    Ok(report)
}

/// Runs the samples and stops the hub, or stops it when the process is told to end; says whether the samples came to
/// their end.
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
    say(&format!(
        "hub DemoHub is open on an embedded store in {}",
        home.display()
    ));
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
    Ok(id)
}

async fn describe(client: &Client, id: &InstanceId, report: &mut String) -> Result<()> {
    let show = StatusOptions {
        show_history: true,
        show_history_output: true,
        show_input: true,
    };
    let Some(status) = client.get_status_with(id, show).await? else {
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
        "removed now; keep it with --keep DIR"
    };
    writeln!(report, "  the store is {fate}")?;
    Ok(())
}

fn say(line: &str) {
    // A reader that went away does not end the demo.
    let _closed = writeln!(std::io::stdout(), "{line}");
}
