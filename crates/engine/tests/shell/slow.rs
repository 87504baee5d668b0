//! A disk that does not keep up: what runs ahead of it and what is written together is bounded, and large requests let
//! small ones pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::common::{GRACE, Gate, Plain, Watched, ask, id, is_pending, open_halves, round, start};
use taskhub_engine::{Error, Hub, Options, WaitFor};
use taskhub_store::mem::MemData;
use taskhub_store::{Error as StoreError, Group, partition_of};
use tokio::time::timeout;

/// A thread that is woken goes on long before, and one that is not sleeps for longer.
const WOKEN: Duration = Duration::from_secs(30);

async fn open(options: Options) -> (Hub, Arc<Gate>) {
    open_losing("", options).await
}

/// Nobody knows what became of the groups with this instance.
async fn open_losing(lost: &'static str, options: Options) -> (Hub, Arc<Gate>) {
    let (data, gate) = (MemData::new(), Arc::new(Gate::default()));
    let way = Arc::clone(&gate);
    let writer = Watched(data.writer(), move |group: &Group| {
        way.pass(group);
        let mut commits = group.sections.iter().flat_map(|section| &section.commits);
        if commits.any(|commit| commit.instance.as_str() == lost) {
            let source = "the test".into();
            return Err(StoreError::Unknown { source });
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_not_ahead_of_the_disk_any_more() {
    const LARGE: usize = 300_000;
    let options = Options {
        ahead_bytes_max: LARGE / 2,
        partitions: 1,
        ..Options::default()
    };
    let (hub, gate) = open_losing("written", options).await;
    let input = of_bytes(LARGE);
    gate.set(true);
    let mut lost = ask(&hub, vec![start("written", "Wait", Some(&input))], 1).await;
    gate.holds_one().await;
    lost.extend(ask(&hub, vec![start("behind", "Wait", Some(&input))], 2).await);
    gate.set(false);
    let mut told = Vec::new();
    for start in lost {
        told.push(start.await);
    }
    assert!(
        matches!(told[..], [Err(Error::Unavailable), Err(Error::Displaced)]),
        "{told:?}"
    );
    let go_on = async || while hub.start(start("next", "Wait", Some("1"))).await.is_err() {};
    timeout(GRACE, go_on()).await.unwrap();
    hub.stop(GRACE).await.unwrap();
}

/// The commit fills a group, so that the answer goes with the one behind it, which is thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_start_whose_answer_alone_is_thrown_away_nobody_says_that_nothing_came_of_it() {
    let options = Options {
        group_bytes_max: 1,
        ..Options::default()
    };
    let (hub, gate) = open_losing("lost", options).await;
    gate.set(true);
    let lost = ask(&hub, vec![start("lost", "Wait", None)], 1).await.remove(0);
    gate.set(false);
    let told = lost.await;
    assert!(matches!(told, Err(Error::Unavailable)), "{told:?}");
}

/// Nothing else comes to its thread, which would sleep for a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_waits_for_the_disk_goes_on_when_another_ones_work_is_written() {
    let options = Options {
        ahead_bytes_max: 1,
        partitions: 2,
        threads: 2,
        ..Options::default()
    };
    let (hub, gate) = open(options).await;
    let mut of_threads = [None, None];
    for number in 0..100 {
        let instance = format!("i{number}");
        let partition = partition_of(&id(&instance), 2);
        of_threads[usize::from(partition)] = Some(instance);
    }
    let [first, second] = of_threads.map(|instance| start(&instance.unwrap(), "Wait", None));
    gate.set(true);
    let written = ask(&hub, vec![first], 1).await.remove(0);
    let waits = ask(&hub, vec![second], 1).await.remove(0);
    gate.set(false);
    written.await.unwrap();
    timeout(WOKEN, waits).await.unwrap().unwrap();
    hub.stop(GRACE).await.unwrap();
}
