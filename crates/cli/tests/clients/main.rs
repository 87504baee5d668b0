//! The published clients of Durable Functions, unchanged, against `taskhub dev`: npm `durable-functions` and PyPI
//! `azure-functions-durable`. `cargo xtask test` installs them below the target folder, at the versions that
//! the folders here pin, and says where they are. A script does with a client what programs do; the modules say what
//! comes of it, and what in that is the client's own way (they are listed in COMPAT.md).

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod npm;
mod python;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A server or a script that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// A server that runs the samples until it is dropped.
struct Dev {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Dev {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskhub"));
        command
            .args(["dev", "--samples", "--port", "0"])
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut dev = Self {
            child,
            address: String::new(),
            folder,
        };
        let line = in_time(move || {
            let mut line = String::new();
            lines.read_line(&mut line).map(|_| line)
        });
        let line = line
            .unwrap_or_else(|_| panic!("the server has said nothing for {PATIENCE:?}"))
            .unwrap();
        let address = line.split(' ').find_map(|word| word.strip_prefix("http="));
        address
            .unwrap_or_else(|| panic!("no address in `{line}`"))
            .clone_into(&mut dev.address);
        dev
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a script and reads the facts it prints. It gets nothing of this process's environment but the way to
    /// its program: a proxy would hear what is said on this machine.
    fn facts(&self, command: &mut Command) -> Value {
        command.env_clear().env("HOME", self.folder.path());
        // What the Functions host tells npm.
        command.env("WEBSITE_HOSTNAME", &self.address);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let output = ended(command);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "the script ended with {}:\n{err}",
            output.status
        );
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // One that has ended is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// What comes of it or, if that takes too long, where it will come.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Receiver<T>> {
    let (to, done) = channel();
    // Nobody may listen any more to one that was too late.
    thread::spawn(move || to.send(work()).is_ok());
    done.recv_timeout(PATIENCE).map_err(|_| done)
}

/// Runs a script to its end. It tells on its standard error what it is about to do.
fn ended(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    in_time(move || child.wait_with_output().unwrap()).unwrap_or_else(|late| {
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        let err = String::from_utf8_lossy(&late.recv().unwrap().stderr).into_owned();
        panic!("the script was ended after {PATIENCE:?} in the last of these steps:\n{err}")
    })
}

/// Where `cargo xtask test` has put the clients.
fn clients() -> PathBuf {
    match std::env::var_os("TASKHUB_CLIENTS") {
        Some(folder) => PathBuf::from(folder),
        None => panic!("TASKHUB_CLIENTS is not set: run this test with `cargo xtask test`"),
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn check_npm(surface: npm::Surface) {
    let dev = Dev::start();
    let mut node = Command::new("node");
    node.arg(script("npm/facts.mjs"))
        .arg(clients().join("npm"))
        .arg(dev.base());
    assert_same(&dev.facts(node.arg(surface.word())), &npm::facts(surface));
}

/// Compares group by group: all of it would be too much to read.
fn assert_same(found: &Value, expected: &Value) {
    let groups = |facts: &Value| facts.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(groups(found), groups(expected));
    for group in groups(expected) {
        assert_eq!(found[&group], expected[&group], "{group}");
    }
}

#[test]
fn the_npm_client_works_over_rpc() {
    check_npm(npm::Surface::Rpc);
}

#[test]
fn the_npm_client_works_over_the_webhook_urls() {
    check_npm(npm::Surface::Webhook);
}

/// In a real browser: a page of another origin neither changes nor reads anything, whichever way it tries, and one of the
/// server's own does both.
#[test]
fn no_page_of_another_origin_gets_in_by_a_browser() {
    let dev = Dev::start();
    let mut node = Command::new("node");
    node.arg(script("browser/border.mjs"))
        .arg(clients().join("browser"))
        .arg(dev.base());
    let facts = dev.facts(&mut node);
    let tried = facts["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 5);
    for page in tried {
        assert!(page[1].as_u64().unwrap() >= 90, "{page}");
    }
    assert_eq!(facts["read"], json!([]));
    assert_eq!(facts["changed"], json!([]));
    assert_eq!(facts["control"], json!([true, true]), "the same from a page of its own");
}

#[test]
fn the_python_client_works() {
    let dev = Dev::start();
    let mut python = Command::new(clients().join("python/bin/python"));
    python.arg(script("python/facts.py")).arg(dev.base());
    assert_same(&dev.facts(&mut python), &python::facts());
}

fn greetings() -> Value {
    json!(["Hello Tokyo!", "Hello Seattle!", "Hello London!"])
}

fn history_of_hello(input: &str) -> Value {
    let said = |city: &str| {
        json!({
            "EventType": "TaskCompleted",
            "Result": format!("Hello {city}!"),
            "FunctionName": "E1_SayHello",
            "Input": format!("\"{city}\""),
        })
    };
    json!([
        {
            "EventType": "ExecutionStarted",
            "Input": input,
            "Correlation": null,
            "ScheduledStartTime": null,
            "Generation": 0,
            "FunctionName": "E1_HelloSequence",
        },
        said("Tokyo"),
        said("Seattle"),
        said("London"),
        {
            "EventType": "ExecutionCompleted",
            "OrchestrationStatus": "Completed",
            "Result": greetings(),
            "FailureDetails": null,
        },
    ])
}

/// What a wait that is over too early leads to: links, with which somebody goes on to the end.
fn waits() -> Value {
    let links = [
        "id",
        "statusQueryGetUri",
        "sendEventPostUri",
        "terminatePostUri",
        "rewindPostUri",
        "purgeHistoryDeleteUri",
        "restartPostUri",
        "suspendPostUri",
        "resumePostUri",
    ];
    json!({
        "late": [202, links, true, "10"],
        "checked": [202, true],
        "payload": true,
        "followed": [
            [202, "Running", true, "5"],
            202,
            [202, "Suspended", true, "5"],
            202,
            [202, "Running", true, "5"],
            202,
            42,
            [200, "Completed", false, null],
            410,
            "{\"instancesDeleted\":1}",
            [404, "", false, null],
        ],
        "contrary": "error: Total timeout 1 (ms) should be bigger than retry timeout 2 (ms)",
    })
}
