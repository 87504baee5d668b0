//! Query strings and their value types (H9–H12).

use std::num::IntErrorKind;
use std::time::Duration;

use taskhub_api::percent::decode;
use taskhub_api::status;
use taskhub_core::limits;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use super::problem::Problem;
use super::time;

/// Rows of a page unless the caller says otherwise; the Python client reads no second page (H76).
const TOP_DEFAULT: usize = 100;

/// The pairs of a query, decoded. What was encoded is the caller's: a blank at the end of a prefix or of a reason
/// belongs to it. A bare one cannot be part of a URL, so nothing is trimmed (H9); values of a type say by themselves
/// whether blanks around them matter.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Those that can be read.
    pairs: Vec<(String, String)>,
    is_whole: bool,
}

impl Query {
    /// Decodes a query; a percent sign without digits stands for itself.
    pub(crate) fn parse(raw: &str) -> Self {
        let text = |part: &str| decode(&part.replace('+', " "));
        let mut query = Self {
            pairs: Vec::new(),
            is_whole: true,
        };
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (text(name), text(value)) {
                (Some(name), Some(value)) => query.pairs.push((name, value)),
                (_, _) => query.is_whole = false,
            }
        }
        query
    }

    /// The query, if all of it could be read. Until the caller's key is known, what cannot be read does not matter
    /// (H30).
    ///
    /// # Errors
    ///
    /// If a name or a value is not valid UTF-8.
    pub(crate) fn whole(self) -> Result<Self, Problem> {
        if self.is_whole {
            Ok(self)
        } else {
            Err(Problem::argument("the query is not valid UTF-8"))
        }
    }

    /// The first parameter name that is not in the list.
    pub(crate) fn other_than(&self, names: &[&str]) -> Option<&str> {
        let mut given = self.pairs.iter().map(|(name, _)| name.as_str());
        given.find(|given| !names.iter().any(|name| given.eq_ignore_ascii_case(name)))
    }

    /// A text; the first counts if there are several (H9).
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        let found = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A text that counts as absent when it is empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// A value with surrounding blanks removed, for parameters that are not free text (H10).
    pub(crate) fn bare(&self, name: &str) -> Option<&str> {
        self.text(name).map(str::trim)
    }

    /// A boolean; anything else counts as absent (H10).
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.bare(name)? {
            yes if yes.eq_ignore_ascii_case("true") => Some(true),
            no if no.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// Rows of a page: a value that is not positive counts as absent, a value that is too large is lowered (H10).
    pub(crate) fn top(&self, name: &str) -> usize {
        let wanted = self.bare(name).and_then(|text| match text.parse::<i64>() {
            Ok(rows) => Some(rows),
            // More than a number holds is a number still.
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(i64::MAX),
            Err(_) => None,
        });
        match wanted.filter(|rows| *rows > 0) {
            None => TOP_DEFAULT,
            Some(rows) => usize::try_from(rows).unwrap_or(usize::MAX).min(limits::PAGE_ROWS_MAX),
        }
    }

    /// Seconds with a fraction; a value that is not a number counts as absent.
    ///
    /// # Errors
    ///
    /// For negative and infinite ones.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<Duration>, Problem> {
        let Some(seconds) = self.bare(name).and_then(|text| text.parse::<f64>().ok()) else {
            return Ok(None);
        };
        let problem = || Problem::argument(format!("`{name}` must be a number of seconds, 0 or more"));
        if !seconds.is_finite() || seconds < 0.0 {
            return Err(problem());
        }
        // Beyond what a duration holds is beyond every limit anyway.
        Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
    }

    /// A moment; if it is given and cannot be read, its text.
    ///
    /// # Errors
    ///
    /// For an invalid time.
    pub(crate) fn time(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, &str> {
        let Some(text) = self.filled(name) else {
            return Ok(None);
        };
        time::of_query(text, now).map(Some).ok_or(text)
    }

    /// The statuses named, in any spelling of the parameter that clients use (H75).
    pub(crate) fn statuses(&self) -> Statuses {
        self.statuses_in(&["runtimeStatus", "runtimeStats"])
    }

    /// The statuses of lists with one of these names.
    pub(crate) fn statuses_in(&self, names: &[&str]) -> Statuses {
        let is_list = |known: &str| names.iter().any(|name| known.eq_ignore_ascii_case(name));
        let lists = self.pairs.iter().filter(|(known, _)| is_list(known));
        Statuses::parse(&lists.map(|(_, value)| value.as_str()).collect::<Vec<_>>())
    }
}

/// A list of statuses (H10, H12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statuses {
    /// Whether there was a list at all.
    pub(crate) is_present: bool,
    /// What was understood of it.
    pub(crate) known: Vec<RuntimeStatus>,
    /// The words that were not.
    pub(crate) unknown: Vec<String>,
}

impl Statuses {
    fn parse(lists: &[&str]) -> Self {
        let items = lists.iter().flat_map(|list| list.split(',')).map(str::trim);
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for word in items.filter(|word| !word.is_empty()) {
            match status::read(word) {
                Some(status) => known.push(status),
                None => unknown.push(word.to_owned()),
            }
        }
        Self {
            is_present: !lists.is_empty(),
            known,
            unknown,
        }
    }
}

/// The message for an unknown status.
pub(crate) fn no_status(word: &str) -> String {
    let all: Vec<String> = RuntimeStatus::ALL.iter().map(ToString::to_string).collect();
    format!("unknown status `{word}`: expected one of {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw).whole().unwrap()
    }

    #[test]
    fn names_match_in_any_case_and_the_first_value_counts() {
        let query = query("taskhub=A&TASKHUB=B&reason=1+%2B+1%25&empty&&x=100%");
        assert_eq!(query.text("taskHub"), Some("A"));
        assert_eq!(query.text("reason"), Some("1 + 1%"));
        assert_eq!(query.text("empty"), Some(""));
        assert_eq!(query.filled("empty"), None);
        assert_eq!(query.text("x"), Some("100%"));
        let broken = Query::parse("a=%ff&code=1&%ff=2");
        assert_eq!((broken.text("a"), broken.text("code")), (None, Some("1")));
        assert!(broken.whole().is_err());
    }

    #[test]
    fn what_was_encoded_belongs_to_the_value() {
        let query = query("instanceIdPrefix=Order%20&reason=%20two%20spaces+&n%20=x&blank=%20&tab=%09a%0a");
        assert_eq!(query.text("instanceIdPrefix"), Some("Order "));
        assert_eq!(query.text("reason"), Some(" two spaces "));
        assert_eq!((query.text("n "), query.text("n")), (Some("x"), None));
        assert_eq!(query.filled("blank"), Some(" "));
        assert_eq!(query.text("tab"), Some("\ta\n"));
    }

    #[test]
    fn booleans_are_true_or_false_in_any_case() {
        let query = query("a=True&b=%20FALSE+&c=1&d=");
        assert_eq!(query.flag("a"), Some(true));
        assert_eq!(query.flag("b"), Some(false));
        assert_eq!((query.flag("c"), query.flag("d"), query.flag("e")), (None, None, None));
    }

    #[test]
    fn pages_have_a_hundred_rows_unless_a_sensible_number_is_given() {
        let rows = |raw: &str| query(raw).top("top");
        assert_eq!((rows(""), rows("top=15"), rows("top=+7")), (100, 15, 7));
        assert_eq!((rows("top=0"), rows("top=-1"), rows("top=x")), (100, 100, 100));
        let long = "9".repeat(30);
        assert_eq!(rows(&format!("top={long}")), 1000);
        assert_eq!(rows(&format!("top=-{long}")), 100);
        assert_eq!((rows("top=1000"), rows("top=1001"), rows("top=%2B7")), (1000, 1000, 7));
    }

    #[test]
    fn seconds_may_have_a_fraction_and_are_never_negative() {
        let seconds = |raw: &str| {
            query(raw)
                .seconds("t")
                .map(|value| value.map(|value| value.as_millis()))
        };
        assert_eq!(seconds("t=0.5").unwrap(), Some(500));
        assert_eq!(seconds("t=0").unwrap(), Some(0));
        assert_eq!(seconds("t=%201.5+").unwrap(), Some(1_500));
        assert_eq!((seconds("t=x").unwrap(), seconds("").unwrap()), (None, None));
        for bad in ["t=-1", "t=NaN", "t=inf", "t=-inf"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_is_told_apart_from_none() {
        let now = Timestamp::from_micros(0);
        let query = query("a=3/10/2100&b=soon&c=&d=%20");
        assert_eq!(query.time("a", now), Ok(Timestamp::parse("2100-03-10T00:00:00Z")));
        assert_eq!(query.time("b", now), Err("soon"));
        assert_eq!((query.time("c", now), query.time("x", now)), (Ok(None), Ok(None)));
        assert_eq!(query.time("d", now), Err(" "));
    }

    #[test]
    fn statuses_come_as_names_and_numbers_in_one_list_or_several() {
        use RuntimeStatus::{Completed, Pending, Running};
        let found = query("runtimeStatus=completed,RUNNING&runtimestatus=6,,nonsense").statuses();
        assert_eq!(found.known, [Completed, Running, Pending]);
        assert_eq!(found.unknown, ["nonsense"]);
        assert_eq!(query("runtimeStats=1").statuses().known, [Completed]);
        let typo = query("runtimeStatus=Compleded").statuses();
        assert!(typo.is_present && typo.known.is_empty());
        assert_eq!(query("").statuses(), Statuses::default());
    }
}
