//! Nothing is acknowledged before it is on disk, as the system sees it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

use std::path::Path;

use taskhub_e2e::trace::{self, SyncOrder};

/// Runs the program under `strace` and reads the trace.
fn traced(args: &[&str]) -> SyncOrder {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().canonicalize().unwrap().join("store");
    let file = scratch.path().join("trace");
    let program = Path::new(env!("CARGO_BIN_EXE_trace-target"));
    let mut command = match trace::command(program, &file) {
        Ok(command) => command,
        Err(error) => panic!("{error}"),
    };
    let output = command.arg(&folder).args(args).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(out.ends_with("finished\n"), "{out}{err}");
    trace::order(&trace::parse(&std::fs::read_to_string(file).unwrap()), &folder)
}

#[test]
fn a_traced_run_has_a_completed_sync_of_what_it_is_about_behind_each_acknowledgement() {
    let order = traced(&[]);
    assert_eq!(order.violations, Vec::<String>::new());
    assert_eq!((order.acks, order.acks_with_writes), (50, 50), "{order:?}");
    assert!(order.syncs >= order.acks, "{order:?}");
}

#[test]
fn a_traced_run_that_does_not_sync_fails_the_same_check() {
    let order = traced(&["--unsynced"]);
    assert_eq!((order.acks, order.acks_with_writes), (50, 50), "{order:?}");
    assert!(order.violations.len() >= order.acks, "{order:?}");
}
