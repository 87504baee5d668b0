//! Rewrites a command line that Azure Functions Core Tools would take into the form that clap reads (decision 14).
//!
//! ```text
//!   func --strict DURABLE Raise-Event --id:x --event-data -5
//!   func durable raise-event --strict --id=x --event-data=-5
//! ```
//!
//! It makes no decisions of its own: clap's definition of the commands determines which word is a command, an option or
//! a value. Words that it does not understand stay unchanged, so that clap reports them.

use std::ffi::OsString;

use clap::{Arg, Command};

/// Words for yes and no (L7).
const BOOLEANS: [(&str, bool); 6] = [
    ("true", true),
    ("on", true),
    ("1", true),
    ("false", false),
    ("off", false),
    ("0", false),
];

/// Reads `true`, `off`, `1` and the like, in any case.
pub(crate) fn boolean(word: &str) -> Option<bool> {
    let known = BOOLEANS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    known.map(|(_, value)| *value)
}

/// A command line in clap's form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The commands that the words name, outermost first, spelled as in the definition.
    pub(crate) path: Vec<String>,
    /// The arguments for clap: the program, the path, everything else in its order.
    pub(crate) args: Vec<OsString>,
}

impl Line {
    /// The value that the line gives an option, by any of its names.
    pub(crate) fn value_of(&self, names: &[&str]) -> Option<&str> {
        let mut values = self.args.iter().filter_map(|arg| arg.to_str()?.split_once('='));
        values.find(|(name, _)| names.contains(name)).map(|(_, value)| value)
    }
}

/// Rewrites `args`, the first of which is the program, for `tree`, which must be built.
pub(crate) fn normalise(tree: &Command, args: &[OsString]) -> Line {
    let (program, words) = args.split_at(args.len().min(1));
    let mut walk = Walk {
        command: tree,
        path: Vec::new(),
        stray: None,
        page: None,
        words: Vec::new(),
    };
    let mut rest = words;
    while let Some((word, others)) = rest.split_first() {
        rest = walk.take(word, others);
    }
    // Alone it asks for the version; beside other words it is a flag (L4).
    if words == ["-v"] {
        walk.page = Some(Page::Version);
    }
    walk.finish(program)
}

/// What the line asks to be shown in the place of doing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Page {
    ShortHelp,
    Help,
    Version,
}

struct Walk<'t> {
    /// The innermost command so far.
    command: &'t Command,
    path: Vec<String>,
    /// A word that stands where a command is expected and names none.
    stray: Option<OsString>,
    page: Option<Page>,
    /// Options with their values, and other words.
    words: Vec<OsString>,
}

impl<'t> Walk<'t> {
    /// Consumes one word, and its value if it has one; returns the rest.
    fn take<'a>(&mut self, word: &OsString, others: &'a [OsString]) -> &'a [OsString] {
        let page = match word.to_str() {
            Some("-h") => Page::ShortHelp,
            Some("--help" | "-?") => Page::Help,
            Some("--version") => Page::Version,
            Some("--") => {
                self.words.push(word.clone());
                self.words.extend_from_slice(others);
                return &[];
            }
            Some(text) if is_dashed(text) => return self.option(text, others),
            Some(text) if self.expects_command() && text.eq_ignore_ascii_case("help") => Page::Help,
            _ => {
                self.word(word);
                return others;
            }
        };
        self.page = self.page.max(Some(page));
        others
    }

    fn expects_command(&self) -> bool {
        self.command.has_subcommands() && self.stray.is_none()
    }

    fn word(&mut self, word: &OsString) {
        if !self.expects_command() {
            self.words.push(word.clone());
        } else if let Some(command) = word.to_str().and_then(|word| self.subcommand(word)) {
            self.path.push(command.get_name().to_owned());
            self.command = command;
        } else {
            self.stray = Some(word.clone());
        }
    }

    fn subcommand(&self, word: &str) -> Option<&'t Command> {
        let mut commands = self.command.get_subcommands();
        commands.find(|command| command.get_name().eq_ignore_ascii_case(word))
    }

    fn option<'a>(&mut self, text: &str, others: &'a [OsString]) -> &'a [OsString] {
        if let Some((switch, is_on)) = self.signed(text) {
            self.words.push(format!("{switch}={is_on}").into());
            return others;
        }
        let (name, attached) = match text.find(['=', ':']) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let Some(option) = self.find(name) else {
            return self.unknown(text, attached.is_some(), others);
        };
        if let Some(value) = attached {
            self.words.push(format!("{name}={value}").into());
            return self.further_values(option, name, others);
        }
        let Some((value, rest)) = others.split_first().filter(|(next, _)| self.is_value(option, next)) else {
            self.words.push(name.into());
            return others;
        };
        self.push_value(name, value);
        self.further_values(option, name, rest)
    }

    /// `--switch+` and `--switch-` (L7).
    fn signed(&self, text: &str) -> Option<(String, bool)> {
        let (name, is_on) = match text.strip_suffix('+') {
            Some(name) => (name, true),
            None => (text.strip_suffix('-')?, false),
        };
        let option = self.find(name)?;
        let is_switch = option.get_action().takes_values() && values(option).0 == 0;
        is_switch.then(|| (name.to_owned(), is_on))
    }

    /// An option that the command does not have. The next word is treated as its value, so that clap reports the option
    /// and not the value.
    fn unknown<'a>(&mut self, text: &str, has_value: bool, others: &'a [OsString]) -> &'a [OsString] {
        // Letters after a single dash may be an option with its value, `-HOther`, which clap accepts.
        let shown = if text.starts_with("--") {
            text.replacen([':', '='], "=", 1)
        } else {
            text.to_owned()
        };
        self.words.push(shown.into());
        match others.split_first() {
            Some((next, rest)) if !has_value && !starts_with_dash(next) && !self.names_command(next) => {
                self.words.push(next.clone());
                rest
            }
            _ => others,
        }
    }

    /// Whether the word after an option is its value. A value may begin with a dash (L8), unless the word is a known
    /// option.
    fn is_value(&self, option: &Arg, next: &OsString) -> bool {
        let text = next.to_str();
        match values(option) {
            (_, 0) => false,
            // Before the command, a word that says neither yes nor no is the command.
            (0, _) if self.expects_command() => text.is_some_and(|text| boolean(text).is_some()),
            (0, _) => !starts_with_dash(next),
            _ => !text.is_some_and(|text| self.is_option(text)),
        }
    }

    /// The words that follow the first value of an option that takes several (L11).
    fn further_values<'a>(&mut self, option: &Arg, name: &str, others: &'a [OsString]) -> &'a [OsString] {
        let mut rest = others;
        if values(option).1 > 1 {
            while let Some((value, behind)) = rest.split_first() {
                if starts_with_dash(value) || self.names_command(value) {
                    break;
                }
                self.push_value(name, value);
                rest = behind;
            }
        }
        rest
    }

    fn push_value(&mut self, name: &str, value: &OsString) {
        let mut joined = OsString::from(format!("{name}="));
        joined.push(value);
        self.words.push(joined);
    }

    fn names_command(&self, word: &OsString) -> bool {
        self.expects_command() && word.to_str().is_some_and(|word| self.subcommand(word).is_some())
    }

    fn is_option(&self, text: &str) -> bool {
        let name = text.split(['=', ':']).next().unwrap_or_default();
        ["--", "--help", "-h", "-?", "--version"].contains(&text)
            || self.find(name).is_some()
            || self.signed(text).is_some()
    }

    /// An option of the command, or, while the command is not complete, of one below it.
    fn find(&self, name: &str) -> Option<&'t Arg> {
        find_in(self.command, name)
    }

    /// Removes options if no subcommand was named: clap then lists the subcommands instead of reporting unknown
    /// options.
    fn forget_early_options(&mut self) {
        let command = self.command;
        let is_early = |word: &OsString| {
            let name = word.to_str().unwrap_or_default().split('=').next().unwrap_or_default();
            find_own(command, name).is_none() && find_in(command, name).is_some()
        };
        self.words.retain(|word| !is_early(word));
    }

    fn finish(mut self, program: &[OsString]) -> Line {
        if self.expects_command() {
            self.forget_early_options();
        }
        let mut args = program.to_vec();
        if self.page == Some(Page::Version) {
            args.push("--version".into());
        } else {
            args.extend(self.path.iter().map(OsString::from));
            args.extend(self.stray);
            match self.page {
                None => args.extend(self.words),
                Some(Page::ShortHelp) => args.push("-h".into()),
                Some(_) => args.push("--help".into()),
            }
        }
        Line { path: self.path, args }
    }
}

/// An option of a command or of one below it.
fn find_in<'t>(command: &'t Command, name: &str) -> Option<&'t Arg> {
    let below = || command.get_subcommands().find_map(|command| find_in(command, name));
    find_own(command, name).or_else(below)
}

fn find_own<'t>(command: &'t Command, name: &str) -> Option<&'t Arg> {
    let is_named = |option: &&Arg| match name.strip_prefix("--") {
        Some(long) => {
            let aliases = option.get_all_aliases().unwrap_or_default();
            option.get_long() == Some(long) || aliases.contains(&long)
        }
        None => option.get_short().is_some_and(|short| name == format!("-{short}")),
    };
    command.get_arguments().find(is_named)
}

/// How many values an option takes at least and at most, each time it is given.
fn values(option: &Arg) -> (usize, usize) {
    let range = option.get_num_args().unwrap_or_default();
    (range.min_values(), range.max_values())
}

fn is_dashed(text: &str) -> bool {
    text.len() > 1 && text.starts_with('-')
}

fn starts_with_dash(word: &OsString) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::tree;

    /// The line in clap's form, without the program.
    fn rewritten(line: &[&str]) -> Vec<String> {
        let args: Vec<OsString> = [&["taskhub"], line].concat().iter().map(OsString::from).collect();
        let args = normalise(&tree("taskhub"), &args).args;
        let texts = args.into_iter().map(|arg| arg.into_string().unwrap());
        texts.skip(1).collect()
    }

    fn check(cases: &[(&[&str], &[&str])]) {
        for (line, expected) in cases {
            assert_eq!(rewritten(line), *expected, "{line:?}");
        }
    }

    #[test]
    fn a_value_comes_behind_a_blank_an_equals_sign_or_a_colon() {
        check(&[
            (
                &["durable", "get-history", "--id", "x"],
                &["durable", "get-history", "--id=x"],
            ),
            (
                &["durable", "get-history", "--id=x"],
                &["durable", "get-history", "--id=x"],
            ),
            (
                &["durable", "get-history", "--id:x"],
                &["durable", "get-history", "--id=x"],
            ),
            (
                &["durable", "get-history", "-o:json"],
                &["durable", "get-history", "-o=json"],
            ),
            (
                &["durable", "get-history", "-o", "json"],
                &["durable", "get-history", "-o=json"],
            ),
            (
                &["durable", "get-history", "--prefix", "a"],
                &["durable", "get-history", "--prefix=a"],
            ),
            // Only the first sign counts: values hold both.
            (
                &[
                    "durable",
                    "get-instances",
                    "--server:http://localhost:7071/?a=b",
                    "--created-after=10:30",
                ],
                &[
                    "durable",
                    "get-instances",
                    "--server=http://localhost:7071/?a=b",
                    "--created-after=10:30",
                ],
            ),
            (
                &["durable", "start-new", "--input", r#"{"a":"b c","d":"x=y:z"}"#],
                &["durable", "start-new", r#"--input={"a":"b c","d":"x=y:z"}"#],
            ),
            (
                &["durable", "start-new", "--input", ""],
                &["durable", "start-new", "--input="],
            ),
        ]);
    }

    #[test]
    fn a_value_may_begin_with_a_dash_unless_it_is_an_option() {
        check(&[
            (
                &["durable", "raise-event", "--event-data", "-5"],
                &["durable", "raise-event", "--event-data=-5"],
            ),
            (
                &["durable", "terminate", "--reason", "--no"],
                &["durable", "terminate", "--reason=--no"],
            ),
            (
                &["durable", "terminate", "--reason", "--id", "x"],
                &["durable", "terminate", "--reason", "--id=x"],
            ),
            (
                &["durable", "terminate", "--reason", "--id:x"],
                &["durable", "terminate", "--reason", "--id=x"],
            ),
            (
                &["durable", "terminate", "--reason", "--"],
                &["durable", "terminate", "--reason", "--"],
            ),
        ]);
    }

    #[test]
    fn a_switch_with_a_sign_is_no_value() {
        check(&[(
            &["durable", "terminate", "--reason", "--strict+"],
            &["durable", "terminate", "--reason", "--strict=true"],
        )]);
    }

    #[test]
    fn a_switch_takes_a_sign_a_word_or_nothing() {
        let status = ["durable", "get-runtime-status"];
        for (form, value) in [
            (&["--show-input"][..], "--show-input"),
            (&["--show-input", "TRUE"], "--show-input=TRUE"),
            (&["--show-input", "maybe"], "--show-input=maybe"),
            (&["--show-input:off"], "--show-input=off"),
            (&["--show-input+"], "--show-input=true"),
            (&["--show-input-"], "--show-input=false"),
            (&["--id+"], "--id+"),
        ] {
            let line = [&status[..], form].concat();
            assert_eq!(rewritten(&line), [&status[..], &[value]].concat(), "{form:?}");
        }
        check(&[(
            &["durable", "get-runtime-status", "--show-input", "--strict", "on"],
            &["durable", "get-runtime-status", "--show-input", "--strict=on"],
        )]);
    }

    #[test]
    fn several_words_are_several_values() {
        check(&[(
            &[
                "durable",
                "get-instances",
                "--runtime-status",
                "failed",
                "completed",
                "--top",
                "3",
                "--runtime-status=running",
                "pending",
            ],
            &[
                "durable",
                "get-instances",
                "--runtime-status=failed",
                "--runtime-status=completed",
                "--top=3",
                "--runtime-status=running",
                "--runtime-status=pending",
            ],
        )]);
    }

    #[test]
    fn commands_are_found_in_any_case_and_behind_options() {
        check(&[
            (&["DURABLE", "Get-Instances"], &["durable", "get-instances"]),
            (&["Version"], &["version"]),
            (
                &["--task-hub-name", "Other", "durable", "--strict", "get-instances"],
                &["durable", "get-instances", "--task-hub-name=Other", "--strict"],
            ),
            (
                &["durable", "--strict", "true", "get-instances"],
                &["durable", "get-instances", "--strict=true"],
            ),
            (
                &["durable", "--runtime-status", "failed", "get-instances"],
                &["durable", "get-instances", "--runtime-status=failed"],
            ),
            (
                &["durable", "--task-hub-name", "durable", "get-instances"],
                &["durable", "get-instances", "--task-hub-name=durable"],
            ),
            (
                &["bench", "--folder", "x", "--json", "hello"],
                &["bench", "hello", "--folder=x", "--json"],
            ),
            (&["dev", "--samples", "x", "-p", "0"], &["dev", "--samples=x", "-p=0"]),
        ]);
    }

    #[test]
    fn help_and_the_version_are_asked_for_in_many_ways() {
        check(&[
            (&["help"], &["--help"]),
            (&["-?"], &["--help"]),
            (
                &["help", "durable", "get-history"],
                &["durable", "get-history", "--help"],
            ),
            (
                &["durable", "HELP", "get-history"],
                &["durable", "get-history", "--help"],
            ),
            (&["durable", "get-history", "-?"], &["durable", "get-history", "--help"]),
            (
                &["durable", "get-history", "--id", "x", "--frob", "-h"],
                &["durable", "get-history", "-h"],
            ),
            (&["durable", "frob", "--help"], &["durable", "frob", "--help"]),
            (&["-v"], &["--version"]),
            (&["durable", "start-new", "--frob", "--version", "-h"], &["--version"]),
            (&["durable", "get-instances", "-v"], &["durable", "get-instances", "-v"]),
            (
                &["durable", "get-instances", "-HA:b"],
                &["durable", "get-instances", "-HA:b"],
            ),
            // Behind `--` nothing is an option, and a value is a value.
            (
                &["durable", "get-instances", "--", "--help"],
                &["durable", "get-instances", "--", "--help"],
            ),
            (
                &["durable", "get-history", "--id=--help"],
                &["durable", "get-history", "--id=--help"],
            ),
            (
                &["durable", "get-history", "--id", "help"],
                &["durable", "get-history", "--id=help"],
            ),
        ]);
    }

    #[test]
    fn what_is_not_understood_is_left_for_clap_to_name() {
        check(&[
            (&["durable", "--strict", "--frob"], &["durable", "--frob"]),
            (&["durable", "--task-hub-name", "X", "--strict+"], &["durable"]),
            (&["durable", "frob", "--top", "3"], &["durable", "frob", "--top=3"]),
            (&["durable", "--top", "3", "frob"], &["durable", "frob", "--top=3"]),
            (
                &["--frob", "durable", "get-instances"],
                &["durable", "get-instances", "--frob"],
            ),
            (
                &["durable", "get-instances", "--frob:x", "y"],
                &["durable", "get-instances", "--frob=x", "y"],
            ),
            (
                &["durable", "get-instances", "--frob", "x", "-5"],
                &["durable", "get-instances", "--frob", "x", "-5"],
            ),
            (&["durable", "get-instances", "-"], &["durable", "get-instances", "-"]),
        ]);
        assert_eq!(normalise(&tree("taskhub"), &[]).args, Vec::<OsString>::new());
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_stays_whole() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let args = ["taskhub".into(), "dev".into(), "--store".into(), odd(b"a\xff")];
        let args = normalise(&tree("taskhub"), &args).args;
        assert_eq!(args, ["taskhub".into(), "dev".into(), odd(b"--store=a\xff")]);
    }
}
