//! Points in time. There is no `now()`: time is an argument of every function, so that runs can be repeated exactly
//! (A5).

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const TICKS_PER_SECOND: i64 = 10_000_000;
const TICKS_PER_MILLISECOND: i64 = 10_000;
const TICKS_PER_MICROSECOND: i64 = 10;

/// A moment in UTC, counted in ticks of 100 ns since 1970 (R198).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Largest moment there is: the end of the year 9999 (R47).
    pub const MAX: Self = Self(253_402_300_799 * TICKS_PER_SECOND);

    /// From ticks of 100 ns since 1970.
    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    /// Ticks of 100 ns since 1970.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    /// From whole microseconds since 1970, the precision of times we make (R198).
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros * TICKS_PER_MICROSECOND)
    }

    /// Microseconds since 1970, rounded down.
    pub const fn micros(self) -> i64 {
        self.0.div_euclid(TICKS_PER_MICROSECOND)
    }

    /// From seconds and nanoseconds, as the protocol sends them; what is finer than 100 ns is cut.
    pub fn from_parts(seconds: i64, nanos: i32) -> Self {
        Self(
            seconds
                .saturating_mul(TICKS_PER_SECOND)
                .saturating_add(i64::from(nanos) / 100),
        )
    }

    /// Seconds and nanoseconds, as the protocol sends them.
    pub fn parts(self) -> (i64, i32) {
        let nanos = self.0.rem_euclid(TICKS_PER_SECOND) * 100;
        // Below 10^9 by the remainder, so the conversion cannot fail.
        (self.0.div_euclid(TICKS_PER_SECOND), i32::try_from(nanos).unwrap_or(0))
    }

    /// This moment and `span` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let ticks = i64::try_from(span.as_nanos() / 100).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ticks)).min(Self::MAX)
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0);
        Duration::from_nanos(ticks.saturating_mul(100))
    }

    /// The first moment at which a timer due now may fire: cut to milliseconds it is later than the
    /// due time (R45).
    #[must_use]
    pub fn fires_at(self) -> Self {
        let millisecond = self.0.div_euclid(TICKS_PER_MILLISECOND) + 1;
        Self(millisecond.saturating_mul(TICKS_PER_MILLISECOND))
    }

    /// Date and time in UTC; those of the end of the years for what is beyond.
    pub(crate) fn to_civil(self) -> DateTime {
        let (seconds, nanos) = self.parts();
        EPOCH.saturating_add(SignedDuration::new(seconds, nanos))
    }

    /// From date and time in UTC.
    pub(crate) fn from_civil(moment: DateTime) -> Self {
        let since = moment.duration_since(EPOCH);
        Self::from_parts(since.as_secs(), since.subsec_nanos())
    }

    /// Reads an RFC 3339 time with offset.
    pub fn parse(text: &str) -> Option<Self> {
        // Not `jiff::Timestamp`, which ends 26 hours before the year 9999 does.
        let pieces = Pieces::parse(text).ok()?;
        let offset_seconds = i64::from(pieces.to_numeric_offset()?.seconds());
        let local = Self::from_civil(pieces.date().to_datetime(pieces.time()?));
        Some(Self(local.0 - offset_seconds * TICKS_PER_SECOND))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with seven fraction digits, the form the .NET clients call "o".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.7}Z", self.to_civil())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_seven_digits_and_read_back() {
        let moment = Timestamp::parse("2024-01-02T03:04:05.1234567Z").unwrap();
        assert_eq!(moment.to_string(), "2024-01-02T03:04:05.1234567Z");
        assert_eq!(Timestamp::parse("2024-01-02T05:04:05.1234567+02:00"), Some(moment));
        let (seconds, nanos) = moment.parts();
        assert_eq!(Timestamp::from_parts(seconds, nanos), moment);
    }

    #[test]
    fn the_last_day_of_the_year_9999_is_shown_and_read_back() {
        let text = "9999-12-31T23:59:59.9999999Z";
        let moment = Timestamp::parse(text).unwrap();
        assert_eq!(moment.to_string(), text);
        assert_eq!(Timestamp::parse("9999-12-31T23:59:59+00:00"), Some(Timestamp::MAX));
        assert_eq!(Timestamp::from_micros(-1).to_string(), "1969-12-31T23:59:59.9999990Z");
        assert_eq!(Timestamp::parse("2024-01-02T03:04:05"), None);
    }

    #[test]
    fn a_moment_beyond_all_years_fires_without_overflow() {
        let beyond = Timestamp::from_parts(i64::MAX, 0);
        assert_eq!(beyond.fires_at(), beyond);
        assert!(beyond.to_string().starts_with("9999-12-31"));
    }

    #[test]
    fn a_timer_fires_in_a_later_millisecond() {
        assert_eq!(Timestamp::from_micros(1_000).fires_at(), Timestamp::from_micros(2_000));
        assert_eq!(Timestamp::from_micros(1_999).fires_at(), Timestamp::from_micros(2_000));
        assert_eq!(Timestamp::from_micros(-1).fires_at(), Timestamp::from_micros(0));
    }

    #[test]
    fn adding_never_overflows() {
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
    }
}
