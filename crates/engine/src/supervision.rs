//! The supervision of a hub's partitions, as a value: its inputs are happenings, its outputs are orders.
//!
//! ```text
//!   Serving ──lost──▶ Pausing ─▶ Dropping ─▶ Flushing ─▶ Claiming ─▶ Reading ──▶ Serving
//!      │                                                    ▲  └─error─▶ Waiting ┘
//!      └──drain──▶ Ended                                    └─────────────┘
//! ```
//!
//! Only one order is in progress at a time, so that a stop never meets partitions that are partly recovered. Partitions
//! that are lost meanwhile are recovered afterwards. The order of the steps is essential. Memory is dropped before the
//! flush, so that nothing made from lost state can be written; earlier commits of healthy partitions are flushed before
//! the claim, because the claim raises the epochs, which would fence them off; partitions are read only after the
//! claim, because before it the old owner could still change them. The shell carries out the orders on threads; the
//! simulator carries them out with its own scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use taskhub_core::id::InstanceId;
use taskhub_store::{Lease, Previous, partition_of};

/// The first pause after an error that may recur immediately.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum of the growing pause, in multiples of `PAUSE`.
const PAUSES_MAX: u32 = 50;
/// Interval between two checks for free space in a full store.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// Failed assertions count as a series only if they are not further apart than this.
const BROKEN_FORGOTTEN: Duration = Duration::from_mins(1);

/// Partitions of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These.
    Some(BTreeSet<u16>),
    /// All of them.
    All,
}

impl Default for Scope {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Scope {
    /// One partition.
    pub fn one(index: u16) -> Self {
        Self::Some(BTreeSet::from([index]))
    }

    /// Whether the scope is empty.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Some(some) if some.is_empty())
    }

    /// Adds the partitions of another scope.
    pub fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Some(some), Self::Some(others)) => some.extend(others),
            (_, Self::All) => *self = Self::All,
            (Self::All, Self::Some(_)) => {}
        }
    }

    /// The partition numbers, in a hub with this many partitions.
    pub fn of(&self, partitions: u16) -> Vec<u16> {
        match self {
            Self::Some(some) => some.iter().copied().collect(),
            Self::All => (0..partitions).collect(),
        }
    }
}

/// A failure that makes partitions drop their memory.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The instance whose work caused the failure, if known.
    pub instance: Option<InstanceId>,
    /// The message of the failure.
    pub what: String,
    /// The kind of failure.
    pub by: BrokenBy,
}

/// The kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenBy {
    /// An assertion failed, or the store refused a commit of the instance.
    Running,
    /// The store cannot write the instance, not even the mark that it is set aside.
    Writing,
    /// A turn did not return.
    Blocking,
}

/// An input of a supervision.
#[derive(Debug)]
pub enum Happening {
    /// The memory of partitions is invalid, and they must be recovered from the store.
    Lost(Scope),
    /// An instance caused a failure.
    Broke(Broken),
    /// The memory was dropped as ordered.
    Dropped,
    /// All earlier commits are written or lost.
    Flushed,
    /// The result of the claim.
    Claimed(Result<Vec<Lease>, Unclaimed>),
    /// The result of reading the claimed partitions.
    Read(Result<(), Unclaimed>),
    /// Whether the store has free space.
    Room(bool),
    /// The hub must stop.
    Drain,
    /// Time has passed.
    Time,
}

/// Why partitions were not claimed or not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// The hub was deleted.
    Gone,
    /// The store is unreachable, or another node owns some of the partitions.
    Later,
}

/// An output of a supervision. It expects a happening with the result of each order except [`Order::Serve`].
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Drop the memory of these partitions. Messages to them are kept meanwhile, unless all partitions are dropped.
    Drop(Scope),
    /// Wait until everything that the hub handed over so far is written. If all partitions are dropped, no commit
    /// depends on a failed group any more, so new batches of the hub are accepted again.
    Flush {
        /// Whether all partitions are dropped.
        accepts: bool,
    },
    /// Claim these partitions, which raises their epochs (A21).
    Claim(Vec<u16>),
    /// Read the recovery state of these partitions.
    Read(Vec<Lease>),
    /// Serve these partitions; all are adopted before the first outputs of any are carried out.
    Serve(Vec<Service>),
    /// Ask the store whether it has room.
    Probe,
    /// Have the partitions end their rounds, and give them back. Nothing comes after it.
    GiveBack,
    /// The hub was deleted: end its work. Nothing comes after it.
    Close,
}

/// How a partition is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The partition.
    pub index: u16,
    /// Limited service on a full store: it does nothing that adds work, and does not continue unfinished work (A43).
    pub is_idle: bool,
    /// Whether activities of an owner that ended without giving it back may be running (A35).
    pub may_be_running: bool,
    /// Instances that begin no turn any more in this process, and why.
    pub set_aside: Vec<(InstanceId, String)>,
    /// Instances that are not touched at all any more, and why.
    pub out_of_service: Vec<(InstanceId, String)>,
}

/// The current facts on which decisions depend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    /// Monotonic time since a fixed moment.
    pub now: Duration,
    /// Groups since the last one that became durable.
    pub failed_groups: u32,
    /// The store has no room for work.
    pub is_full: bool,
    /// Its file is damaged where new work would be written.
    pub is_damaged: bool,
    /// Purges are under way. They make room themselves, and a look would take some of it.
    pub is_purging: bool,
}

impl Surroundings {
    fn is_idle(&self) -> bool {
        self.is_full || self.is_damaged
    }
}

/// The value. It begins with all partitions to be claimed.
#[derive(Debug)]
pub struct Supervision {
    partitions: u16,
    stage: Stage,
    /// Partitions to reload next.
    lost: Scope,
    broken: Vec<Broken>,
    /// How often an assertion broke lately, and when the last one did.
    broken_lately: (u32, Duration),
    /// Instances not to be run in this process any more, and why.
    set_aside: BTreeMap<InstanceId, String>,
    /// Those that are not even looked at: an assertion broke again while they were set aside.
    out_of_service: BTreeMap<InstanceId, String>,
    /// Partitions whose last owner did not give them back, so that their activities may be running, until they are
    /// served (A35).
    unclean: BTreeSet<u16>,
    /// The partitions do nothing that adds work.
    is_idle: bool,
    /// When to check a full store for free space next.
    next_probe: Duration,
    /// Claims that failed in a row.
    pauses: u32,
    is_draining: bool,
}

#[derive(Debug)]
enum Stage {
    Serving,
    Pausing { until: Duration },
    Dropping(Scope),
    Flushing(Scope),
    Claiming(Claiming),
    Reading(Claiming, Vec<u16>),
    Waiting(Claiming, Duration),
    Probing,
    Ended,
}

#[derive(Clone, Debug)]
struct Claiming {
    scope: Scope,
    is_idle: bool,
}

impl Supervision {
    /// Creates the supervision of a hub with this many partitions, and the first order, which claims all of them.
    pub fn new(partitions: u16, around: Surroundings) -> (Self, Order) {
        let all = Claiming {
            scope: Scope::All,
            is_idle: around.is_idle(),
        };
        let supervision = Self {
            partitions,
            stage: Stage::Claiming(all),
            lost: Scope::default(),
            broken: Vec::new(),
            broken_lately: (0, Duration::ZERO),
            set_aside: BTreeMap::new(),
            out_of_service: BTreeMap::new(),
            unclean: BTreeSet::new(),
            is_idle: false,
            next_probe: around.now + PROBE_PAUSE,
            pauses: 0,
            is_draining: false,
        };
        (supervision, Order::Claim(Scope::All.of(partitions)))
    }

    /// When it needs the next `Happening::Time`.
    pub fn wakes_at(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Pausing { until } | Stage::Waiting(_, until) => Some(*until),
            // Losses during a reload are handled next.
            Stage::Serving if !self.lost.is_none() || self.is_draining => Some(Duration::ZERO),
            Stage::Serving if self.is_idle => Some(self.next_probe),
            _ => None,
        }
    }

    /// Takes in what happened.
    pub fn step(&mut self, happened: Happening, around: Surroundings) -> Option<Order> {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        self.stage = match (stage, happened) {
            (Stage::Ended, _) => return None,
            (Stage::Dropping(scope), Happening::Dropped) => {
                let accepts = scope == Scope::All;
                self.stage = Stage::Flushing(scope);
                return Some(Order::Flush { accepts });
            }
            (Stage::Flushing(scope), Happening::Flushed) => {
                // The other partitions continue, so a single one gets the same service as they have.
                let is_idle = if scope == Scope::All {
                    around.is_idle()
                } else {
                    self.is_idle
                };
                return Some(self.claim(Claiming { scope, is_idle }));
            }
            (Stage::Claiming(claiming), Happening::Claimed(Ok(leases))) => {
                let unclean = leases.iter().filter(|lease| lease.previous == Previous::Other);
                self.unclean.extend(unclean.map(|lease| lease.partition.index));
                let claimed = leases.iter().map(|lease| lease.partition.index).collect();
                self.stage = Stage::Reading(claiming, claimed);
                return Some(Order::Read(leases));
            }
            (Stage::Reading(claiming, claimed), Happening::Read(Ok(()))) => {
                self.stage = Stage::Serving;
                return Some(self.serve(&claiming, &claimed, around.now));
            }
            (Stage::Claiming(_), Happening::Claimed(Err(Unclaimed::Gone)))
            | (Stage::Reading(..), Happening::Read(Err(Unclaimed::Gone))) => return Some(Order::Close),
            (Stage::Claiming(claiming), Happening::Claimed(Err(Unclaimed::Later)))
            | (Stage::Reading(claiming, _), Happening::Read(Err(Unclaimed::Later))) => {
                self.pauses = PAUSES_MAX.min(self.pauses + 1);
                Stage::Waiting(claiming, around.now + PAUSE * self.pauses)
            }
            (Stage::Probing, Happening::Room(has_room)) => {
                if has_room {
                    self.lost = Scope::All;
                }
                self.next_probe = around.now + PROBE_PAUSE;
                Stage::Serving
            }
            (stage, happened) => {
                match happened {
                    Happening::Lost(scope) => self.lost.add(scope),
                    Happening::Broke(broken) => self.broken.push(broken),
                    Happening::Drain => self.is_draining = true,
                    // The happening does not fit the current order.
                    Happening::Dropped
                    | Happening::Flushed
                    | Happening::Claimed(_)
                    | Happening::Read(_)
                    | Happening::Room(_)
                    | Happening::Time => {}
                }
                stage
            }
        };
        self.go_on(around)
    }

    /// What is to be done where nothing is under way.
    fn go_on(&mut self, around: Surroundings) -> Option<Order> {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match stage {
            // Nothing is half done then. What fails again and again must not keep a hub from its end.
            Stage::Serving | Stage::Pausing { .. } | Stage::Waiting(..) if self.is_draining => Some(Order::GiveBack),
            Stage::Serving if !self.lost.is_none() => {
                // What failed may fail again at once; a pause keeps that from being all the process does.
                let broken = self.take_broken(around.now);
                let pauses = broken.max(around.failed_groups.saturating_sub(1)).min(PAUSES_MAX);
                self.stage = Stage::Pausing {
                    until: around.now + PAUSE * pauses,
                };
                self.go_on(around)
            }
            Stage::Serving
                if self.is_idle && !around.is_damaged && !around.is_purging && around.now >= self.next_probe =>
            {
                self.stage = Stage::Probing;
                Some(Order::Probe)
            }
            Stage::Serving if self.is_idle && around.now >= self.next_probe => {
                self.next_probe = around.now + PROBE_PAUSE;
                self.stage = Stage::Serving;
                None
            }
            Stage::Pausing { until } if around.now >= until => {
                let mut scope = std::mem::take(&mut self.lost);
                if around.is_idle() || self.is_idle {
                    scope = Scope::All;
                }
                self.stage = Stage::Dropping(scope.clone());
                Some(Order::Drop(scope))
            }
            Stage::Waiting(claiming, until) if around.now >= until => Some(self.claim(claiming)),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    fn claim(&mut self, claiming: Claiming) -> Order {
        let wanted = claiming.scope.of(self.partitions);
        self.stage = Stage::Claiming(claiming);
        Order::Claim(wanted)
    }

    fn serve(&mut self, claiming: &Claiming, claimed: &[u16], now: Duration) -> Order {
        let Claiming { is_idle, .. } = *claiming;
        self.pauses = 0;
        self.is_idle = is_idle;
        // What was refused a moment ago is not taken now.
        self.next_probe = now + PROBE_PAUSE;
        let of = |all: &BTreeMap<InstanceId, String>, index: u16| -> Vec<(InstanceId, String)> {
            let all = all.iter().map(|(instance, why)| (instance.clone(), why.clone()));
            all.filter(|(instance, _)| partition_of(instance, self.partitions) == index)
                .collect()
        };
        let service = |index: u16| Service {
            index,
            is_idle,
            may_be_running: self.unclean.contains(&index),
            // No turn begins in limited service, and there is no space to store a reason for not beginning one.
            set_aside: if is_idle {
                Vec::new()
            } else {
                of(&self.set_aside, index)
            },
            out_of_service: of(&self.out_of_service, index),
        };
        let services: Vec<Service> = claimed.iter().copied().map(service).collect();
        if !is_idle {
            self.unclean.retain(|index| !claimed.contains(index));
        }
        Order::Serve(services)
    }

    /// Sets instances aside on which assertions broke. Says how many broke lately.
    fn take_broken(&mut self, now: Duration) -> u32 {
        let mut broken = std::mem::take(&mut self.broken);
        for blocking in broken.extract_if(.., |broken| broken.by == BrokenBy::Blocking) {
            self.set_aside
                .extend(blocking.instance.map(|instance| (instance, blocking.what)));
        }
        if broken.is_empty() {
            return 0;
        }
        let (count, last) = &mut self.broken_lately;
        if now.saturating_sub(*last) > BROKEN_FORGOTTEN {
            *count = 0;
        }
        (*count, *last) = (*count + 1, now);
        let count = *count;
        for broken in broken {
            let Some(instance) = broken.instance else { continue };
            let was_set_aside = self.set_aside.remove(&instance).is_some();
            let is_unwritable = broken.by == BrokenBy::Writing;
            if is_unwritable || was_set_aside || self.out_of_service.contains_key(&instance) {
                // Its turns are not what breaks, so nothing of it is touched any more.
                self.out_of_service.insert(instance, broken.what);
            } else {
                self.set_aside.insert(instance, broken.what);
            }
        }
        count
    }
}
