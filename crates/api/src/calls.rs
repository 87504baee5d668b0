//! Requests and answers of our own API. In answers absent members are `null`, never left out; a request with a member
//! that does not exist is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use taskhub_core::event::Tags;
use taskhub_core::message::Repeats;
use taskhub_core::time::Timestamp;

use crate::history::Event;
use crate::instance::Instance;
use crate::payload::Text;
use crate::{present, time};

/// A page of a list, and the position of the next page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Items<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// A token of the server, absent at the end.
    pub cursor: Option<String>,
}

/// A hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubBody {
    /// Its name.
    pub name: String,
    /// Whether it is the server's first one.
    pub is_default: bool,
    /// Number of its partitions.
    pub partitions: u16,
    /// When it was created.
    #[serde(with = "time")]
    pub created_time: Timestamp,
}

/// How many instances a hub has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats<'a> {
    /// The hub.
    pub hub: Cow<'a, str>,
    /// Instances.
    pub instances: u64,
    /// Those in each status that there are any in.
    pub by_status: BTreeMap<Cow<'a, str>, u64>,
}

/// A hub that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubDeleted<'a> {
    /// Its name.
    pub deleted: Cow<'a, str>,
}

/// What a wait came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waited<'a> {
    /// Whether what was waited for has come.
    pub is_met: bool,
    /// The instance now.
    pub instance: Instance<'a>,
}

/// Part of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryPartBody<'a> {
    /// Events.
    pub items: Vec<Event<'a>>,
    /// Number of the first event that is not in it; absent at the end.
    pub next_from: Option<usize>,
}

/// The answer to a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartedBody<'a> {
    /// The hub.
    pub hub: Cow<'a, str>,
    /// The instance.
    pub instance_id: Cow<'a, str>,
    /// Whether it was started; if not, it was there already.
    pub is_new: bool,
}

/// The answer to what changes one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acted<'a> {
    /// The hub.
    pub hub: Cow<'a, str>,
    /// The instance.
    pub instance_id: Cow<'a, str>,
}

/// The answer to a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgedBody {
    /// Instances that went.
    pub purged: u64,
    /// Records, events and archived executions that went with them.
    #[serde(default)]
    pub rows: u64,
    /// Whether all that were meant went; if not, the call is to be repeated.
    pub is_complete: bool,
}

/// A start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartBody<'a> {
    /// Name of the orchestrator.
    pub name: Cow<'a, str>,
    /// The id; the server makes one if it is absent.
    pub instance_id: Text<'a>,
    /// The input.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// Version of the orchestrator; that of the server's settings if it is absent.
    pub version: Text<'a>,
    /// Labels.
    #[serde(default)]
    pub tags: Tags,
    /// When to start, if not at once; in any form that people write times in.
    pub scheduled_start_time: Text<'a>,
    /// What to do about an instance with this id.
    #[serde(default)]
    pub if_exists: IfExists,
    /// Makes a repetition of the same start harmless.
    pub idempotency_key: Text<'a>,
    /// For how long.
    #[serde(default)]
    pub repeats: RepeatsWord,
}

/// For how long a start with a key that was used is the repetition of that one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepeatsWord {
    /// For the key's time.
    #[default]
    Always,
    /// Only while the instance is live.
    WhileLive,
}

impl From<RepeatsWord> for Repeats {
    fn from(word: RepeatsWord) -> Self {
        match word {
            RepeatsWord::Always => Self::Always,
            RepeatsWord::WhileLive => Self::WhileLive,
        }
    }
}

impl From<Repeats> for RepeatsWord {
    fn from(repeats: Repeats) -> Self {
        match repeats {
            Repeats::Always => Self::Always,
            Repeats::WhileLive => Self::WhileLive,
        }
    }
}

/// What a start does to an instance in its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfExists {
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RaiseBody<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it brings.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// Makes a repetition harmless.
    pub idempotency_key: Text<'a>,
}

/// Terminate, suspend, resume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReasonBody<'a> {
    /// The reason.
    pub reason: Text<'a>,
    /// Whether the children as well; of terminate alone.
    #[serde(default)]
    pub recursive: bool,
}

/// A purge of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurgeBody<'a> {
    /// Created then or later; in any form that people write times in.
    pub created_from: Text<'a>,
    /// Created then or earlier.
    pub created_to: Text<'a>,
    /// Instances in one of these statuses; if empty, all ended instances.
    #[serde(default)]
    pub statuses: Vec<Cow<'a, str>>,
    /// Of this orchestrator.
    pub name: Text<'a>,
    /// With an id that begins so.
    pub id_prefix: Text<'a>,
    /// Has to be said where nothing restricts.
    #[serde(default)]
    pub all: bool,
}
