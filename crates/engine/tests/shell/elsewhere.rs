//! Work for orchestrators that do not run in the process: it waits, in the store, and says why (A51, R164).

use std::collections::BTreeSet;

use super::common::{GRACE, Plain, id, open_with, start};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::Name;
use taskhub_core::query::Filter;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_engine::{Hub, Options, WaitFor};
use taskhub_store::mem::MemData;

const COUNT: usize = 200;

fn offering(names: &[&str]) -> Options {
    let names: BTreeSet<_> = names
        .iter()
        .map(|name| FoldedName::new(Name::new(name).unwrap()))
        .collect();
    Options {
        orchestrators_offered: Some(names),
        memory_bytes_max: 0,
        ..Options::default()
    }
}

async fn info(hub: &Hub, instance: &str) -> InstanceInfo {
    hub.info(&id(instance)).await.unwrap().unwrap()
}

fn reason(info: &InstanceInfo) -> Option<(&str, u32)> {
    info.stalled
        .as_ref()
        .map(|stall| (stall.reason.as_str(), stall.attempts))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_out_of_memory_with_the_reason_and_runs_where_the_function_is() {
    const WHY: (&str, u32) = (
        "no worker has the orchestrator `Steps`; the instance waits until one does",
        0,
    );
    let data = MemData::new();
    let hub = open_with(&data, &Plain::new(), offering(&["Wait"])).await;
    for index in 0..COUNT {
        hub.start(start(&format!("i{index}"), "Steps", Some("1")))
            .await
            .unwrap();
    }
    hub.start(start("here", "Wait", None)).await.unwrap();
    hub.wait(&id("here"), WaitFor::Started).await.unwrap();
    assert_eq!(reason(&info(&hub, "here").await), None);
    let waiting = info(&hub, "i0").await;
    assert_eq!((waiting.status, reason(&waiting)), (RuntimeStatus::Pending, Some(WHY)));
    let page = hub.query(Filter::default(), None, 1_000).await.unwrap();
    let shown = page.rows.iter().filter(|row| reason(row) == Some(WHY)).count();
    assert_eq!((page.rows.len(), shown), (COUNT + 1, COUNT));

    hub.suspend(&id("i1"), None).await.unwrap();
    let suspended = info(&hub, "i1").await;
    assert_eq!((suspended.status, reason(&suspended)), (RuntimeStatus::Suspended, None));
    hub.resume(&id("i1"), None).await.unwrap();
    hub.raise_event(&id("i1"), Name::new("Go").unwrap(), None, None)
        .await
        .unwrap();
    hub.terminate(&id("i2"), None, false).await.unwrap();
    assert_eq!(reason(&info(&hub, "i2").await), None);
    assert_eq!(hub.purge(&id("i2")).await.unwrap().count, 1);
    let report = hub.report().await;
    assert_eq!(report.counts.turns, 1);
    assert!(report.instances < 20, "{} instances in memory", report.instances);
    hub.stop(GRACE).await.unwrap();

    // Nothing is read of them, and nothing written, by a process that has no use for them.
    let hub = open_with(&data, &Plain::new(), offering(&["Wait"])).await;
    let before = hub.store().work().commits;
    assert_eq!(reason(&info(&hub, "i3").await), Some(WHY));
    assert!(hub.report().await.instances <= 1);
    assert_eq!(hub.store().work().commits, before);
    hub.stop(GRACE).await.unwrap();

    let hub = open_with(&data, &Plain::new(), offering(&["steps"])).await;
    for index in (0..COUNT).filter(|index| *index != 2) {
        let ended = hub.wait(&id(&format!("i{index}")), WaitFor::Ended).await.unwrap();
        assert_eq!(ended.status, RuntimeStatus::Completed);
    }
    // What has begun waits too, once its function is gone.
    assert!(reason(&info(&hub, "here").await).is_some());
}
