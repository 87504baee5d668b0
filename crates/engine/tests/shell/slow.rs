//! A disk that does not keep up: what runs ahead of it and what is written together is bounded, and large requests let
//! small ones pass.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::common::{GRACE, Gate, Plain, Watched, ask, id, open_halves, round, start};
use taskhub_engine::{Error, Hub, Options, WaitFor};
use taskhub_store::mem::MemData;
use taskhub_store::{Error as StoreError, Group};

async fn open(options: Options) -> (Hub, Arc<Gate>) {
    let (data, gate) = (MemData::new(), Arc::new(Gate::default()));
    let way = Arc::clone(&gate);
    let writer = Watched(data.writer(), move |group: &Group| {
        way.pass(group);
        Ok(())
    });
    let hub = open_halves(writer, data.reader(), &Plain::new(), options).await;
    (hub, gate)
}

/// An input of so many bytes that says 1.
fn of_bytes(bytes: usize) -> String {
    "0".repeat(bytes - 1) + "1"
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_do_not_run_ahead_of_the_disk_without_bound() {
    const STATE: usize = 20_000;
    const AHEAD: usize = 1 << 20;
    let options = Options {
        ahead_bytes_max: AHEAD,
        group_bytes_max: AHEAD / 8,
        ..Options::default()
    };
    let (hub, gate) = open(options).await;
    let input = of_bytes(STATE);
    hub.start(start("again", "Again", Some(&input))).await.unwrap();
    hub.wait(&id("again"), WaitFor::Started).await.unwrap();
    gate.set(true);
    // A report is made in a round, which begins the turns that may begin.
    let mut before = hub.report().await.counts.turns;
    let shut = before;
    let stuck = loop {
        let turns = hub.report().await.counts.turns;
        if turns == before {
            break turns;
        }
        before = turns;
    };
    // Each takes its input out of the inbox and puts it there again; some run before it is looked again.
    let ahead = usize::try_from(stuck - shut).unwrap() * 2 * STATE;
    assert!(ahead <= AHEAD + AHEAD / 2, "{ahead} bytes run ahead");
    gate.set(false);
    while hub.report().await.counts.turns == stuck {
        tokio::task::yield_now().await;
    }
    hub.terminate(&id("again"), None, false).await.unwrap();
    let groups = gate.groups.lock().unwrap().clone();
    let most = groups.iter().map(|(bytes, _)| *bytes).max().unwrap();
    assert!(most <= AHEAD / 2, "a group has {most} bytes");
    hub.stop(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_start_is_written_without_others_of_its_kind_and_lets_small_ones_pass() {
    const LARGE: usize = 300_000;
    let options = Options {
        group_bytes_max: 100_000,
        ..Options::default()
    };
    let (hub, gate) = open(options).await;
    let input = of_bytes(LARGE);
    let large = |index: usize| start(&format!("large-{index}"), "Wait", Some(&input));
    let small = |index: usize| start(&format!("small-{index}"), "Wait", Some("1"));
    gate.set(true);
    let first = ask(&hub, vec![small(0)], 1).await;
    let mut requests = Vec::new();
    for index in 1..=4 {
        requests.extend([large(index), small(2 * index), small(2 * index + 1)]);
    }
    let rest = ask(&hub, requests, 9).await;
    gate.set(false);
    for start in first.into_iter().chain(rest) {
        start.await.unwrap();
    }
    let groups = gate.groups.lock().unwrap().clone();
    let place = |instance: &str| {
        groups
            .iter()
            .position(|(_, instances)| instances.contains(instance))
            .unwrap()
    };
    let larges: BTreeSet<usize> = (1..=4).map(|index| place(&format!("large-{index}"))).collect();
    assert_eq!(larges.len(), 4, "each in a group of its own: {groups:?}");
    let last_small = (2..=9).map(|index| place(&format!("small-{index}"))).max().unwrap();
    assert!(Some(&last_small) < larges.first(), "{groups:?}");
    assert!(groups.iter().all(|(bytes, _)| *bytes < 2 * LARGE), "{groups:?}");
    hub.stop(GRACE).await.unwrap();
}

/// Goes on with it once.
async fn is_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) {
    poll_fn(|context| {
        assert!(Pin::new(&mut *future).poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_behind_a_stuck_disk_is_taken_back_or_answered_when_it_is_durable() {
    let options = Options {
        ahead_bytes_max: 1,
        ..Options::default()
    };
    let (hub, gate) = open(options).await;
    gate.set(true);
    let (enough, is_enough) = tokio::sync::oneshot::channel::<()>();
    let is_enough = async { drop(is_enough.await) };
    let mut begun = Box::pin(hub.start_until(start("begun", "Wait", None), is_enough, None));
    is_pending(&mut begun).await;
    round(&hub, 1).await;
    drop(enough);
    let taken_back = hub
        .start_until(start("waits", "Wait", None), std::future::ready(()), None)
        .await;
    let is_unchanged = matches!(taken_back, Err(Error::Store(StoreError::Unavailable { .. })));
    assert!(is_unchanged, "{taken_back:?}");
    is_pending(&mut begun).await;
    gate.set(false);
    begun.await.unwrap();
    assert!(hub.info(&id("begun")).await.unwrap().is_some());
    assert_eq!(hub.info(&id("waits")).await.unwrap(), None);
    hub.stop(GRACE).await.unwrap();
}
