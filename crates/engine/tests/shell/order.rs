//! The order in which effects leave the threads: behind their cause, one group behind the other, and nothing from a thread
//! that is given up.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::common::{GRACE, Plain, TURN_LIMIT, Watched, ask, id, in_partition, open_halves, open_on, start};
use super::failing::start_surely;
use taskhub_core::action::{Action, ActionKind, Completion, TurnAnswer};
use taskhub_core::event::{EventKind, Tags};
use taskhub_core::id::{HubName, InstanceId, Name, Seq};
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::worker::{ActivityCall, ActivityFuture, Functions, TurnItem, TurnOutcome, Worker};
use taskhub_engine::{Hub, Options, WaitFor};
use taskhub_store::blocking::Writer;
use taskhub_store::faulty::{Fault, Faults, StoreCall};
use taskhub_store::inline::Inline;
use taskhub_store::layer::Layer;
use taskhub_store::mem::{MemData, MemStore};
use taskhub_store::{Error as StoreError, Fut, Group, Lease, PartitionKey, Recovered, Store};
use tokio::sync::watch;
use tokio::time::timeout;

/// Orchestrators that act on others, whose ids are their input, set apart by commas: `Tell` sends each an event and ends,
/// `Begin` starts children, each written as name, id and input, with colons between. `Listen` counts what it is sent, and
/// `Block` does not return until it may, and `Break` breaks an assertion.
#[derive(Clone, Default)]
struct Talk {
    heard: Arc<AtomicUsize>,
    may_return: Arc<AtomicBool>,
    workers: Arc<AtomicUsize>,
}

struct Talker(Talk);

impl Drop for Talker {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Functions for Talk {
    fn worker(&self) -> Box<dyn Worker> {
        self.workers.fetch_add(1, Ordering::AcqRel);
        Box::new(Talker(self.clone()))
    }

    fn orchestrator_name(&self, _name: &Name) -> Option<Name> {
        None
    }

    fn activity(&self, call: ActivityCall) -> ActivityFuture {
        Box::pin(async move { Outcome::Completed(call.input) })
    }
}

impl Worker for Talker {
    fn turn(&mut self, item: &TurnItem) -> TurnOutcome {
        let mut kinds = Vec::new();
        for event in item.new_events.iter() {
            match &event.kind {
                EventKind::ExecutionStarted(started) => {
                    let input = started.input.as_ref().map(Payload::to_text);
                    kinds.extend(self.begin(started.name.as_str(), &input.unwrap_or_default()));
                }
                EventKind::EventRaised { .. } => {
                    self.0.heard.fetch_add(1, Ordering::AcqRel);
                }
                _ => {}
            }
        }
        let actions = (0..).zip(kinds).map(|(id, kind)| Action { id, kind });
        TurnOutcome::Answer(TurnAnswer {
            fence: item.fence,
            actions: actions.collect(),
            custom_status: None,
            events_processed: None,
        })
    }

    fn evict(&mut self, _partition: &PartitionKey, _instance: &InstanceId) {}

    fn forget(&mut self, _partition: &PartitionKey) {}

    fn live_bytes(&self) -> usize {
        0
    }
}

impl Talker {
    fn begin(&self, name: &str, input: &str) -> Vec<ActionKind> {
        let others = input.split(',').filter(|other| !other.is_empty());
        match name {
            "Tell" => {
                let tell = |other: &str| ActionKind::SendEvent {
                    instance: id(other),
                    name: Name::stored("Told"),
                    input: None,
                };
                let end = ActionKind::CompleteOrchestration(Completion::Completed(None));
                others.map(tell).chain([end]).collect()
            }
            "Begin" => {
                let begin = |other: &str| {
                    let mut words = other.split(':');
                    let mut word = || words.next().unwrap();
                    ActionKind::CreateSubOrchestration {
                        name: Name::stored(word()),
                        instance: Some(id(word())),
                        version: None,
                        input: Some(Payload::text(word())),
                        tags: Tags::new(),
                    }
                };
                others.map(begin).collect()
            }
            "Break" => panic!("a broken assertion"),
            "Block" => {
                while !self.0.may_return.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

async fn open(writer: impl Writer + 'static, data: &MemData, talk: &Talk, options: Options) -> Hub {
    let (name, functions) = (HubName::new("TestHub").unwrap(), Arc::new(talk.clone()));
    let store = Inline::new(writer, data.reader());
    Hub::open(Arc::new(store), name, options, functions).await.unwrap()
}

/// Looks whether each message that is taken was made by a commit that came before, in the same group or an earlier one.
fn messages_behind_their_cause(
    is_violated: &Arc<AtomicBool>,
) -> impl FnMut(&Group) -> Result<(), StoreError> + Send + use<> {
    let (is_violated, mut made) = (Arc::clone(is_violated), BTreeSet::new());
    move |group: &Group| {
        for section in &group.sections {
            for (seq, commit) in (section.first_seq.0..).zip(&section.commits) {
                let at = commit.consumed;
                if at.is_some_and(|at| !made.contains(&(at.partition, at.seq, at.index))) {
                    is_violated.store(true, Ordering::Release);
                }
                let items = (0..).zip(&commit.outbox);
                made.extend(items.map(|(index, _)| (section.partition.index, Seq(seq), index)));
            }
        }
        Ok(())
    }
}

/// While a thread passes many messages on, the one they are for works already. If it hands over first what it made of them,
/// a group has a receipt without its message.
#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_other_threads_behind_the_commits_they_come_from() {
    const ROUNDS: usize = 40;
    const TOLD: usize = 400;
    let (data, talk) = (MemData::new(), Talk::default());
    let is_violated = Arc::new(AtomicBool::new(false));
    let options = Options {
        partitions: 2,
        threads: 2,
        ..Options::default()
    };
    let writer = Watched(data.writer(), messages_behind_their_cause(&is_violated));
    let hub = open(writer, &data, &talk, options).await;
    let listener = in_partition(1, 2, "listens");
    hub.start(start(&listener, "Listen", None)).await.unwrap();
    let input = vec![listener.as_str(); TOLD].join(",");
    for round in 0..ROUNDS {
        let teller = in_partition(0, 2, &format!("tells{round}-"));
        hub.start(start(&teller, "Tell", Some(&input))).await.unwrap();
    }
    let all_heard = async {
        while talk.heard.load(Ordering::Acquire) < ROUNDS * TOLD {
            tokio::task::yield_now().await;
        }
    };
    timeout(GRACE, all_heard).await.unwrap();
    assert!(
        !is_violated.load(Ordering::Acquire),
        "a message was taken before it was made"
    );
    assert_eq!(hub.reloads(), 0);
    hub.stop(GRACE).await.unwrap();
}

/// In the round in which its last turn blocks, a thread has a message of its own to deliver. By the time it comes to that its
/// partitions have another owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_was_given_up_hands_nothing_over() {
    let (data, talk) = (MemData::new(), Talk::default());
    let options = Options {
        partitions: 2,
        threads: 1,
        turn_limit: TURN_LIMIT,
        ..Options::default()
    };
    let hub = open(data.writer(), &data, &talk, options).await;
    // Turns of the first partition come first.
    let (tells, blocks) = (in_partition(0, 2, "tells"), in_partition(1, 2, "blocks"));
    let listens = in_partition(1, 2, "listens");
    hub.start(start(&listens, "Listen", None)).await.unwrap();
    hub.wait(&id(&listens), WaitFor::Started).await.unwrap();
    let input = format!("Tell:{tells}:{listens},Block:{blocks}:");
    hub.start(start("begins", "Begin", Some(&input))).await.unwrap();
    // It comes once, by way of the thread that took the other's place.
    let heard = async {
        while talk.heard.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(GRACE, heard).await.unwrap();
    assert_eq!((hub.reloads(), talk.workers.load(Ordering::Acquire)), (1, 2));
    talk.may_return.store(true, Ordering::Release);
    let ended = async {
        while talk.workers.load(Ordering::Acquire) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(GRACE, ended).await.unwrap();
    // Behind whatever it would have handed over.
    hub.start(start("next", "Listen", None)).await.unwrap();
    assert_eq!(hub.reloads(), 1, "the store was given what an earlier owner made");
    assert_eq!(talk.heard.load(Ordering::Acquire), 1);
    hub.stop(GRACE).await.unwrap();
}

/// Keeps the thread that wakes it until it may go on.
struct Holds {
    is_woken: SyncSender<()>,
    may_go_on: Mutex<Receiver<()>>,
}

impl Wake for Holds {
    fn wake(self: Arc<Self>) {
        // Woken once more it has nobody to tell.
        let _ = self.is_woken.try_send(());
        let _ = self.may_go_on.lock().unwrap().recv();
    }
}

/// The effects of one group are still being let go, by a thread of their own, when the next group is written, and nothing
/// waits behind that.
#[tokio::test(flavor = "multi_thread")]
async fn the_effects_of_a_group_wait_for_those_of_the_group_before_it() {
    let data = MemData::new();
    let (asks, asked) = channel();
    let (permits, permitted) = channel();
    let is_shut = Arc::new(AtomicBool::new(false));
    let shut = Arc::clone(&is_shut);
    // Once shut, each group says that it is there and waits for a permit.
    let writer = Watched(data.writer(), move |_: &Group| {
        if shut.load(Ordering::Acquire) {
            asks.send(()).unwrap();
            permitted.recv().unwrap();
        }
        Ok(())
    });
    let hub = open_halves(writer, data.reader(), &Plain::new(), Options::default()).await;
    is_shut.store(true, Ordering::Release);
    let mut first = ask(&hub, vec![start("first", "Wait", None)], 1).await.remove(0);
    asked.recv().unwrap();
    let mut second = ask(&hub, vec![start("second", "Wait", None)], 2).await.remove(0);
    let (is_woken, woken) = sync_channel(1);
    let (go_on, may_go_on) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let holds = Waker::from(Arc::new(Holds { is_woken, may_go_on }));
    assert!(poll(first.as_mut(), &holds).is_pending());
    permits.send(()).unwrap();
    woken.recv().unwrap();
    asked.recv().unwrap();
    permits.send(()).unwrap();
    // Nothing is to wait behind the second group.
    let written = async || hub.counts().await.unwrap().iter().map(|(_, count)| count).sum::<u64>();
    while written().await < 2 {
        tokio::task::yield_now().await;
    }
    let third = ask(&hub, vec![start("third", "Wait", None)], 3).await.remove(0);
    asked.recv().unwrap();
    // The thread that writes groups is done with that one.
    let idle = Waker::noop();
    assert!(poll(second.as_mut(), idle).is_pending(), "it overtook the first");
    is_shut.store(false, Ordering::Release);
    permits.send(()).unwrap();
    drop(go_on);
    for start in [first, second, third] {
        timeout(GRACE, start).await.unwrap().unwrap();
    }
    hub.stop(GRACE).await.unwrap();
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>, waker: &Waker) -> Poll<T> {
    future.poll(&mut Context::from_waker(waker))
}

/// What withdraws the call is lost with the answer of the store, so that only the reload can tell that nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_open_any_more_after_a_reload_is_not_run() {
    let (data, plain) = (MemData::new(), Plain::gated(0));
    let is_lost = Arc::new(AtomicBool::new(false));
    let loses = Arc::clone(&is_lost);
    let faults = Faults::new(move |call| {
        if call == StoreCall::Seal && loses.swap(false, Ordering::AcqRel) {
            Fault::FailAfter
        } else {
            Fault::None
        }
    });
    let options = Options {
        activities_max: 1,
        ..Options::default()
    };
    let hub = open_on(&data, &faults, &plain, options).await;
    for instance in ["runs", "waits"] {
        hub.start(start(instance, "Steps", Some("1"))).await.unwrap();
        hub.wait(&id(instance), WaitFor::Started).await.unwrap();
    }
    is_lost.store(true, Ordering::Release);
    hub.terminate(&id("waits"), None, false).await.unwrap_err();
    let status = async || hub.info(&id("waits")).await.ok().flatten().map(|info| info.status);
    let terminated = async {
        while status().await != Some(RuntimeStatus::Terminated) {
            tokio::task::yield_now().await;
        }
    };
    timeout(GRACE, terminated).await.unwrap();
    // Its call would be in line behind the other.
    start_surely(&hub, "next").await;
    plain.gate.add_permits(10);
    for instance in ["runs", "next"] {
        timeout(GRACE, hub.wait(&id(instance), WaitFor::Ended))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(hub.reloads(), 1);
    assert_eq!(plain.activities_run.load(Ordering::Acquire), 4);
    hub.stop(GRACE).await.unwrap();
}

/// A store that hands on what it has read for the owner of a partition when it may.
struct Late {
    store: MemStore,
    has_read: watch::Sender<bool>,
    may_hand_on: watch::Sender<bool>,
}

impl Layer for Late {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    fn recover<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Vec<Recovered>> {
        Box::pin(async move {
            let found = self.store.recover(lease).await;
            self.has_read.send_replace(true);
            self.may_hand_on.subscribe().wait_for(|may| *may).await.unwrap();
            found
        })
    }
}

/// The message is made behind what was read for the partition, and comes before that is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_partition_that_is_read_anew_is_kept_for_it() {
    let (has_read, mut is_read) = watch::channel(false);
    let may_hand_on = watch::Sender::new(true);
    let store = Arc::new(Late {
        store: MemStore::empty(),
        has_read,
        may_hand_on: may_hand_on.clone(),
    });
    let options = Options {
        partitions: 2,
        ..Options::default()
    };
    let name = HubName::new("TestHub").unwrap();
    let hub = Hub::open(store, name, options, Arc::new(Talk::default()))
        .await
        .unwrap();
    may_hand_on.send_replace(false);
    is_read.mark_unchanged();
    hub.start(start(&in_partition(0, 2, "breaks"), "Break", None))
        .await
        .unwrap();
    is_read.changed().await.unwrap();
    let child = in_partition(0, 2, "child");
    let begin = format!("Tell:{child}:");
    let parent = in_partition(1, 2, "parent");
    hub.start(start(&parent, "Begin", Some(&begin))).await.unwrap();
    hub.wait(&id(&parent), WaitFor::Started).await.unwrap();
    may_hand_on.send_replace(true);
    let ended = async {
        while hub.info(&id(&child)).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        hub.wait(&id(&child), WaitFor::Ended).await.unwrap().status
    };
    assert_eq!(timeout(GRACE, ended).await.unwrap(), RuntimeStatus::Completed);
    assert_eq!(hub.reloads(), 1);
}

/// A store that loses a group when it is told, and counts those that take a message which was never made.
struct Loses {
    store: MemStore,
    is_next: Arc<AtomicBool>,
    stale: Arc<AtomicUsize>,
}

impl Layer for Loses {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        Box::pin(async move {
            if self.is_next.swap(false, Ordering::AcqRel) {
                let source = "the test".into();
                return Err(StoreError::Unknown { source });
            }
            let done = self.store.commit(group).await;
            if matches!(done, Err(StoreError::Stale { .. })) {
                self.stale.fetch_add(1, Ordering::AcqRel);
            }
            done
        })
    }
}

/// The commit that it comes from is lost, so it never was.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_kept_for_a_partition_goes_with_the_memory_of_its_sender() {
    let (is_next, stale) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let store = Loses {
        store: MemStore::empty(),
        is_next: Arc::clone(&is_next),
        stale: Arc::clone(&stale),
    };
    let options = Options {
        partitions: 2,
        threads: 1,
        ..Options::default()
    };
    let name = HubName::new("TestHub").unwrap();
    let hub = Hub::open(Arc::new(store), name, options, Arc::new(Talk::default()))
        .await
        .unwrap();
    // After the second one it pauses before the partition is read anew, which is when a message to it is lost.
    for number in 0..2 {
        let breaks = in_partition(0, 2, &format!("breaks{number}-"));
        hub.start(start(&breaks, "Break", None)).await.unwrap();
        if number == 0 {
            start_surely(&hub, &in_partition(0, 2, "first")).await;
        }
    }
    is_next.store(true, Ordering::Release);
    let child = in_partition(0, 2, "child");
    let begin = format!("Tell:{child}:");
    let lost = hub
        .start(start(&in_partition(1, 2, "parent"), "Begin", Some(&begin)))
        .await;
    assert!(lost.is_err(), "{lost:?}");
    // Each partition is served again.
    for partition in [0, 1] {
        start_surely(&hub, &in_partition(partition, 2, "next")).await;
    }
    assert_eq!(hub.info(&id(&child)).await.unwrap(), None);
    assert_eq!(stale.load(Ordering::Acquire), 0, "it was delivered all the same");
    hub.stop(GRACE).await.unwrap();
}
