//! Histories as clients of the management API know them: a call and its answer are one record, numbers and turns are left
//! out (H57).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use taskhub_core::event::{EventKind, HistoryEvent};
use taskhub_core::failure::Failure;
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::failure::FailureDetails;
use crate::history::name;
use crate::payload::{Shown, Text, stored_text};
use crate::{present, status, time};

/// A record of a history; [`EventKind`] has the same names.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "EventType")]
#[expect(missing_docs, reason = "the variants are those of `EventKind`")]
pub enum MergedRecord<'a> {
    ExecutionStarted(MergedStarted<'a>),
    TaskScheduled(MergedOpen<'a>),
    TaskCompleted(MergedCompleted<'a>),
    TaskFailed(MergedFailed<'a>),
    SubOrchestrationInstanceCreated(MergedOpen<'a>),
    SubOrchestrationInstanceCompleted(MergedCompleted<'a>),
    SubOrchestrationInstanceFailed(MergedFailed<'a>),
    TimerCreated(MergedTimer),
    TimerFired(MergedTimer),
    EventSent(MergedExternal<'a>),
    EventRaised(MergedExternal<'a>),
    ExecutionSuspended(MergedReason<'a>),
    ExecutionResumed(MergedReason<'a>),
    ExecutionTerminated(MergedTerminated<'a>),
    ExecutionCompleted(MergedEnded<'a>),
}

/// The start of an execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedStarted<'a> {
    /// Its input, if inputs are shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Text<'a>>,
    /// Always `null`.
    pub correlation: (),
    /// When it was to start, if not at once.
    #[serde(with = "time::option")]
    pub scheduled_start_time: Option<Timestamp>,
    /// Always 0.
    pub generation: u32,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
    /// Name of the orchestrator.
    pub function_name: Cow<'a, str>,
}

/// A call that nothing answers yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedOpen<'a> {
    /// What is called.
    pub name: Cow<'a, str>,
    /// The child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Text<'a>,
    /// Its input, if inputs are shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Text<'a>>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
}

/// What was called, on the record of its answer; all absent if the call is not known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MergedCall<'a> {
    /// When it was called.
    #[serde(with = "time::option", skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Timestamp>,
    /// What was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_name: Text<'a>,
    /// Its input, if inputs are shown.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Text<'a>>,
    /// The child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Text<'a>,
}

/// The result of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedCompleted<'a> {
    /// The result, if results are shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Shown<'a>>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
    /// What was called.
    #[serde(flatten)]
    pub call: MergedCall<'a>,
}

/// The failure of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedFailed<'a> {
    /// The message alone.
    pub reason: Cow<'a, str>,
    /// The failure and its causes as one text.
    pub details: Cow<'a, str>,
    /// The same as members.
    pub failure_details: FailureDetails<'a>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
    /// What was called.
    #[serde(flatten)]
    pub call: MergedCall<'a>,
}

/// A timer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedTimer {
    /// When it is due.
    #[serde(with = "time")]
    pub fire_at: Timestamp,
    /// When it was created, or fired.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
}

/// An event for an orchestrator, sent or received.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedExternal<'a> {
    /// Who gets it, if it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Text<'a>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it brings, if inputs are shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Text<'a>>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
}

/// Why an execution was suspended or resumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedReason<'a> {
    /// The reason that was given.
    pub reason: Text<'a>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
}

/// The end of an execution by request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedTerminated<'a> {
    /// The reason that was given, if inputs are shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Text<'a>>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
}

/// The end of an execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MergedEnded<'a> {
    /// How it ended.
    #[serde(with = "status")]
    pub orchestration_status: RuntimeStatus,
    /// The result, if results are shown.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Shown<'a>>,
    /// The failure, if that is how it ended.
    pub failure_details: Option<FailureDetails<'a>>,
    /// When it happened.
    #[serde(with = "time")]
    pub timestamp: Timestamp,
}

/// Which payloads are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shows {
    /// Results.
    pub results: bool,
    /// Inputs.
    pub inputs: bool,
}

/// Converts a history to its merged records: the data of a request is added to the event that answers it. An id can be
/// reused after its earlier occurrence was answered (R33), so the function tracks the open requests while it walks the
/// history.
pub fn records(events: &[HistoryEvent], shows: Shows) -> Vec<MergedRecord<'_>> {
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
        records.extend(shows.record(event, call, left.contains(&index)));
    }
    records
}

impl Shows {
    /// The record of an event; `call` is the event it answers, `is_open` whether it is a call that nothing answers.
    pub fn record<'a>(
        self,
        event: &'a HistoryEvent,
        call: Option<&'a HistoryEvent>,
        is_open: bool,
    ) -> Option<MergedRecord<'a>> {
        let timestamp = event.at;
        let failed = |failure: &'a Failure| MergedFailed {
            reason: Cow::Borrowed(&failure.message),
            details: Cow::Owned(failure.long_text()),
            failure_details: failure.into(),
            timestamp,
            call: self.call(call),
        };
        let completed = |result: &'a Option<Payload>| MergedCompleted {
            result: self.result(result.as_ref()),
            timestamp,
            call: self.call(call),
        };
        let because = |reason: &'a Option<Payload>| MergedReason {
            reason: stored_text(reason.as_ref()),
            timestamp,
        };
        Some(match &event.kind {
            EventKind::OrchestratorStarted => return None,
            EventKind::TaskScheduled { .. } | EventKind::SubOrchestrationInstanceCreated { .. } => {
                return is_open.then(|| self.open(event)).flatten();
            }
            EventKind::ExecutionStarted(started) => MergedRecord::ExecutionStarted(MergedStarted {
                input: self.input(started.input.as_ref()),
                correlation: (),
                scheduled_start_time: started.scheduled_start,
                generation: 0,
                timestamp,
                function_name: name(&started.name),
            }),
            EventKind::TaskCompleted { result, .. } => MergedRecord::TaskCompleted(completed(result)),
            EventKind::SubOrchestrationInstanceCompleted { result, .. } => {
                MergedRecord::SubOrchestrationInstanceCompleted(completed(result))
            }
            EventKind::TaskFailed { failure, .. } => MergedRecord::TaskFailed(failed(failure)),
            EventKind::SubOrchestrationInstanceFailed { failure, .. } => {
                MergedRecord::SubOrchestrationInstanceFailed(failed(failure))
            }
            EventKind::TimerCreated { fire_at } => MergedRecord::TimerCreated(MergedTimer {
                fire_at: *fire_at,
                timestamp,
            }),
            EventKind::TimerFired { fire_at, .. } => MergedRecord::TimerFired(MergedTimer {
                fire_at: *fire_at,
                timestamp,
            }),
            EventKind::EventRaised { name: raised, input } => MergedRecord::EventRaised(MergedExternal {
                instance_id: None,
                name: name(raised),
                input: self.input(input.as_ref()),
                timestamp,
            }),
            EventKind::EventSent {
                instance,
                name: sent,
                input,
            } => MergedRecord::EventSent(MergedExternal {
                instance_id: Some(Cow::Borrowed(instance.as_str())),
                name: name(sent),
                input: self.input(input.as_ref()),
                timestamp,
            }),
            EventKind::ExecutionTerminated { reason, .. } => MergedRecord::ExecutionTerminated(MergedTerminated {
                input: self.input(reason.as_ref()),
                timestamp,
            }),
            EventKind::ExecutionSuspended { reason } => MergedRecord::ExecutionSuspended(because(reason)),
            EventKind::ExecutionResumed { reason } => MergedRecord::ExecutionResumed(because(reason)),
            EventKind::ExecutionCompleted {
                status,
                result,
                failure,
            } => MergedRecord::ExecutionCompleted(MergedEnded {
                orchestration_status: *status,
                result: self.result(result.as_ref()),
                failure_details: failure.as_deref().map(Into::into),
                timestamp,
            }),
        })
    }

    /// The record of a call that nothing answers.
    fn open(self, event: &HistoryEvent) -> Option<MergedRecord<'_>> {
        let timestamp = event.at;
        match &event.kind {
            EventKind::TaskScheduled {
                name: called, input, ..
            } => Some(MergedRecord::TaskScheduled(MergedOpen {
                name: name(called),
                instance_id: None,
                input: self.input(input.as_ref()),
                timestamp,
            })),
            EventKind::SubOrchestrationInstanceCreated {
                name: called,
                instance,
                input,
                ..
            } => Some(MergedRecord::SubOrchestrationInstanceCreated(MergedOpen {
                name: name(called),
                instance_id: Some(Cow::Borrowed(instance.as_str())),
                input: self.input(input.as_ref()),
                timestamp,
            })),
            _ => None,
        }
    }

    /// The data of the request, on the event that answers it.
    fn call(self, call: Option<&HistoryEvent>) -> MergedCall<'_> {
        let Some(event) = call else {
            return MergedCall::default();
        };
        let (called, input, child) = match &event.kind {
            EventKind::TaskScheduled { name, input, .. } => (name, input, None),
            EventKind::SubOrchestrationInstanceCreated {
                name, input, instance, ..
            } => (name, input, Some(instance)),
            _ => return MergedCall::default(),
        };
        MergedCall {
            scheduled_time: Some(event.at),
            function_name: Some(name(called)),
            input: self.input(input.as_ref()),
            instance_id: child.map(|child| Cow::Borrowed(child.as_str())),
        }
    }

    /// Input is the stored text as a JSON string, unlike results, which are turned into JSON (H57).
    fn input(self, input: Option<&Payload>) -> Option<Text<'_>> {
        self.inputs.then(|| stored_text(input))
    }

    fn result(self, result: Option<&Payload>) -> Option<Shown<'_>> {
        self.results.then(|| Shown::new(result))
    }
}

impl<'de> Deserialize<'de> for MergedRecord<'_> {
    /// By hand, since a result stays the JSON text it is only if nothing is read ahead of its record.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Tag<'a> {
            event_type: Cow<'a, str>,
        }
        let record = Box::<RawValue>::deserialize(deserializer)?;
        let tag: Tag<'_> = serde_json::from_str(record.get()).map_err(D::Error::custom)?;
        macro_rules! read {
            ($($kind:ident)*) => {
                match tag.event_type.as_ref() {
                    $(stringify!($kind) => serde_json::from_str(record.get()).map(Self::$kind),)*
                    other => return Err(D::Error::custom(format!("unknown kind of event `{other}`"))),
                }
            };
        }
        let read = read! {
            ExecutionStarted TaskScheduled TaskCompleted TaskFailed SubOrchestrationInstanceCreated
            SubOrchestrationInstanceCompleted SubOrchestrationInstanceFailed TimerCreated TimerFired EventSent EventRaised
            ExecutionSuspended ExecutionResumed ExecutionTerminated ExecutionCompleted
        };
        read.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::history;

    fn lines(shows: Shows) -> Vec<String> {
        let history = history();
        let records = records(&history, shows);
        let lines = records.iter().map(|record| serde_json::to_string(record).unwrap());
        lines.collect()
    }

    #[test]
    fn a_call_and_its_answer_are_one_record() {
        let everything = Shows {
            results: true,
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
        let bare = Shows {
            results: false,
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
    fn a_record_is_read_as_it_was_written() {
        for (results, inputs) in [(true, true), (false, false)] {
            for line in lines(Shows { results, inputs }) {
                let read: MergedRecord<'_> = serde_json::from_str(&line).unwrap();
                assert_eq!(serde_json::to_string(&read).unwrap(), line);
            }
        }
        let line = r#"{"EventType":"TaskCompleted","Result":{"a" : 1.10},"Timestamp":"2018-02-28T05:18:51Z"}"#;
        let read: MergedRecord<'_> = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
        let unknown = r#"{"EventType":"Rewound","Timestamp":"2018-02-28T05:18:51Z"}"#;
        assert!(serde_json::from_str::<MergedRecord<'_>>(unknown).is_err());
    }
}
