//! The `func` on the path (L3): `durable …` is ours, every other word goes to the next `func`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Shim;
use crate::screen::Screen;
use crate::stop::{Result, Stop, exit};
use crate::world::{World, plain};

/// Name of the program that the shim stands for.
const NAME: &str = if cfg!(windows) { "func.exe" } else { "func" };

/// `taskhub shim …`.
pub(crate) fn run(shim: &Shim, world: &World) -> Result<String> {
    match shim {
        Shim::Install { dir } => install(&place(dir.as_deref(), world)?),
        Shim::Remove { dir } => remove(&place(dir.as_deref(), world)?),
        Shim::Status => Ok(status(world)),
    }
}

fn own_program() -> Result<PathBuf> {
    let program = std::env::current_exe().and_then(fs::canonicalize);
    program.map_err(|error| failed(&format!("cannot tell where this program is: {error}")))
}

fn failed(message: &str) -> Stop {
    Stop::error(exit::FAILED, "failed", message)
}

/// The place of the shim: the requested folder, otherwise the folder of this program, which is on the path.
fn place(dir: Option<&Path>, world: &World) -> Result<PathBuf> {
    let folder = match dir {
        Some(dir) => plain(&world.folder.join(dir)),
        None => own_program()?.parent().map(Path::to_owned).unwrap_or_default(),
    };
    if folder.is_dir() {
        Ok(folder.join(NAME))
    } else {
        Err(failed(&format!("{} is not a folder", folder.display())))
    }
}

/// Whether a file is a shim of ours: it leads to this program, wherever that was when it was installed.
fn is_ours(path: &Path) -> bool {
    let target = fs::read_link(path).or_else(|_| fs::canonicalize(path));
    let is_named = |target: PathBuf| target.file_stem().is_some_and(|stem| stem == "taskhub");
    target.is_ok_and(is_named) || own_program().is_ok_and(|own| is_copy(path, &own))
}

/// On systems without symbolic links, the shim is a copy.
fn is_copy(path: &Path, own: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    cfg!(windows) && length(path).is_some() && length(path) == length(own)
}

fn install(place: &Path) -> Result<String> {
    let shown = place.display();
    if fs::symlink_metadata(place).is_ok() {
        if !is_ours(place) {
            let message = format!("{shown} exists and was not written by this program; nothing was changed");
            return Err(failed(&message).hint("install into another folder with `--dir DIR`"));
        }
        fs::remove_file(place).map_err(|error| failed(&format!("cannot replace {shown}: {error}")))?;
    }
    let own = own_program()?;
    link(&own, place).map_err(|error| failed(&format!("cannot write {shown}: {error}")))?;
    Ok(format!("installed {shown}\n"))
}

#[cfg(unix)]
fn link(own: &Path, place: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(own, place)
}

#[cfg(not(unix))]
fn link(own: &Path, place: &Path) -> std::io::Result<()> {
    fs::copy(own, place).map(|_| ())
}

fn remove(place: &Path) -> Result<String> {
    let shown = place.display();
    if fs::symlink_metadata(place).is_err() {
        return Ok(format!("there is no {shown}\n"));
    }
    if !is_ours(place) {
        return Err(failed(&format!(
            "{shown} was not written by this program; nothing was changed"
        )));
    }
    fs::remove_file(place).map_err(|error| failed(&format!("cannot remove {shown}: {error}")))?;
    Ok(format!("removed {shown}\n"))
}

fn status(world: &World) -> String {
    let all = on_path(world);
    if all.is_empty() {
        return "there is no `func` on the path; `taskhub shim install` puts one there\n".to_owned();
    }
    let line = |path: &PathBuf| {
        let what = if is_ours(path) {
            "this program"
        } else {
            "another program"
        };
        format!("{} is {what}\n", path.display())
    };
    all.iter().map(line).collect()
}

/// Every `func` on the path, in its order.
fn on_path(world: &World) -> Vec<PathBuf> {
    const NAMES: &[&str] = if cfg!(windows) {
        &["func.exe", "func.cmd"]
    } else {
        &["func"]
    };
    let path = OsString::from(world.var("PATH").unwrap_or_default());
    let folders = std::env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
    folders
        .flat_map(|folder| NAMES.iter().map(move |name| folder.join(name)))
        .filter(|path| path.is_file())
        .collect()
}

/// The next `func` behind ours. One of another installation of ours would hand on as well.
fn next(world: &World) -> Option<PathBuf> {
    let all = on_path(world);
    let own = all.iter().rposition(|path| is_ours(path)).map_or(0, |at| at + 1);
    all.into_iter().skip(own).find(|path| !is_ours(path))
}

/// What becomes of a word that is not ours.
#[derive(Debug)]
pub(crate) enum HandedOn {
    Done(u8),
    /// It means the same as this word of ours.
    Same(&'static str),
    /// Without Core Tools, Taskhub's own server replaces the host.
    Dev {
        /// The words it was called with.
        called: String,
        /// What came behind them, as far as it means something here.
        options: Vec<OsString>,
    },
}

/// Does what `func WORD …` means when the word is not ours.
pub(crate) fn hand_on(world: &World, screen: &mut Screen) -> HandedOn {
    let args = world.args.get(1..).unwrap_or_default();
    if let Some(program) = next(world) {
        return HandedOn::Done(run_other(&program, args, screen));
    }
    let nth = |index: usize| args.get(index).map(|arg| arg.to_string_lossy().to_ascii_lowercase());
    let words = match (nth(0).as_deref(), nth(1).as_deref()) {
        (Some("start"), _) => 1,
        (Some("host"), Some("start")) => 2,
        _ => return alone(args, screen),
    };
    let (words, options) = args.split_at(words);
    let words = words.iter().map(|word| word.to_string_lossy());
    let called: Vec<_> = std::iter::once(world.program().into()).chain(words).collect();
    HandedOn::Dev {
        called: called.join(" "),
        options: dev_options(options),
    }
}

/// Options of `func start` that mean nothing here, and whether a value comes behind (L60).
const IGNORED: [(&str, bool); 9] = [
    ("--usehttps", false),
    ("--functions", true),
    ("--no-build", false),
    ("--language-worker", true),
    ("--enableauth", false),
    ("--timeout", true),
    ("--dotnet-isolated-debug", false),
    ("--json-output-file", true),
    ("--user-log-level", true),
];

/// The options of `func start` that `dev` has too.
fn dev_options(args: &[OsString]) -> Vec<OsString> {
    let mut options = Vec::new();
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        let (name, has_value_in_it) = text.split_once('=').map_or((&*text, false), |(name, _)| (name, true));
        let name = name.to_ascii_lowercase();
        if name == "--enable-json-output" {
            options.extend(["--log-format".into(), "json".into()]);
        } else if let Some((_, takes_value)) = IGNORED.iter().find(|(known, _)| *known == name) {
            let is_value =
                |next: &&OsString| *takes_value && !has_value_in_it && !next.to_string_lossy().starts_with('-');
            while rest.next_if(is_value).is_some() {}
        } else {
            options.push(arg.clone());
        }
    }
    options
}

/// If there is no other `func`, explain what this one does.
fn alone(args: &[OsString], screen: &mut Screen) -> HandedOn {
    let words = args.iter().map(|arg| arg.to_string_lossy().to_ascii_lowercase());
    let words: Vec<_> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "--help" | "-h" | "-?"] => HandedOn::Same("durable"),
        ["version" | "--version" | "-v"] => HandedOn::Same("version"),
        [first, ..] => {
            let message =
                format!("this `func` only offers durable commands; install Azure Functions Core Tools for `{first}`");
            HandedOn::Done(screen.end(&Stop::plain(exit::FAILED, "failed", message)))
        }
    }
}

/// Becomes the other program, so that its exit code is ours.
#[cfg(unix)]
fn run_other(program: &Path, args: &[OsString], screen: &mut Screen) -> u8 {
    use std::os::unix::process::CommandExt;
    let error = Command::new(program).args(args).exec();
    screen.end(&failed(&format!("cannot run {}: {error}", program.display())))
}

#[cfg(not(unix))]
fn run_other(program: &Path, args: &[OsString], screen: &mut Screen) -> u8 {
    match Command::new(program).args(args).status() {
        Ok(status) => status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(exit::FAILED),
        Err(error) => screen.end(&failed(&format!("cannot run {}: {error}", program.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_functions_host_that_mean_nothing_here_are_left_out() {
        for (given, left) in [
            ("--port 7072 --useHttps", "--port 7072"),
            ("--functions A B --cert x", "--cert x"),
            ("--timeout 30 -p 7072", "-p 7072"),
            ("--language-worker=node --no-build", ""),
            ("--enable-json-output", "--log-format json"),
        ] {
            let args: Vec<OsString> = given.split(' ').map(OsString::from).collect();
            let options = dev_options(&args);
            let words: Vec<_> = options.iter().map(|option| option.to_str().unwrap()).collect();
            assert_eq!(words.join(" "), left, "{given}");
        }
    }
}
