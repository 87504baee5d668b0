//! What simulations found in the partition, each as the shortest script that shows it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a broken script fails its test")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use taskhub_core::action::{Action, ActionKind, TurnAnswer};
use taskhub_core::commit::Change;
use taskhub_core::event::Tags;
use taskhub_core::id::{Epoch, HubName, InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::limits;
use taskhub_core::message::{OutboxBody, OutboxItem, OutboxRef, Outcome, Repeats, ReusePolicy, StartRequest};
use taskhub_core::time::Timestamp;
use taskhub_engine::flaw::Flaws;
use taskhub_engine::io::{Input, Output, Request, WaitFor};
use taskhub_engine::partition::{Destination, Partition, Random, Setup};
use taskhub_engine::worker::{Offered, TaskKey, TurnItem, TurnOutcome};
use taskhub_store::{Lease, PartitionKey, Previous, Recovered};

/// A caller, who listens until the flag is set.
#[derive(Clone, Debug, Default)]
struct Nobody(Rc<Cell<bool>>);

impl Destination for Nobody {
    fn is_gone(&self) -> bool {
        self.0.get()
    }
}

/// A partition whose commits are durable at once.
struct Bench {
    partition: Partition<Nobody>,
    now: Timestamp,
    instance: InstanceId,
    caller: Nobody,
}

impl Bench {
    fn new(memory_bytes_max: usize) -> Self {
        let key = PartitionKey {
            hub: HubName::new("bench").unwrap(),
            index: 0,
        };
        let lease = Lease {
            partition: key,
            epoch: Epoch(1),
            previous: Previous::Nobody,
        };
        let setup = Setup {
            lease,
            random: Random::Seeded(1),
            memory_bytes_max,
            orchestrators_offered: Offered::default(),
            set_aside: Vec::new(),
            out_of_service: Vec::new(),
            sweep_min: 4,
            may_be_running: false,
            flaws: Flaws::default(),
        };
        let counters = Recovered::Counters {
            next_seq: Seq(1),
            next_instance: InstanceNumber(1),
            horizon: Vec::new(),
        };
        let now = Timestamp::from_micros(1_000_000);
        let mut partition = Partition::recover(setup, vec![counters], now, &mut Vec::new());
        let empty = Input::Fingerprints {
            fingerprints: Vec::new(),
            is_last: true,
            epoch: Epoch(1),
        };
        partition.step(empty, now, &mut Vec::new());
        let instance = InstanceId::new("one").unwrap();
        Self {
            partition,
            now,
            instance,
            caller: Nobody::default(),
        }
    }

    /// Takes one input in, makes what follows durable, and begins turns.
    fn step(&mut self, input: Input<Nobody>) -> Vec<Output<Nobody>> {
        let mut out = Vec::new();
        self.partition.step(input, self.now, &mut out);
        let durable = Input::Durable(self.partition.last_seq());
        self.partition.step(durable, self.now, &mut out);
        self.partition.turns(self.now, usize::MAX, &mut out);
        self.partition.balance(self.now, &mut out);
        out
    }

    fn ask(&mut self, request: Request) -> Vec<Output<Nobody>> {
        let asked = self.asked(request);
        self.step(asked)
    }

    fn asked(&self, request: Request) -> Input<Nobody> {
        Input::Request {
            instance: self.instance.clone(),
            request,
            to: self.caller.clone(),
        }
    }

    /// Takes one input in, begins turns, and leaves what follows ahead of the disk.
    fn ahead(&mut self, input: Input<Nobody>) -> Vec<Output<Nobody>> {
        let mut out = Vec::new();
        self.partition.step(input, self.now, &mut out);
        self.partition.turns(self.now, usize::MAX, &mut out);
        out
    }

    /// Further requests are about this instance.
    fn turn_to(&mut self, instance: &str) {
        self.instance = InstanceId::new(instance).unwrap();
    }

    fn start(&mut self) -> TurnItem {
        let start = self.start_request();
        turn(self.ask(start)).expect("a start is followed by a turn")
    }

    fn start_request(&self) -> Request {
        let start = StartRequest {
            instance: self.instance.clone(),
            name: Name::new("sleeper").unwrap(),
            version: None,
            input: None,
            tags: Tags::new(),
            scheduled_start: None,
            execution: None,
            reuse: ReusePolicy::ReplaceEnded,
            key: None,
            repeats: Repeats::default(),
        };
        Request::Start(Box::new(start))
    }

    fn answer(&mut self, item: &TurnItem, kind: ActionKind) {
        self.turned(item, TurnOutcome::Answer(answer_with(item, kind)));
    }

    fn turned(&mut self, item: &TurnItem, outcome: TurnOutcome) -> Vec<Output<Nobody>> {
        self.step(Input::Turned {
            instance: item.instance.clone(),
            fence: item.fence,
            outcome,
        })
    }

    /// An event of an instance elsewhere.
    fn event(&self, index: u32) -> Input<Nobody> {
        Input::Message {
            at: OutboxRef {
                partition: 7,
                seq: Seq(1),
                index,
            },
            item: OutboxItem {
                target: self.instance.clone(),
                body: OutboxBody::Event {
                    name: Name::new("Told").unwrap(),
                    input: None,
                },
            },
        }
    }

    /// Lets time pass.
    fn pass(&mut self, span: Duration) -> Vec<Output<Nobody>> {
        self.now = self.now.plus(span);
        self.step(Input::Tick)
    }

    fn sleep(&mut self, item: &TurnItem, span: Duration) {
        let fire_at = self.now.plus(span);
        self.answer(item, ActionKind::CreateTimer { fire_at });
    }
}

fn turn(out: Vec<Output<Nobody>>) -> Option<TurnItem> {
    out.into_iter().find_map(|output| match output {
        Output::Turn(item) => Some(item),
        _ => None,
    })
}

fn terminate() -> Request {
    Request::Terminate {
        reason: None,
        recurse: false,
    }
}

/// Both instances with the id count their timers from the start; the first one's is due before the second one's.
#[test]
fn a_timer_of_a_purged_instance_does_not_fire_that_of_the_next_one() {
    let mut bench = Bench::new(usize::MAX);
    let item = bench.start();
    bench.sleep(&item, Duration::from_secs(1));
    bench.ask(terminate());
    bench.ask(Request::Purge);
    let item = bench.start();
    bench.sleep(&item, Duration::from_secs(5));
    assert!(turn(bench.pass(Duration::from_secs(2))).is_none(), "too early (R45)");
    assert!(turn(bench.pass(Duration::from_secs(4))).is_some());
}

#[test]
fn an_instance_that_ended_before_its_turn_was_tried_again_leaves_memory() {
    let mut bench = Bench::new(0);
    let item = bench.start();
    let reason = "the worker is gone".to_owned();
    bench.turned(&item, TurnOutcome::Failed { reason });
    bench.ask(terminate());
    assert_eq!(bench.partition.memory().0, 1, "it may still be tried again");
    bench.pass(Duration::from_mins(1));
    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.partition.memory().0, 0);
}

#[test]
fn a_history_that_the_store_has_lost_part_of_is_not_read_for_ever() {
    let mut bench = Bench::new(usize::MAX);
    let item = bench.start();
    bench.sleep(&item, Duration::from_secs(1));
    let item = turn(bench.pass(Duration::from_secs(2))).expect("the timer has fired");
    let mut out = bench.turned(&item, TurnOutcome::NeedsHistory);
    let mut reads = 0;
    while out.iter().any(|output| matches!(output, Output::History { .. })) {
        reads += 1;
        assert!(reads < 100, "read again and again");
        out = bench.step(Input::History {
            instance: item.instance.clone(),
            fence: item.fence,
            events: Vec::new(),
        });
    }
    assert!(reads > 1, "one read may have been overtaken by a commit");
    let info = bench.partition.peek(&item.instance).unwrap();
    let reason = &info.stalled.as_ref().expect("it says what it waits for").reason;
    assert!(reason.contains("but the store has 0"), "{reason}");
}

#[test]
fn timers_and_ids_that_mean_nothing_any_more_do_not_pile_up() {
    const COUNT: usize = 1_000;
    let mut bench = Bench::new(usize::MAX);
    let mut refills = 0;
    for index in 0..COUNT {
        bench.turn_to(&format!("i{index}"));
        let item = bench.start();
        bench.sleep(&item, Duration::from_hours(1));
        bench.ask(terminate());
        let out = bench.ask(Request::Purge);
        if out.iter().any(|output| matches!(output, Output::Fingerprints)) {
            refills += 1;
            // One that is made meanwhile, which the store's answer may not have.
            bench.turn_to(&format!("late{index}"));
            bench.start();
            bench.step(Input::Fingerprints {
                fingerprints: Vec::new(),
                is_last: true,
                epoch: Epoch(1),
            });
        }
        let (timers, _, ids) = bench.partition.entries();
        let live = refills + 1;
        assert!(timers <= 2 * live + 8, "{timers} timers, {live} instances");
        assert!(ids <= 3 * live + 8, "{ids} ids, {live} instances");
    }
    assert!(refills > 1);
}

#[test]
fn an_id_that_is_not_durable_while_the_filter_is_filled_anew_is_known_to_it() {
    let mut bench = Bench::new(0);
    bench.turn_to("late");
    let start = bench.asked(bench.start_request());
    let item = turn(bench.ahead(start)).unwrap();
    let mut out = Vec::new();
    for index in 0..4 {
        bench.turn_to(&format!("i{index}"));
        for request in [bench.start_request(), terminate(), Request::Purge] {
            let asked = bench.asked(request);
            out = bench.ahead(asked);
        }
    }
    assert!(out.iter().any(|output| matches!(output, Output::Fingerprints)));
    // The store is read before any of that is durable.
    let nothing = Input::Fingerprints {
        fingerprints: Vec::new(),
        is_last: true,
        epoch: Epoch(1),
    };
    bench.ahead(nothing);
    bench.sleep(&item, Duration::from_secs(1));
    assert_eq!(bench.partition.memory().0, 0, "it has left memory");
    bench.turn_to("late");
    let out = bench.ask(Request::Info);
    assert!(out.iter().any(|output| matches!(output, Output::Load(_))), "{out:?}");
}

#[test]
fn an_id_that_is_made_while_the_filter_is_filled_anew_is_known_to_it() {
    let mut bench = Bench::new(0);
    let mut out = Vec::new();
    for index in 0..4 {
        bench.turn_to(&format!("i{index}"));
        for request in [bench.start_request(), terminate(), Request::Purge] {
            let asked = bench.asked(request);
            out = bench.ahead(asked);
        }
    }
    assert!(out.iter().any(|output| matches!(output, Output::Fingerprints)));
    bench.turn_to("late");
    let start = bench.asked(bench.start_request());
    let item = turn(bench.ahead(start)).unwrap();
    // The store was read before that was durable.
    bench.ahead(Input::Fingerprints {
        fingerprints: Vec::new(),
        is_last: true,
        epoch: Epoch(1),
    });
    bench.sleep(&item, Duration::from_hours(1));
    assert_eq!(bench.partition.memory().0, 0, "it has left memory");
    let out = bench.ask(Request::Info);
    assert!(out.iter().any(|output| matches!(output, Output::Load(_))), "{out:?}");
}

/// Both have the same id, and their calls the same number.
#[test]
fn the_result_of_a_purged_instance_does_not_count_for_the_next_one() {
    let mut bench = Bench::new(usize::MAX);
    let begin = |bench: &mut Bench| {
        let item = bench.start();
        let task = ActionKind::ScheduleTask {
            name: Name::new("work").unwrap(),
            version: None,
            input: None,
            tags: Tags::new(),
        };
        let out = bench.turned(&item, TurnOutcome::Answer(answer_with(&item, task)));
        offered(&out).expect("it is handed out")
    };
    let old = begin(&mut bench);
    bench.ask(terminate());
    bench.ask(Request::Purge);
    let new = begin(&mut bench);
    assert_eq!((&old.instance, old.occurrence), (&new.instance, new.occurrence));
    let late = |key: &TaskKey| Input::TaskDone {
        key: key.clone(),
        outcome: Outcome::Completed(None),
    };
    assert!(turn(bench.step(late(&old))).is_none(), "it waits for a call of its own");
    assert_eq!(bench.partition.counts().dropped, 1);
    let lost = Input::TaskRedelivered {
        key: old,
        deliveries: 1,
    };
    assert!(offered(&bench.step(lost)).is_none(), "nobody waits for that call");
    assert!(turn(bench.step(late(&new))).is_some());
}

#[test]
fn waits_that_nobody_listens_to_do_not_pile_up() {
    let mut bench = Bench::new(usize::MAX);
    for index in 0..100 {
        bench.turn_to(&format!("i{index}"));
        bench.start();
        bench.caller = Nobody::default();
        bench.ask(Request::Wait(WaitFor::Ended));
        bench.caller.0.set(true);
        assert!(bench.partition.entries().1 <= 8);
    }
}

#[test]
fn an_event_of_another_instance_waits_until_the_inbox_has_room() {
    let mut bench = Bench::new(usize::MAX);
    let item = bench.start();
    let raise = || Request::Raise {
        name: Name::new("Go").unwrap(),
        input: None,
        key: None,
    };
    while bench.partition.peek_unread(&item.instance) < limits::INBOX_MESSAGES_MAX {
        bench.ask(raise());
    }
    for index in 0..3 {
        let out = bench.step(bench.event(index));
        assert_eq!(consumed(&out), [0_u32; 0], "it stays in its sender's outbox");
    }
    // The turn ends and the next one reads some; then they come in, in their order, and before what is sent later.
    let out = bench.turned(&item, TurnOutcome::Answer(nothing_more(&item)));
    let mut came = consumed(&out);
    let item = turn(out).expect("there is more to read");
    came.extend(consumed(&bench.turned(&item, TurnOutcome::Answer(nothing_more(&item)))));
    came.extend(consumed(&bench.step(bench.event(3))));
    assert_eq!(came, [0, 1, 2, 3]);
    assert_eq!(
        bench.partition.peek_unread(&item.instance),
        limits::INBOX_MESSAGES_MAX - limits::TURN_MESSAGES_MAX + 3
    );
}

#[test]
fn events_that_wait_for_room_are_let_go_when_their_target_ends() {
    let mut bench = Bench::new(usize::MAX);
    let item = bench.start();
    while bench.partition.peek_unread(&item.instance) < limits::INBOX_MESSAGES_MAX {
        bench.ask(Request::Raise {
            name: Name::new("Go").unwrap(),
            input: None,
            key: None,
        });
    }
    assert_eq!(consumed(&bench.step(bench.event(0))), [0_u32; 0]);
    assert_eq!(consumed(&bench.ask(terminate())), [0], "nobody keeps it for ever (R81)");
}

#[test]
fn a_terminate_of_another_instance_does_not_wait_behind_events() {
    let mut bench = Bench::new(usize::MAX);
    let item = bench.start();
    while bench.partition.peek_unread(&item.instance) < limits::INBOX_MESSAGES_MAX {
        bench.ask(Request::Raise {
            name: Name::new("Go").unwrap(),
            input: None,
            key: None,
        });
    }
    assert_eq!(consumed(&bench.step(bench.event(0))), [0_u32; 0]);
    let Input::Message { at, item } = bench.event(1) else {
        unreachable!("it is a message")
    };
    let body = OutboxBody::Terminate {
        reason: None,
        recurse: false,
        child_of: None,
    };
    let out = bench.step(Input::Message {
        at,
        item: OutboxItem { body, ..item },
    });
    assert_eq!(consumed(&out), [1, 0]);
}

#[test]
fn whoever_waits_for_a_start_hears_of_one_that_was_suspended_since() {
    let mut bench = Bench::new(usize::MAX);
    let item = bench.start();
    bench.ask(Request::Wait(WaitFor::Started));
    assert_eq!(bench.partition.entries().1, 1, "no turn was committed yet");
    bench.ask(Request::Suspend { reason: None });
    assert_eq!(bench.partition.entries().1, 1, "to be set aside is not to begin");
    bench.sleep(&item, Duration::from_hours(1));
    assert_eq!(bench.partition.entries().1, 0, "the first turn was committed");
    let out = bench.ask(Request::Wait(WaitFor::Started));
    assert!(matches!(out.last(), Some(Output::Reply { .. })), "{out:?}");
}

#[test]
fn an_instance_that_is_read_again_and_again_is_planned_once() {
    let mut bench = Bench::new(0);
    let start_at = bench.now.plus(Duration::from_hours(1));
    let Request::Start(mut start) = bench.start_request() else {
        unreachable!("it is a start")
    };
    start.scheduled_start = Some(start_at);
    let out = bench.ask(Request::Start(start));
    let state = created(&out);
    for _ in 0..100 {
        let out = bench.ask(Request::Info);
        assert!(
            out.iter().any(|output| matches!(output, Output::Load(_))),
            "it has left memory"
        );
        bench.step(Input::Loaded {
            instance: bench.instance.clone(),
            state: Some(Box::new(state.clone())),
            epoch: Epoch(1),
        });
    }
    assert_eq!(bench.partition.entries().0, 1);
}

/// The state that a commit among these brings into being.
fn created(out: &[Output<Nobody>]) -> InstanceState {
    let creation = out.iter().find_map(|output| match output {
        Output::Commit { commit, .. } => match &commit.change {
            Some(Change::Create(creation)) => Some(InstanceState::created(commit.number, creation)),
            _ => None,
        },
        _ => None,
    });
    creation.expect("it was created")
}

/// Places of the messages of other instances that these commits take in.
fn consumed(out: &[Output<Nobody>]) -> Vec<u32> {
    let commits = out.iter().filter_map(|output| match output {
        Output::Commit { commit, .. } => commit.consumed,
        _ => None,
    });
    commits.map(|place| place.index).collect()
}

/// The call that is handed out.
fn offered(out: &[Output<Nobody>]) -> Option<TaskKey> {
    out.iter().find_map(|output| match output {
        Output::Dispatch { offer, .. } => Some(offer.key.clone()),
        _ => None,
    })
}

fn answer_with(item: &TurnItem, kind: ActionKind) -> TurnAnswer {
    TurnAnswer {
        actions: vec![Action { id: 0, kind }],
        ..nothing_more(item)
    }
}

fn nothing_more(item: &TurnItem) -> TurnAnswer {
    TurnAnswer {
        fence: item.fence,
        actions: Vec::new(),
        custom_status: None,
        events_processed: None,
    }
}
