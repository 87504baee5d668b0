//! Programs that the tests need besides cargo: installed where that is possible, else named.

use std::process::{Command, Stdio};

/// A program, what of it answers the question whether it is there, and the Debian package that has it.
struct Tool {
    what: &'static str,
    probe: &'static [&'static str],
    package: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        what: "strace",
        probe: &["strace", "-V"],
        package: "strace",
    },
    Tool {
        what: "Node.js 18 or newer",
        probe: &[
            "node",
            "--eval",
            "process.exit(Number(parseInt(process.versions.node) < 18))",
        ],
        package: "nodejs",
    },
    Tool {
        what: "npm",
        probe: &["npm", "--version"],
        package: "npm",
    },
    Tool {
        what: "Python 3.10 or newer with venv",
        probe: &[
            "python3",
            "-c",
            "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))",
        ],
        package: "python3-venv",
    },
    Tool {
        what: "Chromium",
        probe: &["chromium", "--version"],
        package: "chromium",
    },
];

/// Makes sure that all of them are there.
///
/// # Errors
///
/// What is not there, and how to install it.
pub(crate) fn ensure() -> Result<(), String> {
    settle(missing, is_root, install)
}

/// Root may install what is missing; that it was installed does not say that it is there, or new enough.
fn settle(
    missing: impl Fn() -> Vec<&'static Tool>,
    is_root: impl FnOnce() -> bool,
    install: impl FnOnce(&[&str]) -> bool,
) -> Result<(), String> {
    let wanted = missing();
    if wanted.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = wanted.iter().map(|tool| tool.package).collect();
    let left = if is_root() && install(&packages) {
        missing()
    } else {
        wanted
    };
    if left.is_empty() {
        return Ok(());
    }
    let list = |field: fn(&Tool) -> &'static str| left.iter().map(|tool| field(tool)).collect::<Vec<_>>();
    Err(format!(
        "the tests need {} (`apt-get install {}`)",
        list(|tool| tool.what).join(", "),
        list(|tool| tool.package).join(" ")
    ))
}

fn missing() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| !answers(tool.probe)).collect()
}

fn answers(probe: &[&str]) -> bool {
    let [program, args @ ..] = probe else {
        return false;
    };
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What comes of it if these are missing first and those afterwards, and what was to be installed.
    fn settled(before: &[usize], after: &[usize], is_root: bool, can: bool) -> (Result<(), String>, Option<String>) {
        let installed = Cell::new(None);
        let is_after = Cell::new(false);
        let missing = || {
            let missing = if is_after.get() { after } else { before };
            missing.iter().map(|&index| &TOOLS[index]).collect()
        };
        let install = |packages: &[&str]| {
            installed.set(Some(packages.join(" ")));
            is_after.set(can);
            can
        };
        let settled = settle(missing, || is_root, install);
        (settled, installed.take())
    }

    fn needed(what: &str) -> Result<(), String> {
        Err(format!("the tests need {what}"))
    }

    #[test]
    fn where_nothing_is_missing_nothing_is_installed() {
        assert_eq!(settled(&[], &[], true, true), (Ok(()), None));
    }

    #[test]
    fn who_is_not_root_is_told_what_to_install() {
        let told = needed("strace, Node.js 18 or newer (`apt-get install strace nodejs`)");
        assert_eq!(settled(&[0, 1], &[], false, true), (told, None));
    }

    #[test]
    fn root_gets_what_is_missing() {
        assert_eq!(settled(&[1, 2], &[], true, true), (Ok(()), Some("nodejs npm".into())));
    }

    #[test]
    fn root_is_told_what_could_not_be_installed_or_is_too_old() {
        let told = needed("npm, Python 3.10 or newer with venv (`apt-get install npm python3-venv`)");
        assert_eq!(
            settled(&[2, 3], &[], true, false),
            (told, Some("npm python3-venv".into()))
        );
        let told = needed("Python 3.10 or newer with venv (`apt-get install python3-venv`)");
        assert_eq!(
            settled(&[2, 3], &[3], true, true),
            (told, Some("npm python3-venv".into()))
        );
    }
}
