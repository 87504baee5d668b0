//! Retry policies of activities and sub-orchestrations. They run in the orchestrator: each attempt is a
//! call of its own in the history, and the time between is a durable timer (R63).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use crate::codec::Raw;
use crate::error::TaskFailed;
use crate::options::ATTEMPT;
use crate::orchestrator::OrchestrationContext;
use crate::task::Call;

/// The longest pause; larger results of the coefficient are lowered to it (R67).
const PAUSE_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// Takes the attempt off the labels of an activity call.
pub(crate) fn take_attempt(tags: &mut Tags) -> u32 {
    tags.remove(ATTEMPT)
        .and_then(|attempt| attempt.parse().ok())
        .unwrap_or(1)
}

type Handler = dyn Fn(&RetryAttempt<'_>) -> bool + Send + Sync;

/// When and how often a failed call is made again (R61).
///
/// ```
/// use std::time::Duration;
/// use taskhub::RetryPolicy;
///
/// let policy = RetryPolicy::new(5, Duration::from_secs(1))
///     .backoff_coefficient(2.0)
///     .max_interval(Duration::from_secs(30))
///     .retry_timeout(Duration::from_secs(300))
///     .handle(|attempt| attempt.failure.error_type != "CardDeclined");
/// assert_eq!(policy.pause_after(3), Duration::from_secs(4));
/// ```
#[derive(Clone)]
pub struct RetryPolicy {
    first_interval: Duration,
    attempts_max: u32,
    coefficient: f64,
    interval_max: Option<Duration>,
    timeout: Option<Duration>,
    handler: Option<Arc<Handler>>,
}

/// A failed attempt, as a retry handler sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RetryAttempt<'a> {
    /// Attempts made so far, this one included.
    pub attempt: u32,
    /// Why it failed.
    pub failure: &'a Failure,
    /// Logical time since the first attempt was scheduled.
    pub elapsed: Duration,
}

impl RetryPolicy {
    /// At most so many attempts, the first call included and at least one, with a pause between them.
    pub fn new(attempts_max: u32, first_interval: Duration) -> Self {
        Self {
            first_interval,
            attempts_max: attempts_max.max(1),
            coefficient: 1.0,
            interval_max: None,
            timeout: None,
            handler: None,
        }
    }

    /// Makes each pause so many times as long as the one before; 1 by default, and at least.
    #[must_use]
    pub fn backoff_coefficient(mut self, coefficient: f64) -> Self {
        self.coefficient = coefficient.max(1.0);
        self
    }

    /// Makes no pause longer than this.
    #[must_use]
    pub fn max_interval(mut self, interval: Duration) -> Self {
        self.interval_max = Some(interval);
        self
    }

    /// Makes no attempt once so much logical time has gone by since the first one was scheduled (R64).
    #[must_use]
    pub fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks a function, besides the limits, whether to try again. It runs in the orchestrator, so it
    /// must be deterministic; a panic in it means no (R66).
    #[must_use]
    pub fn handle(mut self, handler: impl Fn(&RetryAttempt<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.handler = Some(Arc::new(handler));
        self
    }

    /// The pause after so many attempts (R62, R67).
    pub fn pause_after(&self, attempts: u32) -> Duration {
        let exponent = f64::from(attempts.saturating_sub(1));
        let seconds = self.first_interval.as_secs_f64() * self.coefficient.powf(exponent);
        // Too much for a duration is too much for us; nothing times infinity is nothing.
        let pause = if seconds.is_nan() {
            Ok(Duration::ZERO)
        } else {
            Duration::try_from_secs_f64(seconds)
        };
        let longest = self.interval_max.unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        pause.unwrap_or(longest).min(longest)
    }

    /// The pause before the next attempt; `None` for no more attempts (R62).
    fn decide(&self, failed: &RetryAttempt<'_>) -> Option<Duration> {
        let is_over = failed.attempt >= self.attempts_max
            || failed.failure.non_retriable
            || self.timeout.is_some_and(|timeout| failed.elapsed >= timeout);
        if is_over || !self.is_wanted(failed) {
            return None;
        }
        Some(self.pause_after(failed.attempt))
    }

    fn is_wanted(&self, failed: &RetryAttempt<'_>) -> bool {
        let Some(handler) = &self.handler else {
            return true;
        };
        catch_unwind(AssertUnwindSafe(|| handler(failed))).unwrap_or(false)
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RetryPolicy")
            .field("first_interval", &self.first_interval)
            .field("attempts_max", &self.attempts_max)
            .field("coefficient", &self.coefficient)
            .field("interval_max", &self.interval_max)
            .field("timeout", &self.timeout)
            .field("has_handler", &self.handler.is_some())
            .finish()
    }
}

/// Awaits the first attempt, which was made at `first_at`, and makes the others. `again` makes the attempt of this
/// number.
pub(crate) async fn attempts(
    ctx: OrchestrationContext,
    policy: RetryPolicy,
    (first, first_at): (Call<Raw>, Timestamp),
    again: impl Fn(&OrchestrationContext, u32) -> Call<Raw>,
) -> Result<Option<Payload>, TaskFailed> {
    let mut call = first;
    let mut attempt = 1;
    loop {
        let failed = match call.await {
            Ok(Raw(result)) => return Ok(result),
            Err(failed) => failed,
        };
        let elapsed = ctx.now().since(first_at);
        let Some(pause) = policy.decide(&RetryAttempt {
            attempt,
            failure: failed.failure(),
            elapsed,
        }) else {
            return Err(failed.after(attempt));
        };
        ctx.create_timer(pause).await;
        attempt += 1;
        call = again(&ctx, attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_never_overflow() {
        let policy = RetryPolicy::new(10, Duration::from_secs(5)).backoff_coefficient(2.0);
        let pauses: Vec<u64> = (1..5).map(|attempts| policy.pause_after(attempts).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40]);
        assert_eq!(
            policy
                .clone()
                .max_interval(Duration::from_secs(15))
                .pause_after(4)
                .as_secs(),
            15
        );
        assert_eq!(policy.pause_after(u32::MAX), PAUSE_MAX);
        assert_eq!(
            policy.clone().backoff_coefficient(f64::INFINITY).pause_after(3),
            PAUSE_MAX
        );
        let none = RetryPolicy::new(3, Duration::ZERO).backoff_coefficient(f64::MAX);
        assert_eq!(none.pause_after(100), Duration::ZERO);
        assert_eq!(policy.backoff_coefficient(f64::NAN).pause_after(9).as_secs(), 5);
    }
}
