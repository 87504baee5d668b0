//! The built binary, told to end in the middle of its work.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use taskhub::{Hub, InstanceId, Registry};

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");

/// The work takes longer than a signal, but the machine may have other things to do: then it is tried again.
const ATTEMPTS_MAX: usize = 1_000;

/// Runs the demo and sends it a signal after its first line; answers what it said, if the signal came before the end.
fn stopped_early(signal: &str, keep: &Path) -> Option<String> {
    let mut demo = Command::new(TASKHUB)
        .args(["demo", "--keep"])
        .arg(keep)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    // Not waited for yet, it can be sent a signal even if it has ended.
    let pid = demo.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    output.read_to_string(&mut said).unwrap();
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(0), "it ended with {status}:\n{said}");
    assert!(said.contains("written to disk: "), "{said}");
    let is_early = said.contains("stopped before the end");
    assert!(is_early || said.matches("Completed: ").count() == 3, "{said}");
    is_early.then_some(said)
}

async fn check(signal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let said = (0..ATTEMPTS_MAX)
        .find_map(|_| stopped_early(signal, folder.path()))
        .unwrap();

    // Nobody has the store any more, and it holds what was acknowledged.
    let registry = taskhub_samples::register(
        Registry::new(),
        &taskhub_samples::Purger::default(),
        &taskhub_samples::Files::below("."),
    );
    let hub = Hub::builder("DemoHub")
        .registry(registry)
        .open(folder.path().join("store"))
        .await
        .unwrap();
    for line in said.lines().filter(|line| line.starts_with("  instance ")) {
        let id = InstanceId::new(line.split_whitespace().nth(1).unwrap()).unwrap();
        assert!(hub.client().get_status(&id).await.unwrap().is_some(), "{line}");
    }
}

#[tokio::test]
async fn the_demo_stops_well_on_sigterm() {
    check("-TERM").await;
}

#[tokio::test]
async fn the_demo_stops_well_on_ctrl_c() {
    check("-INT").await;
}
