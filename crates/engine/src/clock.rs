//! The one place that reads the machine's clock, and what makes of it a time that no one can set back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use taskhub_core::time::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time, cut to whole microseconds (R198). It may be set back and forth; what runs a hub goes by [`Steady`]
    /// time.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment, by a clock that cannot be set. Absent: the machine's monotonic clock is used.
    fn elapsed(&self) -> Option<Duration> {
        None
    }
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

/// While it is ahead of the wall clock, a steady time loses one part in so many, until the wall clock has caught up.
/// Timers are late by as much then, and by no more.
const SLEW: u32 = 32;

/// A time that follows the wall clock and never goes back, nor stands still (R195, decision 11). It goes as fast as the
/// monotonic clock; when the wall clock is ahead, it jumps there; when that was set back, it goes on from where it was,
/// a little slower, until both are one again. So timers, back-off and leases last as long as they should, whatever is
/// done to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// The last returned time in nanoseconds since 1970, finer than the returned ticks, so that slow steps add up.
    nanos: i128,
    /// The monotonic clock at that moment.
    elapsed: Duration,
}

impl Steady {
    /// Begins with the wall clock.
    pub fn new(wall: Timestamp, elapsed: Duration) -> Self {
        Self {
            nanos: nanos(wall),
            elapsed,
        }
    }

    /// The time, cut to whole microseconds (R198), given what both clocks say.
    pub fn read(&mut self, wall: Timestamp, elapsed: Duration) -> Timestamp {
        let passed = elapsed.saturating_sub(self.elapsed);
        self.elapsed = self.elapsed.max(elapsed);
        self.nanos = if nanos(wall) >= self.nanos + nanos_of(passed) {
            nanos(wall)
        } else {
            // Not below the wall clock, which may be caught up with in between.
            nanos(wall).max(self.nanos + nanos_of(passed.saturating_sub(passed / SLEW)))
        };
        Timestamp::from_micros(i64::try_from(self.nanos.div_euclid(1_000)).unwrap_or(i64::MAX / 10))
    }

    /// How long it takes from the last read until it reads `at`, at most.
    pub fn until(&self, at: Timestamp) -> Duration {
        let missing = u64::try_from(nanos(at) - self.nanos).unwrap_or(0);
        let missing = Duration::from_nanos(missing);
        missing + missing / (SLEW - 1) + Duration::from_micros(1)
    }
}

fn nanos(at: Timestamp) -> i128 {
    i128::from(at.ticks()) * 100
}

fn nanos_of(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX / 2)
}

/// A clock that tells the steady time of another.
pub(crate) struct SteadyClock {
    wall: Arc<dyn Clock>,
    started: Instant,
    steady: Mutex<Steady>,
}

impl SteadyClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter that everything else gets its time from"
    )]
    pub(crate) fn new(wall: Arc<dyn Clock>) -> Self {
        let started = Instant::now();
        let steady = Steady::new(wall.now(), wall.elapsed().unwrap_or_default());
        Self {
            wall,
            started,
            steady: Mutex::new(steady),
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        // Both are read under the lock: else a read that is overtaken would take an old wall clock for one set back.
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = self.wall.elapsed().unwrap_or_else(|| self.started.elapsed());
        steady.read(self.wall.now(), elapsed)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the watchdog and the commit deadline measure the machine, not the hub"
)]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000;

    /// A steady time, and what it tells after a while with the wall clock off by so much.
    struct Trial {
        steady: Steady,
        elapsed_ms: u64,
    }

    impl Trial {
        fn new() -> Self {
            Self {
                steady: Steady::new(Timestamp::from_parts(START, 0), Duration::ZERO),
                elapsed_ms: 0,
            }
        }

        /// Microseconds since the start, as told `passed_ms` later, when the wall clock is `off_ms` off.
        fn after(&mut self, passed_ms: u64, off_ms: i64) -> i64 {
            self.elapsed_ms += passed_ms;
            let wall = START * 1_000 + i64::try_from(self.elapsed_ms).unwrap() + off_ms;
            let told = self.steady.read(
                Timestamp::from_micros(wall * 1_000),
                Duration::from_millis(self.elapsed_ms),
            );
            told.micros() - START * 1_000_000
        }
    }

    #[test]
    fn it_is_the_wall_clock_while_nobody_sets_that() {
        let mut trial = Trial::new();
        assert_eq!(trial.after(500, 0), 500_000);
        assert_eq!(trial.after(0, 0), 500_000);
        assert_eq!(trial.after(1_500, 0), 2_000_000);
    }

    #[test]
    fn a_step_back_neither_stops_nor_turns_it() {
        let mut trial = Trial::new();
        trial.after(1_000, 0);
        let told = trial.after(320, -8_000);
        assert_eq!(told, 1_310_000);
        // A timer of 500 ms is a thirty-second part late, not eight seconds.
        let wait = trial
            .steady
            .until(Timestamp::from_micros(START * 1_000_000 + 1_810_000));
        assert!((wait.as_secs_f64() - 0.516).abs() < 0.001, "{wait:?}");
    }

    #[test]
    fn it_comes_back_to_a_wall_clock_that_was_set_back() {
        let mut trial = Trial::new();
        trial.after(1_000, 0);
        let mut last = trial.after(1, -1_000);
        for _ in 0..40 {
            let told = trial.after(1_000, -1_000);
            assert!(told > last);
            last = told;
        }
        assert_eq!(
            last, 40_001_000,
            "what the wall clock says: one second less than has passed"
        );
    }

    #[test]
    fn it_is_never_below_the_wall_clock_when_that_catches_up_in_between() {
        let mut trial = Trial::new();
        trial.after(1_000, 0);
        assert_eq!(trial.after(1_000, -10), 1_990_000);
    }

    #[test]
    fn a_step_forward_is_followed_at_once() {
        let mut trial = Trial::new();
        assert_eq!(trial.after(10, 60_000), 60_010_000);
        // Set right again, it goes on from there.
        assert_eq!(trial.after(320, 0), 60_320_000);
    }

    #[test]
    fn slow_steps_add_up() {
        let mut trial = Trial::new();
        trial.after(1, 5_000);
        for _ in 0..3_200 {
            trial.after(1, 0);
        }
        assert_eq!(trial.after(0, 0), 8_101_000);
    }
}
