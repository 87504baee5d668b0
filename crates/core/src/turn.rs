//! One turn: recorded history and new messages in, one [`Commit`] out.
//!
//! A turn has two halves because user code runs in between. [`begin`] decides what the worker is
//! shown; [`finish`] decides what its answer changes. Neither stores anything: the engine commits
//! the result as a whole (R26), so a crash between the halves costs a repetition, never a loss.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Ids;
use crate::action::{Action, ActionKind, Completion, FIRE_AND_FORGET, TurnAnswer};
use crate::commit::{Change, Commit, Continued, Ending, Open, OpenKind, Update};
use crate::control::{
    begin_update, in_delivery_order, next_number, open_of, push_message, tell_parent, terminated, too_large,
};
use crate::event::{EventKind, ExecutionStarted, HistoryEvent, Parent, Tags};
use crate::failure::{self, Failure};
use crate::id::{ExecutionId, Fence, InstanceId, MessageNumber, Name, Occurrence};
use crate::instance::{InstanceState, OpenClass};
use crate::limits;
use crate::message::{ChildStart, Message, OutboxBody, OutboxItem, Outcome};
use crate::payload::{Payload, size};
use crate::refusal::Refusal;
use crate::status::RuntimeStatus;
use crate::time::Timestamp;

/// One delivery to orchestrator code.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The token the answer must carry (R24).
    pub fence: Fence,
    /// The execution it belongs to.
    pub execution: ExecutionId,
    /// Length of the history before it.
    pub expected_history: u32,
    /// When it began: its logical time (R17).
    pub started_at: Timestamp,
    /// The new events: OrchestratorStarted, then the batch in delivery order. Never empty.
    pub events: Arc<[HistoryEvent]>,
    /// The inbox messages in it, each with the number of events up to and including its own.
    taken: Vec<(MessageNumber, usize)>,
}

/// Takes a batch from the inbox; a set of numbers, not a prefix, since the start goes first (R18, A30).
///
/// # Panics
///
/// If the instance is not ready, which the caller knows from [`InstanceState::is_ready`].
pub fn begin(state: &InstanceState, fence: Fence, now: Timestamp) -> Turn {
    assert!(
        !state.inbox.is_empty() && state.is_live(),
        "a turn needs a live instance with messages"
    );
    // No message is later: each came with an update, whose time it has.
    let started_at = now.max(state.info.updated_at);
    let mut events = vec![HistoryEvent::inbound(started_at, EventKind::OrchestratorStarted)];
    let mut taken = Vec::new();
    let mut bytes = 0;
    for message in in_delivery_order(state) {
        bytes += message.size();
        // Carried events count too: what code buffers it would carry on again, generation after generation.
        let is_full = bytes > limits::TURN_BYTES_MAX || events.len() > limits::TURN_MESSAGES_MAX;
        if is_full && !taken.is_empty() {
            break;
        }
        events.push(message.event.clone());
        events.extend(message.carried.iter().cloned());
        taken.push((message.number, events.len()));
    }
    let (execution, expected_history) = (state.info.execution, state.history_events);
    Turn {
        fence,
        execution,
        expected_history,
        started_at,
        events: events.into(),
        taken,
    }
}

/// Applies the worker's answer: turns its actions into one commit. The answer must belong to the current state: the
/// fence can match although a terminate or a restart changed the instance meanwhile, so the length of the history and
/// the execution are compared too. An answer that violates the rules is not refused but fails the instance, because the
/// worker would give the same answer to every further delivery. That failure is built from fresh effects, so that
/// nothing of a half-applied answer gets into the commit.
///
/// # Errors
///
/// `stale-answer` if it carries an old token, or the instance has moved on without it (R24, A25): the work was
/// delivered to another worker, whose answer counts. `payload-too-large` if all requested actions together exceed the
/// size of a commit (R172); the instance is unchanged.
pub fn finish(
    state: &InstanceState,
    turn: &Turn,
    answer: TurnAnswer,
    ids: &mut dyn Ids,
    now: Timestamp,
) -> Result<Commit, Refusal> {
    let moved_on = state.history_events != turn.expected_history || state.info.execution != turn.execution;
    if answer.fence != turn.fence || moved_on || !state.is_live() {
        return Err(Refusal::StaleAnswer);
    }
    let bytes = answer.size();
    if bytes > limits::TURN_ANSWER_BYTES_MAX {
        return Err(Refusal::PayloadTooLarge {
            what: "answer of a turn",
            bytes,
            bytes_max: limits::TURN_ANSWER_BYTES_MAX,
        });
    }
    let mut effects = Effects::new(state, turn, ids, now);
    match effects.apply(answer) {
        Ok(()) => Ok(effects.close()),
        Err(failure) => {
            // An answer that cannot be applied fails the instance; delivered again it would fail again (R36).
            let mut effects = Effects::new(state, turn, ids, now);
            effects.take(turn.events.len())?;
            effects.completion = Some((-1, Completion::Failed(failure)));
            Ok(effects.close())
        }
    }
}

/// The effects of one answer, gathered action by action.
struct Effects<'a> {
    state: &'a InstanceState,
    turn: &'a Turn,
    ids: &'a mut dyn Ids,
    now: Timestamp,
    update: Update,
    outbox: Vec<OutboxItem>,
    opened_ids: BTreeSet<(OpenClass, i32)>,
    /// Timers closed because the code cancelled them; once each.
    cancelled: BTreeSet<Occurrence>,
    completion: Option<(i32, Completion)>,
}

type Applied = Result<(), Box<Failure>>;

/// Says why an answer cannot be applied (R36).
fn invalid<T>(what: impl std::fmt::Display) -> Result<T, Box<Failure>> {
    Err(Box::new(
        Failure::new(failure::INVALID_RESPONSE, what.to_string()).non_retriable(),
    ))
}

impl<'a> Effects<'a> {
    fn new(state: &'a InstanceState, turn: &'a Turn, ids: &'a mut dyn Ids, now: Timestamp) -> Self {
        // The wall clock may have stepped back since the turn began (A27).
        let now = now.max(turn.started_at);
        let update = begin_update(state, now);
        Self {
            state,
            turn,
            ids,
            now,
            update,
            outbox: Vec::new(),
            opened_ids: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            completion: None,
        }
    }

    fn apply(&mut self, answer: TurnAnswer) -> Applied {
        if answer.actions.len() > limits::TURN_ACTIONS_MAX {
            let (given, most) = (answer.actions.len(), limits::TURN_ACTIONS_MAX);
            return invalid(format!(
                "the turn asks for {given} actions, and at most {most} are accepted"
            ));
        }
        let processed = answer.events_processed.unwrap_or(self.turn.events.len());
        self.take(processed)
            .or_else(|_| invalid("the answer processed no message of its batch"))?;
        if let Some(custom) = answer.custom_status {
            check_custom_status(&custom)?;
            self.update.custom_status = Some(Some(custom).filter(|custom| !custom.is_empty()));
        }
        for action in answer.actions {
            self.apply_action(action)?;
        }
        Ok(())
    }

    /// Takes the first `processed` events of the batch into history (R25); at least one message.
    fn take(&mut self, processed: usize) -> Result<(), Refusal> {
        let whole = self.turn.taken.iter().take_while(|(_, end)| *end <= processed);
        self.update.inbox_taken = whole.clone().map(|(number, _)| *number).collect();
        let Some((_, end)) = whole.last() else {
            return Err(Refusal::StaleAnswer);
        };
        self.update.events = self.turn.events.iter().take(*end).cloned().collect();
        Ok(())
    }

    fn apply_action(&mut self, Action { id, kind }: Action) -> Applied {
        match kind {
            ActionKind::ScheduleTask {
                name,
                version,
                input,
                tags,
            } => self.schedule_task(id, name, version, input, tags),
            ActionKind::CreateTimer { fire_at } => {
                self.open(id, OpenKind::Timer { fire_at })?;
                self.record(id, EventKind::TimerCreated { fire_at });
                Ok(())
            }
            ActionKind::CancelTimer { timer_id } => {
                self.cancel_timer(timer_id);
                Ok(())
            }
            ActionKind::CreateSubOrchestration {
                instance,
                name,
                version,
                input,
                tags,
            } => {
                let child = ChildStart {
                    name,
                    version,
                    input,
                    tags,
                    parent: None,
                };
                self.create_child(id, instance, child)
            }
            ActionKind::SendEvent { instance, name, input } => self.send_event(id, instance, name, input),
            ActionKind::TerminateOrchestration {
                instance,
                reason,
                recurse,
            } => {
                let bytes = size(reason.as_ref());
                if bytes > limits::PAYLOAD_BYTES_MAX {
                    return Err(Box::new(too_large("reason", bytes, limits::PAYLOAD_BYTES_MAX)));
                }
                self.outbox.push(OutboxItem {
                    target: instance,
                    body: OutboxBody::Terminate {
                        reason,
                        recurse,
                        child_of: None,
                    },
                });
                Ok(())
            }
            ActionKind::CompleteOrchestration(completion) => {
                if self.completion.is_some() {
                    return invalid(format!("action {id} completes the orchestration a second time"));
                }
                self.completion = Some((id, limit_completion(completion)));
                Ok(())
            }
        }
    }

    fn record(&mut self, id: i32, kind: EventKind) {
        self.update.events.push(HistoryEvent { id, at: self.now, kind });
    }

    /// Takes an id for an action; it may repeat, but not while it is open (R33).
    fn claim(&mut self, class: OpenClass, event_id: i32) -> Applied {
        if self.state.is_open_id(class, event_id) || !self.opened_ids.insert((class, event_id)) {
            return invalid(format!(
                "action {event_id} re-uses the id of a {class:?} that is still open"
            ));
        }
        Ok(())
    }

    /// Opens an occurrence.
    fn open(&mut self, event_id: i32, kind: OpenKind) -> Result<Occurrence, Box<Failure>> {
        self.claim(kind.class(), event_id)?;
        let occurrence = self
            .update
            .opened
            .last()
            .map_or(self.state.next_occurrence, |last| last.occurrence.next());
        self.update.opened.push(Open {
            occurrence,
            event_id,
            ordinal: self.state.info.ordinal,
            kind,
        });
        Ok(occurrence)
    }

    fn schedule_task(
        &mut self,
        id: i32,
        name: Name,
        version: Option<Name>,
        input: Option<Payload>,
        tags: Tags,
    ) -> Applied {
        let bytes = size(input.as_ref());
        if bytes > limits::PAYLOAD_BYTES_MAX {
            // The offending call fails, not the engine (R170).
            self.claim(OpenClass::Task, id)?;
            self.record(
                id,
                EventKind::TaskScheduled {
                    name,
                    version,
                    input: None,
                    tags,
                },
            );
            let failure = Box::new(too_large("activity input", bytes, limits::PAYLOAD_BYTES_MAX));
            push_message(
                self.state,
                &mut self.update,
                self.now,
                EventKind::TaskFailed {
                    task_scheduled_id: id,
                    failure,
                },
            );
            return Ok(());
        }
        let task = OpenKind::Task {
            name: name.clone(),
            version: version.clone(),
            input: input.clone(),
            tags: tags.clone(),
            deliveries: 0,
        };
        self.open(id, task)?;
        self.record(
            id,
            EventKind::TaskScheduled {
                name,
                version,
                input,
                tags,
            },
        );
        Ok(())
    }

    fn cancel_timer(&mut self, timer_id: i32) {
        if let Some(occurrence) = self.state.open_occurrence(OpenClass::Timer, timer_id) {
            if self.cancelled.insert(occurrence) {
                self.update.closed.push(occurrence);
            }
        } else if self.opened_ids.contains(&(OpenClass::Timer, timer_id)) {
            // One of this very turn is not opened at all.
            let is_it = |open: &Open| open.event_id == timer_id && open.kind.class() == OpenClass::Timer;
            self.update.opened.retain(|open| !is_it(open));
        }
    }

    fn create_child(&mut self, id: i32, wanted: Option<InstanceId>, mut child: ChildStart) -> Applied {
        let info = &self.state.info;
        let target = match wanted {
            Some(target) => target,
            None => InstanceId::derived_child(&info.instance, info.ordinal, id),
        };
        if let Err(refusal) = target.check_new() {
            return invalid(format!("action {id} starts a child, and {refusal}"));
        }
        let parent = info.parent.as_ref().map(|parent| &parent.instance);
        if target == info.instance || parent == Some(&target) {
            return invalid(format!(
                "action {id} starts a child with the id `{target}` of itself or its parent"
            ));
        }
        let created = EventKind::SubOrchestrationInstanceCreated {
            instance: target.clone(),
            name: child.name.clone(),
            version: child.version.clone(),
            input: child.input.clone(),
            tags: child.tags.clone(),
        };
        let detached = child.tags.remove(FIRE_AND_FORGET).is_some();
        let bytes = size(child.input.as_ref());
        if bytes > limits::PAYLOAD_BYTES_MAX {
            return self.refuse_child(id, created, detached, bytes);
        }
        if !detached {
            let occurrence = self.open(
                id,
                OpenKind::Child {
                    instance: target.clone(),
                },
            )?;
            child.parent = Some(Parent {
                instance: info.instance.clone(),
                execution: info.execution,
                task_id: id,
                occurrence,
                name: info.name.clone(),
                version: info.version.clone(),
            });
        }
        for (key, value) in info.tags.iter().filter(|(key, _)| *key != FIRE_AND_FORGET) {
            child.tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self.record(id, created);
        self.outbox.push(OutboxItem {
            target,
            body: OutboxBody::Start(Box::new(child)),
        });
        Ok(())
    }

    /// The offending call fails, not the engine (R170); a detached child has no one else to tell.
    fn refuse_child(&mut self, id: i32, mut created: EventKind, detached: bool, bytes: usize) -> Applied {
        let failure = Box::new(too_large("child input", bytes, limits::PAYLOAD_BYTES_MAX));
        if detached {
            return Err(failure);
        }
        self.claim(OpenClass::Child, id)?;
        if let EventKind::SubOrchestrationInstanceCreated { input, .. } = &mut created {
            *input = None;
        }
        self.record(id, created);
        push_message(
            self.state,
            &mut self.update,
            self.now,
            EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id: id,
                failure,
            },
        );
        Ok(())
    }

    fn send_event(&mut self, id: i32, instance: InstanceId, name: Name, input: Option<Payload>) -> Applied {
        let bytes = size(input.as_ref());
        if bytes > limits::PAYLOAD_BYTES_MAX {
            return Err(Box::new(too_large("event payload", bytes, limits::PAYLOAD_BYTES_MAX)));
        }
        self.record(
            id,
            EventKind::EventSent {
                instance: instance.clone(),
                name: name.clone(),
                input: input.clone(),
            },
        );
        if instance == self.state.info.instance {
            push_message(
                self.state,
                &mut self.update,
                self.now,
                EventKind::EventRaised { name, input },
            );
        } else {
            self.outbox.push(OutboxItem {
                target: instance,
                body: OutboxBody::Event { name, input },
            });
        }
        Ok(())
    }

    /// Turns what was gathered into the commit.
    fn close(mut self) -> Commit {
        let state = self.state;
        if state.info.stalled.is_some() {
            self.update.stalled = Some(None);
        }
        match self.completion.take() {
            None => {
                if state.info.status == RuntimeStatus::Pending {
                    self.update.status = Some(RuntimeStatus::Running);
                }
            }
            Some((
                _,
                Completion::ContinuedAsNew {
                    input,
                    version,
                    carried,
                },
            )) => self.continue_as_new(input, version, carried),
            Some((id, Completion::Completed(result))) => self.end(id, RuntimeStatus::Completed, result, None),
            Some((id, Completion::Terminated(reason))) => self.end(id, RuntimeStatus::Terminated, reason, None),
            Some((id, Completion::Failed(failure))) => self.end(id, RuntimeStatus::Failed, None, Some(failure)),
        }
        let mut commit = Commit::new(
            state.info.instance.clone(),
            state.number,
            Change::Update(Box::new(self.update)),
        );
        commit.outbox = self.outbox;
        commit
    }

    /// Ends the instance. Activities that were asked for still run, timers do not, children go on (R28).
    fn end(&mut self, id: i32, status: RuntimeStatus, result: Option<Payload>, failure: Option<Box<Failure>>) {
        let outcome = match (&failure, status) {
            (Some(failure), _) => Outcome::Failed(failure.clone()),
            (None, RuntimeStatus::Completed) => Outcome::Completed(result.clone()),
            (None, _) => {
                let reason = result.as_ref().map(Payload::to_text).unwrap_or_default();
                terminated(reason)
            }
        };
        self.record(
            id,
            EventKind::ExecutionCompleted {
                status,
                result: result.clone(),
                failure: failure.clone(),
            },
        );
        self.outbox.extend(tell_parent(&self.state.info, outcome));
        let output = failure
            .as_ref()
            .map(|failure| Payload::text(&failure.to_string()))
            .or(result);
        self.update.status = Some(status);
        self.update.ending = Some(Ending { output, failure });
        self.drop_open(|kind| matches!(kind, OpenKind::Timer { .. }));
        // What is unread is discarded with the end (R82).
        self.update.inbox_added.clear();
        self.discard_unread(|_| true);
    }

    /// Starts the next execution in the same commit; nothing undelivered is lost (R87–R90).
    fn continue_as_new(&mut self, input: Option<Payload>, version: Option<Name>, mut carried: Vec<HistoryEvent>) {
        // Only events go on: anything else was answered to, or took effect, in this execution (R35, A26).
        carried.retain(|event| matches!(event.kind, EventKind::EventRaised { .. }));
        let info = &self.state.info;
        let next = Continued {
            execution: self.ids.execution(),
            input: input.clone(),
            version: version.or_else(|| info.version.clone()),
        };
        let started = ExecutionStarted {
            name: info.name.clone(),
            version: next.version.clone(),
            input,
            instance: info.instance.clone(),
            execution: next.execution,
            parent: info.parent.as_deref().cloned(),
            scheduled_start: None,
            tags: info.tags.clone(),
        };
        if info.status == RuntimeStatus::Pending {
            self.update.status = Some(RuntimeStatus::Running);
        }
        self.drop_open(|kind| !matches!(kind, OpenKind::Task { .. }));
        self.discard_unread(EventKind::is_bound_to_execution);
        self.update
            .inbox_added
            .retain(|message| !message.event.kind.is_bound_to_execution());
        let number = next_number(self.state, &self.update);
        let event = HistoryEvent::inbound(self.now, EventKind::ExecutionStarted(Box::new(started)));
        self.update.inbox_added.push(Message { number, event, carried });
        self.update.continued = Some(next);
    }

    fn drop_open(&mut self, dropped: impl Fn(&OpenKind) -> bool) {
        let already: BTreeSet<Occurrence> = self.update.closed.iter().copied().collect();
        let closed = open_of(self.state, &dropped)
            .into_iter()
            .filter(|occurrence| !already.contains(occurrence));
        self.update.closed.extend(closed);
        self.update.opened.retain(|open| !dropped(&open.kind));
    }

    /// Removes unread messages of some kinds from the inbox.
    fn discard_unread(&mut self, discarded: impl Fn(&EventKind) -> bool) {
        let taken: BTreeSet<MessageNumber> = self.update.inbox_taken.iter().copied().collect();
        let unread = self
            .state
            .inbox
            .values()
            .filter(|message| !taken.contains(&message.number));
        let numbers = unread
            .filter(|message| discarded(&message.event.kind))
            .map(|message| message.number);
        self.update.inbox_taken.extend(numbers);
    }
}

/// Checks the size of a custom status. The library checks it when code sets it; the answer of any worker is checked
/// again here (R97).
///
/// # Errors
///
/// The failure that says how large it is, and how large it may be.
pub fn check_custom_status(custom: &Payload) -> Result<(), Box<Failure>> {
    // No text has more code units than bytes.
    if custom.len() <= limits::CUSTOM_STATUS_UNITS_MAX {
        return Ok(());
    }
    let units = custom.to_text().encode_utf16().count();
    if units <= limits::CUSTOM_STATUS_UNITS_MAX {
        return Ok(());
    }
    let message = format!(
        "the custom status has {units} UTF-16 code units, and at most {} are accepted",
        limits::CUSTOM_STATUS_UNITS_MAX
    );
    Err(Box::new(
        Failure::new(failure::PAYLOAD_TOO_LARGE, message).non_retriable(),
    ))
}

/// Replaces a result above the payload limit by a failure that names the limit (R170), and truncates a failure to its
/// limit.
fn limit_completion(completion: Completion) -> Completion {
    if let Completion::Failed(failure) = completion {
        return Completion::Failed(Box::new(failure.limited()));
    }
    let (what, payload) = match &completion {
        Completion::Completed(payload) => ("output", payload.as_ref()),
        Completion::Terminated(reason) => ("reason", reason.as_ref()),
        Completion::ContinuedAsNew { input, .. } => ("input", input.as_ref()),
        Completion::Failed(_) => return completion,
    };
    let bytes = size(payload);
    if bytes > limits::PAYLOAD_BYTES_MAX {
        return Completion::Failed(Box::new(too_large(what, bytes, limits::PAYLOAD_BYTES_MAX)));
    }
    completion
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_status_is_measured_in_utf_16_code_units() {
        let most = limits::CUSTOM_STATUS_UNITS_MAX;
        for (letter, units) in [("x", 1), ("é", 1), ("状", 1), ("\u{ffff}", 1), ("😀", 2), ("𐐀", 2)] {
            let text = |units_wanted: usize| Payload::text(&letter.repeat(units_wanted / units));
            check_custom_status(&text(most)).unwrap();
            let failure = check_custom_status(&text(most + units)).unwrap_err();
            assert_eq!(failure.error_type, failure::PAYLOAD_TOO_LARGE);
        }
        // Bytes that are not text are measured in their displayed form.
        check_custom_status(&Payload::new(vec![0xff; most])).unwrap();
        assert!(check_custom_status(&Payload::new(vec![0xff; most + 1])).is_err());
    }
}
