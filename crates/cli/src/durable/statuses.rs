//! Status words of the command line (L11).

use taskhub_core::status::RuntimeStatus;

/// The words, for messages, help and completions.
pub(super) const WORDS: &[&str] = &[
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
/// words, commas, or the option repeated; names in any case, numbers (R4), `active` and `ended`. Or what is wrong.
pub(super) fn read(texts: &[String]) -> Result<Vec<RuntimeStatus>, String> {
    let mut statuses = Vec::new();
    for text in texts {
        for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
            let Some(meant) = of_word(word) else {
                return Err(format!("unknown status '{word}'; expected {}", WORDS.join(", ")));
            };
            for status in meant {
                if !statuses.contains(&status) {
                    statuses.push(status);
                }
            }
        }
    }
    if statuses.is_empty() && !texts.is_empty() {
        return Err("a value is required for '--runtime-status <STATUS>...' but none was supplied".to_owned());
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
    use super::*;

    fn of(texts: &[&str]) -> Result<Vec<RuntimeStatus>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        read(&texts)
    }

    #[test]
    fn every_form_gives_the_statuses_in_the_order_given() {
        use RuntimeStatus::{Canceled, Completed, Failed, Pending, Running, Suspended, Terminated};
        for (words, statuses) in [
            (&["failed completed"][..], vec![Failed, Completed]),
            (&["Failed", "COMPLETED"], vec![Failed, Completed]),
            (&["failed,completed"], vec![Failed, Completed]),
            (&["failed", "completed,failed"], vec![Failed, Completed]),
            (&["cancelled", "canceled"], vec![Canceled]),
            (&["7", "0"], vec![Suspended, Running]),
            (&["active"], vec![Pending, Running, Suspended]),
            (&["ended"], vec![Completed, Failed, Terminated, Canceled]),
        ] {
            assert_eq!(of(words), Ok(statuses), "{words:?}");
        }
        assert!(
            of(&["faild"])
                .unwrap_err()
                .starts_with("unknown status 'faild'; expected running, ")
        );
        assert!(of(&["8"]).unwrap_err().starts_with("unknown status '8'"));
        assert_eq!(
            of(&[" "]).unwrap_err(),
            "a value is required for '--runtime-status <STATUS>...' but none was supplied"
        );
    }
}
