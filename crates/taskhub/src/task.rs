//! What orchestrators await, and how to await several at once.
//!
//! Each future here parks its waker in the execution's ledger and is woken by the event that completes
//! it, so `join_all` polls only what has something new, and the combinators of the `futures` crate and
//! `tokio::select!` (with `biased`) work as well as those below (A37).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::{self, Either, FusedFuture, FutureExt};
use serde::de::DeserializeOwned;
use taskhub_core::failure::Failure;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use crate::codec;
use crate::error::{Awaited, TaskFailed};
use crate::events::payload_of;
use crate::ledger::{Shared, wake};

type Outcome = Result<Option<Payload>, TaskFailed>;
type Decode<T> = fn(Option<Payload>, Awaited, &str) -> Result<T, Failure>;

/// An activity or sub-orchestration that was called. It was asked for when it was called: dropping the
/// future stops the waiting, not the work.
pub struct Call<T> {
    awaited: Awaited,
    name: Rc<str>,
    source: Source,
    decode: Decode<T>,
}

enum Source {
    /// One call.
    Open { shared: Rc<Shared>, id: i32 },
    /// A call with a retry policy.
    Retrying(Pin<Box<dyn Future<Output = Outcome>>>),
    /// A call that could not be made.
    Refused(Option<TaskFailed>),
    /// The outcome was taken.
    Done,
}

impl<T> Call<T> {
    pub(crate) fn open(called: (Awaited, Rc<str>), shared: Rc<Shared>, id: i32, decode: Decode<T>) -> Self {
        let (awaited, name) = called;
        Self {
            awaited,
            name,
            source: Source::Open { shared, id },
            decode,
        }
    }

    pub(crate) fn refused(called: (Awaited, Rc<str>), failure: Failure, decode: Decode<T>) -> Self {
        let (awaited, name) = called;
        let failed = TaskFailed::new(awaited, &name, failure);
        Self {
            awaited,
            name,
            source: Source::Refused(Some(failed)),
            decode,
        }
    }

    pub(crate) fn retrying(
        called: (Awaited, Rc<str>),
        attempts: impl Future<Output = Outcome> + 'static,
        decode: Decode<T>,
    ) -> Self {
        let (awaited, name) = called;
        Self {
            awaited,
            name,
            source: Source::Retrying(Box::pin(attempts)),
            decode,
        }
    }
}

/// Reads a result as JSON.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands beside `as_is`, which gives the value on"
)]
pub(crate) fn from_json<T: DeserializeOwned>(
    payload: Option<Payload>,
    awaited: Awaited,
    name: &str,
) -> Result<T, Failure> {
    let part = match awaited {
        Awaited::Activity | Awaited::SubOrchestration => "the result",
        Awaited::Event => "the payload",
    };
    codec::decode(payload.as_ref(), format_args!("{part} of {awaited} `{name}`"))
}

/// Passes a result on as it is.
#[expect(clippy::unnecessary_wraps, reason = "it stands beside `from_json`, which can fail")]
pub(crate) fn as_is(payload: Option<Payload>, _: Awaited, _: &str) -> Result<Option<Payload>, Failure> {
    Ok(payload)
}

impl<T> Future for Call<T> {
    type Output = Result<T, TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let outcome = match &mut this.source {
            Source::Open { shared, id } => {
                let outcome = shared.ledger.borrow_mut().poll_call(*id, context.waker());
                outcome.map(|outcome| outcome.map_err(|failure| TaskFailed::new(this.awaited, &this.name, *failure)))
            }
            Source::Retrying(attempts) => match attempts.as_mut().poll(context) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            },
            Source::Refused(failed) => failed.take().map(Err),
            Source::Done => None,
        };
        let Some(outcome) = outcome else {
            return Poll::Pending;
        };
        this.source = Source::Done;
        let (awaited, name) = (this.awaited, &this.name);
        Poll::Ready(outcome.and_then(|payload| {
            (this.decode)(payload, awaited, name).map_err(|failure| TaskFailed::new(awaited, name, failure))
        }))
    }
}

impl<T> FusedFuture for Call<T> {
    fn is_terminated(&self) -> bool {
        matches!(self.source, Source::Done)
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let Source::Open { shared, id } = &self.source {
            shared.ledger.borrow_mut().abandon(*id);
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Call({} `{}`)", self.awaited, self.name)
    }
}

/// A durable timer; dropping it cancels it (R48).
#[must_use = "a timer that is dropped is cancelled"]
pub struct Timer {
    shared: Rc<Shared>,
    id: i32,
    fire_at: Timestamp,
    is_done: bool,
}

impl Timer {
    pub(crate) fn new(shared: Rc<Shared>, id: i32, fire_at: Timestamp) -> Self {
        Self {
            shared,
            id,
            fire_at,
            is_done: false,
        }
    }

    /// When it is due.
    pub fn fire_at(&self) -> Timestamp {
        self.fire_at
    }

    fn arrival(&self) -> Option<u64> {
        self.shared.ledger.borrow().arrival(self.id)
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_done {
            return Poll::Pending;
        }
        let fired = self.shared.ledger.borrow_mut().poll_call(self.id, context.waker());
        if fired.is_none() {
            return Poll::Pending;
        }
        self.is_done = true;
        Poll::Ready(())
    }
}

impl FusedFuture for Timer {
    fn is_terminated(&self) -> bool {
        self.is_done
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.ledger.borrow_mut().cancel_timer(self.id);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Timer({} at {})", self.id, self.fire_at)
    }
}

/// A wait for an external event; dropping it withdraws the wait and leaves the event to others (R79).
#[must_use = "a wait that is dropped is withdrawn"]
pub struct EventWait<T> {
    shared: Rc<Shared>,
    name: Rc<str>,
    id: u64,
    is_done: bool,
    decode: Decode<T>,
}

impl<T> EventWait<T> {
    pub(crate) fn new(shared: Rc<Shared>, name: &str, decode: Decode<T>) -> Self {
        let id = shared.ledger.borrow_mut().events.wait(name);
        Self {
            shared,
            name: name.into(),
            id,
            is_done: false,
            decode,
        }
    }

    fn arrival(&self) -> Option<u64> {
        self.shared.ledger.borrow().events.arrival(self.id)
    }
}

impl<T> Future for EventWait<T> {
    type Output = Result<T, TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_done {
            return Poll::Pending;
        }
        let taken = self.shared.ledger.borrow_mut().poll_event(self.id, context.waker());
        let Some(event) = taken else {
            return Poll::Pending;
        };
        self.is_done = true;
        let value = (self.decode)(payload_of(event), Awaited::Event, &self.name);
        Poll::Ready(value.map_err(|failure| TaskFailed::new(Awaited::Event, &self.name, failure)))
    }
}

impl<T> FusedFuture for EventWait<T> {
    fn is_terminated(&self) -> bool {
        self.is_done
    }
}

impl<T> Drop for EventWait<T> {
    fn drop(&mut self) {
        if !self.is_done {
            let next = self.shared.ledger.borrow_mut().withdraw(self.id);
            wake(next);
        }
    }
}

impl<T> fmt::Debug for EventWait<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EventWait(`{}`)", self.name)
    }
}

/// A wait for an external event with a time limit: `None` when the time is over. What comes first in
/// history wins; the other is withdrawn before the code goes on (R85).
#[derive(Debug)]
#[must_use = "a wait that is dropped is withdrawn"]
pub struct EventWaitFor<T> {
    race: Option<(EventWait<T>, Timer)>,
}

impl<T> EventWaitFor<T> {
    pub(crate) fn new(event: EventWait<T>, timer: Timer) -> Self {
        Self {
            race: Some((event, timer)),
        }
    }
}

impl<T> Future for EventWaitFor<T> {
    type Output = Result<Option<T>, TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((event, timer)) = &mut self.race else {
            return Poll::Pending;
        };
        let timer_is_first = match (event.arrival(), timer.arrival()) {
            (Some(event), Some(timer)) => timer < event,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let outcome = if timer_is_first {
            Pin::new(timer).poll(context).map(|()| Ok(None))
        } else {
            let event = Pin::new(event).poll(context).map(|value| value.map(Some));
            if event.is_pending() {
                // Parks the waker on the timer too.
                return Pin::new(timer).poll(context).map(|()| Ok(None));
            }
            event
        };
        self.race = None;
        outcome
    }
}

impl<T> FusedFuture for EventWaitFor<T> {
    fn is_terminated(&self) -> bool {
        self.race.is_none()
    }
}

/// Awaits two futures and gives both results.
///
/// ```
/// # use taskhub::{join, OrchestrationContext, Result};
/// async fn trip(ctx: OrchestrationContext, city: String) -> Result<(String, String)> {
///     let flight = ctx.call_activity::<String>("BookFlight", &city);
///     let hotel = ctx.call_activity::<String>("BookHotel", &city);
///     let (flight, hotel) = join(flight, hotel).await;
///     Ok((flight?, hotel?))
/// }
/// ```
pub fn join<A: Future, B: Future>(one: A, other: B) -> impl Future<Output = (A::Output, B::Output)> {
    future::join(one, other)
}

/// Awaits all futures and gives their results in the order of the futures. Only those that were woken
/// are polled, so a fan-in costs the same per result however wide it is. The futures are made at once,
/// before this is awaited, so the calls of a lazy iterator are too.
///
/// ```
/// # use taskhub::{join_all, OrchestrationContext, Result};
/// async fn total(ctx: OrchestrationContext, files: Vec<String>) -> Result<u64> {
///     let sizes = join_all(files.iter().map(|file| ctx.call_activity::<u64>("Size", file))).await;
///     let mut total = 0;
///     for size in sizes {
///         total += size?;
///     }
///     Ok(total)
/// }
/// ```
pub fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> impl Future<Output = Vec<F::Output>> {
    future::join_all(futures)
}

/// Awaits all futures and gives their values, or the first error as soon as there is one; what the
/// others were waiting for goes on by itself, and nobody listens any more. The futures are made at once.
///
/// # Errors
///
/// The first error in the order of history.
pub fn try_join_all<T, E, F>(futures: impl IntoIterator<Item = F>) -> impl Future<Output = Result<Vec<T>, E>>
where
    F: Future<Output = Result<T, E>>,
{
    future::try_join_all(futures)
}

/// The result of [`select`]: that of the future which was ready first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<A, B> {
    /// The first future.
    One(A),
    /// The second future.
    Other(B),
}

/// Awaits the one of two futures that is ready first and drops the other, which withdraws a wait or a
/// timer but not an activity. If both are ready at the same moment, the first one wins.
///
/// ```
/// # use std::time::Duration;
/// # use taskhub::{select, First, OrchestrationContext, Result};
/// async fn with_deadline(ctx: OrchestrationContext, _: ()) -> Result<Option<String>> {
///     let deadline = ctx.create_timer(Duration::from_secs(60));
///     match select(ctx.call_activity::<String>("Slow", ()), deadline).await {
///         First::One(result) => Ok(Some(result?)),
///         First::Other(()) => Ok(None),
///     }
/// }
/// ```
pub async fn select<A: Future, B: Future>(one: A, other: B) -> First<A::Output, B::Output> {
    let (one, other) = (std::pin::pin!(one), std::pin::pin!(other));
    match future::select(one, other).await {
        Either::Left((value, _)) => First::One(value),
        Either::Right((value, _)) => First::Other(value),
    }
}

/// Awaits the future that is ready first; gives its position, its result and the others, which can be
/// awaited further. The futures are made at once.
///
/// # Panics
///
/// If there are no futures: nothing could ever be ready.
pub fn select_all<F: Future + Unpin>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = (usize, F::Output, Vec<F>)> {
    future::select_all(futures).map(|(value, place, others)| (place, value, others))
}
