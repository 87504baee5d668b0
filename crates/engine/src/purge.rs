//! Operations that work on a full store (A43): purge, terminate, suspend and resume.
//!
//! Commits of a partition are numbered, so a purge cannot overtake a group for which the store has no room. It
//! need not wait for it either: nothing of that group is durable, and nobody was told otherwise. So the memory it
//! comes from is dropped, the partitions are read anew, and until there is room they answer reads and do what adds
//! no work. Then they are read anew once more, and everything goes on from what is stored.

use std::future::pending;
use std::sync::atomic::Ordering;

use taskhub_core::id::InstanceId;
use taskhub_core::query::{Cursor, Filter};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::RuntimeStatus;
use taskhub_store::{Error as StoreError, Extent, Selection};
use tokio::time::sleep;

use crate::clock::now;
use crate::common::Common;
use crate::error::Error;
use crate::hub::{CALL_DEADLINE, Hub, Pending, WAIT_PAUSE_MAX, WAIT_PAUSE_MIN};
use crate::io::{Reply, Request};

/// Ids per page while purging by filter (A42).
const PURGE_PAGE: usize = 1_000;
/// Instances purged at a time: few, because other callers wait for the group of the purge and for the next one.
const PURGE_STEP: usize = 16;

/// Instances of a step that damaged pages may keep from being purged before the whole purge ends.
const REFUSED_MAX: u32 = 2;

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
    /// Removes an ended instance and says how many went (R129), also while the store is full (A43).
    ///
    /// # Errors
    ///
    /// `instance-live` if it has not ended, and as all calls.
    pub async fn purge(&self, instance: &InstanceId) -> Result<Purged, Error> {
        let _under_way = UnderWay::begin(&self.shared.node);
        let _shared = self.shared.node.kept_room.read().await;
        match self.answer_at_any_rate(self.ask(instance, Request::Purge)?).await {
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

    /// The same with a time limit: the result says whether instances were left (R130).
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
        let _under_way = UnderWay::begin(&self.shared.node);
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
        let _shared = self.shared.node.kept_room.read().await;
        let (mut gone, mut refused) = (purged(0, 0), 0);
        let mut asked = Vec::with_capacity(ids.len());
        for instance in ids {
            asked.push(self.ask(instance, Request::Purge)?);
        }
        for asked in asked {
            match self.answer_at_any_rate(asked).await {
                Ok(reply) => {
                    gone.count += 1;
                    gone.rows += rows_in(&reply);
                }
                // The instance was purged or started again since the page was read, or it is unreadable. An unreadable
                // one is kept, and does not prevent the purge of others (R187).
                Err(
                    Error::Refused(_)
                    | Error::Store(StoreError::Corrupt {
                        extent: Extent::Rows, ..
                    }),
                ) => {}
                // Each of these costs the others a reload.
                Err(Error::Store(StoreError::Corrupt { .. })) if refused < REFUSED_MAX => refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Terminates, suspends or resumes an instance, also on a full store: then one at a time, because each may use only
    /// a share of the reserved space, and one that does not fit makes its whole group fail.
    pub(crate) async fn control(&self, instance: &InstanceId, request: Request) -> Result<(), Error> {
        let _alone = if self.shared.node.is_full() {
            Some(self.shared.node.kept_room.write().await)
        } else {
            None
        };
        self.answer_at_any_rate(self.ask(instance, request)?)
            .await
            .map(|_done| ())
    }

    fn ask<'a>(&self, instance: &'a InstanceId, request: Request) -> Result<Asked<'a>, Error> {
        Ok(Asked {
            instance,
            was_full: self.shared.node.is_full(),
            was_out_of_room: self.shared.is_out_of_room(),
            answer: self.send(instance, request.clone())?,
            request,
        })
    }

    /// The result of a request that works on a full store too. The request is repeated if memory was dropped because
    /// the store became full or has space again.
    async fn answer_at_any_rate(&self, mut asked: Asked<'_>) -> Result<Reply, Error> {
        let deadline = now() + CALL_DEADLINE;
        let mut pause = WAIT_PAUSE_MIN;
        loop {
            match self.settle(asked.answer, sleep(CALL_DEADLINE)).await {
                Err(Error::Unavailable) if asked.was_full || asked.was_out_of_room || self.shared.node.is_full() => {}
                // A neighbour was refused, for what is wrong with that one alone.
                Err(Error::Displaced) => {}
                // Its group was discarded for another reason. If there is no such group any more, the space does not
                // suffice for the request itself.
                Err(Error::Store(StoreError::Full)) if !asked.was_out_of_room => {}
                result => return result,
            }
            if now() >= deadline {
                return Err(if self.shared.node.is_full() {
                    StoreError::Full.into()
                } else {
                    Error::Displaced
                });
            }
            sleep(pause).await;
            pause = WAIT_PAUSE_MAX.min(pause * 2);
            asked = self.ask(asked.instance, asked.request)?;
        }
    }

    /// Ids of a page, and where the next one begins: what is to be purged need not be read.
    async fn ids(&self, filter: Filter, after: Option<Cursor>) -> Result<(Vec<InstanceId>, Option<Cursor>), Error> {
        let which = Selection {
            hub: self.shared.hub.clone(),
            filter,
            after,
            rows_max: PURGE_PAGE,
        };
        let page = self.shared.node.store.list_ids(&which).await?;
        Ok((page.ids, page.next))
    }
}

/// What was asked of an instance, and how the store was then.
struct Asked<'a> {
    instance: &'a InstanceId,
    request: Request,
    was_full: bool,
    was_out_of_room: bool,
    answer: Pending,
}

/// A purge under way. A full store is not asked meanwhile whether it has room: work that begins as soon as there is some
/// would only have to make way for it again.
struct UnderWay<'a>(&'a Common);

impl<'a> UnderWay<'a> {
    fn begin(node: &'a Common) -> Self {
        node.purges.fetch_add(1, Ordering::AcqRel);
        Self(node)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.purges.fetch_sub(1, Ordering::AcqRel);
    }
}
