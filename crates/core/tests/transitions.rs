//! The table of legal transitions (R6), drawn from what the public functions do.

#![expect(clippy::unwrap_used, reason = "a broken sample fails its test")]

use std::collections::BTreeSet;

use taskhub_core::Ids;
use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::commit::{Change, Commit};
use taskhub_core::control::{self, Started};
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{Epoch, ExecutionId, Fence, InstanceId, InstanceNumber, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::status::{LEGAL, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_core::turn;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// Everything that may move an instance.
const CAUSES: &[&str] = &[
    "turn",
    "complete",
    "fail",
    "end",
    "continue",
    "suspend",
    "resume",
    "terminate",
];

struct Counter(u64);

impl Ids for Counter {
    fn execution(&mut self) -> ExecutionId {
        self.0 += 1;
        ExecutionId::new(u128::from(self.0).to_be_bytes())
    }

    fn instance_number(&mut self) -> InstanceNumber {
        InstanceNumber(1)
    }
}

fn request(id: &str) -> StartRequest {
    StartRequest {
        instance: InstanceId::new(id).unwrap(),
        name: Name::stored("Work"),
        version: None,
        input: None,
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    }
}

#[test]
fn no_instance_is_created_under_an_id_that_no_url_leads_to() {
    for id in [".", ".."] {
        let refused = control::create(None, &request(id), &mut Counter(0), NOW).unwrap_err();
        assert_eq!(refused.code(), "invalid-instance-id");
    }
}

#[test]
fn keys_of_earlier_generations_are_kept_oldest_first_and_for_their_time_only() {
    let hour = std::time::Duration::from_hours(1);
    let (mut state, mut now) = (None::<InstanceState>, NOW);
    for generation in 0..30 {
        let request = StartRequest {
            key: taskhub_core::id::IdempotencyKey::new(&format!("k{generation}")).ok(),
            reuse: ReusePolicy::ReplaceAny,
            ..request("a")
        };
        let Ok(Started::New(commit)) = control::create(state.as_ref(), &request, &mut Counter(0), now) else {
            unreachable!("nothing is in the way")
        };
        let Some(Change::Create(creation)) = &commit.change else {
            unreachable!("a new instance is created")
        };
        state = Some(InstanceState::created(commit.number, creation));
        now = now.plus(hour);
    }
    let kept = state.unwrap().keys;
    let kept: Vec<&str> = kept.iter().map(|seen| seen.key.as_str()).collect();
    let wanted: Vec<String> = (6..30).map(|generation| format!("k{generation}")).collect();
    assert_eq!(kept, wanted);
}

fn pending() -> InstanceState {
    let Ok(Started::New(commit)) = control::create(None, &request("a"), &mut Counter(0), NOW) else {
        unreachable!("nothing is in the way")
    };
    let Some(Change::Create(creation)) = &commit.change else {
        unreachable!("a new instance is created")
    };
    InstanceState::created(commit.number, creation)
}

fn applied(mut state: InstanceState, commit: &Commit) -> InstanceState {
    state.apply(commit);
    state
}

/// The state after the cause, if core takes it in at all. A turn that is out answers whatever the
/// status has become meanwhile (R110).
fn after(state: &InstanceState, cause: &str) -> Option<InstanceState> {
    let completion = match cause {
        "complete" => Some(Completion::Completed(None)),
        "fail" => Some(Completion::Failed(Box::new(Failure::new("Boom", "why")))),
        "end" => Some(Completion::Terminated(None)),
        "continue" => Some(Completion::ContinuedAsNew {
            input: None,
            version: None,
            carried: Vec::new(),
        }),
        _ => None,
    };
    let commit = match cause {
        "suspend" => control::suspend(state, None, NOW).ok().flatten(),
        "resume" => control::resume(state, None, NOW).ok().flatten(),
        "terminate" => control::terminate(state, None, false, NOW).ok(),
        _ if state.inbox.is_empty() || !state.is_live() => None,
        _ => {
            let fence = Fence {
                epoch: Epoch(1),
                counter: 1,
            };
            let answer = TurnAnswer {
                fence,
                actions: completion
                    .into_iter()
                    .map(|completion| Action {
                        id: 0,
                        kind: ActionKind::CompleteOrchestration(completion),
                    })
                    .collect(),
                custom_status: None,
                events_processed: None,
            };
            let turn = turn::begin(state, fence, NOW);
            turn::finish(state, &turn, answer, &mut Counter(9), NOW).ok()
        }
    };
    commit.map(|commit| applied(state.clone(), &commit))
}

/// Instances in every status that one can be in.
fn samples() -> Vec<InstanceState> {
    let pending = pending();
    let event = |state: &InstanceState| {
        let commit = control::raise_event(state, Name::stored("Go"), None, None, NOW).unwrap();
        applied(state.clone(), &commit.unwrap())
    };
    let running = event(&after(&pending, "turn").unwrap());
    let suspended = after(&running, "suspend").unwrap();
    let ended = ["complete", "fail", "end"].map(|cause| after(&running, cause).unwrap());
    let mut samples = vec![after(&pending, "suspend").unwrap(), pending, running, suspended];
    samples.extend(ended);
    samples
}

#[test]
fn what_the_functions_do_is_the_table_of_legal_transitions() {
    use RuntimeStatus::Suspended;
    let mut seen = BTreeSet::new();
    for state in samples() {
        for cause in CAUSES {
            if let Some(next) = after(&state, cause) {
                seen.insert((state.info.status, next.info.status));
            }
        }
    }
    // The answer of a turn that was out leaves a suspended instance suspended (R110).
    assert!(seen.remove(&(Suspended, Suspended)));
    let legal: BTreeSet<_> = LEGAL.iter().copied().collect();
    assert_eq!(seen, legal);
}

#[test]
fn nothing_moves_an_instance_that_has_ended() {
    for state in samples().iter().filter(|state| !state.is_live()) {
        for cause in CAUSES {
            assert!(after(state, cause).is_none(), "{cause} moves {}", state.info.status);
        }
        assert!(control::purge(state).is_ok());
    }
}
