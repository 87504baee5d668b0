//! The node's second synchronous value: activities that wait, those that run, and results that are not
//! yet durable (A35).
//!
//! It holds what a partition says is open, hands it out fairly within the limits, and keeps a result
//! until the commit that took note of it is durable. What it knows is lost with the process; the
//! partitions announce their open calls again when they recover.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use taskhub_core::failure::{self, Failure};
use taskhub_core::fold::FoldedName;
use taskhub_core::id::InstanceId;
use taskhub_core::limits;
use taskhub_core::message::Outcome;
use taskhub_store::PartitionKey;

use crate::io::TaskOffer;
use crate::worker::{ActivityCall, Cancellation, TaskKey};

/// Token of one hand-out of an activity; an answer with another one has no effect (R24).
pub type Token = u64;

/// An input of the dispatcher.
#[derive(Debug)]
pub enum Event {
    /// A call is open; told once when it is made, and again after each recovery.
    Offer(TaskOffer),
    /// The result is no longer needed.
    Withdraw(TaskKey),
    /// A worker has a result.
    Done {
        /// The call.
        key: TaskKey,
        /// The token it was handed out with.
        token: Token,
        /// The result.
        outcome: Outcome,
    },
    /// The result of the call was taken note of, durably.
    Settled(TaskKey),
    /// The partition has lost its memory and will announce its open calls again.
    Reset(PartitionKey),
    /// The partition has announced all open calls; others are no longer needed.
    Announced(PartitionKey),
    /// Hand out nothing more (R206).
    Drain,
}

/// What the dispatcher wants done.
#[derive(Debug)]
pub enum Order {
    /// Run this activity.
    Run {
        /// The call.
        call: ActivityCall,
        /// The token its answer must carry.
        token: Token,
    },
    /// Tell the partition a result.
    Result {
        /// The call.
        key: TaskKey,
        /// The result.
        outcome: Outcome,
    },
    /// The partition must record a further delivery of the call; then it offers the call again (R183).
    Redeliver {
        /// The call.
        key: TaskKey,
        /// Deliveries that were lost so far.
        deliveries: u32,
    },
}

/// How many activities may run at once.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    /// Of all names together.
    pub overall: usize,
    /// Of single names; others are only bound by `overall`.
    pub by_name: HashMap<FoldedName, usize>,
}

/// The value.
#[derive(Debug)]
pub struct Dispatcher {
    capacity: Capacity,
    waiting: BTreeMap<FoldedName, NameQueue>,
    /// Names that have something to hand out, each once, in the order they are served.
    names: VecDeque<FoldedName>,
    calls: HashMap<TaskKey, Call>,
    running: usize,
    /// Results that are not durable yet.
    answered: usize,
    next_token: Token,
    is_draining: bool,
    /// Names whose calls are dispatched; absent: all.
    offered: Option<BTreeSet<FoldedName>>,
}

#[derive(Debug)]
struct Call {
    state: CallState,
    /// Named again since its partition was reset.
    is_confirmed: bool,
}

#[derive(Debug)]
enum CallState {
    Waiting(Box<TaskOffer>),
    /// It has a place, and that so many of its deliveries were lost is put down before it runs (R183).
    Announcing {
        deliveries: u32,
        name: FoldedName,
    },
    Running {
        token: Token,
        name: FoldedName,
        cancellation: Cancellation,
        /// Its result is not wanted. The cancellation does not tell: a worker that takes too long for a
        /// limit of its own is cancelled too, and its failure is wanted (R59).
        is_withdrawn: bool,
    },
    Answered(Outcome),
}

impl CallState {
    fn withdraw(&mut self) {
        if let Self::Running {
            cancellation,
            is_withdrawn,
            ..
        } = self
        {
            *is_withdrawn = true;
            cancellation.cancel();
        }
    }
}

/// Waiting calls of one activity, however its name is spelled (R77), round robin by instance so that none starves the others (R168).
#[derive(Debug, Default)]
struct NameQueue {
    by_instance: HashMap<InstanceId, VecDeque<TaskKey>>,
    turns: VecDeque<InstanceId>,
    running: usize,
    is_listed: bool,
}

impl NameQueue {
    fn push(&mut self, key: TaskKey) {
        let queue = self.by_instance.entry(key.instance.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(key.instance.clone());
        }
        queue.push_back(key);
    }

    fn pop(&mut self) -> Option<TaskKey> {
        let instance = self.turns.pop_front()?;
        let queue = self.by_instance.get_mut(&instance)?;
        let key = queue.pop_front();
        if queue.is_empty() {
            self.by_instance.remove(&instance);
        } else {
            self.turns.push_back(instance);
        }
        key
    }
}

impl Dispatcher {
    /// A dispatcher with nothing to do.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            waiting: BTreeMap::new(),
            names: VecDeque::new(),
            calls: HashMap::new(),
            running: 0,
            answered: 0,
            next_token: 0,
            is_draining: false,
            offered: None,
        }
    }

    /// The same for a node with only some of the functions: other calls wait without counting deliveries until a worker
    /// has their function (A35).
    #[must_use]
    pub fn offering(mut self, names: Option<BTreeSet<FoldedName>>) -> Self {
        self.offered = names;
        self
    }

    /// Goes on with other limits. What runs beyond them runs to its end.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        self.capacity = capacity;
    }

    fn offers(&self, name: &FoldedName) -> bool {
        self.offered.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Takes one event in and says what follows from it.
    pub fn step(&mut self, event: Event, out: &mut Vec<Order>) {
        match event {
            Event::Offer(offer) => self.offer(offer, out),
            Event::Withdraw(key) => self.withdraw(&key),
            Event::Done { key, token, outcome } => self.done(key, token, outcome, out),
            Event::Settled(key) => self.settled(&key),
            Event::Reset(partition) => {
                for call in self.of_partition(&partition) {
                    call.is_confirmed = false;
                }
            }
            Event::Announced(partition) => self.announced(&partition),
            Event::Drain => self.is_draining = true,
        }
        self.hand_out(out);
    }

    fn of_partition(&mut self, partition: &PartitionKey) -> impl Iterator<Item = &mut Call> {
        self.calls
            .iter_mut()
            .filter(|(key, _)| key.partition == *partition)
            .map(|(_, call)| call)
    }

    fn offer(&mut self, offer: TaskOffer, out: &mut Vec<Order>) {
        if let Some(call) = self.calls.get_mut(&offer.key) {
            call.is_confirmed = true;
            match &call.state {
                // Running calls continue; a result that did not become durable is sent again.
                CallState::Running { .. } | CallState::Waiting(_) => return,
                CallState::Answered(outcome) => {
                    out.push(Order::Result {
                        key: offer.key,
                        outcome: outcome.clone(),
                    });
                    return;
                }
                // The partition reloaded before it recorded the delivery, so request it again.
                CallState::Announcing { deliveries, .. } if offer.deliveries < *deliveries => {
                    out.push(Order::Redeliver {
                        key: offer.key,
                        deliveries: *deliveries,
                    });
                    return;
                }
                CallState::Announcing { .. } if self.is_draining => {
                    self.free_place(&FoldedName::from(&offer.name));
                    return self.enqueue(offer);
                }
                // It has a place already.
                CallState::Announcing { .. } => return self.run(offer, out),
            }
        }
        if !self.offers(&FoldedName::from(&offer.name)) {
            return self.enqueue(offer);
        }
        let deliveries = offer.deliveries + u32::from(offer.may_be_running);
        if deliveries >= limits::DELIVERIES_MAX {
            self.give_up(offer, deliveries, out);
        } else {
            self.enqueue(offer);
        }
    }

    /// A call whose every delivery was lost fails, which the orchestrator can catch (R184).
    fn give_up(&mut self, offer: TaskOffer, deliveries: u32, out: &mut Vec<Order>) {
        let name = &offer.name;
        let message = format!(
            "activity `{name}` was delivered {deliveries} times, and each time the process ended before the activity \
            returned"
        );
        let outcome = Outcome::Failed(Box::new(Failure::new(failure::POISON, message).non_retriable()));
        self.answered += 1;
        self.put(offer.key.clone(), CallState::Answered(outcome.clone()));
        out.push(Order::Result {
            key: offer.key,
            outcome,
        });
    }

    fn enqueue(&mut self, offer: TaskOffer) {
        let key = offer.key.clone();
        let name = FoldedName::from(&offer.name);
        let queue = self.waiting.entry(name.clone()).or_default();
        queue.push(key.clone());
        if !queue.is_listed {
            queue.is_listed = true;
            self.names.push_back(name);
        }
        self.put(key, CallState::Waiting(Box::new(offer)));
    }

    fn put(&mut self, key: TaskKey, state: CallState) {
        let is_confirmed = true;
        self.calls.insert(key, Call { state, is_confirmed });
    }

    fn withdraw(&mut self, key: &TaskKey) {
        match self.calls.get_mut(key).map(|call| &mut call.state) {
            // Its answer still has to free its place.
            Some(running @ CallState::Running { .. }) => running.withdraw(),
            Some(CallState::Answered(_)) => self.forget_answer(key),
            Some(CallState::Announcing { name, .. }) => {
                let name = name.clone();
                self.calls.remove(key);
                self.free_place(&name);
            }
            Some(CallState::Waiting(_)) => {
                self.calls.remove(key);
            }
            None => {}
        }
    }

    fn done(&mut self, key: TaskKey, token: Token, outcome: Outcome, out: &mut Vec<Order>) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let CallState::Running {
            token: current,
            name,
            is_withdrawn,
            cancellation: _,
        } = &call.state
        else {
            return;
        };
        if *current != token {
            return;
        }
        let (name, is_withdrawn) = (name.clone(), *is_withdrawn);
        if is_withdrawn {
            self.calls.remove(&key);
        } else {
            call.state = CallState::Answered(outcome.clone());
            self.answered += 1;
            out.push(Order::Result { key, outcome });
        }
        self.free_place(&name);
    }

    /// A call that was to run is not run here after all, because its partition may be another node's by now. It is offered anew by
    /// whoever has that, which may be this node again.
    pub fn forgo(&mut self, key: &TaskKey, token: Token) {
        if let Some(Call {
            state: CallState::Running {
                token: current, name, ..
            },
            ..
        }) = self.calls.get(key)
            && *current == token
        {
            let name = name.clone();
            self.calls.remove(key);
            self.free_place(&name);
        }
    }

    /// One that ran, or was about to, does so no more.
    fn free_place(&mut self, name: &FoldedName) {
        self.running -= 1;
        if let Some(queue) = self.waiting.get_mut(name) {
            queue.running -= 1;
            if queue.turns.is_empty() && queue.running == 0 {
                self.waiting.remove(name);
                self.names.retain(|listed| listed != name);
            } else if !queue.is_listed && !queue.turns.is_empty() {
                queue.is_listed = true;
                self.names.push_back(name.clone());
            }
        }
    }

    fn settled(&mut self, key: &TaskKey) {
        if let Some(Call {
            state: CallState::Answered(_),
            ..
        }) = self.calls.get(key)
        {
            self.forget_answer(key);
        }
    }

    fn forget_answer(&mut self, key: &TaskKey) {
        self.calls.remove(key);
        self.answered -= 1;
    }

    fn announced(&mut self, partition: &PartitionKey) {
        let stale = self
            .calls
            .iter()
            .filter(|(key, call)| key.partition == *partition && !call.is_confirmed);
        let stale: Vec<TaskKey> = stale.map(|(key, _)| key.clone()).collect();
        for key in stale {
            self.withdraw(&key);
        }
    }

    /// Hands out what the limits allow: names in turn, within a name instances in turn.
    fn hand_out(&mut self, out: &mut Vec<Order>) {
        while self.running < self.capacity.overall && !self.is_draining {
            let Some(name) = self.names.pop_front() else { return };
            let is_offered = self.offers(&name);
            let limit = self.capacity.by_name.get(&name).copied().unwrap_or(usize::MAX);
            let Some(queue) = self.waiting.get_mut(&name) else {
                continue;
            };
            let is_free = is_offered && queue.running < limit;
            let key = if is_free { queue.pop() } else { None };
            let Some(key) = key else {
                // Comes back when one of its calls is done, or a new one is offered.
                queue.is_listed = false;
                continue;
            };
            self.names.push_back(name.clone());
            // A call that was withdrawn while it waited is unknown by now, or known as another delivery.
            let Some(call) = self.calls.get_mut(&key) else { continue };
            let deliveries = match &call.state {
                CallState::Waiting(offer) => offer.deliveries + u32::from(offer.may_be_running),
                _ => continue,
            };
            queue.running += 1;
            self.running += 1;
            let placed = CallState::Announcing { deliveries, name };
            let CallState::Waiting(offer) = std::mem::replace(&mut call.state, placed) else {
                unreachable!("looked at just above")
            };
            if offer.may_be_running {
                // Only now: a call that waits through many crashes was not lost in each of them.
                out.push(Order::Redeliver { key, deliveries });
            } else {
                self.run(*offer, out);
            }
        }
    }

    /// Hands out a call that has a place.
    fn run(&mut self, offer: TaskOffer, out: &mut Vec<Order>) {
        let token = self.next_token;
        self.next_token += 1;
        let cancellation = Cancellation::default();
        let running = CallState::Running {
            token,
            name: FoldedName::from(&offer.name),
            cancellation: cancellation.clone(),
            is_withdrawn: false,
        };
        if let Some(call) = self.calls.get_mut(&offer.key) {
            call.state = running;
        }
        let call = ActivityCall {
            key: offer.key,
            event_id: offer.event_id,
            name: offer.name,
            version: offer.version,
            input: offer.input,
            tags: offer.tags,
            delivery: offer.deliveries + 1,
            cancellation,
        };
        out.push(Order::Run { call, token });
    }

    /// Activities that run now.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Results that are not durable yet: a stop that left one behind would have its activity run again.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// Activities that wait, run, or whose result is not yet durable.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is nothing to do and nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Cancels everything that runs, when the grace of a stop is over (R206). What is cancelled runs again
    /// in the next process, so what it says now is not its result.
    pub fn cancel_all(&mut self) {
        for call in self.calls.values_mut() {
            call.state.withdraw();
        }
    }
}
