//! From the words of the process to a command: clap's definition in [`crate::args`], the rewriting of [`crate::argv`],
//! and one form for what is not understood (L13).

use std::ffi::OsString;

use clap::builder::TypedValueParser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Command, Serve, contents};
use crate::argv::{Line, boolean, normalise};
use crate::proposed::Proposed;
use crate::stop::Stop;
use crate::usage::Usage;
use crate::world::World;

/// Width of help, in columns, where the terminal is not narrower (L77).
const WIDTH: usize = 100;

/// Name of the value of an option that means yes or no (L7).
const SWITCH: &str = "BOOL";

/// Possible values that an error lists, at most.
const EXPECTED_MAX: usize = 10;

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To be shown a page: help, or the version.
    Page(String),
    Run(Box<Command>, Usage),
}

/// Why a command line asks for nothing.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A command that is only the name of a group: its page.
    Group(String),
    /// It is not understood.
    Stop(Stop),
}

/// The definition of all commands, for a program called so, ready to be asked.
pub(crate) fn tree(program: &str) -> clap::Command {
    let tree = prepared(Cli::command()).bin_name(program).max_term_width(WIDTH);
    let contents = contents(&tree);
    let mut tree = tree.help_template(contents);
    tree.build();
    tree
}

/// What derive cannot say once for all: switches take any word for yes and no, or none; `help` is the rewriting's word.
fn prepared(command: clap::Command) -> clap::Command {
    let switch = |arg: clap::Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        if names.iter().any(|name| name.as_str() == SWITCH) {
            let read = |word: String| boolean(&word).ok_or("expected true or false");
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(Proposed(&["true", "false"]).try_map(read))
                .hide_possible_values(true)
        } else {
            arg
        }
    };
    let command = command.disable_help_subcommand(true).mut_args(switch);
    command.mut_subcommands(prepared)
}

/// Reads a line.
pub(crate) fn command(tree: clap::Command, line: &Line) -> Result<Asked, Refused> {
    read(tree, line, |matches| Ok(Cli::from_arg_matches(matches)?.command))
}

/// Reads the options of `func start`, as it was called, which is `dev`.
pub(crate) fn start(called: &str, options: &[OsString]) -> Result<Asked, Refused> {
    let start = clap::Command::new("start").about("Serve this project, as `taskhub dev` does.");
    let mut start = prepared(Serve::augment_args(start).bin_name(called)).max_term_width(WIDTH);
    start.build();
    let args: Vec<_> = std::iter::once(called.into()).chain(options.iter().cloned()).collect();
    let line = normalise(&start, &args);
    read(start, &line, |matches| {
        Ok(Command::Dev(Serve::from_arg_matches(matches)?))
    })
}

fn read(
    mut tree: clap::Command,
    line: &Line,
    build: impl Fn(&ArgMatches) -> Result<Command, clap::Error>,
) -> Result<Asked, Refused> {
    let parsed = tree.try_get_matches_from_mut(&line.args);
    let read = parsed.and_then(|matches| build(&matches));
    let innermost = innermost(&mut tree, &line.path);
    let usage = Usage::of(innermost);
    match read {
        Ok(command) => Ok(Asked::Run(Box::new(command), usage)),
        Err(error) if !error.use_stderr() => Ok(Asked::Page(error.render().to_string())),
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Refused::Group(error.render().to_string()))
        }
        Err(error) => {
            let what = what_is_wrong(&error, line);
            let what = match nearest(&error, innermost) {
                Some(word) => format!("{what}; did you mean `{word}`?"),
                None => what + &expected(&error),
            };
            Err(Refused::Stop(usage.error(what)))
        }
    }
}

/// The command at the end of a path.
fn innermost<'t>(tree: &'t mut clap::Command, path: &[String]) -> &'t mut clap::Command {
    let mut command = tree;
    for name in path {
        if command.find_subcommand(name).is_none() {
            break;
        }
        let Some(inner) = command.find_subcommand_mut(name) else {
            unreachable!("it was found")
        };
        command = inner;
    }
    command
}

/// What clap says of a line, in one line.
fn what_is_wrong(error: &clap::Error, line: &Line) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let unreadable = line.args.iter().find(|arg| arg.to_str().is_none());
        let shown = unreadable.map(|arg| arg.to_string_lossy()).unwrap_or_default();
        return format!("the argument '{shown}' is not valid UTF-8");
    }
    let rendered = error.render().to_string();
    let said = rendered.split("\n\n").next().unwrap_or_default();
    // Possible values come in a line of their own.
    let parts = said.lines().map(str::trim).filter(|part| !part.starts_with('['));
    let said = parts.collect::<Vec<_>>().join(" ");
    said.strip_prefix("error: ").unwrap_or(&said).to_owned()
}

/// The word that was probably meant, if the one that is not understood is near to any (L13).
fn nearest(error: &clap::Error, command: &clap::Command) -> Option<String> {
    let said = |kind| match error.get(kind)? {
        ContextValue::String(word) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = said(ContextKind::InvalidArg)?.strip_prefix("--")?;
            let options = command.get_arguments().filter(|option| !option.is_hide_set());
            let names = options.filter_map(clap::Arg::get_long_and_visible_aliases).flatten();
            nearest_of(word, names).map(|name| format!("--{name}"))
        }
        ErrorKind::InvalidSubcommand => {
            let names = command.get_subcommands().map(clap::Command::get_name);
            nearest_of(said(ContextKind::InvalidSubcommand)?, names).map(str::to_owned)
        }
        ErrorKind::InvalidValue => {
            let word = said(ContextKind::InvalidValue)?;
            nearest_of(word, valid_values(error).iter().map(String::as_str)).map(str::to_owned)
        }
        _ => None,
    }
}

/// The nearest of some names, if at most every third letter is wrong. Clap's own measure does not know that letters
/// change places: for `--tpo` it proposes `--output`.
fn nearest_of<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = word.to_ascii_lowercase();
    let far = (lower.chars().count() / 3).max(1);
    let names = names.into_iter().filter(|name| *name != word);
    let names = names.map(|name| (strsim::osa_distance(&lower, name), name));
    let near = names.filter(|(distance, _)| *distance <= far);
    near.min().map(|(_, name)| name)
}

fn valid_values(error: &clap::Error) -> &[String] {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => words,
        _ => &[],
    }
}

/// `; expected a, b or c`, where there are few such words.
fn expected(error: &clap::Error) -> String {
    match valid_values(error) {
        [words @ .., last] if (1..EXPECTED_MAX).contains(&words.len()) => {
            format!("; expected {} or {last}", words.join(", "))
        }
        _ => String::new(),
    }
}

/// Whether the command line requests errors as JSON (L35), although it is invalid.
pub(crate) fn wants_json(line: &Line, world: &World) -> bool {
    let is_durable = line.path.first().is_some_and(|name| name == "durable");
    let form = line
        .value_of(&["--output", "-o"])
        .or_else(|| world.filled("TASKHUB_OUTPUT"));
    is_durable && matches!(form, Some("json" | "jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::GROUPS;

    /// The paths of all commands, innermost and not.
    fn paths(command: &clap::Command) -> Vec<Vec<String>> {
        let inner = command.get_subcommands().flat_map(|inner| {
            let name = inner.get_name().to_owned();
            let paths = paths(inner).into_iter();
            paths.map(move |path| [vec![name.clone()], path].concat())
        });
        std::iter::once(Vec::new()).chain(inner).collect()
    }

    fn of(words: &[&str]) -> Result<Asked, Refused> {
        let args: Vec<_> = [&["taskhub"], words].concat().iter().map(OsString::from).collect();
        let tree = tree("taskhub");
        let line = normalise(&tree, &args);
        command(tree, &line)
    }

    #[test]
    fn every_page_fits_100_columns_and_names_every_option() {
        let tree = tree("taskhub");
        let paths = paths(&tree);
        assert!(paths.len() > 25, "{paths:?}");
        for path in paths {
            let mut tree = tree.clone();
            let command = innermost(&mut tree, &path);
            let names: Vec<_> = command
                .get_arguments()
                .filter_map(|arg| arg.get_long().map(str::to_owned))
                .collect();
            for help in ["-h", "--help"] {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let Ok(Asked::Page(page)) = of(&[&path[..], &[help]].concat()) else {
                    panic!("{path:?} has no page")
                };
                let wide = page.lines().find(|line| line.chars().count() > WIDTH);
                assert_eq!(wide, None, "{path:?} {help}");
                for name in &names {
                    assert!(page.contains(&format!("--{name}")), "{path:?} {help} lacks --{name}");
                }
            }
        }
    }

    #[test]
    fn every_command_is_in_one_group_of_the_contents() {
        let tree = tree("taskhub");
        let mut commands: Vec<_> = tree.get_subcommands().map(clap::Command::get_name).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        commands.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, commands);
        let Ok(Asked::Page(page)) = of(&["help"]) else {
            panic!("there is no page")
        };
        for name in commands {
            assert!(page.contains(&format!("\n  {name:<12} ")), "{name}: {page}");
        }
    }

    #[test]
    fn the_verbs_are_in_the_order_of_core_tools() {
        let Ok(Asked::Page(page)) = of(&["help", "durable"]) else {
            panic!("there is no page")
        };
        let verbs = [
            "start-new",
            "get-runtime-status",
            "get-history",
            "get-instances",
            "terminate",
            "raise-event",
            "rewind",
            "purge-history",
            "delete-task-hub",
        ];
        let places: Vec<_> = verbs.iter().map(|verb| page.find(&format!("\n  {verb} "))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{page}");
    }

    #[cfg(unix)]
    #[test]
    fn an_argument_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let mut args: Vec<OsString> = ["taskhub", "durable", "get-history", "--id"].map(OsString::from).into();
        args.push(OsString::from_vec(b"a\xff".to_vec()));
        let tree = tree("taskhub");
        let line = normalise(&tree, &args);
        let Err(Refused::Stop(stop)) = command(tree, &line) else {
            panic!("it is not refused")
        };
        assert_eq!(stop.message, "the argument '--id=a\u{fffd}' is not valid UTF-8");
    }

    #[test]
    fn the_nearest_word_is_proposed_and_a_far_one_is_not() {
        for (words, said) in [
            (
                &["durable", "get-instances", "--tpo", "3"][..],
                "unexpected argument '--tpo' found; did you mean `--top`?",
            ),
            (
                &["durable", "get-instances", "--Top", "3"],
                "unexpected argument '--Top' found; did you mean `--top`?",
            ),
            (
                &["durable", "get-instances", "--hbu", "X"],
                "unexpected argument '--hbu' found; did you mean `--hub`?",
            ),
            (
                &["durable", "get-instances", "--where", "x"],
                "unexpected argument '--where' found",
            ),
            (
                &["durable", "get-instnaces"],
                "unrecognized subcommand 'get-instnaces'; did you mean `get-instances`?",
            ),
            (&["Sevre"], "unrecognized subcommand 'Sevre'; did you mean `serve`?"),
            (&["frob"], "unrecognized subcommand 'frob'"),
            (
                &["errors", "usgae"],
                "invalid value 'usgae' for '[CODE]'; did you mean `usage`?",
            ),
            (&["errors", "nothing"], "invalid value 'nothing' for '[CODE]'"),
            (
                &["durable", "get-instances", "-o", "yaml"],
                "invalid value 'yaml' for '--output <FORMAT>'; expected compat, json, jsonl or ids",
            ),
            (
                &["durable", "get-instances", "-o", "jsno"],
                "invalid value 'jsno' for '--output <FORMAT>'; did you mean `json`?",
            ),
            (
                &["durable", "get-history", "--id", "a", "--id:b"],
                "the argument '--id <ID>' cannot be used multiple times",
            ),
            (
                &["durable", "get-instances", "--", "--top"],
                "unexpected argument '--top' found",
            ),
        ] {
            let Err(Refused::Stop(stop)) = of(words) else {
                panic!("{words:?} is not refused")
            };
            assert_eq!((stop.exit, stop.message.as_str()), (2, said), "{words:?}");
            assert!(stop.usage.is_some() && stop.hints.len() == 1, "{words:?}");
        }
    }
}
