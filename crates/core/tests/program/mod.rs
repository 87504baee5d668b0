//! Random programs over the public functions: clients, timers, activities, workers and the outbox in any
//! order, with a clock that now and then steps back.

#![expect(clippy::unwrap_used, reason = "a broken program fails its test")]

mod answers;
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use taskhub_core::Ids;
use taskhub_core::commit::{Change, Commit, OpenKind};
use taskhub_core::control::{self, Started};
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{Epoch, ExecutionId, Fence, IdempotencyKey, InstanceId, InstanceNumber, Name, Occurrence, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxItem, OutboxRef, Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_core::status::{RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;
use taskhub_core::turn::{self, Turn};

use oracle::Oracle;

/// Changes of status that were seen.
pub(crate) type Moves = BTreeSet<(RuntimeStatus, RuntimeStatus)>;

struct RandomIds<'a>(&'a mut Rng, &'a mut u64);

impl Ids for RandomIds<'_> {
    fn execution(&mut self) -> ExecutionId {
        ExecutionId::new(self.0.u128(..).to_be_bytes())
    }

    fn instance_number(&mut self) -> InstanceNumber {
        *self.1 += 1;
        InstanceNumber(*self.1)
    }
}

struct Live {
    state: InstanceState,
    oracle: Oracle,
}

/// The world of one seed.
pub(crate) struct Program {
    rng: Rng,
    now: Timestamp,
    instances: BTreeMap<InstanceId, Live>,
    /// Turns at workers, current and stale, with the instance each belongs to.
    turns: Vec<(InstanceId, InstanceNumber, Turn)>,
    /// Activities that were handed out, also after they were answered.
    tasks: Vec<(InstanceId, InstanceNumber, Occurrence)>,
    outbox: Vec<(OutboxRef, OutboxItem)>,
    numbers: u64,
    commits: u64,
    fences: u64,
    pub(crate) moves: Moves,
}

impl Program {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            now: Timestamp::from_micros(1_700_000_000_000_000),
            instances: BTreeMap::new(),
            turns: Vec::new(),
            tasks: Vec::new(),
            outbox: Vec::new(),
            numbers: 0,
            commits: 0,
            fences: 0,
            moves: Moves::new(),
        }
    }

    pub(crate) fn run(&mut self, steps: usize) {
        for step in 0..steps {
            self.step();
            if step % 16 == 0 {
                self.compare_reloaded();
            }
        }
        self.compare_reloaded();
    }

    fn compare_reloaded(&self) {
        for live in self.instances.values() {
            live.oracle.compare_reloaded(&live.state);
        }
    }

    fn step(&mut self) {
        let id = self.some_id();
        match self.rng.u32(0..100) {
            0..8 => self.start(&id),
            8..16 => self.on(&id, |state, rng, now| {
                let key = rng
                    .bool()
                    .then(|| IdempotencyKey::new(["k1", "k2"][rng.usize(0..2)]).unwrap());
                control::raise_event(state, name("Go"), payload(rng), key.as_ref(), now)
            }),
            16..18 => self.on(&id, |state, rng, now| {
                let recurse = rng.bool();
                control::terminate(state, payload(rng).as_ref(), recurse, now).map(Some)
            }),
            18..23 => self.on(&id, |state, rng, now| control::suspend(state, payload(rng), now)),
            23..30 => self.on(&id, |state, rng, now| control::resume(state, payload(rng), now)),
            30..33 => self.on(&id, |state, _, _| control::purge(state).map(Some)),
            33..35 => self.on(&id, |state, rng, now| {
                let stall = Stall {
                    since: now,
                    reason: "no answer".to_owned(),
                    attempts: 1,
                };
                let wanted = rng.bool().then_some(stall);
                Ok(state.is_live().then(|| control::stall(state, wanted, now)))
            }),
            35..50 => self.begin(&id),
            50..68 => self.finish(),
            68..80 => self.complete_task(),
            80..86 => self.fire(&id),
            86..96 => self.deliver(),
            _ => self.move_clock(),
        }
    }

    fn some_id(&mut self) -> InstanceId {
        let known = self.instances.len();
        if known > 0 && self.rng.u32(0..4) > 0 {
            let index = self.rng.usize(0..known);
            return self.instances.keys().nth(index).unwrap().clone();
        }
        InstanceId::new(["a", "b", "c"][self.rng.usize(0..3)]).unwrap()
    }

    fn move_clock(&mut self) {
        let ticks = if self.rng.u32(0..4) == 0 {
            -self.rng.i64(0..100_000_000)
        } else {
            self.rng.i64(0..200_000_000)
        };
        self.now = Timestamp::from_ticks(self.now.ticks() + ticks);
    }

    /// A client's request to one instance.
    fn on(
        &mut self,
        id: &InstanceId,
        request: impl FnOnce(&InstanceState, &mut Rng, Timestamp) -> Result<Option<Commit>, Refusal>,
    ) {
        let Some(live) = self.instances.get(id) else { return };
        let is_live = live.state.is_live();
        match request(&live.state, &mut self.rng, self.now) {
            Ok(Some(commit)) => self.commit(&commit),
            // Of two keys, so one comes with another payload now and then.
            Ok(None) | Err(Refusal::IdempotencyConflict { .. }) => {}
            Err(Refusal::InstanceNotLive { .. }) => assert!(!is_live),
            Err(Refusal::InstanceLive { .. }) => assert!(is_live),
            Err(other) => panic!("{other}"),
        }
    }

    fn commit(&mut self, commit: &Commit) {
        self.commits += 1;
        let place = |index| OutboxRef {
            partition: 0,
            seq: Seq(self.commits),
            index,
        };
        let items = (0..).zip(&commit.outbox);
        self.outbox
            .extend(items.map(|(index, item)| (place(index), item.clone())));
        match &commit.change {
            Some(Change::Create(creation)) => {
                let state = InstanceState::created(commit.number, creation);
                let oracle = Oracle::created(creation);
                oracle.compare(&state);
                let old = self.instances.insert(commit.instance.clone(), Live { state, oracle });
                assert_eq!(creation.replaces, old.as_ref().map(|old| old.state.number));
                if let Some(old) = old {
                    assert!(creation.next_occurrence >= old.state.next_occurrence, "(A30)");
                }
            }
            Some(Change::Update(update)) => {
                let tasks = update
                    .opened
                    .iter()
                    .filter(|open| matches!(open.kind, OpenKind::Task { .. }));
                let owner = (commit.instance.clone(), commit.number);
                self.tasks
                    .extend(tasks.map(|open| (owner.0.clone(), owner.1, open.occurrence)));
                let live = self.instances.get_mut(&commit.instance).unwrap();
                live.state.apply(commit);
                live.oracle.take(commit, &mut self.moves);
                live.oracle.compare(&live.state);
            }
            Some(Change::Purge) => {
                let live = self.instances.remove(&commit.instance).unwrap();
                assert!(!live.state.is_live(), "(R129)");
            }
            None => {}
        }
    }

    fn start(&mut self, id: &InstanceId) {
        let reuse = match self.rng.u32(0..8) {
            0 => ReusePolicy::ReplaceAny,
            1 => ReusePolicy::Replace(vec![RuntimeStatus::Running, RuntimeStatus::Failed]),
            _ => ReusePolicy::ReplaceEnded,
        };
        let later = self.now.plus(std::time::Duration::from_secs(self.rng.u64(0..10)));
        let request = StartRequest {
            instance: id.clone(),
            name: name("Program"),
            version: None,
            input: payload(&mut self.rng),
            tags: Tags::new(),
            scheduled_start: (self.rng.u32(0..8) == 0).then_some(later),
            execution: None,
            reuse,
            key: None,
            repeats: Repeats::default(),
        };
        let existing = self.instances.get(id).map(|live| &live.state);
        let mut ids = RandomIds(&mut self.rng, &mut self.numbers);
        if let Ok(Started::New(commit)) = control::create(existing, &request, &mut ids, self.now) {
            self.commit(&commit);
        }
    }

    /// Hands out a turn, sometimes while another is out.
    fn begin(&mut self, id: &InstanceId) {
        let Some(live) = self.instances.get(id) else { return };
        if !live.state.is_ready(self.now) {
            return;
        }
        self.fences += 1;
        let fence = Fence {
            epoch: Epoch(1),
            counter: self.fences,
        };
        let turn = turn::begin(&live.state, fence, self.now);
        let stamps = turn.events.iter().map(|event| event.at);
        assert!(stamps.max().is_some_and(|latest| latest <= turn.started_at), "(A27)");
        assert!(turn.started_at >= live.state.info.updated_at, "(A27)");
        self.turns.push((id.clone(), live.state.number, turn));
    }

    fn finish(&mut self) {
        if self.turns.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.turns.len());
        let (id, number, turn) = self.turns.swap_remove(index);
        let Some(live) = self.instances.get(&id).filter(|live| live.state.number == number) else {
            return;
        };
        // An answer by whoever holds the token now, by someone who lost it, and sometimes twice.
        let is_current = live.state.history_events == turn.expected_history
            && live.state.info.execution == turn.execution
            && live.state.is_live();
        let mut answer = answers::answer(&mut self.rng, &live.state, &turn, self.now);
        let is_stale = self.rng.u32(0..10) == 0;
        if is_stale {
            answer.fence.counter += 1_000_000;
        }
        let mut ids = RandomIds(&mut self.rng, &mut self.numbers);
        let result = turn::finish(&live.state, &turn, answer, &mut ids, self.now);
        assert_eq!(
            result.is_ok(),
            is_current && !is_stale,
            "only the current token counts (R24)"
        );
        if let Ok(commit) = result {
            self.commit(&commit);
        }
        if self.rng.bool() {
            self.turns.push((id, number, turn));
        }
    }

    fn complete_task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.tasks.len());
        let (id, number, occurrence) = self.tasks[index].clone();
        let Some(live) = self.instances.get(&id).filter(|live| live.state.number == number) else {
            return;
        };
        let outcome = if self.rng.bool() {
            Outcome::Completed(payload(&mut self.rng))
        } else {
            Outcome::Failed(Box::new(Failure::new("Boom", "at random")))
        };
        let is_open = live.state.open.contains_key(&occurrence);
        let commit = if self.rng.u32(0..8) == 0 {
            control::redeliver_task(&live.state, occurrence, self.rng.u32(1..9), self.now)
        } else {
            control::complete_task(&live.state, occurrence, outcome, self.now)
        };
        assert_eq!(commit.is_some(), is_open, "applied if it is open (R34)");
        if let Some(commit) = commit {
            self.commit(&commit);
        }
    }

    fn fire(&mut self, id: &InstanceId) {
        let Some(live) = self.instances.get(id) else { return };
        let now = self.now;
        let due = live.state.open.values().filter_map(|open| match open.kind {
            OpenKind::Timer { fire_at } if fire_at.fires_at() <= now => Some((fire_at, open.occurrence)),
            _ => None,
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        let mut due: Vec<Occurrence> = due.into_iter().map(|(_, occurrence)| occurrence).collect();
        // Timers that are gone fire into nothing (R51).
        due.push(Occurrence(u64::MAX));
        if let Some(commit) = control::fire_timers(&live.state, &due, now) {
            self.commit(&commit);
        }
    }

    fn deliver(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let (place, item) = self.outbox.remove(0);
        let state = self.instances.get(&item.target).map(|live| &live.state);
        let mut ids = RandomIds(&mut self.rng, &mut self.numbers);
        let commit = control::receive(state, &item, place, &mut ids, self.now);
        assert_eq!(commit.consumed, Some(place), "(A29)");
        assert_eq!(commit.instance, item.target);
        self.commit(&commit);
    }
}

fn name(text: &str) -> Name {
    Name::stored(text)
}

fn payload(rng: &mut Rng) -> Option<Payload> {
    match rng.u32(0..3) {
        0 => None,
        1 => Some(Payload::text("")),
        _ => Some(Payload::text(&rng.u32(..).to_string())),
    }
}
