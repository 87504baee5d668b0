//! The pages of `--help`, from the tables that the grammar reads (L4, L5, L77).

use std::fmt::Write as _;

use super::grammar::usage_line;
use super::verbs::{COMMON, Choice, FURTHER, Kind, VERBS, Verb};

/// The page of the context, or of one verb, of a program that was called so.
pub(crate) fn page(program: &str, verb: Option<&Verb>) -> String {
    match verb {
        Some(verb) => of_verb(program, verb),
        None => context(program),
    }
}

fn context(program: &str) -> String {
    let mut page = usage_line(program, None)
        + "\n\nWork with the instances of a task hub, beside a running server or on a stopped store.\n\nCommands:\n";
    for verb in VERBS {
        page += &row(verb.name, verb.about);
    }
    page += "\nFurther commands:\n";
    for (name, about) in FURTHER {
        page += &row(name, &format!("{about} Not available yet."));
    }
    page + &format!("\nRun `{program} durable <verb> --help` for the options of a command.\n")
}

fn row(name: &str, about: &str) -> String {
    format!("  {name:<20} {about}\n")
}

fn of_verb(program: &str, verb: &Verb) -> String {
    let mut page = format!("{}\n\n{}\n\nOptions:\n", usage_line(program, Some(verb)), verb.about);
    for choice in verb.choices.iter().filter(|choice| choice.kind != Kind::Later) {
        page += &option(choice);
    }
    page += "\nOptions of every command:\n";
    let own = |common: &&Choice| verb.choices.iter().all(|choice| choice.name != common.name);
    for choice in COMMON.iter().filter(own).filter(|choice| choice.kind != Kind::Later) {
        page += &option(choice);
    }
    page += "\nExample:\n";
    page += &example(verb.example);
    page += "\nExit codes:\n";
    for (code, meaning) in verb.exits {
        // Writing to a text cannot fail.
        let _ok = writeln!(page, "  {code:>3}  {meaning}");
    }
    page
}

/// The line, broken where a shell goes on with the next, so that help fits 100 columns (L77).
fn example(line: &str) -> String {
    const COLUMNS: usize = 96;
    let mut shown = String::new();
    let mut width = 0;
    for part in line.split(" --") {
        let part = if shown.is_empty() {
            part.to_owned()
        } else {
            format!("--{part}")
        };
        if width > 0 && width + part.len() + 3 > COLUMNS {
            shown += " \\\n      ";
            width = 6;
        } else if width > 0 {
            shown.push(' ');
            width += 1;
        } else {
            shown += "  ";
            width = 2;
        }
        width += part.len();
        shown += &part;
    }
    shown + "\n"
}

fn option(choice: &Choice) -> String {
    let kind = match choice.kind {
        Kind::Text => "<string>".to_owned(),
        Kind::Word(words) if choice.name == "output" => format!("<{}>", words[..super::verbs::OUTPUTS_HERE].join("|")),
        Kind::Word(words) => format!("<{}>", words.join("|")),
        Kind::Date => "<date>".to_owned(),
        Kind::Count => "<number>".to_owned(),
        Kind::Statuses => "<status>...".to_owned(),
        Kind::Flag => "[true|false]".to_owned(),
        Kind::Later => String::new(),
    };
    let mut names = choice.short.map_or_else(String::new, |short| format!("-{short}, "));
    names += "--";
    names += choice.name;
    for alias in choice.aliases {
        names += ", --";
        names += alias;
    }
    let mut about = choice.about.to_owned();
    if choice.is_required {
        about += " (required)";
    } else if !choice.default.is_empty() {
        let _ok = write!(about, " (default: {})", choice.default);
    }
    format!("  {names} {kind}\n      {about}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_fits_100_columns_and_names_every_option() {
        for verb in VERBS.iter().map(Some).chain([None]) {
            let page = page("taskhub", verb);
            assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
            let choices = verb
                .map(|verb| verb.all_choices().collect::<Vec<_>>())
                .unwrap_or_default();
            for choice in choices.iter().filter(|choice| choice.kind != Kind::Later) {
                assert!(page.contains(&format!("--{}", choice.name)), "{}", choice.name);
            }
        }
    }

    #[test]
    fn the_context_lists_the_verbs_in_the_order_of_core_tools() {
        let page = page("taskhub", None);
        let places: Vec<_> = VERBS
            .iter()
            .map(|verb| page.find(&format!("  {} ", verb.name)))
            .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{page}");
    }
}
