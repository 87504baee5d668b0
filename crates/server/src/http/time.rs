//! Times of queries (H11).

use taskhub_core::date::read;
use taskhub_core::time::Timestamp;
use taskhub_engine::clock::{Clock, SystemClock};

/// The time, for what callers say relative to it.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Reads a time of a query. A plus sign that was not encoded has become a blank there, so what looks like a zone behind
/// a time of day is one (H11).
pub(crate) fn of_query(text: &str, now: Timestamp) -> Option<Timestamp> {
    read(text, now).or_else(|| {
        let (clock, zone) = text.trim_end().rsplit_once(' ')?;
        let is_zone = clock.contains(':') && zone.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        is_zone.then(|| read(&format!("{clock}+{zone}"), now))?
    })
}

#[cfg(test)]
mod tests {
    use taskhub_api::time::fine;

    use super::*;

    #[test]
    fn a_blank_before_a_zone_was_a_plus_sign() {
        let now = Timestamp::from_micros(0);
        for (given, meant) in [
            ("2018-03-10T10:01:00 01:00", "2018-03-10T09:01:00Z"),
            ("2018-03-10 10:01 0100 ", "2018-03-10T09:01:00Z"),
            ("3/10/2018 10:01 AM 1", "2018-03-10T09:01:00Z"),
            ("2018-03-10T10:01-0130", "2018-03-10T11:31:00Z"),
        ] {
            assert_eq!(fine(of_query(given, now).unwrap()), meant, "{given}");
        }
        for given in [
            "2018-03-10 1",
            "2018-03-10T10:01:00 utc",
            "2018-03-10T10:01:00 15:00",
            "01:00",
        ] {
            assert_eq!(of_query(given, now).is_some(), given == "01:00", "{given}");
        }
    }
}
