//! An instance as the surfaces show it: its status in the management API, and all of it in our own.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use taskhub_core::event::{Parent, Tags};
use taskhub_core::id::{ExecutionId, HubName, Occurrence};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;

use crate::failure::InstanceFailure;
use crate::history::{Event, name, read_instance, read_name, read_version};
use crate::merged::MergedRecord;
use crate::payload::{Shown, Text};
use crate::{Unreadable, execution, status, time};

/// Characters of a payload that a list shows when it does not show all.
const PREVIEW_CHARS: usize = 200;

/// The status of an instance in the management API (H50).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus<'a> {
    /// Name of the orchestrator.
    pub name: Cow<'a, str>,
    /// The instance.
    pub instance_id: Cow<'a, str>,
    /// Its status.
    #[serde(with = "status")]
    pub runtime_status: RuntimeStatus,
    /// Its input, unless that is not wanted.
    pub input: Shown<'a>,
    /// What it says of itself.
    pub custom_status: Shown<'a>,
    /// Its result.
    pub output: Shown<'a>,
    /// When it was created.
    #[serde(with = "time::seconds")]
    pub created_time: Timestamp,
    /// When it changed last.
    #[serde(with = "time::seconds")]
    pub last_updated_time: Timestamp,
    /// Its history, if that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_events: Option<Cow<'a, History<'a>>>,
    /// The same again, under the name two clients look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Cow<'a, History<'a>>>,
}

/// A history in one of its forms (H57).
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum History<'a> {
    /// In full.
    Full(Vec<Event<'a>>),
    /// As clients know it.
    Merged(Vec<MergedRecord<'a>>),
}

impl<'de> Deserialize<'de> for History<'_> {
    /// Only events in full have numbers. By hand, since results stay the JSON text they are only if nothing is read ahead.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let events = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(full) = serde_json::from_str(events.get()) {
            return Ok(Self::Full(full));
        }
        let merged = serde_json::from_str(events.get());
        merged.map(Self::Merged).map_err(D::Error::custom)
    }
}

impl<'a> InstanceStatus<'a> {
    /// The status of an instance. It looks through all payloads that are shown.
    pub fn new(info: &'a InstanceInfo, show_input: bool) -> Self {
        Self {
            name: name(&info.name),
            instance_id: Cow::Borrowed(info.instance.as_str()),
            runtime_status: info.status,
            input: Shown::new(info.input.as_ref().filter(|_| show_input)),
            custom_status: Shown::new(info.custom_status.as_ref()),
            output: Shown::new(info.output.as_ref()),
            created_time: info.created_at,
            last_updated_time: info.updated_at,
            history_events: None,
            history: None,
        }
    }

    /// The same with the history.
    #[must_use]
    pub fn with_history(self, history: Option<&'a History<'a>>) -> Self {
        Self {
            history_events: history.map(Cow::Borrowed),
            history: history.map(Cow::Borrowed),
            ..self
        }
    }
}

/// Which payloads of an instance are shown, and how.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a choice of the caller, independent of the others"
)]
pub struct Fields {
    /// The input.
    pub input: bool,
    /// The result or the failure.
    pub output: bool,
    /// What it says of itself.
    pub custom_status: bool,
    /// Payloads are JSON strings that contain the stored text, so that distinctions which JSON does not make are kept.
    pub as_text: bool,
    /// Those that are not shown are summed up.
    pub is_list: bool,
}

/// An instance in our own API. Absent members are `null`, never left out, but for what a list was not asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance<'a> {
    /// Its hub.
    pub hub: Cow<'a, str>,
    /// Its id.
    pub instance_id: Cow<'a, str>,
    /// The execution that runs or ran last.
    #[serde(with = "execution")]
    pub execution_id: ExecutionId,
    /// Name of the orchestrator.
    pub name: Cow<'a, str>,
    /// Its version.
    pub version: Text<'a>,
    /// Its status.
    #[serde(with = "status")]
    pub runtime_status: RuntimeStatus,
    /// When it was created.
    #[serde(with = "time")]
    pub created_time: Timestamp,
    /// When it changed last.
    #[serde(with = "time")]
    pub last_updated_time: Timestamp,
    /// When it ended.
    #[serde(with = "time::option")]
    pub completed_time: Option<Timestamp>,
    /// When it was to start, if not at once.
    #[serde(with = "time::option")]
    pub scheduled_start_time: Option<Timestamp>,
    /// Its input.
    pub input: Shown<'a>,
    /// What it says of itself.
    pub custom_status: Shown<'a>,
    /// Its result.
    pub output: Shown<'a>,
    /// How it failed; shown with the result.
    pub failure: Option<InstanceFailure<'a>>,
    /// Its labels.
    pub tags: Cow<'a, Tags>,
    /// The instance that called it.
    pub parent_instance_id: Text<'a>,
    /// The call of that instance.
    pub parent: Option<ParentCall<'a>>,
    /// Number of the execution: 1 for the first, 2 after the first continue-as-new.
    pub generation: u32,
    /// Events in its history; lists do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_length: Option<u64>,
    /// Bytes of its history; lists do not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_bytes: Option<u64>,
    /// Why it was set aside, if it is.
    pub stalled: Option<StallShown<'a>>,
    /// For lists: how payloads that are not shown are described.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summaries: Option<Summaries>,
}

/// The call that an instance is the answer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentCall<'a> {
    /// The instance.
    pub instance_id: Cow<'a, str>,
    /// Its execution.
    #[serde(with = "execution")]
    pub execution_id: ExecutionId,
    /// Name of its orchestrator.
    pub name: Cow<'a, str>,
    /// Its version.
    pub version: Text<'a>,
    /// Number of the event that called.
    pub task_id: i32,
}

/// Why an instance was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StallShown<'a> {
    /// Since when.
    #[serde(with = "time")]
    pub since: Timestamp,
    /// The last error.
    pub reason: Cow<'a, str>,
    /// Deliveries without an accepted answer.
    pub attempts: u32,
}

/// What a list says of the payloads it does not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summaries {
    /// The input.
    pub input: Option<Summary>,
    /// What the instance says of itself.
    pub custom_status: Option<Summary>,
    /// The result.
    pub output: Option<Summary>,
}

/// The description of a payload that is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its size.
    pub bytes: usize,
    /// How it begins.
    pub preview: String,
}

impl<'a> Instance<'a> {
    /// An instance. It looks through all payloads that are shown as JSON.
    pub fn new(hub: &'a HubName, info: &'a InstanceInfo, fields: Fields) -> Self {
        let shown = |payload: &'a Option<Payload>, is_shown: bool| {
            let payload = payload.as_ref().filter(|_| is_shown);
            if fields.as_text {
                Shown::stored(payload)
            } else {
                Shown::new(payload)
            }
        };
        let parent = info.parent.as_deref();
        let failure = info.failure.as_deref().filter(|_| fields.output);
        Self {
            hub: Cow::Borrowed(hub.as_str()),
            instance_id: Cow::Borrowed(info.instance.as_str()),
            execution_id: info.execution,
            name: name(&info.name),
            version: info.version.as_ref().map(name),
            runtime_status: info.status,
            created_time: info.created_at,
            last_updated_time: info.updated_at,
            completed_time: info.completed_at,
            scheduled_start_time: info.scheduled_start,
            input: shown(&info.input, fields.input),
            custom_status: shown(&info.custom_status, fields.custom_status),
            output: shown(&info.output, fields.output),
            failure: failure.map(Into::into),
            tags: Cow::Borrowed(&info.tags),
            parent_instance_id: parent.map(|parent| Cow::Borrowed(parent.instance.as_str())),
            parent: parent.map(Into::into),
            generation: info.ordinal + 1,
            history_length: None,
            history_bytes: None,
            stalled: info.stalled.as_deref().map(Into::into),
            summaries: fields.is_list.then(|| Summaries::new(info, fields)),
        }
    }

    /// The same with the size of the history.
    #[must_use]
    pub fn with_history(self, events: u64, bytes: u64) -> Self {
        Self {
            history_length: Some(events),
            history_bytes: Some(bytes),
            ..self
        }
    }
}

impl TryFrom<Instance<'_>> for InstanceInfo {
    type Error = Unreadable;

    /// Converts a record whose payloads are texts to core's type. As in a history, members that the surface does not
    /// have stay empty.
    fn try_from(shown: Instance<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            instance: read_instance(Some(shown.instance_id))?,
            execution: shown.execution_id,
            ordinal: shown.generation.checked_sub(1).ok_or(Unreadable("generation 0"))?,
            name: read_name(&shown.name)?,
            version: read_version(shown.version),
            status: shown.runtime_status,
            created_at: shown.created_time,
            updated_at: shown.last_updated_time,
            completed_at: shown.completed_time,
            scheduled_start: shown.scheduled_start_time,
            input: shown.input.into_stored(),
            output: shown.output.into_stored(),
            custom_status: shown.custom_status.into_stored(),
            failure: shown.failure.map(|failure| Box::new(failure.into())),
            tags: shown.tags.into_owned(),
            parent: shown.parent.map(TryInto::try_into).transpose()?.map(Box::new),
            stalled: shown.stalled.map(|stall| Box::new(stall.into())),
        })
    }
}

impl<'a> From<&'a Parent> for ParentCall<'a> {
    fn from(parent: &'a Parent) -> Self {
        Self {
            instance_id: Cow::Borrowed(parent.instance.as_str()),
            execution_id: parent.execution,
            name: name(&parent.name),
            version: parent.version.as_ref().map(name),
            task_id: parent.task_id,
        }
    }
}

impl TryFrom<ParentCall<'_>> for Parent {
    type Error = Unreadable;

    fn try_from(parent: ParentCall<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            instance: read_instance(Some(parent.instance_id))?,
            execution: parent.execution_id,
            task_id: parent.task_id,
            // Of use to the engine alone.
            occurrence: Occurrence(0),
            name: read_name(&parent.name)?,
            version: read_version(parent.version),
        })
    }
}

impl<'a> From<&'a Stall> for StallShown<'a> {
    fn from(stall: &'a Stall) -> Self {
        Self {
            since: stall.since,
            reason: Cow::Borrowed(&stall.reason),
            attempts: stall.attempts,
        }
    }
}

impl From<StallShown<'_>> for Stall {
    fn from(stall: StallShown<'_>) -> Self {
        Self {
            since: stall.since,
            reason: stall.reason.into_owned(),
            attempts: stall.attempts,
        }
    }
}

impl Summaries {
    fn new(info: &InstanceInfo, fields: Fields) -> Self {
        let summary = |payload: &Option<Payload>, is_shown: bool| {
            let payload = payload.as_ref().filter(|_| !is_shown)?;
            Some(Summary {
                bytes: payload.len(),
                preview: preview(payload),
            })
        };
        Self {
            input: summary(&info.input, fields.input),
            custom_status: summary(&info.custom_status, fields.custom_status),
            output: summary(&info.output, fields.output),
        }
    }
}

fn preview(payload: &Payload) -> String {
    // A character has four bytes at most, so no more of a large payload is looked at than needed.
    let start = payload.bytes().get(..PREVIEW_CHARS * 4).unwrap_or(payload.bytes());
    String::from_utf8_lossy(start).chars().take(PREVIEW_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use taskhub_core::event::{EventKind, HistoryEvent};
    use taskhub_core::failure::Failure;
    use taskhub_core::id::{InstanceId, Name};

    use super::*;
    use crate::history::full;
    use crate::merged::{Shows, records};

    fn info() -> InstanceInfo {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        InstanceInfo {
            instance: InstanceId::new("order 17").unwrap(),
            execution: ExecutionId::new([1; 16]),
            ordinal: 2,
            name: Name::new("Order").unwrap(),
            version: Some(Name::new("1.2").unwrap()),
            status: RuntimeStatus::Failed,
            created_at: at("2026-11-22T23:40:12.5Z"),
            updated_at: at("2026-11-22T23:41:00Z"),
            completed_at: Some(at("2026-11-22T23:41:00Z")),
            scheduled_start: None,
            input: Some(Payload::text(r#"{"a": 1.10}"#)),
            output: Some(Payload::text("no JSON")),
            custom_status: Some(Payload::text("\"a\"")),
            failure: Some(Box::new(Failure::new("E", "x").caused_by(Failure::new("I", "y")))),
            tags: Tags::from([("k".to_owned(), "v".to_owned())]),
            parent: Some(Box::new(Parent {
                instance: InstanceId::new("p").unwrap(),
                execution: ExecutionId::new([2; 16]),
                task_id: 4,
                occurrence: Occurrence(0),
                name: Name::new("P").unwrap(),
                version: None,
            })),
            stalled: Some(Box::new(Stall {
                since: at("2026-11-22T23:40:30Z"),
                reason: "why".to_owned(),
                attempts: 3,
            })),
        }
    }

    #[test]
    fn an_instance_whose_payloads_are_texts_is_read_back() {
        let (hub, info) = (HubName::new("Orders").unwrap(), info());
        let all = Fields {
            input: true,
            output: true,
            custom_status: true,
            as_text: true,
            is_list: false,
        };
        let shown = Instance::new(&hub, &info, all).with_history(7, 70);
        let json = serde_json::to_string(&shown).unwrap();
        assert_eq!(
            json,
            r#"{"hub":"Orders","instanceId":"order 17","executionId":"01010101010101010101010101010101","name":"Order","version":"1.2","runtimeStatus":"Failed","createdTime":"2026-11-22T23:40:12.5Z","lastUpdatedTime":"2026-11-22T23:41:00Z","completedTime":"2026-11-22T23:41:00Z","scheduledStartTime":null,"input":"{\"a\": 1.10}","customStatus":"\"a\"","output":"no JSON","failure":{"errorType":"E","errorMessage":"x","stackTrace":null,"innerFailure":{"errorType":"I","errorMessage":"y","stackTrace":null,"innerFailure":null,"isNonRetriable":false},"isNonRetriable":false},"tags":{"k":"v"},"parentInstanceId":"p","parent":{"instanceId":"p","executionId":"02020202020202020202020202020202","name":"P","version":null,"taskId":4},"generation":3,"historyLength":7,"historyBytes":70,"stalled":{"since":"2026-11-22T23:40:30Z","reason":"why","attempts":3}}"#
        );
        let read: Instance<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!((read.history_length, read.history_bytes), (Some(7), Some(70)));
        assert_eq!(InstanceInfo::try_from(read), Ok(info));
    }

    #[test]
    fn a_list_sums_up_what_it_does_not_show() {
        let (hub, info) = (HubName::new("Orders").unwrap(), info());
        let list = Fields {
            output: true,
            is_list: true,
            ..Fields::default()
        };
        let json = serde_json::to_string(&Instance::new(&hub, &info, list)).unwrap();
        let summaries = r#""summaries":{"input":{"bytes":11,"preview":"{\"a\": 1.10}"},"customStatus":{"bytes":3,"preview":"\"a\""},"output":null}}"#;
        assert!(json.ends_with(summaries), "{json}");
        assert!(
            json.contains(r#""input":null,"customStatus":null,"output":"no JSON""#),
            "{json}"
        );
    }

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let info = info();
        let events = [HistoryEvent {
            id: -1,
            at: info.created_at,
            kind: EventKind::ExecutionCompleted {
                status: RuntimeStatus::Failed,
                result: Some(Payload::text("[1.10]")),
                failure: None,
            },
        }];
        let all = Shows {
            results: true,
            inputs: true,
        };
        let (full, merged) = (History::Full(full(&events)), History::Merged(records(&events, all)));
        let texts = |history: &History<'_>| {
            let text = serde_json::to_string(history).unwrap();
            format!(r#","historyEvents":{text},"history":{text}"#)
        };
        for (history, more) in [
            (None, String::new()),
            (Some(&full), texts(&full)),
            (Some(&merged), texts(&merged)),
        ] {
            let shown = InstanceStatus::new(&info, true).with_history(history);
            let json = serde_json::to_string(&shown).unwrap();
            let expected = r#"{"name":"Order","instanceId":"order 17","runtimeStatus":"Failed","input":{"a": 1.10},"customStatus":"a","output":"no JSON","createdTime":"2026-11-22T23:40:12Z","lastUpdatedTime":"2026-11-22T23:41:00Z""#;
            assert_eq!(json, format!("{expected}{more}}}"));
            let read: InstanceStatus<'_> = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
    }
}
