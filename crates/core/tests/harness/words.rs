//! The words of one script line, and the values they stand for.

use std::collections::VecDeque;
use std::time::Duration;

use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

/// The day on which scripts play, unless a time names another.
pub(crate) const DAY: &str = "2024-01-01";

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// A bare word.
    Bare(String),
    /// `"…"`, without its quotes; there are no escapes.
    Quoted(String),
    /// `<N bytes>`, a payload of that length.
    Bytes(usize),
}

/// Reads a line from left to right. A line that makes no sense panics, which fails its scenario.
#[derive(Debug)]
pub(crate) struct Words {
    line: String,
    rest: VecDeque<Word>,
}

impl Words {
    pub(crate) fn new(line: &str) -> Self {
        let mut words = Self {
            line: line.to_owned(),
            rest: VecDeque::new(),
        };
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let (word, after) = match first {
                '"' => words.split(rest, '"', |text| Word::Quoted(text.to_owned())),
                '<' => words.split(rest, '>', |text| {
                    let digits = text.trim_end_matches(" bytes");
                    digits.parse().map_or_else(|_| Word::Bare(text.to_owned()), Word::Bytes)
                }),
                _ => {
                    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    let (text, after) = rest.split_at(end);
                    (Word::Bare(text.to_owned()), after)
                }
            };
            words.rest.push_back(word);
            rest = after.trim_start();
        }
        words
    }

    fn split<'a>(&self, text: &'a str, close: char, word: impl Fn(&str) -> Word) -> (Word, &'a str) {
        let Some((inner, after)) = text.get(1..).and_then(|text| text.split_once(close)) else {
            self.wrong("a closing mark is missing")
        };
        (word(inner), after)
    }

    pub(crate) fn wrong(&self, what: &str) -> ! {
        panic!("cannot read `{}`: {what}", self.line)
    }

    /// The next word, if it is this one.
    pub(crate) fn has(&mut self, wanted: &str) -> bool {
        let found = matches!(self.rest.front(), Some(Word::Bare(text)) if text == wanted);
        if found {
            self.rest.pop_front();
        }
        found
    }

    pub(crate) fn bare(&mut self) -> Option<String> {
        match self.rest.front()? {
            Word::Bare(_) => {
                let Some(Word::Bare(text)) = self.rest.pop_front() else {
                    unreachable!("it was looked at")
                };
                Some(text)
            }
            Word::Quoted(_) | Word::Bytes(_) => None,
        }
    }

    pub(crate) fn word(&mut self) -> String {
        self.bare().unwrap_or_else(|| self.wrong("a word is missing"))
    }

    /// `#3`.
    pub(crate) fn id(&mut self) -> i32 {
        let text = self.word();
        let number = text.strip_prefix('#').and_then(|digits| digits.parse().ok());
        number.unwrap_or_else(|| self.wrong("an id like `#3` is missing"))
    }

    pub(crate) fn number(&mut self) -> usize {
        let number = self.word().parse().ok();
        number.unwrap_or_else(|| self.wrong("a number is missing"))
    }

    pub(crate) fn name(&mut self) -> Name {
        Name::new(&self.word()).unwrap_or_else(|refusal| self.wrong(&refusal.to_string()))
    }

    pub(crate) fn instance(&mut self) -> InstanceId {
        InstanceId::new(&self.word()).unwrap_or_else(|refusal| self.wrong(&refusal.to_string()))
    }

    /// A payload, if one comes next.
    pub(crate) fn payload(&mut self) -> Option<Payload> {
        match self.rest.front()? {
            Word::Bare(_) => None,
            Word::Quoted(text) => {
                let payload = Payload::text(text);
                self.rest.pop_front();
                Some(payload)
            }
            Word::Bytes(length) => {
                let payload = Payload::new(vec![b'x'; *length]);
                self.rest.pop_front();
                Some(payload)
            }
        }
    }

    /// `Boom "it broke" final because Cause "a reason"`.
    pub(crate) fn failure(&mut self) -> Failure {
        let error_type = self.word();
        let message = self.payload().map(|text| text.to_text()).unwrap_or_default();
        let mut failure = Failure::new(&error_type, message);
        if self.has("final") {
            failure = failure.non_retriable();
        }
        if self.has("because") {
            failure = failure.caused_by(self.failure());
        }
        failure
    }

    /// `colour=red`.
    pub(crate) fn tag(&mut self, tags: &mut Tags) {
        let text = self.word();
        let Some((key, value)) = text.split_once('=') else {
            self.wrong("a tag like `colour=red` is missing")
        };
        tags.insert(key.to_owned(), value.to_owned());
    }

    /// `10:00:00` on the day of the script, a full time, or `now`.
    pub(crate) fn time(&mut self, now: Timestamp) -> Timestamp {
        let text = self.word();
        if text == "now" {
            return now;
        }
        if let Some(seconds) = text.strip_prefix('+').and_then(|text| text.strip_suffix('s')) {
            let seconds = seconds
                .parse()
                .unwrap_or_else(|_| self.wrong("a span like `+5s` is missing"));
            return now.plus(Duration::from_secs(seconds));
        }
        let full = if text.contains('T') {
            text
        } else {
            format!("{DAY}T{text}Z")
        };
        Timestamp::parse(&full).unwrap_or_else(|| self.wrong("a time like `10:00:00` is missing"))
    }

    /// Nothing may be left over.
    pub(crate) fn end(&self) {
        if !self.rest.is_empty() {
            self.wrong(&format!("{:?} is left over", self.rest));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Splits at ` · `, but not inside quotes.
pub(crate) fn parts(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        quoted ^= letter == '"';
        match (letter, parts.last_mut()) {
            ('·', _) if !quoted => parts.push(String::new()),
            (_, Some(part)) => part.push(letter),
            (_, None) => unreachable!("there is always a part"),
        }
    }
    parts
}
