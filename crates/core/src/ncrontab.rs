//! NCRONTAB: cron expressions as Azure Functions reads them, and the moments they name.
//!
//! Five fields, or six with the second first: second, minute, hour, day of the month, month, day of the week. A moment
//! fits if all of its fields do: unlike in other crons, a day of the month and a day of the week are joined by *and*.

use std::ops::RangeInclusive;

use jiff::civil::{Date, DateTime};
use thiserror::Error;

use crate::date::MONTHS;
use crate::time::Timestamp;

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

/// One of the six fields of an expression: its name, its values, and the names of the values.
struct Field {
    name: &'static str,
    values: RangeInclusive<u8>,
    names: &'static [&'static str],
}

/// In the order of an expression.
const FIELDS: [Field; 6] = [
    field("second", 0, 59, &[]),
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day of the month", 1, 31, &[]),
    field("month", 1, 12, &MONTHS),
    field("day of the week", 0, 6, &WEEKDAYS),
];

const fn field(name: &'static str, first: u8, last: u8, names: &'static [&'static str]) -> Field {
    Field {
        name,
        values: first..=last,
        names,
    }
}

/// An NCRONTAB expression.
///
/// A field is a list of values, ranges and `*`, with commas between them; a range or `*` may have a step (`*/5`,
/// `10-40/10`), and a value with a step goes on to the end (`10/15` is `10-59/15`). Months and days of the week may be
/// named, in any letter case, in full or by their beginning; a week begins with Sunday, which is 0. A range that is
/// the wrong way round is turned, and a step below 1 is 1.
///
/// ```
/// use taskhub_core::ncrontab::Ncrontab;
/// use taskhub_core::time::Timestamp;
///
/// let friday_13th = Ncrontab::parse("0 0 12 13 * FRI").unwrap();
/// let next = friday_13th.next_after(Timestamp::parse("2026-11-30T00:00:00Z").unwrap());
/// assert_eq!(next.unwrap().to_string(), "2027-08-13T12:00:00.0000000Z");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ncrontab {
    /// The values of each field that fit.
    fields: [Values; 6],
}

/// Why a text is not a valid NCRONTAB expression.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("invalid NCRONTAB expression `{expression}`: {why}")]
pub struct InvalidNcrontab {
    /// The text.
    pub expression: String,
    /// What is wrong with it, and what would not be.
    pub why: String,
}

impl Ncrontab {
    /// Reads an expression of five or six fields; with five the second is 0.
    ///
    /// # Errors
    ///
    /// If it has another number of fields, a field is not what it should be, or no day ever fits.
    pub fn parse(expression: &str) -> Result<Self, InvalidNcrontab> {
        let invalid = |why| InvalidNcrontab {
            expression: expression.to_owned(),
            why,
        };
        let mut parts: Vec<&str> = expression.split(' ').filter(|part| !part.is_empty()).collect();
        if parts.len() == FIELDS.len() - 1 {
            parts.insert(0, "0");
        }
        if parts.len() != FIELDS.len() {
            return Err(invalid(format!("expected 5 or 6 fields, found {}", parts.len())));
        }
        let mut fields = [Values(0); 6];
        for ((values, field), part) in fields.iter_mut().zip(FIELDS).zip(parts) {
            *values = field.parse(part).map_err(invalid)?;
        }
        let schedule = Self { fields };
        if schedule.has_day() {
            Ok(schedule)
        } else {
            Err(invalid(
                "it never comes, as none of its months has one of its days".to_owned(),
            ))
        }
    }

    /// The first moment after `moment` that fits, in UTC; none if the years end before.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let [seconds, minutes, hours, ..] = self.fields;
        let first = moment.to_civil();
        let mut day = self.day_from(first.date())?;
        let mut time = (0, 0, 0);
        if day == first.date() {
            // The next second of the same day, as far as the day has one.
            let now = [first.hour(), first.minute(), first.second()].map(|value| u8::try_from(value).unwrap_or(0));
            match later_time([hours, minutes, seconds], now) {
                Some(found) => return Some(at(day, found)),
                None => day = self.day_from(day.tomorrow().ok()?)?,
            }
        }
        for (values, value) in [(hours, &mut time.0), (minutes, &mut time.1), (seconds, &mut time.2)] {
            *value = values.first_from(0)?;
        }
        Some(at(day, time))
    }

    /// Whether any year has a day that fits; within 400 years each of them is every day of the week.
    fn has_day(&self) -> bool {
        let [.., days, months, _] = self.fields;
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let first = days.first_from(0);
        let mut months = (1..=12).filter(|month| months.has(*month));
        first.is_some_and(|first| months.any(|month| first <= longest(month)))
    }

    /// The first day that fits, not before this one.
    fn day_from(&self, from: Date) -> Option<Date> {
        let [.., days, months, weekdays] = self.fields;
        let mut day = from;
        loop {
            if !months.has(day.month().unsigned_abs()) {
                day = day.last_of_month().tomorrow().ok()?;
                continue;
            }
            let weekday = day.weekday().to_sunday_zero_offset();
            if days.has(day.day().unsigned_abs()) && weekdays.has(weekday.unsigned_abs()) {
                return Some(day);
            }
            day = day.tomorrow().ok()?;
        }
    }
}

type Time = (u8, u8, u8);

/// The first hour, minute and second that fit and come after these.
fn later_time([hours, minutes, seconds]: [Values; 3], [hour, minute, second]: [u8; 3]) -> Option<Time> {
    if hours.has(hour) {
        if minutes.has(minute)
            && let Some(second) = seconds.first_from(second + 1)
        {
            return Some((hour, minute, second));
        }
        if let Some(minute) = minutes.first_from(minute + 1) {
            return Some((hour, minute, seconds.first_from(0)?));
        }
    }
    let hour = hours.first_from(hour + 1)?;
    Some((hour, minutes.first_from(0)?, seconds.first_from(0)?))
}

fn at(day: Date, (hour, minute, second): Time) -> Timestamp {
    let [hour, minute, second] = [hour, minute, second].map(|value| i8::try_from(value).unwrap_or(0));
    let moment: DateTime = day.at(hour, minute, second, 0);
    Timestamp::from_civil(moment)
}

/// Values of a field, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Values(u64);

impl Values {
    fn has(self, value: u8) -> bool {
        self.0 >> value & 1 == 1
    }

    /// The first value that is not below this one.
    fn first_from(self, value: u8) -> Option<u8> {
        let rest = self.0 >> value << value;
        (rest != 0).then(|| u8::try_from(rest.trailing_zeros()).unwrap_or(u8::MAX))
    }
}

impl Field {
    /// Parses a list of parts.
    fn parse(&self, text: &str) -> Result<Values, String> {
        let mut values = 0;
        for part in text.split(',') {
            values |= self
                .part(part)
                .map_err(|why| format!("{why} (its {}, `{text}`)", self.name))?;
        }
        Ok(Values(values))
    }

    /// A value, a range or `*`, with or without a step.
    fn part(&self, text: &str) -> Result<u64, String> {
        let (of, step) = match text.split_once('/') {
            Some((of, step)) => (
                of,
                Some(number(step).ok_or_else(|| format!("`{step}` is not a step: expected a number"))?),
            ),
            None => (text, None),
        };
        let (first, last) = (*self.values.start(), *self.values.end());
        let (first, last) = match (of, of.split_once('-'), step) {
            ("*", ..) => (first, last),
            (_, Some((one, other)), _) => {
                let (one, other) = (self.value(one)?, self.value(other)?);
                (one.min(other), one.max(other))
            }
            (one, None, Some(_)) => (self.value(one)?, last),
            (one, None, None) => (self.value(one)?, self.value(one)?),
        };
        let step = step.unwrap_or(1).max(1);
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Ok((first..=last)
            .step_by(step)
            .fold(0, |values, value| values | 1 << value))
    }

    /// A number in the range of the field, or a name or the beginning of one.
    fn value(&self, text: &str) -> Result<u8, String> {
        let (first, last) = (*self.values.start(), *self.values.end());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let value = text.parse().ok().filter(|value| self.values.contains(value));
            return value.ok_or_else(|| format!("`{text}` is not a number from {first} to {last}"));
        }
        let wanted = text.to_ascii_lowercase();
        let is_meant = |name: &&str| !wanted.is_empty() && name.starts_with(&wanted);
        if let Some(place) = self.names.iter().position(is_meant) {
            return Ok(first + u8::try_from(place).unwrap_or(last));
        }
        Err(if self.names.is_empty() {
            format!("`{text}` is not a number from {first} to {last}")
        } else {
            let names = self.names.join(", ");
            format!("`{text}` is neither a number from {first} to {last} nor one of {names}")
        })
    }
}

/// A step as .NET reads integers, with a sign or without.
fn number(text: &str) -> Option<i32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(expression: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Ncrontab::parse(expression).unwrap();
        let from = Timestamp::parse(&format!("{from}Z")).unwrap();
        let next = |at: &Timestamp| schedule.next_after(*at);
        let times = std::iter::successors(Some(from), next).skip(1).take(count);
        times.map(|time| time.to_string()[..19].to_owned()).collect()
    }

    #[test]
    fn a_day_of_the_month_and_one_of_the_week_are_joined_by_and() {
        for (expression, wanted) in [
            ("0 0 12 13 * 5", ["2027-08-13T12:00:00", "2028-10-13T12:00:00"]),
            ("0 0 12 1 1 Mon", ["2029-01-01T12:00:00", "2035-01-01T12:00:00"]),
            ("0 0 0 1-7 * 0", ["2026-12-06T00:00:00", "2027-01-03T00:00:00"]),
            ("0 0 0 29 2 1", ["2044-02-29T00:00:00", "2072-02-29T00:00:00"]),
            ("0 0 0 13 * *", ["2026-12-13T00:00:00", "2027-01-13T00:00:00"]),
            ("0 0 0 * * 5", ["2026-12-04T00:00:00", "2026-12-11T00:00:00"]),
        ] {
            assert_eq!(times(expression, "2026-11-30T00:00:00", 2), wanted, "{expression}");
        }
    }

    #[test]
    fn fields_are_lists_of_values_ranges_and_steps() {
        let from = "2026-11-30T10:20:30";
        for (expression, wanted) in [
            ("* * * * * *", ["10:20:31", "10:20:32"]),
            ("*/20 * * * * *", ["10:20:40", "10:21:00"]),
            ("5/20 * * * * *", ["10:20:45", "10:21:05"]),
            ("10-40/15 * * * * *", ["10:20:40", "10:21:10"]),
            ("40-10/15 * * * * *", ["10:20:40", "10:21:10"]),
            ("31,0,30-30 * * * * *", ["10:20:31", "10:21:00"]),
            ("007 1-2,59/1 * * * *", ["10:59:07", "11:01:07"]),
            ("0 0/30 * * * *", ["10:30:00", "11:00:00"]),
            ("0 0 9-17 * * MON-FRI", ["11:00:00", "12:00:00"]),
            ("*/0 * * * * *", ["10:20:31", "10:20:32"]),
            ("*/-3 * * * * *", ["10:20:31", "10:20:32"]),
            ("*/+30 * * * * *", ["10:21:00", "10:21:30"]),
            ("  0   *  *  * * *  ", ["10:21:00", "10:22:00"]),
            ("*/10 * * * *", ["10:30:00", "10:40:00"]),
            ("59/99 59 23 * * *", ["23:59:59", "23:59:59"]),
        ] {
            let found: Vec<String> = times(expression, from, 2)
                .iter()
                .map(|time| time[11..].to_owned())
                .collect();
            assert_eq!(found, wanted, "{expression}");
        }
    }

    #[test]
    fn months_and_days_are_named_in_full_or_by_their_beginning() {
        let day = |expression: &str| times(expression, "2026-11-30T10:20:30", 1)[0][..10].to_owned();
        for (names, wanted) in [
            ("* January *", "2027-01-01"),
            ("* jan *", "2027-01-01"),
            ("* JU *", "2027-06-01"),
            ("* jul *", "2027-07-01"),
            ("* Ma *", "2027-03-01"),
            ("* may *", "2027-05-01"),
            ("* SEPT-October,f *", "2027-02-01"),
            ("* * sunday", "2026-12-06"),
            ("* * T", "2026-12-01"),
            ("* * th", "2026-12-03"),
            ("* * Fri-Wed", "2026-12-02"),
            // Sunday is the first day, so this is the whole week the right way round.
            ("* * Sat-Sun", "2026-12-01"),
        ] {
            assert_eq!(day(&format!("0 0 0 {names}")), wanted, "{names}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (expression, why) in [
            ("", "expected 5 or 6 fields, found 0"),
            ("* * * *", "expected 5 or 6 fields, found 4"),
            ("* * * * * * 2026", "expected 5 or 6 fields, found 7"),
            ("@daily", "expected 5 or 6 fields, found 1"),
            ("0\t0 * * * *", "`0\t0` is not a number"),
            ("60 * * * * *", "`60` is not a number from 0 to 59 (its second, `60`)"),
            ("0 60 * * * *", "(its minute, `60`)"),
            ("0 0 24 * * *", "`24` is not a number from 0 to 23"),
            ("0 0 0 0 * *", "`0` is not a number from 1 to 31"),
            ("0 0 0 32 * *", "(its day of the month, `32`)"),
            ("0 0 0 1 13 *", "`13` is not a number from 1 to 12"),
            ("0 0 0 * * 7", "`7` is not a number from 0 to 6"),
            ("0 0 0 * * 5-7", "`7` is not a number from 0 to 6"),
            (
                "0 0 0 * Foo *",
                "`Foo` is neither a number from 1 to 12 nor one of january, february",
            ),
            ("0 0 0 * * Fridays", "nor one of sunday, monday"),
            ("0 0 0 Mon * *", "`Mon` is not a number from 1 to 31"),
            ("0 0 0 ? * *", "`?` is not a number"),
            ("0 0 0 L * *", "`L` is not a number"),
            ("0 0 0 15W * *", "`15W` is not a number"),
            ("0 0 0 * * 5#2", "`5#2` is not a number"),
            ("0 0 0 * * 5L", "`5L` is not a number"),
            ("1, * * * * *", "`` is not a number from 0 to 59 (its second, `1,`)"),
            (",1 * * * * *", "`` is not a number"),
            ("1- * * * * *", "`` is not a number"),
            ("-1 * * * * *", "`` is not a number"),
            ("1--2 * * * * *", "`-2` is not a number"),
            ("** * * * * *", "`**` is not a number"),
            ("/5 * * * * *", "`` is not a number"),
            ("*/ * * * * *", "`` is not a step: expected a number"),
            ("*/x * * * * *", "`x` is not a step"),
            ("*/5/2 * * * * *", "`5/2` is not a step"),
            ("*/99999999999 * * * * *", "`99999999999` is not a step"),
            ("1.5 * * * * *", "`1.5` is not a number"),
        ] {
            let said = Ncrontab::parse(expression).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
            assert!(
                said.starts_with(&format!("invalid NCRONTAB expression `{expression}`: ")),
                "{said}"
            );
        }
    }

    #[test]
    fn what_never_comes_is_refused() {
        for never in [
            "30 2 *",
            "31 2 *",
            "30,31 2 *",
            "31 4,6,9,11 *",
            "31 2,4 5",
            "30-31 Feb Mon",
        ] {
            let error = Ncrontab::parse(&format!("0 0 0 {never}")).unwrap_err();
            assert!(error.why.starts_with("it never comes"), "{error}");
        }
        for seldom in ["29 2 *", "30 2,4 *", "31 4-5 *", "29 2 0", "28-31 2 6"] {
            let schedule = Ncrontab::parse(&format!("0 0 0 {seldom}")).unwrap();
            let from = Timestamp::parse("2096-03-01T00:00:00Z").unwrap();
            assert!(schedule.next_after(from).is_some(), "{seldom}");
        }
    }

    #[test]
    fn the_next_moment_is_later_and_the_years_end() {
        assert_eq!(
            times("0 0 0 29 2 *", "2096-02-29T00:00:00", 2),
            ["2104-02-29T00:00:00", "2108-02-29T00:00:00"]
        );
        assert_eq!(
            times("0 0 0 31 * *", "2026-01-31T00:00:00", 2),
            ["2026-03-31T00:00:00", "2026-05-31T00:00:00"]
        );
        assert_eq!(
            times("59 59 23 31 12 *", "9998-12-31T23:59:59", 3),
            ["9999-12-31T23:59:59"]
        );
        assert_eq!(
            times("* * * * * *", "2026-12-31T23:59:59.9999999", 1),
            ["2027-01-01T00:00:00"]
        );
        assert_eq!(times("* * * * * *", "1969-12-31T23:59:58", 1), ["1969-12-31T23:59:59"]);
        let every = Ncrontab::parse("* * * * * *").unwrap();
        assert_eq!(every.next_after(Timestamp::MAX), None);
        assert_eq!(every.next_after(Timestamp::from_ticks(i64::MAX)), None);
    }

    /// Each second is tried in turn.
    #[test]
    fn no_moment_between_one_and_the_next_fits() {
        let mut random = fastrand::Rng::with_seed(17);
        for _ in 0..300 {
            let mut part = |field: &Field| {
                let (first, last) = (*field.values.start(), *field.values.end());
                match random.u8(0..4) {
                    0 => "*".to_owned(),
                    1 => format!("*/{}", random.u8(1..9)),
                    2 => format!("{}-{}", random.u8(first..=last), random.u8(first..=last)),
                    _ => format!("{},{}", random.u8(first..=last), random.u8(first..=last)),
                }
            };
            let time: Vec<String> = FIELDS[..3].iter().map(&mut part).collect();
            let expression = format!("{} * * *", time.join(" "));
            let schedule = Ncrontab::parse(&expression).unwrap();
            let from = Timestamp::from_parts(random.i64(0..4_000_000_000), 0);
            let next = schedule.next_after(from).unwrap();
            let fits = |moment: Timestamp| {
                let civil = moment.to_civil();
                let values = [civil.second(), civil.minute(), civil.hour()];
                values
                    .iter()
                    .zip(schedule.fields)
                    .all(|(value, field)| field.has(value.unsigned_abs()))
            };
            assert!(fits(next), "{expression}: {next}");
            let (mut between, (end, _)) = (from.parts().0 + 1, next.parts());
            while between < end {
                let moment = Timestamp::from_parts(between, 0);
                assert!(!fits(moment), "{expression}: {moment} is before {next}");
                between += 1;
            }
        }
    }
}
