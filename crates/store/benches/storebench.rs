//! How much the embedded store commits, and what that costs in rows, syncs and bytes.
//!
//! ```text
//! cargo bench -p taskhub-store --bench storebench -- groups=200 size=1000 mode=fused sync=full
//! ```
//!
//! The load is the sequence of three activities: a start, then three results, each with the turn it
//! causes. `fused` puts cause and turn into one group, as the engine does; `apart` gives each a group of
//! its own, so that nothing can be folded. Commits are made before the clock runs. Compare only runs of
//! one machine and one day.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and prints"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskhub_core::action::{ActionKind, Completion};
use taskhub_core::event::Tags;
use taskhub_core::id::InstanceId;
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_store::conformance::{Owner, done, instance, name};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, Synchronous};
use taskhub_store::mem::MemStore;
use taskhub_store::{Group, Store};

const HUB: &str = "Bench";
const PARTITIONS: u16 = 8;

struct Settings {
    groups: usize,
    size: usize,
    is_fused: bool,
    synchronous: Synchronous,
}

fn main() {
    let settings = settings();
    let groups = groups(&settings);
    let Ok(folder) = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")) else {
        panic!("no folder can be made below the target folder");
    };
    let store = match EmbeddedStore::open(
        folder.path(),
        EmbeddedOptions {
            synchronous: settings.synchronous,
            ..EmbeddedOptions::default()
        },
    ) {
        Ok(store) => store,
        Err(error) => panic!("{error}"),
    };
    // The same hub, so the same fences: the commits were made against a store in memory.
    drop(Owner::new(&store, HUB, PARTITIONS));
    run(&store, &settings, groups, folder.path());
    let report = done(store.verify());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    drop(store);
    assert!(folder.close().is_ok());
}

fn settings() -> Settings {
    let mut settings = Settings {
        groups: 200,
        size: 1_000,
        is_fused: true,
        synchronous: Synchronous::Full,
    };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("groups", value)) => settings.groups = value.parse().unwrap_or(settings.groups),
            Some(("size", value)) => settings.size = value.parse().unwrap_or(settings.size),
            Some(("mode", value)) => settings.is_fused = value != "apart",
            Some(("sync", "off")) => settings.synchronous = Synchronous::Off,
            // Cargo adds one of its own.
            _ => {}
        }
    }
    settings
}

/// The groups of many sequences, a cohort after the other.
fn groups(settings: &Settings) -> Vec<Group> {
    let store = MemStore::empty();
    let mut owner = Owner::new(&store, HUB, PARTITIONS);
    let mut groups = Vec::new();
    let width = if settings.is_fused {
        settings.size / 2
    } else {
        settings.size
    };
    for cohort in 0.. {
        let ids: Vec<InstanceId> = (0..width).map(|number| instance(&id(cohort, number))).collect();
        for step in 0..8 {
            for id in &ids {
                commit(&mut owner, id, step);
            }
            if !settings.is_fused || step % 2 == 1 {
                groups.push(owner.take_group());
            }
            if groups.len() == settings.groups {
                return groups;
            }
            owner.wait(500);
        }
        owner.forget();
    }
    groups
}

/// As long and as scattered as ids made by the server are.
fn id(cohort: usize, number: usize) -> String {
    let mixed = (cohort * 1_000_003 + number) as u128;
    format!("{:032x}", mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn commit(owner: &mut Owner<'_>, id: &InstanceId, step: u32) {
    let call = ActionKind::ScheduleTask {
        name: name("SayHello"),
        version: None,
        input: Some(Payload::text("\"Tokyo\"")),
        tags: Tags::new(),
    };
    match step {
        0 => owner.start(id),
        1 | 3 | 5 => owner.turn(id, vec![call]),
        7 => {
            let output = Some(Payload::text("[\"Hello Tokyo!\",\"Hello Seattle!\",\"Hello London!\"]"));
            owner.turn(
                id,
                vec![ActionKind::CompleteOrchestration(Completion::Completed(output))],
            );
        }
        _ => owner.answer_task(id, Outcome::Completed(Some(Payload::text("\"Hello Tokyo!\"")))),
    }
}

fn run(store: &EmbeddedStore, settings: &Settings, groups: Vec<Group>, folder: &Path) {
    let before = store.work();
    let mut latencies: Vec<Duration> = Vec::with_capacity(groups.len());
    let begin = Instant::now();
    for group in groups {
        let sent = Instant::now();
        done(store.commit(Arc::new(group)));
        latencies.push(sent.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let quantile = |of: usize| latencies.get(latencies.len() * of / 100).copied().unwrap_or_default();
    let work = store.work();
    let (commits, rows) = (work.commits - before.commits, work.rows - before.rows);
    let mode = if settings.is_fused { "fused" } else { "apart" };
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = commits as f64 / seconds;
    println!(
        "storebench mode={mode} sync={:?} size={}",
        settings.synchronous, settings.size
    );
    println!("  commits        {commits} in {seconds:.2} s: {per_second:.0} per second");
    println!(
        "  groups         {}, p50 {:?}, p99 {:?}",
        work.groups - before.groups,
        quantile(50),
        quantile(99)
    );
    println!("  rows           {rows}");
    println!("  syncs          {}", work.syncs - before.syncs);
    for file in ["store.db", "store.db-wal"] {
        let bytes = std::fs::metadata(folder.join(file)).map_or(0, |found| found.len());
        println!("  {file:<14} {bytes} bytes");
    }
}
