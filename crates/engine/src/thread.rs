//! A partition thread of a node: it takes what is in its queue and has the hubs whose partitions it serves work on it.
//!
//! A hub costs no thread. Each has an [executor](crate::executor) here, and what breaks in one of them costs that hub its memory
//! alone. A turn that does not return keeps all of them waiting, so that the node gives the thread up (A33).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use taskhub_store::Error as StoreError;

use crate::common::Common;
use crate::executor::{Executor, IDLE_MAX};
use crate::link::{HubInput, ThreadInput, ThreadLink};
use crate::supervision::Scope;

/// Most inputs taken in before turns begin.
const ROUND_INPUTS_MAX: usize = 1024;

/// Starts the partition thread with this number.
pub(crate) fn start(node: &Common, number: usize) -> Result<ThreadLink, StoreError> {
    let link = ThreadLink::new();
    let own = link.clone();
    node.spawn_thread(&format!("partitions-{number}"), number, move || serve(own, number))?;
    Ok(link)
}

/// Serves until it is stopped, or until all senders are dropped.
fn serve(link: ThreadLink, number: usize) {
    let mut thread = PartitionThread {
        number,
        link,
        inputs: VecDeque::new(),
        hubs: BTreeMap::new(),
    };
    while !thread.link.pulse.is_given_up() && thread.round() {}
}

struct PartitionThread {
    number: usize,
    link: ThreadLink,
    inputs: VecDeque<ThreadInput>,
    hubs: BTreeMap<u32, Executor>,
}

impl PartitionThread {
    fn round(&mut self) -> bool {
        let pause = self.hubs.values().map(Executor::pause).min().unwrap_or(IDLE_MAX);
        if !self.link.inputs.take(&mut self.inputs, ROUND_INPUTS_MAX, pause) {
            return false;
        }
        let mut told = BTreeSet::new();
        while let Some(input) = self.inputs.pop_front() {
            match input {
                ThreadInput::Hub(hub, input) => {
                    told.insert(hub);
                    self.take(hub, input);
                }
                ThreadInput::Leave(hub, done) => {
                    if let Some(executor) = self.hubs.remove(&hub) {
                        executor.leave();
                    }
                    let _nobody_waits = done.send(());
                }
                ThreadInput::Room => told.extend(self.hubs.keys()),
            }
        }
        for (number, hub) in &self.hubs {
            if !told.contains(number) && hub.pause() == Duration::ZERO {
                told.insert(*number);
            }
        }
        for hub in told {
            if self.link.pulse.is_given_up() {
                break;
            }
            // A partition that breaks in it is dropped, and the others end the round.
            while !self.work(hub, Executor::end_round) && !self.link.pulse.is_given_up() {}
        }
        true
    }

    fn take(&mut self, hub: u32, input: HubInput) {
        if let HubInput::Adopt(adopted) = &input {
            let pulse = &self.link.pulse;
            let new = || Executor::new(Arc::clone(&adopted.hub), self.number, Arc::clone(pulse));
            self.hubs.entry(hub).or_insert_with(new);
        }
        // Inputs for an unknown hub are dropped, which notifies their waiters.
        self.work(hub, |executor| executor.take(input));
    }

    /// Runs a function on a hub. Returns false if a partition failed in it, so that other partitions may have missed
    /// their part.
    fn work(&mut self, hub: u32, work: impl FnOnce(&mut Executor)) -> bool {
        if let Some(executor) = self.hubs.get_mut(&hub)
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(executor)))
        {
            return executor.give_up_memory(panic.as_ref()) == Scope::All;
        }
        true
    }
}
