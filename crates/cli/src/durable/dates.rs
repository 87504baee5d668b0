//! Times on the command line (L10): all forms that the other surfaces read, and durations, which mean "this long ago".

use taskhub_core::date;
use taskhub_core::time::Timestamp;

const TICKS_PER_SECOND: i64 = 10_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// The least moment: the first day of year 1, which is also the default of `--created-after`.
pub(crate) const MIN: Timestamp = Timestamp::from_ticks(-62_135_596_800 * TICKS_PER_SECOND);

/// The default of `--created-before` (L10).
pub(crate) const DEFAULT_BEFORE: Timestamp = Timestamp::from_ticks(253_402_214_400 * TICKS_PER_SECOND - 1);

/// The last moment of the year 9999.
const LAST: Timestamp = Timestamp::from_ticks(253_402_300_800 * TICKS_PER_SECOND - 1);

/// Reads a moment.
pub(crate) fn read(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    let moment = relative(text, now).or_else(|| date::read(text, now))?;
    (MIN..=LAST).contains(&moment).then_some(moment)
}

/// A moment in the sentences of Core Tools: `MM/dd/yyyy HH:mm:ss` (L31).
pub(crate) fn in_sentence(moment: Timestamp) -> String {
    let iso = moment.to_string();
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    format!("{}/{}/{} {}", part(5, 7), part(8, 10), part(0, 4), part(11, 19))
}

fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let day = SECONDS_PER_DAY * TICKS_PER_SECOND;
    let today = now.ticks().div_euclid(day) * day;
    match text.to_ascii_lowercase().as_str() {
        "now" => return Some(now),
        "today" => return Some(Timestamp::from_ticks(today)),
        "yesterday" => return Some(Timestamp::from_ticks(today - day)),
        _ => {}
    }
    let ticks = period(text).or_else(|| units(text)).or_else(|| ago(text))?;
    Some(Timestamp::from_ticks(now.ticks().checked_sub(ticks)?))
}

fn unit(name: &str) -> Option<i64> {
    let seconds = match name.to_ascii_lowercase().as_str() {
        "w" | "week" | "weeks" => 7 * SECONDS_PER_DAY,
        "d" | "day" | "days" => SECONDS_PER_DAY,
        "h" | "hour" | "hours" => 3_600,
        "m" | "min" | "minute" | "minutes" => 60,
        "s" | "sec" | "second" | "seconds" => 1,
        _ => return None,
    };
    Some(seconds * TICKS_PER_SECOND)
}

/// Numbers with units: `7d`, `-7d`, `12h30m`.
fn units(text: &str) -> Option<i64> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let mut ticks = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (name, behind) = behind.split_at(end);
        ticks = ticks.checked_add(unit(name)?.checked_mul(number.parse().ok()?)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(ticks)
}

/// ISO periods without months and years, whose length depends on the calendar: `P7D`, `PT12H`, `P2W`.
fn period(text: &str) -> Option<i64> {
    let text = text.strip_prefix('-').unwrap_or(text).to_ascii_uppercase();
    let text = text.strip_prefix('P')?;
    let (days, times) = text.split_once('T').unwrap_or((text, ""));
    let is_of = |part: &str, letters: &str| part.chars().all(|c| c.is_ascii_digit() || letters.contains(c));
    if !is_of(days, "DW") || !is_of(times, "HMS") || text.is_empty() || text.ends_with('T') {
        return None;
    }
    let ticks = |part: &str| if part.is_empty() { Some(0) } else { units(part) };
    ticks(days)?.checked_add(ticks(times)?)
}

/// `3 days ago`.
fn ago(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [number, name, ago] if ago.eq_ignore_ascii_case("ago") => {
            unit(name)?.checked_mul(number.parse::<u32>().ok()?.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use taskhub_api::time::fine;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-22T23:40:12.5Z").unwrap()
    }

    fn shown(text: &str) -> Option<String> {
        read(text, now()).map(fine)
    }

    #[test]
    fn iso_forms_are_read_as_utc_unless_they_say_otherwise() {
        for (text, moment) in [
            ("2018-03-10T13:57:31Z", "2018-03-10T13:57:31Z"),
            ("2018-03-10T23:59Z", "2018-03-10T23:59:00Z"),
            ("2018-11-14T19:35:00.0000000Z", "2018-11-14T19:35:00Z"),
            ("2018-11-14T19:35:00.1Z", "2018-11-14T19:35:00.1Z"),
            ("2018-11-14T19:35:00,123456789", "2018-11-14T19:35:00.1234567Z"),
            ("2018-03-10T13:57:31+01:00", "2018-03-10T12:57:31Z"),
            ("2018-03-10T13:57:31+0100", "2018-03-10T12:57:31Z"),
            ("2018-03-10T13:57:31-01", "2018-03-10T14:57:31Z"),
            ("2018-03-10 13:57:31", "2018-03-10T13:57:31Z"),
            ("2018-03-10", "2018-03-10T00:00:00Z"),
            ("20180310T135731Z", "2018-03-10T13:57:31Z"),
            ("20180310", "2018-03-10T00:00:00Z"),
            ("2018-03-10T24:00", "2018-03-11T00:00:00Z"),
            ("2018-W10-6", "2018-03-10T00:00:00Z"),
            ("2018W106T12", "2018-03-10T12:00:00Z"),
            ("2018-069", "2018-03-10T00:00:00Z"),
            ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn what_is_printed_and_what_other_surfaces_take_is_read() {
        for (text, moment) in [
            ("11/30/2026 04:58:09", "2026-11-30T04:58:09Z"),
            ("3/10/2100", "2100-03-10T00:00:00Z"),
            ("10 March 2100 5 PM", "2100-03-10T17:00:00Z"),
            ("Wed, 10 Mar 2100 10:01:00 GMT", "2100-03-10T10:01:00Z"),
            ("2018-03-10T12:00:00+1", "2018-03-10T11:00:00Z"),
            ("13:57", "2026-11-22T13:57:00Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
        for moment in [now(), MIN, DEFAULT_BEFORE] {
            let sentence = in_sentence(moment);
            let again = read(&sentence, now()).unwrap();
            assert_eq!(in_sentence(again), sentence);
            assert_eq!(read(&fine(moment), now()), Some(moment));
        }
    }

    #[test]
    fn spans_mean_so_long_before_now() {
        for (text, moment) in [
            ("now", "2026-11-22T23:40:12.5Z"),
            ("today", "2026-11-22T00:00:00Z"),
            ("yesterday", "2026-11-21T00:00:00Z"),
            ("7d", "2026-11-15T23:40:12.5Z"),
            ("-7d", "2026-11-15T23:40:12.5Z"),
            ("12h30m", "2026-11-22T11:10:12.5Z"),
            ("P7D", "2026-11-15T23:40:12.5Z"),
            ("PT12H30M", "2026-11-22T11:10:12.5Z"),
            ("3 days ago", "2026-11-19T23:40:12.5Z"),
            ("1 hour ago", "2026-11-22T22:40:12.5Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "soon",
            "2018",
            "2018-13-01",
            "2018-02-30",
            "2018-366",
            "2018-W54-1",
            "2018-03-10T25:00",
            "2018-03-10T24:01",
            "2018-03-10T12:60",
            "2018-03-10T12:00:00.",
            "2018-03-10T12:00.5",
            "2018-03-10T12:00:00+25:00",
            "0000-01-01",
            "P1M",
            "P",
            "PT",
            "d",
            "7x",
            "3 fortnights ago",
            "99999999d",
            "9999-12-31T24:00",
            "2018-03-10Tx",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn moments_in_sentences_have_the_form_of_core_tools() {
        assert_eq!(in_sentence(now()), "11/22/2026 23:40:12");
        assert_eq!(in_sentence(MIN), "01/01/0001 00:00:00");
        assert_eq!(in_sentence(DEFAULT_BEFORE), "12/30/9999 23:59:59");
        assert_eq!(fine(DEFAULT_BEFORE), "9999-12-30T23:59:59.9999999Z");
    }
}
