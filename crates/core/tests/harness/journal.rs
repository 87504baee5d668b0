//! What one block of a script changed, gathered commit by commit and shown at the end of the block.

use std::collections::BTreeMap;

use taskhub_core::commit::{Change, Commit, Update};
use taskhub_core::id::InstanceId;
use taskhub_core::instance::InstanceState;
use taskhub_core::status::InstanceInfo;

use super::show;
use super::world::MAIN;

/// The lines of a block, in the order in which they are shown.
const LABELS: [&str; 16] = [
    "turn", "history", "dispatch", "timer", "dropped", "discard", "outbox", "status", "output", "custom", "failure",
    "updated", "inbox", "purged", "refused", "ignored",
];

/// Labels whose phrases share one line.
const JOINED: [&str; 4] = ["turn", "history", "discard", "inbox"];

/// The changes of one block.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    with_times: bool,
    before: BTreeMap<InstanceId, InstanceInfo>,
    touched: BTreeMap<InstanceId, Touched>,
}

/// The changes of one instance.
#[derive(Debug, Default)]
struct Touched {
    lines: BTreeMap<&'static str, Vec<String>>,
    is_new: bool,
    inbox_changed: bool,
}

impl Touched {
    fn note(&mut self, label: &'static str, text: String) {
        self.lines.entry(label).or_default().push(text);
    }
}

impl Journal {
    pub(crate) fn open(states: &BTreeMap<InstanceId, InstanceState>, with_times: bool) -> Self {
        let before = states.iter().map(|(id, state)| (id.clone(), state.info.clone()));
        Self {
            with_times,
            before: before.collect(),
            touched: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, instance: &InstanceId, label: &'static str, text: impl Into<String>) {
        assert!(LABELS.contains(&label), "`{label}` has no place in a block");
        self.touched
            .entry(instance.clone())
            .or_default()
            .note(label, text.into());
    }

    /// Notes what a commit does, before it is applied to `state`.
    pub(crate) fn take(&mut self, state: Option<&InstanceState>, commit: &Commit) {
        let touched = self.touched.entry(commit.instance.clone()).or_default();
        for item in &commit.outbox {
            touched.note("outbox", show::outbox(item));
        }
        match (&commit.change, state) {
            (Some(Change::Create(creation)), state) => {
                touched.is_new = true;
                if state.is_some() || creation.replaces.is_some() {
                    touched.note("dropped", "all of the instance that had the id".to_owned());
                }
                touched.inbox_changed = true;
            }
            (Some(Change::Update(update)), Some(state)) => {
                take_update(touched, state, update, self.with_times);
            }
            (Some(Change::Purge), _) => touched.note("purged", "everything".to_owned()),
            (Some(Change::Update(_)), None) => unreachable!("an update has an instance"),
            (None, _) => touched.note("ignored", "a message that changes nothing here".to_owned()),
        }
    }

    /// The lines of the block.
    pub(crate) fn close(self, states: &BTreeMap<InstanceId, InstanceState>) -> String {
        let mut shown = String::new();
        let (main, others): (Vec<_>, Vec<_>) = self.touched.into_iter().partition(|(id, _)| id.as_str() == MAIN);
        for (id, mut touched) in main.into_iter().chain(others) {
            if let Some(state) = states.get(&id) {
                let before = self.before.get(&id).filter(|_| !touched.is_new);
                note_info(&mut touched, before, &state.info, self.with_times);
                if touched.inbox_changed && !state.inbox.is_empty() {
                    let inbox: Vec<String> = state.inbox.values().map(show::message).collect();
                    touched.lines.insert("inbox", inbox);
                }
            }
            for label in LABELS {
                for line in lines(label, touched.lines.get(label).map_or(&[], Vec::as_slice)) {
                    if id.as_str() != MAIN {
                        shown.extend([id.as_str(), ": "]);
                    }
                    shown.extend([format!("{label:<8} "), line, "\n".to_owned()]);
                }
            }
        }
        if shown.is_empty() {
            "nothing\n".to_owned()
        } else {
            shown
        }
    }
}

fn take_update(touched: &mut Touched, state: &InstanceState, update: &Update, with_times: bool) {
    for event in &update.events {
        touched.note("history", show::event(event, with_times));
    }
    for open in &update.opened {
        if let Some((label, text)) = show::opened(open) {
            touched.note(label, text);
        }
    }
    let closed = update.closed.iter().filter_map(|occurrence| state.open.get(occurrence));
    // A completion closes what it completes, and that is not dropped.
    let is_completion = update.events.is_empty() && !update.inbox_added.is_empty();
    for open in closed.filter(|_| !is_completion) {
        touched.note("dropped", show::closed(open));
    }
    let discarded = update.inbox_taken.iter().filter_map(|number| state.inbox.get(number));
    for message in discarded.filter(|message| !update.events.contains(&message.event)) {
        touched.note("discard", show::message(message));
    }
    touched.inbox_changed |= !update.inbox_added.is_empty() || !update.inbox_taken.is_empty();
}

/// Notes what the status record says that it did not say before the block.
fn note_info(touched: &mut Touched, before: Option<&InstanceInfo>, info: &InstanceInfo, with_times: bool) {
    let is_new = |changed: fn(&InstanceInfo, &InstanceInfo) -> bool| before.is_none_or(|before| changed(before, info));
    let is_next = before.map_or(0, |before| before.ordinal) < info.ordinal;
    if is_next || is_new(|before, info| before.status != info.status) {
        let next = if is_next {
            format!(", execution {}", info.ordinal)
        } else {
            String::new()
        };
        touched.note("status", format!("{}{next}", info.status));
    }
    let outputs = [
        ("output", before.and_then(|before| before.output.as_ref()), &info.output),
        (
            "custom",
            before.and_then(|before| before.custom_status.as_ref()),
            &info.custom_status,
        ),
    ];
    for (label, before, after) in outputs {
        if before != after.as_ref() {
            let text = show::payload(after.as_ref());
            touched.note(
                label,
                if text.is_empty() {
                    "none".to_owned()
                } else {
                    text.trim_start().to_owned()
                },
            );
        }
    }
    if let Some(failure) = &info.failure
        && is_new(|before, info| before.failure != info.failure)
    {
        touched.note("failure", show::failure(failure));
    }
    if with_times && is_new(|before, info| before.updated_at != info.updated_at) {
        touched.note("updated", show::time(info.updated_at));
    }
}

/// The lines of one label: phrases that share a line are counted and wrapped.
fn lines(label: &str, phrases: &[String]) -> Vec<String> {
    const WIDTH: usize = 110;
    const PHRASES_MAX: usize = 30;
    let mut counted: Vec<(&String, usize)> = Vec::new();
    for phrase in phrases {
        match counted.last_mut() {
            Some((last, count)) if *last == phrase => *count += 1,
            _ => counted.push((phrase, 1)),
        }
    }
    let left_out = counted.len().saturating_sub(PHRASES_MAX);
    if left_out > 0 {
        counted.drain(1..=left_out);
    }
    let gap = (left_out > 0).then(|| format!("… {left_out} more …"));
    let mut phrases: Vec<String> = counted
        .into_iter()
        .map(|(phrase, count)| match count {
            1 => phrase.clone(),
            _ => format!("{phrase} (×{count})"),
        })
        .collect();
    if let Some(gap) = gap {
        phrases.insert(1, gap);
    }
    if !JOINED.contains(&label) {
        return phrases;
    }
    let mut lines: Vec<String> = Vec::new();
    for phrase in phrases {
        match lines.last_mut() {
            Some(line) if line.chars().count() + phrase.chars().count() < WIDTH => {
                line.push_str(" · ");
                line.push_str(&phrase);
            }
            _ => lines.push(phrase),
        }
    }
    lines
}
