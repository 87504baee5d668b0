//! The repository stays small enough to clone without thinking.

use super::{Finding, assert_clean, files};

const BYTES_MAX: u64 = 200 * 1024;

fn check(path: &str, size_bytes: u64) -> Option<Finding> {
    let is_exempt = path == "Cargo.lock" || path.split('/').any(|part| part == "testdata");
    let what = || format!("{size_bytes} bytes; {BYTES_MAX} is the limit outside testdata");
    (size_bytes > BYTES_MAX && !is_exempt).then(|| Finding::of(path, what()))
}

#[test]
fn a_large_file_is_found() {
    assert!(check("docs/a.png", BYTES_MAX + 1).is_some());
    assert!(check("docs/a.png", BYTES_MAX).is_none());
    assert!(check("Cargo.lock", BYTES_MAX + 1).is_none());
    assert!(check("crates/store/testdata/v1/log", BYTES_MAX + 1).is_none());
}

#[test]
fn files_are_small() {
    assert_clean(
        files()
            .iter()
            .filter_map(|file| check(&file.path, file.size_bytes))
            .collect(),
    );
}
