//! What is committed at once, and in which room it may be when there is no other.

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

/// In which room something is made while there is no other (A43).
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
    /// In which room it may be made while there is no other: in all that is kept if it does nothing but remove
    /// instances; in a share if what it does besides is little, and what an operator gets by with: it terminates, suspends
    /// and resumes instances.
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
    /// The partition.
    pub partition: PartitionKey,
    /// The fence they were made under.
    pub epoch: Epoch,
    /// Number of the first; the others follow without a gap.
    pub first_seq: Seq,
    /// The commits.
    pub commits: Vec<Commit>,
}
