//! The shell over a store with a damaged row: that costs one instance, which tells why (R187).

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::common::{GRACE, Plain, id, open, start};
use taskhub_core::id::{HubName, InstanceId, InstanceNumber, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::{Filter, Payloads};
use taskhub_core::status::RuntimeStatus;
use taskhub_engine::{Error, Hub, Options, WaitFor};
use taskhub_store::blocking::Reader;
use taskhub_store::inline::Inline;
use taskhub_store::mem::{MemData, MemReader};
use taskhub_store::{
    Error as StoreError, ExecutionKey, Extent, FingerprintPage, HistoryChunk, HistoryRange, IdPage, InstancePage,
    Lease, PARTITIONS_DEFAULT, PartitionKey, Recovered, Selection, Space, Verified, partition_of,
};

/// Cannot read a row of what an instance waits for, nor list status records. States it gives out: nobody
/// should ask for that of the damaged instance.
struct DamagedReader {
    inner: MemReader,
    damaged: InstanceId,
}

impl Reader for DamagedReader {
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, StoreError> {
        let mut items = self.inner.recover(lease)?;
        if partition_of(&self.damaged, PARTITIONS_DEFAULT) == lease.partition.index {
            items.push(Recovered::Damaged {
                instance: Some(self.damaged.clone()),
                place: "row 1/1/0 of `pending`".to_owned(),
                what: "the checksum is wrong".to_owned(),
            });
        }
        items.push(Recovered::Damaged {
            instance: None,
            place: "row 1/7/0 of `outbox`".to_owned(),
            what: "the checksum is wrong".to_owned(),
        });
        Ok(items)
    }

    fn load(
        &mut self,
        partition: &PartitionKey,
        instances: &[InstanceId],
    ) -> Result<Vec<Option<InstanceState>>, StoreError> {
        self.inner.load(partition, instances)
    }

    fn history(&mut self, of: &ExecutionKey, range: HistoryRange) -> Result<Vec<HistoryChunk>, StoreError> {
        self.inner.history(of, range)
    }

    fn list(&mut self, _which: &Selection, _payloads: Payloads) -> Result<InstancePage, StoreError> {
        Err(StoreError::Corrupt {
            place: "a status record".to_owned(),
            what: "it cannot be read".to_owned(),
            extent: Extent::Rows,
        })
    }

    fn list_ids(&mut self, which: &Selection) -> Result<IdPage, StoreError> {
        self.inner.list_ids(which)
    }

    fn counts(&mut self, hub: &HubName) -> Result<Vec<(RuntimeStatus, u64)>, StoreError> {
        self.inner.counts(hub)
    }

    fn fingerprints(
        &mut self,
        partition: &PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Result<FingerprintPage, StoreError> {
        self.inner.fingerprints(partition, after, rows_max)
    }

    fn verify(&mut self) -> Result<Verified, StoreError> {
        self.inner.verify()
    }

    fn space(&mut self) -> Result<Space, StoreError> {
        self.inner.space()
    }
}

async fn open_damaged(data: &MemData, damaged: &str, functions: &Plain) -> Hub {
    let reader = DamagedReader {
        inner: data.reader(),
        damaged: id(damaged),
    };
    Hub::open(
        Arc::new(Inline::new(data.writer(), reader)),
        HubName::new("TestHub").unwrap(),
        Options::default(),
        Arc::new(functions.clone()),
    )
    .await
    .unwrap()
}

fn tells_why<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = answer.unwrap_err();
    assert_eq!(error.code(), "store-corrupt");
    let why = error.source().unwrap().to_string();
    assert!(why.contains("cannot read row 1/1/0 of `pending`"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_corrupt_row() {
    let data = MemData::new();
    let hub = open(&data, &Plain::gated(0)).await;
    let (damaged, whole) = (id("damaged"), id("whole"));
    for instance in [&damaged, &whole] {
        hub.start(start(instance.as_str(), "Steps", Some("1"))).await.unwrap();
        hub.wait(instance, WaitFor::Started).await.unwrap();
    }
    hub.start(start("waits", "Wait", None)).await.unwrap();
    drop(hub);

    let functions = Plain::new();
    let hub = open_damaged(&data, "damaged", &functions).await;
    let ended = hub.wait(&whole, WaitFor::Ended).await.unwrap();
    assert_eq!(ended.status, RuntimeStatus::Completed);
    let go = || Name::new("Go").unwrap();
    hub.raise_event(&id("waits"), go(), None, None).await.unwrap();
    hub.wait(&id("waits"), WaitFor::Ended).await.unwrap();
    tells_why(hub.info(&damaged).await);
    tells_why(hub.history(&damaged).await);
    tells_why(hub.wait(&damaged, WaitFor::Ended).await);
    tells_why(hub.raise_event(&damaged, go(), None, None).await);
    tells_why(hub.terminate(&damaged, None, false).await);
    tells_why(hub.purge(&damaged).await);
    tells_why(hub.start(start("damaged", "Steps", Some("1"))).await);
    hub.stop(GRACE).await.unwrap();
    assert_eq!(
        functions.activities_run.load(Ordering::Acquire),
        1,
        "only of the whole one"
    );

    // Once the row is repaired it goes on: nothing was done to it.
    let hub = open(&data, &functions).await;
    let ended = hub.wait(&damaged, WaitFor::Ended).await.unwrap();
    assert_eq!(ended.status, RuntimeStatus::Completed);
}

/// A purge by filter reads no status record, and what cannot be read keeps no other from being purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_filter_leaves_out_what_is_damaged() {
    let data = MemData::new();
    let hub = open(&data, &Plain::new()).await;
    for number in 0..20 {
        let instance = format!("i{number}");
        hub.start(start(&instance, "Steps", Some("1"))).await.unwrap();
        hub.wait(&id(&instance), WaitFor::Ended).await.unwrap();
    }
    hub.start(start("waits", "Wait", None)).await.unwrap();
    drop(hub);
    let hub = open_damaged(&data, "i3", &Plain::new()).await;
    hub.query(Filter::default(), None, 100).await.unwrap_err();
    assert_eq!(hub.purge_where(Filter::default()).await.unwrap().count, 19);
    let counts = hub.counts().await.unwrap();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 2, "{counts:?}");
    tells_why(hub.info(&id("i3")).await);
}
