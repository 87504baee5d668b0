//! The verbs as the completion generator wants them, made from the same tables (L76).

use super::statuses::WORDS;
use super::verbs::{Choice, Kind, OUTPUTS, OUTPUTS_HERE, VERBS};
use clap::{Arg, ArgAction, Command};

/// The context with its verbs.
pub(crate) fn completions() -> Command {
    let verbs = VERBS.iter().map(|verb| {
        let choices = verb.all_choices().filter(|choice| choice.kind != Kind::Later);
        Command::new(verb.name).about(verb.about).args(choices.map(argument))
    });
    Command::new("durable")
        .about("Work with the instances of a task hub, as `func durable` does.")
        .subcommands(verbs)
}

fn argument(choice: &'static Choice) -> Arg {
    let mut argument = Arg::new(choice.name).long(choice.name).help(choice.about);
    argument = argument.visible_aliases(choice.aliases.to_vec());
    if let Some(short) = choice.short {
        argument = argument.short(short);
    }
    match choice.kind {
        Kind::Word(words) if words == OUTPUTS => argument.value_parser(OUTPUTS[..OUTPUTS_HERE].to_vec()),
        Kind::Word(words) => argument.value_parser(words.to_vec()),
        Kind::Statuses => argument.value_parser(WORDS).num_args(1..),
        Kind::Flag => argument.action(ArgAction::SetTrue),
        Kind::Text | Kind::Date | Kind::Count | Kind::Later => argument,
    }
}
