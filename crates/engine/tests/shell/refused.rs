//! An instance whose every commit the store refuses for good: it alone goes out of service.

use super::common::{Plain, Watched, id, open, open_halves, start};
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::{Error, Hub, Options, WaitFor};
use taskhub_store::mem::MemData;
use taskhub_store::{Error as StoreError, Group};

/// Refuses what changes the instance, as rows do that contradict a commit; its start is taken.
fn refuse(instance: InstanceId) -> impl FnMut(&Group) -> Result<(), StoreError> + Send {
    move |group| {
        let mut commits = group.sections.iter().flat_map(|section| &section.commits);
        if commits.any(|commit| commit.instance == instance && commit.update().is_some()) {
            return Err(StoreError::Corrupt {
                place: "the test".to_owned(),
                what: "a row is missing".to_owned(),
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
            Ok(()) | Err(Error::Unavailable | Error::Refused(_)) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    let Error::Store(StoreError::Corrupt { place, what }) = told else {
        panic!("{told}")
    };
    assert_eq!(place, "instance `bad`");
    assert!(what.contains("a row is missing"), "{what}");

    let waits = id("waits");
    let go = || hub.raise_event(&waits, Name::new("Go").unwrap(), None, None);
    while let Err(error) = go().await {
        assert!(matches!(error, Error::Unavailable), "{error}");
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
