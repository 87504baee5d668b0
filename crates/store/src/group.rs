//! The unit of a commit, and the reserved space that it may use on a full disk.

use taskhub_core::commit::{Change, Commit};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::{Epoch, Seq};
use taskhub_core::message::Message;

use crate::PartitionKey;

/// One atomic unit of commits, in order, shared with the writer's thread and never copied (A41).
#[derive(Debug, Default)]
pub struct Group {
    /// Runs of commits. A partition may have several, in causal order (A33).
    pub sections: Vec<Section>,
}

/// Largest commit that may be made in a share of the room that is kept, in bytes of payload and names.
const SMALL_COMMIT_BYTES_MAX: usize = 64 << 10;

/// The part of the reserve that an operation may use on a full disk (A43).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// It waits until there is some.
    Free,
    /// In a share of the room that is kept, so that enough stays for what makes some.
    Share,
    /// In all of the room that is kept.
    Kept,
}

impl Group {
    /// The part of the reserve that the group may use on a full disk: all of it if the group only removes instances; a
    /// share if it also terminates, suspends or resumes instances, which needs little space and lets an operator end
    /// live instances first.
    pub fn room(&self) -> Room {
        if self.sections.is_empty() {
            return Room::Free;
        }
        let mut room = Room::Kept;
        for commit in self.sections.iter().flat_map(|section| &section.commits) {
            room = room.min(room_of(commit));
            if room == Room::Free {
                break;
            }
        }
        room
    }
}

fn room_of(commit: &Commit) -> Room {
    let update = match &commit.change {
        Some(Change::Purge) => return Room::Kept,
        Some(Change::Update(update)) => update,
        Some(Change::Create(_)) | None => return Room::Free,
    };
    let is_control = |message: &Message| {
        matches!(
            message.event.kind,
            EventKind::ExecutionSuspended { .. } | EventKind::ExecutionResumed { .. }
        )
    };
    let is_end = |event: &HistoryEvent| matches!(event.kind, EventKind::ExecutionTerminated { .. });
    let is_terminated = update.events.iter().any(is_end);
    let is_set_aside = !update.inbox_added.is_empty() && update.inbox_added.iter().all(is_control);
    let adds_work = !update.opened.is_empty() || update.continued.is_some();
    let events = update.events.iter().map(HistoryEvent::size);
    let bytes: usize = events.chain(update.inbox_added.iter().map(Message::size)).sum();
    if !adds_work && (is_terminated || is_set_aside) && bytes <= SMALL_COMMIT_BYTES_MAX {
        Room::Share
    } else {
        Room::Free
    }
}

/// Consecutive commits of one partition.
#[derive(Clone, Debug)]
pub struct Section {
    pub partition: PartitionKey,
    /// The fence they were made under.
    pub epoch: Epoch,
    /// Number of the first; the others follow without a gap.
    pub first_seq: Seq,
    pub commits: Vec<Commit>,
}
