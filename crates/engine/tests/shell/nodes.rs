//! Two nodes over one store: a hub is at one of them, and moves when that one stops, or does not beat any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::event::EventKind;
use taskhub_core::id::{HubName, InstanceId};
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;
use taskhub_engine::{Error, Hub, Options, WaitFor};
use taskhub_store::layer::Layer;
use taskhub_store::mem::{MemData, MemStore};
use taskhub_store::{Beat, Claim, Claimed, Error as StoreError, Fut, Group, NodeId, Store};
use tokio::sync::watch;
use tokio::time::timeout;

use super::common::{GRACE, Plain, id, start};

/// So short that a test waits for its end now and then.
const LEASE: Duration = Duration::from_millis(300);
/// After this a caller is asked no further.
const SOON: Duration = Duration::from_millis(10);
const STEPS: usize = 3;

/// What becomes of the beats of a node that is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beats {
    /// They wait, as all it does.
    Wait,
    /// They reach the store all the same, and their answers wait.
    AreHeardLate,
    /// The store cannot be reached.
    Fail,
}

/// A store whose node can be stopped in the middle of whatever it does, as a process is.
struct Stoppable {
    store: MemStore,
    is_stopped: watch::Receiver<bool>,
    beats: Beats,
}

impl Stoppable {
    async fn goes_on(&self) {
        let mut is_stopped = self.is_stopped.clone();
        is_stopped.wait_for(|is_stopped| !is_stopped).await.unwrap();
    }
}

impl Layer for Stoppable {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    fn beat(&self, node: NodeId, lasts: Duration, now: Timestamp) -> Fut<'_, Beat> {
        Box::pin(async move {
            if self.beats == Beats::Fail && *self.is_stopped.borrow() {
                let source = "the test".into();
                return Err(StoreError::Unavailable { source });
            }
            if self.beats == Beats::AreHeardLate {
                let beat = self.store.beat(node, lasts, now).await;
                self.goes_on().await;
                return beat;
            }
            self.goes_on().await;
            self.store.beat(node, lasts, now).await
        })
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> Fut<'a, Claimed> {
        Box::pin(async move {
            self.goes_on().await;
            self.store.claim(claim).await
        })
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        Box::pin(async move {
            self.goes_on().await;
            self.store.commit(group).await
        })
    }
}

/// A node of its own on the data.
async fn node(data: &MemData) -> (Hub, watch::Sender<bool>) {
    node_with(data, LEASE, Beats::Wait).await
}

async fn node_with(data: &MemData, lease: Duration, beats: Beats) -> (Hub, watch::Sender<bool>) {
    let (stop, is_stopped) = watch::channel(false);
    let store = Stoppable {
        store: MemStore::over(data),
        is_stopped,
        beats,
    };
    let options = Options {
        lease: Some(lease),
        ..Options::default()
    };
    let name = HubName::new("TestHub").unwrap();
    let hub = Hub::open(Arc::new(store), name, options, Arc::new(Plain::new())).await;
    (hub.unwrap(), stop)
}

/// Starts an instance once this node has the hub.
async fn start_surely(hub: &Hub, id: &str) {
    let steps = STEPS.to_string();
    let started = async {
        loop {
            match hub.start(start(id, "Steps", Some(&steps))).await {
                Ok(()) | Err(Error::Refused(_)) => return,
                Err(Error::Unavailable | Error::Displaced) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(GRACE, started).await.unwrap();
}

/// Whether it changes nothing, because it has not got the hub. What is stored it tells all the same.
async fn stands_by(hub: &Hub) -> bool {
    let refused = hub.start(start("nobody", "Steps", None)).await;
    matches!(refused, Err(Error::Unavailable | Error::Displaced))
}

/// All have ended as they must, each step done once.
async fn are_done(hub: &Hub, ids: &BTreeSet<InstanceId>) {
    for id in ids {
        let ended = async {
            loop {
                match hub.wait(id, WaitFor::Ended).await {
                    Err(Error::Unavailable) => tokio::task::yield_now().await,
                    ended => return ended.unwrap(),
                }
            }
        };
        assert_eq!(timeout(GRACE, ended).await.unwrap().status, RuntimeStatus::Completed);
        let history = hub.history(id).await.unwrap().unwrap();
        let results = history
            .iter()
            .filter(|event| matches!(event.kind, EventKind::TaskCompleted { .. }));
        assert_eq!(results.count(), STEPS, "{id}");
    }
    assert_eq!(
        hub.counts().await.unwrap(),
        [(RuntimeStatus::Completed, ids.len() as u64)]
    );
    assert_eq!(hub.store().verify().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_at_one_node_and_goes_to_the_next_when_that_one_stops() {
    let data = MemData::new();
    let (first, _stop) = node(&data).await;
    start_surely(&first, "one").await;
    let (second, _stop) = node(&data).await;
    assert!(stands_by(&second).await, "the first one has it");
    start_surely(&first, "more").await;
    assert_eq!(first.reloads(), 0, "and is not disturbed");
    first.stop(GRACE).await.unwrap();
    start_surely(&second, "two").await;
    are_done(&second, &["one", "more", "two"].map(id).into()).await;
    second.stop(GRACE).await.unwrap();
}

/// The node is stopped with work in flight and wakes up when another one has taken the hub; then the other way round, and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_for_too_long_is_refused_and_nothing_is_lost_or_done_twice() {
    let data = MemData::new();
    let (one, other) = (node(&data).await, node(&data).await);
    let mut ids = BTreeSet::new();
    for round in 0..4 {
        let ((here, stop), (there, _)) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        for number in 0..20 {
            let name = format!("{round}-{number}");
            start_surely(here, &name).await;
            ids.insert(id(&name));
        }
        stop.send_replace(true);
        // It is acknowledged only if it becomes durable, which it cannot.
        let in_flight = format!("{round}-late");
        let late = here.start(start(&in_flight, "Steps", Some("3")));
        let taken = async {
            let name = format!("{round}-there");
            start_surely(there, &name).await;
            ids.insert(id(&name));
            stop.send_replace(false);
        };
        let (late, ()) = tokio::join!(late, taken);
        assert!(matches!(late, Err(Error::Unavailable | Error::Displaced)), "{late:?}");
        assert_eq!(there.info(&id(&in_flight)).await.unwrap(), None, "it never was");
        are_done(there, &ids).await;
        assert!(stands_by(here).await);
        // What it remembers is not true any more: it tells what is stored.
        let there = there.info(&id(&format!("{round}-there"))).await.unwrap();
        assert_eq!(here.info(&id(&format!("{round}-there"))).await.unwrap(), there);
    }
    one.0.stop(GRACE).await.unwrap();
    other.0.stop(GRACE).await.unwrap();
}

/// The lease of a node that was stopped is over, and nobody has taken what it had: it goes on as a new node.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_for_too_long_goes_on_alone() {
    let data = MemData::new();
    let (hub, stop) = node_with(&data, LEASE, Beats::Fail).await;
    start_surely(&hub, "one").await;
    let (store, clock) = (MemStore::over(&data), Options::default().clock);
    let onlooker = NodeId(8);
    for (before, after) in [("one", "two"), ("two", "three")] {
        stop.send_replace(true);
        store.claim(&Claim::new(onlooker, &[], clock.now())).await.unwrap();
        while store.beat(onlooker, GRACE, clock.now()).await.unwrap().nodes.len() > 1 {
            tokio::task::yield_now().await;
        }
        stop.send_replace(false);
        start_surely(&hub, after).await;
        // The first time there is work in flight when it stops, and the second time there is none.
        are_done(&hub, &["one", before, after].map(id).into()).await;
    }
    hub.stop(GRACE).await.unwrap();
}

/// It may have lost what it had, so it does no work, though it has not heard of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_renew_its_lease_begins_no_turns() {
    let data = MemData::new();
    let (here, stop) = node(&data).await;
    start_surely(&here, "one").await;
    are_done(&here, &[id("one")].into()).await;
    stop.send_replace(true);
    let (there, _stop) = node(&data).await;
    start_surely(&there, "two").await;
    let turns = here.report().await.counts.turns;
    assert!(turns > 0);
    let late = async |name: &str| {
        let started = here.start(start(name, "Steps", None)).await;
        assert!(
            matches!(started, Err(Error::Unavailable | Error::Displaced)),
            "{started:?}"
        );
    };
    timeout(GRACE, late("late")).await.unwrap();
    assert_eq!(here.report().await.counts.turns, turns);
    stop.send_replace(false);
    are_done(&there, &["one", "two"].map(id).into()).await;
    there.stop(GRACE).await.unwrap();
}

/// The store has kept the lease, and the node has not counted on it: what it left undone meanwhile it finds by beginning anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_late_of_its_lease_begins_anew() {
    let data = MemData::new();
    // Longer than it takes from the first refusal to the next beat.
    let (hub, stop) = node_with(&data, 4 * LEASE, Beats::AreHeardLate).await;
    start_surely(&hub, "one").await;
    stop.send_replace(true);
    let refused = async {
        for number in 0.. {
            // As long as it counts on its lease they are begun, and wait for the store.
            let late = start(&format!("late-{number}"), "Wait", None);
            match timeout(SOON, hub.start(late)).await {
                Err(_) => {}
                Ok(Err(Error::Unavailable | Error::Displaced)) => return,
                Ok(told) => panic!("{told:?}"),
            }
        }
    };
    timeout(GRACE, refused).await.unwrap();
    stop.send_replace(false);
    start_surely(&hub, "two").await;
    assert!(hub.reloads() > 0);
    hub.stop(GRACE).await.unwrap();
}
