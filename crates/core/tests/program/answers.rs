//! Random answers to turns: mostly sensible, now and then one that cannot be applied.

use fastrand::Rng;
use taskhub_core::action::{Action, ActionKind, Completion, FIRE_AND_FORGET, TurnAnswer};
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::InstanceId;
use taskhub_core::instance::{InstanceState, OpenClass};
use taskhub_core::limits;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_core::turn::Turn;

use super::{name, payload};

pub(crate) fn answer(rng: &mut Rng, state: &InstanceState, turn: &Turn, now: Timestamp) -> TurnAnswer {
    // Few ids, so that they repeat, and mostly above those in use, so that they seldom clash.
    let first = i32::try_from(state.history_events).unwrap_or(0);
    let mut actions: Vec<Action> = (0..rng.i32(0..4))
        .map(|offset| Action {
            id: if rng.u32(0..20) == 0 {
                rng.i32(0..4)
            } else {
                first + offset
            },
            kind: action(rng, state, now),
        })
        .collect();
    if rng.u32(0..6) == 0 {
        let at = rng.usize(0..=actions.len());
        let kind = ActionKind::CompleteOrchestration(completion(rng, turn));
        actions.insert(at, Action { id: first + 9, kind });
    }
    let custom_status = match rng.u32(0..40) {
        0 => Some(Payload::new(vec![b'x'; limits::CUSTOM_STATUS_UNITS_MAX + 1])),
        1..10 => payload(rng),
        _ => None,
    };
    TurnAnswer {
        fence: turn.fence,
        actions,
        custom_status,
        events_processed: (rng.u32(0..6) == 0).then(|| rng.usize(1..=turn.events.len())),
    }
}

fn action(rng: &mut Rng, state: &InstanceState, now: Timestamp) -> ActionKind {
    let targets = ["a", "b", "c", "nowhere"];
    let target = InstanceId::new(targets[rng.usize(0..targets.len())]).unwrap();
    match rng.u32(0..20) {
        0..7 => ActionKind::ScheduleTask {
            name: name("Work"),
            version: None,
            input: payload(rng),
            tags: Tags::new(),
        },
        7..11 => ActionKind::CreateTimer {
            fire_at: Timestamp::from_ticks(now.ticks() + rng.i64(-50_000_000..150_000_000)),
        },
        11..14 => {
            let mut timers = state.open.values().filter(|open| open.kind.class() == OpenClass::Timer);
            let timer_id = timers.next().map_or_else(|| rng.i32(0..12), |open| open.event_id);
            ActionKind::CancelTimer { timer_id }
        }
        14..17 => {
            let mut tags = Tags::new();
            if rng.u32(0..4) == 0 {
                tags.insert(FIRE_AND_FORGET.to_owned(), "true".to_owned());
            }
            ActionKind::CreateSubOrchestration {
                instance: rng.bool().then_some(target),
                name: name("Kid"),
                version: None,
                input: payload(rng),
                tags,
            }
        }
        17..19 => ActionKind::SendEvent {
            instance: target,
            name: name("Go"),
            input: payload(rng),
        },
        _ => ActionKind::TerminateOrchestration {
            instance: target,
            reason: payload(rng),
            recurse: rng.bool(),
        },
    }
}

fn completion(rng: &mut Rng, turn: &Turn) -> Completion {
    match rng.u32(0..8) {
        0..2 => Completion::Completed(payload(rng)),
        2 => Completion::Failed(Box::new(Failure::new("Boom", "at random"))),
        3 => Completion::Terminated(payload(rng)),
        _ => Completion::ContinuedAsNew {
            input: payload(rng),
            version: None,
            carried: carried(rng, turn),
        },
    }
}

/// What the turn was shown and did not use; a careless worker carries on more than events.
fn carried(rng: &mut Rng, turn: &Turn) -> Vec<HistoryEvent> {
    let all = turn.events.iter();
    let is_careless = rng.u32(0..4) == 0;
    let wanted = |event: &&HistoryEvent| is_careless || matches!(event.kind, EventKind::EventRaised { .. });
    all.filter(wanted).cloned().collect()
}
