//! What was acknowledged survives the death of the program, and nothing takes effect twice (C1).

use std::path::Path;

use taskhub_e2e::kills::{Settings, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kill-target");

#[test]
fn ten_kills_at_work_lose_nothing_and_repeat_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let report = run(&Settings::new(Path::new(PROGRAM), scratch.path(), 10_000, 1)).unwrap();
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
    let mut settings = Settings::new(Path::new(PROGRAM), scratch.path(), 10_000, 2);
    settings.target.over_http = true;
    // A call costs more, so fewer jobs come at once and each is shorter: one that every kill hits in the same
    // activity would be given up after ten deliveries, as it should (R184).
    (settings.target.wave_pause_ms, settings.target.step_ms) = (200, 150);
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
    let mut settings = Settings::new(Path::new(PROGRAM), scratch.path(), 10_000, 1);
    settings.target.split_commits = true;
    settings.stops_at_violation = true;
    let report = run(&settings).unwrap();
    assert!(!report.checked.violations.is_empty(), "{report}");
}
