//! Conversions between stored records other than history and their protobuf messages; each pair of functions converts
//! one type in both directions.
//!
//! As in `mapping`, every `match` and every pattern names all there is.

use bytes::Bytes;
use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::id::{ExecutionId, MessageNumber, Name, Occurrence};
use taskhub_core::message::{ChildStart, Message, OutboxBody, OutboxItem, Outcome};
use taskhub_core::status::{InstanceInfo, Stall};

use crate::error::DecodeError;
use crate::mapping::{
    need, read_event, read_failure, read_instance_id, read_known_failure, read_known_time, read_name, read_parent,
    read_payload, read_status, read_time, write_event, write_failure, write_name, write_parent, write_payload,
    write_status, write_time,
};
use crate::wire::taskhub::stored as wire;

pub(crate) fn write_message(message: &Message) -> wire::Message {
    let Message { number, event, carried } = message;
    wire::Message {
        number: number.0,
        event: Some(write_event(event)),
        carried: carried.iter().map(write_event).collect(),
    }
}

pub(crate) fn read_message(message: wire::Message) -> Result<Message, DecodeError> {
    let wire::Message { number, event, carried } = message;
    Ok(Message {
        number: MessageNumber(number),
        event: read_event(need(event, "Message", "event")?)?,
        carried: carried.into_iter().map(read_event).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn write_outbox_item(item: &OutboxItem) -> wire::OutboxItem {
    let OutboxItem { target, body } = item;
    wire::OutboxItem {
        target: target.as_str().to_owned(),
        body: Some(write_body(body)),
    }
}

pub(crate) fn read_outbox_item(item: wire::OutboxItem) -> Result<OutboxItem, DecodeError> {
    let wire::OutboxItem { target, body } = item;
    Ok(OutboxItem {
        target: read_instance_id(&target)?,
        body: read_body(need(body, "OutboxItem", "body")?)?,
    })
}

fn write_body(body: &OutboxBody) -> wire::outbox_item::Body {
    use wire::outbox_item::Body;
    match body {
        OutboxBody::Start(start) => Body::Start(write_child_start(start)),
        OutboxBody::Event { name, input } => Body::Event(wire::RaisedEvent {
            name: name.as_str().to_owned(),
            input: write_payload(input.as_ref()),
        }),
        OutboxBody::ChildEnded {
            execution,
            task_id,
            occurrence,
            outcome,
        } => Body::ChildEnded(wire::ChildEnded {
            execution: write_execution(*execution),
            task_id: *task_id,
            occurrence: occurrence.0,
            outcome: Some(write_outcome(outcome)),
        }),
        OutboxBody::Terminate {
            reason,
            recurse,
            child_of,
        } => Body::Terminate(wire::Terminate {
            reason: write_payload(reason.as_ref()),
            recurse: *recurse,
            child_of: child_of.map_or_else(Bytes::new, |parent| Bytes::copy_from_slice(parent.bytes())),
        }),
    }
}

fn read_body(body: wire::outbox_item::Body) -> Result<OutboxBody, DecodeError> {
    use wire::outbox_item::Body;
    match body {
        Body::Start(start) => Ok(OutboxBody::Start(Box::new(read_child_start(start)?))),
        Body::Event(wire::RaisedEvent { name, input }) => Ok(OutboxBody::Event {
            name: Name::stored(&name),
            input: read_payload(input),
        }),
        Body::ChildEnded(wire::ChildEnded {
            execution,
            task_id,
            occurrence,
            outcome,
        }) => Ok(OutboxBody::ChildEnded {
            execution: read_execution(&execution)?,
            task_id,
            occurrence: Occurrence(occurrence),
            outcome: read_outcome(need(outcome, "ChildEnded", "outcome")?)?,
        }),
        Body::Terminate(wire::Terminate {
            reason,
            recurse,
            child_of,
        }) => Ok(OutboxBody::Terminate {
            reason: read_payload(reason),
            recurse,
            child_of: if child_of.is_empty() {
                None
            } else {
                Some(read_execution(&child_of)?)
            },
        }),
    }
}

fn write_child_start(start: &ChildStart) -> wire::ChildStart {
    let ChildStart {
        name,
        version,
        input,
        tags,
        parent,
    } = start;
    wire::ChildStart {
        name: name.as_str().to_owned(),
        version: write_name(version.as_ref()),
        input: write_payload(input.as_ref()),
        tags: tags.clone(),
        parent: parent.as_ref().map(write_parent),
    }
}

fn read_child_start(start: wire::ChildStart) -> Result<ChildStart, DecodeError> {
    let wire::ChildStart {
        name,
        version,
        input,
        tags,
        parent,
    } = start;
    Ok(ChildStart {
        name: Name::stored(&name),
        version: read_name(version, "version")?,
        input: read_payload(input),
        tags,
        parent: parent.map(read_parent).transpose()?,
    })
}

fn write_outcome(outcome: &Outcome) -> wire::child_ended::Outcome {
    match outcome {
        Outcome::Completed(result) => wire::child_ended::Outcome::Completed(wire::Completed {
            result: write_payload(result.as_ref()),
        }),
        Outcome::Failed(failure) => wire::child_ended::Outcome::Failed(write_failure(failure)),
    }
}

fn read_outcome(outcome: wire::child_ended::Outcome) -> Result<Outcome, DecodeError> {
    match outcome {
        wire::child_ended::Outcome::Completed(wire::Completed { result }) => {
            Ok(Outcome::Completed(read_payload(result)))
        }
        wire::child_ended::Outcome::Failed(failure) => Ok(Outcome::Failed(read_known_failure(failure)?)),
    }
}

pub(crate) fn write_open(open: &Open) -> wire::Open {
    let Open {
        occurrence,
        event_id,
        ordinal,
        kind,
    } = open;
    wire::Open {
        occurrence: occurrence.0,
        event_id: *event_id,
        ordinal: *ordinal,
        kind: Some(write_open_kind(kind)),
    }
}

pub(crate) fn read_open(open: wire::Open) -> Result<Open, DecodeError> {
    let wire::Open {
        occurrence,
        event_id,
        ordinal,
        kind,
    } = open;
    Ok(Open {
        occurrence: Occurrence(occurrence),
        event_id,
        ordinal,
        kind: read_open_kind(need(kind, "Open", "kind")?)?,
    })
}

fn write_open_kind(kind: &OpenKind) -> wire::open::Kind {
    match kind {
        OpenKind::Task {
            name,
            version,
            input,
            tags,
            deliveries,
        } => wire::open::Kind::Task(wire::Task {
            name: name.as_str().to_owned(),
            version: write_name(version.as_ref()),
            input: write_payload(input.as_ref()),
            tags: tags.clone(),
            deliveries: *deliveries,
        }),
        OpenKind::Timer { fire_at } => wire::open::Kind::Timer(wire::Timer {
            fire_at: Some(write_time(*fire_at)),
        }),
        OpenKind::Child { instance } => wire::open::Kind::Child(wire::Child {
            instance: instance.as_str().to_owned(),
        }),
    }
}

fn read_open_kind(kind: wire::open::Kind) -> Result<OpenKind, DecodeError> {
    match kind {
        wire::open::Kind::Task(wire::Task {
            name,
            version,
            input,
            tags,
            deliveries,
        }) => Ok(OpenKind::Task {
            name: Name::stored(&name),
            version: read_name(version, "version")?,
            input: read_payload(input),
            tags,
            deliveries,
        }),
        wire::open::Kind::Timer(wire::Timer { fire_at }) => Ok(OpenKind::Timer {
            fire_at: read_time(fire_at, "Timer", "fire_at")?,
        }),
        wire::open::Kind::Child(wire::Child { instance }) => Ok(OpenKind::Child {
            instance: read_instance_id(&instance)?,
        }),
    }
}

pub(crate) fn write_info(info: &InstanceInfo) -> wire::InstanceInfo {
    let InstanceInfo {
        instance,
        execution,
        ordinal,
        name,
        version,
        status,
        created_at,
        updated_at,
        completed_at,
        scheduled_start,
        input: _,
        output: _,
        custom_status: _,
        failure,
        tags,
        parent,
        stalled,
    } = info;
    wire::InstanceInfo {
        instance: instance.as_str().to_owned(),
        execution: write_execution(*execution),
        ordinal: *ordinal,
        name: name.as_str().to_owned(),
        version: write_name(version.as_ref()),
        status: write_status(*status),
        created_at: Some(write_time(*created_at)),
        updated_at: Some(write_time(*updated_at)),
        completed_at: completed_at.map(write_time),
        scheduled_start: scheduled_start.map(write_time),
        failure: failure.as_deref().map(write_failure),
        tags: tags.clone(),
        parent: parent.as_deref().map(write_parent),
        stalled: stalled.as_deref().map(write_stall),
    }
}

pub(crate) fn read_info(info: wire::InstanceInfo) -> Result<InstanceInfo, DecodeError> {
    let wire::InstanceInfo {
        instance,
        execution,
        ordinal,
        name,
        version,
        status,
        created_at,
        updated_at,
        completed_at,
        scheduled_start,
        failure,
        tags,
        parent,
        stalled,
    } = info;
    Ok(InstanceInfo {
        instance: read_instance_id(&instance)?,
        execution: read_execution(&execution)?,
        ordinal,
        name: Name::stored(&name),
        version: read_name(version, "version")?,
        status: read_status(status)?,
        created_at: read_time(created_at, "InstanceInfo", "created_at")?,
        updated_at: read_time(updated_at, "InstanceInfo", "updated_at")?,
        completed_at: completed_at.map(read_known_time),
        scheduled_start: scheduled_start.map(read_known_time),
        input: None,
        output: None,
        custom_status: None,
        failure: read_failure(failure)?,
        tags,
        parent: parent.map(read_parent).transpose()?.map(Box::new),
        stalled: stalled.map(read_stall).transpose()?.map(Box::new),
    })
}

fn write_stall(stall: &Stall) -> wire::Stall {
    let Stall {
        since,
        reason,
        attempts,
    } = stall;
    wire::Stall {
        since: Some(write_time(*since)),
        reason: reason.clone(),
        attempts: *attempts,
    }
}

fn read_stall(stall: wire::Stall) -> Result<Stall, DecodeError> {
    let wire::Stall {
        since,
        reason,
        attempts,
    } = stall;
    Ok(Stall {
        since: read_time(since, "Stall", "since")?,
        reason,
        attempts,
    })
}

fn write_execution(execution: ExecutionId) -> Bytes {
    Bytes::copy_from_slice(execution.bytes())
}

fn read_execution(bytes: &Bytes) -> Result<ExecutionId, DecodeError> {
    let bytes = <[u8; 16]>::try_from(bytes.as_ref()).map_err(|_| DecodeError::ExecutionId {
        given: format!("{bytes:?}"),
    })?;
    Ok(ExecutionId::new(bytes))
}
