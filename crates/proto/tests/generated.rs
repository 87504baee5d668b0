//! The committed code under `src/generated/` is what `proto/` says.
//!
//! The normal build needs no protobuf compiler; this test runs one written in Rust and compares.
//! `UPDATE=1 cargo test -p taskhub-proto --test generated` writes the files anew.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

use std::fs;
use std::path::Path;

const FILES: [&str; 2] = ["history.rs", "taskhub.stored.rs"];

/// Rare and large variants, kept from making every event as large as they are.
const BOXED: [&str; 8] = [
    ".HistoryEvent.eventType.executionStarted",
    ".HistoryEvent.eventType.historyState",
    ".HistoryEvent.eventType.entityOperationCalled",
    ".HistoryEvent.eventType.entityOperationSignaled",
    ".HistoryEvent.eventType.entityUnlockSent",
    ".HistoryEvent.eventType.executionRewound",
    ".TaskScheduledEvent.parentTraceContext",
    ".SubOrchestrationInstanceCreatedEvent.parentTraceContext",
];

fn generate(into: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = protox::compile(["history.proto", "stored.proto"], [&sources]).unwrap();
    let mut config = prost_build::Config::new();
    config
        .out_dir(into)
        .bytes(["."])
        .btree_map(["."])
        .default_package_filename("history");
    for path in BOXED {
        config.boxed(path);
    }
    config.compile_fds(files).unwrap();
}

#[test]
fn generated_code_is_current() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    #[expect(
        clippy::disallowed_methods,
        reason = "the switch by which a person updates the files"
    )]
    let update = std::env::var("UPDATE").is_ok();
    if update {
        fs::create_dir_all(&committed).unwrap();
        generate(&committed);
        return;
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    for file in FILES {
        let is = fs::read_to_string(committed.join(file)).unwrap();
        let should = fs::read_to_string(fresh.path().join(file)).unwrap();
        assert!(is == should, "src/generated/{file} is old: run this test with UPDATE=1");
    }
}
