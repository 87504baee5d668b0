//! From words to options (L6–L9, L13): `--name value`, `--name=value`, `--name:value`; a value may begin with
//! a dash; what is not understood is named, with the nearest word that would be.

use super::verbs::{COMMON, Choice, FURTHER, Kind, VERBS, Verb};
use crate::stop::{Result, Stop};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The page of the context, or of one verb.
    Help(Option<&'static Verb>),
    /// The version.
    Version,
    /// A verb.
    Run(Given),
}

/// A verb with its options.
#[derive(Debug)]
pub(crate) struct Given {
    /// The verb.
    pub(crate) verb: &'static Verb,
    /// The program as it was called.
    program: String,
    values: Vec<(&'static str, String)>,
}

/// Words for yes and no (L7).
const BOOLEANS: [(&str, bool); 6] = [
    ("true", true),
    ("on", true),
    ("1", true),
    ("false", false),
    ("off", false),
    ("0", false),
];

/// Reads `true`, `off`, `1` and their likes, in any case.
pub(crate) fn boolean(word: &str) -> Option<bool> {
    let known = BOOLEANS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    known.map(|(_, value)| *value)
}

impl Given {
    /// The value of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.values.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let found = self.values.iter().filter(|(given, _)| *given == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a flag is on; `None` if it is not given.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// A usage error about this verb.
    pub(crate) fn usage(&self, what: impl Into<String>) -> Stop {
        usage(&self.program, Some(self.verb), what)
    }
}

/// A usage error: what is wrong, one usage line, where to read on (L13).
fn usage(program: &str, verb: Option<&'static Verb>, what: impl Into<String>) -> Stop {
    let about = verb.map(|verb| format!("{} ", verb.name)).unwrap_or_default();
    let mut stop = Stop::usage(what);
    stop.usage = Some(usage_line(program, verb));
    stop.hint(format!("run `{program} durable {about}--help`"))
}

/// The usage line of the context, or of a verb.
pub(crate) fn usage_line(program: &str, verb: Option<&Verb>) -> String {
    let Some(verb) = verb else {
        return format!("usage: {program} durable <verb> [options]");
    };
    let mut line = format!("usage: {program} durable {}", verb.name);
    for choice in verb.choices.iter().filter(|choice| choice.is_required) {
        line = format!("{line} --{} <string>", choice.name);
    }
    line + " [options]"
}

/// Reads the words behind the program's name. The first of them that is no option is `durable`, or `help`.
pub(crate) fn read(program: &str, args: &[String]) -> Result<Asked> {
    let mut reader = Reader {
        program: program.to_owned(),
        ..Reader::default()
    };
    let mut rest = args;
    while let Some((arg, others)) = rest.split_first() {
        rest = reader.take(arg, others);
    }
    reader.finish(args)
}

#[derive(Default)]
struct Reader {
    program: String,
    verb: Option<&'static Verb>,
    words: usize,
    is_help: bool,
    is_version: bool,
    options_are_over: bool,
    values: Vec<(&'static str, String)>,
    /// The first thing that was not understood.
    trouble: Option<Stop>,
}

impl Reader {
    /// Takes one argument and answers what is left behind it and its value.
    fn take<'a>(&mut self, arg: &str, others: &'a [String]) -> &'a [String] {
        if self.options_are_over || !arg.starts_with('-') || arg == "-" {
            self.word(arg);
            return others;
        }
        match arg {
            "--" => self.options_are_over = true,
            "--help" | "-h" | "-?" => self.is_help = true,
            "--version" => self.is_version = true,
            _ => return self.option(arg, others),
        }
        others
    }

    fn word(&mut self, word: &str) {
        if word.eq_ignore_ascii_case("help") && self.words < 2 {
            self.is_help = true;
            return;
        }
        self.words += 1;
        match self.words {
            1 => {}
            2 => self.find_verb(word),
            _ => self.fail(format!("`{word}` is one word too many")),
        }
    }

    fn find_verb(&mut self, word: &str) {
        self.verb = VERBS.iter().find(|verb| verb.name.eq_ignore_ascii_case(word));
        if self.verb.is_some() {
            return;
        }
        if let Some((name, _)) = FURTHER.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            self.trouble.get_or_insert(Stop::not_yet(&format!("`durable {name}`")));
            return;
        }
        let names = VERBS.iter().map(|verb| verb.name);
        let nearest = nearest(&word.to_ascii_lowercase(), names);
        let meant = nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        self.fail(format!("`{word}` is no durable verb{meant}"));
    }

    fn fail(&mut self, what: String) {
        let (program, verb) = (&self.program, self.verb);
        self.trouble.get_or_insert_with(|| usage(program, verb, what));
    }

    fn option<'a>(&mut self, arg: &str, others: &'a [String]) -> &'a [String] {
        let cut = arg.find(['=', ':']);
        let (name, mut value) = match cut {
            Some(at) => (&arg[..at], Some(arg[at + 1..].to_owned())),
            None => (arg, None),
        };
        let (name, sign) = match (name.strip_suffix('+'), name.strip_suffix('-')) {
            (Some(name), _) if value.is_none() => (name, Some("true")),
            (_, Some(name)) if value.is_none() => (name, Some("false")),
            _ => (name, None),
        };
        let Some(choice) = self.find(name) else {
            self.unknown(if sign.is_some() { arg } else { name });
            // Its value, if it has one, is no word of ours either.
            return match others.split_first() {
                Some((next, rest)) if value.is_none() && !next.starts_with('-') => rest,
                _ => others,
            };
        };
        if sign.is_some() {
            value = sign.map(str::to_owned);
            if choice.kind != Kind::Flag && choice.kind != Kind::Later {
                self.fail(format!("`{arg}`: only flags take `+` and `-`"));
                return others;
            }
        }
        match choice.kind {
            Kind::Later => {
                let what = format!("the option `--{}`", choice.name);
                self.trouble.get_or_insert(Stop::not_yet(&what));
                match others.split_first() {
                    Some((next, rest)) if value.is_none() && !next.starts_with('-') => rest,
                    _ => others,
                }
            }
            Kind::Flag => self.flag(choice, value, others),
            Kind::Statuses => self.several(choice, value, others),
            Kind::Text | Kind::Word(_) | Kind::Date | Kind::Count => self.single(choice, value, others),
        }
    }

    fn flag<'a>(&mut self, choice: &'static Choice, value: Option<String>, others: &'a [String]) -> &'a [String] {
        let (word, rest) = match (value, others.split_first()) {
            (Some(value), _) => (value, others),
            // Before the verb a word that says neither yes nor no is the next word of the command.
            (None, Some((next, rest))) if boolean(next).is_some() || (self.words >= 2 && !next.starts_with('-')) => {
                (next.clone(), rest)
            }
            (None, _) => ("true".to_owned(), others),
        };
        match boolean(&word) {
            Some(is_on) => self.put(choice, is_on.to_string()),
            None => self.fail(format!("`--{}` takes true or false, not `{word}`", choice.name)),
        }
        rest
    }

    fn several<'a>(&mut self, choice: &'static Choice, value: Option<String>, others: &'a [String]) -> &'a [String] {
        let mut rest = others;
        let mut is_empty = true;
        if let Some(value) = value {
            self.values.push((choice.name, value));
            is_empty = false;
        }
        while let Some((next, behind)) = rest.split_first().filter(|(next, _)| !next.starts_with('-')) {
            self.values.push((choice.name, next.clone()));
            is_empty = false;
            rest = behind;
        }
        if is_empty {
            self.fail(format!("`--{}` needs a value", choice.name));
        }
        rest
    }

    fn single<'a>(&mut self, choice: &'static Choice, value: Option<String>, others: &'a [String]) -> &'a [String] {
        let (value, rest) = match (value, others.split_first()) {
            (Some(value), _) => (Some(value), others),
            (None, Some((next, rest))) if !self.is_option(next) => (Some(next.clone()), rest),
            (None, _) => (None, others),
        };
        match (value, choice.kind) {
            (None, _) => self.fail(format!("`--{}` needs a value", choice.name)),
            (Some(value), Kind::Word(words)) if !words.contains(&value.as_str()) => {
                let meant = nearest(&value, words.iter().copied());
                let meant = meant.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
                self.fail(format!(
                    "`--{}` takes {}, not `{value}`{meant}",
                    choice.name,
                    words.join(", ")
                ));
            }
            (Some(value), _) => self.put(choice, value),
        }
        rest
    }

    fn put(&mut self, choice: &'static Choice, value: String) {
        if self.values.iter().any(|(name, _)| *name == choice.name) {
            self.fail(format!("`--{}` is given twice", choice.name));
        } else {
            self.values.push((choice.name, value));
        }
    }

    fn choices(&self) -> Vec<&'static Choice> {
        match self.verb {
            Some(verb) => verb.all_choices().collect(),
            None => COMMON.iter().collect(),
        }
    }

    fn find(&self, name: &str) -> Option<&'static Choice> {
        let is_named = |choice: &&'static Choice| match name.strip_prefix("--") {
            Some(long) => choice.name == long || choice.aliases.contains(&long),
            None => choice.short.is_some_and(|short| name == format!("-{short}")),
        };
        self.choices().into_iter().find(is_named)
    }

    /// Whether a word is an option rather than a value that begins with a dash (L8).
    fn is_option(&self, word: &str) -> bool {
        let name = word.split(['=', ':']).next().unwrap_or_default();
        let name = name.strip_suffix('+').unwrap_or(name);
        ["--", "--help", "-h", "-?", "--version"].contains(&word) || self.find(name).is_some()
    }

    fn unknown(&mut self, name: &str) {
        let choices = self.choices();
        let names = choices.iter().filter(|choice| choice.kind != Kind::Later);
        let names = names.flat_map(|choice| std::iter::once(&choice.name).chain(choice.aliases));
        let bare = name.trim_start_matches('-').to_ascii_lowercase();
        let meant = nearest(&bare, names.copied());
        let meant = meant.map_or_else(String::new, |name| format!("; did you mean `--{name}`?"));
        self.fail(format!("unknown option `{name}`{meant}"));
    }

    fn finish(mut self, args: &[String]) -> Result<Asked> {
        // A lone `-v` asks for the version; beside other words it is a flag (L4).
        if self.is_version || args == ["-v"] {
            return Ok(Asked::Version);
        }
        if self.is_help {
            return match self.trouble.take() {
                Some(stop) if self.verb.is_none() && self.words >= 2 => Err(stop),
                _ => Ok(Asked::Help(self.verb)),
            };
        }
        if let Some(stop) = self.trouble {
            return Err(stop);
        }
        let Some(verb) = self.verb else {
            return Ok(Asked::Help(None));
        };
        let given = Given {
            verb,
            program: self.program,
            values: self.values,
        };
        let missing = verb
            .choices
            .iter()
            .find(|choice| choice.is_required && given.text(choice.name).is_none_or(str::is_empty));
        match missing {
            Some(choice) if given.text(choice.name).is_some() => {
                Err(given.usage(format!("`--{}` must not be empty", choice.name)))
            }
            Some(choice) => Err(given.usage(format!("`--{}` is missing", choice.name))),
            None => Ok(Asked::Run(given)),
        }
    }
}

/// The nearest of some names, if one is near (L13).
pub(crate) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let far = (word.len() / 3).max(1);
    let near = names.map(|name| (distance(word, name), name));
    near.filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name)
}

/// How many letters have to be put, taken away, changed or swapped with the next to make one word of the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.iter().enumerate() {
        let mut next = vec![index + 1];
        for (at, other) in right.iter().enumerate() {
            let changed = row[at] + usize::from(letter != other);
            let mut least = changed.min(next[at] + 1).min(row[at + 1] + 1);
            let is_swapped = index > 0 && at > 0 && left[index - 1] == *other && right[at - 1] == *letter;
            if is_swapped {
                least = least.min(above[at - 1] + 1);
            }
            next.push(least);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    fn given(line: &[&str]) -> Given {
        match read("taskhub", &words(line)) {
            Ok(Asked::Run(given)) => given,
            other => panic!("{line:?} gives {other:?}"),
        }
    }

    fn refused(line: &[&str]) -> String {
        match read("taskhub", &words(line)) {
            Err(stop) => {
                assert_eq!(stop.exit, 2, "{line:?}");
                stop.message
            }
            other => panic!("{line:?} gives {other:?}"),
        }
    }

    #[test]
    fn values_are_taken_in_three_forms_and_may_begin_with_a_dash() {
        for line in [
            &["durable", "raise-event", "--id", "x", "--event-data", "-5"][..],
            &["durable", "raise-event", "--id=x", "--event-data=-5"],
            &["DURABLE", "Raise-Event", "--id:x", "--event-data:-5"],
            &[
                "durable",
                "--task-hub-name",
                "Other",
                "raise-event",
                "--id",
                "x",
                "--event-data",
                "-5",
            ],
        ] {
            let given = given(line);
            assert_eq!(
                (given.text("id"), given.text("event-data")),
                (Some("x"), Some("-5")),
                "{line:?}"
            );
        }
        let given = given(&[
            "durable",
            "start-new",
            "--function-name",
            "F",
            "--input",
            r#"{"a":"b c","d":"x=y:z"}"#,
        ]);
        assert_eq!(given.text("input"), Some(r#"{"a":"b c","d":"x=y:z"}"#));
    }

    #[test]
    fn booleans_have_many_forms() {
        for (form, is_on) in [
            (&["--show-input"][..], true),
            (&["--show-input", "TRUE"], true),
            (&["--show-input", "on"], true),
            (&["--show-input=1"], true),
            (&["--show-input:off"], false),
            (&["--show-input", "0"], false),
            (&["--show-input+"], true),
            (&["--show-input-"], false),
            (&["--show-input", "--strict"], true),
        ] {
            let line = [&["durable", "get-runtime-status", "--id", "x"][..], form].concat();
            assert_eq!(given(&line).flag("show-input"), Some(is_on), "{form:?}");
        }
        let line = ["durable", "get-runtime-status", "--id", "x", "--show-input", "maybe"];
        assert_eq!(refused(&line), "`--show-input` takes true or false, not `maybe`");
    }

    #[test]
    fn statuses_take_all_words_that_follow() {
        let given = given(&[
            "durable",
            "get-instances",
            "--runtime-status",
            "failed",
            "completed",
            "--top",
            "3",
            "--runtime-status=running",
        ]);
        assert_eq!(given.texts("runtime-status"), ["failed", "completed", "running"]);
        assert_eq!(given.text("top"), Some("3"));
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_may_be_meant() {
        for (line, said) in [
            (
                &["durable", "get-instnaces"][..],
                "`get-instnaces` is no durable verb; did you mean `get-instances`?",
            ),
            (&["durable", "frob"], "`frob` is no durable verb"),
            (
                &["durable", "get-instances", "--taskhub-name", "X"],
                "unknown option `--taskhub-name`; did you mean `--task-hub-name`?",
            ),
            (
                &["durable", "get-instances", "--Top", "3"],
                "unknown option `--Top`; did you mean `--top`?",
            ),
            (
                &["durable", "get-instances", "surplus"],
                "`surplus` is one word too many",
            ),
            (
                &["durable", "get-instances", "--", "--top"],
                "`--top` is one word too many",
            ),
            (&["durable", "get-history"], "`--id` is missing"),
            (&["durable", "get-history", "--id", "--strict"], "`--id` needs a value"),
            (&["durable", "get-history", "--id", ""], "`--id` must not be empty"),
            (
                &["durable", "get-history", "--id", "a", "--id", "b"],
                "`--id` is given twice",
            ),
            (
                &["durable", "get-history", "--id+"],
                "`--id+`: only flags take `+` and `-`",
            ),
            (
                &["durable", "terminate", "--id", "a", "--recursive"],
                "the option `--recursive` is not available yet",
            ),
            (
                &["durable", "suspend", "--id", "a"],
                "`durable suspend` is not available yet",
            ),
            (
                &["durable", "get-instances", "-o", "xml"],
                "`--output` takes compat, json, jsonl, ids, yaml, table, text, wide, csv, none, not `xml`",
            ),
        ] {
            assert_eq!(refused(line), said, "{line:?}");
        }
    }

    #[test]
    fn help_and_version_are_asked_for_in_many_ways() {
        for line in [
            &["durable"][..],
            &["durable", "--help"],
            &["help", "durable"],
            &["durable", "-h"],
            &["durable", "-?"],
            &["durable", "help"],
        ] {
            assert!(
                matches!(read("taskhub", &words(line)), Ok(Asked::Help(None))),
                "{line:?}"
            );
        }
        for line in [
            &["durable", "get-history", "--help"][..],
            &["help", "durable", "get-history"],
            &["durable", "get-history", "--id", "x", "--frob", "-h"],
        ] {
            let asked = read("taskhub", &words(line));
            assert!(
                matches!(asked, Ok(Asked::Help(Some(verb))) if verb.name == "get-history"),
                "{line:?}"
            );
        }
        for line in [
            &["durable", "--version"][..],
            &["durable", "start-new", "--version"],
            &["-v"],
        ] {
            assert!(matches!(read("taskhub", &words(line)), Ok(Asked::Version)), "{line:?}");
        }
    }
}
