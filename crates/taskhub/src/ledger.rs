//! The books of one execution: actions its code asked for, what it waits for, and what it may read.
//!
//! The context and its futures write here; [`crate::replay`] feeds events in and takes actions out.
//! Nothing here runs user code, so a borrow of the ledger never lasts while any runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use taskhub_core::action::{Action, ActionKind};
use taskhub_core::event::{EventKind, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name};
use taskhub_core::limits;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use crate::divergence::{self, Divergence};
use crate::events::Events;

/// What the code of one execution shares with the one that runs it.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) ledger: RefCell<Ledger>,
}

/// Who runs.
pub(crate) struct Identity {
    pub(crate) instance: InstanceId,
    pub(crate) execution: ExecutionId,
    pub(crate) name: Name,
    pub(crate) version: Option<Name>,
    pub(crate) parent: Option<Parent>,
    pub(crate) tags: Tags,
}

/// How a call ended.
pub(crate) type CallOutcome = Result<Option<Payload>, Box<Failure>>;

/// The next execution, as the code wants it.
pub(crate) struct Continue {
    pub(crate) input: Option<Payload>,
    pub(crate) version: Option<Name>,
    pub(crate) keeps_events: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Logical time (R17).
    pub(crate) now: Timestamp,
    pub(crate) is_replaying: bool,
    /// Set while a finished turn is only run again to check it: nothing is logged then.
    pub(crate) is_check: bool,
    pub(crate) events_seen: u32,
    pub(crate) custom_status: Option<Payload>,
    pub(crate) continued: Option<Continue>,
    pub(crate) guids: u64,
    pub(crate) randoms: u64,
    pub(crate) events: Events,
    next_id: i32,
    /// Actions that no recorded event has confirmed and no answer has taken, by ascending id. Withdrawn
    /// ones are left as gaps, which keeps a search by id possible.
    made: VecDeque<(i32, Option<ActionKind>)>,
    /// Bytes of payload in them. Above what one turn may ask for nothing is added, since the answer is refused as a whole.
    made_bytes: usize,
    /// Timers that were committed and are not wanted any more (R48).
    cancelled: Vec<i32>,
    calls: BTreeMap<i32, Call>,
    arrivals: u64,
    parked: usize,
}

/// An open activity, child or timer.
#[derive(Default)]
struct Call {
    outcome: Option<(u64, CallOutcome)>,
    waker: Option<Waker>,
}

impl Ledger {
    /// The id of the action that is made next.
    pub(crate) fn next_id(&self) -> i32 {
        self.next_id
    }

    /// Creates an action without a result to wait for.
    pub(crate) fn act(&mut self, kind: ActionKind) -> i32 {
        let id = self.next_id;
        self.made_bytes += kind.size();
        self.next_id += 1;
        self.made.push_back((id, Some(kind)));
        id
    }

    /// Whether the turn asks for more than one may: what else it asks for need not be encoded any more.
    pub(crate) fn is_over(&self) -> bool {
        self.made_bytes > limits::TURN_ANSWER_BYTES_MAX
    }

    /// Makes an action whose completion is waited for.
    pub(crate) fn call(&mut self, kind: ActionKind) -> i32 {
        let id = self.act(kind);
        self.calls.insert(id, Call::default());
        id
    }

    /// Changes the action that was made last. Not once another one was made, an answer has taken it, or a recorded event
    /// has confirmed it; `false` then. Live and on replay that is the same moment in the code: a recorded action comes
    /// after all events of the turn that asked for it.
    pub(crate) fn amend(&mut self, id: i32, change: impl FnOnce(&mut ActionKind)) -> bool {
        let Some((last, Some(kind))) = self.made.back_mut() else {
            return false;
        };
        if *last != id {
            return false;
        }
        self.made_bytes -= kind.size();
        change(kind);
        self.made_bytes += kind.size();
        true
    }

    /// Takes back the action that was made last, as [`Ledger::amend`] changes it.
    pub(crate) fn unmake(&mut self, id: i32) {
        if let Some((last, Some(kind))) = self.made.back()
            && *last == id
        {
            self.made_bytes -= kind.size();
            self.made.pop_back();
            self.next_id = id;
            self.abandon(id);
        }
    }

    /// Puts down how a call ended and gives its waker. `Err` if no such call was ever made (R37);
    /// one whose future was dropped, or whose timer was cancelled, is just not waited for.
    pub(crate) fn complete(&mut self, id: i32, outcome: CallOutcome) -> Result<Option<Waker>, ()> {
        self.arrivals += 1;
        let Some(call) = self.calls.get_mut(&id) else {
            return if (0..self.next_id).contains(&id) {
                Ok(None)
            } else {
                Err(())
            };
        };
        if call.outcome.is_none() {
            call.outcome = Some((self.arrivals, outcome));
        }
        let waker = call.waker.take();
        self.parked -= usize::from(waker.is_some());
        Ok(waker)
    }

    /// Completions and events that arrived so far.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// When a call's completion arrived, if it did.
    pub(crate) fn arrival(&self, id: i32) -> Option<u64> {
        let (arrival, _) = self.calls.get(&id)?.outcome.as_ref()?;
        Some(*arrival)
    }

    /// Takes the outcome of a call, or parks the waker until there is one.
    pub(crate) fn poll_call(&mut self, id: i32, waker: &Waker) -> Option<CallOutcome> {
        let call = self.calls.get_mut(&id)?;
        if call.outcome.is_none() {
            self.parked += usize::from(park(&mut call.waker, waker));
            return None;
        }
        let (_, outcome) = self.calls.remove(&id)?.outcome?;
        Some(outcome)
    }

    /// Stops waiting for an activity or a child, which continues to run.
    pub(crate) fn abandon(&mut self, id: i32) {
        let waker = self.calls.remove(&id).and_then(|call| call.waker);
        self.parked -= usize::from(waker.is_some());
    }

    /// Stops waiting for a timer. One that was not committed yet was never asked for (R48).
    pub(crate) fn cancel_timer(&mut self, id: i32) {
        let has_fired = self.arrival(id).is_some();
        self.abandon(id);
        match self.made_mut(id) {
            Some(made) => *made = None,
            None if has_fired => {}
            None => self.cancelled.push(id),
        }
    }

    /// Hands an event to a waiter, or keeps it for a later wait (R78).
    pub(crate) fn raise(&mut self, event: HistoryEvent) -> Option<Waker> {
        self.arrivals += 1;
        let waker = self.events.deliver(event, self.arrivals);
        self.parked -= usize::from(waker.is_some());
        waker
    }

    /// Takes the event of a wait, or parks the waker until there is one.
    pub(crate) fn poll_event(&mut self, id: u64, waker: &Waker) -> Option<HistoryEvent> {
        let taken = self.events.take(id);
        if taken.is_none() {
            self.parked += usize::from(self.events.park(id, waker));
        }
        taken
    }

    /// Ends a wait for an event; the waker is that of the next waiter, if it gets the event.
    pub(crate) fn withdraw(&mut self, id: u64) -> Option<Waker> {
        let (next, was_parked) = self.events.withdraw(id);
        self.parked -= usize::from(was_parked) + usize::from(next.is_some());
        next
    }

    /// Waits of this execution that code is parked on. None while it is blocked means that it awaits
    /// something foreign (A37).
    pub(crate) fn parked(&self) -> usize {
        self.parked
    }

    /// Matches a recorded action event with the action that code made (R38).
    pub(crate) fn confirm(&mut self, id: i32, recorded: &EventKind) -> Result<(), Divergence> {
        let Some(made) = self.made_mut(id) else {
            return Err(divergence::missing(id, recorded));
        };
        let Some(kind) = made.take() else {
            return Err(divergence::missing(id, recorded));
        };
        self.made_bytes -= kind.size();
        // Confirmed in the order they were made, as a rule, so gaps gather at the front.
        while self.made.front().is_some_and(|(_, kind)| kind.is_none()) {
            self.made.pop_front();
        }
        divergence::compare(id, recorded, &kind)
    }

    /// Ends the feeding of recorded history. What code asked for then is confirmed, or should have been (R39, A28).
    pub(crate) fn end_past(&mut self) -> Result<(), Divergence> {
        if let Some((id, Some(kind))) = self.made.iter().find(|(_, kind)| kind.is_some()) {
            return Err(divergence::unrecorded(*id, kind));
        }
        self.made.clear();
        self.made_bytes = 0;
        self.cancelled.clear();
        self.custom_status = None;
        Ok(())
    }

    /// Takes what the turn asks for, in the order it was asked for. From now on it counts as committed:
    /// a turn that was not is never followed by another one on the same ledger (A22).
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        self.made_bytes = 0;
        let made = self.made.drain(..);
        let mut actions: Vec<Action> = made.filter_map(|(id, kind)| Some(Action { id, kind: kind? })).collect();
        let cancelled = self.cancelled.drain(..);
        actions.extend(cancelled.map(|id| Action {
            id,
            kind: ActionKind::CancelTimer { timer_id: id },
        }));
        actions
    }

    fn made_mut(&mut self, id: i32) -> Option<&mut Option<ActionKind>> {
        let place = self.made.binary_search_by_key(&id, |(made, _)| *made).ok()?;
        self.made.get_mut(place).map(|(_, kind)| kind)
    }
}

/// Stores a waker where the next completion finds it; tells whether the place was empty.
pub(crate) fn park(place: &mut Option<Waker>, waker: &Waker) -> bool {
    if let Some(parked) = place {
        parked.clone_from(waker);
        return false;
    }
    *place = Some(waker.clone());
    true
}

/// Wakes outside of any borrow, because a waker can run arbitrary code.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Shared {
    pub(crate) fn new(identity: Identity) -> Rc<Self> {
        Rc::new(Self {
            identity,
            ledger: RefCell::default(),
        })
    }
}
