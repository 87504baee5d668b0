//! What a turn may ask for, and the answer that carries it.

use crate::event::{HistoryEvent, Tags};
use crate::failure::Failure;
use crate::id::{Fence, InstanceId, Name};
use crate::payload::{Payload, size};
use crate::time::Timestamp;

/// The tag that detaches a child: it never reports back (R75).
pub const FIRE_AND_FORGET: &str = "FireAndForget";

/// One wish of a turn. The worker numbers actions per execution, from anywhere (R31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The worker's number, which becomes the event id (R20).
    pub id: i32,
    /// The wish.
    pub kind: ActionKind,
}

/// What is wished for (gRPC §3.5, §5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "members carry the protocol's names; gRPC §3.5 says what they mean"
)]
pub enum ActionKind {
    ScheduleTask {
        name: Name,
        version: Option<Name>,
        input: Option<Payload>,
        tags: Tags,
    },
    CreateTimer {
        fire_at: Timestamp,
    },
    /// Deletes a timer that no one waits for any more; makes no event (R48, ours).
    CancelTimer {
        timer_id: i32,
    },
    CreateSubOrchestration {
        instance: Option<InstanceId>,
        name: Name,
        version: Option<Name>,
        input: Option<Payload>,
        tags: Tags,
    },
    SendEvent {
        instance: InstanceId,
        name: Name,
        input: Option<Payload>,
    },
    TerminateOrchestration {
        instance: InstanceId,
        reason: Option<Payload>,
        recurse: bool,
    },
    CompleteOrchestration(Completion),
}

impl ActionKind {
    /// Bytes of payload in it.
    pub fn size(&self) -> usize {
        match self {
            Self::ScheduleTask { input, .. }
            | Self::CreateSubOrchestration { input, .. }
            | Self::SendEvent { input, .. } => size(input.as_ref()),
            Self::TerminateOrchestration { reason, .. } => size(reason.as_ref()),
            Self::CreateTimer { .. } | Self::CancelTimer { .. } => 0,
            Self::CompleteOrchestration(completion) => match completion {
                Completion::Completed(result) | Completion::Terminated(result) => size(result.as_ref()),
                Completion::Failed(failure) => failure.size(),
                Completion::ContinuedAsNew { input, carried, .. } => {
                    size(input.as_ref()) + carried.iter().map(HistoryEvent::size).sum::<usize>()
                }
            },
        }
    }
}

/// How the orchestrator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Returned a result.
    Completed(Option<Payload>),
    /// Failed.
    Failed(Box<Failure>),
    /// Ends itself as terminated, with a reason.
    Terminated(Option<Payload>),
    /// Starts the next execution (R87).
    ContinuedAsNew {
        /// The next input.
        input: Option<Payload>,
        /// The next version, if it changes.
        version: Option<Name>,
        /// Events received but not consumed, delivered first to the next execution (R89).
        carried: Vec<HistoryEvent>,
    },
}

/// A worker's answer to one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnAnswer {
    /// The token the turn was handed out with.
    pub fence: Fence,
    /// Wishes, in the order they were made.
    pub actions: Vec<Action>,
    /// New custom status; empty clears it, absent leaves it unchanged (R96).
    pub custom_status: Option<Payload>,
    /// How many inbound events of the batch were processed, if fewer than all (R25).
    pub events_processed: Option<usize>,
}

impl TurnAnswer {
    /// Bytes of payload that it adds.
    pub fn size(&self) -> usize {
        let actions: usize = self.actions.iter().map(|action| action.kind.size()).sum();
        actions + size(self.custom_status.as_ref())
    }
}
