//! Status words of the command line (L11).

use taskhub_core::status::RuntimeStatus;

use super::grammar::Given;
use crate::stop::Result;

/// The words, for messages and completions.
pub(crate) const WORDS: [&str; 10] = [
    "running",
    "completed",
    "continuedasnew",
    "failed",
    "canceled",
    "terminated",
    "pending",
    "suspended",
    "active",
    "ended",
];

/// The statuses of `--runtime-status`, in the order given, each once: one quoted word with blanks, several
/// words, commas, or the option repeated; names in any case, numbers (R4), `active` and `ended`.
pub(crate) fn read(given: &Given) -> Result<Vec<RuntimeStatus>> {
    let mut statuses = Vec::new();
    for text in given.texts("runtime-status") {
        for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
            let Some(meant) = of_word(word) else {
                let what = format!("`{word}` is no status; {} are", WORDS.join(", "));
                return Err(given.usage(what));
            };
            for status in meant {
                if !statuses.contains(&status) {
                    statuses.push(status);
                }
            }
        }
    }
    if statuses.is_empty() && !given.texts("runtime-status").is_empty() {
        return Err(given.usage("`--runtime-status` needs a value"));
    }
    Ok(statuses)
}

fn of_word(word: &str) -> Option<Vec<RuntimeStatus>> {
    use RuntimeStatus::{Canceled, Completed, Failed, Pending, Running, Suspended, Terminated};
    if let Ok(number) = word.parse::<u8>() {
        return RuntimeStatus::from_number(number).map(|status| vec![status]);
    }
    match word.to_ascii_lowercase().as_str() {
        "active" => Some(vec![Pending, Running, Suspended]),
        "ended" => Some(vec![Completed, Failed, Terminated, Canceled]),
        "cancelled" => Some(vec![Canceled]),
        lower => {
            let named = |status: &RuntimeStatus| status.to_string().eq_ignore_ascii_case(lower);
            RuntimeStatus::ALL.into_iter().find(named).map(|status| vec![status])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::grammar::{self, Asked};
    use super::*;

    fn of(words: &[&str]) -> std::result::Result<Vec<RuntimeStatus>, String> {
        let line = [&["durable", "get-instances"][..], words].concat();
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        match grammar::read("taskhub", &line) {
            Ok(Asked::Run(given)) => read(&given).map_err(|stop| stop.message),
            other => panic!("{words:?} gives {other:?}"),
        }
    }

    #[test]
    fn every_form_gives_the_statuses_in_the_order_given() {
        use RuntimeStatus::{Canceled, Completed, Failed, Pending, Running, Suspended, Terminated};
        for (words, statuses) in [
            (&["--runtime-status", "failed completed"][..], vec![Failed, Completed]),
            (&["--runtime-status", "Failed", "COMPLETED"], vec![Failed, Completed]),
            (&["--runtime-status", "failed,completed"], vec![Failed, Completed]),
            (
                &["--runtime-status=failed", "--runtime-status", "completed,failed"],
                vec![Failed, Completed],
            ),
            (&["--runtime-status", "cancelled", "canceled"], vec![Canceled]),
            (&["--runtime-status", "7", "0"], vec![Suspended, Running]),
            (&["--runtime-status", "active"], vec![Pending, Running, Suspended]),
            (
                &["--runtime-status", "ended"],
                vec![Completed, Failed, Terminated, Canceled],
            ),
        ] {
            assert_eq!(of(words), Ok(statuses), "{words:?}");
        }
        assert!(
            of(&["--runtime-status", "faild"])
                .unwrap_err()
                .starts_with("`faild` is no status")
        );
        assert!(
            of(&["--runtime-status", "8"])
                .unwrap_err()
                .starts_with("`8` is no status")
        );
        assert_eq!(
            of(&["--runtime-status", " "]).unwrap_err(),
            "`--runtime-status` needs a value"
        );
    }
}
