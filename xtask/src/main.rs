//! Developer commands, run as `cargo xtask <command>`.
//!
//! Only cargo is needed: every command is a child process or plain file work. The house rules that
//! no compiler checks are the tests of `tidy`. This program has no dependencies, so that it is
//! built in a second and never is the reason for a rebuild.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the terminal is the whole purpose of this program"
)]

mod citations;
mod clients;
mod commands;
mod counts;
mod prune;
mod rules;
mod source;
mod stages;
mod tests_home;
#[cfg(test)]
mod tidy;
mod tools;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  quick                 format, clippy, tidy and the core's tests
  test [--rust-only]    everything, cheapest stage first; stops at the first stage that fails
    --rust-only         ... without the tests that need more than Rust, and without setting that up
  sim [args...]         the simulator, optimised
  bench [args...]       `taskhub bench`, optimised
  docs                  the API documentation, warnings are errors
  rules                 rules and scenarios cited but not listed, and listed but not cited
    --prune             ... and take the uncited and the newly covered ones out of the lists
    --prune-open        ... and the scenarios as well that nothing but the open list names
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        return usage("a command is missing");
    };
    match command.as_str() {
        "quick" if rest.is_empty() => commands::quick(),
        "test" => match rest {
            [] => commands::test(true),
            [flag] if flag == "--rust-only" => commands::test(false),
            _ => usage("`test` takes nothing but --rust-only"),
        },
        "sim" => commands::sim(rest),
        "bench" => commands::bench(rest),
        "docs" if rest.is_empty() => commands::docs(),
        "rules" => match rest {
            [] => rules::report(),
            [flag] if flag == "--prune" => rules::prune(false),
            [flag] if flag == "--prune-open" => rules::prune(true),
            _ => usage("`rules` takes nothing but --prune or --prune-open"),
        },
        "quick" | "docs" => usage(&format!("`{command}` takes no arguments")),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        unknown => usage(&format!("unknown command `{unknown}`")),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("error: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}
