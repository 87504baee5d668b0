//! A store with faults put in: it fails, or crashes, before, inside or after a call.
//!
//! A crash ends everything: from then on each call through the wrapper fails as `Unknown`. The simulator drops the
//! halves, which is what the death of the process does to them, opens new ones over the same data, and goes on with
//! [`Faults::restart`]. The caller decides which call fails; this module uses no random numbers, so that a run can be
//! repeated exactly (A5).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskhub_core::id::{HubName, InstanceId, InstanceNumber};
use taskhub_core::instance::InstanceState;
use taskhub_core::query::Payloads;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::blocking::{Reader, Writer};
use crate::{
    Beat, Claim, Claimed, Error, ExecutionKey, FingerprintPage, Group, HistoryChunk, HistoryRange, HubInfo, IdPage,
    InstancePage, Lease, NodeId, PartitionKey, Recovered, Room, Selection, Space, Verified, Work,
};

/// A call that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreCall {
    ListHubs,
    CreateHub,
    DeleteHub,
    Beat,
    Claim,
    Release,
    Stage,
    Seal,
    Compact,
    FindRoom,
    Recover,
    Load,
    History,
    List,
    ListIds,
    Counts,
    Fingerprints,
    Verify,
    Space,
}

impl StoreCall {
    /// Whether the call may change the stored state.
    pub fn is_write(self) -> bool {
        match self {
            Self::CreateHub
            | Self::DeleteHub
            | Self::Beat
            | Self::Claim
            | Self::Release
            | Self::Stage
            | Self::Seal
            | Self::Compact
            | Self::FindRoom => true,
            Self::ListHubs
            | Self::Recover
            | Self::Load
            | Self::History
            | Self::List
            | Self::ListIds
            | Self::Counts
            | Self::Fingerprints
            | Self::Verify
            | Self::Space => false,
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It goes well.
    None,
    /// It is not made: `Unavailable`.
    FailBefore,
    /// It is not made, for want of space: `Full`. Reads and groups that make room (A43) never have that trouble,
    /// and go well.
    Full,
    /// It is made and its answer lost: `Unknown`.
    FailAfter,
    /// The process dies before it, or inside with the same effect: a group that is staged or about to be
    /// sealed is gone.
    CrashInside,
    /// The process dies after the call: a sealed group is durable, but its result is lost.
    CrashAfter,
}

/// How often each fault happens, in calls out of 1000; what remains of them goes well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub fail_before: u16,
    pub full: u16,
    pub fail_after: u16,
    pub crash_inside: u16,
    pub crash_after: u16,
}

impl Rates {
    /// The fault that a number below 1000 stands for.
    fn fault(&self, number: u64) -> Fault {
        let faults = [
            (self.fail_before, Fault::FailBefore),
            (self.full, Fault::Full),
            (self.fail_after, Fault::FailAfter),
            (self.crash_inside, Fault::CrashInside),
            (self.crash_after, Fault::CrashAfter),
        ];
        let mut bound = 0;
        for (rate, fault) in faults {
            bound += u64::from(rate);
            if number < bound {
                return fault;
            }
        }
        Fault::None
    }
}

/// What decides, and what happened so far; shared by the halves of one store.
#[derive(Clone)]
pub struct Faults(Arc<Mutex<Shared>>);

type Choice = Box<dyn FnMut(StoreCall) -> Fault + Send>;

struct Shared {
    choose: Choice,
    calls: u64,
    is_crashed: bool,
}

impl Faults {
    /// Asks `choose` before each call.
    pub fn new(choose: impl FnMut(StoreCall) -> Fault + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            choose: Box::new(choose),
            calls: 0,
            is_crashed: false,
        })))
    }

    /// No faults, for a run that only counts calls.
    pub fn none() -> Self {
        Self::new(|_| Fault::None)
    }

    /// One fault, at the n-th call, counted from 0.
    pub fn at(nth: u64, fault: Fault) -> Self {
        let mut calls = 0;
        Self::new(move |_| {
            calls += 1;
            if calls == nth + 1 { fault } else { Fault::None }
        })
    }

    /// Faults at given rates; `draw` is the caller's random numbers, the same for the same seed.
    pub fn with_rates(rates: Rates, mut draw: impl FnMut() -> u64 + Send + 'static) -> Self {
        Self::new(move |_| rates.fault(draw() % 1000))
    }

    /// Wraps a writer.
    pub fn writer<W: Writer>(&self, inner: W) -> FaultyWriter<W> {
        FaultyWriter {
            faults: self.clone(),
            inner,
            room: Room::Free,
        }
    }

    /// Wraps a reader.
    pub fn reader<R: Reader>(&self, inner: R) -> FaultyReader<R> {
        FaultyReader {
            faults: self.clone(),
            inner,
        }
    }

    /// Calls so far, those that failed included.
    pub fn calls(&self) -> u64 {
        self.shared().calls
    }

    /// Whether the process has died.
    pub fn is_crashed(&self) -> bool {
        self.shared().is_crashed
    }

    /// A new process; the halves must be new as well.
    pub fn restart(&self) {
        self.shared().is_crashed = false;
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, call: StoreCall) -> Option<Fault> {
        let mut shared = self.shared();
        if shared.is_crashed {
            return None;
        }
        shared.calls += 1;
        Some((shared.choose)(call))
    }

    fn crash<T>(&self) -> Result<T, Error> {
        self.shared().is_crashed = true;
        lost("the process has died")
    }

    fn around<T>(&self, call: StoreCall, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.around_write(call, call.is_write(), run)
    }

    fn around_write<T>(
        &self,
        call: StoreCall,
        needs_room: bool,
        run: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.next(call) {
            None => lost("the process has died"),
            Some(Fault::FailBefore) => Err(Error::Unavailable {
                source: "a fault before the call".into(),
            }),
            Some(Fault::Full) if needs_room => Err(Error::Full),
            Some(Fault::None | Fault::Full) => run(),
            Some(Fault::FailAfter) => run().and_then(|_| lost("a fault after the call")),
            Some(Fault::CrashInside) => {
                if call == StoreCall::Stage {
                    // Written, as far as it goes; the writer is dropped before it is sealed.
                    let _ = run();
                }
                self.crash()
            }
            Some(Fault::CrashAfter) => run().and_then(|_| self.crash()),
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        out.debug_struct("Faults")
            .field("calls", &shared.calls)
            .field("is_crashed", &shared.is_crashed)
            .finish_non_exhaustive()
    }
}

fn lost<T>(what: &'static str) -> Result<T, Error> {
    Err(Error::Unknown { source: what.into() })
}

#[derive(Debug)]
pub struct FaultyWriter<W> {
    faults: Faults,
    inner: W,
    /// That the group that was staged last may be made in.
    room: Room,
}

impl<W: Writer> Writer for FaultyWriter<W> {
    fn list_hubs(&mut self) -> Result<Vec<HubInfo>, Error> {
        self.faults.around(StoreCall::ListHubs, || self.inner.list_hubs())
    }

    fn create_hub(&mut self, name: &HubName, partitions: u16, now: Timestamp) -> Result<HubInfo, Error> {
        let create = || self.inner.create_hub(name, partitions, now);
        self.faults.around(StoreCall::CreateHub, create)
    }

    fn delete_hub(&mut self, name: &HubName) -> Result<HubInfo, Error> {
        self.faults.around(StoreCall::DeleteHub, || self.inner.delete_hub(name))
    }

    fn beat(&mut self, node: NodeId, lasts: Duration, now: Timestamp) -> Result<Beat, Error> {
        self.faults
            .around(StoreCall::Beat, || self.inner.beat(node, lasts, now))
    }

    fn claim(&mut self, claim: &Claim) -> Result<Claimed, Error> {
        self.faults.around(StoreCall::Claim, || self.inner.claim(claim))
    }

    fn release(&mut self, leases: &[Lease]) -> Result<(), Error> {
        self.faults.around(StoreCall::Release, || self.inner.release(leases))
    }

    fn stage(&mut self, group: &Group) -> Result<(), Error> {
        self.room = group.room();
        self.faults
            .around_write(StoreCall::Stage, self.room == Room::Free, || self.inner.stage(group))
    }

    fn seal(&mut self) -> Result<(), Error> {
        self.faults
            .around_write(StoreCall::Seal, self.room == Room::Free, || self.inner.seal())
    }

    fn compact(&mut self) -> Result<Space, Error> {
        self.faults.around(StoreCall::Compact, || self.inner.compact())
    }

    fn find_room(&mut self) -> Result<(), Error> {
        self.faults.around(StoreCall::FindRoom, || self.inner.find_room())
    }

    fn work(&self) -> Work {
        self.inner.work()
    }
}

#[derive(Debug)]
pub struct FaultyReader<R> {
    faults: Faults,
    inner: R,
}

impl<R: Reader> Reader for FaultyReader<R> {
    fn recover(&mut self, lease: &Lease) -> Result<Vec<Recovered>, Error> {
        self.faults.around(StoreCall::Recover, || self.inner.recover(lease))
    }

    fn load(
        &mut self,
        partition: &PartitionKey,
        instances: &[InstanceId],
    ) -> Result<Vec<Option<InstanceState>>, Error> {
        self.faults
            .around(StoreCall::Load, || self.inner.load(partition, instances))
    }

    fn history(&mut self, of: &ExecutionKey, range: HistoryRange) -> Result<Vec<HistoryChunk>, Error> {
        self.faults.around(StoreCall::History, || self.inner.history(of, range))
    }

    fn list(&mut self, which: &Selection, payloads: Payloads) -> Result<InstancePage, Error> {
        self.faults.around(StoreCall::List, || self.inner.list(which, payloads))
    }

    fn list_ids(&mut self, which: &Selection) -> Result<IdPage, Error> {
        self.faults.around(StoreCall::ListIds, || self.inner.list_ids(which))
    }

    fn counts(&mut self, hub: &HubName) -> Result<Vec<(RuntimeStatus, u64)>, Error> {
        self.faults.around(StoreCall::Counts, || self.inner.counts(hub))
    }

    fn fingerprints(
        &mut self,
        partition: &PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Result<FingerprintPage, Error> {
        let read = || self.inner.fingerprints(partition, after, rows_max);
        self.faults.around(StoreCall::Fingerprints, read)
    }

    fn verify(&mut self) -> Result<Verified, Error> {
        self.faults.around(StoreCall::Verify, || self.inner.verify())
    }

    fn space(&mut self) -> Result<Space, Error> {
        self.faults.around(StoreCall::Space, || self.inner.space())
    }
}
