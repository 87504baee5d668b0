//! The instances of one script and the messages between them: what a partition does, without its
//! queues, so that a script sees core alone.

use std::collections::{BTreeMap, VecDeque};

use taskhub_core::Ids;
use taskhub_core::action::TurnAnswer;
use taskhub_core::commit::{Change, Commit, OpenKind};
use taskhub_core::control::{self, Started};
use taskhub_core::id::{Epoch, ExecutionId, Fence, InstanceId, InstanceNumber, Occurrence, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxItem, OutboxRef, Outcome, StartRequest};
use taskhub_core::refusal::Refusal;
use taskhub_core::time::Timestamp;
use taskhub_core::turn::{self, Turn};

use super::journal::Journal;
use super::show;

/// The instance that lines without a prefix are about.
pub(crate) const MAIN: &str = "main";

/// Counts instead of drawing at random.
#[derive(Debug, Default)]
struct Counter(u64);

impl Ids for Counter {
    fn execution(&mut self) -> ExecutionId {
        self.0 += 1;
        ExecutionId::new(u128::from(self.0).to_be_bytes())
    }

    fn instance_number(&mut self) -> InstanceNumber {
        self.0 += 1;
        InstanceNumber(self.0)
    }
}

/// A task that was handed out, also after it is closed.
#[derive(Clone, Debug)]
struct Task {
    instance: InstanceId,
    number: InstanceNumber,
    event_id: i32,
    occurrence: Occurrence,
}

/// A turn at a worker.
#[derive(Clone, Debug)]
struct Out {
    turn: Turn,
    is_current: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) journal: Journal,
    states: BTreeMap<InstanceId, InstanceState>,
    turns: BTreeMap<InstanceId, Vec<Out>>,
    tasks: Vec<Task>,
    outbox: VecDeque<(OutboxRef, OutboxItem)>,
    ids: Counter,
    commits: u64,
    fences: u64,
    with_times: bool,
}

impl World {
    pub(crate) fn new(now: Timestamp, with_times: bool) -> Self {
        let states = BTreeMap::new();
        Self {
            now,
            journal: Journal::open(&states, with_times),
            states,
            turns: BTreeMap::new(),
            tasks: Vec::new(),
            outbox: VecDeque::new(),
            ids: Counter::default(),
            commits: 0,
            fences: 0,
            with_times,
        }
    }

    /// What changed since the last call.
    pub(crate) fn close_block(&mut self) -> String {
        let next = Journal::open(&self.states, self.with_times);
        std::mem::replace(&mut self.journal, next).close(&self.states)
    }

    /// The state of an instance, or its absence noted.
    pub(crate) fn state(&mut self, id: &InstanceId) -> Option<&InstanceState> {
        if !self.states.contains_key(id) {
            let refusal = Refusal::InstanceNotFound { instance: id.clone() };
            self.refuse(id, &refusal);
        }
        self.states.get(id)
    }

    pub(crate) fn refuse(&mut self, id: &InstanceId, refusal: &Refusal) {
        let text = format!("{}: {refusal}", refusal.code());
        self.journal.note(id, "refused", text);
    }

    /// Commits what a function of core answered, or notes why it did not.
    pub(crate) fn settle(&mut self, id: &InstanceId, result: Result<Option<Commit>, Refusal>, what: &str) {
        match result {
            Ok(Some(commit)) => self.commit(&commit),
            Ok(None) => self.journal.note(id, "ignored", what),
            Err(refusal) => self.refuse(id, &refusal),
        }
    }

    fn commit(&mut self, commit: &Commit) {
        self.journal.take(self.states.get(&commit.instance), commit);
        match &commit.change {
            Some(Change::Create(creation)) => {
                let state = InstanceState::created(commit.number, creation);
                self.states.insert(commit.instance.clone(), state);
            }
            Some(Change::Purge) => {
                self.states.remove(&commit.instance);
            }
            Some(Change::Update(update)) => {
                let tasks = update
                    .opened
                    .iter()
                    .filter(|open| matches!(open.kind, OpenKind::Task { .. }));
                self.tasks.extend(tasks.map(|open| Task {
                    instance: commit.instance.clone(),
                    number: commit.number,
                    event_id: open.event_id,
                    occurrence: open.occurrence,
                }));
                if let Some(state) = self.states.get_mut(&commit.instance) {
                    state.apply(commit);
                }
            }
            None => {}
        }
        self.commits += 1;
        for (index, item) in (0..).zip(&commit.outbox) {
            let place = OutboxRef {
                partition: 0,
                seq: Seq(self.commits),
                index,
            };
            self.outbox.push_back((place, item.clone()));
        }
    }

    pub(crate) fn start(&mut self, request: &StartRequest, what: &str) {
        let existing = self.states.get(&request.instance);
        let result = control::create(existing, request, &mut self.ids, self.now);
        let result = result.map(|started| match started {
            Started::New(commit) => Some(*commit),
            Started::Repeated => None,
        });
        self.settle(&request.instance, result, what);
    }

    /// Hands a turn out; one that was out already is stale from now on.
    pub(crate) fn begin(&mut self, id: &InstanceId) -> bool {
        let now = self.now;
        let Some(state) = self.state(id) else { return false };
        if !state.is_ready(now) {
            self.journal.note(id, "turn", "none is ready");
            return false;
        }
        self.fences += 1;
        let fence = Fence {
            epoch: Epoch(1),
            counter: self.fences,
        };
        let Some(state) = self.states.get(id) else { return false };
        let turn = turn::begin(state, fence, now);
        let outs = self.turns.entry(id.clone()).or_default();
        for out in outs.iter_mut() {
            out.is_current = false;
        }
        outs.push(Out { turn, is_current: true });
        true
    }

    /// Shows the turn that is out.
    pub(crate) fn show_turn(&mut self, id: &InstanceId) {
        let out = self.turns.get(id).and_then(|outs| outs.last());
        let events = out.map(|out| out.turn.events.clone());
        for event in events.iter().flat_map(|events| events.iter()) {
            self.journal.note(id, "turn", show::event(event, self.with_times));
        }
    }

    pub(crate) fn is_out(&self, id: &InstanceId) -> bool {
        let outs = self.turns.get(id);
        outs.is_some_and(|outs| outs.iter().any(|out| out.is_current))
    }

    /// Answers the turn that is out, or with the token of the one before it.
    pub(crate) fn answer(&mut self, id: &InstanceId, mut answer: TurnAnswer, is_stale: bool) {
        let outs = self.turns.get(id).map_or(&[][..], Vec::as_slice);
        let current = outs.iter().rfind(|out| out.is_current);
        let with_old_token = outs.iter().rfind(|out| !out.is_current);
        let (turn, token) = match (current, with_old_token, is_stale) {
            (Some(out), _, false) => (&out.turn, out.turn.fence),
            (Some(out), Some(old), true) => (&out.turn, old.turn.fence),
            (None, Some(old), true) => (&old.turn, old.turn.fence),
            (_, None, true) | (None, _, false) => panic!("no such turn of `{id}` is out"),
        };
        let turn = turn.clone();
        answer.fence = token;
        let now = self.now;
        let Some(state) = self.states.get(id) else {
            self.refuse(id, &Refusal::StaleAnswer);
            return;
        };
        let result = turn::finish(state, &turn, answer, &mut self.ids, now);
        if !is_stale {
            for out in self.turns.entry(id.clone()).or_default() {
                out.is_current = false;
            }
        }
        self.settle(id, result.map(Some), "");
    }

    /// Applies a task's result: of the newest hand-out with the id, or of the oldest.
    pub(crate) fn complete(&mut self, id: &InstanceId, event_id: i32, outcome: Outcome, is_oldest: bool) {
        let mut tasks = self
            .tasks
            .iter()
            .filter(|task| task.instance == *id && task.event_id == event_id);
        let task = if is_oldest { tasks.next() } else { tasks.next_back() };
        let Some(task) = task else {
            panic!("`{id}` never handed out an activity #{event_id}")
        };
        // A task belongs to the instance that handed it out, not to another with its id (R137).
        let state = self.states.get(id).filter(|state| state.number == task.number);
        let commit = state.and_then(|state| control::complete_task(state, task.occurrence, outcome, self.now));
        self.settle(
            id,
            Ok(commit),
            &format!("a result of #{event_id} that is not waited for"),
        );
    }

    /// Fires the timers that are due, in the order of R46.
    pub(crate) fn fire(&mut self, id: &InstanceId) {
        let now = self.now;
        let Some(state) = self.state(id) else { return };
        let mut due = Vec::new();
        for open in state.open.values() {
            if let OpenKind::Timer { fire_at } = open.kind
                && fire_at.fires_at() <= now
            {
                due.push((fire_at, open.occurrence));
            }
        }
        due.sort_unstable();
        let due: Vec<Occurrence> = due.into_iter().map(|(_, occurrence)| occurrence).collect();
        let commit = control::fire_timers(state, &due, now);
        self.settle(id, Ok(commit), "no timer is due");
    }

    /// Hands on the messages that wait in the outbox, all or those to one instance.
    pub(crate) fn deliver(&mut self, to: Option<&InstanceId>) {
        for _ in 0..self.outbox.len() {
            let Some((place, item)) = self.outbox.pop_front() else {
                break;
            };
            if to.is_some_and(|to| *to != item.target) {
                self.outbox.push_back((place, item));
            } else {
                self.receive(&item, place);
            }
        }
    }

    /// Takes in a message from another instance.
    pub(crate) fn receive(&mut self, item: &OutboxItem, place: OutboxRef) {
        let state = self.states.get(&item.target);
        if !control::has_room_for(state, item) {
            return self
                .journal
                .note(&item.target, "ignored", "a message that waits for room");
        }
        let commit = control::receive(state, item, place, &mut self.ids, self.now);
        assert_eq!(commit.consumed, Some(place), "the commit names the item (A29)");
        self.commit(&commit);
    }
}
