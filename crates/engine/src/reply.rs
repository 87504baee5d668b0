//! Where the answer to a request goes, and who has the request: its partition, or its caller again.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::oneshot;

use crate::error::Error;
use crate::io::Reply;
use crate::partition::Destination;

/// Something that a caller keeps for a request until it is done with: durable, refused or forgotten.
pub type Held = Box<dyn Any + Send>;

/// Where the answer to a request goes.
pub(crate) struct To {
    answer: oneshot::Sender<Result<Reply, Error>>,
    claim: Option<Claim>,
    /// Dropped with the request.
    _held: Option<Held>,
}

impl std::fmt::Debug for To {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("To")
    }
}

impl To {
    /// What becomes of the request goes to `answer`; with a claim, until the request is taken back.
    pub(crate) fn new(answer: oneshot::Sender<Result<Reply, Error>>, claim: Option<Claim>, held: Option<Held>) -> Self {
        Self {
            answer,
            claim,
            _held: held,
        }
    }

    /// Says that it was not done.
    pub(crate) fn refuse(self, why: impl Into<Error>) {
        let _nobody_listens = self.answer.send(Err(why.into()));
    }

    pub(crate) fn answer(self, reply: Reply) {
        // A caller that went away wants no answer.
        let _nobody_listens = self.answer.send(Ok(reply));
    }

    /// Whether the request is still wanted. From now on its caller waits until it is known what became of it.
    pub(crate) fn begin(&self) -> bool {
        self.claim.as_ref().is_none_or(Claim::begin)
    }
}

impl Destination for To {
    fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }

    fn note_made(&self) {
        if let Some(claim) = &self.claim {
            claim.0.store(MADE, Ordering::Release);
        }
    }
}

/// A request has it once: either its partition, which begins it, or its caller, who takes it back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicU8>);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
/// Its commit is made.
const MADE: u8 = 2;
const TAKEN_BACK: u8 = 3;

impl Claim {
    /// Whether its caller has it back, and nothing comes of it.
    pub(crate) fn take_back(&self) -> bool {
        self.take(TAKEN_BACK)
    }

    /// Whether its commit is made.
    pub(crate) fn is_made(&self) -> bool {
        self.0.load(Ordering::Acquire) == MADE
    }

    /// Whether its partition has it from now on.
    fn begin(&self) -> bool {
        self.take(BEGUN)
    }

    fn take(&self, to: u8) -> bool {
        let taken = self
            .0
            .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok()
    }
}
