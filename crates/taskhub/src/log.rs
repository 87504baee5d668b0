//! Logging of orchestrators: a line is written when its code runs for the first time, not on replay (R182).

use std::fmt::Display;

use tracing::{Level, debug, error, info, trace, warn};

use crate::orchestrator::OrchestrationContext;

/// Writes an event of a level that is known here, with the fields every line carries.
macro_rules! write_event {
    ($write:ident, $identity:expr, $message:expr) => {
        $write!(
            target: "taskhub::orchestrator",
            instance = %$identity.instance,
            execution = %$identity.execution,
            name = %$identity.name,
            version = $identity.version.as_ref().map_or("", |version| version.as_str()),
            "{}",
            $message
        )
    };
}

impl OrchestrationContext {
    /// Logs a line, unless the code is being replayed. It carries the instance, the execution, and the
    /// orchestrator's name and version.
    pub fn log(&self, level: Level, message: impl Display) {
        let is_repeated = {
            let ledger = self.shared.ledger.borrow();
            ledger.is_replaying || ledger.is_check
        };
        if is_repeated {
            return;
        }
        let identity = &self.shared.identity;
        match level {
            Level::ERROR => write_event!(error, identity, message),
            Level::WARN => write_event!(warn, identity, message),
            Level::INFO => write_event!(info, identity, message),
            Level::DEBUG => write_event!(debug, identity, message),
            Level::TRACE => write_event!(trace, identity, message),
        }
    }

    /// Logs an error.
    pub fn log_error(&self, message: impl Display) {
        self.log(Level::ERROR, message);
    }

    /// Logs a warning.
    pub fn log_warn(&self, message: impl Display) {
        self.log(Level::WARN, message);
    }

    /// Logs what happens.
    pub fn log_info(&self, message: impl Display) {
        self.log(Level::INFO, message);
    }

    /// Logs a detail.
    pub fn log_debug(&self, message: impl Display) {
        self.log(Level::DEBUG, message);
    }
}
