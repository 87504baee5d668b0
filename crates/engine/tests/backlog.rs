//! What a partition reads of the work that was left, and when: a value, stepped by hand.

#![expect(clippy::unwrap_used, reason = "a broken script fails its test")]

use std::collections::BTreeMap;

use taskhub_core::Ids;
use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::commit::Change;
use taskhub_core::control::{self, Started};
use taskhub_core::event::Tags;
use taskhub_core::fold::FoldedName;
use taskhub_core::id::{Epoch, ExecutionId, HubName, InstanceId, InstanceNumber, Name, Seq};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;
use taskhub_engine::flaw::Flaws;
use taskhub_engine::io::{Input, Output, Request};
use taskhub_engine::partition::{Destination, Partition, Random, Setup};
use taskhub_engine::worker::{Offered, TurnItem, TurnOutcome};
use taskhub_store::{Lease, PartitionKey, Recovered};

#[derive(Debug)]
struct Nobody;

impl Destination for Nobody {
    fn is_gone(&self) -> bool {
        false
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

impl Bench {
    fn over(stored: BTreeMap<InstanceId, InstanceState>, memory_bytes_max: usize, offered: Offered) -> Self {
        let lease = Lease {
            partition: PartitionKey {
                hub: HubName::new("bench").unwrap(),
                index: 0,
            },
            epoch: Epoch(1),
            is_clean: true,
        };
        let setup = Setup {
            lease,
            random: Random::Seeded(1),
            memory_bytes_max,
            orchestrators_offered: offered,
            set_aside: Vec::new(),
            out_of_service: Vec::new(),
            sweep_min: 1_000,
            is_first: true,
            flaws: Flaws::default(),
        };
        let counters = Recovered::Counters {
            next_seq: Seq(100_000),
            next_instance: InstanceNumber(100_000),
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
        let mut out = Vec::new();
        self.partition.step(input, self.now, &mut out);
        self.partition.turns(self.now, usize::MAX, &mut out);
        self.partition.balance(self.now, &mut out);
        self.carry_out(out);
    }

    fn ask(&mut self, instance: &InstanceId, request: Request) {
        self.round(Input::Request {
            instance: instance.clone(),
            request,
            to: Nobody,
        });
    }

    /// Answers what is asked for, ends what has a turn, and makes all of it durable.
    fn go_on(&mut self) -> bool {
        let (asked, turns) = (std::mem::take(&mut self.asked), std::mem::take(&mut self.turns));
        let is_done = asked.is_empty() && turns.is_empty();
        for instance in asked {
            let state = self.stored.get(&instance).cloned();
            self.round(Input::of_state(instance, Epoch(1), Ok(state)));
        }
        for item in turns {
            let complete = Action {
                id: 0,
                kind: ActionKind::CompleteOrchestration(Completion::Completed(None)),
            };
            let answer = TurnAnswer {
                fence: item.fence,
                actions: vec![complete],
                custom_status: None,
                events_processed: None,
            };
            self.round(Input::Turned {
                instance: item.instance,
                fence: item.fence,
                outcome: TurnOutcome::Answer(answer),
            });
        }
        self.round(Input::Durable(self.partition.last_seq()));
        !is_done
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
fn small_ones_are_read_by_the_page() {
    let mut bench = Bench::over(started(1_000, 1, None), 64 << 20, Offered::default());
    bench.begin();
    assert_eq!(bench.reads_at_once, 256);
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
