//! Histories as the management API shows them: merged, or in full (H57).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use super::payload::Shown;
use super::query::Query;
use super::shapes::status_word;
use super::time::fine;

/// How much of a history is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryView {
    /// As clients know it: calls and their results are one record, and numbers are left out.
    Merged {
        /// Results too.
        outputs: bool,
        /// Inputs too.
        inputs: bool,
    },
    /// Every event with its number and all members, for tools.
    Full,
}

impl HistoryView {
    /// The view that a query asks for, if it asks for one.
    pub(crate) fn of_query(query: &Query) -> Option<Self> {
        let is_full = |text: &str| text.eq_ignore_ascii_case("full");
        if query.bare("showHistory").is_some_and(is_full) {
            return Some(Self::Full);
        }
        query.flag("showHistory")?.then(|| Self::Merged {
            outputs: query.flag("showHistoryOutput").unwrap_or_default(),
            inputs: query.flag("showInput").unwrap_or(true),
        })
    }
}

/// One event, its members in the order they are sent.
#[derive(Debug)]
pub(crate) struct Record<'a>(Vec<(&'static str, Member<'a>)>);

#[derive(Debug)]
enum Member<'a> {
    Null,
    Number(i64),
    Bool(bool),
    Text(Cow<'a, str>),
    Json(Shown<'a>),
    Object(Record<'a>),
    Texts(&'a Tags),
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, member) in &self.0 {
            map.serialize_entry(name, member)?;
        }
        map.end()
    }
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Json(json) => json.serialize(serializer),
            Self::Object(object) => object.serialize(serializer),
            Self::Texts(texts) => texts.serialize(serializer),
        }
    }
}

/// The records of a history.
pub(crate) fn records(events: &[HistoryEvent], view: HistoryView) -> Vec<Record<'_>> {
    match view {
        HistoryView::Full => full(events),
        HistoryView::Merged { outputs, inputs } => merged(events, outputs, inputs),
    }
}

/// Puts what was asked for on the event that answers it. An id may come again once its earlier occurrence
/// is answered (R33), so what is open is followed through the history.
fn merged(events: &[HistoryEvent], outputs: bool, inputs: bool) -> Vec<Record<'_>> {
    let mut open: HashMap<i32, usize> = HashMap::new();
    let mut asked: HashMap<usize, usize> = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        match &event.kind {
            EventKind::TaskScheduled { .. } | EventKind::SubOrchestrationInstanceCreated { .. } => {
                open.insert(event.id, index);
            }
            EventKind::TaskCompleted { task_scheduled_id, .. }
            | EventKind::TaskFailed { task_scheduled_id, .. }
            | EventKind::SubOrchestrationInstanceCompleted { task_scheduled_id, .. }
            | EventKind::SubOrchestrationInstanceFailed { task_scheduled_id, .. } => {
                if let Some(scheduled) = open.remove(task_scheduled_id) {
                    asked.insert(index, scheduled);
                }
            }
            EventKind::ExecutionStarted(_)
            | EventKind::OrchestratorStarted
            | EventKind::TimerCreated { .. }
            | EventKind::TimerFired { .. }
            | EventKind::EventSent { .. }
            | EventKind::EventRaised { .. }
            | EventKind::ExecutionSuspended { .. }
            | EventKind::ExecutionResumed { .. }
            | EventKind::ExecutionTerminated { .. }
            | EventKind::ExecutionCompleted { .. } => {}
        }
    }
    let left: HashSet<usize> = open.into_values().collect();
    let mut records = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let call = asked.get(&index).and_then(|at| events.get(*at));
        let shown = Shows { outputs, inputs };
        records.extend(shown.record(event, call, left.contains(&index)));
    }
    records
}

/// The record of one event of a merged history, with results or inputs or both, if it has one: `call` is the event that it
/// answers, `is_open` whether it is a call that nothing answers.
pub(crate) fn merged_record<'a>(
    (outputs, inputs): (bool, bool),
    event: &'a HistoryEvent,
    call: Option<&'a HistoryEvent>,
    is_open: bool,
) -> Option<Record<'a>> {
    Shows { outputs, inputs }.record(event, call, is_open)
}

struct Shows {
    outputs: bool,
    inputs: bool,
}

impl Shows {
    /// The record of an event; `call` is the event it answers, `is_open` whether
    /// it is a call that nothing answers.
    fn record<'a>(&self, event: &'a HistoryEvent, call: Option<&'a HistoryEvent>, is_open: bool) -> Option<Record<'a>> {
        let mut record = Record(vec![("EventType", text(event.kind.name()))]);
        let at = ("Timestamp", moment(event.at));
        match &event.kind {
            EventKind::OrchestratorStarted => return None,
            EventKind::TaskScheduled { .. } | EventKind::SubOrchestrationInstanceCreated { .. } if !is_open => {
                return None;
            }
            EventKind::ExecutionStarted(started) => {
                self.input(&mut record, started.input.as_ref());
                record.add("Correlation", Member::Null);
                let scheduled = started.scheduled_start.map_or(Member::Null, moment);
                record.add("ScheduledStartTime", scheduled);
                record.add("Generation", Member::Number(0));
                record.0.push(at);
                record.add("FunctionName", name(&started.name));
            }
            EventKind::TaskCompleted { result, .. } => {
                self.result(&mut record, result.as_ref());
                record.0.push(at);
                self.call(&mut record, call);
            }
            EventKind::SubOrchestrationInstanceCompleted { result, .. } => {
                self.result(&mut record, result.as_ref());
                record.0.push(at);
                self.call(&mut record, call);
                record.child(call);
            }
            EventKind::TaskFailed { failure, .. } => {
                record.failed(failure);
                record.0.push(at);
                self.call(&mut record, call);
            }
            EventKind::SubOrchestrationInstanceFailed { failure, .. } => {
                record.failed(failure);
                record.0.push(at);
                self.call(&mut record, call);
                record.child(call);
            }
            EventKind::TaskScheduled {
                name: called, input, ..
            } => {
                record.add("Name", name(called));
                self.input(&mut record, input.as_ref());
                record.0.push(at);
            }
            EventKind::SubOrchestrationInstanceCreated {
                name: called,
                instance,
                input,
                ..
            } => {
                record.add("Name", name(called));
                record.add("InstanceId", text(instance.as_str()));
                self.input(&mut record, input.as_ref());
                record.0.push(at);
            }
            EventKind::TimerCreated { fire_at } | EventKind::TimerFired { fire_at, .. } => {
                record.add("FireAt", moment(*fire_at));
                record.0.push(at);
            }
            EventKind::EventRaised { name: raised, input } => {
                record.add("Name", name(raised));
                self.input(&mut record, input.as_ref());
                record.0.push(at);
            }
            EventKind::EventSent {
                instance,
                name: sent,
                input,
            } => {
                record.add("InstanceId", text(instance.as_str()));
                record.add("Name", name(sent));
                self.input(&mut record, input.as_ref());
                record.0.push(at);
            }
            EventKind::ExecutionTerminated { reason, .. } => {
                self.input(&mut record, reason.as_ref());
                record.0.push(at);
            }
            EventKind::ExecutionSuspended { reason } | EventKind::ExecutionResumed { reason } => {
                record.add("Reason", stored_text(reason.as_ref()));
                record.0.push(at);
            }
            EventKind::ExecutionCompleted {
                status,
                result,
                failure,
            } => {
                record.add("OrchestrationStatus", text(status_word(*status)));
                self.result(&mut record, result.as_ref());
                record.add("FailureDetails", details(failure.as_deref()));
                record.0.push(at);
            }
        }
        Some(record)
    }

    /// Input is the stored text as a JSON string, unlike results, which are turned into JSON (H57).
    fn input<'a>(&self, record: &mut Record<'a>, input: Option<&'a Payload>) {
        if self.inputs {
            record.add("Input", stored_text(input));
        }
    }

    fn result<'a>(&self, record: &mut Record<'a>, result: Option<&'a Payload>) {
        if self.outputs {
            record.add("Result", Member::Json(Shown::new(result)));
        }
    }

    /// What was asked for, on the event that answers it.
    fn call<'a>(&self, record: &mut Record<'a>, call: Option<&'a HistoryEvent>) {
        let Some(call) = call else { return };
        let (EventKind::TaskScheduled {
            name: called, input, ..
        }
        | EventKind::SubOrchestrationInstanceCreated {
            name: called, input, ..
        }) = &call.kind
        else {
            return;
        };
        record.add("ScheduledTime", moment(call.at));
        record.add("FunctionName", name(called));
        self.input(record, input.as_ref());
    }
}

impl<'a> Record<'a> {
    fn add(&mut self, name: &'static str, member: Member<'a>) {
        self.0.push((name, member));
    }

    fn failed(&mut self, failure: &'a Failure) {
        self.add("Reason", text(&failure.message));
        self.add("Details", Member::Text(failure.long_text().into()));
        self.add("FailureDetails", details(Some(failure)));
    }

    /// The id of the child that answered.
    fn child(&mut self, call: Option<&'a HistoryEvent>) {
        if let Some(EventKind::SubOrchestrationInstanceCreated { instance, .. }) = call.map(|call| &call.kind) {
            self.add("InstanceId", text(instance.as_str()));
        }
    }
}

/// Every event, with the end of each turn put in, which is not stored (A16).
fn full(events: &[HistoryEvent]) -> Vec<Record<'_>> {
    let mut records = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        records.push(complete(event));
        let next = events.get(index + 1).map(|next| &next.kind);
        if matches!(next, None | Some(EventKind::OrchestratorStarted)) {
            records.push(end_of_turn(event));
        }
    }
    records
}

/// The end of a turn, whose last event this is.
pub(crate) fn end_of_turn(last: &HistoryEvent) -> Record<'static> {
    let mut end = Record(vec![("EventType", text("OrchestratorCompleted"))]);
    end.numbered(-1, last.at);
    end
}

/// One event with all its members.
pub(crate) fn complete(event: &HistoryEvent) -> Record<'_> {
    let mut record = Record(vec![("EventType", text(event.kind.name()))]);
    match &event.kind {
        EventKind::OrchestratorStarted => {}
        EventKind::ExecutionStarted(started) => record.started(started),
        EventKind::TaskScheduled {
            name: called,
            version,
            input,
            tags,
        } => {
            record.function(called, version.as_ref());
            record.add("Input", stored_text(input.as_ref()));
            record.add("Tags", labels(tags));
        }
        EventKind::SubOrchestrationInstanceCreated {
            instance,
            name: called,
            version,
            input,
            tags,
        } => {
            record.function(called, version.as_ref());
            record.add("InstanceId", text(instance.as_str()));
            record.add("Input", stored_text(input.as_ref()));
            record.add("Tags", labels(tags));
        }
        EventKind::TaskCompleted {
            task_scheduled_id,
            result,
        }
        | EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id,
            result,
        } => {
            record.add("TaskScheduledId", Member::Number(i64::from(*task_scheduled_id)));
            record.add("Result", stored_text(result.as_ref()));
        }
        EventKind::TaskFailed {
            task_scheduled_id,
            failure,
        }
        | EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id,
            failure,
        } => {
            record.add("TaskScheduledId", Member::Number(i64::from(*task_scheduled_id)));
            record.failed(failure);
        }
        EventKind::TimerCreated { fire_at } => record.add("FireAt", moment(*fire_at)),
        EventKind::TimerFired { timer_id, fire_at } => {
            record.add("TimerId", Member::Number(i64::from(*timer_id)));
            record.add("FireAt", moment(*fire_at));
        }
        EventKind::EventRaised { name: raised, input } => {
            record.add("Name", name(raised));
            record.add("Input", stored_text(input.as_ref()));
        }
        EventKind::EventSent {
            instance,
            name: sent,
            input,
        } => {
            record.add("InstanceId", text(instance.as_str()));
            record.add("Name", name(sent));
            record.add("Input", stored_text(input.as_ref()));
        }
        EventKind::ExecutionTerminated { reason, recurse } => {
            record.add("Input", stored_text(reason.as_ref()));
            record.add("Recurse", Member::Bool(*recurse));
        }
        EventKind::ExecutionSuspended { reason } | EventKind::ExecutionResumed { reason } => {
            record.add("Reason", stored_text(reason.as_ref()));
        }
        EventKind::ExecutionCompleted {
            status,
            result,
            failure,
        } => {
            record.add("OrchestrationStatus", text(status_word(*status)));
            record.add("Result", stored_text(result.as_ref()));
            record.add("FailureDetails", details(failure.as_deref()));
        }
    }
    record.numbered(event.id, event.at);
    record
}

impl<'a> Record<'a> {
    fn started(&mut self, started: &'a ExecutionStarted) {
        self.add("OrchestrationInstance", execution(&started.instance, started.execution));
        self.add("ParentInstance", started.parent.as_ref().map_or(Member::Null, parent));
        self.function(&started.name, started.version.as_ref());
        self.add("Input", stored_text(started.input.as_ref()));
        self.add("Tags", labels(&started.tags));
        let scheduled = started.scheduled_start.map_or(Member::Null, moment);
        self.add("ScheduledStartTime", scheduled);
    }

    fn function(&mut self, called: &'a Name, version: Option<&'a Name>) {
        self.add("Name", name(called));
        self.add("Version", version.map_or(Member::Null, name));
    }

    fn numbered(&mut self, id: i32, at: Timestamp) {
        self.add("EventId", Member::Number(i64::from(id)));
        self.add("IsPlayed", Member::Bool(false));
        self.add("Timestamp", moment(at));
    }
}

fn execution(instance: &InstanceId, execution: ExecutionId) -> Member<'_> {
    Member::Object(Record(vec![
        ("InstanceId", text(instance.as_str())),
        ("ExecutionId", Member::Text(execution.to_string().into())),
    ]))
}

fn parent(parent: &Parent) -> Member<'_> {
    Member::Object(Record(vec![
        ("Name", name(&parent.name)),
        ("OrchestrationInstance", execution(&parent.instance, parent.execution)),
        ("TaskScheduleId", Member::Number(i64::from(parent.task_id))),
        ("Version", parent.version.as_ref().map_or(Member::Null, name)),
    ]))
}

/// A failure with its causes.
fn details(failure: Option<&Failure>) -> Member<'_> {
    let Some(failure) = failure else { return Member::Null };
    let stack = failure.stack_trace.as_deref().map_or(Member::Null, text);
    Member::Object(Record(vec![
        ("ErrorType", text(&failure.error_type)),
        ("ErrorMessage", text(&failure.message)),
        ("StackTrace", stack),
        ("InnerFailure", details(failure.inner.as_deref())),
        ("IsNonRetriable", Member::Bool(failure.non_retriable)),
    ]))
}

fn labels(tags: &Tags) -> Member<'_> {
    if tags.is_empty() {
        Member::Null
    } else {
        Member::Texts(tags)
    }
}

fn text(text: &str) -> Member<'_> {
    Member::Text(Cow::Borrowed(text))
}

fn name(name: &Name) -> Member<'_> {
    text(name.as_str())
}

fn moment(at: Timestamp) -> Member<'static> {
    Member::Text(fine(at).into())
}

/// A payload as a JSON string of its text.
fn stored_text(payload: Option<&Payload>) -> Member<'_> {
    payload.map_or(Member::Null, |payload| {
        Member::Text(String::from_utf8_lossy(payload.bytes()))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use taskhub_core::id::{ExecutionId, InstanceId};
    use taskhub_core::status::RuntimeStatus;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_parts(1_519_795_129 + second, 345_237_200)
    }

    fn event(id: i32, second: i64, kind: EventKind) -> HistoryEvent {
        HistoryEvent {
            id,
            at: at(second),
            kind,
        }
    }

    fn payload(text: &str) -> Payload {
        Payload::text(text)
    }

    /// One of nearly everything: answered, failed and open calls, an id used twice, a timer, an event.
    pub(crate) fn history() -> Vec<HistoryEvent> {
        let started = ExecutionStarted {
            name: Name::stored("E1_HelloSequence"),
            version: None,
            input: None,
            instance: InstanceId::new("i").unwrap(),
            execution: ExecutionId::new([1; 16]),
            parent: None,
            scheduled_start: None,
            tags: Tags::new(),
        };
        let schedule = |name: &str, input: &str| EventKind::TaskScheduled {
            name: Name::stored(name),
            version: None,
            input: Some(payload(input)),
            tags: Tags::new(),
        };
        let done = |result: &str| EventKind::TaskCompleted {
            task_scheduled_id: 0,
            result: Some(payload(result)),
        };
        let child = InstanceId::new("i:0001").unwrap();
        let broken = Failure::new("Boom", "it broke").caused_by(Failure::new("Root", "why"));
        vec![
            event(-1, 0, EventKind::OrchestratorStarted),
            event(-1, 0, EventKind::ExecutionStarted(Box::new(started))),
            event(0, 1, schedule("E1_SayHello", "\"Tokyo\"")),
            event(-1, 2, done("\"Hello Tokyo!\"")),
            event(-1, 2, EventKind::OrchestratorStarted),
            event(0, 3, schedule("Again", "1")),
            event(-1, 4, done("2")),
            event(
                1,
                4,
                EventKind::SubOrchestrationInstanceCreated {
                    instance: child,
                    name: Name::stored("Child"),
                    version: None,
                    input: None,
                    tags: Tags::new(),
                },
            ),
            event(
                -1,
                5,
                EventKind::SubOrchestrationInstanceFailed {
                    task_scheduled_id: 1,
                    failure: Box::new(broken),
                },
            ),
            event(2, 6, schedule("StillOpen", "3")),
            event(3, 6, EventKind::TimerCreated { fire_at: at(9) }),
            event(
                -1,
                7,
                EventKind::EventRaised {
                    name: Name::stored("Go"),
                    input: Some(payload("[1]")),
                },
            ),
            event(
                -1,
                8,
                EventKind::ExecutionCompleted {
                    status: RuntimeStatus::Completed,
                    result: Some(payload("[\"Hello Tokyo!\"]")),
                    failure: None,
                },
            ),
        ]
    }

    fn lines(view: HistoryView) -> Vec<String> {
        let history = history();
        let records = records(&history, view);
        records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap())
            .collect()
    }

    #[test]
    fn a_call_and_its_answer_are_one_record() {
        let everything = HistoryView::Merged {
            outputs: true,
            inputs: true,
        };
        let lines = lines(everything);
        let expected = [
            r#"{"EventType":"ExecutionStarted","Input":null,"Correlation":null,"ScheduledStartTime":null,"Generation":0,"Timestamp":"2018-02-28T05:18:49.3452372Z","FunctionName":"E1_HelloSequence"}"#,
            r#"{"EventType":"TaskCompleted","Result":"Hello Tokyo!","Timestamp":"2018-02-28T05:18:51.3452372Z","ScheduledTime":"2018-02-28T05:18:50.3452372Z","FunctionName":"E1_SayHello","Input":"\"Tokyo\""}"#,
            r#"{"EventType":"TaskCompleted","Result":2,"Timestamp":"2018-02-28T05:18:53.3452372Z","ScheduledTime":"2018-02-28T05:18:52.3452372Z","FunctionName":"Again","Input":"1"}"#,
            r#"{"EventType":"SubOrchestrationInstanceFailed","Reason":"it broke","Details":"Boom: it broke\n ---> Root: why","FailureDetails":{"ErrorType":"Boom","ErrorMessage":"it broke","StackTrace":null,"InnerFailure":{"ErrorType":"Root","ErrorMessage":"why","StackTrace":null,"InnerFailure":null,"IsNonRetriable":false},"IsNonRetriable":false},"Timestamp":"2018-02-28T05:18:54.3452372Z","ScheduledTime":"2018-02-28T05:18:53.3452372Z","FunctionName":"Child","Input":null,"InstanceId":"i:0001"}"#,
            r#"{"EventType":"TaskScheduled","Name":"StillOpen","Input":"3","Timestamp":"2018-02-28T05:18:55.3452372Z"}"#,
            r#"{"EventType":"TimerCreated","FireAt":"2018-02-28T05:18:58.3452372Z","Timestamp":"2018-02-28T05:18:55.3452372Z"}"#,
            r#"{"EventType":"EventRaised","Name":"Go","Input":"[1]","Timestamp":"2018-02-28T05:18:56.3452372Z"}"#,
            r#"{"EventType":"ExecutionCompleted","OrchestrationStatus":"Completed","Result":["Hello Tokyo!"],"FailureDetails":null,"Timestamp":"2018-02-28T05:18:57.3452372Z"}"#,
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn results_and_inputs_are_left_out_where_they_are_not_wanted() {
        let bare = HistoryView::Merged {
            outputs: false,
            inputs: false,
        };
        let lines = lines(bare);
        assert!(
            lines
                .iter()
                .all(|line| !line.contains("\"Result\"") && !line.contains("\"Input\""))
        );
        assert!(
            lines.iter().any(|line| line.contains("it broke")),
            "failures are shown either way"
        );
    }

    #[test]
    fn the_full_view_has_every_event_with_its_number_and_the_ends_of_turns() {
        let lines = lines(HistoryView::Full);
        assert_eq!(lines.len(), history().len() + 2);
        assert!(
            lines
                .first()
                .unwrap()
                .starts_with(r#"{"EventType":"OrchestratorStarted","EventId":-1,"#)
        );
        let ends = lines.iter().filter(|line| line.contains("OrchestratorCompleted"));
        assert_eq!(ends.count(), 2);
        let answer = r#"{"EventType":"TaskCompleted","TaskScheduledId":0,"Result":"\"Hello Tokyo!\"","EventId":-1,"#;
        assert!(lines.iter().any(|line| line.starts_with(answer)));
    }
}
