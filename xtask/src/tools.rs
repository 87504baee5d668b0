//! Programs that the tests need besides cargo: installed where that is possible, else named.

use std::process::{Command, ExitCode, Stdio};

/// A program, how it is asked whether it is there, and the Debian package that has it.
struct Tool {
    program: &'static str,
    args: &'static [&'static str],
    package: &'static str,
}

const TOOLS: [Tool; 4] = [
    Tool {
        program: "strace",
        args: &["-V"],
        package: "strace",
    },
    Tool {
        program: "node",
        args: &["--version"],
        package: "nodejs",
    },
    Tool {
        program: "npm",
        args: &["--version"],
        package: "npm",
    },
    Tool {
        program: "python3",
        args: &["-c", "import ensurepip, venv"],
        package: "python3-venv",
    },
];

/// Makes sure that all of them are there.
///
/// # Errors
///
/// The exit code to end with: one line has said what to install.
pub(crate) fn ensure() -> Result<(), ExitCode> {
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|tool| !answers(tool.program, tool.args))
        .map(|tool| tool.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if is_root() && install(&missing) {
        return Ok(());
    }
    eprintln!("error: the tests need `apt-get install {packages}`; `--rust-only` leaves out what needs it");
    Err(ExitCode::from(2))
}

fn answers(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

fn install(packages: &[&str]) -> bool {
    println!("==> installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(args)
            .stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let install: Vec<&str> = ["install", "--yes", "--no-install-recommends"]
        .iter()
        .chain(packages)
        .copied()
        .collect();
    apt(&["update"]) && apt(&install)
}
