//! The open group as the threads of a node share it: the [value](crate::group) behind a lock, with notifications for
//! waiting threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::Error;
use crate::group::{Gathering, HandedOver, Limits, ReleaseOn, Ticket};
use crate::reply::To;

pub(crate) type Batch = crate::group::Batch<To>;
pub(crate) type Release = crate::group::Release<To>;
pub(crate) type Taken = crate::group::Taken<To>;

/// The group that is being filled.
#[derive(Debug)]
pub(crate) struct OpenGroup {
    gathering: Mutex<Gathering<To>>,
    filled: Notify,
    emptied: Notify,
    limits: Limits,
    /// Bytes that are handed over but not durable.
    ahead: AtomicUsize,
    /// Whether a thread waits for this number to fall.
    is_waited_for: AtomicBool,
}

impl OpenGroup {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            gathering: Mutex::new(Gathering::new(limits)),
            filled: Notify::default(),
            emptied: Notify::default(),
            limits,
            ahead: AtomicUsize::new(0),
            is_waited_for: AtomicBool::new(false),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether the bytes ahead of the disk satisfy the caller. If not, all threads are woken when the number falls.
    pub(crate) fn is_ahead(&self, wanted: impl Fn(usize) -> bool) -> bool {
        if wanted(self.ahead.load(Ordering::SeqCst)) {
            return true;
        }
        // The number may have fallen between the check and the mark.
        self.is_waited_for.store(true, Ordering::SeqCst);
        wanted(self.ahead.load(Ordering::SeqCst))
    }

    /// Whether more commits may be made ahead of the disk. If not, all threads are woken when the number of bytes
    /// falls.
    pub(crate) fn has_room(&self) -> bool {
        self.is_ahead(|ahead| ahead < self.limits.ahead_max)
    }

    /// Subtracts bytes that are durable or discarded from the bytes ahead of the disk. Returns whether a thread waits
    /// for that.
    pub(crate) fn settle(&self, bytes: usize) -> bool {
        self.ahead.fetch_sub(bytes, Ordering::SeqCst);
        self.is_waited_for.swap(false, Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Gathering<To>> {
        // A panic while the lock is held leaves a list of whole batches behind.
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a batch over. After a failed group it is dropped, and its callers are notified.
    pub(crate) fn hand_over(&self, batch: Batch) {
        let mut gathering = self.lock();
        match gathering.hand_over(batch) {
            HandedOver::Waiting(bytes) => {
                // Counted before the group can be taken and settled.
                self.ahead.fetch_add(bytes, Ordering::SeqCst);
                drop(gathering);
                self.filled.notify_one();
            }
            HandedOver::TurnedAway(callers) => {
                drop(gathering);
                displace(callers);
            }
            HandedOver::Closed => {}
        }
    }

    /// Accepts batches of a hub again, once no memory of it is left that the failed group was part of.
    pub(crate) fn accept(&self, hub: u32) {
        self.lock().accept(hub);
    }

    /// Accepts batches of a hub from now on.
    pub(crate) fn enter(&self, hub: u32) {
        self.lock().enter(hub);
    }

    /// Accepts nothing more of a hub; what it has handed over is still written.
    pub(crate) fn leave(&self, hub: u32) {
        self.lock().leave(hub);
    }

    /// Waits for batches and takes those that go into one group; `None` once closed and empty.
    pub(crate) async fn take(&self) -> Option<Taken> {
        loop {
            {
                let mut gathering = self.lock();
                if let Some(taken) = gathering.take() {
                    return Some(taken);
                }
                if gathering.is_closed() {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Discards all unwritten batches, and those that these hubs hand over until they have dropped their memory,
    /// because such batches come from state that is lost (A1).
    pub(crate) fn discard(&self, hubs: impl IntoIterator<Item = u32>) -> VecDeque<Batch> {
        let discarded = self.lock().discard(hubs);
        self.emptied.notify_waiters();
        self.ahead
            .fetch_sub(discarded.iter().map(Batch::bytes).sum(), Ordering::SeqCst);
        discarded
    }

    /// Called when a group is written, before its effects are released; returns which thread must release them.
    pub(crate) fn begin_release(&self) -> ReleaseOn {
        self.lock().begin_release()
    }

    /// Called when the effects of a group are released.
    pub(crate) fn end_release(&self) {
        self.lock().end_release();
    }

    /// Marks these batches as finished.
    pub(crate) fn end(&self, tickets: &[Ticket]) {
        self.lock().end(tickets);
        self.emptied.notify_waiters();
    }

    /// Waits until everything that a hub has handed over so far is written and its effects are released.
    pub(crate) async fn flush(&self, hub: u32) {
        let upto = self.lock().next_ticket();
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Registered before the check, so that a notification in between is not missed.
            emptied.as_mut().enable();
            if self.lock().is_flushed(hub, upto) {
                return;
            }
            emptied.await;
        }
    }

    /// Ends [`OpenGroup::take`] once everything is written.
    pub(crate) fn close(&self) {
        self.lock().close();
        self.filled.notify_one();
    }
}

/// Notifies callers that their requests had no effect, because the store has never seen them.
pub(crate) fn displace(callers: Vec<To>) {
    for to in callers {
        to.refuse(Error::Displaced);
    }
}
