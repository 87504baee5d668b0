//! The reports of a driven program: one line per fact, written immediately, so that what was reported when the program
//! died is what had happened by then.

use std::fmt;
use std::io::{self, Write};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The hub is open.
    Ready,
    /// A job of an earlier run was found live; it is seen to its end.
    Live(u32),
    /// All starts were reported.
    Listed,
    /// A start is about to be sent.
    Asked(u32),
    /// A start was answered: the instance is on disk.
    Acked(u32, String),
    /// An activity call was handed out: job, step, delivery.
    Begun(u32, u32, u32),
    /// An activity call is about to return.
    Done(u32, u32),
    /// The event of a job was acknowledged.
    Raised(u32),
    /// A job was seen to end, with this status.
    Ended(u32, String),
    /// A call about a job gave an error, with this code.
    Failed(u32, String),
    /// The hub could not be opened: code and text.
    Closed(String, String),
    /// Everything asked for is done.
    Finished,
    /// The hub is stopping; it dispatches nothing more.
    Stopping,
    /// The hub was stopped in an orderly way.
    Stopped,
}

impl fmt::Display for Fact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(out, "ready"),
            Self::Live(job) => write!(out, "live {job}"),
            Self::Listed => write!(out, "listed"),
            Self::Asked(job) => write!(out, "asked {job}"),
            Self::Acked(job, instance) => write!(out, "acked {job} {instance}"),
            Self::Begun(job, step, delivery) => write!(out, "begun {job} {step} {delivery}"),
            Self::Done(job, step) => write!(out, "done {job} {step}"),
            Self::Raised(job) => write!(out, "raised {job}"),
            Self::Ended(job, status) => write!(out, "ended {job} {status}"),
            Self::Failed(job, code) => write!(out, "failed {job} {code}"),
            Self::Closed(code, text) => write!(out, "closed {code} {text}"),
            Self::Finished => write!(out, "finished"),
            Self::Stopping => write!(out, "stopping"),
            Self::Stopped => write!(out, "stopped"),
        }
    }
}

impl Fact {
    /// Writes the line to standard output in one piece. A driver that went away is not the program's trouble.
    pub fn tell(&self) {
        let line = format!("{self}\n");
        let mut out = io::stdout().lock();
        let _nobody_reads = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }

    /// Reads a line.
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split(' ');
        let mut number = || words.next()?.parse().ok();
        Some(match word {
            "ready" => Self::Ready,
            "live" => Self::Live(number()?),
            "listed" => Self::Listed,
            "asked" => Self::Asked(number()?),
            "acked" => Self::Acked(number()?, words.next()?.to_owned()),
            "begun" => Self::Begun(number()?, number()?, number()?),
            "done" => Self::Done(number()?, number()?),
            "raised" => Self::Raised(number()?),
            "ended" => Self::Ended(number()?, words.next()?.to_owned()),
            "failed" => Self::Failed(number()?, words.next()?.to_owned()),
            "closed" => {
                let (code, text) = rest.split_once(' ')?;
                Self::Closed(code.to_owned(), text.to_owned())
            }
            "finished" => Self::Finished,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_read_as_it_was_written() {
        let facts = [
            Fact::Ready,
            Fact::Live(7),
            Fact::Listed,
            Fact::Asked(7),
            Fact::Acked(7, "job-7".to_owned()),
            Fact::Begun(7, 2, 1),
            Fact::Done(7, 2),
            Fact::Raised(7),
            Fact::Ended(7, "Completed".to_owned()),
            Fact::Failed(7, "overloaded".to_owned()),
            Fact::Closed("store-locked".to_owned(), "in use by process 1".to_owned()),
            Fact::Finished,
            Fact::Stopping,
            Fact::Stopped,
        ];
        for fact in facts {
            assert_eq!(Fact::parse(&fact.to_string()), Some(fact));
        }
        assert_eq!(Fact::parse("asked x"), None);
        assert_eq!(Fact::parse("else"), None);
    }
}
