//! Moments on the command line (L10): what all surfaces read, the rest of ISO 8601, and spans that all mean "so long
//! before now".

use jiff::civil::{Date, ISOWeekDate};
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
    let moment = relative(text, now)
        .or_else(|| date::read(text, now))
        .or_else(|| absolute(text))?;
    (MIN..=LAST).contains(&moment).then_some(moment)
}

/// A moment in the sentences of Core Tools: `MM/dd/yyyy HH:mm:ss` (L31).
pub(crate) fn in_sentence(moment: Timestamp) -> String {
    let iso = moment.to_string();
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    format!("{}/{}/{} {}", part(5, 7), part(8, 10), part(0, 4), part(11, 19))
}

/// A moment in JSON: no more digits of the fraction than needed (L32).
pub(crate) fn in_json(moment: Timestamp) -> String {
    let iso = moment.to_string();
    let cut = iso.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{cut}Z")
}

fn ticks_of_day(date: Date) -> i64 {
    let epoch = Date::constant(1970, 1, 1);
    let days = i64::from(date.since(epoch).map_or(0, |span| span.get_days()));
    days * SECONDS_PER_DAY * TICKS_PER_SECOND
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

/// The forms of ISO 8601 that .NET does not know: basic ones, weeks, days of the year, 24:00, a decimal comma.
fn absolute(text: &str) -> Option<Timestamp> {
    let cut = text.find(['T', 't', ' ']);
    let (day, rest) = match cut {
        Some(at) => (text.get(..at)?, Some(text.get(at + 1..)?.trim_start())),
        None => (text, None),
    };
    let day = ticks_of_day(iso_date(day)?);
    let Some(rest) = rest else {
        return Some(Timestamp::from_ticks(day));
    };
    let (clock, offset) = split_offset(rest)?;
    Some(Timestamp::from_ticks(day + time_of_day(clock.trim_end())? - offset))
}

fn number(text: &str) -> Option<i64> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

/// A day: `2018-03-10`, `20180310`, `2018-W10-6`, `2018W106`, `2018-069`, `2018069`.
fn iso_date(text: &str) -> Option<Date> {
    let year = i16::try_from(number(text.get(..4)?)?).ok()?;
    let rest = text.get(4..)?;
    let is_extended = rest.starts_with('-');
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    if let Some(rest) = rest.strip_prefix(['W', 'w']) {
        let (week, day) = match (is_extended, rest.len()) {
            (true, 4) => rest.split_once('-')?,
            (false, 3) => rest.split_at_checked(2)?,
            _ => return None,
        };
        let weekday = jiff::civil::Weekday::from_monday_one_offset(i8::try_from(number(day)?).ok()?).ok()?;
        let week = ISOWeekDate::new(year, i8::try_from(number(week)?).ok()?, weekday).ok()?;
        return Some(week.date());
    }
    match (is_extended, rest.len()) {
        (_, 3) => {
            let ordinal = number(rest)?;
            let first = Date::new(year, 1, 1).ok()?;
            let day = first
                .checked_add(jiff::Span::new().days(ordinal.checked_sub(1)?))
                .ok()?;
            (ordinal >= 1 && day.year() == year).then_some(day)
        }
        (true, 5) => {
            let (month, day) = rest.split_once('-')?;
            month_day(year, month, day)
        }
        (false, 4) => {
            let (month, day) = rest.split_at_checked(2)?;
            month_day(year, month, day)
        }
        _ => None,
    }
}

fn month_day(year: i16, month: &str, day: &str) -> Option<Date> {
    let small = |text: &str| i8::try_from(number(text)?).ok().filter(|_| text.len() == 2);
    Date::new(year, small(month)?, small(day)?).ok()
}

/// Splits the zone off: its offset in ticks, none meaning UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (clock, zone) = text.split_at_checked(at)?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let zone = zone.get(1..)?;
    let (hours, minutes) = match zone.len() {
        2 => (zone, "00"),
        4 => zone.split_at_checked(2)?,
        5 => zone.split_once(':')?,
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let is_zone = hours <= 18 && minutes < 60;
    is_zone.then_some((clock, sign * (hours * 3_600 + minutes * 60) * TICKS_PER_SECOND))
}

/// A time of day: `13:57:31`, `23:59`, `135731`, `24:00`, with any digits of a fraction after the seconds.
fn time_of_day(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.find(['.', ',']) {
        Some(at) => (text.get(..at)?, Some(text.get(at + 1..)?)),
        None => (text, None),
    };
    let is_basic = !whole.contains(':');
    let parts: Vec<&str> = if is_basic {
        (0..whole.len())
            .step_by(2)
            .map_while(|at| whole.get(at..at + 2))
            .collect()
    } else {
        whole.split(':').collect()
    };
    let is_even = !is_basic || parts.len() * 2 == whole.len();
    if !is_even || parts.is_empty() || parts.len() > 3 || parts.iter().any(|part| part.len() != 2) {
        return None;
    }
    let part = |index: usize| parts.get(index).map_or(Some(0), |part| number(part));
    let (hours, minutes, seconds) = (part(0)?, part(1)?, part(2)?);
    let fraction = match fraction {
        None => 0,
        Some(digits) if parts.len() == 3 => {
            number(digits.get(..1)?)?;
            let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits)?;
            // Finer than 100 ns is cut.
            let seven: String = digits.chars().chain("0000000".chars()).take(7).collect();
            number(&seven)?
        }
        Some(_) => return None,
    };
    let is_midnight = hours == 24 && minutes == 0 && seconds == 0 && fraction == 0;
    let is_time = (hours < 24 || is_midnight) && minutes < 60 && seconds < 60;
    is_time.then_some((hours * 3_600 + minutes * 60 + seconds) * TICKS_PER_SECOND + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-22T23:40:12.5Z").unwrap()
    }

    fn shown(text: &str) -> Option<String> {
        read(text, now()).map(in_json)
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
            assert_eq!(read(&in_json(moment), now()), Some(moment));
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
        assert_eq!(in_json(DEFAULT_BEFORE), "9999-12-30T23:59:59.9999999Z");
    }
}
