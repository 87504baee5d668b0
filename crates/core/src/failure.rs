//! Failure of user code, as data: a value in history. It is a Rust error only as the cause of one.

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::{FAILURE_BYTES_MAX, FAILURE_CAUSES_MAX};

/// Share of the bytes of a failure that properties may take.
const PROPERTIES_BYTES_MAX: usize = FAILURE_BYTES_MAX / 4;
/// Begin and end of the mark that stands where something was cut.
const CUT_BEGIN: &str = "… [";
const CUT_END: &str = " bytes cut]";
/// What a mark counts at the innermost cause.
const CAUSES: &str = "causes";
/// Longest mark, with as many digits as a number has.
const MARK_BYTES_MAX: usize = CUT_BEGIN.len() + 20 + CUT_END.len();
/// Bytes reserved for the notes about truncated properties and causes, per level and once.
const MARKS_BYTES_MAX: usize = (FAILURE_CAUSES_MAX + 2) * 2 * MARK_BYTES_MAX;

/// Error type of an answer that cannot be applied (R36).
pub const INVALID_RESPONSE: &str = "InvalidOrchestratorResponse";
/// Error type of a payload above the limit (R170).
pub const PAYLOAD_TOO_LARGE: &str = "PayloadTooLarge";
/// Error type of a payload that is nested too deep (H16).
pub const PAYLOAD_TOO_DEEP: &str = "PayloadTooDeep";
/// Error type a parent sees when its child's id is live (R71).
pub const ALREADY_EXISTS: &str = "OrchestrationAlreadyExists";
/// Error type a parent sees when its child was terminated (R69).
pub const TERMINATED: &str = "OrchestrationTerminated";
/// Error type of an activity whose every delivery was lost (R184).
pub const POISON: &str = "PoisonMessage";
/// Error type of code that takes another path on replay (R40).
pub const NON_DETERMINISM: &str = "NonDeterministicOrchestrationError";

/// What went wrong in user code (protocol `TaskFailureDetails`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Name of the error's type, as the language of the code calls it.
    pub error_type: String,
    /// Text for people.
    pub message: String,
    /// Stack trace, if the language gives one.
    pub stack_trace: Option<String>,
    /// The cause.
    pub inner: Option<Box<Failure>>,
    /// Whether retry policies must not try again.
    pub non_retriable: bool,
    /// Free-form members, forwarded unchanged; values are encoded protobuf `Value` messages.
    pub properties: BTreeMap<String, Vec<u8>>,
}

impl Failure {
    /// A failure of a type with a message.
    pub fn new(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// The same, marked so that no policy retries it.
    #[must_use]
    pub fn non_retriable(mut self) -> Self {
        self.non_retriable = true;
        self
    }

    /// The same with a cause. Causes that are too many are cut here already: a failure that is nested without end could
    /// be neither copied nor dropped.
    #[must_use]
    pub fn caused_by(mut self, inner: Failure) -> Self {
        self.inner = Some(Box::new(inner));
        let causes = self.cut_causes();
        self.mark_innermost(causes);
        self
    }

    /// The whole failure as one text for people: type, message, causes and stack traces.
    pub fn long_text(&self) -> String {
        let mut long = self.to_string();
        let mut inner = self.inner.as_deref();
        while let Some(cause) = inner {
            long = format!("{long}\n ---> {cause}");
            inner = cause.inner.as_deref();
        }
        match &self.stack_trace {
            Some(stack) => format!("{long}\n{stack}"),
            None => long,
        }
    }

    /// Bytes of text it holds, for limits and budgets.
    pub fn size(&self) -> usize {
        self.levels().map(Self::own_size).sum()
    }

    fn own_size(&self) -> usize {
        let properties: usize = self.properties.iter().map(property_size).sum();
        self.error_type.len() + self.message.len() + self.stack_trace.as_ref().map_or(0, String::len) + properties
    }

    /// Itself and its causes, from outside in.
    fn levels(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |failure| failure.inner.as_deref())
    }

    /// The same within the limits of a failure: the innermost causes, the last properties and the ends of the longest
    /// texts are cut, with a mark that says how much.
    #[must_use]
    pub fn limited(mut self) -> Self {
        let levels = self.levels().take(FAILURE_CAUSES_MAX + 2).count();
        if levels <= FAILURE_CAUSES_MAX + 1 && self.size() <= FAILURE_BYTES_MAX {
            return self;
        }
        let causes = self.cut_causes() + self.unmark_innermost();
        let properties = self.cut_properties();
        self.cut_texts();
        // Last, so that they are not cut themselves.
        let mut level = Some(&mut self);
        let mut properties = properties.into_iter();
        while let Some(failure) = level {
            failure.mark(properties.next().unwrap_or(0), "properties");
            level = failure.inner.as_deref_mut();
        }
        self.mark_innermost(causes);
        self
    }

    fn mark(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.message
                .extend([" ", CUT_BEGIN, &count.to_string(), " ", what, " cut]"]);
        }
    }

    fn mark_innermost(&mut self, causes: usize) {
        let mut level = Some(self);
        while let Some(failure) = level {
            if failure.inner.is_none() {
                failure.mark(causes, CAUSES);
            }
            level = failure.inner.as_deref_mut();
        }
    }

    /// Removes the note about truncated causes, and returns their number.
    fn unmark(&mut self) -> usize {
        let mark = self
            .message
            .strip_suffix(" cut]")
            .and_then(|text| text.strip_suffix(CAUSES));
        let found = mark.and_then(|text| {
            let (message, count) = text.strip_suffix(' ')?.rsplit_once(CUT_BEGIN)?;
            Some((message.strip_suffix(' ')?.len(), count.parse().ok()?))
        });
        let (length, count) = found.unwrap_or((self.message.len(), 0));
        self.message.truncate(length);
        count
    }

    fn unmark_innermost(&mut self) -> usize {
        let (mut count, mut level) = (0, Some(self));
        while let Some(failure) = level {
            if failure.inner.is_none() {
                count = failure.unmark();
            }
            level = failure.inner.as_deref_mut();
        }
        count
    }

    /// Drops the innermost causes; says how many, with those that were cut from them before.
    fn cut_causes(&mut self) -> usize {
        let mut last = self;
        for _ in 0..FAILURE_CAUSES_MAX {
            let Some(inner) = &mut last.inner else { return 0 };
            last = inner;
        }
        let (mut rest, mut count) = (last.inner.take(), 0);
        // One by one: dropped as a whole they would take as much stack as there are of them.
        while let Some(mut cause) = rest {
            count += 1 + cause.unmark();
            rest = cause.inner.take();
        }
        count
    }

    /// Drops properties that are too much; says how many of each level.
    fn cut_properties(&mut self) -> Vec<usize> {
        let (mut left, mut counts) = (PROPERTIES_BYTES_MAX, Vec::new());
        let mut level = Some(self);
        while let Some(failure) = level {
            let before = failure.properties.len();
            failure.properties.retain(|key, value| {
                let kept = left.checked_sub(property_size((key, value)));
                left = kept.unwrap_or(left);
                kept.is_some()
            });
            counts.push(before - failure.properties.len());
            level = failure.inner.as_deref_mut();
        }
        counts
    }

    /// Cuts the longest texts to one length, so that the short ones stay whole.
    fn cut_texts(&mut self) {
        let properties: usize = self
            .levels()
            .flat_map(|failure| &failure.properties)
            .map(property_size)
            .sum();
        let mut left = FAILURE_BYTES_MAX - MARKS_BYTES_MAX - properties;
        let texts = |failure: &Self| {
            [
                failure.error_type.len(),
                failure.message.len(),
                failure.stack_trace.as_ref().map_or(0, String::len),
            ]
        };
        let mut lengths: Vec<usize> = self.levels().flat_map(texts).collect();
        lengths.sort_unstable();
        let mut longest = 0;
        for (place, length) in lengths.iter().enumerate() {
            longest = left / (lengths.len() - place);
            if *length > longest {
                break;
            }
            left -= length;
        }
        let mut level = Some(self);
        while let Some(failure) = level {
            cut(&mut failure.error_type, longest);
            cut(&mut failure.message, longest);
            if let Some(stack_trace) = &mut failure.stack_trace {
                cut(stack_trace, longest);
            }
            level = failure.inner.as_deref_mut();
        }
    }
}

fn property_size((key, value): (&String, &Vec<u8>)) -> usize {
    key.len() + value.len()
}

/// A text for people that belongs to a failure, cut to what a failure may hold.
pub fn limited_text(mut text: String) -> String {
    cut(&mut text, FAILURE_BYTES_MAX);
    text
}

/// Cuts the end of a text, and says how much of it was cut, now and before.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let earlier = text
        .strip_suffix(CUT_END)
        .and_then(|text| text.rsplit_once(CUT_BEGIN))
        .and_then(|(whole, count)| Some((whole.len(), count.parse::<usize>().ok()?)));
    let (length, before) = earlier.unwrap_or((text.len(), 0));
    let kept = text.floor_char_boundary(bytes_max.saturating_sub(MARK_BYTES_MAX).min(length));
    let count = before.saturating_add(length - kept);
    text.truncate(kept);
    text.extend([CUT_BEGIN, &count.to_string(), CUT_END]);
    text.shrink_to_fit();
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.as_deref().map(|inner| inner as _)
    }
}

impl fmt::Display for Failure {
    /// `ErrorType: message`, the text that becomes an instance's output (R9).
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.error_type, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize, text: &str) -> Failure {
        let first = Failure::new("Cause", text);
        (1..levels).fold(first, |cause, level| {
            Failure::new(&format!("Type{level}"), text).caused_by(cause)
        })
    }

    #[test]
    fn what_is_within_the_limits_stays_as_it_is() {
        let mut failure = nested(FAILURE_CAUSES_MAX + 1, "a message");
        failure.stack_trace = Some("at home".to_owned());
        failure.properties.insert("key".to_owned(), vec![7; 100]);
        assert_eq!(failure.clone().limited(), failure);
        let exact = Failure::new("T", "m".repeat(FAILURE_BYTES_MAX - 1));
        assert_eq!(exact.clone().limited(), exact);
    }

    #[test]
    fn a_long_text_is_cut_and_says_how_much() {
        for unit in ["x", "ß", "漢", "🚀"] {
            let text = unit.repeat(70 << 20 >> 2);
            let failure = Failure::new("Boom", text.clone()).non_retriable().limited();
            assert!(failure.size() <= FAILURE_BYTES_MAX && failure.size() > FAILURE_BYTES_MAX * 9 / 10);
            let (kept, count) = failure.message.split_once("… [").unwrap();
            assert!(text.starts_with(kept));
            let count: usize = count.strip_suffix(" bytes cut]").unwrap().parse().unwrap();
            assert_eq!(kept.len() + count, text.len());
            assert!(failure.non_retriable && failure.error_type == "Boom");
            assert_eq!(failure.clone().limited(), failure);
        }
    }

    #[test]
    fn the_longest_are_cut_and_the_short_stay_whole() {
        let mut failure = nested(4, "short");
        failure.error_type = "t".repeat(1 << 20);
        failure.stack_trace = Some("s".repeat(50_000));
        if let Some(inner) = &mut failure.inner {
            inner.message = "m".repeat(5 << 20);
        }
        let limited = failure.clone().limited();
        assert!(limited.size() <= FAILURE_BYTES_MAX);
        assert_eq!(limited.message, "short");
        assert_eq!(limited.inner.as_ref().unwrap().error_type, "Type2");
        assert_eq!(limited.levels().count(), 4);
        // A third of the room each, so the shorter one is cut too.
        let lengths = [&limited.error_type, &limited.inner.as_ref().unwrap().message].map(String::len);
        assert!(
            lengths.iter().all(|length| (30_000..50_000).contains(length)),
            "{lengths:?}"
        );
        assert!(limited.stack_trace.unwrap().len() < 50_000);
    }

    #[test]
    fn causes_and_properties_that_are_too_many_are_cut() {
        for message in ["m", &"m".repeat(9_000)] {
            let nested = nested(100_000, message);
            assert_eq!(nested.levels().count(), FAILURE_CAUSES_MAX + 1);
            let limited = nested.clone().limited();
            assert!(limited.size() <= FAILURE_BYTES_MAX);
            assert_eq!(limited.levels().count(), FAILURE_CAUSES_MAX + 1);
            let last = &limited.levels().last().unwrap().message;
            let mark = format!(" … [{} causes cut]", 100_000 - FAILURE_CAUSES_MAX - 1);
            assert!(last.starts_with('m') && last.ends_with(&mark), "{last}");
        }

        let mut failure = Failure::new("Boom", "m");
        for number in 0..100_000 {
            failure.properties.insert(format!("key{number:06}"), vec![1; 10]);
        }
        let limited = failure.limited();
        assert!(limited.size() <= FAILURE_BYTES_MAX);
        let kept = limited.properties.len();
        assert!(kept > 1_000 && limited.properties.contains_key("key000000"));
        assert_eq!(limited.message, format!("m … [{} properties cut]", 100_000 - kept));
    }

    #[test]
    fn what_was_cut_before_is_counted_when_it_is_cut_again() {
        let text = "x".repeat(1 << 20);
        let once = Failure::new("Boom", text.clone()).limited();
        let around = Failure::new("Around", format!("it failed: {once}"))
            .caused_by(once)
            .limited();
        assert!(around.size() <= FAILURE_BYTES_MAX);
        for failure in around.levels() {
            let (kept, count) = failure.message.rsplit_once("… [").unwrap();
            let count: usize = count.strip_suffix(" bytes cut]").unwrap().parse().unwrap();
            let whole = if failure.error_type == "Boom" {
                text.len()
            } else {
                text.len() + "it failed: Boom: ".len()
            };
            assert_eq!(kept.len() + count, whole);
        }
    }
}
