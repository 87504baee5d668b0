//! Times of queries and answers (H11, H44).

use taskhub_core::time::Timestamp;

/// Reads a time as clients and people write it (H11): a date, or date and time; without seconds, with up
/// to nine fraction digits; with any form of zone, or none, which is UTC.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, "00:00:00Z"),
    };
    let (clock, zone) = split_zone(rest.trim());
    let (year, month_and_day) = date.split_once('-')?;
    if year.is_empty() || year.len() > 4 || !is_digits(year) {
        return None;
    }
    let clock = match clock.matches(':').count() {
        1 => format!("{clock}:00"),
        2 => clock.to_owned(),
        _ => return None,
    };
    let moment = Timestamp::parse(&format!("{year:0>4}-{month_and_day}T{clock}{}", offset(zone)?))?;
    (year.bytes().any(|digit| digit != b'0')).then_some(moment)
}

/// The time of day and what stands behind it. A blank there was a plus sign before the query was decoded.
fn split_zone(text: &str) -> (&str, &str) {
    let at = text.find(['Z', 'z', '+', '-', ' ']).unwrap_or(text.len());
    text.split_at(at)
}

/// The zone in the one form that is read further on.
fn offset(zone: &str) -> Option<String> {
    let (sign, digits) = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => return Some("Z".to_owned()),
        [b'-', ..] => ('-', zone.get(1..)?),
        [b'+' | b' ', ..] => ('+', zone.get(1..)?),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    if digits.len() != 4 || !is_digits(&digits) {
        return None;
    }
    let (hours, minutes) = digits.split_at(2);
    Some(format!("{sign}{hours}:{minutes}"))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
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
    fn every_form_of_a_time_is_read() {
        for (given, meant) in [
            ("2018-03-10T23:59Z", "2018-03-10T23:59:00Z"),
            ("2018-03-10", "2018-03-10T00:00:00Z"),
            ("2018-03-10 10:01:00", "2018-03-10T10:01:00Z"),
            ("2018-03-10T10:01:00", "2018-03-10T10:01:00Z"),
            ("2018-03-10T10:01:00.000Z", "2018-03-10T10:01:00Z"),
            ("2018-03-10T10:01:00.1234567Z", "2018-03-10T10:01:00.1234567Z"),
            ("2018-03-10T10:01:00.123456789Z", "2018-03-10T10:01:00.1234567Z"),
            ("2018-03-10T10:01:00+01:00", "2018-03-10T09:01:00Z"),
            ("2018-03-10T10:01:00 01:00", "2018-03-10T09:01:00Z"),
            ("2018-03-10T10:01-0130", "2018-03-10T11:31:00Z"),
            ("1-01-01T00:00:00.000000Z", "0001-01-01T00:00:00Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
            (" 9999-12-31T23:59:59Z ", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(fine(parse(given).unwrap()), meant, "{given}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for given in [
            "",
            "now",
            "2018",
            "2018-13-01",
            "2018-03-10T25:00",
            "2018-03-10T10",
            "2018-03-10T10:01:00X",
            "2018-03-10T10:01:00+1",
            "12018-03-10",
            "-001-01-01",
            "0000-01-01",
            "2018-03-10T10:01:00 utc",
        ] {
            assert_eq!(parse(given), None, "{given}");
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
