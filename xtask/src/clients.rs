//! The published clients that the tests of the command line run, and what drives a browser: installed below the target folder, at the
//! versions that the repository pins, and only when those have changed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::tree;

/// Where the pinned versions are, from the root.
const PINS: &str = "crates/cli/tests/clients";

/// Installs them. Answers the variable that tells the tests where they are.
///
/// # Errors
///
/// What failed.
pub(crate) fn install() -> Result<(OsString, OsString), String> {
    let folder = tree::target().join("clients");
    let pins = tree::root().join(PINS);
    for name in ["npm", "browser"] {
        let (from, to) = (pins.join(name), folder.join(name));
        once(&to, &from.join("package-lock.json"), &version("node")?, || {
            npm(&from, &to)
        })?;
    }
    let (from, to) = (pins.join("python"), folder.join("python"));
    once(&to, &from.join("requirements.txt"), &version("python3")?, || {
        python(&from, &to)
    })?;
    Ok(("TASKHUB_CLIENTS".into(), folder.into_os_string()))
}

/// Does it unless it was done for these pins and by this version of a program, which the folder keeps as a mark.
fn once(folder: &Path, pins: &Path, by: &str, install: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wanted = fs::read_to_string(pins).map_err(|error| format!("{}: {error}", pins.display()))? + by;
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!("==> installing what {} pins", pins.display());
    let fresh = || -> io::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)
    };
    fresh().map_err(|error| format!("{}: {error}", folder.display()))?;
    install()?;
    // Last, so that an installation that was cut off is made again.
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

fn npm(pins: &Path, folder: &Path) -> Result<(), String> {
    for name in ["package.json", "package-lock.json"] {
        fs::copy(pins.join(name), folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(Command::new("npm").args(flags).current_dir(folder))
}

fn python(pins: &Path, folder: &Path) -> Result<(), String> {
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let pip = || {
        let mut python = Command::new(folder.join("bin/python"));
        python.args(["-m", "pip", "--disable-pip-version-check"]);
        python
    };
    let pinned = ["install", "--quiet", "--no-deps", "--requirement"];
    run(pip().args(pinned).arg(pins.join("requirements.txt")))?;
    // Nothing was looked for that is not pinned, so something may be missing.
    run(pip().arg("check"))
}

/// What was installed for one version of a program may not be found by the next.
fn version(program: &str) -> Result<String, String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?} cannot be run: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_again_when_the_pins_or_the_program_change_or_it_was_cut_off() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let (folder, pins) = (base.path().join("there"), base.path().join("pins"));
        let mut done = 0;
        let mut with = |text: &str, by: &str, result: Result<(), String>| {
            fs::write(&pins, text).expect("the pins");
            once(&folder, &pins, by, || {
                done += 1;
                result
            })
            .is_ok()
            .then_some(done)
        };
        assert_eq!(with("a", "1", Err("cut off".to_owned())), None);
        assert_eq!(with("a", "1", Ok(())), Some(2));
        assert_eq!(with("a", "1", Ok(())), Some(2));
        assert_eq!(with("b", "1", Ok(())), Some(3));
        assert_eq!(with("b", "2", Ok(())), Some(4));
    }
}
