//! The shell over a store that fails: memory is dropped, nothing that was acknowledged is lost, and what
//! was under way goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::common::{
    GRACE, Gate, Plain, TURN_LIMIT, Watched, ask, id, in_partition, is_pending, open, open_halves, open_on, open_with,
    stalled, start,
};
use taskhub_core::id::{InstanceId, Name, Seq};
use taskhub_core::message::OutboxRef;
use taskhub_core::payload::Payload;
use taskhub_core::query::Filter;
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::{Error, Hub, Options, Trouble, WaitFor};
use taskhub_store::faulty::{Fault, Faults, StoreCall};
use taskhub_store::mem::MemData;
use taskhub_store::{Error as StoreError, Group, PARTITIONS_DEFAULT, partition_of};
use tokio::time::timeout;

/// After this a caller is asked no further: whether the store has said by then that it is full does not matter.
const SOON: Duration = Duration::from_millis(10);

/// A hub whose every `nth` group meets the fault.
async fn failing(nth: u64, fault: Fault, functions: &Plain, options: Options) -> Hub {
    let groups = AtomicU64::new(0);
    let faults = Faults::new(move |call| {
        let counts = call == StoreCall::Seal && groups.fetch_add(1, Ordering::Relaxed) % nth == nth - 1;
        if counts { fault } else { Fault::None }
    });
    open_on(&MemData::new(), &faults, functions, options).await
}

/// A hub on a store that is full as long as the flag says.
async fn fillable(functions: &Plain, options: Options) -> (Hub, Arc<AtomicBool>) {
    let is_full = Arc::new(AtomicBool::new(false));
    let hub = open_on(&MemData::new(), &full_while(&is_full), functions, options).await;
    (hub, is_full)
}

fn full_while(is_full: &Arc<AtomicBool>) -> Faults {
    let full = Arc::clone(is_full);
    Faults::new(move |call| {
        let strikes = matches!(call, StoreCall::Seal | StoreCall::FindRoom) && full.load(Ordering::Acquire);
        if strikes { Fault::Full } else { Fault::None }
    })
}

fn is_full_error<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Store(StoreError::Full)))
}

/// Comes back once new work is refused for want of room.
async fn is_refused(hub: &Hub) {
    loop {
        let refused = timeout(SOON, hub.start(start("refused", "Steps", None))).await;
        if matches!(refused, Ok(Err(Error::Store(StoreError::Full)))) {
            return;
        }
    }
}

/// Starts an instance until that is acknowledged.
pub(super) async fn start_surely(hub: &Hub, instance: &str) {
    start_steps_surely(hub, instance, "3").await;
}

async fn start_steps_surely(hub: &Hub, instance: &str, steps: &str) {
    while let Err(error) = hub.start(start(instance, "Steps", Some(steps))).await {
        match error {
            // The start may have taken effect before its answer was lost.
            Error::Refused(refusal) => {
                assert_eq!(refusal.code(), "instance-exists");
                break;
            }
            other => assert!(matches!(other, Error::Unavailable | Error::Displaced), "{other}"),
        }
    }
}

/// Starts instances until each is acknowledged, and sees all of them complete.
pub(super) async fn all_complete(hub: &Hub, count: usize, steps: &str) {
    for index in 0..count {
        start_steps_surely(hub, &format!("i{index}"), steps).await;
    }
    for index in 0..count {
        let info = hub.wait(&id(&format!("i{index}")), WaitFor::Ended).await.unwrap();
        assert_eq!(info.status, RuntimeStatus::Completed);
    }
    assert_eq!(
        hub.counts().await.unwrap(),
        vec![(RuntimeStatus::Completed, count as u64)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_out_of_reach_is_tried_again() {
    let hub = failing(7, Fault::FailBefore, &Plain::new(), Options::default()).await;
    all_complete(&hub, 40, "3").await;
    assert_eq!(
        hub.reloads(),
        0,
        "nothing was made, so the same group can be made (A43)"
    );
}

/// The instance that the message is for is as good as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_consumed_before_costs_a_reload_and_no_instance() {
    let (data, mut left) = (MemData::new(), 3);
    let writer = Watched(data.writer(), move |group: &Group| {
        let section = group.sections.iter().find(|section| section.first_seq > Seq(2));
        let Some(section) = section.filter(|_| left > 0) else {
            return Ok(());
        };
        left -= 1;
        Err(StoreError::Stale {
            partition: section.partition.clone(),
            at: OutboxRef {
                partition: 0,
                seq: Seq(1),
                index: 0,
            },
        })
    });
    let hub = open_halves(writer, data.reader(), &Plain::new(), Options::default()).await;
    all_complete(&hub, 40, "3").await;
    assert!(hub.reloads() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_unknown_outcome_are_applied_once() {
    let options = Options {
        threads: 2,
        ..Options::default()
    };
    let hub = failing(5, Fault::FailAfter, &Plain::new(), options).await;
    all_complete(&hub, 40, "3").await;
    assert!(hub.reloads() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s_disk_full() {
    let (hub, is_full) = fillable(&Plain::new(), Options::default()).await;
    hub.start(start("waits", "Wait", None)).await.unwrap();
    is_full.store(true, Ordering::Release);
    let mut first = Box::pin(hub.start(start("first", "Steps", Some("1"))));
    // Others hear at once that there is no room, as soon as the store has said so; those before wait.
    assert!(timeout(SOON, &mut first).await.is_err());
    is_refused(&hub).await;
    let go = hub
        .raise_event(&id("waits"), Name::new("Go").unwrap(), None, None)
        .await;
    assert!(matches!(go, Err(Error::Store(StoreError::Full))), "{go:?}");
    assert_eq!(
        hub.info(&id("waits")).await.unwrap().unwrap().status,
        RuntimeStatus::Running
    );
    is_full.store(false, Ordering::Release);
    first.await.unwrap();
    let go = hub
        .raise_event(&id("waits"), Name::new("Go").unwrap(), None, None)
        .await;
    go.unwrap();
    assert_eq!(
        hub.reloads(),
        0,
        "a full disk is no reload: the same group is tried again (A43)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_way_for_purges() {
    let functions = Plain::gated(40);
    let (hub, is_full) = fillable(&functions, Options::default()).await;
    all_complete(&hub, 40, "1").await;
    hub.start(start("waits", "Wait", None)).await.unwrap();
    hub.suspend(&id("waits"), None).await.unwrap();
    hub.raise_event(&id("waits"), Name::new("Go").unwrap(), None, None)
        .await
        .unwrap();
    hub.start(start("busy", "Steps", Some("1"))).await.unwrap();
    hub.wait(&id("busy"), WaitFor::Started).await.unwrap();
    is_full.store(true, Ordering::Release);
    // A start and the result of an activity wait for room.
    let mut first = Box::pin(hub.start(start("first", "Steps", Some("1"))));
    assert!(timeout(SOON, &mut first).await.is_err());
    functions.gate.add_permits(1);
    is_refused(&hub).await;
    let purged = timeout(GRACE, hub.purge(&id("i0"))).await.unwrap().unwrap();
    assert_eq!(purged.count, 1);
    let lost = first.await;
    assert!(
        is_full_error(&lost),
        "whoever waited is told that nothing was done: {lost:?}"
    );
    let live = timeout(GRACE, hub.purge(&id("waits"))).await.unwrap();
    assert!(matches!(live, Err(Error::Refused(_))), "{live:?}");
    let purged = timeout(GRACE, hub.purge_where(Filter::default())).await.unwrap();
    let purged = purged.unwrap();
    assert_eq!((purged.count, purged.is_complete), (39, true));
    assert_eq!(
        hub.info(&id("waits")).await.unwrap().unwrap().status,
        RuntimeStatus::Suspended,
        "reads go on"
    );
    is_full.store(false, Ordering::Release);
    let busy = timeout(GRACE, hub.wait(&id("busy"), WaitFor::Ended)).await.unwrap();
    assert_eq!(busy.unwrap().status, RuntimeStatus::Completed);
    assert_eq!(
        functions.activities_run.load(Ordering::Acquire),
        41,
        "results of activities are kept meanwhile (A35)"
    );
    assert_eq!(
        hub.info(&id("first")).await.unwrap(),
        None,
        "nothing of it was durable, and nobody was told so"
    );
    while hub.start(start("second", "Steps", Some("0"))).await.is_err() {}
    hub.resume(&id("waits"), None).await.unwrap();
    for instance in ["second", "waits"] {
        let ended = timeout(GRACE, hub.wait(&id(instance), WaitFor::Ended)).await.unwrap();
        assert_eq!(ended.unwrap().status, RuntimeStatus::Completed);
    }
}

/// They wait for room with the dispatcher: each that were taken in would cost a reload.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_come_while_the_disk_is_full_cost_nothing() {
    const BUSY: usize = 5;
    let functions = Plain::gated(0);
    let (hub, is_full) = fillable(&functions, Options::default()).await;
    all_complete(&hub, 2, "0").await;
    let busy: Vec<InstanceId> = (0..BUSY).map(|number| id(&format!("busy{number}"))).collect();
    for instance in &busy {
        hub.start(start(instance.as_str(), "Steps", Some("1"))).await.unwrap();
        hub.wait(instance, WaitFor::Started).await.unwrap();
    }
    is_full.store(true, Ordering::Release);
    let lost = hub.start(start("lost", "Steps", None)).await;
    assert!(is_full_error(&lost), "{lost:?}");
    timeout(GRACE, hub.purge(&id("i0"))).await.unwrap().unwrap();
    let reloads = hub.reloads();
    functions.gate.add_permits(BUSY);
    while functions.activities_run.load(Ordering::Acquire) < BUSY {
        tokio::task::yield_now().await;
    }
    hub.report().await;
    timeout(GRACE, hub.purge(&id("i1"))).await.unwrap().unwrap();
    assert_eq!(hub.reloads(), reloads);
    is_full.store(false, Ordering::Release);
    for instance in &busy {
        let ended = timeout(GRACE, hub.wait(instance, WaitFor::Ended)).await.unwrap();
        assert_eq!(ended.unwrap().status, RuntimeStatus::Completed);
    }
    assert_eq!(functions.activities_run.load(Ordering::Acquire), BUSY);
}

/// What an operator does on a full disk: it is possible, and nothing else is made meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_instances_are_ended_suspended_and_resumed() {
    let (hub, is_full) = fillable(&Plain::new(), Options::default()).await;
    for instance in ["ends", "pauses", "goes-on"] {
        hub.start(start(instance, "Wait", None)).await.unwrap();
        hub.wait(&id(instance), WaitFor::Started).await.unwrap();
    }
    hub.suspend(&id("goes-on"), None).await.unwrap();
    is_full.store(true, Ordering::Release);
    let first = hub.start(start("first", "Steps", Some("1")));
    let controls = async {
        is_refused(&hub).await;
        let [ends, pauses, goes_on] = ["ends", "pauses", "goes-on"].map(id);
        tokio::join!(
            hub.terminate(&ends, None, false),
            hub.suspend(&pauses, None),
            hub.resume(&goes_on, None)
        )
    };
    let (first, controls) = tokio::join!(first, controls);
    assert!(is_full_error(&first), "{first:?}");
    assert!(matches!(controls, (Ok(()), Ok(()), Ok(()))), "{controls:?}");
    for (instance, status) in [
        ("ends", RuntimeStatus::Terminated),
        ("pauses", RuntimeStatus::Suspended),
        ("goes-on", RuntimeStatus::Running),
    ] {
        assert_eq!(hub.info(&id(instance)).await.unwrap().unwrap().status, status);
    }
    assert_eq!(hub.trouble(), Some(Trouble::Full));
    let purged = timeout(GRACE, hub.purge(&id("ends"))).await.unwrap().unwrap();
    assert_eq!(purged.count, 1);
    let again = hub.terminate(&id("ends"), None, false).await;
    assert!(matches!(again, Err(Error::Refused(_))), "{again:?}");
    is_full.store(false, Ordering::Release);
    while hub.start(start("second", "Steps", Some("0"))).await.is_err() {}
    assert_eq!(hub.trouble(), None);
    hub.resume(&id("pauses"), None).await.unwrap();
    for instance in ["pauses", "goes-on"] {
        hub.raise_event(&id(instance), Name::new("Go").unwrap(), None, None)
            .await
            .unwrap();
        let ended = timeout(GRACE, hub.wait(&id(instance), WaitFor::Ended)).await.unwrap();
        assert_eq!(ended.unwrap().status, RuntimeStatus::Completed);
    }
}

/// A reason that takes more than a share of what is kept is refused, and takes nothing with it.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_large_reason_is_refused() {
    let (hub, is_full) = fillable(&Plain::new(), Options::default()).await;
    hub.start(start("waits", "Wait", None)).await.unwrap();
    hub.wait(&id("waits"), WaitFor::Started).await.unwrap();
    is_full.store(true, Ordering::Release);
    let large = Payload::text(&"x".repeat(70_000));
    let refused = hub.terminate(&id("waits"), Some(large), false).await;
    assert!(is_full_error(&refused), "{refused:?}");
    hub.terminate(&id("waits"), None, false).await.unwrap();
}

/// Nothing is tried first that would have to be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_opened_on_a_full_disk_knows_it_and_does_no_work_until_there_is_room() {
    let is_full = Arc::new(AtomicBool::new(false));
    let (data, functions) = (MemData::new(), Plain::new());
    let hub = open_on(&data, &full_while(&is_full), &functions, Options::default()).await;
    hub.start(start("waits", "Wait", None)).await.unwrap();
    hub.wait(&id("waits"), WaitFor::Started).await.unwrap();
    hub.suspend(&id("waits"), None).await.unwrap();
    hub.raise_event(&id("waits"), Name::new("Go").unwrap(), None, None)
        .await
        .unwrap();
    drop(hub);
    is_full.store(true, Ordering::Release);
    let hub = open_on(&data, &full_while(&is_full), &functions, Options::default()).await;
    assert_eq!(hub.trouble(), Some(Trouble::Full));
    let refused = hub.start(start("refused", "Steps", Some("1"))).await;
    assert!(is_full_error(&refused), "{refused:?}");
    hub.resume(&id("waits"), None).await.unwrap();
    assert_eq!(hub.reloads(), 0, "there was nothing that had to make way");
    is_full.store(false, Ordering::Release);
    let ended = timeout(GRACE, hub.wait(&id("waits"), WaitFor::Ended)).await.unwrap();
    assert_eq!(ended.unwrap().status, RuntimeStatus::Completed);
    assert_eq!(hub.trouble(), None);
}

/// Also while nobody starts anything, so that whoever watches the process sees it end.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_while_groups_fail_and_not_afterwards() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let faults = Faults::new(move |call| {
        let strikes = matches!(call, StoreCall::Seal | StoreCall::Claim) && failing.load(Ordering::Acquire);
        if strikes { Fault::FailAfter } else { Fault::None }
    });
    let hub = open_on(&MemData::new(), &faults, &Plain::new(), Options::default()).await;
    assert_eq!(hub.trouble(), None);
    fails.store(true, Ordering::Release);
    let lost = hub.start(start("lost", "Steps", Some("1"))).await;
    assert!(matches!(lost, Err(Error::Unavailable)), "{lost:?}");
    assert_eq!(hub.trouble(), Some(Trouble::Failing));
    fails.store(false, Ordering::Release);
    while hub.trouble().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_set_aside_is_in_no_purges_way() {
    let functions = Plain::new();
    let options = Options {
        partitions: 1,
        turn_limit: TURN_LIMIT,
        ..Options::default()
    };
    let (hub, is_full) = fillable(&functions, options).await;
    all_complete(&hub, 1, "1").await;
    hub.start(start("blocks", "Loop", None)).await.unwrap();
    let is_set_aside = async || {
        let info = hub.info(&id("blocks")).await.unwrap();
        info.is_some_and(|info| info.stalled.is_some())
    };
    while !is_set_aside().await {}
    is_full.store(true, Ordering::Release);
    let first = hub.start(start("first", "Steps", Some("1")));
    let purge = async {
        is_refused(&hub).await;
        timeout(GRACE, hub.purge(&id("i0"))).await.unwrap().unwrap()
    };
    let (first, purged) = tokio::join!(first, purge);
    assert!(is_full_error(&first), "{first:?}");
    assert_eq!(purged.count, 1);
    let live = timeout(GRACE, hub.purge(&id("blocks"))).await.unwrap();
    assert!(matches!(live, Err(Error::Refused(_))), "{live:?}");
    is_full.store(false, Ordering::Release);
    while hub.start(start("second", "Steps", Some("0"))).await.is_err() {}
    functions.unblock();
    hub.stop(GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_is_made_again_and_drops_nothing() {
    let fails_left = Arc::new(AtomicU64::new(0));
    let left = Arc::clone(&fails_left);
    let faults = Faults::new(move |call| {
        let fails = matches!(call, StoreCall::Load | StoreCall::History)
            && left
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
                .is_ok();
        if fails { Fault::FailBefore } else { Fault::None }
    });
    let options = Options {
        memory_bytes_max: 0,
        ..Options::default()
    };
    let hub = open_on(&MemData::new(), &faults, &Plain::new(), options).await;
    for index in 0..50 {
        hub.start(start(&format!("i{index}"), "Wait", None)).await.unwrap();
    }
    for index in 0..50 {
        let instance = id(&format!("i{index}"));
        hub.wait(&instance, WaitFor::Started).await.unwrap();
        fails_left.store(3, Ordering::Release);
        hub.raise_event(&instance, Name::new("Go").unwrap(), None, None)
            .await
            .unwrap();
        let info = hub.wait(&instance, WaitFor::Ended).await.unwrap();
        assert_eq!((info.status, info.stalled), (RuntimeStatus::Completed, None));
    }
    assert_eq!(hub.reloads(), 0);
}

/// An id of an instance of a partition.
fn id_in(partition: u16, name: &str) -> InstanceId {
    let ids = (0..).map(|number| id(&format!("{name}-{number}")));
    let mut ids = ids.filter(|id| partition_of(id, PARTITIONS_DEFAULT) == partition);
    ids.next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_assertion_costs_its_partition_its_memory_and_nothing_that_was_acknowledged() {
    let data = MemData::new();
    let threads = Options {
        threads: 1,
        ..Options::default()
    };
    let hub = open_with(&data, &Plain::new(), threads).await;
    let all: Vec<InstanceId> = (0..PARTITIONS_DEFAULT).map(|index| id_in(index, "waits")).collect();
    for id in &all {
        hub.start(start(id.as_str(), "Wait", None)).await.unwrap();
        hub.wait(id, WaitFor::Started).await.unwrap();
    }
    let breaks = id_in(3, "breaks");
    // What was committed before its turn broke is durable.
    hub.start(start(breaks.as_str(), "Break", None)).await.unwrap();
    let go = Name::new("Go").unwrap();
    for id in &all {
        while let Err(error) = hub.raise_event(id, go.clone(), None, None).await {
            assert!(matches!(error, Error::Unavailable | Error::Displaced), "{error}");
        }
        assert_eq!(
            hub.wait(id, WaitFor::Ended).await.unwrap().status,
            RuntimeStatus::Completed
        );
    }
    let reason = stalled(&hub, &breaks).await;
    assert!(reason.contains("an internal assertion failed"), "{reason}");
    assert_eq!(hub.reloads(), 1);
    // Counts begin anew with a partition: those of the others have gone on. Each of theirs has begun twice.
    let turns = hub.report().await.counts.turns;
    assert!(turns > 2 * 7, "{turns} turns");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_the_partitions_cannot_be_claimed() {
    let faults = Faults::none();
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    hub.start(start("one", "Wait", None)).await.unwrap();
    hub.wait(&id("one"), WaitFor::Started).await.unwrap();
    drop(hub);
    // The first group has an unknown outcome, so that memory is dropped; no claim after that succeeds.
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = Arc::clone(&is_lost);
    let faults_after = Faults::new(move |call| match call {
        StoreCall::Seal => {
            lost.store(true, Ordering::Release);
            Fault::FailAfter
        }
        StoreCall::Claim if lost.load(Ordering::Acquire) => Fault::FailBefore,
        _ => Fault::None,
    });
    let (writer, reader) = (faults_after.writer(data.writer()), faults.reader(data.reader()));
    let hub = open_halves(writer, reader, &Plain::new(), Options::default()).await;
    let ended = hub.terminate(&id("one"), None, false).await;
    assert!(matches!(ended, Err(Error::Unavailable)), "{ended:?}");
    // It did take effect, as whoever asks again is told.
    assert_eq!(
        hub.info(&id("one")).await.unwrap().unwrap().status,
        RuntimeStatus::Terminated
    );
    assert_eq!(
        hub.wait(&id("one"), WaitFor::Ended).await.unwrap().status,
        RuntimeStatus::Terminated
    );
}

/// The supervisor waits for the disk because of one partition when another one breaks, so that nothing else comes to their thread:
/// what the third one wants done in that round is done in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_breaks_keeps_no_other_from_ending_the_round() {
    let [stored, breaks, blocks, also_breaks] =
        [(0, "stored"), (1, "breaks"), (2, "blocks"), (2, "also-breaks")].map(|(of, begin)| in_partition(of, 3, begin));
    let options = || Options {
        partitions: 3,
        threads: 1,
        ..Options::default()
    };
    let (data, functions) = (MemData::new(), Plain::new());
    let hub = open_with(&data, &functions, options()).await;
    hub.start(start(&stored, "Wait", None)).await.unwrap();
    hub.wait(&id(&stored), WaitFor::Started).await.unwrap();
    hub.stop(GRACE).await.unwrap();
    drop(hub);

    let gate = Arc::new(Gate::default());
    let way = Arc::clone(&gate);
    let writer = Watched(data.writer(), move |group: &Group| {
        way.pass(group);
        Ok(())
    });
    let hub = open_halves(writer, data.reader(), &functions, options()).await;
    gate.set(true);
    let first = ask(&hub, vec![start(&breaks, "Break", None)], 0).await;
    reloaded(&hub).await;
    let mut blocks = Box::pin(hub.start(start(&blocks, "Loop", None)));
    is_pending(&mut blocks).await;
    while functions.looping.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    // Both wait for the thread, which takes them in at once.
    let mut breaks = Box::pin(hub.start(start(&also_breaks, "Break", None)));
    is_pending(&mut breaks).await;
    let stored = id(&stored);
    let mut info = Box::pin(hub.info(&stored));
    is_pending(&mut info).await;
    functions.unblock();
    let info = timeout(GRACE, info).await.unwrap().unwrap();
    assert_eq!(info.map(|info| info.status), Some(RuntimeStatus::Running));
    drop((first, blocks, breaks));
    gate.set(false);
    hub.stop(GRACE).await.unwrap();
}

/// Work that goes on beside it does not keep a partition that broke from being served again: it waits for what was handed over
/// before, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_broke_waits_for_no_group_that_came_after_it() {
    const GROUPS: usize = 100;
    let data = MemData::new();
    let (asks, asked) = channel();
    let (permits, permitted) = channel();
    let writer = Watched(data.writer(), move |_: &Group| {
        // All pass at the end, when nobody listens any more.
        if asks.send(()).is_ok() {
            let _ended = permitted.recv();
        }
        Ok(())
    });
    let options = Options {
        partitions: 2,
        ..Options::default()
    };
    let hub = open_halves(writer, data.reader(), &Plain::new(), options).await;
    let breaks = in_partition(1, 2, "breaks");
    let mut starts = ask(&hub, vec![start(&breaks, "Break", None)], 0).await;
    reloaded(&hub).await;
    asked.recv().unwrap();
    for number in 1.. {
        assert!(number < GROUPS, "it is not served while others work");
        // Behind the group that waits to be written there is always another.
        let goes_on = in_partition(0, 2, &format!("goes-on-{number}-"));
        starts.extend(ask(&hub, vec![start(&goes_on, "Wait", None)], number).await);
        if hub.report().await.instances > number {
            // The one that broke it is read, since it is set aside.
            break;
        }
        permits.send(()).unwrap();
        asked.recv().unwrap();
    }
    drop((asked, permits));
    assert!(
        stalled(&hub, &id(&breaks))
            .await
            .contains("an internal assertion failed")
    );
    drop(starts);
    hub.stop(GRACE).await.unwrap();
}

/// Waits until the memory of a partition that broke is dropped.
async fn reloaded(hub: &Hub) {
    while hub.reloads() == 0 {
        tokio::task::yield_now().await;
    }
    // Behind what its thread is told to drop.
    hub.report().await;
}

/// What it keeps may be half of what it should be.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_broke_in_a_turn_is_not_used_again() {
    let functions = Plain::new();
    let options = Options {
        threads: 1,
        ..Options::default()
    };
    let hub = open_with(&MemData::new(), &functions, options).await;
    start_surely(&hub, "good").await;
    assert_eq!(functions.workers.load(Ordering::Acquire), 1);
    hub.start(start("bad", "Break", None)).await.unwrap();
    assert!(stalled(&hub, &id("bad")).await.contains("an internal assertion failed"));
    assert_eq!(functions.workers.load(Ordering::Acquire), 2);
    start_surely(&hub, "also-good").await;
    hub.wait(&id("also-good"), WaitFor::Ended).await.unwrap();
    hub.stop(GRACE).await.unwrap();
}

/// A partition waits for the state of an instance while its neighbour is read anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_for_a_partition_outlasts_the_reload_of_another() {
    let options = || Options {
        partitions: 2,
        ..Options::default()
    };
    let (waits, breaks) = (in_partition(0, 2, "waits"), in_partition(1, 2, "breaks"));
    let (data, functions) = (MemData::new(), Plain::new());
    let hub = open_with(&data, &functions, options()).await;
    hub.start(start(&waits, "Wait", None)).await.unwrap();
    hub.wait(&id(&waits), WaitFor::Started).await.unwrap();
    hub.stop(GRACE).await.unwrap();
    drop(hub);

    let (is_out, loads) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (out, count) = (Arc::clone(&is_out), Arc::clone(&loads));
    let faults = Faults::new(move |call| {
        if call == StoreCall::Load && out.load(Ordering::Acquire) {
            count.fetch_add(1, Ordering::AcqRel);
            return Fault::FailBefore;
        }
        Fault::None
    });
    let hub = open_on(&data, &faults, &functions, options()).await;
    let waits = id(&waits);
    let mut raised = Box::pin(hub.raise_event(&waits, Name::new("Go").unwrap(), None, None));
    is_pending(&mut raised).await;
    while loads.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    // Its answer comes before its partition breaks, or is lost with it.
    let _either = hub.start(start(&breaks, "Break", None)).await;
    reloaded(&hub).await;
    is_out.store(false, Ordering::Release);
    timeout(GRACE, raised).await.unwrap().unwrap();
    hub.wait(&waits, WaitFor::Ended).await.unwrap();
    hub.stop(GRACE).await.unwrap();
}
