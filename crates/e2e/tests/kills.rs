//! What was acknowledged survives the death of the program, and nothing takes effect twice (C1).

use std::path::Path;

use taskhub_e2e::kills::{KillSettings, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kill-target");

#[test]
fn ten_kills_at_work_lose_nothing_and_repeat_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let report = run(&KillSettings::new(Path::new(PROGRAM), scratch.path(), 10_000, 1)).unwrap();
    println!("{report}");
    assert_eq!(report.checked.violations, Vec::<String>::new());
    assert_eq!(
        (report.hits(), report.acked, report.checked.instances),
        (10, 10_000, 10_000)
    );
}

#[test]
fn ten_kills_at_work_over_http_lose_nothing_and_repeat_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut settings = KillSettings::new(Path::new(PROGRAM), scratch.path(), 10_000, 2);
    settings.target.over_http = true;
    // A call costs more, so jobs are shorter and fewer of them are at work at once.
    settings.target.step_waves = 2;
    settings.active_min = 100;
    let report = run(&settings).unwrap();
    println!("{report}");
    assert_eq!(report.checked.violations, Vec::<String>::new());
    assert_eq!(
        (report.hits(), report.acked, report.checked.instances),
        (10, 10_000, 10_000)
    );
}

#[test]
fn commits_in_two_pieces_are_found_by_the_checker() {
    let scratch = tempfile::tempdir().unwrap();
    let mut settings = KillSettings::new(Path::new(PROGRAM), scratch.path(), 10_000, 1);
    settings.target.split_commits = true;
    settings.stops_at_violation = true;
    // Not every kill comes between two pieces that miss each other.
    (settings.rounds, settings.active_min) = (40, 100);
    let report = run(&settings).unwrap();
    assert!(!report.checked.violations.is_empty(), "{report}");
}
