//! A hub whose store no server holds. Reads go to the store, changes through the engine's partitions, driven here.

use std::sync::Arc;

use taskhub_core::event::HistoryEvent;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId, Name};
use taskhub_core::instance::InstanceState;
use taskhub_core::message::StartRequest;
use taskhub_core::payload::Payload;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::refusal::Refusal;
use taskhub_engine::clock::{Clock, SystemClock};
use taskhub_engine::io::{Reply, Request};
use taskhub_engine::{OfflineHub, chain};
use taskhub_server::token;
use taskhub_store::embedded::EmbeddedStore;
use taskhub_store::{
    Error as StoreError, ExecutionKey, Extent, HistoryRange, PartitionKey, Selection, Store, decode_history,
    partition_of,
};

use super::{HubSize, Outcome, PAGE_ROWS, Purged, Record, Rows, refused_token};
use crate::stop::{Result, Stop};

/// The error for a failed operation of a store.
const ATTEMPT: &str = "the store cannot be used";

/// The hub.
#[derive(Debug)]
pub(crate) struct Stopped {
    hub: HubName,
    /// Absent: there is no store.
    store: Option<Arc<EmbeddedStore>>,
    /// Absent: there is no such hub in it.
    partitions: Option<u16>,
    offline: Option<OfflineHub>,
}

impl Stopped {
    /// A hub whose store does not exist either.
    pub(crate) fn empty(hub: HubName) -> Self {
        Self {
            hub,
            store: None,
            partitions: None,
            offline: None,
        }
    }

    /// A hub in a store that is ours.
    pub(crate) async fn open(store: EmbeddedStore, hub: HubName) -> Result<Self> {
        let hubs = store.list_hubs().await.map_err(|error| failed(&error))?;
        let known = hubs.into_iter().find(|known| known.name == hub);
        Ok(Self {
            partitions: known.as_ref().map(|known| known.partitions),
            hub: known.map_or(hub, |known| known.name),
            store: Some(Arc::new(store)),
            offline: None,
        })
    }

    /// Makes the hub if it does not exist.
    pub(super) async fn create_hub(&mut self, partitions: u16) -> Result<()> {
        if let (Some(store), None) = (&self.store, self.partitions) {
            let created = store.create_hub(&self.hub, partitions, SystemClock.now()).await;
            created.map_err(|error| failed(&error))?;
            self.partitions = Some(partitions);
        }
        Ok(())
    }

    /// The store and the number of partitions, if the hub exists.
    fn parts(&self) -> Option<(&Arc<EmbeddedStore>, u16)> {
        self.store.as_ref().zip(self.partitions)
    }

    async fn state(&self, id: &InstanceId) -> Result<Option<(InstanceState, PartitionKey)>> {
        let Some((store, partitions)) = self.parts() else {
            return Ok(None);
        };
        let key = PartitionKey {
            hub: self.hub.clone(),
            index: partition_of(id, partitions),
        };
        let states = store
            .load(&key, std::slice::from_ref(id))
            .await
            .map_err(|error| failed(&error))?;
        Ok(states.into_iter().flatten().next().map(|state| (state, key)))
    }

    pub(super) async fn record(&self, id: &InstanceId) -> Result<Option<Record>> {
        let state = self.state(id).await?;
        Ok(state.map(|(state, _)| Record {
            history_events: state.history_events.into(),
            history_bytes: state.history_bytes,
            info: state.info,
        }))
    }

    pub(super) async fn history(&self, id: &InstanceId) -> Result<Option<Vec<HistoryEvent>>> {
        let (Some((state, partition)), Some((store, _))) = (self.state(id).await?, self.parts()) else {
            return Ok(None);
        };
        let execution = ExecutionKey {
            partition,
            number: state.number,
            ordinal: state.info.ordinal,
        };
        let chunks = store
            .history(&execution, HistoryRange::ALL)
            .await
            .map_err(|error| failed(&error))?;
        decode_history(&chunks).map(Some).map_err(|error| failed(&error))
    }

    async fn page(&self, filter: &Filter, after: Option<Cursor>, rows_max: usize) -> Result<Page> {
        let Some((store, _)) = self.parts() else {
            return Ok(Page::default());
        };
        let which = self.selection(filter, after, rows_max);
        let found = store.list(&which, Payloads::ALL).await;
        Ok(found.map_err(|error| failed(&error))?.page)
    }

    fn selection(&self, filter: &Filter, after: Option<Cursor>, rows_max: usize) -> Selection {
        Selection {
            hub: self.hub.clone(),
            filter: filter.clone(),
            after,
            rows_max,
        }
    }

    pub(super) async fn list(&self, filter: &Filter, after: Option<&str>, rows_max: usize) -> Result<Rows> {
        let after = after
            .map(|token| token::read(token, &self.hub, filter))
            .transpose()
            .map_err(refused_token)?;
        let page = self.page(filter, after, rows_max).await?;
        Ok(Rows {
            next: page.next.map(|cursor| token::write(&cursor, &self.hub, filter)),
            rows: page.rows,
        })
    }

    /// Ids of some instances, and where the next begin.
    async fn ids(&self, filter: &Filter, after: Option<Cursor>) -> Result<(Vec<InstanceId>, Option<Cursor>)> {
        let Some((store, _)) = self.parts() else {
            return Ok((Vec::new(), None));
        };
        let found = store.list_ids(&self.selection(filter, after, PAGE_ROWS)).await;
        let page = found.map_err(|error| failed(&error))?;
        Ok((page.ids, page.next))
    }

    async fn ask(&mut self, requests: Vec<(InstanceId, Request)>) -> Result<Vec<Reply>> {
        let (Some(store), Some(partitions)) = (self.store.clone(), self.partitions) else {
            unreachable!("only a hub that exists is asked to change something")
        };
        let offline = self
            .offline
            .get_or_insert_with(|| OfflineHub::new(self.hub.clone(), partitions));
        offline
            .ask(store.as_ref(), requests)
            .await
            .map_err(|error| failed(&error))
    }

    async fn ask_one(&mut self, id: &InstanceId, request: Request) -> Result<std::result::Result<(), Refusal>> {
        let replies = self.ask(vec![(id.clone(), request)]).await?;
        match replies.into_iter().next() {
            Some(Reply::Refused(refusal)) => Ok(Err(refusal)),
            Some(Reply::Unreadable(what)) => {
                let place = format!("instance `{id}`");
                let extent = Extent::Rows;
                Err(failed(&StoreError::Corrupt { place, what, extent }))
            }
            Some(Reply::Done | Reply::Purged { .. } | Reply::Info(_)) | None => Ok(Ok(())),
        }
    }

    async fn control(&mut self, id: &InstanceId, request: Request) -> Result<Outcome> {
        if self.parts().is_none() {
            return Ok(Outcome::Missing);
        }
        match self.ask_one(id, request).await? {
            Ok(()) => Ok(Outcome::Done),
            Err(Refusal::InstanceNotFound { .. }) => Ok(Outcome::Missing),
            Err(Refusal::InstanceNotLive { status, .. }) => Ok(Outcome::Ended(status)),
            Err(refusal) => Err((&refusal).into()),
        }
    }

    pub(super) async fn start(&mut self, request: StartRequest) -> Result<()> {
        let id = request.instance.clone();
        let answer = self.ask_one(&id, Request::Start(Box::new(request))).await?;
        answer.map_err(|refusal| (&refusal).into())
    }

    pub(super) async fn raise(
        &mut self,
        id: &InstanceId,
        name: Name,
        input: Option<Payload>,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome> {
        self.control(id, Request::Raise { name, input, key }).await
    }

    pub(super) async fn terminate(&mut self, id: &InstanceId, reason: Option<&str>) -> Result<Outcome> {
        let reason = reason.map(Payload::text);
        self.control(id, Request::Terminate { reason, recurse: false }).await
    }

    pub(super) async fn purge_some(&mut self, filter: &Filter, after: &mut Option<String>) -> Result<Option<Purged>> {
        let cursor = after
            .as_deref()
            .map(|token| token::read(token, &self.hub, filter))
            .transpose()
            .map_err(refused_token)?;
        let (ids, next) = self.ids(filter, cursor).await?;
        if ids.is_empty() {
            return Ok(None);
        }
        let requests = ids.into_iter().map(|id| (id, Request::Purge)).collect();
        let replies = self.ask(requests).await?;
        let mut purged = Purged::default();
        for reply in &replies {
            if let Reply::Purged { rows } = reply {
                purged.instances += 1;
                purged.rows += rows;
            }
        }
        *after = next.as_ref().map(|cursor| token::write(cursor, &self.hub, filter));
        Ok(Some(purged))
    }

    pub(super) async fn hubs(&self) -> Result<Vec<HubName>> {
        let Some(store) = &self.store else {
            return Ok(Vec::new());
        };
        let hubs = store.list_hubs().await.map_err(|error| failed(&error))?;
        Ok(hubs.into_iter().map(|hub| hub.name).collect())
    }

    pub(super) async fn size(&self, hub: &HubName) -> Result<Option<HubSize>> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let counts = match store.counts(hub).await {
            Ok(counts) => counts,
            Err(StoreError::NoSuchHub { .. }) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let active = counts.iter().filter(|(status, _)| !status.is_terminal());
        Ok(Some(HubSize {
            name: hub.clone(),
            active: active.map(|(_, count)| count).sum(),
            instances: counts.iter().map(|(_, count)| count).sum(),
        }))
    }

    pub(super) async fn delete_hub(&mut self) -> Result<bool> {
        self.offline = None;
        let Some((store, _)) = self.parts() else {
            return Ok(false);
        };
        let name = self.hub.clone();
        store.delete_hub(&name).await.map_err(|error| failed(&error))?;
        self.partitions = None;
        Ok(true)
    }

    /// Releases the claimed partitions. A failure is harmless: everything that was reported is durable, and the next
    /// owner treats this process as one that was killed.
    pub(super) async fn close(mut self) {
        if let (Some(offline), Some(store)) = (self.offline.take(), &self.store)
            && let Err(error) = offline.close(store.as_ref()).await
        {
            tracing::debug!(error = %chain(&error), "the store could not be given back in order");
        }
    }
}

fn failed(error: &StoreError) -> Stop {
    Stop::from_store(ATTEMPT, error)
}
