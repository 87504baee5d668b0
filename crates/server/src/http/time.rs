//! Times of queries and answers (H11, H44).

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

/// Whole seconds, cut and not rounded (H44).
pub(crate) fn whole(moment: Timestamp) -> String {
    let text = moment.to_string();
    format!("{}Z", text.split('.').next().unwrap_or(&text))
}

/// Up to seven fraction digits, without zeros at the end (H44).
pub(crate) fn fine(moment: Timestamp) -> String {
    let text = moment.to_string();
    let shown = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    // A whole minute's zeros are no fraction.
    if text.contains('.') && shown.contains('.') {
        format!("{shown}Z")
    } else {
        whole(moment)
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn times_are_cut_for_people_and_kept_for_tools() {
        let moment = Timestamp::parse("2018-02-28T05:18:59.9990000Z").unwrap();
        assert_eq!(whole(moment), "2018-02-28T05:18:59Z");
        assert_eq!(fine(moment), "2018-02-28T05:18:59.999Z");
        let even = Timestamp::parse("2018-02-28T05:10:00Z").unwrap();
        assert_eq!(fine(even), "2018-02-28T05:10:00Z");
    }
}
