//! What a partition reads of the work that was left, and when, and what it keeps: a value, stepped by hand.

#![expect(clippy::unwrap_used, reason = "a broken script fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::commit::Change;
use taskhub_core::control::{self, Started};
use taskhub_core::event::{EventKind, HistoryEvent, Tags};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{Epoch, ExecutionId, HubName, InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{OutboxBody, OutboxItem, OutboxRef, Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_core::{Ids, limits};
use taskhub_engine::flaw::Flaws;
use taskhub_engine::io::{Input, Output, Request, WaitFor};
use taskhub_engine::partition::{Destination, Partition, Random, Setup};
use taskhub_engine::worker::{Offered, TurnItem, TurnOutcome};
use taskhub_store::{Lease, PartitionKey, Previous, Recovered};

/// Who asks; gone if there is something that counts them.
#[derive(Debug, Default)]
struct Nobody(Option<Arc<()>>);

impl Destination for Nobody {
    fn is_gone(&self) -> bool {
        self.0.is_some()
    }
}

struct Counted(u64);

impl Ids for Counted {
    fn execution(&mut self) -> ExecutionId {
        ExecutionId::new([7; 16])
    }

    fn instance_number(&mut self) -> InstanceNumber {
        self.0 += 1;
        InstanceNumber(self.0)
    }
}

const START: Timestamp = Timestamp::from_micros(1_000_000);
const LATER: Timestamp = Timestamp::from_micros(9_000_000);

/// A store with started instances, and the partition that is over it.
struct Bench {
    stored: BTreeMap<InstanceId, InstanceState>,
    partition: Partition<Nobody>,
    /// Reads asked for and not answered.
    asked: Vec<InstanceId>,
    turns: Vec<TurnItem>,
    /// Most instances, and most of their bytes, that were in memory at once.
    most: (usize, usize),
    reads: usize,
    reads_at_once: usize,
    ended: usize,
    now: Timestamp,
}

fn id(index: usize) -> InstanceId {
    InstanceId::new(&format!("i{index:05}")).unwrap()
}

/// Instances with an input of so many bytes each, planned or not.
fn started(count: usize, bytes: usize, scheduled_start: Option<Timestamp>) -> BTreeMap<InstanceId, InstanceState> {
    let mut ids = Counted(0);
    let mut start = |index| {
        let request = StartRequest {
            instance: id(index),
            name: Name::new("Here").unwrap(),
            version: None,
            input: Some(Payload::new(vec![b'1'; bytes])),
            tags: Tags::new(),
            scheduled_start,
            execution: None,
            reuse: ReusePolicy::default(),
            key: None,
            repeats: Repeats::default(),
        };
        let Ok(Started::New(commit)) = control::create(None, &request, &mut ids, START) else {
            unreachable!("nothing is in the way")
        };
        let Some(Change::Create(creation)) = &commit.change else {
            unreachable!("it creates")
        };
        (id(index), InstanceState::created(commit.number, creation))
    };
    (0..count).map(&mut start).collect()
}

fn complete() -> Action {
    Action {
        id: 0,
        kind: ActionKind::CompleteOrchestration(Completion::Completed(None)),
    }
}

impl Bench {
    fn over(stored: BTreeMap<InstanceId, InstanceState>, memory_bytes_max: usize, offered: Offered) -> Self {
        Self::recovered(stored, memory_bytes_max, offered, Vec::new())
    }

    /// It was recovered when the commits of its own before this one were there.
    fn with_horizon(stored: BTreeMap<InstanceId, InstanceState>, seq: u64) -> Self {
        Self::recovered(stored, usize::MAX, Offered::default(), vec![Seq(seq)])
    }

    fn recovered(
        stored: BTreeMap<InstanceId, InstanceState>,
        memory_bytes_max: usize,
        offered: Offered,
        horizon: Vec<Seq>,
    ) -> Self {
        let lease = Lease {
            partition: PartitionKey {
                hub: HubName::new("bench").unwrap(),
                index: 0,
            },
            epoch: Epoch(1),
            previous: Previous::Nobody,
        };
        let setup = Setup {
            lease,
            random: Random::Seeded(1),
            memory_bytes_max,
            orchestrators_offered: offered,
            set_aside: Vec::new(),
            out_of_service: Vec::new(),
            sweep_min: 1_000,
            may_be_running: false,
            flaws: Flaws::default(),
        };
        let counters = Recovered::Counters {
            next_seq: Seq(100_000),
            next_instance: InstanceNumber(100_000),
            horizon,
        };
        let inbox = |state: &InstanceState| Recovered::Inbox {
            instance: state.info.instance.clone(),
            name: state.info.name.clone(),
            bytes: state.waiting_bytes() as u64,
        };
        let recovered = [counters].into_iter().chain(stored.values().map(inbox)).collect();
        let mut out = Vec::new();
        let partition = Partition::recover(setup, recovered, START, &mut out);
        let mut bench = Self {
            stored,
            partition,
            asked: Vec::new(),
            turns: Vec::new(),
            most: (0, 0),
            reads: 0,
            reads_at_once: 0,
            ended: 0,
            now: START,
        };
        bench.carry_out(out);
        bench
    }

    fn begin(&mut self) {
        let mut out = Vec::new();
        self.partition.begin(&mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output<Nobody>>) {
        for output in out {
            match output {
                Output::Load(instance) => {
                    self.reads += 1;
                    self.asked.push(instance);
                }
                Output::Turn(item) => self.turns.push(item),
                Output::Commit { commit, .. } => match commit.change {
                    Some(Change::Update(_)) => {
                        let state = self.stored.get_mut(&commit.instance).unwrap();
                        state.apply(&commit);
                        self.ended += usize::from(!state.is_live());
                    }
                    Some(Change::Purge) => drop(self.stored.remove(&commit.instance)),
                    Some(Change::Create(_)) | None => {}
                },
                _ => {}
            }
        }
        self.reads_at_once = self.reads_at_once.max(self.asked.len());
        let (instances, bytes) = self.partition.memory();
        self.most = (self.most.0.max(instances), self.most.1.max(bytes));
    }

    /// One round, as the shell makes it: an input, turns, memory.
    fn round(&mut self, input: Input<Nobody>) {
        self.take_in(input);
        let mut out = Vec::new();
        self.partition.balance(self.now, &mut out);
        self.carry_out(out);
    }

    /// A part of a round.
    fn take_in(&mut self, input: Input<Nobody>) {
        let mut out = Vec::new();
        self.partition.step(input, self.now, &mut out);
        self.partition.turns(self.now, usize::MAX, &mut out);
        self.carry_out(out);
    }

    fn ask(&mut self, instance: &InstanceId, request: Request) {
        self.round(Input::Request {
            instance: instance.clone(),
            request,
            to: Nobody::default(),
        });
    }

    /// Answers what is asked for, and ends what has a turn. Whether there was any of that.
    fn work(&mut self) -> bool {
        let (asked, turns) = (std::mem::take(&mut self.asked), std::mem::take(&mut self.turns));
        let is_done = asked.is_empty() && turns.is_empty();
        for instance in asked {
            let state = self.stored.get(&instance).cloned();
            self.round(Input::of_state(instance, Epoch(1), Ok(state)));
        }
        for item in turns {
            self.answer(item, vec![complete()]);
        }
        !is_done
    }

    fn answer(&mut self, item: TurnItem, actions: Vec<Action>) {
        let answer = TurnAnswer {
            fence: item.fence,
            actions,
            custom_status: None,
            events_processed: None,
        };
        self.round(Input::Turned {
            instance: item.instance,
            fence: item.fence,
            outcome: TurnOutcome::Answer(answer),
        });
    }

    fn become_durable(&mut self) {
        self.round(Input::Durable(self.partition.last_seq()));
    }

    /// Does all that there is to do now, and makes it durable.
    fn go_on(&mut self) -> bool {
        let is_any = self.work();
        self.become_durable();
        is_any
    }

    /// An event that an instance of this partition sent to another.
    fn send(&mut self, index: u32, to: &InstanceId, name: &str, input: Option<&Payload>) {
        let at = OutboxRef {
            partition: 0,
            seq: Seq(1),
            index,
        };
        let body = OutboxBody::Event {
            name: Name::new(name).unwrap(),
            input: input.cloned(),
        };
        let target = to.clone();
        self.round(Input::Message {
            at,
            item: OutboxItem { target, body },
        });
    }

    fn run(&mut self) {
        while self.go_on() || !self.asked.is_empty() {}
    }
}

#[test]
fn what_was_left_is_read_within_the_budget_and_all_of_it_runs() {
    const BYTES: usize = 10_000;
    let budget = 20 * BYTES;
    let mut bench = Bench::over(started(1_000, BYTES, None), budget, Offered::default());
    assert_eq!(bench.reads, 0, "nothing is read before the other partitions are there");
    bench.begin();
    assert!(bench.reads > 1 && bench.reads <= 10, "{} reads at first", bench.reads);
    bench.run();
    assert_eq!((bench.ended, bench.reads), (1_000, 1_000));
    assert!(bench.most.1 <= budget + 4 * BYTES, "{} bytes in memory", bench.most.1);
}

#[test]
fn instances_above_the_whole_budget_are_read_one_after_the_other() {
    let mut bench = Bench::over(started(50, 10_000, None), 5_000, Offered::default());
    bench.begin();
    bench.run();
    assert_eq!((bench.ended, bench.reads_at_once), (50, 1));
    assert!(bench.most.0 <= 2, "{} instances in memory", bench.most.0);
}

#[test]
fn above_the_budget_the_next_one_is_read_when_what_came_of_the_last_is_durable() {
    let mut bench = Bench::over(started(3, 10_000, None), 5_000, Offered::default());
    bench.begin();
    for number in 1..=3 {
        let instance = bench.asked.pop().unwrap();
        let state = bench.stored.get(&instance).cloned();
        bench.take_in(Input::of_state(instance, Epoch(1), Ok(state)));
        // Turns run in the round that begins them.
        let item = bench.turns.pop().unwrap();
        bench.answer(item, vec![complete()]);
        assert_eq!((bench.ended, bench.reads), (number, number));
        bench.become_durable();
    }
}

#[test]
fn one_that_cannot_be_read_takes_no_room_from_those_behind_it() {
    let mut bench = Bench::over(started(3, 10_000, None), 5_000, Offered::default());
    bench.begin();
    let damaged = bench.asked.pop().unwrap();
    bench.round(Input::of_state(damaged, Epoch(1), Err("it is damaged".to_owned())));
    bench.run();
    assert_eq!((bench.ended, bench.reads), (2, 3));
}

#[test]
fn what_is_not_durable_is_not_forgotten() {
    let mut bench = Bench::over(started(1, 10_000, None), 0, Offered::default());
    bench.begin();
    assert!(bench.work() && bench.work());
    let rounds = |bench: &mut Bench| (0..3).for_each(|_| bench.round(Input::Tick));
    rounds(&mut bench);
    assert_eq!((bench.ended, bench.partition.memory().0), (1, 1));
    // Who asks hears of it when it is.
    let mut out = Vec::new();
    let asked = Input::Request {
        instance: id(0),
        request: Request::Info,
        to: Nobody::default(),
    };
    bench.partition.step(asked, START, &mut out);
    let last = bench.partition.last_seq();
    assert!(matches!(out[..], [Output::Reply { seq, .. }] if seq == last), "{out:?}");
    bench.become_durable();
    rounds(&mut bench);
    assert_eq!(bench.partition.memory().0, 0);
}

#[test]
fn one_that_has_ended_takes_no_more_than_its_record() {
    const BYTES: usize = 100_000;
    let mut bench = Bench::over(started(1, BYTES, None), 10 * BYTES, Offered::default());
    bench.begin();
    bench.run();
    assert_eq!((bench.ended, bench.partition.memory().0), (1, 1));
    assert!(bench.most.1 >= 2 * BYTES, "its start message has the input as well");
    let bytes = bench.partition.memory().1;
    assert!(bytes < BYTES + BYTES / 10, "{bytes} bytes in memory");
}

#[test]
fn one_that_waits_takes_what_its_calls_take() {
    const CALLS: i32 = 100;
    const BYTES: usize = 1_000;
    let mut bench = Bench::over(started(1, 1, None), usize::MAX, Offered::default());
    bench.begin();
    assert!(bench.work());
    let item = bench.turns.pop().unwrap();
    let call = |index: i32| Action {
        id: index,
        kind: ActionKind::ScheduleTask {
            name: Name::new("Step").unwrap(),
            version: None,
            input: Some(Payload::new(vec![b'1'; BYTES])),
            tags: Tags::new(),
        },
    };
    bench.answer(item, (0..CALLS).map(call).collect());
    let bytes = bench.partition.memory().1;
    assert!(
        bytes > usize::try_from(CALLS).unwrap() * BYTES,
        "{bytes} bytes in memory"
    );
}

/// None overtakes another that waits for room, also if it would fit.
#[test]
fn events_of_others_wait_in_order_for_room_in_a_full_inbox() {
    const EVENTS: usize = 5;
    let large = Payload::new(vec![b'1'; limits::INBOX_BYTES_MAX / EVENTS]);
    let mut bench = Bench::over(started(1, 1, None), usize::MAX, Offered::default());
    bench.begin();
    assert!(bench.work());
    // While the first turn is out its events gather.
    let first = bench.turns.pop().unwrap();
    let sent: Vec<String> = (0..=EVENTS).map(|number| format!("Event{number}")).collect();
    for (index, name) in (0..).zip(&sent) {
        let input = (*name != sent[EVENTS]).then_some(&large);
        bench.send(index, &id(0), name, input);
    }
    // One that is about as large as the rest of the room, and a small one, wait.
    assert_eq!(bench.partition.peek_unread(&id(0)), 1 + EVENTS - 1);
    let mut received = Vec::new();
    bench.answer(first, Vec::new());
    while let Some(item) = bench.turns.pop() {
        received.extend(item.new_events.iter().filter_map(|event| match &event.kind {
            EventKind::EventRaised { name, .. } => Some(name.to_string()),
            _ => None,
        }));
        bench.answer(item, Vec::new());
    }
    assert_eq!(received, sent);
}

#[test]
fn small_ones_are_read_by_the_page() {
    let mut bench = Bench::over(started(1_000, 1, None), 64 << 20, Offered::default());
    bench.begin();
    assert_eq!(bench.reads_at_once, 32);
    bench.run();
    assert_eq!(bench.ended, 1_000);
}

#[test]
fn one_that_is_asked_for_does_not_wait_for_those_before_it_and_is_read_once() {
    let mut bench = Bench::over(started(100, 10_000, None), 5_000, Offered::default());
    bench.begin();
    let last = id(99);
    bench.ask(&last, Request::Info);
    assert_eq!(bench.asked.last(), Some(&last));
    bench.run();
    assert_eq!((bench.ended, bench.reads), (100, 100));
}

#[test]
fn planned_instances_leave_memory_and_come_back_when_they_are_due() {
    let budget = 50_000;
    let mut bench = Bench::over(started(1_000, 100, Some(LATER)), budget, Offered::default());
    bench.begin();
    bench.run();
    assert_eq!((bench.ended, bench.reads), (0, 1_000));
    assert!(bench.partition.memory().1 <= budget);
    assert_eq!(bench.partition.next_tick(), Some(LATER));
    bench.now = LATER;
    bench.round(Input::Tick);
    assert!(bench.asked.len() < 100, "{} reads at once", bench.asked.len());
    bench.run();
    assert_eq!(bench.ended, 1_000);
    assert!(bench.most.1 <= budget + 20_000, "{} bytes in memory", bench.most.1);
}

#[test]
fn a_clock_that_jumps_is_not_told_of_what_has_no_cause_any_more() {
    let mut bench = Bench::over(started(2, 100, Some(LATER)), 50_000, Offered::default());
    bench.begin();
    bench.run();
    let reason = || Request::Terminate {
        reason: None,
        recurse: false,
    };
    bench.ask(&id(0), reason());
    assert_eq!(bench.partition.next_due(), Some(LATER), "of the other one");
    bench.ask(&id(1), reason());
    assert_eq!(bench.partition.next_tick(), Some(LATER), "nothing has looked since");
    assert_eq!(bench.partition.next_due(), None);
    assert_eq!(bench.partition.entries().0, 0);
}

/// None but this one.
fn only(name: &str) -> Offered {
    Offered::new(Some([FoldedName::new(Name::new(name).unwrap())].into()))
}

#[test]
fn work_for_orchestrators_that_are_elsewhere_is_not_read_and_not_begun() {
    let mut bench = Bench::over(started(1_000, 10_000, None), 5_000, only("Elsewhere"));
    bench.begin();
    bench.run();
    assert_eq!((bench.reads, bench.most.0), (0, 0));

    // It is there for whoever asks, and does not stay.
    let (one, other) = (id(1), id(2));
    bench.ask(&one, Request::Info);
    bench.ask(&one, Request::Suspend { reason: None });
    bench.ask(&one, Request::Resume { reason: None });
    bench.ask(
        &one,
        Request::Raise {
            name: Name::new("Told").unwrap(),
            input: None,
            key: None,
        },
    );
    bench.ask(
        &other,
        Request::Terminate {
            reason: None,
            recurse: false,
        },
    );
    bench.run();
    bench.ask(&other, Request::Purge);
    bench.run();
    assert!(!bench.stored.contains_key(&other));
    assert_eq!(bench.stored[&one].inbox.len(), 4);
    assert_eq!(bench.partition.counts().turns, 0);
    assert!(bench.partition.memory().1 <= 5_000);

    // The next process has the function, however that spells its name.
    let mut bench = Bench::over(bench.stored, 5_000, only("HERE"));
    bench.begin();
    bench.run();
    assert_eq!(bench.ended, 999);
}

#[test]
fn planned_work_for_orchestrators_that_are_elsewhere_has_no_timer() {
    let mut bench = Bench::over(started(10, 10, Some(LATER)), 0, only("Elsewhere"));
    bench.begin();
    bench.ask(&id(1), Request::Info);
    bench.run();
    assert_eq!(bench.partition.next_tick(), None);
}

/// An instance that has had its first turn, in which it asked for these.
fn waiting(memory_bytes_max: usize, actions: Vec<Action>) -> Bench {
    let mut bench = Bench::over(started(1, 1, None), memory_bytes_max, Offered::default());
    bench.begin();
    assert!(bench.work());
    let item = bench.turns.pop().unwrap();
    bench.answer(item, actions);
    bench.become_durable();
    bench
}

fn raise(name: &str) -> Request {
    Request::Raise {
        name: Name::new(name).unwrap(),
        input: None,
        key: None,
    }
}

#[test]
fn a_timer_that_came_due_of_an_instance_in_the_store_fires_before_what_came_later() {
    let timer = Action {
        id: 0,
        kind: ActionKind::CreateTimer { fire_at: LATER },
    };
    let mut bench = waiting(0, vec![timer]);
    (0..3).for_each(|_| bench.round(Input::Tick));
    assert_eq!(bench.partition.memory().0, 0, "it is not in memory");
    bench.now = bench.partition.next_tick().unwrap();
    bench.take_in(Input::Tick);
    bench.take_in(Input::Request {
        instance: id(0),
        request: raise("Go"),
        to: Nobody::default(),
    });
    assert!(bench.work());
    let mut seen = Vec::new();
    while let Some(item) = bench.turns.pop() {
        seen.extend(item.new_events.iter().map(|event| event.kind.name()));
        bench.answer(item, Vec::new());
    }
    seen.retain(|name| *name != "OrchestratorStarted");
    assert_eq!(seen, ["TimerFired", "EventRaised"]);
}

/// Clients that ask again and again, and listen for a while each time.
#[test]
fn waits_for_one_instance_that_nobody_listens_to_are_not_kept() {
    let mut bench = waiting(usize::MAX, Vec::new());
    let waits = Arc::new(());
    for _ in 0..100 {
        bench.round(Input::Request {
            instance: id(0),
            request: Request::Wait(WaitFor::Ended),
            to: Nobody(Some(Arc::clone(&waits))),
        });
    }
    assert_eq!(
        Arc::strong_count(&waits),
        1 + 1,
        "the last one is there until the next comes"
    );
}

#[test]
fn a_failing_turn_says_since_when_it_fails() {
    let mut bench = waiting(usize::MAX, Vec::new());
    bench.ask(&id(0), raise("Go"));
    for attempts in 1..=3 {
        let item = bench.turns.pop().unwrap();
        bench.round(Input::Turned {
            instance: item.instance,
            fence: item.fence,
            outcome: TurnOutcome::Failed {
                reason: format!("for the time {attempts}"),
            },
        });
        let stall = bench.partition.peek(&id(0)).unwrap().stalled.clone().unwrap();
        assert_eq!((stall.since, stall.attempts), (START, attempts));
        assert_eq!(stall.reason, format!("for the time {attempts}"));
        bench.now = bench.partition.next_tick().unwrap();
        bench.round(Input::Tick);
    }
    assert!(bench.now > START);
}

/// A read of a history that was overtaken is made again, some times for each turn.
#[test]
fn reads_that_come_out_too_short_are_counted_for_each_turn() {
    let mut bench = waiting(usize::MAX, Vec::new());
    for turn in 0..3 {
        bench.ask(&id(0), raise("Go"));
        bench.become_durable();
        let item = bench.turns.pop().unwrap();
        let of_turn = |events: usize| Input::History {
            instance: id(0),
            fence: item.fence,
            events: vec![HistoryEvent::inbound(START, EventKind::OrchestratorStarted); events],
        };
        bench.round(Input::Turned {
            instance: id(0),
            fence: item.fence,
            outcome: TurnOutcome::NeedsHistory,
        });
        for _ in 0..5 {
            bench.round(of_turn(0));
            assert!(bench.turns.is_empty());
        }
        bench.round(of_turn(item.past_events as usize));
        assert_eq!(bench.partition.peek(&id(0)).unwrap().stalled, None, "turn {turn}");
        let item = bench.turns.pop().unwrap();
        bench.answer(item, Vec::new());
        bench.become_durable();
    }
}

#[test]
fn a_timer_is_looked_at_when_it_may_fire_and_no_earlier() {
    let fire_at = Timestamp::from_micros(9_000_001);
    let timer = Action {
        id: 0,
        kind: ActionKind::CreateTimer { fire_at },
    };
    let bench = waiting(usize::MAX, vec![timer]);
    assert_eq!(bench.partition.next_tick(), Some(fire_at.fires_at()));
    assert!(fire_at.fires_at() > fire_at);
}

/// What it read of its own messages when it was recovered is not taken once more; the next one is.
#[test]
fn messages_from_the_horizon_on_are_taken() {
    let mut bench = Bench::with_horizon(started(1, 1, None), 7);
    bench.begin();
    bench.run();
    let mut taken = Vec::new();
    for seq in 5..=8 {
        let at = OutboxRef {
            partition: 0,
            seq: Seq(seq),
            index: 0,
        };
        let (target, name) = (id(0), Name::new("Go").unwrap());
        let body = OutboxBody::Event { name, input: None };
        let last = bench.partition.last_seq();
        bench.round(Input::Message {
            at,
            item: OutboxItem { target, body },
        });
        if bench.partition.last_seq() > last {
            taken.push(seq);
        }
    }
    assert_eq!(taken, [7, 8]);
}

/// An instance may end while activities of it run.
#[test]
fn activities_that_run_on_are_withdrawn_when_their_instance_is_purged() {
    let call = Action {
        id: 0,
        kind: ActionKind::ScheduleTask {
            name: Name::new("Step").unwrap(),
            version: None,
            input: None,
            tags: Tags::new(),
        },
    };
    let mut bench = waiting(usize::MAX, vec![call, Action { id: 1, ..complete() }]);
    let mut out = Vec::new();
    let purge = Input::Request {
        instance: id(0),
        request: Request::Purge,
        to: Nobody::default(),
    };
    bench.partition.step(purge, START, &mut out);
    let withdrawn = out.iter().filter(|output| matches!(output, Output::Withdraw { .. }));
    assert_eq!(withdrawn.count(), 1, "{out:?}");
}
