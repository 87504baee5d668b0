//! Streamed responses: each part is read and encoded when the client has taken the previous one, so that the server
//! never holds a whole list or history in memory. If the rest cannot be read, the response must be cut short visibly,
//! because its head with the status 200 has already been sent: an error in the body would look like data, and a clean
//! end would look like a complete list.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use taskhub_api::history::Event;
use taskhub_api::merged::Shows;
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::id::{ExecutionId, InstanceId};
use taskhub_core::payload::Payload;
use taskhub_engine::hub::{HistoryPart, HistoryRange};
use taskhub_engine::{Error as EngineError, Hub, chain};

use super::history::HistoryView;
use super::problem::Problem;
use super::respond::{Cut, Parts};
use crate::answers::Room;

/// Size after which a part of a response is sent. An item is never split, so the largest item determines how much
/// memory a response holds.
const PART_BYTES: usize = 64 << 10;
/// Maximum bytes of a history read at a time for a streamed response; a single larger chunk is read whole.
const READ_BYTES_MAX: usize = 1 << 20;
/// Estimated bytes of an unanswered call besides its input.
const CALL_BYTES: usize = 256;

/// Why a text cannot be completed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the instance was restarted or purged while its history was being read")]
    Changed,
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Engine(error) => error.into(),
            Broken::Changed => Self::busy("the instance was restarted while its history was being read"),
        }
    }
}

/// A text that is produced item by item.
pub(super) trait Text: Send + 'static {
    /// Adds the next item, or the text after the last one; returns false at the end.
    fn write(&mut self, text: &mut Vec<u8>) -> impl Future<Output = Result<bool, Broken>> + Send;
}

/// The parts of a text.
pub(super) fn parts(mut text: impl Text) -> Parts {
    Parts::new(async move {
        let mut part = Vec::new();
        loop {
            match text.write(&mut part).await {
                Ok(true) if part.len() < PART_BYTES => {}
                Ok(goes_on) => return Ok((part.into(), goes_on.then(|| parts(text)))),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cutting a response short: cannot read the rest of it");
                    return Err(Cut);
                }
            }
        }
    })
}

/// Adds an item of an array.
pub(super) fn item(text: &mut Vec<u8>, is_first: &mut bool, value: &impl serde::Serialize) {
    if !std::mem::replace(is_first, false) {
        text.push(b',');
    }
    // The value consists of texts, numbers and validated JSON, so serialization cannot fail.
    let _written = serde_json::to_writer(text, value);
}

/// The events of a history from one on, read as they are wanted: those that there were when it was first looked at.
#[derive(Debug)]
pub(super) struct Events {
    hub: Arc<Hub>,
    instance: InstanceId,
    execution: ExecutionId,
    /// Events that were read and not taken.
    read: VecDeque<HistoryEvent>,
    /// The first that was not read, and the end.
    next: u32,
    total: u32,
}

impl Events {
    /// Those from the beginning of a part on, which is as much as was read so far.
    pub(super) fn new(hub: Arc<Hub>, instance: InstanceId, from: u32, first: HistoryPart) -> Self {
        let read = u32::try_from(first.events.len()).unwrap_or(u32::MAX);
        Self {
            hub,
            instance,
            execution: first.execution,
            read: first.events.into(),
            next: from.saturating_add(read),
            total: first.total,
        }
    }

    /// The same once more, from the first event of the history on.
    fn again(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            instance: self.instance.clone(),
            execution: self.execution,
            read: VecDeque::new(),
            next: 0,
            total: self.total,
        }
    }

    async fn next(&mut self) -> Result<Option<HistoryEvent>, Broken> {
        if self.read.is_empty() && self.next < self.total {
            let range = HistoryRange {
                from: self.next,
                events_max: self.total - self.next,
                bytes_max: READ_BYTES_MAX,
            };
            let part = self.hub.history_part(&self.instance, range).await?;
            let part = part.filter(|part| part.execution == self.execution && !part.events.is_empty());
            let mut events = part.ok_or(Broken::Changed)?.events;
            events.truncate(range.events_max as usize);
            self.next += u32::try_from(events.len()).unwrap_or(u32::MAX);
            self.read = events.into();
        }
        Ok(self.read.pop_front())
    }
}

/// A complete history in the form of Taskhub's own API.
pub(super) struct Complete {
    events: Events,
    is_begun: bool,
    is_first: bool,
    _room: Room,
}

impl Complete {
    pub(super) fn new(events: Events, room: Room) -> Self {
        Self {
            events,
            is_begun: false,
            is_first: true,
            _room: room,
        }
    }
}

impl Text for Complete {
    async fn write(&mut self, text: &mut Vec<u8>) -> Result<bool, Broken> {
        if !std::mem::replace(&mut self.is_begun, true) {
            text.extend_from_slice(br#"{"items":["#);
        }
        let Some(event) = self.events.next().await? else {
            text.extend_from_slice(br#"],"nextFrom":null}"#);
            return Ok(false);
        };
        item(text, &mut self.is_first, &Event::from(&event));
        Ok(true)
    }
}

/// What of a history must be known before its first record is written.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Calls that nothing answered so far, with their places and what they take.
    open: HashMap<i32, (u32, usize)>,
    place: u32,
    bytes: usize,
    /// Most bytes of calls that wait for their answer at the same time.
    pub(super) bytes_max: usize,
}

impl Outline {
    fn add(&mut self, event: &HistoryEvent, inputs: bool) {
        if let Some(Called { input }) = called(event) {
            let taken = CALL_BYTES + input.filter(|_| inputs).map_or(0, Payload::len);
            let before = self.open.insert(event.id, (self.place, taken));
            self.bytes = self.bytes + taken - before.map_or(0, |(_, taken)| taken);
            self.bytes_max = self.bytes_max.max(self.bytes);
        } else if let Some(call) = answers(event) {
            self.bytes -= self.open.remove(&call).map_or(0, |(_, taken)| taken);
        }
        self.place += 1;
    }

    /// Whether an event in this place is a call that nothing answers, in the history that was looked through.
    fn is_unanswered(&self, event: &HistoryEvent, place: u32) -> bool {
        self.open.get(&event.id).is_some_and(|(open, _)| *open == place)
    }
}

/// Looks through a history, part by part.
pub(super) async fn outline(events: &Events, view: HistoryView) -> Result<Outline, Broken> {
    let mut outline = Outline::default();
    let HistoryView::Merged(Shows { inputs, .. }) = view else {
        return Ok(outline);
    };
    let mut events = events.again();
    while let Some(event) = events.next().await? {
        outline.add(&event, inputs);
    }
    Ok(outline)
}

/// A call, which is answered later.
struct Called<'a> {
    input: Option<&'a Payload>,
}

/// The call that an event is, if it is one.
fn called(event: &HistoryEvent) -> Option<Called<'_>> {
    match &event.kind {
        EventKind::TaskScheduled { input, .. } | EventKind::SubOrchestrationInstanceCreated { input, .. } => {
            Some(Called { input: input.as_ref() })
        }
        _ => None,
    }
}

/// The id of the call that an event answers.
fn answers(event: &HistoryEvent) -> Option<i32> {
    match &event.kind {
        EventKind::TaskCompleted { task_scheduled_id, .. }
        | EventKind::TaskFailed { task_scheduled_id, .. }
        | EventKind::SubOrchestrationInstanceCompleted { task_scheduled_id, .. }
        | EventKind::SubOrchestrationInstanceFailed { task_scheduled_id, .. } => Some(*task_scheduled_id),
        _ => None,
    }
}

/// Turns events into the records of a view, one after the other, as [`HistoryView::of`] does with all of them.
#[derive(Debug)]
struct Records {
    view: HistoryView,
    is_first: bool,
    place: u32,
    /// Calls whose answer has not come.
    open: HashMap<i32, HistoryEvent>,
    /// The event before, whose turn may end with it.
    before: Option<HistoryEvent>,
}

impl Records {
    fn new(view: HistoryView) -> Self {
        Self {
            view,
            is_first: true,
            place: 0,
            open: HashMap::new(),
            before: None,
        }
    }

    fn add(&mut self, event: HistoryEvent, outline: &Outline, text: &mut Vec<u8>) {
        let place = self.place;
        self.place += 1;
        let HistoryView::Merged(shows) = self.view else {
            self.end_turn(Some(&event), text);
            item(text, &mut self.is_first, &Event::from(&event));
            self.before = Some(event);
            return;
        };
        let call = answers(&event).and_then(|call| self.open.remove(&call));
        let is_open = outline.is_unanswered(&event, place);
        if let Some(record) = shows.record(&event, call.as_ref(), is_open) {
            item(text, &mut self.is_first, &record);
        }
        if called(&event).is_some() {
            self.open.insert(event.id, event);
        }
    }

    /// The end of the turn that the event before belongs to, if it is its last.
    fn end_turn(&mut self, next: Option<&HistoryEvent>, text: &mut Vec<u8>) {
        if let Some(before) = &self.before
            && next.is_none_or(|next| matches!(next.kind, EventKind::OrchestratorStarted))
        {
            item(text, &mut self.is_first, &Event::end_of_turn(before));
        }
    }
}

/// A status with a long history, which is in it twice.
pub(super) struct Status {
    /// The status without its history.
    head: Vec<u8>,
    events: Events,
    outline: Outline,
    view: HistoryView,
    records: Records,
    /// Names under which the history is still to come.
    names: &'static [&'static str],
    _room: Room,
}

impl Status {
    /// `head` is the status as JSON without a history.
    pub(super) fn new(head: Vec<u8>, events: &Events, (view, outline): (HistoryView, Outline), room: Room) -> Self {
        Self {
            head,
            events: events.again(),
            outline,
            view,
            records: Records::new(view),
            names: &["historyEvents", "history"],
            _room: room,
        }
    }
}

impl Text for Status {
    async fn write(&mut self, text: &mut Vec<u8>) -> Result<bool, Broken> {
        if !self.head.is_empty() {
            let mut head = std::mem::take(&mut self.head);
            // The brace at its end.
            head.pop();
            text.append(&mut head);
            self.begin(text);
        }
        if let Some(event) = self.events.next().await? {
            self.records.add(event, &self.outline, text);
            return Ok(true);
        }
        self.records.end_turn(None, text);
        text.push(b']');
        if self.names.is_empty() {
            text.push(b'}');
            return Ok(false);
        }
        self.events = self.events.again();
        self.records = Records::new(self.view);
        self.begin(text);
        Ok(true)
    }
}

impl Status {
    fn begin(&mut self, text: &mut Vec<u8>) {
        if let Some((name, rest)) = self.names.split_first() {
            self.names = rest;
            text.extend_from_slice(format!(",\"{name}\":[").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use taskhub_api::testing::history;

    use super::*;

    #[test]
    fn records_come_one_by_one_as_they_come_all_at_once() {
        let events = history();
        let merged = |results, inputs| HistoryView::Merged(Shows { results, inputs });
        for view in [
            HistoryView::Full,
            merged(true, true),
            merged(false, true),
            merged(false, false),
        ] {
            // A history that was read before its last events had come is shown like any other.
            for count in 0..=events.len() {
                let events = &events[..count];
                let mut outline = Outline::default();
                for event in events {
                    outline.add(event, true);
                }
                let (mut records, mut text) = (Records::new(view), b"[".to_vec());
                for event in events {
                    records.add(event.clone(), &outline, &mut text);
                }
                records.end_turn(None, &mut text);
                text.push(b']');
                let all = serde_json::to_string(&view.of(events)).unwrap();
                assert_eq!(String::from_utf8(text).unwrap(), all);
                assert!(records.open.len() <= 2, "a call is let go when its answer has come");
            }
        }
    }

    #[test]
    fn calls_are_counted_as_long_as_they_are_held() {
        let mut outline = Outline::default();
        let events = history();
        for event in &events {
            outline.add(event, true);
        }
        // The child's and the open one's, which has an input of one byte.
        assert_eq!((outline.bytes_max, outline.bytes), (CALL_BYTES + 7, CALL_BYTES + 1));
        let place = events.iter().position(|event| event.id == 2).unwrap();
        assert!(outline.is_unanswered(&events[place], u32::try_from(place).unwrap()));
    }
}
