//! What orchestrators await, and how to await several at once.
//!
//! Each future here parks its waker in the execution's ledger and is woken by the event that completes
//! it, so `join_all` polls only what has something new, and the combinators of the `futures` crate and
//! `tokio::select!` (with `biased`) work as well as those below (A37).

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{self, Either, FusedFuture, FutureExt};
use taskhub_core::action::ActionKind;
use taskhub_core::failure::Failure;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use crate::codec::{self, FromPayload, Raw};
use crate::error::{Awaited, TaskFailed};
use crate::events::payload_of;
use crate::instance::ToInstanceId;
use crate::ledger::{Shared, wake};
use crate::options;
use crate::orchestrator::OrchestrationContext;
use crate::retry::{self, RetryPolicy};

type Outcome = Result<Option<Payload>, TaskFailed>;
type Decode<T> = fn(Option<Payload>, Awaited, &str) -> Result<T, Failure>;

/// An activity that was called, or a sub-orchestration ([`SubOrchestrationCall`]). It was asked for when it was called:
/// dropping the future stops the waiting, not the work.
///
/// Options are set in the expression that makes the call. Once the code has made another call, or waited for something,
/// they cannot be set any more, and the call fails with the error type `InvalidOption`.
///
/// ```
/// # use std::time::Duration;
/// # use taskhub::{OrchestrationContext, Result, RetryPolicy};
/// # async fn orchestrator(ctx: OrchestrationContext, _: ()) -> Result<()> {
/// let policy = RetryPolicy::new(3, Duration::from_secs(1));
/// let receipt: String = ctx.call_activity("Charge", 17).retry(policy).tag("kind", "payment").await?;
/// # Ok(()) }
/// ```
pub struct Call<T, K = OfActivity> {
    called: Called,
    source: Source,
    decode: Decode<T>,
    kind: PhantomData<fn() -> K>,
}

/// A sub-orchestration that was called.
///
/// ```
/// # use taskhub::{OrchestrationContext, Result};
/// # async fn orchestrator(ctx: OrchestrationContext, _: ()) -> Result<()> {
/// let receipt: String = ctx.call_sub_orchestrator("Pay", 17).id("payment-17").await?;
/// # Ok(()) }
/// ```
pub type SubOrchestrationCall<T> = Call<T, OfSubOrchestration>;

/// Marks calls of activities.
#[derive(Clone, Copy, Debug)]
pub enum OfActivity {}

/// Marks calls of sub-orchestrations, which have an instance id.
#[derive(Clone, Copy, Debug)]
pub enum OfSubOrchestration {}

/// What was called.
pub(crate) type Called = (Awaited, Rc<str>);

enum Source {
    /// A call that was made.
    Open {
        shared: Rc<Shared>,
        id: i32,
        made_at: Timestamp,
        retry: Option<Box<Retry>>,
    },
    /// A call with a retry policy, once it is awaited.
    Retrying(Pin<Box<dyn Future<Output = Outcome>>>),
    /// A call that could not be made.
    Refused(Option<TaskFailed>),
    /// The outcome was taken.
    Done,
}

/// What further attempts need.
struct Retry {
    policy: RetryPolicy,
    action: ActionKind,
}

impl<T, K> Call<T, K> {
    pub(crate) fn open(called: Called, shared: Rc<Shared>, id: i32, decode: Decode<T>) -> Self {
        let (made_at, retry) = (shared.ledger.borrow().now, None);
        let source = Source::Open {
            shared,
            id,
            made_at,
            retry,
        };
        Self::from(called, source, decode)
    }

    pub(crate) fn refused(called: Called, failure: Failure, decode: Decode<T>) -> Self {
        let failed = TaskFailed::new(called.0, &called.1, failure);
        Self::from(called, Source::Refused(Some(failed)), decode)
    }

    fn from(called: Called, source: Source, decode: Decode<T>) -> Self {
        Self {
            called,
            source,
            decode,
            kind: PhantomData,
        }
    }

    /// Makes the call again when it fails. An activity sees by its context which attempt it is; a sub-orchestration does
    /// not. The first attempt is made at once like any call, further ones while the call is awaited.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        let mut action = None;
        self.set("retry", |kind| {
            action = Some(kind.clone());
            Ok(())
        });
        if let (Source::Open { retry, .. }, Some(action)) = (&mut self.source, action) {
            *retry = Some(Box::new(Retry { policy, action }));
        }
        self
    }

    /// Runs under a version. By default an activity runs under that of its orchestrator (R76).
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.set("version", |kind| options::set_version(kind, &version.into()));
        self
    }

    /// Adds a label.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set("tag", |kind| options::set_tag(kind, key.into(), value.into()));
        self
    }

    /// Changes what was asked for, if it still can be; a value that cannot be takes the call back.
    fn set(&mut self, option: &str, change: impl FnOnce(&mut ActionKind) -> Result<(), Failure>) {
        let Source::Open { shared, id, retry, .. } = &mut self.source else {
            return;
        };
        let Err(failure) = options::set(shared, *id, option, change) else {
            if let Some(retry) = retry {
                shared
                    .ledger
                    .borrow_mut()
                    .amend(*id, |kind| retry.action = kind.clone());
            }
            return;
        };
        shared.ledger.borrow_mut().abandon(*id);
        let failed = TaskFailed::new(self.called.0, &self.called.1, failure);
        self.source = Source::Refused(Some(failed));
    }

    /// From the first poll on a call with a policy is the sequence of its attempts.
    fn begin_attempts(&mut self) {
        let Source::Open {
            shared,
            id,
            made_at,
            retry,
        } = &mut self.source
        else {
            return;
        };
        let Some(begun) = retry.take() else {
            return;
        };
        let Retry { policy, action } = *begun;
        let (ctx, called) = (OrchestrationContext::of(shared), self.called.clone());
        let first: Call<Raw> = Call::open(called.clone(), Rc::clone(shared), *id, from_payload);
        let again = move |ctx: &OrchestrationContext, attempt| ctx.attempt(&called, &action, attempt);
        let attempts = retry::attempts(ctx, policy, (first, *made_at), again);
        self.source = Source::Retrying(Box::pin(attempts));
    }
}

impl<T> SubOrchestrationCall<T> {
    /// Gives the sub-orchestration an id; each attempt has the same.
    pub fn id(mut self, id: impl ToInstanceId) -> Self {
        self.set("id", |kind| options::set_id(kind, id).map(|_| ()));
        self
    }
}

/// Reads a result.
#[expect(clippy::needless_pass_by_value, reason = "what is read is used up")]
pub(crate) fn from_payload<T: FromPayload>(
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

impl<T, K> Future for Call<T, K> {
    type Output = Result<T, TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.begin_attempts();
        let (awaited, name) = (this.called.0, &this.called.1);
        let outcome = match &mut this.source {
            Source::Open { shared, id, .. } => {
                let outcome = shared.ledger.borrow_mut().poll_call(*id, context.waker());
                outcome.map(|outcome| outcome.map_err(|failure| TaskFailed::new(awaited, name, *failure)))
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
        Poll::Ready(outcome.and_then(|payload| {
            (this.decode)(payload, awaited, name).map_err(|failure| TaskFailed::new(awaited, name, failure))
        }))
    }
}

impl<T, K> FusedFuture for Call<T, K> {
    fn is_terminated(&self) -> bool {
        matches!(self.source, Source::Done)
    }
}

impl<T, K> Drop for Call<T, K> {
    fn drop(&mut self) {
        if let Source::Open { shared, id, .. } = &self.source {
            shared.ledger.borrow_mut().abandon(*id);
        }
    }
}

impl<T, K> fmt::Debug for Call<T, K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (awaited, name) = &self.called;
        write!(out, "Call({awaited} `{name}`)")
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

    /// Waits for some time at most; the timer is created by this call.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use taskhub::{OrchestrationContext, Result};
    /// async fn approval(ctx: OrchestrationContext, _: ()) -> Result<String> {
    ///     let day = Duration::from_secs(24 * 3600);
    ///     Ok(match ctx.wait_for_external_event::<bool>("Approval").timeout(day).await? {
    ///         Some(true) => "approved".to_owned(),
    ///         Some(false) => "rejected".to_owned(),
    ///         None => "escalated".to_owned(),
    ///     })
    /// }
    /// ```
    pub fn timeout(self, time: Duration) -> EventWaitFor<T> {
        let timer = OrchestrationContext::of(&self.shared).create_timer(time);
        EventWaitFor {
            race: Some((self, timer)),
        }
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

/// A wait for an external event with a time limit: `None` when the time is over. Whichever comes first in the history
/// wins; the other one is withdrawn before the code continues (R85).
#[derive(Debug)]
#[must_use = "a wait that is dropped is withdrawn"]
pub struct EventWaitFor<T> {
    race: Option<(EventWait<T>, Timer)>,
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
///     let flight = ctx.call_activity::<String, _>("BookFlight", &city);
///     let hotel = ctx.call_activity::<String, _>("BookHotel", &city);
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
///     let sizes = join_all(files.iter().map(|file| ctx.call_activity::<u64, _>("Size", file))).await;
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

/// Awaits all futures and returns their values, or the first error as soon as it occurs; the calls of the other futures
/// continue, but their results are ignored. The iterator is consumed immediately.
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
///     match select(ctx.call_activity::<String, _>("Slow", ()), deadline).await {
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
/// If there are no futures, because the result could never be ready.
pub fn select_all<F: Future + Unpin>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = (usize, F::Output, Vec<F>)> {
    future::select_all(futures).map(|(value, place, others)| (place, value, others))
}
