//! The one place that reads the machine's clock.

use taskhub_core::time::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time, cut to whole microseconds (R198). It may step back; partitions do not (A27).
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter that everything else gets its time from"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 10))
    }
}
