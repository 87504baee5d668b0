//! Names of functions and events that carry their types, so that one constant ties a caller to its callee.
//!
//! A name in plain text goes wherever a typed one does: its types are those of the call or of the function then.

use std::fmt;
use std::marker::PhantomData;

/// The name of an activity that takes an `I` and gives an `O`.
///
/// ```
/// use taskhub::{Activity, ActivityContext, OrchestrationContext, Orchestrator, Registry, Result};
///
/// const PRICE: Activity<String, u32> = Activity::new("PriceOf");
/// const TRIP: Orchestrator<Vec<String>, u32> = Orchestrator::new("Trip");
///
/// async fn price(_: ActivityContext, city: String) -> Result<u32> {
///     Ok(u32::try_from(city.len())?)
/// }
/// async fn trip(ctx: OrchestrationContext, cities: Vec<String>) -> Result<u32> {
///     let mut sum = 0;
///     for city in &cities {
///         sum += ctx.call_activity(PRICE, city).await?;
///     }
///     Ok(sum)
/// }
///
/// let registry = Registry::new().activity(PRICE, price).orchestrator(TRIP, trip);
/// assert_eq!(registry.problems(), [] as [String; 0]);
/// ```
///
/// Another input does not compile, and neither does a function of other types under this name:
///
/// ```compile_fail
/// # use taskhub::{Activity, OrchestrationContext, Result};
/// const PRICE: Activity<String, u32> = Activity::new("PriceOf");
/// async fn trip(ctx: OrchestrationContext, _: ()) -> Result<u32> {
///     Ok(ctx.call_activity(PRICE, 17).await?)
/// }
/// ```
pub struct Activity<I, O> {
    name: &'static str,
    types: PhantomData<fn(I) -> O>,
}

/// The name of an orchestrator that takes an `I` and gives an `O`, for starts and for calls as a sub-orchestration.
pub struct Orchestrator<I, O> {
    name: &'static str,
    types: PhantomData<fn(I) -> O>,
}

/// The name of an external event whose payload is a `T`.
///
/// ```
/// # use std::time::Duration;
/// use taskhub::{Client, Event, HubError, OrchestrationContext, Result};
///
/// const APPROVAL: Event<bool> = Event::new("Approval");
///
/// async fn order(ctx: OrchestrationContext, _: ()) -> Result<bool> {
///     let day = Duration::from_secs(24 * 3600);
///     Ok(ctx.wait_for_external_event(APPROVAL).timeout(day).await? == Some(true))
/// }
/// async fn approve(client: &Client, id: &str) -> Result<(), HubError> {
///     client.raise_event(id, APPROVAL, true).await
/// }
/// ```
pub struct Event<T> {
    name: &'static str,
    types: PhantomData<fn(T)>,
}

/// What has a name in histories.
pub trait Named {
    /// The name.
    fn name(&self) -> &str;
}

/// A name that an activity from `I` to `O` can be registered under.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an activity from `{I}` to `{O}`")]
pub trait DefineActivity<I, O>: Named {}

/// A name that an activity can be called by, with an `I` for an `O`.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an activity from `{I}` to `{O}`")]
pub trait CallActivity<I, O>: Named {}

/// A name that an orchestrator from `I` to `O` can be registered under.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an orchestrator from `{I}` to `{O}`")]
pub trait DefineOrchestrator<I, O>: Named {}

/// A name that an orchestrator can be called by, with an `I` for an `O`.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an orchestrator from `{I}` to `{O}`")]
pub trait CallOrchestrator<I, O>: Named {}

/// A name that an orchestrator can be started by, with an `I`.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an orchestrator that takes `{I}`")]
pub trait StartOrchestrator<I>: Named {}

/// A name of an event that can be raised with a `T`.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an event whose payload is `{T}`")]
pub trait RaiseEvent<T>: Named {}

/// A name of an event that can be waited for as a `T`.
#[diagnostic::on_unimplemented(message = "`{Self}` does not name an event whose payload is `{T}`")]
pub trait AwaitEvent<T>: Named {}

/// What can be handed over where a `T` is expected: it, a reference to it, and text or a slice for what owns them.
#[diagnostic::on_unimplemented(message = "this takes a `{T}`, not a `{Self}`")]
pub trait InputFor<T> {}

impl<T> InputFor<T> for T {}
impl<T> InputFor<T> for &T {}
impl InputFor<String> for &str {}
impl<T> InputFor<Vec<T>> for &[T] {}

impl Named for str {
    fn name(&self) -> &str {
        self
    }
}
impl<I, O> DefineActivity<I, O> for str {}
impl<I, O> CallActivity<I, O> for str {}
impl<I, O> DefineOrchestrator<I, O> for str {}
impl<I, O> CallOrchestrator<I, O> for str {}
impl<I> StartOrchestrator<I> for str {}
impl<T> RaiseEvent<T> for str {}
impl<T> AwaitEvent<T> for str {}

impl Named for String {
    fn name(&self) -> &str {
        self
    }
}
impl<I, O> DefineActivity<I, O> for String {}
impl<I, O> CallActivity<I, O> for String {}
impl<I, O> DefineOrchestrator<I, O> for String {}
impl<I, O> CallOrchestrator<I, O> for String {}
impl<I> StartOrchestrator<I> for String {}
impl<T> RaiseEvent<T> for String {}
impl<T> AwaitEvent<T> for String {}

impl<N: Named + ?Sized> Named for &N {
    fn name(&self) -> &str {
        (**self).name()
    }
}
impl<I, O, N: DefineActivity<I, O> + ?Sized> DefineActivity<I, O> for &N {}
impl<I, O, N: CallActivity<I, O> + ?Sized> CallActivity<I, O> for &N {}
impl<I, O, N: DefineOrchestrator<I, O> + ?Sized> DefineOrchestrator<I, O> for &N {}
impl<I, O, N: CallOrchestrator<I, O> + ?Sized> CallOrchestrator<I, O> for &N {}
impl<I, N: StartOrchestrator<I> + ?Sized> StartOrchestrator<I> for &N {}
impl<T, N: RaiseEvent<T> + ?Sized> RaiseEvent<T> for &N {}
impl<T, N: AwaitEvent<T> + ?Sized> AwaitEvent<T> for &N {}

impl<I, O> DefineActivity<I, O> for Activity<I, O> {}
impl<I, O, A: InputFor<I>> CallActivity<A, O> for Activity<I, O> {}
impl<I, O> DefineOrchestrator<I, O> for Orchestrator<I, O> {}
impl<I, O, A: InputFor<I>> CallOrchestrator<A, O> for Orchestrator<I, O> {}
impl<I, O, A: InputFor<I>> StartOrchestrator<A> for Orchestrator<I, O> {}
impl<T, A: InputFor<T>> RaiseEvent<A> for Event<T> {}
impl<T> AwaitEvent<T> for Event<T> {}

impl<I, O> Activity<I, O> {
    /// The activity of this name.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }
}

impl<I, O> Orchestrator<I, O> {
    /// The orchestrator of this name.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }
}

impl<T> Event<T> {
    /// The event of this name.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }
}

impl<I, O> Named for Activity<I, O> {
    fn name(&self) -> &str {
        self.name
    }
}

impl<I, O> Named for Orchestrator<I, O> {
    fn name(&self) -> &str {
        self.name
    }
}

impl<T> Named for Event<T> {
    fn name(&self) -> &str {
        self.name
    }
}

// Written out, since a derive would ask the same of the types that are only named.
impl<I, O> Copy for Activity<I, O> {}
impl<I, O> Clone for Activity<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I, O> Copy for Orchestrator<I, O> {}
impl<I, O> Clone for Orchestrator<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Event<T> {}
impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, O> fmt::Debug for Activity<I, O> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Activity(`{}`)", self.name)
    }
}

impl<I, O> fmt::Debug for Orchestrator<I, O> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Orchestrator(`{}`)", self.name)
    }
}

impl<T> fmt::Debug for Event<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Event(`{}`)", self.name)
    }
}
