//! Adds up the summary lines that each test program prints.

use std::fmt;

/// Tests that passed and failed so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
}

impl Counts {
    /// Adds a line of output if it is a summary.
    pub(crate) fn take(&mut self, line: &str) {
        let Some(summary) = line.trim_start().strip_prefix("test result:") else {
            return;
        };
        let words: Vec<&str> = summary.split_whitespace().collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what.trim_end_matches(';') {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }

    /// Notes that cargo reported failure. A program that died or did not compile prints no
    /// summary, and must not leave "0 failed" as the last word.
    pub(crate) fn program_failed(&mut self) {
        self.failed = self.failed.max(1);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_and_other_lines_ignored() {
        let mut counts = Counts::default();
        counts.take("running 7 tests");
        counts.take("test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out");
        counts.take("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        counts.take("12 passed");
        assert_eq!(counts.to_string(), "10 passed, 2 failed");
    }

    #[test]
    fn a_program_that_died_counts_as_one_failure() {
        let mut counts = Counts { passed: 4, failed: 0 };
        counts.program_failed();
        assert_eq!(counts, Counts { passed: 4, failed: 1 });
    }
}
