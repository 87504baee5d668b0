//! The partitions of a stopped hub, driven by their caller: requests in, commits to the store, answers out.
//!
//! They are the same partitions as those of a running hub, so a request means the same with and without a server. But no turn
//! begins, no timer fires and no activity is handed out: the next process that runs the hub does that, so no delivery is
//! counted that did not happen. If an earlier owner ended without giving a partition back, that stays visible to the next
//! one: its activities may still be running (A35).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use taskhub_core::id::{HubName, InstanceId, Seq};
use taskhub_store::{
    Claim, Error as StoreError, Group, Lease, NodeId, PartitionKey, Previous, Store, load_each, partition_of,
};

use crate::clock::{Clock, SystemClock};
use crate::flaw::Flaws;
use crate::group::Batch;
use crate::io::{Input, Output, Reply, Request};
use crate::partition::{Destination, Partition, Random, Setup};
use crate::worker::Offered;

/// Number of a request; its answer goes there.
#[derive(Clone, Copy, Debug)]
struct Ticket(usize);

impl Destination for Ticket {
    fn is_gone(&self) -> bool {
        false
    }
}

/// A hub that no process runs. A partition is claimed when the first request for it comes, and kept until
/// [`OfflineHub::close`].
#[derive(Debug)]
pub struct OfflineHub {
    hub: HubName,
    partitions: u16,
    /// The partitions that were claimed.
    open: BTreeMap<u16, Partition<Ticket>>,
}

/// Number of the one hub in a group.
const HUB: u32 = 0;

/// What one call gathers.
struct Round {
    inputs: VecDeque<(u16, Input<Ticket>)>,
    loads: BTreeMap<u16, Vec<InstanceId>>,
    made: Batch<Ticket>,
    replies: Vec<Option<Reply>>,
    /// The last commit of each partition.
    last: BTreeMap<u16, Seq>,
}

impl OfflineHub {
    /// The hub of this name, which has so many partitions in the store.
    pub fn new(hub: HubName, partitions: u16) -> Self {
        Self {
            hub,
            partitions,
            open: BTreeMap::new(),
        }
    }

    /// Puts requests to instances, and answers them in their order. What they change is durable then, in one group.
    ///
    /// # Errors
    ///
    /// Those of the store. The partitions may then be ahead of it: do not use the value any more.
    pub async fn ask(
        &mut self,
        store: &dyn Store,
        requests: Vec<(InstanceId, Request)>,
    ) -> Result<Vec<Reply>, StoreError> {
        let mut round = Round {
            inputs: VecDeque::new(),
            loads: BTreeMap::new(),
            made: Batch::new(HUB),
            replies: requests.iter().map(|_| None).collect(),
            last: BTreeMap::new(),
        };
        for (ticket, (instance, request)) in requests.into_iter().enumerate() {
            let index = partition_of(&instance, self.partitions);
            let to = Ticket(ticket);
            let input = Input::Request { instance, request, to };
            round.inputs.push_back((index, input));
        }
        while !round.inputs.is_empty() || !round.loads.is_empty() {
            while let Some((index, input)) = round.inputs.pop_front() {
                self.step(store, index, input, &mut round).await?;
            }
            for (index, instances) in std::mem::take(&mut round.loads) {
                self.load(store, index, instances, &mut round).await?;
            }
        }
        if !round.made.is_empty() {
            let (_, sections, _) = round.made.take().into_parts();
            store.commit(Arc::new(Group { sections })).await?;
        }
        for (index, seq) in std::mem::take(&mut round.last) {
            self.step(store, index, Input::Durable(seq), &mut round).await?;
        }
        let replies: Option<Vec<Reply>> = round.replies.into_iter().collect();
        let Some(replies) = replies else {
            unreachable!("a request whose instance is known is answered")
        };
        Ok(replies)
    }

    async fn step(
        &mut self,
        store: &dyn Store,
        index: u16,
        input: Input<Ticket>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        if !self.open.contains_key(&index) {
            self.serve(store, index, round).await?;
        }
        let Some(partition) = self.open.get_mut(&index) else {
            unreachable!("it is served since the line above")
        };
        let mut outputs = Vec::new();
        partition.step(input, SystemClock.now(), &mut outputs);
        for output in outputs {
            match output {
                Output::Commit { seq, commit } => {
                    round.last.insert(index, seq);
                    round.made.push(partition.key(), partition.lease().epoch, seq, commit);
                }
                Output::Load(instance) => round.loads.entry(index).or_default().push(instance),
                Output::Message { at, item } => {
                    let target = partition_of(&item.target, self.partitions);
                    round.inputs.push_back((target, Input::Message { at, item }));
                }
                Output::Reply { to, reply, .. } => round.replies[to.0] = Some(reply),
                // Left for the next process that runs the hub.
                Output::History { .. }
                | Output::Turn(_)
                | Output::Evict(_)
                | Output::Dispatch { .. }
                | Output::Withdraw { .. }
                | Output::Settled { .. }
                // Ids are looked up in the store, so the filter of known ids is not filled (A40).
                | Output::Fingerprints => {}
            }
        }
        Ok(())
    }

    async fn serve(&mut self, store: &dyn Store, index: u16, round: &mut Round) -> Result<(), StoreError> {
        let key = PartitionKey {
            hub: self.hub.clone(),
            index,
        };
        let node = getrandom::u64().map_err(|source| StoreError::Unavailable { source: source.into() })?;
        let claim = Claim::new(NodeId(node), &[key], SystemClock.now()).steal();
        let leases = store.claim(&claim).await?.leases;
        let Some(lease) = leases.into_iter().next() else {
            unreachable!("one lease for each partition that is claimed")
        };
        let recovered = store.recover(&lease).await?;
        let may_be_running = lease.previous == Previous::Other;
        let setup = Setup {
            lease,
            random: Random::System,
            memory_bytes_max: usize::MAX / 2,
            orchestrators_offered: Offered::default(),
            set_aside: Vec::new(),
            out_of_service: Vec::new(),
            // It is over before there is anything to look for.
            sweep_min: usize::MAX,
            may_be_running,
            flaws: Flaws::default(),
        };
        let mut outputs = Vec::new();
        let partition = Partition::recover(setup, recovered, SystemClock.now(), &mut outputs);
        for output in outputs {
            // What was said to its instances before is taken in first (R189).
            if let Output::Load(instance) = output {
                round.loads.entry(index).or_default().push(instance);
            }
        }
        self.open.insert(index, partition);
        Ok(())
    }

    async fn load(
        &mut self,
        store: &dyn Store,
        index: u16,
        instances: Vec<InstanceId>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let Some(Lease { partition, epoch, .. }) = self.open.get(&index).map(Partition::lease) else {
            unreachable!("only a partition that is served asks for states")
        };
        let states = load_each(store, partition, &instances).await?;
        for (instance, state) in instances.into_iter().zip(states) {
            round
                .inputs
                .push_back((index, Input::of_state(instance, *epoch, state)));
        }
        Ok(())
    }

    /// Gives the partitions back, but for those whose last owner did not.
    ///
    /// # Errors
    ///
    /// Those of the store. What was answered stays durable.
    pub async fn close(self, store: &dyn Store) -> Result<(), StoreError> {
        let clean = self
            .open
            .values()
            .map(Partition::lease)
            .filter(|lease| lease.previous == Previous::Nobody);
        let leases: Vec<Lease> = clean.cloned().collect();
        store.release(&leases).await
    }
}
