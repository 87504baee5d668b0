//! The commands that are made of cargo calls, each as a list of stages.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::clients;
use crate::stages::{self, Stage, Times};
use crate::tests_home;
use crate::tools;

/// Tests with this in their name need the programs of `tools`.
const TOOLS_TESTS: &str = "traced";
/// Features that are off unless asked for and that targets need: without them cargo leaves those out silently.
const FEATURES: &str = "taskhub/server,taskhub/signal,taskhub-cli/clients";
/// The same without those whose tests need more than Rust.
const RUST_FEATURES: &str = "taskhub/server,taskhub/signal";
const DOC_FLAGS: (&str, &str) = ("RUSTDOCFLAGS", "-D warnings");

/// The checks one runs before each commit.
pub(crate) fn quick() -> ExitCode {
    let mut stages = vec![format_check(), clippy()];
    stages.push(Stage::new("tidy", &["test", "--locked", "-p", "xtask"]));
    stages.push(Stage::new("core tests", &["test", "--locked", "-p", "taskhub-core"]));
    stages::run(&stages)
}

/// Everything, cheapest first, with the tests last so that the run ends with their count.
pub(crate) fn test(with_tools: bool) -> ExitCode {
    let mut times = Times::default();
    let mut clients = None;
    if with_tools {
        match times.set_up(|| tools::ensure().and_then(|()| clients::install())) {
            Ok(variable) => clients = Some(variable),
            Err(what) => {
                eprintln!("error: {what}; `--rust-only` leaves out the tests that need it");
                return ExitCode::from(2);
            }
        }
    }
    let features = if with_tools { FEATURES } else { RUST_FEATURES };
    let home = match tests_home::fresh() {
        Ok(home) => home,
        Err(error) => {
            eprintln!("error: cannot make a home folder for the tests: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The end-to-end tests start these programs by path, so cargo does not know it must build them.
    let binaries = Stage::new(
        "binaries",
        &["build", "--locked", "--workspace", "--bins", "--features", features],
    );
    let mut args = vec![
        "test",
        "--workspace",
        "--locked",
        "--no-fail-fast",
        "--features",
        features,
    ];
    if !with_tools {
        args.extend(["--", "--skip", TOOLS_TESTS]);
    }
    let tests = Stage::new("tests", &args);
    let tests = home
        .into_iter()
        .chain(clients)
        .fold(tests, |stage, (name, value)| stage.env(name, value));
    stages::run_then_count(times, &[format_check(), clippy(), doc_build(), binaries], &tests)
}

/// The API documentation.
pub(crate) fn docs() -> ExitCode {
    stages::run(&[doc_build()])
}

/// The simulator with the caller's arguments.
pub(crate) fn sim(args: &[String]) -> ExitCode {
    let fixed = ["run", "--release", "--locked", "-p", "taskhub-sim", "--"];
    stages::hand_over(&fixed, args)
}

/// The benchmarks of the `taskhub` program with the caller's arguments.
pub(crate) fn bench(args: &[String]) -> ExitCode {
    let fixed = ["run", "--release", "--locked", "-p", "taskhub-cli", "--", "bench"];
    stages::hand_over(&fixed, args)
}

fn format_check() -> Stage {
    Stage::new("format", &["fmt", "--all", "--check"])
}

fn clippy() -> Stage {
    let all = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--features",
        FEATURES,
        "--",
        "-D",
        "warnings",
    ];
    Stage::new("clippy", &all)
}

fn doc_build() -> Stage {
    let (name, value) = DOC_FLAGS;
    Stage::new(
        "docs",
        &["doc", "--workspace", "--no-deps", "--locked", "--features", FEATURES],
    )
    .env(OsString::from(name), OsString::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    /// The features, as `package/feature`, without which targets of a package are left out.
    fn required(manifest: &str) -> Vec<String> {
        let value = |line: &str, key: &str| {
            let (found, value) = line.split_once('=')?;
            (found.trim() == key).then(|| value.trim().to_owned())
        };
        let package = manifest
            .lines()
            .find_map(|line| value(line, "name"))
            .unwrap_or_default();
        let lists = manifest.lines().filter_map(|line| value(line, "required-features"));
        lists
            .flat_map(|list| {
                list.split('"')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .map(|feature| format!("{}/{feature}", package.trim_matches('"')))
            .collect()
    }

    #[test]
    fn a_required_feature_is_found_under_its_package() {
        let manifest = "[package]\nname = \"a\"\n[[test]]\nname = \"t\"\nrequired-features = [\"x\", \"y\"]\n";
        assert_eq!(required(manifest), ["a/x", "a/y"]);
    }

    #[test]
    fn no_target_is_left_out_for_want_of_a_feature() {
        let files = tree::read().expect("the repository is readable");
        let manifests = files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
        let required: Vec<String> = manifests
            .filter_map(|file| file.text.as_deref())
            .flat_map(required)
            .collect();
        assert!(required.contains(&"taskhub/signal".to_owned()), "{required:?}");
        let missing: Vec<_> = required
            .iter()
            .filter(|feature| !FEATURES.split(',').any(|on| on == *feature))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
