//! An instance whose every commit the store refuses for good: it alone goes out of service.

use std::sync::Arc;

use super::common::{Gate, Plain, Started, Watched, ask, id, open, open_halves, start};
use taskhub_core::commit::{Change, Commit};
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::message::StartRequest;
use taskhub_core::query::Filter;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;
use taskhub_engine::{Error, Hub, Options, Trouble, WaitFor};
use taskhub_store::mem::MemData;
use taskhub_store::{Error as StoreError, Extent, Group};

/// Refuses what changes the instance, as rows do that contradict a commit; its start is taken.
fn refuse(instance: InstanceId) -> impl FnMut(&Group) -> Result<(), StoreError> + Send {
    move |group| {
        let mut commits = group.sections.iter().flat_map(|section| &section.commits);
        if commits.any(|commit| commit.instance == instance && commit.update().is_some()) {
            return Err(StoreError::Corrupt {
                place: "the test".to_owned(),
                what: "a row is missing".to_owned(),
                extent: Extent::Rows,
            });
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instance_of_a_refused_commit_goes_out_of_service_and_no_other() {
    let data = MemData::new();
    let writer = Watched(data.writer(), refuse(id("bad")));
    let hub = open_halves(writer, data.reader(), &Plain::new(), Options::default()).await;
    hub.start(start("waits", "Wait", None)).await.unwrap();
    // Its first turn may be in the group of its start, whose outcome is unknown then.
    let told = loop {
        match hub.start(start("bad", "Wait", None)).await {
            Ok(()) | Err(Error::Unavailable | Error::Displaced | Error::Refused(_)) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    let Error::Store(StoreError::Corrupt { place, what, .. }) = told else {
        panic!("{told}")
    };
    assert!(["the test", "instance `bad`"].contains(&&*place), "{place}");
    assert!(what.contains("a row is missing"), "{what}");

    let waits = id("waits");
    let go = || hub.raise_event(&waits, Name::new("Go").unwrap(), None, None);
    while let Err(error) = go().await {
        assert!(matches!(error, Error::Unavailable | Error::Displaced), "{error}");
    }
    let info = hub.wait(&waits, WaitFor::Ended).await.unwrap();
    assert_eq!(info.status, RuntimeStatus::Completed);
    let reloads = hub.reloads();
    assert!(
        (1..=4).contains(&reloads),
        "{reloads} reloads: the same commit is not made for ever"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_asks_for_too_much_stalls_its_instance_which_can_be_ended_also_after_a_restart() {
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    for instance in ["one", "other"] {
        hub.start(start(instance, "Huge", None)).await.unwrap();
    }
    hub.start(start("good", "Steps", Some("2"))).await.unwrap();
    let good = hub.wait(&id("good"), WaitFor::Ended).await.unwrap();
    assert_eq!(good.status, RuntimeStatus::Completed);
    let stalled = async |hub: &Hub, instance: &str| loop {
        // It may not have had its turn yet.
        if let Some(stall) = hub.info(&id(instance)).await.unwrap().unwrap().stalled {
            break stall;
        }
    };
    let stall = stalled(&hub, "one").await;
    assert!(stall.is_final(), "{stall:?}");
    assert!(stall.reason.contains("at most 268435456 are accepted"), "{stall:?}");
    hub.terminate(&id("one"), None, false).await.unwrap();
    assert_eq!(hub.purge(&id("one")).await.unwrap().count, 1);
    assert_eq!(hub.reloads(), 0);
    drop(hub);

    let hub = open(&data, &Plain::new()).await;
    assert!(stalled(&hub, "other").await.is_final());
    hub.terminate(&id("other"), None, false).await.unwrap();
    assert_eq!(hub.purge(&id("other")).await.unwrap().count, 1);
    assert_eq!(hub.reloads(), 0);
}

fn commits(group: &Group) -> impl Iterator<Item = &Commit> {
    group.sections.iter().flat_map(|section| &section.commits)
}

/// A hub on a store with a damaged page, to which the commits belong that are so. The gate sees all groups.
async fn on_damaged_page(is_there: fn(&Commit) -> bool) -> (Hub, Arc<Gate>, MemData) {
    on_damaged_page_with(is_there, Options::default()).await
}

async fn on_damaged_page_with(is_there: fn(&Commit) -> bool, options: Options) -> (Hub, Arc<Gate>, MemData) {
    let (data, gate) = (MemData::new(), Arc::new(Gate::default()));
    let way = Arc::clone(&gate);
    let writer = Watched(data.writer(), move |group: &Group| {
        way.pass(group);
        if commits(group).any(is_there) {
            return Err(StoreError::Corrupt {
                place: "the test".to_owned(),
                what: "wrong checksum in page 7".to_owned(),
                extent: Extent::Pages,
            });
        }
        Ok(())
    });
    let options = Options {
        partitions: 1,
        ..options
    };
    let hub = open_halves(writer, data.reader(), &Plain::new(), options).await;
    (hub, gate, data)
}

/// What becomes of a call once the hub has begun its work anew.
async fn done(mut call: impl AsyncFnMut() -> Result<(), Error>) -> Result<(), Error> {
    loop {
        match call().await {
            Err(Error::Displaced) => tokio::task::yield_now().await,
            told => return told,
        }
    }
}

fn is_damage(told: &Result<(), Error>) -> bool {
    matches!(told, Err(Error::Store(StoreError::Corrupt { what, .. })) if what.contains("page 7"))
}

/// A start that is all that comes of its instance for the time being.
fn planned(instance: &str) -> StartRequest {
    StartRequest {
        scheduled_start: Some(Timestamp::from_ticks(i64::MAX / 2)),
        ..start(instance, "Wait", None)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_refused_group_each_caller_hears_what_became_of_its_own() {
    let (hub, gate, data) = on_damaged_page(|commit| commit.instance.as_str().starts_with("bad")).await;
    gate.set(true);
    let starts = ask_in_turn(&hub, &["first", "before", "bad", "behind", "last"]).await;
    gate.set(false);
    let mut told = Vec::new();
    for answer in starts {
        told.push(answer.await);
    }
    assert!(matches!(told[0], Ok(())), "{told:?}");
    assert!(matches!(told[1], Ok(())), "it is durable: {told:?}");
    assert!(is_damage(&told[2]), "{told:?}");
    assert!(
        told[3..].iter().all(|told| matches!(told, Err(Error::Displaced))),
        "{told:?}"
    );

    // What could not be begun for a damaged page is not tried again and again.
    assert_eq!(hub.trouble(), Some(Trouble::Damaged));
    let groups = gate.groups.lock().unwrap().len();
    for instance in ["bad", "new", "behind"] {
        assert!(is_damage(&hub.start(planned(instance)).await), "{instance}");
    }
    let raised = hub
        .raise_event(&id("before"), Name::new("Go").unwrap(), None, None)
        .await;
    assert!(is_damage(&raised), "{raised:?}");
    for (instance, is_there) in [("before", true), ("bad", false), ("behind", false)] {
        assert_eq!(hub.info(&id(instance)).await.unwrap().is_some(), is_there, "{instance}");
    }
    assert_eq!(gate.groups.lock().unwrap().len(), groups, "nothing was written");
    // What adds no work goes on.
    done(async || hub.terminate(&id("before"), None, false).await)
        .await
        .unwrap();
    assert_eq!(hub.purge(&id("before")).await.unwrap().count, 1);
    assert_eq!(hub.reloads(), 1);
    drop(hub);

    // Opened again on a store that is repaired.
    let hub = open(&data, &Plain::new()).await;
    hub.start(start("bad", "Steps", Some("1"))).await.unwrap();
    let info = hub.wait(&id("bad"), WaitFor::Ended).await.unwrap();
    assert_eq!(info.status, RuntimeStatus::Completed);
    assert_eq!(hub.trouble(), None);
}

/// Asks for starts, each once the one before has begun: one that has to be looked for in the store would be overtaken.
async fn ask_in_turn<'h>(hub: &'h Hub, instances: &[&str]) -> Vec<Started<'h>> {
    let mut starts = Vec::new();
    for (begun, instance) in (1..).zip(instances) {
        starts.extend(ask(hub, vec![planned(instance)], begun).await);
    }
    starts
}

/// Each commit is a group, the first ones of their partition, and its answer goes with the next.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_refused_group_each_caller_hears_what_became_of_its_own() {
    let options = Options {
        group_bytes_max: 1,
        ..Options::default()
    };
    let (hub, gate, _data) = on_damaged_page_with(|commit| commit.instance.as_str() == "bad", options).await;
    gate.set(true);
    let starts = ask_in_turn(&hub, &["bad", "behind", "last"]).await;
    gate.set(false);
    let mut told = Vec::new();
    for answer in starts {
        told.push(answer.await);
    }
    assert!(is_damage(&told[0]), "{told:?}");
    let are_displaced = matches!(told[1..], [Err(Error::Displaced), Err(Error::Displaced)]);
    assert!(are_displaced, "{told:?}");
}

/// As on a full disk: what is ready begins when the store is repaired and opened again.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_damaged_store_no_turn_begins() {
    let (hub, _gate, _data) = on_damaged_page(|commit| commit.instance.as_str().starts_with("bad")).await;
    let waits = id("waits");
    hub.start(start("waits", "Wait", None)).await.unwrap();
    hub.wait(&waits, WaitFor::Started).await.unwrap();
    hub.suspend(&waits, None).await.unwrap();
    hub.raise_event(&waits, Name::new("Go").unwrap(), None, None)
        .await
        .unwrap();
    assert!(is_damage(&hub.start(planned("bad")).await));
    done(async || hub.resume(&waits, None).await).await.unwrap();
    let info = hub.info(&waits).await.unwrap().unwrap();
    assert_eq!(info.status, RuntimeStatus::Running);
    assert_eq!(
        hub.report().await.counts.turns,
        0,
        "since the partitions were read anew"
    );
}

fn is_change_of_bad(commit: &Commit) -> bool {
    commit.instance.as_str().starts_with("bad") && !matches!(commit.change, Some(Change::Create(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_on_a_damaged_page_goes_out_of_service_at_once_and_no_other() {
    let (hub, _gate, _data) = on_damaged_page(is_change_of_bad).await;
    hub.start(planned("bad")).await.unwrap();
    hub.start(planned("good")).await.unwrap();
    let told = hub.terminate(&id("bad"), None, false).await;
    assert!(is_damage(&told), "{told:?}");
    assert_eq!(hub.trouble(), None);
    done(async || hub.terminate(&id("good"), None, false).await)
        .await
        .unwrap();
    hub.start(start("new", "Steps", Some("1"))).await.unwrap();
    hub.wait(&id("new"), WaitFor::Ended).await.unwrap();
    // Purging what it can passes over it.
    assert_eq!(hub.purge_where(Filter::default()).await.unwrap().count, 2);
    let told = hub.terminate(&id("bad"), None, false).await;
    assert!(is_damage(&told), "{told:?}");
    assert_eq!(hub.reloads(), 1, "it is not made to be refused again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_refuses_one_instance_after_the_other_ends_the_work() {
    let (hub, gate, _data) = on_damaged_page(is_change_of_bad).await;
    let ids: Vec<InstanceId> = (0..12).map(|number| id(&format!("bad-{number}"))).collect();
    for instance in &ids {
        hub.start(planned(instance.as_str())).await.unwrap();
    }
    for (number, instance) in ids.iter().enumerate() {
        let told = done(async || hub.terminate(instance, None, false).await).await;
        assert!(is_damage(&told), "{number}: {told:?}");
        if number < 4 {
            // As long as others can be written it is their own trouble.
            done(async || hub.start(planned(&format!("good-{number}"))).await)
                .await
                .unwrap();
        }
        assert_eq!(hub.trouble().is_some(), number >= 4 + 7, "{number}");
    }
    assert!(is_damage(&hub.start(planned("new")).await));
    assert!(hub.reloads() <= 12, "one for each");
    drop(gate);
}
