//! Moments as people and programs write them, for all surfaces: every form that .NET's `DateTime.TryParse` takes under
//! the invariant culture, which is what the clients of the original were written against, and the rest of ISO 8601.
//! Without a zone it is UTC.
//!
//! A text is a row of words and numbers. Up to three of them are the date, in any order that leaves no doubt: a name is
//! the month, a number of three or more digits the year, and of the others the month comes first (`3/10/2100`,
//! `2100-03-10`, `10 March 2100`). Numbers around a colon, and one before `AM` or `PM`, are the time. Zones, the day of
//! the week and `AM`/`PM` may stand anywhere; commas, dots and blanks between the parts say nothing.

mod iso;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time, Weekday};

use crate::time::Timestamp;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const TICKS_PER_SECOND: i64 = 10_000_000;
/// The first moment of year 1 and the last of year 9999.
const RANGE: (i64, i64) = (
    -62_135_596_800 * TICKS_PER_SECOND,
    253_402_300_800 * TICKS_PER_SECOND - 1,
);

/// Digits of the longest number that is a part of a date or time.
const DIGITS_MAX: usize = 8;
/// Numbers of two digits up to this one are years of this century, the others of the last.
const CENTURY_ENDS: i32 = 49;
/// Farthest zone there is, in minutes.
const OFFSET_MINUTES_MAX: i64 = 14 * 60;

/// Names of the months, in small letters.
pub(crate) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// Parses a date and time. Missing parts of the date come from `now`, missing parts of the time are zero. `None` if the
/// text is invalid or contradicts itself.
///
/// ```
/// use taskhub_core::date::read;
/// use taskhub_core::time::Timestamp;
///
/// let now = Timestamp::from_micros(0);
/// let moment = Timestamp::parse("2100-03-10T10:01:00Z");
/// assert_eq!(read("2100-03-10T11:01+01:00", now), moment);
/// assert_eq!(read("3/10/2100 10:01 AM", now), moment);
/// assert_eq!(read("Wed, 10 Mar 2100 10:01:00 GMT", now), moment);
/// assert_eq!(read("soon", now), None);
/// ```
pub fn read(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (first, last) = RANGE;
    let is_in_range = |moment: &Timestamp| (first..=last).contains(&moment.ticks());
    invariant(text, now).or_else(|| iso::read(text.trim()).filter(is_in_range))
}

/// Reads a form of .NET.
fn invariant(text: &str, now: Timestamp) -> Option<Timestamp> {
    let tokens = tokens(unwrapped(text)?)?;
    let mut reading = Reading {
        tokens: &tokens,
        ..Reading::default()
    };
    while !reading.tokens.is_empty() {
        reading.step(now)?;
    }
    reading.moment(now)
}

/// The text without what may stand around it: Visual Basic's hashes, and the zeros at the end of a C string.
fn unwrapped(text: &str) -> Option<&str> {
    let text = text.trim_end_matches('\0').trim();
    match text.strip_prefix('#') {
        Some(inner) => inner.strip_suffix('#').filter(|inner| !inner.contains('#')),
        None => Some(text),
    }
}

/// Half of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Am,
    Pm,
}

/// The unit written after a number, as in Chinese, Japanese and Korean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Number(Number<'t>),
    Month(i8),
    Weekday(Weekday),
    Half(Half),
    Unit(Unit),
    /// `Z` or `GMT`.
    Utc,
    /// `T`, between date and time.
    Mark,
    Blank,
    Sign(char),
}

/// A row of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number<'t>(&'t str);

impl Number<'_> {
    /// Whether it has so many digits that it can only be a year.
    fn is_year(self) -> bool {
        self.0.len() >= 3
    }

    fn value(self) -> Option<i32> {
        self.0.parse().ok().filter(|_| self.0.len() <= DIGITS_MAX)
    }

    /// The value, if it is not a year.
    fn small(self) -> Option<i8> {
        self.0.parse().ok().filter(|_| !self.is_year())
    }

    /// The year that it is.
    fn year(self) -> Option<i16> {
        let value = self.value()?;
        let century = match value {
            _ if self.is_year() => 0,
            0..=CENTURY_ENDS => 2000,
            _ => 1900,
        };
        i16::try_from(century + value).ok().filter(|year| *year >= 1)
    }

    /// Ticks of the fraction whose digits these are; what is finer is cut (R198).
    fn fraction(self) -> i64 {
        let seven = self.0.chars().chain("0000000".chars()).take(7);
        seven.collect::<String>().parse().unwrap_or_default()
    }
}

/// Words, numbers and signs.
fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_alike = |other: char| match first {
            '0'..='9' => other.is_ascii_digit(),
            first if is_blank(first) => is_blank(other),
            first => first.is_alphabetic() && other.is_alphabetic(),
        };
        let length = rest.find(|other| !is_alike(other)).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(length.max(first.len_utf8()));
        rest = behind;
        tokens.push(match first {
            '0'..='9' => Token::Number(Number(part)),
            '/' | '-' | '+' | ':' | '.' => Token::Sign(first),
            first if is_blank(first) => Token::Blank,
            _ => word(part)?,
        });
    }
    Some(tokens)
}

/// Commas are blanks, and the mark of right-to-left writing comes with the dates of some languages.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || matches!(character, ',' | '\u{200f}')
}

/// A word that dates have; months and days of the week also by their first three letters.
fn word(text: &str) -> Option<Token<'static>> {
    let text = text.to_lowercase();
    let is_name = |name: &str| text == name || (text.len() == 3 && name.starts_with(&text));
    if let Some((month, _)) = (1..).zip(MONTHS).find(|(_, name)| is_name(name)) {
        return Some(Token::Month(month));
    }
    if let Some((_, day)) = WEEKDAYS.into_iter().find(|(name, _)| is_name(name)) {
        return Some(Token::Weekday(day));
    }
    Some(match text.as_str() {
        "am" => Token::Half(Half::Am),
        "pm" => Token::Half(Half::Pm),
        "z" | "gmt" => Token::Utc,
        "t" => Token::Mark,
        // The era says nothing.
        "ad" => Token::Blank,
        "年" | "년" => Token::Unit(Unit::Year),
        "月" | "월" => Token::Unit(Unit::Month),
        "日" | "일" => Token::Unit(Unit::Day),
        "時" | "时" => Token::Unit(Unit::Hour),
        "分" => Token::Unit(Unit::Minute),
        "秒" => Token::Unit(Unit::Second),
        _ => return None,
    })
}

/// A part of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'t> {
    Number(Number<'t>),
    Month(i8),
}

/// What was read so far. Nothing may be said twice.
#[derive(Debug, Default)]
struct Reading<'t> {
    /// What is left.
    tokens: &'t [Token<'t>],
    date: Option<Date>,
    /// Hour, minute, second, and ticks of the fraction.
    time: Option<(i8, i8, i8, i64)>,
    half: Option<Half>,
    weekday: Option<Weekday>,
    /// Minutes that the zone is ahead of UTC.
    offset: Option<i64>,
    /// Numbers with their units.
    units: [Option<Number<'t>>; 6],
}

/// Puts a value where none is yet.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

impl<'t> Reading<'t> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.first().copied()
    }

    fn skip(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    /// The next token but for blanks, behind so many that are passed over.
    fn ahead(&self, passed: usize) -> Option<Token<'t>> {
        let mut ahead = self.tokens.iter().skip(passed).copied();
        ahead.find(|token| *token != Token::Blank)
    }

    fn skip_blanks(&mut self) {
        while self.peek() == Some(Token::Blank) {
            self.skip();
        }
    }

    /// Whether one of these signs comes next; if so it is taken, with the blanks around it.
    fn takes(&mut self, signs: &[char]) -> bool {
        let is_next = matches!(self.ahead(0), Some(Token::Sign(sign)) if signs.contains(&sign));
        if is_next {
            self.skip_blanks();
            self.skip();
            self.skip_blanks();
        }
        is_next
    }

    fn number(&mut self) -> Option<Number<'t>> {
        let Some(Token::Number(number)) = self.peek() else {
            return None;
        };
        self.skip();
        Some(number)
    }

    /// Reads the next date or time, or a word between them.
    fn step(&mut self, now: Timestamp) -> Option<()> {
        match (self.peek()?, self.ahead(1)) {
            (Token::Number(_), Some(Token::Sign(':') | Token::Half(_))) => self.clock(false),
            (Token::Number(number), Some(Token::Unit(unit))) => {
                self.skip();
                self.skip_blanks();
                self.skip();
                once(self.units.get_mut(unit as usize)?, number)
            }
            (Token::Number(_) | Token::Month(_), _) => self.calendar(now),
            _ => self.aside(),
        }
    }

    /// Reads what may stand between any two parts.
    fn aside(&mut self) -> Option<()> {
        let token = self.peek()?;
        self.skip();
        match token {
            Token::Blank | Token::Sign('.') => Some(()),
            Token::Weekday(day) => once(&mut self.weekday, day),
            Token::Half(half) => once(&mut self.half, half),
            Token::Utc => once(&mut self.offset, 0),
            Token::Sign(sign @ ('+' | '-')) => self.zone(sign),
            Token::Number(_) | Token::Month(_) | Token::Unit(_) | Token::Mark | Token::Sign(_) => None,
        }
    }

    /// A zone after its sign: `+1`, `+01`, `+100`, `+0100`, `+1:00`, `+01:00`.
    fn zone(&mut self, sign: char) -> Option<()> {
        let number = self.number()?;
        let value = number.value()?;
        let (hours, minutes) = match number.0.len() {
            1 | 2 if self.peek() == Some(Token::Sign(':')) => {
                self.skip();
                (value, i32::from(self.number()?.small()?))
            }
            1 | 2 => (value, 0),
            3 | 4 => (value / 100, value % 100),
            _ => return None,
        };
        let ahead = i64::from(hours * 60 + minutes);
        if minutes >= 60 || ahead > OFFSET_MINUTES_MAX {
            return None;
        }
        once(&mut self.offset, if sign == '-' { -ahead } else { ahead })
    }

    /// A time of day: `10:01`, `10:01:02.5`, or an hour before `AM` or `PM`. Behind a `T` it is strict: two digits each,
    /// and minutes must be there.
    fn clock(&mut self, is_strict: bool) -> Option<()> {
        let part = |reading: &mut Self| {
            let number = reading.number()?;
            number.small().filter(|_| !is_strict || number.0.len() == 2)
        };
        let hour = part(self)?;
        if !self.takes(&[':']) {
            return once(&mut self.time, (hour, 0, 0, 0)).filter(|()| !is_strict);
        }
        let minute = part(self)?;
        let (mut second, mut fraction) = (0, 0);
        if self.takes(&[':']) {
            second = part(self)?;
            if self.peek() == Some(Token::Sign('.')) {
                self.skip();
                let digits = self.number();
                if is_strict && digits.is_none() {
                    return None;
                }
                fraction = digits.map_or(0, Number::fraction);
            }
        }
        once(&mut self.time, (hour, minute, second, fraction))
    }

    /// A date of two or three parts.
    fn calendar(&mut self, now: Timestamp) -> Option<()> {
        let mut parts = Vec::new();
        loop {
            parts.push(match self.peek()? {
                Token::Number(number) => Part::Number(number),
                Token::Month(month) => Part::Month(month),
                _ => return None,
            });
            self.skip();
            if parts.len() == 3 {
                break;
            }
            let is_separated = self.takes(&['/', '-']);
            while !matches!(self.peek(), None | Some(Token::Number(_) | Token::Month(_))) {
                self.aside()?;
            }
            let is_hour = matches!(
                (self.peek(), self.ahead(1)),
                (Some(Token::Number(_)), Some(Token::Half(_)))
            );
            let is_end = self.peek().is_none() || (is_hour && parts.len() == 2);
            if is_end && !is_separated {
                break;
            }
        }
        if self.ahead(0) == Some(Token::Mark) {
            once(&mut self.date, marked(&parts, now)?)?;
            self.skip_blanks();
            self.skip();
            self.skip_blanks();
            return self.marked_clock();
        }
        once(&mut self.date, date(&parts, now)?)
    }

    /// The text after a `T`: a time, optionally followed by a zone.
    fn marked_clock(&mut self) -> Option<()> {
        self.clock(true)?;
        self.skip_blanks();
        if matches!(self.peek(), Some(Token::Utc | Token::Sign('+' | '-'))) {
            self.aside()?;
            self.skip_blanks();
        }
        self.tokens.is_empty().then_some(())
    }

    /// The moment that all this is.
    fn moment(self, now: Timestamp) -> Option<Timestamp> {
        let today = today(now)?;
        let [year, month, day, hour, minute, second] = self.units;
        let small = |unit: Option<Number<'_>>, absent| unit.map_or(Some(absent), Number::small);
        let mut date = self.date;
        if year.or(month).or(day).is_some() {
            let year = year.map_or(Some(today.year()), Number::year)?;
            let written = Date::new(year, small(month, 1)?, small(day, 1)?).ok()?;
            once(&mut date, written)?;
        }
        let mut time = self.time;
        if hour.or(minute).or(second).is_some() {
            let written = (small(hour, 0)?, small(minute, 0)?, small(second, 0)?, 0);
            once(&mut time, written)?;
        }
        if date.or(time.map(|_| today)).is_none() || (self.half.is_some() && time.is_none()) {
            return None;
        }
        let date = date.unwrap_or(today);
        let (hour, minute, second, fraction) = time.unwrap_or_default();
        let hour = match self.half {
            Some(Half::Am) if hour > 12 => return None,
            Some(Half::Am) => hour % 12,
            Some(Half::Pm) if hour < 12 => hour + 12,
            Some(Half::Pm) | None => hour,
        };
        let time = Time::new(hour, minute, second, 0).ok()?;
        if self.weekday.is_some_and(|day| day != date.weekday()) {
            return None;
        }
        let seconds = date.to_datetime(time).duration_since(EPOCH).as_secs();
        let zone = self.offset.unwrap_or(0) * 60;
        let ticks = (seconds - zone) * TICKS_PER_SECOND + fraction;
        let (first, last) = RANGE;
        // Before all years is what "no lower limit" becomes in a zone that is ahead.
        (ticks <= last).then(|| Timestamp::from_ticks(ticks.max(first)))
    }
}

fn today(now: Timestamp) -> Option<Date> {
    let (seconds, _) = now.parts();
    EPOCH
        .checked_add(SignedDuration::from_secs(seconds))
        .ok()
        .map(DateTime::date)
}

/// The date of two or three parts.
fn date(parts: &[Part<'_>], now: Timestamp) -> Option<Date> {
    let (mut year, mut name, mut others) = (None, None, Vec::new());
    for part in parts {
        match part {
            Part::Month(month) => once(&mut name, *month)?,
            Part::Number(number) if number.is_year() => once(&mut year, *number)?,
            Part::Number(number) => others.push(*number),
        }
    }
    let of = |year: Number<'_>, month: i8, day: i8| Date::new(year.year()?, month, day).ok();
    let of_today = |month, day| Date::new(today(now)?.year(), month, day).ok();
    match (year, name, others.as_slice()) {
        (Some(year), Some(month), []) => of(year, month, 1),
        (Some(year), None, [month]) => of(year, month.small()?, 1),
        (Some(year), Some(month), [day]) => of(year, month, day.small()?),
        (Some(year), None, [month, day]) => of(year, month.small()?, day.small()?),
        (None, None, [month, day]) => of_today(month.small()?, day.small()?),
        (None, None, [month, day, year]) => of(*year, month.small()?, day.small()?),
        // `March 10` is a day, but `10 March` the month of a year.
        (None, Some(month), [day]) if matches!(parts, [Part::Month(_), ..]) => of_today(month, day.small()?),
        (None, Some(month), [year]) => of(*year, month, 1),
        (None, Some(month), [day, year]) => of(*year, month, day.small()?).or_else(|| of(*day, month, year.small()?)),
        _ => None,
    }
}

/// The date before a `T`, in numbers alone. Its year comes first even if it has two digits or one (H11).
fn marked(parts: &[Part<'_>], now: Timestamp) -> Option<Date> {
    let [Part::Number(year), Part::Number(month), Part::Number(day)] = parts else {
        return None;
    };
    if [year, month, day].into_iter().any(|number| number.is_year()) {
        return date(parts, now).filter(|_| !day.is_year());
    }
    let year = i16::from(year.small()?);
    Date::new(year, month.small()?, day.small()?).ok().filter(|_| year >= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Sunday.
    const NOW: &str = "2026-11-22T23:40:12.5000000Z";

    fn shown(text: &str) -> Option<String> {
        let moment = read(text, Timestamp::parse(NOW).unwrap())?;
        let shown = moment.to_string();
        Some(shown.trim_end_matches(".0000000Z").to_owned())
    }

    #[test]
    fn the_parts_of_a_date_stand_in_any_order_that_leaves_no_doubt() {
        for text in [
            "2100-03-10",
            "2100-3-10",
            "2100/03/10",
            "2100/3/10",
            "2100.03.10",
            "2100 3 10",
            "3/10/2100",
            "03/10/2100",
            "03-10-2100",
            "03.10.2100",
            "3 10 2100",
            "3/2100/10",
            "10 March 2100",
            "10 mar 2100",
            "10-Mar-2100",
            "10/MAR/2100",
            "10Mar2100",
            "Mar 10, 2100",
            "March 10 2100",
            "March 2100 10",
            "2100 Mar 10",
            "2100-Mar-10",
            "2100 10 March",
            "Wednesday, March 10, 2100",
            "Wed 10 Mar 2100",
            "Wednesday, 10 March 2100",
            "10 March 2100 Wed",
            "3/10/2100 00:00",
            "  3/10/2100  ",
            "\t3 / 10 / 2100\n",
            "#3/10/2100#",
            "3/10/2100\0\0",
            "3/10/2100 AD",
            "2100年3月10日",
            "2100년 3월 10일",
        ] {
            assert_eq!(shown(text).as_deref(), Some("2100-03-10T00:00:00"), "{text}");
        }
    }

    #[test]
    fn a_time_stands_before_or_behind_the_date() {
        for text in [
            "03/10/2100 10:01:00",
            "3/10/2100 10:01",
            "3/10/2100 10:1:0",
            "10:01 3/10/2100",
            "3/10/2100 10:01 AM",
            "3/10/2100 10:01:00am",
            "AM 10:01 3/10/2100",
            "2100-03-10T10:01:00",
            "2100-03-10T10:01",
            "2100/3/10T10:01",
            "2100-03-10 T 10:01:00 Z",
            "2100-03-10t10:01:00z",
            "2100-03-10 10:01:00Z",
            "2100-03-10 10:01:00 GMT",
            "Wed, 10 Mar 2100 10:01:00 GMT",
            "2100-03-10T11:01:00+01:00",
            "2100-03-10T11:01:00+1",
            "2100-03-10T11:01:00 +01",
            "2100-03-10T11:01:00+100",
            "2100-03-10T11:01:00+0100",
            "2100-03-10T11:01:00+1:00",
            "3/10/2100 9:01 -1",
            "3/10/2100 9:01 AM -01:00",
            "3/9/2100 22:01 -12",
            "9:01-1:00 3/10/2100",
            "2100-03-10T10:01:00.0000000Z",
            "2100-03-10 10:01:00.",
            "2100年3月10日 10時01分00秒",
        ] {
            assert_eq!(shown(text).as_deref(), Some("2100-03-10T10:01:00"), "{text}");
        }
        for (text, moment) in [
            ("3/10/2100 5 PM", "2100-03-10T17:00:00"),
            ("3/10/2100 12 AM", "2100-03-10T00:00:00"),
            ("3/10/2100 12:30 PM", "2100-03-10T12:30:00"),
            ("3/10/2100 13:30 PM", "2100-03-10T13:30:00"),
            ("2100-03-10+01:00", "2100-03-09T23:00:00"),
            ("2100-03-10 -14:00", "2100-03-10T14:00:00"),
            ("3/10/2100-5", "2100-03-10T05:00:00"),
            ("2100-03-10T10:01:02.25", "2100-03-10T10:01:02.2500000Z"),
            ("2100-03-10 10:01:02.123456789", "2100-03-10T10:01:02.1234567Z"),
            ("3/10/2100 10:01:02.1 PM", "2100-03-10T22:01:02.1000000Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_the_first_or_that_of_today() {
        for (text, moment) in [
            ("March 2100", "2100-03-01T00:00:00"),
            ("2100 March", "2100-03-01T00:00:00"),
            ("2100-03", "2100-03-01T00:00:00"),
            ("03/2100", "2100-03-01T00:00:00"),
            ("March 10", "2026-03-10T00:00:00"),
            ("3/10", "2026-03-10T00:00:00"),
            ("3/10 5 PM", "2026-03-10T17:00:00"),
            ("10 March", "2010-03-01T00:00:00"),
            ("10:30", "2026-11-22T10:30:00"),
            ("5 PM", "2026-11-22T17:00:00"),
            ("Sun 10:30", "2026-11-22T10:30:00"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn years_of_two_digits_are_of_this_century_up_to_49() {
        for (text, moment) in [
            ("3/10/00", "2000-03-10T00:00:00"),
            ("3/10/49", "2049-03-10T00:00:00"),
            ("3/10/50", "1950-03-10T00:00:00"),
            ("10 Mar 21", "2021-03-10T00:00:00"),
            ("Mar 21 10", "2010-03-21T00:00:00"),
            ("Mar 32 10", "2032-03-10T00:00:00"),
            ("1-01-01", "2001-01-01T00:00:00"),
            ("0021-03-10", "0021-03-10T00:00:00"),
            ("021-03-10", "0021-03-10T00:00:00"),
            // Written by programs whose years have no zeros before them.
            ("1-01-01T00:00:00.000000Z", "0001-01-01T00:00:00"),
            ("21-03-10T10:00", "0021-03-10T10:00:00"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_are_moments() {
        for (text, moment) in [
            ("0001-01-01", "0001-01-01T00:00:00"),
            ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z"),
            ("12/31/9999 23:59:59", "9999-12-31T23:59:59"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(moment), "{text}");
        }
        assert_eq!(shown("9999-12-31T23:59:59-01:00"), None);
    }

    #[test]
    fn the_rest_of_iso_8601_is_read() {
        for (text, moment) in [
            ("20180310", "2018-03-10T00:00:00Z"),
            ("20180310T135731Z", "2018-03-10T13:57:31Z"),
            (" 20180310T1357+0100 ", "2018-03-10T12:57:00Z"),
            ("2018-03-10T24:00", "2018-03-11T00:00:00Z"),
            ("2018-W10-6", "2018-03-10T00:00:00Z"),
            ("2018W106T12", "2018-03-10T12:00:00Z"),
            ("2018-069", "2018-03-10T00:00:00Z"),
            ("2018069", "2018-03-10T00:00:00Z"),
            ("2018-11-14T19:35:00,123456789", "2018-11-14T19:35:00.1234567Z"),
        ] {
            let read = read(text, Timestamp::parse(NOW).unwrap());
            assert_eq!(read, Timestamp::parse(moment), "{text}");
        }
        for text in [
            "2018-366",
            "2018-000",
            "2018-W54-1",
            "2018-W10-8",
            "20181310",
            "2018-03-10T24:01",
            "2018-03-10T1357311",
            "20180310T135731+14:01",
            "9999-12-31T24:00",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_moments() {
        for text in [
            "",
            " ",
            "now",
            "soon",
            "10",
            "2100",
            "March",
            "Wed",
            "AM",
            "Z",
            "+01:00",
            "13/10/2100",
            "2100-13-01",
            "2100-02-29",
            "2/30/2100",
            "0000-01-01",
            "12018-03-10",
            "-2100-03-10",
            "2100-03-10/",
            "2100-03-",
            "3/10/",
            "/3/10/2100",
            "3//10/2100",
            "2100-03-10T10:1",
            "2100-03-10T10:01:00.",
            "2100-03-10T25:00",
            "2100-03-10T10:60",
            "2100-03-10T10:01:00X",
            "2100-03-10T10:01:00 GMT+1",
            "2100-03-10T10:01:00ZZ",
            "2100-03-10T10:01:00 AM",
            "2100-03-10 10:01:00 UTC",
            "2100-03-10 10:01:00+14:01",
            "2100-03-10 10:01:00+1:60",
            "2100-03-10 10:01:00+01000",
            "2100-03-10 10:01:00 01:00",
            "2100-03-10 10:01 10:02",
            "3/10/2100 3/10/2100",
            "Tue, 10 Mar 2100 10:01:00 GMT",
            "Wed Wed 3/10/2100",
            "March March 10 2100",
            "2100 2100 10",
            "10 Marc 2100",
            "10 Marching 2100",
            "13:00 AM",
            "10:",
            "10:01:",
            "10:001",
            "3/10 10:30",
            "Mar 10 10:30",
            "##3/10/2100##",
            "#3/10/2100",
            "3/10/2100;",
            "3月4月",
            "2100年2101年3月10日",
            "10時11時00分",
            "10時01分 10:01",
            "２１００-03-10",
            "123456789-03-10",
            "999999999999999999999999",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn any_row_of_parts_is_a_moment_or_none() {
        const PARTS: [&str; 24] = [
            "1", "03", "10", "21", "99", "0", "210", "2100", "99999999", "Mar", "march", "Wed", "AM", "pm", "Z", "gmt",
            "T", "年", "分", "-", "+", ":", "/", ".",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let now = Timestamp::parse(NOW).unwrap();
        let (first, last) = RANGE;
        let mut read_so_far = 0;
        for _ in 0..200_000 {
            let text: String = (0..random.usize(1..12))
                .flat_map(|_| [*random.choice(&PARTS).unwrap(), *random.choice(&["", " "]).unwrap()])
                .collect();
            if let Some(moment) = read(&text, now) {
                assert!((first..=last).contains(&moment.ticks()), "{text}");
                read_so_far += 1;
            }
        }
        assert!(read_so_far > 500, "{read_so_far}");
    }

    #[test]
    fn what_is_shown_is_read_back() {
        let mut random = fastrand::Rng::with_seed(9);
        let (first, last) = RANGE;
        for _ in 0..1_000 {
            let moment = Timestamp::from_ticks(random.i64(first..=last));
            assert_eq!(read(&moment.to_string(), moment), Some(moment), "{moment}");
        }
    }
}
