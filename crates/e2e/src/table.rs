//! The figures of a run with kills, for people.

use std::fmt;
use std::time::Duration;

use crate::kills::KillReport;

/// One kill, and the run before it.
#[derive(Clone, Debug, Default)]
pub struct Kill {
    /// From the start of the program until its hub was open.
    pub ready: Duration,
    /// Age of the program when it was killed.
    pub age: Duration,
    /// Starts it had sent.
    pub asked: usize,
    /// Starts it had sent and not answered.
    pub unanswered: usize,
    /// Instances with an activity that was running.
    pub active: usize,
    /// Whether both are as many as they should be.
    pub is_hit: bool,
    /// What the checker found just after.
    pub violations: usize,
}

impl fmt::Display for KillReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "| kill | ready after ms | killed after ms | starts sent | unanswered | in mid-activity | counts | violations |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|")?;
        for (kill, number) in self.kills.iter().zip(1..) {
            writeln!(
                out,
                "| {number} | {} | {} | {} | {} | {} | {} | {} |",
                kill.ready.as_millis(),
                kill.age.as_millis(),
                kill.asked,
                kill.unanswered,
                kill.active,
                if kill.is_hit { "yes" } else { "no" },
                kill.violations,
            )?;
        }
        let Self {
            checked,
            lost,
            repeated,
            acked,
            ..
        } = self;
        let (instances, events, time) = (checked.instances, checked.events, self.check_time.as_millis());
        writeln!(
            out,
            "{} kills, {} of them at work; {acked} starts are there",
            self.kills.len(),
            self.hits()
        )?;
        writeln!(
            out,
            "{lost} starts by id lost their answer: {repeated} had no effect and were repeated"
        )?;
        writeln!(
            out,
            "checked {instances} instances with {events} events in {time} ms: {} violations",
            checked.violations.len()
        )?;
        for violation in &checked.violations {
            writeln!(out, "  {violation}")?;
        }
        Ok(())
    }
}
