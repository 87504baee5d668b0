//! What clients, timers, activities and other instances do to an instance: each a function from its
//! state to one [`Commit`]. Turns of user code are in [`crate::turn`].

use crate::Ids;
use crate::commit::{Change, Commit, Creation, Ending, Open, OpenKind, Update};
use crate::event::{EventKind, ExecutionStarted, HistoryEvent, Parent};
use crate::failure::{self, Failure};
use crate::id::{ExecutionId, IdempotencyKey, InstanceId, MessageNumber, Name, Occurrence};
use crate::instance::InstanceState;
use crate::limits;
use crate::message::{
    ChildStart, Message, OutboxBody, OutboxItem, OutboxRef, Outcome, Repeats, ReusePolicy, StartRequest,
};
use crate::payload::{Payload, size};
use crate::refusal::Refusal;
use crate::seen::{KeyUse, Operation, SeenKey};
use crate::status::{InstanceInfo, RuntimeStatus, Stall};
use crate::time::Timestamp;

/// What became of a start request.
#[derive(Debug)]
pub enum Started {
    /// The instance comes into being with this commit.
    New(Box<Commit>),
    /// The same request was accepted before; nothing changes (R139).
    Repeated,
}

/// Creates an instance, or replaces one that is in the way as far as the request allows (R136).
///
/// # Errors
///
/// `instance-exists` if it may not be replaced, `idempotency-conflict` if the key stands for another start,
/// `payload-too-large` for the input, `invalid-instance-id` for an id that no URL leads to.
pub fn create(
    existing: Option<&InstanceState>,
    request: &StartRequest,
    ids: &mut dyn Ids,
    now: Timestamp,
) -> Result<Started, Refusal> {
    request.instance.check_new()?;
    check_payload("input", request.input.as_ref())?;
    let use_of = |key| {
        (
            key,
            KeyUse::new(Operation::Start, &request.name, request.input.as_ref()),
        )
    };
    let used = request.key.as_ref().map(use_of);
    if let Some(old) = existing {
        // Of earlier generations the keys are kept, so that a late repetition does not replace what came after it.
        let own = old.keys.newest(Operation::Start).filter(|_| old.is_live());
        let is_own = |seen: &SeenKey| own == Some(seen) && seen.was_used_at(old.info.created_at);
        let seen = match &used {
            Some((key, used)) => old.keys.seen(key, used, &request.instance, now),
            None => Ok(None),
        };
        match (seen, request.repeats) {
            (Ok(Some(_)), Repeats::Always) => return Ok(Started::Repeated),
            (Ok(Some(seen)), Repeats::WhileLive) if is_own(seen) => return Ok(Started::Repeated),
            (Err(conflict), repeats) if old.is_live() || repeats == Repeats::Always => return Err(conflict),
            (_, _) => {}
        }
        if !may_replace(&request.reuse, old.info.status) {
            return Err(Refusal::InstanceExists {
                instance: request.instance.clone(),
                status: old.info.status,
            });
        }
    }
    let execution = request.execution.unwrap_or_else(|| ids.execution());
    let started = ExecutionStarted {
        name: request.name.clone(),
        version: request.version.clone(),
        input: request.input.clone(),
        instance: request.instance.clone(),
        execution,
        parent: None,
        scheduled_start: request.scheduled_start,
        tags: request.tags.clone(),
    };
    let key = used.map(|(key, used)| SeenKey::now(key, used, now));
    Ok(Started::New(Box::new(creation(existing, started, key, ids, now))))
}

fn may_replace(policy: &ReusePolicy, status: RuntimeStatus) -> bool {
    match policy {
        ReusePolicy::ReplaceEnded => status.is_terminal(),
        ReusePolicy::Replace(statuses) => statuses.contains(&status),
        ReusePolicy::ReplaceAny => true,
    }
}

/// The commit that creates an instance. A replaced instance is removed completely (R137); if it was live, it counts as
/// terminated, and its parent gets a message.
fn creation(
    old: Option<&InstanceState>,
    started: ExecutionStarted,
    key: Option<SeenKey>,
    ids: &mut dyn Ids,
    now: Timestamp,
) -> Commit {
    let info = InstanceInfo {
        instance: started.instance.clone(),
        execution: started.execution,
        ordinal: 0,
        name: started.name.clone(),
        version: started.version.clone(),
        status: RuntimeStatus::Pending,
        created_at: now,
        updated_at: now,
        completed_at: None,
        scheduled_start: started.scheduled_start,
        input: started.input.clone(),
        output: None,
        custom_status: None,
        failure: None,
        tags: started.tags.clone(),
        parent: started.parent.clone().map(Box::new),
        stalled: None,
    };
    let keeps = |seen: &&SeenKey| seen.until > now && key.as_ref().is_none_or(|key| !key.is_same(seen));
    let earlier = old.into_iter().flat_map(|old| old.keys.iter()).filter(keeps);
    let mut keys: Vec<SeenKey> = earlier.cloned().collect();
    keys.extend(key);
    let creation = Creation {
        start: Message {
            number: old.map_or(MessageNumber(0), |old| old.next_message),
            event: HistoryEvent::inbound(now, EventKind::ExecutionStarted(Box::new(started))),
            carried: Vec::new(),
        },
        info,
        next_occurrence: old.map_or(Occurrence(0), |old| old.next_occurrence),
        replaces: old.map(|old| old.number),
        keys,
    };
    let instance = creation.info.instance.clone();
    let mut commit = Commit::new(instance, ids.instance_number(), Change::Create(Box::new(creation)));
    if let Some(old) = old.filter(|old| old.is_live()) {
        let replaced = "the instance was replaced by a new one with its id";
        commit.outbox.extend(tell_parent(&old.info, terminated(replaced)));
    }
    commit
}

/// Accepts an external event (R77). `None`: an event with this key was accepted before (R83).
///
/// # Errors
///
/// `instance-not-live` if it has ended, `idempotency-conflict` if the key stands for another event, `inbox-full` (R86),
/// `payload-too-large`.
pub fn raise_event(
    state: &InstanceState,
    name: Name,
    input: Option<Payload>,
    key: Option<&IdempotencyKey>,
    now: Timestamp,
) -> Result<Option<Commit>, Refusal> {
    check_payload("event payload", input.as_ref())?;
    let seen = key.map(|key| (key, KeyUse::new(Operation::Raise, &name, input.as_ref())));
    if let Some((key, used)) = &seen
        && state.keys.seen(key, used, &state.info.instance, now)?.is_some()
    {
        return Ok(None);
    }
    check_live(state)?;
    check_room_for_event(state, &name, input.as_ref())?;
    let mut update = begin_update(state, now);
    push_message(state, &mut update, now, EventKind::EventRaised { name, input });
    update.key = seen.map(|(key, used)| SeenKey::now(key, used, now));
    Ok(Some(commit(state, update)))
}

/// Ends the instance immediately, without a turn: a terminate must work even if the orchestrator hangs or no worker has
/// it (A25, R100–R102).
///
/// # Errors
///
/// `instance-not-live` if it has ended already, `payload-too-large` for the reason.
pub fn terminate(
    state: &InstanceState,
    reason: Option<&Payload>,
    recurse: bool,
    now: Timestamp,
) -> Result<Commit, Refusal> {
    check_payload("reason", reason)?;
    check_live(state)?;
    let mut update = begin_update(state, now);
    let at = update.at;
    update
        .events
        .push(HistoryEvent::inbound(at, EventKind::OrchestratorStarted));
    for message in in_delivery_order(state) {
        update.inbox_taken.push(message.number);
        update.events.push(message.event.clone());
        update.events.extend(message.carried.iter().cloned());
    }
    update.events.push(HistoryEvent::inbound(
        at,
        EventKind::ExecutionTerminated {
            reason: reason.cloned(),
            recurse,
        },
    ));
    let completed = EventKind::ExecutionCompleted {
        status: RuntimeStatus::Terminated,
        result: reason.cloned(),
        failure: None,
    };
    update.events.push(HistoryEvent::inbound(at, completed));
    update.status = Some(RuntimeStatus::Terminated);
    update.closed = open_of(state, |kind| !matches!(kind, OpenKind::Child { .. }));
    update.ending = Some(Ending {
        output: reason.cloned(),
        failure: None,
    });
    let mut commit = commit(state, update);
    let message = reason.map(Payload::to_text).unwrap_or_default();
    commit.outbox.extend(tell_parent(&state.info, terminated(message)));
    if recurse {
        commit.outbox.extend(terminate_children(state, reason));
    }
    Ok(commit)
}

/// Sets the instance aside (R108). `None`: it is suspended already.
///
/// # Errors
///
/// `instance-not-live` if it has ended; `inbox-full` if it is so full that not even this fits. A resume always fits,
/// since it undoes a suspend.
pub fn suspend(state: &InstanceState, reason: Option<Payload>, now: Timestamp) -> Result<Option<Commit>, Refusal> {
    check_payload("reason", reason.as_ref())?;
    check_live(state)?;
    if state.info.status == RuntimeStatus::Suspended {
        return Ok(None);
    }
    let bytes = size(reason.as_ref());
    let bytes = if bytes > limits::INBOX_CONTROL_BYTES { bytes } else { 0 };
    check_room(
        state,
        limits::INBOX_MESSAGES_MAX + limits::INBOX_CONTROL_MESSAGES,
        bytes,
    )?;
    let mut update = begin_update(state, now);
    push_message(state, &mut update, now, EventKind::ExecutionSuspended { reason });
    update.status = Some(RuntimeStatus::Suspended);
    Ok(Some(commit(state, update)))
}

/// Lets a suspended instance go on (R111). `None`: it is not suspended.
///
/// # Errors
///
/// `instance-not-live` if it has ended.
pub fn resume(state: &InstanceState, reason: Option<Payload>, now: Timestamp) -> Result<Option<Commit>, Refusal> {
    check_payload("reason", reason.as_ref())?;
    check_live(state)?;
    if state.info.status != RuntimeStatus::Suspended {
        return Ok(None);
    }
    let mut update = begin_update(state, now);
    push_message(state, &mut update, now, EventKind::ExecutionResumed { reason });
    update.status = Some(state.status_unsuspended());
    Ok(Some(commit(state, update)))
}

/// Removes an ended instance (R129).
///
/// # Errors
///
/// `instance-live` if it has not ended.
pub fn purge(state: &InstanceState) -> Result<Commit, Refusal> {
    if state.is_live() {
        return Err(Refusal::InstanceLive {
            instance: state.info.instance.clone(),
            status: state.info.status,
        });
    }
    Ok(Commit::new(state.info.instance.clone(), state.number, Change::Purge))
}

/// Applies an activity's result. `None`: its occurrence is not open, so the result is dropped (R34).
pub fn complete_task(
    state: &InstanceState,
    occurrence: Occurrence,
    outcome: Outcome,
    now: Timestamp,
) -> Option<Commit> {
    let open = state.open.get(&occurrence)?;
    let OpenKind::Task { .. } = open.kind else { return None };
    let task_scheduled_id = open.event_id;
    let kind = match limit_outcome(outcome) {
        Outcome::Completed(result) => EventKind::TaskCompleted {
            task_scheduled_id,
            result,
        },
        Outcome::Failed(failure) => EventKind::TaskFailed {
            task_scheduled_id,
            failure,
        },
    };
    Some(commit(state, close_with(state, open, kind, now)))
}

/// Puts down that a task is handed out again (R183).
pub fn redeliver_task(
    state: &InstanceState,
    occurrence: Occurrence,
    deliveries: u32,
    now: Timestamp,
) -> Option<Commit> {
    state.open.get(&occurrence)?;
    let mut update = begin_update(state, now);
    update.deliveries.push((occurrence, deliveries));
    Some(commit(state, update))
}

/// Fires the timers among `due` that are still open, in that order (R45, R46).
pub fn fire_timers(state: &InstanceState, due: &[Occurrence], now: Timestamp) -> Option<Commit> {
    let mut update = begin_update(state, now);
    for occurrence in due {
        let Some(open) = state.open.get(occurrence) else {
            continue;
        };
        let OpenKind::Timer { fire_at } = open.kind else {
            continue;
        };
        assert!(fire_at < now, "a timer never fires early (R45)");
        update.closed.push(*occurrence);
        push_message(
            state,
            &mut update,
            now,
            EventKind::TimerFired {
                timer_id: open.event_id,
                fire_at,
            },
        );
    }
    (!update.closed.is_empty()).then(|| commit(state, update))
}

/// Puts down why turns of the instance fail, or that they do not any more (R41, R42, R184).
pub fn stall(state: &InstanceState, stall: Option<Stall>, now: Timestamp) -> Commit {
    let mut update = begin_update(state, now);
    update.stalled = Some(stall.map(|stall| Stall {
        reason: failure::limited_text(stall.reason),
        ..stall
    }));
    commit(state, update)
}

/// Takes in a message from another instance. The commit names the item, which removes it from the
/// sender's outbox; a receiver that is missing, ended or in the way is judged here (A29).
pub fn receive(
    state: Option<&InstanceState>,
    item: &OutboxItem,
    from: OutboxRef,
    ids: &mut dyn Ids,
    now: Timestamp,
) -> Commit {
    let mut commit = match (&item.body, state) {
        (OutboxBody::Start(start), state) => Some(receive_start(state, item, start, ids, now)),
        (OutboxBody::Event { name, input }, Some(live)) => {
            assert!(has_room_for(state, item), "an event waits until there is room for it");
            // Sent by an orchestrator: a target that has ended discards it silently (R81).
            raise_event(live, name.clone(), input.clone(), None, now).ok().flatten()
        }
        (
            OutboxBody::ChildEnded {
                execution,
                task_id,
                occurrence,
                outcome,
            },
            Some(state),
        ) => {
            let expected = state.open.get(occurrence).filter(|open| {
                open.event_id == *task_id
                    && matches!(open.kind, OpenKind::Child { .. })
                    && state.info.execution == *execution
            });
            expected.map(|open| receive_child_end(state, open, outcome, now))
        }
        (
            OutboxBody::Terminate {
                reason,
                recurse,
                child_of,
            },
            Some(state),
        ) if is_meant(state, *child_of) => {
            if state.is_live() {
                terminate(state, reason.as_ref(), *recurse, now).ok()
            } else {
                recurse.then(|| cascade(state, reason.as_ref()))
            }
        }
        (_, None) | (OutboxBody::Terminate { .. }, Some(_)) => None,
    }
    .unwrap_or_else(|| noted(state, &item.target));
    commit.consumed = Some(from);
    commit
}

/// Whether a message from another instance fits into the inbox now. An event for a live instance with a full inbox
/// waits in its sender's outbox until messages were read: it was accepted when it was sent, so it can no longer be
/// refused (P6).
pub fn has_room_for(state: Option<&InstanceState>, item: &OutboxItem) -> bool {
    match &item.body {
        OutboxBody::Event { name, input } => state
            .filter(|state| state.is_live())
            .is_none_or(|state| check_room_for_event(state, name, input.as_ref()).is_ok()),
        // These add no more than the receiver has asked for, or put an end to it.
        OutboxBody::Start(_) | OutboxBody::ChildEnded { .. } | OutboxBody::Terminate { .. } => true,
    }
}

fn receive_start(
    state: Option<&InstanceState>,
    item: &OutboxItem,
    start: &ChildStart,
    ids: &mut dyn Ids,
    now: Timestamp,
) -> Commit {
    if let Some(live) = state.filter(|state| state.is_live()) {
        let mut commit = noted(state, &item.target);
        let message = format!(
            "instance `{}` already exists and is {}",
            live.info.instance, live.info.status
        );
        let failed = Outcome::Failed(Box::new(Failure::new(failure::ALREADY_EXISTS, message)));
        commit
            .outbox
            .extend(start.parent.as_ref().map(|parent| child_ended(parent, failed)));
        return commit;
    }
    let started = ExecutionStarted {
        name: start.name.clone(),
        version: start.version.clone(),
        input: start.input.clone(),
        instance: item.target.clone(),
        execution: ids.execution(),
        parent: start.parent.clone(),
        scheduled_start: None,
        tags: start.tags.clone(),
    };
    creation(state, started, None, ids, now)
}

fn receive_child_end(state: &InstanceState, open: &Open, outcome: &Outcome, now: Timestamp) -> Commit {
    let task_scheduled_id = open.event_id;
    let kind = match limit_outcome(outcome.clone()) {
        Outcome::Completed(result) => EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id,
            result,
        },
        Outcome::Failed(failure) => EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id,
            failure,
        },
    };
    commit(state, close_with(state, open, kind, now))
}

/// Passes a recursive terminate on from an instance that has ended itself (R105).
pub fn cascade(state: &InstanceState, reason: Option<&Payload>) -> Commit {
    let mut commit = noted(Some(state), &state.info.instance);
    commit.outbox = terminate_children(state, reason);
    commit
}

/// A commit without effect on the instance: the message was only taken note of.
fn noted(state: Option<&InstanceState>, instance: &InstanceId) -> Commit {
    let number = state.map_or_else(Default::default, |state| state.number);
    Commit {
        instance: instance.clone(),
        number,
        change: None,
        outbox: Vec::new(),
        consumed: None,
    }
}

/// Whether a terminate that is passed on from a parent reaches that parent's child, not a stranger.
fn is_meant(state: &InstanceState, child_of: Option<ExecutionId>) -> bool {
    let parent = state.info.parent.as_ref().map(|parent| parent.execution);
    child_of.is_none() || child_of == parent
}

fn terminate_children(state: &InstanceState, reason: Option<&Payload>) -> Vec<OutboxItem> {
    let children = state.open.values().filter_map(|open| match &open.kind {
        OpenKind::Child { instance } => Some(instance),
        OpenKind::Task { .. } | OpenKind::Timer { .. } => None,
    });
    let body = |_| OutboxBody::Terminate {
        reason: reason.cloned(),
        recurse: true,
        child_of: Some(state.info.execution),
    };
    children
        .map(|target| OutboxItem {
            target: target.clone(),
            body: body(target),
        })
        .collect()
}

/// Closes an occurrence; its result reaches only the execution that waits (R35).
fn close_with(state: &InstanceState, open: &Open, kind: EventKind, now: Timestamp) -> Update {
    let mut update = begin_update(state, now);
    update.closed.push(open.occurrence);
    if !state.is_live() {
        // What comes after the end is neither a turn nor a control operation (R11).
        update.at = state.info.updated_at;
    } else if open.ordinal == state.info.ordinal {
        push_message(state, &mut update, now, kind);
    }
    update
}

/// The end of a child that was terminated, as its parent sees it (R69).
pub(crate) fn terminated(message: impl Into<String>) -> Outcome {
    // A reason may be as long as a payload.
    let failure = Failure::new(failure::TERMINATED, message).limited();
    Outcome::Failed(Box::new(failure.non_retriable()))
}

/// The message to the parent when its child ends.
pub(crate) fn tell_parent(info: &InstanceInfo, outcome: Outcome) -> Option<OutboxItem> {
    info.parent.as_ref().map(|parent| child_ended(parent, outcome))
}

fn child_ended(parent: &Parent, outcome: Outcome) -> OutboxItem {
    OutboxItem {
        target: parent.instance.clone(),
        body: OutboxBody::ChildEnded {
            execution: parent.execution,
            task_id: parent.task_id,
            occurrence: parent.occurrence,
            outcome,
        },
    }
}

/// The open occurrences of some kinds.
pub(crate) fn open_of(state: &InstanceState, wanted: impl Fn(&OpenKind) -> bool) -> Vec<Occurrence> {
    state
        .open
        .values()
        .filter(|open| wanted(&open.kind))
        .map(|open| open.occurrence)
        .collect()
}

/// The inbox as code is shown it: the start message first, the rest as it came (R18).
pub(crate) fn in_delivery_order(state: &InstanceState) -> impl Iterator<Item = &Message> {
    let start = if state.history_events == 0 {
        state.start_message()
    } else {
        None
    };
    let first = start.map(|message| message.number);
    start.into_iter().chain(
        state
            .inbox
            .values()
            .filter(move |message| Some(message.number) != first),
    )
}

/// An empty update made from this state; its time never goes back (R11, A27).
pub(crate) fn begin_update(state: &InstanceState, now: Timestamp) -> Update {
    Update {
        expected_history: state.history_events,
        at: now.max(state.info.updated_at),
        ..Update::default()
    }
}

pub(crate) fn commit(state: &InstanceState, update: Update) -> Commit {
    Commit::new(
        state.info.instance.clone(),
        state.number,
        Change::Update(Box::new(update)),
    )
}

/// The number of the next message that the update adds to the inbox (A30).
pub(crate) fn next_number(state: &InstanceState, update: &Update) -> MessageNumber {
    let last = update.inbox_added.last();
    last.map_or(state.next_message, |last| last.number.next())
}

/// Adds a message to the inbox, with the next number and stamped `now`.
pub(crate) fn push_message(state: &InstanceState, update: &mut Update, now: Timestamp, kind: EventKind) {
    update.inbox_added.push(Message {
        number: next_number(state, update),
        event: HistoryEvent::inbound(now, kind),
        carried: Vec::new(),
    });
}

/// Replaces a result above the payload limit by a failure that names the limit (R170), and truncates a failure to its
/// limit.
fn limit_outcome(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Completed(result) if size(result.as_ref()) > limits::PAYLOAD_BYTES_MAX => Outcome::Failed(Box::new(
            too_large("result", size(result.as_ref()), limits::PAYLOAD_BYTES_MAX),
        )),
        Outcome::Completed(_) => outcome,
        Outcome::Failed(failure) => Outcome::Failed(Box::new(failure.limited())),
    }
}

/// The failure that code sees for a payload above a limit.
pub(crate) fn too_large(what: &'static str, bytes: usize, bytes_max: usize) -> Failure {
    let refusal = Refusal::PayloadTooLarge { what, bytes, bytes_max };
    Failure::new(failure::PAYLOAD_TOO_LARGE, refusal.to_string()).non_retriable()
}

fn check_payload(what: &'static str, payload: Option<&Payload>) -> Result<(), Refusal> {
    let bytes = size(payload);
    if bytes > limits::PAYLOAD_BYTES_MAX {
        return Err(Refusal::PayloadTooLarge {
            what,
            bytes,
            bytes_max: limits::PAYLOAD_BYTES_MAX,
        });
    }
    Ok(())
}

fn check_room_for_event(state: &InstanceState, name: &Name, input: Option<&Payload>) -> Result<(), Refusal> {
    let bytes = name.as_str().len() + size(input);
    check_room(state, limits::INBOX_MESSAGES_MAX, bytes)
}

/// Whether one message of so many bytes may be added. One without bytes is not measured by them.
fn check_room(state: &InstanceState, messages_max: usize, bytes: usize) -> Result<(), Refusal> {
    let has_bytes = bytes == 0 || state.inbox_bytes() + bytes <= limits::INBOX_BYTES_MAX;
    if state.inbox.len() < messages_max && has_bytes {
        return Ok(());
    }
    Err(Refusal::InboxFull {
        instance: state.info.instance.clone(),
        messages: state.inbox.len(),
        bytes: state.inbox_bytes(),
    })
}

fn check_live(state: &InstanceState) -> Result<(), Refusal> {
    if state.is_live() {
        return Ok(());
    }
    Err(Refusal::InstanceNotLive {
        instance: state.info.instance.clone(),
        status: state.info.status,
    })
}
