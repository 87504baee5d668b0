//! Random commits, made by core's functions, against core's own fold of them.

use std::time::Duration;

use taskhub_core::action::{Action, ActionKind, Completion};
use taskhub_core::commit::OpenKind;
use taskhub_core::control;
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{IdempotencyKey, InstanceId, Occurrence};
use taskhub_core::message::{Outcome, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::seen::KeyUse;
use taskhub_core::status::{RuntimeStatus, Stall};

use super::{Owner, done, instance, name};
use crate::Store;

/// Random numbers that are the same each time (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn payload(&mut self) -> Option<Payload> {
        match self.below(5) {
            0 => None,
            1 => Some(Payload::default()),
            2 => {
                // Around the size from which a backend may keep payloads apart.
                let length = usize::try_from(self.below(20_000)).unwrap_or(0);
                Some(Payload::new(vec![self.next().to_le_bytes()[0]; length]))
            }
            _ => Some(Payload::text(&format!("\"{}\"", self.below(1000)))),
        }
    }

    fn id(&mut self) -> InstanceId {
        instance(&format!("order-{}", self.below(12)))
    }

    fn outcome(&mut self) -> Outcome {
        if self.one_in(3) {
            return Outcome::Failed(Box::new(Failure::new("Error", "no")));
        }
        Outcome::Completed(self.payload())
    }
}

/// Groups of many commits: what comes and goes within one must leave nothing.
pub fn random_commits_leave_what_core_says(store: &dyn Store) {
    for seed in 0..6 {
        let mut owner = Owner::new(store, &format!("Model{seed}"), 3);
        let mut random = Random(seed);
        for step in 0..400 {
            act(&mut owner, &mut random);
            if random.one_in(15) {
                owner.flush();
            }
            if step % 50 == 49 {
                owner.check();
            }
            if random.one_in(100) {
                owner.flush();
                owner.claim();
            }
        }
        finish(store, &mut owner);
    }
}

/// Groups of one commit.
pub fn random_commits_one_by_one_leave_what_core_says(store: &dyn Store) {
    let mut owner = Owner::new(store, "Model", 2);
    let mut random = Random(77);
    for step in 0..300 {
        act(&mut owner, &mut random);
        owner.flush();
        if step % 30 == 29 {
            owner.check();
        }
    }
    finish(store, &mut owner);
}

fn finish(store: &dyn Store, owner: &mut Owner<'_>) {
    owner.check();
    for status in RuntimeStatus::ALL {
        owner.check_listing(&Filter {
            statuses: vec![status],
            ..Filter::default()
        });
    }
    assert_eq!(done(store.verify()).problems, Vec::<String>::new());
}

/// One random step; some do nothing, where the state does not allow them.
fn act(owner: &mut Owner<'_>, random: &mut Random) {
    owner.wait(random.below(3) * 1_000);
    let id = random.id();
    if owner.state(&id).is_none() || random.one_in(20) {
        return start(owner, random, &id);
    }
    match random.below(10) {
        0 => raise(owner, random, &id),
        1 => control_request(owner, random, &id),
        2 => drop(owner.deliver()),
        3 | 4 => answer_task(owner, random, &id),
        5 => fire(owner, &id),
        6 if random.one_in(3) => stall(owner, random, &id),
        _ => turn(owner, random, &id),
    }
}

fn start(owner: &mut Owner<'_>, random: &mut Random, id: &InstanceId) {
    let input = random.payload();
    // A key stands for one payload.
    let key = format!("{}-{:x}", random.below(9), KeyUse::digest_of(input.as_ref()));
    owner.start_with(&StartRequest {
        input,
        reuse: ReusePolicy::ReplaceAny,
        version: random.one_in(3).then(|| name("1.0")),
        tags: if random.one_in(4) {
            Tags::from([("k".to_owned(), "v".to_owned())])
        } else {
            Tags::new()
        },
        key: IdempotencyKey::new(&key).ok().filter(|_| random.one_in(4)),
        ..Owner::request(id)
    });
}

fn raise(owner: &mut Owner<'_>, random: &mut Random, id: &InstanceId) {
    let key = IdempotencyKey::new(&random.below(9).to_string())
        .ok()
        .filter(|_| random.one_in(2));
    let input = random.payload();
    owner.with(id, |state, now| {
        control::raise_event(state, name("Go"), input, key.as_ref(), now)
            .ok()
            .flatten()
    });
}

fn control_request(owner: &mut Owner<'_>, random: &mut Random, id: &InstanceId) {
    let (which, reason) = (random.below(5), random.payload());
    owner.with(id, |state, now| match which {
        0 => control::suspend(state, reason, now).ok().flatten(),
        1 => control::resume(state, reason, now).ok().flatten(),
        2 => control::terminate(state, reason.as_ref(), true, now).ok(),
        _ => control::purge(state).ok(),
    });
}

fn answer_task(owner: &mut Owner<'_>, random: &mut Random, id: &InstanceId) {
    let Some(task) = owner.open_task(id) else { return };
    if random.one_in(5) {
        let deliveries = u32::try_from(random.below(5)).unwrap_or(1);
        owner.with(id, |state, now| control::redeliver_task(state, task, deliveries, now));
    } else {
        let outcome = random.outcome();
        owner.answer_task(id, outcome);
    }
}

fn fire(owner: &mut Owner<'_>, id: &InstanceId) {
    let now = owner.now;
    let due = |state: &taskhub_core::instance::InstanceState| -> Vec<Occurrence> {
        let open = state.open.values();
        open.filter(|open| matches!(open.kind, OpenKind::Timer { fire_at } if fire_at < now))
            .map(|open| open.occurrence)
            .collect()
    };
    owner.with(id, |state, now| control::fire_timers(state, &due(state), now));
}

fn stall(owner: &mut Owner<'_>, random: &mut Random, id: &InstanceId) {
    let since = owner.now;
    let stall = random.one_in(2).then(|| Stall {
        since,
        reason: "why".to_owned(),
        attempts: 3,
    });
    if owner
        .state(id)
        .is_some_and(taskhub_core::instance::InstanceState::is_live)
    {
        owner.with(id, |state, now| control::stall(state, stall, now));
    }
}

fn turn(owner: &mut Owner<'_>, random: &mut Random, id: &InstanceId) {
    if !owner.state(id).is_some_and(|state| state.is_ready(owner.now)) {
        return;
    }
    let first = owner
        .state(id)
        .map_or(0, |state| i32::try_from(state.next_occurrence.0).unwrap_or(0));
    let count = i32::try_from(random.below(4)).unwrap_or(0);
    let mut actions: Vec<Action> = (first..first + count)
        .map(|action| Action {
            id: action,
            kind: action_kind(owner, random),
        })
        .collect();
    if random.one_in(4) {
        actions.push(Action {
            id: first + count,
            kind: ActionKind::CompleteOrchestration(completion(random)),
        });
    }
    let custom = if random.one_in(3) {
        random.payload().filter(|custom| custom.len() < 16_000)
    } else {
        None
    };
    owner.answer(id, actions, custom);
}

fn action_kind(owner: &Owner<'_>, random: &mut Random) -> ActionKind {
    match random.below(7) {
        0 => ActionKind::CreateTimer {
            fire_at: owner.now.plus(Duration::from_micros(random.below(9_000))),
        },
        1 => ActionKind::CreateSubOrchestration {
            instance: random
                .one_in(2)
                .then(|| instance(&format!("child-{}", random.below(5)))),
            name: name("Child"),
            version: None,
            input: random.payload(),
            tags: Tags::new(),
        },
        2 => ActionKind::SendEvent {
            instance: random.id(),
            name: name("Hi"),
            input: random.payload(),
        },
        3 => ActionKind::CancelTimer {
            timer_id: i32::try_from(random.below(20)).unwrap_or(0),
        },
        4 => ActionKind::TerminateOrchestration {
            instance: random.id(),
            reason: None,
            recurse: random.one_in(2),
        },
        _ => ActionKind::ScheduleTask {
            name: name("SayHello"),
            version: None,
            input: random.payload(),
            tags: Tags::new(),
        },
    }
}

fn completion(random: &mut Random) -> Completion {
    match random.below(4) {
        0 => Completion::Failed(Box::new(Failure::new("Error", "no"))),
        1 => Completion::Completed(random.payload()),
        _ => Completion::ContinuedAsNew {
            input: random.payload(),
            version: random.one_in(2).then(|| name("2.0")),
            carried: Vec::new(),
        },
    }
}
