//! The commands that are made of cargo calls, each as a list of stages.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::stages::{self, Stage};
use crate::tests_home;
use crate::tools;

/// Tests with this in their name need the programs of `tools`.
const TOOLS_TESTS: &str = "traced";
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
    if with_tools && let Err(code) = tools::ensure() {
        return code;
    }
    let home = match tests_home::fresh() {
        Ok(home) => home,
        Err(error) => {
            eprintln!("error: cannot make a home folder for the tests: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The end-to-end tests start these programs by path, so cargo does not know it must build them.
    let binaries = Stage::new("binaries", &["build", "--locked", "--workspace", "--bins"]);
    let mut args = vec!["test", "--workspace", "--locked", "--no-fail-fast"];
    if !with_tools {
        args.extend(["--", "--skip", TOOLS_TESTS]);
    }
    let tests = Stage::new("tests", &args);
    let tests = home
        .into_iter()
        .fold(tests, |stage, (name, value)| stage.env(name, value));
    stages::run_then_count(&[format_check(), clippy(), doc_build(), binaries], &tests)
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
        "--",
        "-D",
        "warnings",
    ];
    Stage::new("clippy", &all)
}

fn doc_build() -> Stage {
    let (name, value) = DOC_FLAGS;
    Stage::new("docs", &["doc", "--workspace", "--no-deps", "--locked"])
        .env(OsString::from(name), OsString::from(value))
}
