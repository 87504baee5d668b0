//! Finds the rules (`R17`, `A3`) and scenarios (`S-hello-sequence`) that files cite, and reads the
//! lists of those that exist.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, Source};
use crate::tree::{self, File};

/// The list of rules.
pub(crate) const RULES: &str = "docs/rules.md";
/// The list of scenarios.
pub(crate) const SCENARIOS: &str = "docs/scenarios.md";
/// The scenarios that no test covers yet.
pub(crate) const OPEN: &str = "docs/scenarios-open.txt";

/// Letters that begin a rule: semantics, decisions, promises, invariants, HTTP, command line.
const LETTERS: &[u8] = b"RAPIHL";

/// The longest range, as in R100–R102, that is taken as a citation of all in between.
const RANGE_MAX: u32 = 50;

/// What is listed and what is cited, over the whole repository.
#[derive(Debug, Default)]
pub(crate) struct Citations {
    /// Rules with a row in the list.
    pub(crate) rules: BTreeSet<String>,
    /// Scenarios with a row in the list.
    pub(crate) scenarios: BTreeSet<String>,
    /// Scenarios named in the list of open ones.
    pub(crate) open: BTreeSet<String>,
    /// Cited rules, each with the first file that cites it.
    pub(crate) cited_rules: BTreeMap<String, String>,
    /// Cited scenarios and the names of scenario tests, each with the first file.
    pub(crate) cited_scenarios: BTreeMap<String, String>,
    /// Listed scenarios that a test or a scenario script names.
    pub(crate) covered: BTreeSet<String>,
}

impl Citations {
    /// Reads the lists, then everything that may cite them.
    pub(crate) fn collect(files: &[File]) -> Self {
        let text_of = |path: &str| {
            let found = files.iter().find(|file| file.path == path);
            found.and_then(|file| file.text.as_deref()).unwrap_or_default()
        };
        let rows = |path: &str| text_of(path).lines().filter_map(row_name).collect::<Vec<_>>();
        let mut all = Self {
            rules: rows(RULES)
                .into_iter()
                .filter(|name| is_rule(name))
                .map(str::to_owned)
                .collect(),
            scenarios: rows(SCENARIOS)
                .into_iter()
                .filter(|name| name.starts_with("S-"))
                .map(str::to_owned)
                .collect(),
            open: text_of(OPEN)
                .lines()
                .map(str::trim)
                .filter(|l| !l.is_empty())
                .map(str::to_owned)
                .collect(),
            ..Self::default()
        };
        for file in files {
            if let Some(text) = file.text.as_deref().filter(|_| may_cite(&file.path)) {
                all.take(&file.path, text);
            }
        }
        all
    }

    fn take(&mut self, path: &str, text: &str) {
        for rule in rules_in(text) {
            self.cited_rules.entry(rule).or_insert_with(|| path.to_owned());
        }
        for name in scenarios_in(text) {
            self.cited_scenarios.entry(name).or_insert_with(|| path.to_owned());
        }
        let covering = match tree::extension(path) {
            "rs" => self.take_tests(path, text),
            "txt" => scenarios_in(text),
            _ => BTreeSet::new(),
        };
        self.covered
            .extend(covering.into_iter().filter(|name| self.scenarios.contains(name)));
    }

    /// The scenarios that the tests of one file name, in citations or as function names.
    fn take_tests(&mut self, path: &str, text: &str) -> BTreeSet<String> {
        let source = Source::new(path, text);
        let in_tests = |line: usize| source.is_test.get(line).copied().unwrap_or_default();
        let test_lines = text.lines().enumerate().filter(|(index, _)| in_tests(*index));
        let mut covering: BTreeSet<String> = test_lines.flat_map(|(_, line)| scenarios_in(line)).collect();
        for (name, span) in source.functions() {
            if name.starts_with("s_") && in_tests(source.line_of(span.start)) {
                let scenario = scenario_of(name, &self.scenarios);
                self.cited_scenarios
                    .entry(scenario.clone())
                    .or_insert_with(|| path.to_owned());
                covering.insert(scenario);
            }
        }
        covering
    }
}

/// The lists do not cite themselves, and the tests of this crate are full of invented names.
fn may_cite(path: &str) -> bool {
    let own = path.starts_with("xtask/") || [RULES, SCENARIOS, OPEN].contains(&path);
    !own && ["rs", "md", "txt"].contains(&tree::extension(path))
}

/// The first cell of a table row.
pub(crate) fn row_name(line: &str) -> Option<&str> {
    let cell = line.trim().strip_prefix('|')?.split('|').next()?;
    Some(cell.trim()).filter(|cell| is_rule(cell) || cell.starts_with("S-"))
}

/// The scenario a test function stands for. A name may go on where one scenario needs several
/// tests: `s_lease_steal_twice` belongs to `S-lease-steal`.
fn scenario_of(function: &str, listed: &BTreeSet<String>) -> String {
    let own = format!("S-{}", function.trim_start_matches("s_").replace('_', "-"));
    let is_longer = |name: &&String| {
        own.strip_prefix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    listed
        .iter()
        .filter(is_longer)
        .max_by_key(|name| name.len())
        .cloned()
        .unwrap_or(own)
}

fn is_rule(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.first().is_some_and(|b| LETTERS.contains(b))
        && bytes.len() > 1
        && bytes.iter().skip(1).all(u8::is_ascii_digit)
}

/// The rules a text cites; a range cites what lies between.
pub(crate) fn rules_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let tokens: Vec<(usize, &str)> = tokens(text).filter(|(_, word)| is_rule(word)).collect();
    for (index, (at, word)) in tokens.iter().enumerate() {
        found.insert((*word).to_owned());
        if let Some((next_at, next)) = tokens.get(index + 1)
            && text
                .get(at + word.len()..*next_at)
                .is_some_and(|gap| ["-", "–"].contains(&gap))
        {
            found.extend(between(word, next));
        }
    }
    found
}

fn between(first: &str, last: &str) -> Vec<String> {
    let number = |word: &str| word.get(1..).and_then(|digits| digits.parse::<u32>().ok());
    let letter = |word: &str| word.get(..1).unwrap_or_default().to_owned();
    match (number(first), number(last)) {
        (Some(low), Some(high)) if letter(first) == letter(last) && high.saturating_sub(low) <= RANGE_MAX => {
            (low..high).map(|n| format!("{}{n}", letter(first))).collect()
        }
        _ => Vec::new(),
    }
}

fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// The scenarios a text cites.
pub(crate) fn scenarios_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut found = BTreeSet::new();
    for at in source::words(text, "S") {
        let rest = text.get(at + 1..).unwrap_or_default();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().trim_end_matches('-');
        if name.len() > 2 && name.starts_with('-') {
            found.insert(format!("S{name}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &BTreeSet<String>) -> Vec<&str> {
        found.iter().map(String::as_str).collect()
    }

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            size_bytes: 0,
            text: Some(text.to_owned()),
        }
    }

    fn lists() -> Vec<File> {
        vec![
            file(RULES, "| rule | what |\n|---|---|\n| R1 | one |\n| A2 | two |\n"),
            file(
                SCENARIOS,
                "| S-lease-steal | x |\n| S-child | x |\n| S-child-can | x |\n",
            ),
            file(OPEN, "S-child\n"),
        ]
    }

    #[test]
    fn rules_are_whole_words_and_ranges_include_the_middle() {
        assert_eq!(
            names(&rules_in("as R17 says (A3), not xR5, R2D, R_1, r4 or AR7")),
            ["A3", "R17"]
        );
        assert_eq!(names(&rules_in("R9–R11")), ["R10", "R11", "R9"]);
        assert_eq!(names(&rules_in("R1, R4")), ["R1", "R4"]);
    }

    #[test]
    fn scenarios_end_where_the_name_ends() {
        assert_eq!(
            names(&scenarios_in("see S-can-basic, S-fanout-10k. (S-a-) US-east S- S3")),
            ["S-can-basic", "S-fanout-10k"]
        );
    }

    #[test]
    fn a_test_function_covers_the_longest_scenario_its_name_begins_with() {
        let text = "#[test]\nfn s_child_can_twice() {}\n#[test]\nfn s_no_such() {}\n";
        let mut files = lists();
        files.push(file("crates/x/tests/a.rs", text));
        let all = Citations::collect(&files);
        assert_eq!(names(&all.covered), ["S-child-can"]);
        assert!(all.cited_scenarios.contains_key("S-no-such"));
    }

    #[test]
    fn a_citation_covers_only_in_tests_and_scripts() {
        let mut files = lists();
        files.push(file("crates/x/src/a.rs", "// S-lease-steal\nfn s_child() {}\n"));
        files.push(file("crates/x/tests/turns/a.txt", "# S-child\n"));
        let all = Citations::collect(&files);
        assert_eq!(names(&all.covered), ["S-child"]);
        assert!(all.cited_scenarios.contains_key("S-lease-steal"));
    }

    #[test]
    fn the_lists_are_read_and_do_not_cite_themselves() {
        let all = Citations::collect(&lists());
        assert_eq!(names(&all.rules), ["A2", "R1"]);
        assert_eq!(names(&all.open), ["S-child"]);
        assert!(all.cited_rules.is_empty());
    }
}
