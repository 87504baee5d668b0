//! What a command that failed says: the condition's word, what was attempted, the causes, where to read on.

use std::error::Error;
use std::fmt;

use taskhub::HubError;
use taskhub_store::Error as StoreError;

/// Why a command gave no answer.
#[derive(Debug)]
pub(crate) struct Trouble {
    attempt: Option<String>,
    cause: Box<dyn Error + Send + Sync>,
}

/// Result of a command.
pub(crate) type Result<T, E = Trouble> = std::result::Result<T, E>;

impl<E: Error + Send + Sync + 'static> From<E> for Trouble {
    fn from(cause: E) -> Self {
        Self {
            attempt: None,
            cause: cause.into(),
        }
    }
}

impl Trouble {
    /// The same, saying what was attempted and on what.
    pub(crate) fn while_trying(attempt: String, cause: impl Into<Self>) -> Self {
        Self {
            attempt: Some(attempt),
            ..cause.into()
        }
    }

    /// The stable word of the condition; each that has one has a page in `docs/errors/`.
    pub(crate) fn code(&self) -> &'static str {
        if let Some(error) = self.cause.downcast_ref::<HubError>() {
            error.code()
        } else if let Some(error) = self.cause.downcast_ref::<StoreError>() {
            error.code()
        } else {
            "failed"
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error[{}]: ", self.code())?;
        if let Some(attempt) = &self.attempt {
            write!(out, "{attempt}: ")?;
        }
        writeln!(out, "{}", self.cause)?;
        let mut source = self.cause.source();
        while let Some(cause) = source {
            writeln!(out, "  because: {cause}")?;
            source = cause.source();
        }
        if self.code() != "failed" {
            writeln!(out, "hint: docs/errors/{}.md says more", self.code())?;
        }
        Ok(())
    }
}
