//! One run of a driven program, from outside: what it tells, and how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::facts::Fact;

/// Time without output after which a program counts as hanging.
const QUIET_MAX: Duration = Duration::from_mins(2);

/// A running program. It dies with this value.
#[derive(Debug)]
pub struct Life {
    child: Child,
    facts: Receiver<Fact>,
    begun: Instant,
}

impl Life {
    /// Starts a program.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn begin(mut command: Command) -> Result<Self> {
        let begun = crate::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", command.get_program().display()))?;
        let out = child.stdout.take().ok_or("the program has no output")?;
        let (to, facts) = channel();
        // It ends with the program, whose end of the pipe is the last one.
        thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            for fact in lines.filter_map(|line| Fact::parse(&line)) {
                if to.send(fact).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, facts, begun })
    }

    /// Time since it was started.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next fact, or none when the program has ended.
    ///
    /// # Errors
    ///
    /// The program hangs.
    pub fn fact(&self) -> Result<Option<Fact>> {
        match self.facts.recv_timeout(QUIET_MAX) {
            Ok(fact) => Ok(Some(fact)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(format!("the program has printed nothing for {QUIET_MAX:?}").into()),
        }
    }

    /// The next fact that comes before the program is so old.
    pub fn fact_before(&self, age: Duration) -> Option<Fact> {
        self.facts.recv_timeout(age.saturating_sub(self.age())).ok()
    }

    /// Facts up to one that is waited for, itself included.
    ///
    /// # Errors
    ///
    /// The program hangs, or ends without it.
    pub fn facts_until(&self, is_it: impl Fn(&Fact) -> bool) -> Result<Vec<Fact>> {
        let mut facts = Vec::new();
        loop {
            let fact = self.fact()?.ok_or("the program has ended early")?;
            let is_last = is_it(&fact);
            facts.push(fact);
            if is_last {
                return Ok(facts);
            }
        }
    }

    /// Kills the program, and answers what it had said by then and was not heard yet.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub fn kill(mut self) -> Result<Vec<Fact>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.facts.iter().collect())
    }

    /// Asks the program to end, as a supervisor does.
    ///
    /// # Errors
    ///
    /// There is no `kill` on the machine.
    #[cfg(unix)]
    pub fn terminate(&self) -> Result<()> {
        self.signal("-TERM")
    }

    /// Keeps the program from running until it is resumed, where the system can do that; a kill reaches it all the
    /// same.
    ///
    /// # Errors
    ///
    /// There is no `kill` on the machine.
    pub fn pause(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets a program that was paused go on.
    ///
    /// # Errors
    ///
    /// There is no `kill` on the machine.
    pub fn resume(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        if cfg!(not(unix)) {
            return Ok(());
        }
        let told = Command::new("kill").arg(signal).arg(self.pid().to_string()).status()?;
        if told.success() {
            Ok(())
        } else {
            Err(format!("the program could not be sent {signal}").into())
        }
    }

    /// Waits for the end, and answers how it was and what was said until then.
    ///
    /// # Errors
    ///
    /// The program hangs.
    pub fn end(mut self) -> Result<(ExitStatus, Vec<Fact>)> {
        let mut facts = Vec::new();
        while let Some(fact) = self.fact()? {
            facts.push(fact);
        }
        Ok((self.child.wait()?, facts))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
