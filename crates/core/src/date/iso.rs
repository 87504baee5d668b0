//! The forms of ISO 8601 that .NET does not know: basic ones, weeks, days of the year, 24:00, a decimal comma.

use jiff::civil::{Date, ISOWeekDate};

use super::{OFFSET_MINUTES_MAX, TICKS_PER_SECOND};
use crate::time::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// Reads a moment; without a zone it is UTC.
pub(super) fn read(text: &str) -> Option<Timestamp> {
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

fn ticks_of_day(date: Date) -> i64 {
    let epoch = Date::constant(1970, 1, 1);
    let days = i64::from(date.since(epoch).map_or(0, |span| span.get_days()));
    days * SECONDS_PER_DAY * TICKS_PER_SECOND
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
    let is_zone = hours * 60 + minutes <= OFFSET_MINUTES_MAX && minutes < 60;
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
