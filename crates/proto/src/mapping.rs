//! Core's history events ↔ the protocol's: each pair of functions is one type, both ways.
//!
//! Every `match` and every pattern names all there is, so that a new event kind or member does not
//! compile until it is mapped. Members of the protocol that core has no use for yet (trace
//! contexts, span ids) are written as absent and skipped when read.

use bytes::Bytes;
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name, Occurrence};
use taskhub_core::payload::Payload;
use taskhub_core::status::RuntimeStatus;
use taskhub_core::time::Timestamp;

use crate::error::DecodeError;
use crate::wire;
use crate::wire::history_event::EventType;

/// Causes of causes that are written; those further down are dropped.
///
/// Protobuf readers, ours and those of the SDKs, refuse messages nested deeper than 100, so a
/// failure with more causes would make its history unreadable.
const FAILURE_DEPTH_MAX: usize = 64;

pub(crate) fn write_event(event: &HistoryEvent) -> wire::HistoryEvent {
    let HistoryEvent { id, at, kind } = event;
    wire::HistoryEvent {
        event_id: *id,
        timestamp: Some(write_time(*at)),
        event_type: Some(write_kind(kind)),
    }
}

pub(crate) fn read_event(event: wire::HistoryEvent) -> Result<HistoryEvent, DecodeError> {
    let wire::HistoryEvent {
        event_id,
        timestamp,
        event_type,
    } = event;
    Ok(HistoryEvent {
        id: event_id,
        at: read_time(timestamp, "HistoryEvent", "timestamp")?,
        kind: read_kind(need(event_type, "HistoryEvent", "eventType")?)?,
    })
}

fn write_kind(kind: &EventKind) -> EventType {
    match kind {
        EventKind::ExecutionStarted(started) => EventType::ExecutionStarted(Box::new(write_started(started))),
        EventKind::OrchestratorStarted => EventType::OrchestratorStarted(wire::OrchestratorStartedEvent {}),
        EventKind::TaskScheduled {
            name,
            version,
            input,
            tags,
        } => EventType::TaskScheduled(write_scheduled(name, version.as_ref(), input.as_ref(), tags)),
        EventKind::TaskCompleted {
            task_scheduled_id,
            result,
        } => EventType::TaskCompleted(wire::TaskCompletedEvent {
            task_scheduled_id: *task_scheduled_id,
            result: write_payload(result.as_ref()),
        }),
        EventKind::TaskFailed {
            task_scheduled_id,
            failure,
        } => EventType::TaskFailed(wire::TaskFailedEvent {
            task_scheduled_id: *task_scheduled_id,
            failure_details: Some(write_failure(failure)),
        }),
        EventKind::TimerCreated { fire_at } => EventType::TimerCreated(wire::TimerCreatedEvent {
            fire_at: Some(write_time(*fire_at)),
        }),
        EventKind::TimerFired { timer_id, fire_at } => EventType::TimerFired(wire::TimerFiredEvent {
            fire_at: Some(write_time(*fire_at)),
            timer_id: *timer_id,
        }),
        EventKind::SubOrchestrationInstanceCreated {
            instance,
            name,
            version,
            input,
            tags,
        } => EventType::SubOrchestrationInstanceCreated(write_child_created(
            instance,
            name,
            version.as_ref(),
            input.as_ref(),
            tags,
        )),
        EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id,
            result,
        } => EventType::SubOrchestrationInstanceCompleted(wire::SubOrchestrationInstanceCompletedEvent {
            task_scheduled_id: *task_scheduled_id,
            result: write_payload(result.as_ref()),
        }),
        EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id,
            failure,
        } => EventType::SubOrchestrationInstanceFailed(wire::SubOrchestrationInstanceFailedEvent {
            task_scheduled_id: *task_scheduled_id,
            failure_details: Some(write_failure(failure)),
        }),
        EventKind::EventSent { instance, name, input } => {
            EventType::EventSent(write_sent(instance, name, input.as_ref()))
        }
        EventKind::EventRaised { name, input } => EventType::EventRaised(wire::EventRaisedEvent {
            name: name.as_str().to_owned(),
            input: write_payload(input.as_ref()),
        }),
        EventKind::ExecutionSuspended { reason } => EventType::ExecutionSuspended(wire::ExecutionSuspendedEvent {
            input: write_payload(reason.as_ref()),
        }),
        EventKind::ExecutionResumed { reason } => EventType::ExecutionResumed(wire::ExecutionResumedEvent {
            input: write_payload(reason.as_ref()),
        }),
        EventKind::ExecutionTerminated { reason, recurse } => {
            EventType::ExecutionTerminated(wire::ExecutionTerminatedEvent {
                input: write_payload(reason.as_ref()),
                recurse: *recurse,
            })
        }
        EventKind::ExecutionCompleted {
            status,
            result,
            failure,
        } => EventType::ExecutionCompleted(write_completed(*status, result.as_ref(), failure.as_deref())),
    }
}

fn read_kind(kind: EventType) -> Result<EventKind, DecodeError> {
    match kind {
        EventType::ExecutionStarted(started) => read_started(*started),
        EventType::OrchestratorStarted(wire::OrchestratorStartedEvent {}) => Ok(EventKind::OrchestratorStarted),
        EventType::TaskScheduled(scheduled) => read_scheduled(scheduled),
        EventType::TaskCompleted(wire::TaskCompletedEvent {
            task_scheduled_id,
            result,
        }) => Ok(EventKind::TaskCompleted {
            task_scheduled_id,
            result: read_payload(result),
        }),
        EventType::TaskFailed(wire::TaskFailedEvent {
            task_scheduled_id,
            failure_details,
        }) => Ok(EventKind::TaskFailed {
            task_scheduled_id,
            failure: read_needed_failure(failure_details, "TaskFailedEvent")?,
        }),
        EventType::TimerCreated(wire::TimerCreatedEvent { fire_at }) => Ok(EventKind::TimerCreated {
            fire_at: read_time(fire_at, "TimerCreatedEvent", "fireAt")?,
        }),
        EventType::TimerFired(wire::TimerFiredEvent { fire_at, timer_id }) => Ok(EventKind::TimerFired {
            timer_id,
            fire_at: read_time(fire_at, "TimerFiredEvent", "fireAt")?,
        }),
        EventType::SubOrchestrationInstanceCreated(created) => read_child_created(created),
        EventType::SubOrchestrationInstanceCompleted(wire::SubOrchestrationInstanceCompletedEvent {
            task_scheduled_id,
            result,
        }) => Ok(EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id,
            result: read_payload(result),
        }),
        EventType::SubOrchestrationInstanceFailed(wire::SubOrchestrationInstanceFailedEvent {
            task_scheduled_id,
            failure_details,
        }) => Ok(EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id,
            failure: read_needed_failure(failure_details, "SubOrchestrationInstanceFailedEvent")?,
        }),
        EventType::EventSent(sent) => read_sent(sent),
        EventType::EventRaised(wire::EventRaisedEvent { name, input }) => Ok(EventKind::EventRaised {
            name: Name::stored(&name),
            input: read_payload(input),
        }),
        EventType::ExecutionSuspended(wire::ExecutionSuspendedEvent { input }) => Ok(EventKind::ExecutionSuspended {
            reason: read_payload(input),
        }),
        EventType::ExecutionResumed(wire::ExecutionResumedEvent { input }) => Ok(EventKind::ExecutionResumed {
            reason: read_payload(input),
        }),
        EventType::ExecutionTerminated(wire::ExecutionTerminatedEvent { input, recurse }) => {
            Ok(EventKind::ExecutionTerminated {
                reason: read_payload(input),
                recurse,
            })
        }
        EventType::ExecutionCompleted(completed) => read_completed(completed),
        EventType::OrchestratorCompleted(_) => unsupported("OrchestratorCompleted"),
        EventType::GenericEvent(_) => unsupported("GenericEvent"),
        EventType::HistoryState(_) => unsupported("HistoryState"),
        EventType::ContinueAsNew(_) => unsupported("ContinueAsNew"),
        EventType::EntityOperationSignaled(_) => unsupported("EntityOperationSignaled"),
        EventType::EntityOperationCalled(_) => unsupported("EntityOperationCalled"),
        EventType::EntityOperationCompleted(_) => unsupported("EntityOperationCompleted"),
        EventType::EntityOperationFailed(_) => unsupported("EntityOperationFailed"),
        EventType::EntityLockRequested(_) => unsupported("EntityLockRequested"),
        EventType::EntityLockGranted(_) => unsupported("EntityLockGranted"),
        EventType::EntityUnlockSent(_) => unsupported("EntityUnlockSent"),
        EventType::ExecutionRewound(_) => unsupported("ExecutionRewound"),
    }
}

fn unsupported(kind: &'static str) -> Result<EventKind, DecodeError> {
    Err(DecodeError::UnsupportedEvent { kind })
}

fn write_started(started: &ExecutionStarted) -> wire::ExecutionStartedEvent {
    let ExecutionStarted {
        name,
        version,
        input,
        instance,
        execution,
        parent,
        scheduled_start,
        tags,
    } = started;
    wire::ExecutionStartedEvent {
        name: name.as_str().to_owned(),
        version: write_name(version.as_ref()),
        input: write_payload(input.as_ref()),
        orchestration_instance: Some(write_instance(instance, *execution)),
        parent_instance: parent.as_ref().map(write_parent),
        scheduled_start_timestamp: scheduled_start.map(write_time),
        parent_trace_context: None,
        orchestration_span_id: None,
        tags: tags.clone(),
    }
}

fn read_started(started: wire::ExecutionStartedEvent) -> Result<EventKind, DecodeError> {
    let wire::ExecutionStartedEvent {
        name,
        version,
        input,
        orchestration_instance,
        parent_instance,
        scheduled_start_timestamp,
        parent_trace_context: _,
        orchestration_span_id: _,
        tags,
    } = started;
    let (instance, execution) = read_instance(orchestration_instance, "ExecutionStartedEvent")?;
    Ok(EventKind::ExecutionStarted(Box::new(ExecutionStarted {
        name: Name::stored(&name),
        version: read_name(version, "version")?,
        input: read_payload(input),
        instance,
        execution,
        parent: parent_instance.map(read_parent).transpose()?,
        scheduled_start: scheduled_start_timestamp.map(read_known_time),
        tags,
    })))
}

fn write_scheduled(
    name: &Name,
    version: Option<&Name>,
    input: Option<&Payload>,
    tags: &Tags,
) -> wire::TaskScheduledEvent {
    wire::TaskScheduledEvent {
        name: name.as_str().to_owned(),
        version: write_name(version),
        input: write_payload(input),
        parent_trace_context: None,
        tags: tags.clone(),
    }
}

fn read_scheduled(scheduled: wire::TaskScheduledEvent) -> Result<EventKind, DecodeError> {
    let wire::TaskScheduledEvent {
        name,
        version,
        input,
        parent_trace_context: _,
        tags,
    } = scheduled;
    Ok(EventKind::TaskScheduled {
        name: Name::stored(&name),
        version: read_name(version, "version")?,
        input: read_payload(input),
        tags,
    })
}

fn write_child_created(
    instance: &InstanceId,
    name: &Name,
    version: Option<&Name>,
    input: Option<&Payload>,
    tags: &Tags,
) -> wire::SubOrchestrationInstanceCreatedEvent {
    wire::SubOrchestrationInstanceCreatedEvent {
        instance_id: instance.as_str().to_owned(),
        name: name.as_str().to_owned(),
        version: write_name(version),
        input: write_payload(input),
        parent_trace_context: None,
        tags: tags.clone(),
    }
}

fn read_child_created(created: wire::SubOrchestrationInstanceCreatedEvent) -> Result<EventKind, DecodeError> {
    let wire::SubOrchestrationInstanceCreatedEvent {
        instance_id,
        name,
        version,
        input,
        parent_trace_context: _,
        tags,
    } = created;
    Ok(EventKind::SubOrchestrationInstanceCreated {
        instance: read_instance_id(&instance_id)?,
        name: Name::stored(&name),
        version: read_name(version, "version")?,
        input: read_payload(input),
        tags,
    })
}

fn write_sent(instance: &InstanceId, name: &Name, input: Option<&Payload>) -> wire::EventSentEvent {
    wire::EventSentEvent {
        instance_id: instance.as_str().to_owned(),
        name: name.as_str().to_owned(),
        input: write_payload(input),
    }
}

fn read_sent(sent: wire::EventSentEvent) -> Result<EventKind, DecodeError> {
    let wire::EventSentEvent {
        instance_id,
        name,
        input,
    } = sent;
    Ok(EventKind::EventSent {
        instance: read_instance_id(&instance_id)?,
        name: Name::stored(&name),
        input: read_payload(input),
    })
}

fn write_completed(
    status: RuntimeStatus,
    result: Option<&Payload>,
    failure: Option<&Failure>,
) -> wire::ExecutionCompletedEvent {
    wire::ExecutionCompletedEvent {
        orchestration_status: write_status(status),
        result: write_payload(result),
        failure_details: failure.map(write_failure),
    }
}

fn read_completed(completed: wire::ExecutionCompletedEvent) -> Result<EventKind, DecodeError> {
    let wire::ExecutionCompletedEvent {
        orchestration_status,
        result,
        failure_details,
    } = completed;
    Ok(EventKind::ExecutionCompleted {
        status: read_status(orchestration_status)?,
        result: read_payload(result),
        failure: read_failure(failure_details)?,
    })
}

pub(crate) fn write_parent(parent: &Parent) -> wire::ParentInstanceInfo {
    let Parent {
        instance,
        execution,
        task_id,
        occurrence,
        name,
        version,
    } = parent;
    wire::ParentInstanceInfo {
        task_scheduled_id: *task_id,
        name: write_name(Some(name)),
        version: write_name(version.as_ref()),
        orchestration_instance: Some(write_instance(instance, *execution)),
        occurrence: occurrence.0,
    }
}

pub(crate) fn read_parent(parent: wire::ParentInstanceInfo) -> Result<Parent, DecodeError> {
    let wire::ParentInstanceInfo {
        task_scheduled_id,
        name,
        version,
        orchestration_instance,
        occurrence,
    } = parent;
    let (instance, execution) = read_instance(orchestration_instance, "ParentInstanceInfo")?;
    Ok(Parent {
        instance,
        execution,
        task_id: task_scheduled_id,
        occurrence: Occurrence(occurrence),
        name: need(read_name(name, "name")?, "ParentInstanceInfo", "name")?,
        version: read_name(version, "version")?,
    })
}

fn write_instance(instance: &InstanceId, execution: ExecutionId) -> wire::OrchestrationInstance {
    wire::OrchestrationInstance {
        instance_id: instance.as_str().to_owned(),
        execution_id: Some(write_text(execution.to_string())),
    }
}

fn read_instance(
    instance: Option<wire::OrchestrationInstance>,
    message: &'static str,
) -> Result<(InstanceId, ExecutionId), DecodeError> {
    let wire::OrchestrationInstance {
        instance_id,
        execution_id,
    } = need(instance, message, "orchestrationInstance")?;
    let text = need(execution_id, "OrchestrationInstance", "executionId")?;
    let text = read_text(&text, "executionId")?;
    let execution = ExecutionId::parse(text).ok_or_else(|| DecodeError::ExecutionId { given: text.to_owned() })?;
    Ok((read_instance_id(&instance_id)?, execution))
}

pub(crate) fn read_instance_id(text: &str) -> Result<InstanceId, DecodeError> {
    InstanceId::new(text).map_err(|source| DecodeError::InstanceId { source })
}

pub(crate) fn write_failure(failure: &Failure) -> wire::TaskFailureDetails {
    write_failure_to(failure, FAILURE_DEPTH_MAX)
}

fn write_failure_to(failure: &Failure, depth_left: usize) -> wire::TaskFailureDetails {
    let Failure {
        error_type,
        message,
        stack_trace,
        inner,
        non_retriable,
        properties,
    } = failure;
    let inner = inner.as_deref().filter(|_| depth_left > 0);
    wire::TaskFailureDetails {
        error_type: error_type.clone(),
        error_message: message.clone(),
        stack_trace: stack_trace.clone().map(write_text),
        inner_failure: inner.map(|inner| Box::new(write_failure_to(inner, depth_left - 1))),
        is_non_retriable: *non_retriable,
        properties: properties
            .iter()
            .map(|(key, value)| (key.clone(), Bytes::copy_from_slice(value)))
            .collect(),
    }
}

pub(crate) fn read_failure(failure: Option<wire::TaskFailureDetails>) -> Result<Option<Box<Failure>>, DecodeError> {
    failure.map(read_known_failure).transpose()
}

pub(crate) fn read_known_failure(failure: wire::TaskFailureDetails) -> Result<Box<Failure>, DecodeError> {
    let wire::TaskFailureDetails {
        error_type,
        error_message,
        stack_trace,
        inner_failure,
        is_non_retriable,
        properties,
    } = failure;
    let stack_trace = match &stack_trace {
        Some(text) => Some(read_text(text, "stackTrace")?.to_owned()),
        None => None,
    };
    Ok(Box::new(Failure {
        error_type,
        message: error_message,
        stack_trace,
        inner: inner_failure.map(|inner| read_known_failure(*inner)).transpose()?,
        non_retriable: is_non_retriable,
        properties: properties.into_iter().map(|(key, value)| (key, value.into())).collect(),
    }))
}

fn read_needed_failure(
    failure: Option<wire::TaskFailureDetails>,
    message: &'static str,
) -> Result<Box<Failure>, DecodeError> {
    read_known_failure(need(failure, message, "failureDetails")?)
}

pub(crate) fn write_status(status: RuntimeStatus) -> i32 {
    i32::from(status.number())
}

pub(crate) fn read_status(number: i32) -> Result<RuntimeStatus, DecodeError> {
    u8::try_from(number)
        .ok()
        .and_then(RuntimeStatus::from_number)
        .ok_or(DecodeError::RuntimeStatus { number })
}

pub(crate) fn write_payload(payload: Option<&Payload>) -> Option<wire::Text> {
    payload.map(|payload| wire::Text {
        value: payload.bytes().clone(),
    })
}

pub(crate) fn read_payload(text: Option<wire::Text>) -> Option<Payload> {
    text.map(|text| Payload::new(text.value))
}

pub(crate) fn write_name(name: Option<&Name>) -> Option<wire::Text> {
    name.map(|name| write_text(name.as_str().to_owned()))
}

pub(crate) fn read_name(text: Option<wire::Text>, field: &'static str) -> Result<Option<Name>, DecodeError> {
    match text {
        Some(text) => Ok(Some(Name::stored(read_text(&text, field)?))),
        None => Ok(None),
    }
}

fn write_text(text: String) -> wire::Text {
    wire::Text { value: text.into() }
}

fn read_text<'text>(text: &'text wire::Text, field: &'static str) -> Result<&'text str, DecodeError> {
    str::from_utf8(&text.value).map_err(|source| DecodeError::NotText { field, source })
}

pub(crate) fn write_time(time: Timestamp) -> wire::Timestamp {
    let (seconds, nanos) = time.parts();
    wire::Timestamp { seconds, nanos }
}

pub(crate) fn read_known_time(time: wire::Timestamp) -> Timestamp {
    Timestamp::from_parts(time.seconds, time.nanos)
}

pub(crate) fn read_time(
    time: Option<wire::Timestamp>,
    message: &'static str,
    field: &'static str,
) -> Result<Timestamp, DecodeError> {
    need(time, message, field).map(read_known_time)
}

/// The member, which a message of this kind never lacks.
pub(crate) fn need<T>(value: Option<T>, message: &'static str, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { message, field })
}
