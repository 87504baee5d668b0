//! The JSON of our own API, both ways. Absent members are `null`, never left out, but for what a list was
//! not asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use taskhub_core::event::Tags;
use taskhub_core::failure::Failure;
use taskhub_core::id::{HubName, Name};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, Stall};

use super::super::history::Record;
use super::super::payload::Shown;
use super::super::shapes::status_word;
use super::super::time::fine;
use super::refused::without_folder;

/// Characters of a payload that a list shows when it does not show all.
const PREVIEW_CHARS: usize = 200;

/// The body of every refusal.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody<'a> {
    pub(super) error: ErrorWords<'a>,
}

/// The word of a condition, and a sentence for people.
#[derive(Debug, Serialize)]
pub(super) struct ErrorWords<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
}

/// A list, and where it goes on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
    pub(super) cursor: Option<String>,
}

/// A hub.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HubShown {
    pub(super) name: String,
    pub(super) is_default: bool,
    pub(super) partitions: u16,
    pub(super) created_time: String,
}

/// How many instances a hub has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats<'a> {
    pub(super) hub: &'a str,
    pub(super) instances: u64,
    pub(super) by_status: BTreeMap<&'static str, u64>,
}

/// Which payloads are shown, and how.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a choice of the caller, independent of the others"
)]
pub(super) struct Fields {
    pub(super) input: bool,
    pub(super) output: bool,
    pub(super) custom_status: bool,
    /// Payloads are JSON strings of what is stored, so that nothing is lost that JSON does not tell apart.
    pub(super) as_text: bool,
    /// Those that are not shown are summed up.
    pub(super) is_list: bool,
}

/// An instance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceShown<'a> {
    hub: &'a str,
    instance_id: &'a str,
    execution_id: String,
    name: &'a str,
    version: Option<&'a str>,
    runtime_status: &'static str,
    created_time: String,
    last_updated_time: String,
    completed_time: Option<String>,
    scheduled_start_time: Option<String>,
    input: Value<'a>,
    custom_status: Value<'a>,
    output: Value<'a>,
    failure: Option<FailureShown<'a>>,
    tags: &'a Tags,
    parent_instance_id: Option<&'a str>,
    parent: Option<ParentShown<'a>>,
    generation: u32,
    /// Events and bytes of the current execution's history; lists do not look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_bytes: Option<u64>,
    stalled: Option<StallShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summaries: Option<Summaries>,
}

impl<'a> InstanceShown<'a> {
    pub(super) fn new(hub: &'a HubName, info: &'a InstanceInfo, fields: Fields) -> Self {
        let value = |payload: &'a Option<Payload>, is_shown: bool| Value {
            payload: payload.as_ref().filter(|_| is_shown),
            as_text: fields.as_text,
        };
        let parent = info.parent.as_deref();
        Self {
            hub: hub.as_str(),
            instance_id: info.instance.as_str(),
            execution_id: info.execution.to_string(),
            name: info.name.as_str(),
            version: info.version.as_ref().map(Name::as_str),
            runtime_status: status_word(info.status),
            created_time: fine(info.created_at),
            last_updated_time: fine(info.updated_at),
            completed_time: info.completed_at.map(fine),
            scheduled_start_time: info.scheduled_start.map(fine),
            input: value(&info.input, fields.input),
            custom_status: value(&info.custom_status, fields.custom_status),
            output: value(&info.output, fields.output),
            failure: info.failure.as_deref().filter(|_| fields.output).map(FailureShown::new),
            tags: &info.tags,
            parent_instance_id: parent.map(|parent| parent.instance.as_str()),
            parent: parent.map(|parent| ParentShown {
                instance_id: parent.instance.as_str(),
                execution_id: parent.execution.to_string(),
                name: parent.name.as_str(),
                version: parent.version.as_ref().map(Name::as_str),
                task_id: parent.task_id,
            }),
            generation: info.ordinal + 1,
            history_length: None,
            history_bytes: None,
            stalled: info.stalled.as_deref().map(StallShown::new),
            summaries: fields.is_list.then(|| Summaries::new(info, fields)),
        }
    }
}

impl InstanceShown<'_> {
    /// The same with the size of the history.
    pub(super) fn with_history(mut self, events: u32, bytes: u64) -> Self {
        self.history_length = Some(events);
        self.history_bytes = Some(bytes);
        self
    }
}

/// A payload as JSON, or as a JSON string of what is stored.
#[derive(Debug)]
struct Value<'a> {
    payload: Option<&'a Payload>,
    as_text: bool,
}

impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.payload {
            Some(payload) if self.as_text => serializer.serialize_str(&payload.to_text()),
            payload => Shown::new(payload).serialize(serializer),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ParentShown<'a> {
    instance_id: &'a str,
    execution_id: String,
    name: &'a str,
    version: Option<&'a str>,
    task_id: i32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureShown<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: Option<&'a str>,
    inner_failure: Option<Box<FailureShown<'a>>>,
    is_non_retriable: bool,
}

impl<'a> FailureShown<'a> {
    fn new(failure: &'a Failure) -> Self {
        Self {
            error_type: &failure.error_type,
            error_message: &failure.message,
            stack_trace: failure.stack_trace.as_deref(),
            inner_failure: failure.inner.as_deref().map(|inner| Box::new(Self::new(inner))),
            is_non_retriable: failure.non_retriable,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StallShown {
    since: String,
    reason: String,
    attempts: u32,
}

impl StallShown {
    fn new(stall: &Stall) -> Self {
        Self {
            since: fine(stall.since),
            reason: without_folder(&stall.reason),
            attempts: stall.attempts,
        }
    }
}

/// What a list says of the payloads it does not show.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summaries {
    input: Option<Summary>,
    custom_status: Option<Summary>,
    output: Option<Summary>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    bytes: usize,
    preview: String,
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

/// What a wait came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waited<'a> {
    pub(super) is_met: bool,
    pub(super) instance: InstanceShown<'a>,
}

/// Part of a history.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistoryPart<'a> {
    pub(super) items: Vec<Record<'a>>,
    pub(super) next_from: Option<usize>,
}

/// The answer to a start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StartedShown<'a> {
    pub(super) hub: &'a str,
    pub(super) instance_id: &'a str,
    pub(super) is_new: bool,
}

/// The answer to what changes one instance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Acted<'a> {
    pub(super) hub: &'a str,
    pub(super) instance_id: &'a str,
}

/// The answer to a purge.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurgedShown {
    pub(super) purged: u64,
    /// Records, events and archived executions that went with them.
    pub(super) rows: u64,
    pub(super) is_complete: bool,
}

/// A hub that is gone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HubDeleted<'a> {
    pub(super) deleted: &'a str,
}

/// A start.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StartBody {
    pub(super) name: String,
    pub(super) instance_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) input: Option<Box<RawValue>>,
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) tags: Tags,
    pub(super) scheduled_start_time: Option<String>,
    #[serde(default)]
    pub(super) if_exists: IfExists,
    pub(super) idempotency_key: Option<String>,
    #[serde(default)]
    pub(super) repeats: RepeatsWord,
}

/// For how long a start with a key that was used is the repetition of that one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RepeatsWord {
    /// For the key's time.
    #[default]
    Always,
    /// Only while the instance is live.
    WhileLive,
}

/// What a start does to an instance in its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum IfExists {
    /// As the server is set.
    #[default]
    Default,
    /// It is refused.
    Error,
    /// It is taken for the one that was wanted.
    Reuse,
    /// It is replaced if it has ended.
    ReplaceEnded,
    /// It is replaced; a live one is terminated first.
    ReplaceAny,
}

/// An event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RaiseBody {
    pub(super) name: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) input: Option<Box<RawValue>>,
    pub(super) idempotency_key: Option<String>,
}

/// Terminate, suspend, resume.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReasonBody {
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) recursive: bool,
}

/// A purge of many.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PurgeBody {
    pub(super) created_from: Option<String>,
    pub(super) created_to: Option<String>,
    #[serde(default)]
    pub(super) statuses: Vec<String>,
    pub(super) name: Option<String>,
    pub(super) id_prefix: Option<String>,
    /// Has to be said where nothing restricts.
    #[serde(default)]
    pub(super) all: bool,
}

/// A member that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}
