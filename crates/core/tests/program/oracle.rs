//! A second opinion on every commit: what an instance must look like, folded from the commits alone
//! with nothing of core's own bookkeeping.

use std::collections::{BTreeMap, BTreeSet};

use taskhub_core::commit::{Change, Commit, Creation, Open, OpenKind, Update};
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::{ExecutionId, MessageNumber, Occurrence};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::Message;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

/// One instance, and the commits it was folded from.
#[derive(Debug)]
pub(crate) struct Oracle {
    created: Box<Creation>,
    commits: Vec<Commit>,
    history: Vec<HistoryEvent>,
    inbox: BTreeMap<MessageNumber, Message>,
    open: BTreeMap<Occurrence, Open>,
    numbers_seen: BTreeSet<MessageNumber>,
    occurrences_seen: BTreeSet<Occurrence>,
    executions: BTreeSet<ExecutionId>,
    status: RuntimeStatus,
    ordinal: u32,
    updated_at: Timestamp,
    logical_time: Option<Timestamp>,
}

impl Oracle {
    pub(crate) fn created(creation: &Creation) -> Self {
        assert_eq!(creation.info.status, RuntimeStatus::Pending);
        Self {
            created: Box::new(creation.clone()),
            commits: Vec::new(),
            history: Vec::new(),
            inbox: BTreeMap::from([(creation.start.number, creation.start.clone())]),
            open: BTreeMap::new(),
            numbers_seen: BTreeSet::from([creation.start.number]),
            occurrences_seen: BTreeSet::new(),
            executions: BTreeSet::from([creation.info.execution]),
            status: RuntimeStatus::Pending,
            ordinal: 0,
            updated_at: creation.info.updated_at,
            logical_time: None,
        }
    }

    /// Folds in one commit. `moves` gathers the changes of status.
    pub(crate) fn take(&mut self, commit: &Commit, moves: &mut BTreeSet<(RuntimeStatus, RuntimeStatus)>) {
        let Some(Change::Update(update)) = &commit.change else {
            return;
        };
        self.commits.push(commit.clone());
        let was_terminal = self.status.is_terminal();
        self.take_history(update);
        self.take_inbox(update);
        self.take_open(update);
        let status = self.folded_status();
        if was_terminal {
            assert_eq!(status, self.status, "terminal is terminal (R5)");
            assert!(update.events.is_empty() && update.inbox_added.is_empty());
        } else if status != self.status || (update.continued.is_some() && status == RuntimeStatus::Running) {
            // A suspended instance stays as it is in its next execution (R92).
            moves.insert((self.status, status));
        }
        self.status = status;
        assert!(
            update.at >= self.updated_at,
            "the last change is never before the one before (R11)"
        );
        self.updated_at = update.at;
    }

    fn take_history(&mut self, update: &Update) {
        assert_eq!(update.expected_history as usize, self.history.len());
        for event in &update.events {
            if event.kind == EventKind::OrchestratorStarted {
                assert!(
                    self.logical_time.is_none_or(|before| before <= event.at),
                    "logical time (R197)"
                );
                self.logical_time = Some(event.at);
            }
            self.history.push(event.clone());
        }
        check_history(&self.history);
        if let Some(next) = &update.continued {
            self.ordinal += 1;
            assert!(self.executions.insert(next.execution), "an execution id is new");
            self.history.clear();
        }
    }

    fn take_inbox(&mut self, update: &Update) {
        for number in &update.inbox_taken {
            assert!(self.inbox.remove(number).is_some(), "a message is consumed once (R188)");
        }
        for message in &update.inbox_added {
            assert!(
                self.numbers_seen.insert(message.number),
                "a number is never given twice (A30)"
            );
            self.inbox.insert(message.number, message.clone());
        }
        if update.continued.is_some() {
            let bound = self
                .inbox
                .values()
                .filter(|message| message.event.kind.is_bound_to_execution());
            assert_eq!(
                bound.count(),
                1,
                "of the old execution nothing is left but the new one's start (R35)"
            );
        }
        if update.ending.is_some() {
            assert!(
                self.inbox.is_empty(),
                "an ended instance has read or discarded all (R82)"
            );
        }
    }

    fn take_open(&mut self, update: &Update) {
        for occurrence in &update.closed {
            assert!(
                self.open.remove(occurrence).is_some(),
                "an occurrence is closed once (R34)"
            );
        }
        for open in &update.opened {
            assert!(
                self.occurrences_seen.insert(open.occurrence),
                "an occurrence is never given twice (A30)"
            );
            self.open.insert(open.occurrence, open.clone());
        }
        for (occurrence, count) in &update.deliveries {
            if let Some(Open {
                kind: OpenKind::Task { deliveries, .. },
                ..
            }) = self.open.get_mut(occurrence)
            {
                *deliveries = *count;
            }
        }
        let mut ids = BTreeSet::new();
        for open in self.open.values().filter(|open| open.ordinal == self.ordinal) {
            assert!(
                ids.insert((open.kind.class(), open.event_id)),
                "no id is open twice (R33)"
            );
        }
        if update.continued.is_some() || update.ending.is_some() {
            let is_timer = |open: &Open| matches!(open.kind, OpenKind::Timer { .. });
            assert!(
                !self.open.values().any(is_timer),
                "no timer outlives its execution (R48)"
            );
        }
    }

    /// The status as history and inbox have it (A26).
    fn folded_status(&self) -> RuntimeStatus {
        if let Some(EventKind::ExecutionCompleted { status, .. }) = self.history.last().map(|event| &event.kind) {
            return *status;
        }
        let accepted = self.inbox.values().map(|message| &message.event.kind);
        let all = self.history.iter().map(|event| &event.kind).chain(accepted);
        let is_suspended = all.fold(false, |is_suspended, kind| match kind {
            EventKind::ExecutionSuspended { .. } => true,
            EventKind::ExecutionResumed { .. } => false,
            _ => is_suspended,
        });
        if is_suspended {
            RuntimeStatus::Suspended
        } else if self.history.is_empty() && self.ordinal == 0 {
            RuntimeStatus::Pending
        } else {
            RuntimeStatus::Running
        }
    }

    /// The live state must be what was folded here.
    pub(crate) fn compare(&self, live: &InstanceState) {
        assert_eq!(
            live.info.status, self.status,
            "status is the fold of history and inbox (A26)"
        );
        assert_eq!(live.history_events as usize, self.history.len());
        let bytes: usize = self.history.iter().map(HistoryEvent::size).sum();
        assert_eq!(live.history_bytes, bytes as u64);
        assert_eq!(live.inbox, self.inbox);
        assert_eq!(live.open, self.open);
        assert_eq!(live.info.updated_at, self.updated_at);
        assert_eq!(live.info.ordinal, self.ordinal);
        assert_eq!(live.info.completed_at.is_some(), self.status.is_terminal());
    }

    /// Folding all commits anew, or loading what is stored, gives the live state.
    pub(crate) fn compare_reloaded(&self, live: &InstanceState) {
        let mut folded = InstanceState::created(live.number, &self.created);
        for commit in &self.commits {
            folded.apply(commit);
        }
        assert_eq!(folded, *live);
        let stored = InstanceState::stored(
            live.info.clone(),
            live.number,
            (live.history_events, live.history_bytes),
            (live.next_message, live.next_occurrence),
            live.inbox.values().cloned().collect(),
            live.open.values().cloned().collect(),
            live.keys.iter().cloned().collect(),
        );
        assert_eq!(stored, *live);
    }
}

/// What holds of every history: how it begins and ends, and that each completion answers an action.
fn check_history(history: &[HistoryEvent]) {
    let kinds: Vec<&EventKind> = history.iter().map(|event| &event.kind).collect();
    if let [first, second, ..] = kinds.as_slice() {
        assert!(matches!(first, EventKind::OrchestratorStarted), "(R17)");
        assert!(matches!(second, EventKind::ExecutionStarted(_)), "(R18)");
    }
    let count = |wanted: fn(&EventKind) -> bool| kinds.iter().filter(|kind| wanted(kind)).count();
    assert!(
        count(|kind| matches!(kind, EventKind::ExecutionStarted(_))) <= 1,
        "(R19)"
    );
    let ends = kinds
        .iter()
        .position(|kind| matches!(kind, EventKind::ExecutionCompleted { .. }));
    assert!(
        ends.is_none_or(|index| index + 1 == kinds.len()),
        "the end comes last (R20)"
    );
    let mut open: BTreeMap<(u8, i32), i32> = BTreeMap::new();
    for event in history {
        let (key, step) = match &event.kind {
            EventKind::TaskScheduled { .. } => ((0, event.id), 1),
            EventKind::TimerCreated { .. } => ((1, event.id), 1),
            EventKind::SubOrchestrationInstanceCreated { .. } => ((2, event.id), 1),
            EventKind::TaskCompleted { task_scheduled_id, .. } | EventKind::TaskFailed { task_scheduled_id, .. } => {
                ((0, *task_scheduled_id), -1)
            }
            EventKind::TimerFired { timer_id, .. } => ((1, *timer_id), -1),
            EventKind::SubOrchestrationInstanceCompleted { task_scheduled_id, .. }
            | EventKind::SubOrchestrationInstanceFailed { task_scheduled_id, .. } => ((2, *task_scheduled_id), -1),
            _ => continue,
        };
        let waiting = open.entry(key).or_default();
        *waiting += step;
        assert!(*waiting >= 0, "a completion answers an action (R32)");
    }
}
