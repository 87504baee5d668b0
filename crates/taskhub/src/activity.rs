//! Activities: the functions that act. They run at least once per call, so side effects should be
//! idempotent under [`ActivityContext::stable_key`].

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::message::Outcome;
use taskhub_core::payload::Payload;
use taskhub_engine::worker::{ActivityCall, Cancellation};
use tokio::sync::Semaphore;

use crate::error::{ACTIVITY_TIMEOUT, PANIC, panic_message};
use crate::hub_error::HubError;
use crate::instance::ToInstanceId;
use crate::management::{Front, HttpManagementPayload};
use crate::registry::{ActivityEntry, ActivityFn};
use crate::retry;

/// What an activity knows of its call. Cloning it is cheap.
#[derive(Clone)]
pub struct ActivityContext {
    call: Arc<ActivityCall>,
    attempt: u32,
    front: Front,
}

impl ActivityContext {
    pub(crate) fn new(mut call: ActivityCall, front: Front) -> Self {
        let attempt = retry::take_attempt(&mut call.tags);
        Self {
            call: Arc::new(call),
            attempt,
            front,
        }
    }

    /// Name it was called by.
    pub fn name(&self) -> &str {
        self.call.name.as_str()
    }

    /// Version it is called under.
    pub fn version(&self) -> Option<&str> {
        self.call.version.as_ref().map(Name::as_str)
    }

    /// Id of the instance that called it.
    pub fn instance_id(&self) -> &InstanceId {
        &self.call.key.instance
    }

    /// Id of the call's TaskScheduled event.
    pub fn task_id(&self) -> i32 {
        self.call.event_id
    }

    /// Labels of the call.
    pub fn tags(&self) -> &Tags {
        &self.call.tags
    }

    /// Which attempt of its retry policy this is: 1 for the first, 2 for the first retry, and so on; always 1
    /// without a policy.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often this attempt was handed out: 1 for the first time, one more for each that was lost with its worker,
    /// by a crash for instance.
    pub fn delivery(&self) -> u32 {
        self.call.delivery
    }

    /// A key that is the same for every delivery of this call and differs for every other call. Pass it to external
    /// services as an idempotency key. Each attempt of a retry policy is a separate call.
    pub fn stable_key(&self) -> String {
        self.call.stable_key()
    }

    /// Whether the result is no longer needed, because the time limit has expired or the instance has ended (R60).
    pub fn is_cancelled(&self) -> bool {
        self.call.cancellation.is_cancelled()
    }

    /// Waits until the result is no longer needed.
    pub async fn cancelled(&self) {
        self.call.cancellation.cancelled().await;
    }

    /// Where an instance is managed over HTTP, to be sent to other systems; mostly that of
    /// [`ActivityContext::instance_id`].
    ///
    /// # Errors
    ///
    /// `not-served` if the hub was not told of a server, see [`Hub::set_client_binding`](crate::Hub::set_client_binding).
    pub fn create_http_management_payload(
        &self,
        instance: impl ToInstanceId,
    ) -> Result<HttpManagementPayload, HubError> {
        Ok(self.front.get()?.payload(&instance.to_instance_id()?))
    }

    pub(crate) fn cancellation(&self) -> Cancellation {
        self.call.cancellation.clone()
    }
}

impl fmt::Debug for ActivityContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "ActivityContext({} of `{}`, attempt {}, delivery {})",
            self.name(),
            self.instance_id(),
            self.attempt(),
            self.delivery()
        )
    }
}

/// How an activity runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityOptions {
    pub(crate) concurrency: Option<usize>,
    pub(crate) timeout: Option<Duration>,
}

impl ActivityOptions {
    /// No limits but those of the hub.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most so many calls of it run at once on this node (R59).
    #[must_use]
    pub fn concurrency(mut self, calls_max: usize) -> Self {
        self.concurrency = Some(calls_max.max(1));
        self
    }

    /// A call that takes longer fails with the type `ActivityTimeout`, which a retry policy can retry. An async
    /// activity is then dropped; a blocking one sees it in its context, and its result is ignored.
    #[must_use]
    pub fn start_to_close(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Runs a call until it returns, fails or panics.
pub(crate) async fn perform(entry: &ActivityEntry, context: ActivityContext, blocking: Arc<Semaphore>) -> Outcome {
    let (name, cancellation) = (context.name().to_owned(), context.cancellation());
    let input = context.call.input.clone();
    let ended = match &entry.function {
        ActivityFn::Async(function) => {
            // Called within the future, so that a panic before the first await is caught too.
            let function = Arc::clone(function);
            let running = AssertUnwindSafe(async move { function(context, input).await }).catch_unwind();
            limited(running, entry.options.timeout).await
        }
        ActivityFn::Blocking(function) => {
            let Ok(permit) = blocking.acquire_owned().await else {
                unreachable!("the semaphore of blocking activities is never closed");
            };
            let function = Arc::clone(function);
            let running = tokio::task::spawn_blocking(move || {
                // Held until the function returns, which may be after its time-out.
                let _permit = permit;
                std::panic::catch_unwind(AssertUnwindSafe(|| function(context, input)))
            });
            let joined = running.map(|joined| joined.unwrap_or_else(|error| Err(Box::new(error.to_string()))));
            limited(joined, entry.options.timeout).await
        }
    };
    outcome(ended.unwrap_or_else(|timeout| {
        cancellation.cancel();
        Ok(Err(timed_out(&name, timeout)))
    }))
}

pub(crate) fn timed_out(name: &str, timeout: Duration) -> Failure {
    let message = format!("activity `{name}` timed out after {timeout:?}");
    Failure::new(ACTIVITY_TIMEOUT, message)
}

/// A result, a failure, or a panic.
pub(crate) type Ended = std::thread::Result<Result<Option<Payload>, Failure>>;

async fn limited(running: impl Future<Output = Ended>, timeout: Option<Duration>) -> Result<Ended, Duration> {
    match timeout {
        None => Ok(running.await),
        Some(timeout) => tokio::time::timeout(timeout, running).await.map_err(|_| timeout),
    }
}

pub(crate) fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ok(Ok(result)) => Outcome::Completed(result),
        Ok(Err(failure)) => Outcome::Failed(Box::new(failure.limited())),
        Err(panic) => Outcome::Failed(Box::new(Failure::new(PANIC, panic_message(&*panic)).limited())),
    }
}
