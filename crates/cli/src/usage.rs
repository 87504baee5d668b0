//! How a command is called, as an error about its command line says it (L13).

use crate::stop::Stop;

/// How a command is called.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    /// The usage line.
    line: String,
    /// The command, with the program as it was called.
    command: String,
}

impl Usage {
    /// A usage error: what is wrong, the usage line, where to read more (L13).
    pub(crate) fn error(&self, what: impl Into<String>) -> Stop {
        let mut stop = Stop::usage(what);
        stop.usage = Some(self.line.clone());
        stop.hint(format!("run `{} --help`", self.command))
    }

    /// Of a command that clap has built.
    pub(crate) fn of(command: &mut clap::Command) -> Self {
        let line = command.render_usage().to_string();
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            line: line.replacen("Usage:", "usage:", 1),
            command: command.get_bin_name().unwrap_or(command.get_name()).to_owned(),
        }
    }
}
