//! What the process was started with: words, environment, folder, terminals. Read once, in `main`; everything
//! else gets it as an argument, so that nothing below depends on ambient things (A5).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Component, Path, PathBuf};

use taskhub_core::time::Timestamp;
use taskhub_engine::clock::{Clock, SystemClock};

/// The process's surroundings.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The program's own name as it was called, then its words.
    pub(crate) args: Vec<OsString>,
    vars: BTreeMap<String, String>,
    /// The working directory.
    pub(crate) folder: PathBuf,
    /// Whether standard input is a terminal.
    pub(crate) asks: bool,
    /// Whether standard output is a terminal.
    pub(crate) out_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub(crate) err_is_terminal: bool,
    /// When the command began.
    pub(crate) now: Timestamp,
}

impl World {
    /// Reads the surroundings of this process.
    pub(crate) fn of_this_process() -> Self {
        // A variable that is not Unicode has neither a known name nor a valid value.
        let unicode = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self {
            args: std::env::args_os().collect(),
            vars: std::env::vars_os().filter_map(unicode).collect(),
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            asks: std::io::stdin().is_terminal(),
            out_is_terminal: std::io::stdout().is_terminal(),
            err_is_terminal: std::io::stderr().is_terminal(),
            now: SystemClock.now(),
        }
    }

    /// An environment variable, by its exact name.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// An environment variable that is set and not empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.var(name).filter(|value| !value.is_empty())
    }

    /// All environment variables.
    pub(crate) fn vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The name by which the program was called, for usage texts.
    pub(crate) fn program(&self) -> String {
        let called = self.args.first().map(Path::new).and_then(Path::file_stem);
        let called = called.unwrap_or_default().to_string_lossy();
        if called.is_empty() {
            "taskhub".to_owned()
        } else {
            called.into_owned()
        }
    }

    /// Whether this is the `func` of the shim (L3).
    pub(crate) fn is_func(&self) -> bool {
        self.program().eq_ignore_ascii_case("func")
    }

    /// A path as the working directory understands it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        plain(&self.folder.join(path))
    }

    /// Where running servers leave word of themselves (L27): the user's runtime folder, or a folder of the
    /// user's state where the system has none.
    pub(crate) fn runtime_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = self.filled("XDG_RUNTIME_DIR") {
            return Some(Path::new(folder).join("taskhub"));
        }
        let home = self.filled("HOME").or_else(|| self.filled("LOCALAPPDATA"))?;
        Some(Path::new(home).join(".local/state/taskhub/run"))
    }
}

/// A path without `.` and `..`, as people write it; links are not looked at.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
