//! What must be true of each single commit, whatever came before it.

use taskhub_core::commit::{Commit, OpenKind, Update};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::InstanceId;
use taskhub_core::message::OutboxBody;

use crate::Violation;
use crate::journal::Book;
use crate::plan::text;
use crate::reference::Reference;

/// An end is told to the parent, once, and a recursive terminate to every child (R69, R104, A25).
pub(crate) fn tells_of_its_end(state: &Reference, update: &Update, commit: &Commit) -> Result<(), Violation> {
    let tells_parent = |item: &&taskhub_core::message::OutboxItem| match (&item.body, &state.info.parent) {
        (OutboxBody::ChildEnded { occurrence, .. }, Some(parent)) => {
            item.target == parent.instance && *occurrence == parent.occurrence
        }
        _ => false,
    };
    let told = commit.outbox.iter().filter(tells_parent).count();
    let wanted = usize::from(update.ending.is_some() && state.info.parent.is_some());
    if told != wanted {
        let what = format!(
            "`{}` tells its parent {told} times of its end: {commit:?}",
            commit.instance
        );
        return Err(Violation::new("I5", what));
    }
    let is_recursive =
        |event: &HistoryEvent| matches!(event.kind, EventKind::ExecutionTerminated { recurse: true, .. });
    if !update.events.iter().any(is_recursive) {
        return Ok(());
    }
    for open in state.open.values() {
        let OpenKind::Child { instance: child } = &open.kind else {
            continue;
        };
        let ends = |item: &taskhub_core::message::OutboxItem| {
            item.target == *child && matches!(item.body, OutboxBody::Terminate { recurse: true, .. })
        };
        if !commit.outbox.iter().any(ends) {
            return Err(Violation::new(
                "I5",
                format!("`{}` ends without its child `{child}`", commit.instance),
            ));
        }
    }
    Ok(())
}

/// What a commit records as sent or started goes into the outbox with it, and nothing else does (A29, I5).
pub(crate) fn says_what_it_records(
    instance: &InstanceId,
    events: &[HistoryEvent],
    commit: &Commit,
) -> Result<(), Violation> {
    let recorded = events.iter().filter_map(|event| match &event.kind {
        EventKind::SubOrchestrationInstanceCreated { instance: child, .. } => Some(format!("start {child}")),
        EventKind::EventSent {
            instance: target,
            input,
            ..
        } if target != instance => Some(format!("event {target} {}", text(input.as_ref()))),
        _ => None,
    });
    let sent = commit.outbox.iter().filter_map(|item| match &item.body {
        OutboxBody::Start(_) => Some(format!("start {}", item.target)),
        OutboxBody::Event { input, .. } => Some(format!("event {} {}", item.target, text(input.as_ref()))),
        OutboxBody::ChildEnded { .. } | OutboxBody::Terminate { .. } => None,
    });
    let (recorded, sent): (Vec<String>, Vec<String>) = (recorded.collect(), sent.collect());
    if recorded == sent {
        return Ok(());
    }
    Err(Violation::new(
        "I5",
        format!("`{instance}` records {recorded:?} and sends {sent:?}"),
    ))
}

/// The status is the fold of history and inbox (I3), and nothing is left of what an end ends.
pub(crate) fn check_status(instance: &InstanceId, book: &Book) -> Result<(), Violation> {
    let Some(record) = book.records.last() else {
        return Ok(());
    };
    let state = &book.state;
    let unread = state.inbox.values().map(|message| &message.event.kind);
    let folded = record.status(state.info.ordinal == 0, unread);
    if folded != state.info.status {
        let what = format!(
            "`{instance}` is {} and its history and inbox say {folded}",
            state.info.status
        );
        return Err(Violation::new("I3", what));
    }
    let has_timer = state
        .open
        .values()
        .any(|open| matches!(open.kind, OpenKind::Timer { .. }));
    if has_timer && !state.is_live() {
        return Err(Violation::new(
            "I6",
            format!("`{instance}` has ended and still has a timer (R28)"),
        ));
    }
    if state.info.ordinal as usize + 1 != book.records.len() {
        return Err(Violation::new(
            "I4",
            format!("`{instance}` counts {} executions", state.info.ordinal),
        ));
    }
    Ok(())
}
