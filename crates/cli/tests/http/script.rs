//! Cases as data: requests and whole answers, in text files beside this one.
//!
//! ```text
//! == What this shows
//! POST {base}/orchestrators/Echo
//! some-header: value
//!
//! "body"
//! --> 202
//! location: {links}/instances/<id>?{query}
//!
//! {"id":"<id>",…}
//! until ended <id>
//! ```
//!
//! `<name>` takes what stands there, and from then on means it; `<*>` takes anything. Lines of a body are
//! joined without what is around them. `{payload}` is the body that starts answer with (H54), and `{uris}` takes its
//! links, which are called as they were given out. An answer without a body must have none, nor a content type.

use std::collections::BTreeMap;

use crate::support::{Answer, HUB, Server};

/// One thing to do.
#[derive(Debug)]
enum Step {
    /// Send this, and compare the answer.
    Exchange {
        line: usize,
        method: String,
        path: String,
        headers: Vec<(String, String)>,
        body: String,
        expected: Expected,
    },
    /// Wait for an instance: to begin or to end.
    Until { line: usize, word: String, id: String },
}

#[derive(Debug, Default)]
struct Expected {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

const METHODS: [&str; 5] = ["GET ", "POST ", "PUT ", "DELETE ", "PATCH "];

/// Runs all cases of a file over a surface, one after the other, and counts the exchanges. `after` is called behind
/// each case with its title.
pub(crate) fn run(server: &Server, text: &str, base: &str, after: impl Fn(&str)) -> usize {
    let mut count = 0;
    for (title, steps) in cases(text) {
        let mut names = Names::new(server, base);
        for step in steps {
            let place = |line: usize| format!("`{title}`, line {line}, on {base}");
            match step {
                Step::Until { line, word, id } => {
                    let until = match word.as_str() {
                        "begun" => "started",
                        "ended" => "ended",
                        _ => panic!("until {word}? {}", place(line)),
                    };
                    server.wait(&names.fill(&id), until);
                }
                Step::Exchange {
                    line,
                    method,
                    path,
                    headers,
                    body,
                    expected,
                } => {
                    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), names.fill(v))).collect();
                    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    let path = names.fill(&path);
                    let answer = server.send(&method, &path, &headers, &names.fill(&body));
                    if let Err(difference) = names.compare(&expected, &answer) {
                        panic!("{}\n{method} {path}\n{difference}\nanswer: {answer:#?}", place(line));
                    }
                    count += 1;
                }
            }
        }
        after(&title);
    }
    count
}

/// What `{name}` and `<name>` mean.
struct Names {
    fixed: Vec<(&'static str, String)>,
    taken: BTreeMap<String, String>,
}

impl Names {
    fn new(server: &Server, base: &str) -> Self {
        let origin = server.origin();
        // The RPC surface gives out links to the webhook surface (H43).
        let prefix = if base == "/durabletask" {
            "/runtime/webhooks/durabletask"
        } else {
            base
        };
        let links = format!("{origin}{prefix}");
        let query = format!("taskHub={HUB}&connection=Storage");
        let instance = format!("{links}/instances/<id>");
        let payload = format!(
            "{{\"id\":\"<id>\",\"statusQueryGetUri\":\"{instance}?{query}\",\
             \"sendEventPostUri\":\"{instance}/raiseEvent/{{eventName}}?{query}\",\
             \"terminatePostUri\":\"{instance}/terminate?reason={{text}}&{query}\",\
             \"rewindPostUri\":\"{instance}/rewind?reason={{text}}&{query}\",\
             \"purgeHistoryDeleteUri\":\"{instance}?{query}\",\
             \"restartPostUri\":\"{instance}/restart?{query}\",\
             \"suspendPostUri\":\"{instance}/suspend?reason={{text}}&{query}\",\
             \"resumePostUri\":\"{instance}/resume?reason={{text}}&{query}\"}}"
        );
        let uris = "{\"id\":\"<id>\",\"statusQueryGetUri\":\"<status>\",\
             \"sendEventPostUri\":\"<event>{eventName}<event-query>\",\
             \"terminatePostUri\":\"<terminate>{text}<terminate-query>\",\
             \"rewindPostUri\":\"<rewind>{text}<rewind-query>\",\
             \"purgeHistoryDeleteUri\":\"<purge>\",\
             \"restartPostUri\":\"<restart>\",\
             \"suspendPostUri\":\"<suspend>{text}<suspend-query>\",\
             \"resumePostUri\":\"<resume>{text}<resume-query>\"}";
        Self {
            fixed: vec![
                ("{payload}", payload),
                ("{uris}", uris.to_owned()),
                ("{base}", base.to_owned()),
                ("{links}", links),
                ("{origin}", origin),
                ("{query}", query),
                ("{hub}", HUB.to_owned()),
            ],
            taken: BTreeMap::new(),
        }
    }

    /// A text with all names replaced that are known so far.
    fn fill(&self, text: &str) -> String {
        let fixed = self.fixed.iter();
        let text = fixed.fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let taken = self.taken.iter();
        taken.fold(text, |text, (name, value)| text.replace(&format!("<{name}>"), value))
    }

    fn compare(&mut self, expected: &Expected, answer: &Answer) -> Result<(), String> {
        if answer.status != expected.status {
            return Err(format!("expected status {}", expected.status));
        }
        for (name, value) in &expected.headers {
            let found = answer.header(name).ok_or_else(|| format!("no header {name}"))?;
            self.take(value, found)?;
        }
        let kind = answer.header("content-type");
        if expected.body.is_empty() {
            let length = answer.header("content-length");
            if kind.is_some() || length != Some("0") || !answer.body.is_empty() {
                return Err("expected an empty body without content type".to_owned());
            }
            return Ok(());
        }
        if kind != Some("application/json; charset=utf-8") {
            return Err("expected JSON".to_owned());
        }
        self.take(&expected.body, &answer.body)
    }

    /// Compares a text with a pattern, and takes what stands in the place of new names.
    fn take(&mut self, pattern: &str, text: &str) -> Result<(), String> {
        let mut pattern = self.fill(pattern);
        let mut rest = text;
        while let Some((before, name, after)) = next_name(&pattern) {
            let tail = rest.strip_prefix(before).ok_or_else(|| differs(before, rest))?;
            let end = next_name(after).map_or(after, |(literal, _, _)| literal);
            let length = if end.is_empty() {
                tail.len()
            } else {
                tail.find(end).ok_or_else(|| differs(end, tail))?
            };
            let (value, remaining) = tail.split_at(length);
            if name != "*" {
                self.taken.insert(name.to_owned(), value.to_owned());
            }
            rest = remaining;
            // From here on the name means what was just taken.
            pattern = self.fill(after);
        }
        if rest == pattern {
            Ok(())
        } else {
            Err(differs(&pattern, rest))
        }
    }
}

fn differs(expected: &str, found: &str) -> String {
    format!("expected {expected}\nfound    {found}")
}

/// The first `<name>` of a pattern, with what stands before and behind it.
fn next_name(pattern: &str) -> Option<(&str, &str, &str)> {
    let start = pattern.find('<')?;
    let end = start + pattern[start..].find('>')?;
    Some((&pattern[..start], &pattern[start + 1..end], &pattern[end + 1..]))
}

/// The cases of a file: titles and steps.
fn cases(text: &str) -> Vec<(String, Vec<Step>)> {
    let mut cases: Vec<(String, Vec<Step>)> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push((title.to_owned(), Vec::new()));
        } else if let Some(wait) = line.strip_prefix("until ") {
            let (word, id) = wait.split_once(' ').unwrap();
            let step = Step::Until {
                line: index + 1,
                word: word.to_owned(),
                id: id.to_owned(),
            };
            cases.last_mut().unwrap().1.push(step);
        } else if METHODS.iter().any(|method| line.starts_with(method)) {
            let (method, path) = line.split_once(' ').unwrap();
            let (headers, body) = message(&mut lines, |line| line.starts_with("--> "));
            let (_, status) = lines.next().unwrap();
            let status = status.trim_start_matches("--> ").trim().parse().unwrap();
            let is_next = |line: &str| {
                line.starts_with("== ")
                    || line.starts_with("until ")
                    || METHODS.iter().any(|method| line.starts_with(method))
            };
            let (expected_headers, expected_body) = message(&mut lines, is_next);
            let step = Step::Exchange {
                line: index + 1,
                method: method.to_owned(),
                path: path.to_owned(),
                headers,
                body,
                expected: Expected {
                    status,
                    headers: expected_headers,
                    body: expected_body,
                },
            };
            cases.last_mut().unwrap().1.push(step);
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "line {}: {line}", index + 1);
        }
    }
    cases
}

type Headers = Vec<(String, String)>;

/// Headers and body up to the line that ends them.
fn message<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'a str)>>,
    is_end: impl Fn(&str) -> bool,
) -> (Headers, String) {
    let mut headers = Headers::new();
    let mut body = None::<String>;
    while let Some((_, line)) = lines.next_if(|(_, line)| !is_end(line)) {
        match (&mut body, line.split_once(": ")) {
            _ if line.starts_with('#') => {}
            (Some(body), _) => body.push_str(line.trim()),
            (None, _) if line.is_empty() => body = Some(String::new()),
            (None, Some((name, value))) => headers.push((name.to_owned(), value.to_owned())),
            (None, None) => headers.push((line.trim_end_matches(':').to_owned(), String::new())),
        }
    }
    (headers, body.unwrap_or_default())
}
