//! Rules of turns and ends that no script can play, each on a state made for it.

#![expect(clippy::unwrap_used, reason = "a broken sample fails its test")]

use taskhub_core::Ids;
use taskhub_core::action::{Action, ActionKind, Completion, FIRE_AND_FORGET, TurnAnswer};
use taskhub_core::commit::{Change, Commit};
use taskhub_core::control::{self, Started};
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::id::{Epoch, ExecutionId, Fence, InstanceId, InstanceNumber, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{OutboxBody, Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::status::Stall;
use taskhub_core::time::Timestamp;
use taskhub_core::turn;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const FENCE: Fence = Fence {
    epoch: Epoch(1),
    counter: 1,
};

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

fn request(tags: Tags) -> StartRequest {
    StartRequest {
        instance: InstanceId::new("a").unwrap(),
        name: Name::stored("Work"),
        version: None,
        input: None,
        tags,
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::ReplaceAny,
        key: None,
        repeats: Repeats::default(),
    }
}

fn started(tags: Tags) -> InstanceState {
    created(None, &request(tags))
}

fn created(old: Option<&InstanceState>, request: &StartRequest) -> InstanceState {
    let Ok(Started::New(commit)) = control::create(old, request, &mut Counter(0), NOW) else {
        unreachable!("nothing is in the way")
    };
    let Some(Change::Create(creation)) = &commit.change else {
        unreachable!("a new instance is created")
    };
    InstanceState::created(commit.number, creation)
}

fn answered(state: &mut InstanceState, kinds: Vec<ActionKind>) -> Commit {
    let answer = TurnAnswer {
        fence: FENCE,
        actions: (0..).zip(kinds).map(|(id, kind)| Action { id, kind }).collect(),
        custom_status: None,
        events_processed: None,
    };
    let turn = turn::begin(state, FENCE, NOW);
    let commit = turn::finish(state, &turn, answer, &mut Counter(9), NOW).unwrap();
    state.apply(&commit);
    commit
}

fn raise(state: &mut InstanceState) {
    let raised = control::raise_event(state, Name::stored("Go"), None, None, NOW).unwrap();
    state.apply(&raised.unwrap());
}

fn stalled() -> InstanceState {
    let mut state = started(Tags::new());
    let stall = Stall {
        since: NOW,
        reason: "the worker is gone".to_owned(),
        attempts: 3,
    };
    let commit = control::stall(&state, Some(stall), NOW);
    state.apply(&commit);
    assert!(state.info.stalled.is_some());
    state
}

/// R184: the deliveries that failed are counted until one succeeds.
#[test]
fn an_answer_that_is_accepted_ends_the_stall() {
    let mut state = stalled();
    answered(&mut state, Vec::new());
    assert_eq!(state.info.stalled, None);
}

#[test]
fn an_instance_that_has_ended_is_not_stalled() {
    let mut state = stalled();
    let commit = control::terminate(&state, None, false, NOW).unwrap();
    state.apply(&commit);
    assert_eq!(state.info.stalled, None);
}

/// R167: otherwise an execution that buffers what it is sent would be shown more with each generation.
#[test]
fn events_that_are_carried_over_count_towards_the_limit_of_a_turn() {
    for (carried, unread) in [
        (limits::TURN_MESSAGES_MAX, 0),
        (limits::TURN_MESSAGES_MAX - 2, 1),
        (limits::TURN_MESSAGES_MAX - 12, 11),
    ] {
        let mut state = started(Tags::new());
        let go = EventKind::EventRaised {
            name: Name::stored("Go"),
            input: None,
        };
        let next = Completion::ContinuedAsNew {
            input: None,
            version: None,
            carried: vec![HistoryEvent::inbound(NOW, go); carried],
        };
        answered(&mut state, vec![ActionKind::CompleteOrchestration(next)]);
        (0..20).for_each(|_| raise(&mut state));
        let turn = turn::begin(&state, FENCE, NOW);
        // OrchestratorStarted and ExecutionStarted come first.
        assert_eq!(turn.events.len(), 2 + carried + unread, "{carried} are carried over");
    }
}

/// R75: a client may have given that tag to the parent, which says nothing of its children.
#[test]
fn a_child_does_not_inherit_that_it_is_detached() {
    let tag = |key: &str| (key.to_owned(), "x".to_owned());
    let mut state = started(Tags::from([tag(FIRE_AND_FORGET), tag("team")]));
    let child = ActionKind::CreateSubOrchestration {
        instance: None,
        name: Name::stored("Kid"),
        version: None,
        input: None,
        tags: Tags::new(),
    };
    let commit = answered(&mut state, vec![child]);
    let [item] = &commit.outbox[..] else {
        panic!("one child is started: {commit:?}")
    };
    let OutboxBody::Start(start) = &item.body else {
        panic!("it is a start: {item:?}")
    };
    assert!(start.parent.is_some());
    assert_eq!(start.tags, Tags::from([tag("team")]));
}

/// R34, R137: a result that comes late is for a number that nothing has any more.
#[test]
fn an_instance_goes_on_with_the_numbers_of_the_one_that_it_replaces() {
    let mut old = started(Tags::new());
    let task = || ActionKind::ScheduleTask {
        name: Name::stored("Step"),
        version: None,
        input: None,
        tags: Tags::new(),
    };
    answered(&mut old, vec![task(), task()]);
    let mut new = created(Some(&old), &request(Tags::new()));
    answered(&mut new, vec![task(), task()]);
    assert!(old.open.keys().all(|occurrence| !new.open.contains_key(occurrence)));
    for occurrence in old.open.keys() {
        let late = control::complete_task(&new, *occurrence, Outcome::Completed(None), NOW);
        assert_eq!(late, None);
    }
    assert!(
        old.next_message < new.next_message,
        "the number of a message comes once"
    );
}
