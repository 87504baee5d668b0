//! The life of a hub on threads: what its [supervision](crate::supervision) says is carried out here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskhub_store::{Error as StoreError, Lease, Previous, Recovered};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::now;
use crate::dispatcher::Event;
use crate::error::chain;
use crate::io::Output;
use crate::link::{Adopted, HubInput};
use crate::options::Options;
use crate::partition::{Partition, Random, Setup};
use crate::reply::To;
use crate::shared::{Drain, Shared};
use crate::supervision::{Happening, Order, Scope, Service, Supervision, Surroundings, Unclaimed};

/// Fewer entries than this are not worth looking for dead ones among them.
const SWEEP_MIN: usize = 1_024;

/// Keeps the partitions of a hub served.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    options: Options,
    supervision: Supervision,
    began: Instant,
    /// What is served next.
    read: Vec<(Lease, Vec<Recovered>)>,
    /// Partitions whose last owner did not release them, remembered while another node still owns other partitions of
    /// the hub.
    unclean: BTreeSet<u16>,
    /// Who asked for the end of all work.
    drain: Option<Drain>,
    is_over: bool,
}

impl Supervisor {
    /// Serves all partitions.
    pub(crate) async fn start(shared: Arc<Shared>, options: Options) -> Result<Self, StoreError> {
        let is_full = matches!(shared.node.store.find_room().await, Err(StoreError::Full));
        shared.node.note_room(is_full);
        let began = now();
        let (supervision, order) = Supervision::new(shared.partitions, surroundings(&shared, began));
        let mut supervisor = Self {
            shared,
            options,
            supervision,
            began,
            read: Vec::new(),
            unclean: BTreeSet::new(),
            drain: None,
            is_over: false,
        };
        let mut order = Some(order);
        while let Some(next) = order {
            // The caller that opens the hub gets the error.
            let happened = match next {
                Order::Claim(wanted) => Happening::Claimed(supervisor.claim(&wanted).await?.ok_or(Unclaimed::Later)),
                Order::Read(leases) => {
                    supervisor.read(leases).await?;
                    Happening::Read(Ok(()))
                }
                last => {
                    supervisor.carry_out(last).await;
                    break;
                }
            };
            order = supervisor.tell(happened);
        }
        Ok(supervisor)
    }

    fn tell(&mut self, happened: Happening) -> Option<Order> {
        let around = surroundings(&self.shared, self.began);
        self.supervision.step(happened, around)
    }

    /// Does what the supervision says, until the hub is closed or drained.
    pub(crate) async fn supervise(mut self, mut drains: mpsc::UnboundedReceiver<Drain>) {
        // If this task panics, partitions would no longer be recovered, so the hub is closed and callers get an error.
        let _closing = CloseOnDrop(Arc::clone(&self.shared));
        let shared = Arc::clone(&self.shared);
        while !shared.is_closed() && !self.is_over {
            let wakes_at = self.supervision.wakes_at().map(|at| self.began + at);
            let happened = tokio::select! {
                biased;
                Some(drain) = drains.recv() => {
                    self.drain = Some(drain);
                    vec![Happening::Drain]
                }
                () = shared.troubled.notified() => self.take_troubles(),
                () = wait_until(wakes_at) => vec![Happening::Time],
            };
            for happened in happened {
                let mut order = self.tell(happened);
                while let Some(next) = order
                    && !shared.is_closed()
                {
                    let answer = self.carry_out(next).await;
                    order = answer.and_then(|answer| self.tell(answer));
                }
            }
        }
    }

    /// Recent reports of the threads. The cause of a failure must be known before anything reloads.
    fn take_troubles(&self) -> Vec<Happening> {
        let (lost, broken) = self.shared.take_troubles();
        let broken = broken.into_iter().map(Happening::Broke);
        broken.chain([Happening::Lost(lost)]).collect()
    }

    async fn carry_out(&mut self, order: Order) -> Option<Happening> {
        let shared = Arc::clone(&self.shared);
        match order {
            Order::Drop(scope) => {
                self.drop_memory(&scope).await;
                Some(Happening::Dropped)
            }
            Order::Flush { accepts } => {
                if accepts {
                    shared.node.group.accept(shared.number);
                }
                // What was handed over by whole rounds is consistent; a failed store has discarded it already.
                shared.node.group.flush(shared.number).await;
                Some(Happening::Flushed)
            }
            Order::Claim(wanted) => {
                let claimed = self.claim(&wanted).await;
                let claimed = claimed.map_err(|error| self.failed(&error));
                Some(Happening::Claimed(
                    claimed.and_then(|claimed| claimed.ok_or(Unclaimed::Later)),
                ))
            }
            Order::Read(leases) => {
                let read = self.read(leases).await;
                Some(Happening::Read(read.map_err(|error| self.failed(&error))))
            }
            Order::Serve(services) => {
                self.serve(services);
                None
            }
            Order::Probe => {
                // Other errors do not matter here: the next commit meets them again.
                let is_full = matches!(shared.node.store.find_room().await, Err(StoreError::Full));
                if !is_full {
                    shared.node.note_room(false);
                }
                Some(Happening::Room(!is_full))
            }
            Order::GiveBack => {
                self.give_back().await;
                self.is_over = true;
                None
            }
            Order::Close => {
                tracing::error!(hub = %shared.hub, "the hub was deleted; stopping its work");
                shared.close();
                self.is_over = true;
                None
            }
        }
    }

    fn failed(&self, error: &StoreError) -> Unclaimed {
        if matches!(error, StoreError::NoSuchHub { .. }) {
            return Unclaimed::Gone;
        }
        self.shared.node.note_failing(true);
        tracing::warn!(hub = %self.shared.hub, error = %chain(error), "cannot claim the partitions; retrying");
        Unclaimed::Later
    }

    /// Makes the threads drop the memory of partitions. Reads in progress are forgotten first, so that a result from
    /// before the reload cannot reach a partition after it.
    async fn drop_memory(&self, scope: &Scope) {
        let shared = &self.shared;
        let count = shared.reloads.fetch_add(1, Ordering::AcqRel) + 1;
        shared.forget_reads(scope);
        let partitions = scope.of(shared.partitions);
        tracing::warn!(hub = %shared.hub, count, ?partitions, "dropping the memory of partitions and reloading them \
            from the store");
        for dropped in shared.drop_memory(scope) {
            // A thread that does not answer in time is blocked; the watchdog abandons it next.
            let _late = timeout(shared.node.turn_limit, dropped).await;
        }
    }

    /// Claims partitions, which raises their epochs (A21). Returns `None` if another node owns some of them: a hub
    /// moves between nodes as a whole, because its partitions exchange messages in memory. Partitions claimed in vain
    /// are released again, but only those that had no owner before. A partition taken from another owner may have
    /// activities that still run there; releasing it would mark it as clean, and the next owner would not count their
    /// open deliveries. Such partitions stay claimed and are remembered in `unclean` until the whole hub is claimed.
    async fn claim(&mut self, wanted: &[u16]) -> Result<Option<Vec<Lease>>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let keys: Vec<_> = wanted.iter().map(|index| shared.partition(*index)).collect();
        let sent = shared.node.elapsed();
        let mut leases = shared.node.store.claim(&shared.node.claim_of(&keys)).await?.leases;
        if shared.node.note_lease(sent) {
            shared.node.lose_all();
        }
        for lease in &mut leases {
            // A partition that was claimed before the others has this node as its previous owner now.
            if lease.previous == Previous::Other {
                self.unclean.insert(lease.partition.index);
            } else if self.unclean.contains(&lease.partition.index) {
                lease.previous = Previous::Other;
            }
        }
        if leases.len() == wanted.len() {
            self.unclean.retain(|index| !wanted.contains(index));
            return Ok(Some(leases));
        }
        leases.retain(|lease| lease.previous == Previous::Nobody);
        shared.node.store.release(&leases).await?;
        Ok(None)
    }

    async fn read(&mut self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.read.clear();
        for lease in leases {
            self.shared.dispatch(Event::Reset(lease.partition.clone()));
            let recovered = self.shared.node.store.recover(&lease).await?;
            self.read.push((lease, recovered));
        }
        Ok(())
    }

    /// Makes the threads serve the recovered partitions. All partitions are adopted before the first outputs of any are
    /// carried out, because a message to a partition that is not there yet would be lost.
    fn serve(&mut self, services: Vec<Service>) {
        let shared = Arc::clone(&self.shared);
        let is_idle = services.iter().any(|service| service.is_idle);
        if is_idle {
            shared.set_out_of_room(true);
        }
        let mut first_outputs = Vec::new();
        for ((lease, recovered), service) in std::mem::take(&mut self.read).into_iter().zip(services) {
            let (index, epoch) = (service.index, lease.epoch);
            let (partition, outputs) = self.recover(lease, recovered, service);
            let adopted = Adopted {
                hub: Arc::clone(&shared),
                partition,
                has_no_room: is_idle,
            };
            shared.tell(index, HubInput::Adopt(Box::new(adopted)));
            first_outputs.push((index, epoch, outputs));
        }
        shared.node.note_failing(false);
        if is_idle {
            return;
        }
        shared.set_out_of_room(false);
        for (index, epoch, outputs) in first_outputs {
            shared.tell(index, HubInput::Begin(index, outputs));
            shared.spawn_read(Arc::clone(&shared).fill_filter(index, epoch));
        }
    }

    fn recover(
        &self,
        lease: Lease,
        mut recovered: Vec<Recovered>,
        service: Service,
    ) -> (Partition<To>, Vec<Output<To>>) {
        let shared = &self.shared;
        if service.is_idle {
            recovered.retain(|item| matches!(item, Recovered::Counters { .. } | Recovered::Damaged { .. }));
        }
        let setup = Setup {
            random: Random::System,
            memory_bytes_max: self.options.memory_bytes_max / usize::from(shared.partitions),
            orchestrators_offered: shared.orchestrators_offered.clone(),
            set_aside: service.set_aside,
            out_of_service: service.out_of_service,
            sweep_min: SWEEP_MIN,
            may_be_running: service.may_be_running,
            flaws: crate::flaw::Flaws::default(),
            lease,
        };
        let mut outputs = Vec::new();
        let partition = Partition::recover(setup, recovered, shared.node.clock.now(), &mut outputs);
        (partition, outputs)
    }

    /// Makes the threads finish their rounds, and releases the partitions when everything is written.
    async fn give_back(&mut self) {
        let shared = &self.shared;
        let Some(drain) = self.drain.take() else { return };
        let mut leases = Vec::new();
        for drained in shared.tell_all(HubInput::Drain) {
            if let Ok(Ok(given_back)) = timeout(drain.limit, drained).await {
                leases.extend(given_back);
            }
        }
        shared.node.group.flush(shared.number).await;
        let unkept = shared.dispatcher().answered();
        let released = if unkept == 0 {
            shared.node.store.release(&leases).await
        } else {
            // Without a release, the next process treats every open call as one that may have run (A35).
            tracing::error!(hub = %shared.hub, unkept, "some results of activities were not durable before the stop; \
                these activities will run again");
            Ok(())
        };
        let _nobody_waits = drain.done.send(released);
    }
}

fn surroundings(shared: &Shared, began: Instant) -> Surroundings {
    let node = &shared.node;
    Surroundings {
        now: began.elapsed(),
        failed_groups: node.failed_groups.load(Ordering::Acquire),
        is_full: node.is_full(),
        is_damaged: node.damage().is_some(),
        is_purging: node.purges.load(Ordering::Acquire) > 0,
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Closes a hub whose heart stops.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(hub = %self.0.hub, "the supervisor task panicked; the hub is closed");
            self.0.is_broken.store(true, Ordering::Release);
            self.0.close();
        }
    }
}
