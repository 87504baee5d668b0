//! Purges: the verbs, and how they get through while the store is full (A43).
//!
//! Commits of a partition are numbered, so a purge cannot overtake a group for which the store has no room. It
//! need not wait for it either: nothing of that group is durable, and nobody was told otherwise. So the memory it
//! comes from is dropped, the partitions are read anew, and until the last purge has ended they do nothing but
//! purge and answer reads. Then they are read anew once more, and everything goes on from what is stored.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskhub_core::id::InstanceId;
use taskhub_core::query::{Cursor, Filter};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::RuntimeStatus;
use taskhub_store::{Error as StoreError, Freshness, Query};
use tokio::time::sleep;

use crate::error::Error;
use crate::hub::{CALL_DEADLINE, Hub, Pending, WAIT_PAUSE_MAX, WAIT_PAUSE_MIN};
use crate::io::{Reply, Request};
use crate::run::now;
use crate::shared::Shared;

/// Ids per page while purging by filter (A42).
const PURGE_PAGE: usize = 1_000;
/// Instances purged at once: few, because whoever calls meanwhile waits for the group they go into, and for the
/// one after it.
const PURGE_STEP: usize = 16;

/// What became of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Instances that are gone.
    pub count: u64,
    /// What was stored of them: their records, events and archived executions.
    pub rows: u64,
    /// Whether there was time for all of them (R130).
    pub is_complete: bool,
}

/// The end of a purge that got through.
fn purged(count: u64, rows: u64) -> Purged {
    Purged {
        count,
        rows,
        is_complete: true,
    }
}

/// Rows that went with a purge.
fn rows_in(reply: &Reply) -> u64 {
    match reply {
        Reply::Purged { rows } => *rows,
        Reply::Done | Reply::Info(_) | Reply::Refused(_) | Reply::Unreadable(_) => 0,
    }
}

impl Hub {
    /// Removes an ended instance and says how many went (R129). While the store is full, work under way makes
    /// room for it: who waits for that hears that the outcome is unknown (A43).
    ///
    /// # Errors
    ///
    /// `instance-live` if it has not ended, and as all calls.
    pub async fn purge(&self, instance: &InstanceId) -> Result<Purged, Error> {
        let _under_way = UnderWay::begin(&self.shared);
        let is_full = self.shared.is_full();
        let answer = self.send(instance, Request::Purge)?;
        match self.receive_purged(instance, answer, is_full).await {
            Ok(reply) => Ok(purged(1, rows_in(&reply))),
            Err(Error::Refused(Refusal::InstanceNotFound { .. })) => Ok(purged(0, 0)),
            Err(error) => Err(error),
        }
    }

    /// Removes the ended instances among those the filter names; without statuses, all ended ones
    /// (R130). Works in bounded steps, each through its partition (A42), also while the store is full, as
    /// [`Hub::purge`] does.
    ///
    /// # Errors
    ///
    /// As all calls; what was purged before stays so.
    pub async fn purge_where(&self, filter: Filter) -> Result<Purged, Error> {
        self.purge_where_until(filter, pending()).await
    }

    /// The same until it is enough: what was not reached by then is left, and the answer says so (R130).
    ///
    /// # Errors
    ///
    /// As [`Hub::purge_where`].
    pub async fn purge_where_until(
        &self,
        mut filter: Filter,
        enough: impl Future<Output = ()>,
    ) -> Result<Purged, Error> {
        let is_ended = |status: &RuntimeStatus| status.is_terminal();
        if filter.statuses.is_empty() {
            filter.statuses = RuntimeStatus::ALL.into_iter().filter(is_ended).collect();
        } else {
            filter.statuses.retain(is_ended);
            if filter.statuses.is_empty() {
                return Ok(purged(0, 0));
            }
        }
        let _under_way = UnderWay::begin(&self.shared);
        let mut enough = std::pin::pin!(enough);
        let (mut count, mut rows) = (0, 0);
        let mut after = None;
        loop {
            let (ids, next) = tokio::select! {
                biased;
                () = &mut enough => return Ok(Purged { count, rows, is_complete: false }),
                page = self.ids(filter.clone(), after) => page?,
            };
            for step in ids.chunks(PURGE_STEP) {
                let gone = self.purge_step(step).await?;
                count += gone.count;
                rows += gone.rows;
            }
            after = next;
            if after.is_none() {
                return Ok(purged(count, rows));
            }
        }
    }

    /// Purges those that have ended, and counts them.
    async fn purge_step(&self, ids: &[InstanceId]) -> Result<Purged, Error> {
        let is_full = self.shared.is_full();
        let mut answers = Vec::with_capacity(ids.len());
        for instance in ids {
            answers.push(self.send(instance, Request::Purge)?);
        }
        let mut gone = purged(0, 0);
        for (instance, answer) in ids.iter().zip(answers) {
            match self.receive_purged(instance, answer, is_full).await {
                Ok(reply) => {
                    gone.count += 1;
                    gone.rows += rows_in(&reply);
                }
                // Purged by someone else, or started anew, since the page was read; or one that cannot be
                // read, which is kept and keeps no other from being purged (R187).
                Err(Error::Refused(_) | Error::Store(StoreError::Corrupt { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// The answer to a purge, which is asked for again when memory was dropped to make way for it, or for what
    /// goes on behind the one before. `was_full` tells whether the store was, when it was asked first.
    async fn receive_purged(&self, instance: &InstanceId, mut answer: Pending, was_full: bool) -> Result<Reply, Error> {
        let deadline = now() + CALL_DEADLINE;
        let mut pause = WAIT_PAUSE_MIN;
        loop {
            match self.receive(answer, Some(CALL_DEADLINE)).await {
                Err(Error::Unavailable) if was_full || self.shared.is_full() => {}
                result => return result,
            }
            if now() >= deadline {
                return Err(StoreError::Full.into());
            }
            sleep(pause).await;
            pause = WAIT_PAUSE_MAX.min(pause * 2);
            answer = self.send(instance, Request::Purge)?;
        }
    }

    /// Ids of a page, and where the next one begins: what is to be purged need not be read.
    async fn ids(&self, filter: Filter, after: Option<Cursor>) -> Result<(Vec<InstanceId>, Option<Cursor>), Error> {
        let query = Query::Ids {
            hub: self.shared.hub.clone(),
            filter,
            after,
            rows_max: PURGE_PAGE,
        };
        Ok(self.shared.store.query(&query, Freshness::Committed).await?.into_ids())
    }
}

/// The purges of a hub, and whether they have its partitions to themselves.
#[derive(Debug, Default)]
pub(crate) struct Purges(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    are_alone: bool,
}

impl Purges {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn are_under_way(&self) -> bool {
        self.lock().under_way > 0
    }

    /// Says whether partitions that are claimed now are for purges alone, which they are while the store is
    /// full and somebody purges.
    pub(crate) fn are_alone(&self, is_full: bool) -> bool {
        let mut state = self.lock();
        state.are_alone = is_full && state.under_way > 0;
        state.are_alone
    }
}

/// A purge under way. When the last one ends, the partitions are read anew if they were there for purges alone.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.purges.lock().under_way += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.purges.lock();
        state.under_way -= 1;
        if state.under_way == 0 && state.are_alone {
            self.0.reload.notify_one();
        }
    }
}
