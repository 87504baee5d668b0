//! Instances and history events as a server writes them, read back into what core calls them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name, Occurrence};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus, Stall};
use taskhub_core::time::Timestamp;

/// An instance; payloads are texts of what is stored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "members have the names of the API")]
pub(super) struct Instance {
    instance_id: String,
    execution_id: String,
    name: String,
    version: Option<String>,
    runtime_status: String,
    created_time: String,
    last_updated_time: String,
    completed_time: Option<String>,
    scheduled_start_time: Option<String>,
    input: Option<String>,
    custom_status: Option<String>,
    output: Option<String>,
    failure: Option<FailureShown>,
    tags: Tags,
    parent: Option<ParentShown>,
    generation: u32,
    stalled: Option<StallShown>,
    pub(super) history_length: Option<u64>,
    pub(super) history_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailureShown {
    error_type: String,
    error_message: String,
    stack_trace: Option<String>,
    inner_failure: Option<Box<FailureShown>>,
    is_non_retriable: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentShown {
    instance_id: String,
    execution_id: String,
    name: String,
    version: Option<String>,
    task_id: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StallShown {
    since: String,
    reason: String,
    attempts: u32,
}

impl Instance {
    /// The status record.
    pub(super) fn into_info(self) -> Option<InstanceInfo> {
        let payload = |text: Option<String>| text.map(|text| Payload::new(text.into_bytes()));
        let moment = |text: Option<String>| text.map(|text| time(&text)).map_or(Some(None), |at| at.map(Some));
        let stalled = match self.stalled {
            Some(stall) => Some(Box::new(Stall {
                since: time(&stall.since)?,
                reason: stall.reason,
                attempts: stall.attempts,
            })),
            None => None,
        };
        let parent = match self.parent {
            Some(parent) => Some(Box::new(parent.read()?)),
            None => None,
        };
        Some(InstanceInfo {
            instance: InstanceId::new(&self.instance_id).ok()?,
            execution: ExecutionId::parse(&self.execution_id)?,
            ordinal: self.generation.checked_sub(1)?,
            name: Name::new(&self.name).ok()?,
            version: version(self.version.as_deref()),
            status: status(&self.runtime_status)?,
            created_at: time(&self.created_time)?,
            updated_at: time(&self.last_updated_time)?,
            completed_at: moment(self.completed_time)?,
            scheduled_start: moment(self.scheduled_start_time)?,
            input: payload(self.input),
            output: payload(self.output),
            custom_status: payload(self.custom_status),
            failure: self.failure.map(|failure| Box::new(failure.read())),
            tags: self.tags,
            parent,
            stalled,
        })
    }
}

impl FailureShown {
    fn read(self) -> Failure {
        Failure {
            error_type: self.error_type,
            message: self.error_message,
            stack_trace: self.stack_trace,
            inner: self.inner_failure.map(|inner| Box::new(inner.read())),
            non_retriable: self.is_non_retriable,
            properties: BTreeMap::new(),
        }
    }
}

impl ParentShown {
    fn read(self) -> Option<Parent> {
        Some(Parent {
            instance: InstanceId::new(&self.instance_id).ok()?,
            execution: ExecutionId::parse(&self.execution_id)?,
            task_id: self.task_id,
            // Of use to the engine alone.
            occurrence: Occurrence(0),
            name: Name::new(&self.name).ok()?,
            version: version(self.version.as_deref()),
        })
    }
}

/// A status by its word.
pub(super) fn status(word: &str) -> Option<RuntimeStatus> {
    RuntimeStatus::ALL.into_iter().find(|status| status.to_string() == word)
}

fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text)
}

fn version(text: Option<&str>) -> Option<Name> {
    text.map(Name::stored)
}

/// A history event.
pub(super) fn event(value: &Value) -> Option<HistoryEvent> {
    let read = Members(value);
    Some(HistoryEvent {
        id: read.number("EventId")?,
        at: read.time("Timestamp")?,
        kind: read.kind()?,
    })
}

/// The members of an event.
struct Members<'v>(&'v Value);

impl Members<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    fn number(&self, name: &str) -> Option<i32> {
        i32::try_from(self.0.get(name)?.as_i64()?).ok()
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        time(self.text(name)?)
    }

    fn name(&self, name: &str) -> Option<Name> {
        Name::new(self.text(name)?).ok()
    }

    fn version(&self) -> Option<Name> {
        version(self.text("Version"))
    }

    fn payload(&self, name: &str) -> Option<Payload> {
        self.text(name).map(Payload::text)
    }

    fn instance(&self) -> Option<InstanceId> {
        InstanceId::new(self.text("InstanceId")?).ok()
    }

    fn tags(&self) -> Tags {
        let members = self.0.get("Tags").and_then(Value::as_object);
        let texts = members.into_iter().flatten();
        texts
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    fn failure(&self) -> Option<Failure> {
        failure(self.0.get("FailureDetails")?)
    }

    fn started(&self) -> Option<ExecutionStarted> {
        let own = Members(self.0.get("OrchestrationInstance")?);
        let parent = match self.0.get("ParentInstance") {
            None | Some(Value::Null) => None,
            Some(parent) => Some(Members(parent).parent()?),
        };
        Some(ExecutionStarted {
            name: self.name("Name")?,
            version: self.version(),
            input: self.payload("Input"),
            instance: own.instance()?,
            execution: ExecutionId::parse(own.text("ExecutionId")?)?,
            parent,
            scheduled_start: self.time("ScheduledStartTime"),
            tags: self.tags(),
        })
    }

    fn parent(&self) -> Option<Parent> {
        let own = Members(self.0.get("OrchestrationInstance")?);
        Some(Parent {
            instance: own.instance()?,
            execution: ExecutionId::parse(own.text("ExecutionId")?)?,
            task_id: self.number("TaskScheduleId")?,
            occurrence: Occurrence(0),
            name: self.name("Name")?,
            version: self.version(),
        })
    }

    fn kind(&self) -> Option<EventKind> {
        let scheduled = || self.number("TaskScheduledId");
        Some(match self.text("EventType")? {
            "ExecutionStarted" => EventKind::ExecutionStarted(Box::new(self.started()?)),
            "OrchestratorStarted" => EventKind::OrchestratorStarted,
            "TaskScheduled" => EventKind::TaskScheduled {
                name: self.name("Name")?,
                version: self.version(),
                input: self.payload("Input"),
                tags: self.tags(),
            },
            "TaskCompleted" => EventKind::TaskCompleted {
                task_scheduled_id: scheduled()?,
                result: self.payload("Result"),
            },
            "TaskFailed" => EventKind::TaskFailed {
                task_scheduled_id: scheduled()?,
                failure: Box::new(self.failure()?),
            },
            "TimerCreated" => EventKind::TimerCreated {
                fire_at: self.time("FireAt")?,
            },
            "TimerFired" => EventKind::TimerFired {
                timer_id: self.number("TimerId")?,
                fire_at: self.time("FireAt")?,
            },
            "SubOrchestrationInstanceCreated" => EventKind::SubOrchestrationInstanceCreated {
                instance: self.instance()?,
                name: self.name("Name")?,
                version: self.version(),
                input: self.payload("Input"),
                tags: self.tags(),
            },
            "SubOrchestrationInstanceCompleted" => EventKind::SubOrchestrationInstanceCompleted {
                task_scheduled_id: scheduled()?,
                result: self.payload("Result"),
            },
            "SubOrchestrationInstanceFailed" => EventKind::SubOrchestrationInstanceFailed {
                task_scheduled_id: scheduled()?,
                failure: Box::new(self.failure()?),
            },
            "EventSent" => EventKind::EventSent {
                instance: self.instance()?,
                name: self.name("Name")?,
                input: self.payload("Input"),
            },
            "EventRaised" => EventKind::EventRaised {
                name: self.name("Name")?,
                input: self.payload("Input"),
            },
            "ExecutionSuspended" => EventKind::ExecutionSuspended {
                reason: self.payload("Reason"),
            },
            "ExecutionResumed" => EventKind::ExecutionResumed {
                reason: self.payload("Reason"),
            },
            "ExecutionTerminated" => EventKind::ExecutionTerminated {
                reason: self.payload("Input"),
                recurse: self.0.get("Recurse")?.as_bool()?,
            },
            "ExecutionCompleted" => EventKind::ExecutionCompleted {
                status: status(self.text("OrchestrationStatus")?)?,
                result: self.payload("Result"),
                failure: self.failure().map(Box::new),
            },
            _ => return None,
        })
    }
}

fn failure(value: &Value) -> Option<Failure> {
    let read = Members(value);
    let inner = value.get("InnerFailure").filter(|inner| !inner.is_null());
    Some(Failure {
        error_type: read.text("ErrorType")?.to_owned(),
        message: read.text("ErrorMessage")?.to_owned(),
        stack_trace: read.text("StackTrace").map(str::to_owned),
        inner: inner.and_then(failure).map(Box::new),
        non_retriable: value.get("IsNonRetriable")?.as_bool()?,
        properties: BTreeMap::new(),
    })
}
