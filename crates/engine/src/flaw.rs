//! Planted bugs, one at a time, with which tests prove that the checkers find them (feature `flaws`). Without the
//! feature they cannot be enabled.

/// A bug that a decision guards against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A terminate is acknowledged, but waits for the turn that is out, which may beat it (against A25).
    TerminateWaitsForTurn,
    /// Messages to other instances are handed over in memory only (against A29).
    MessagesSkipOutbox,
    /// A recovered message is processed again when it is delivered again (against A29).
    RepetitionsPass,
    /// The receipt of a message does not remove it from the outbox (against A29).
    ReceiptKeepsMessage,
}

/// The bug that is switched on, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaws {
    #[cfg(feature = "flaws")]
    on: Option<Flaw>,
}

impl Flaws {
    /// Switches one bug on.
    #[cfg(feature = "flaws")]
    pub fn with(flaw: Flaw) -> Self {
        Self { on: Some(flaw) }
    }

    /// Whether this bug is switched on.
    #[cfg(feature = "flaws")]
    pub(crate) fn has(self, flaw: Flaw) -> bool {
        self.on == Some(flaw)
    }

    /// No bug can be switched on in this build.
    #[cfg(not(feature = "flaws"))]
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) fn has(self, _flaw: Flaw) -> bool {
        false
    }
}
