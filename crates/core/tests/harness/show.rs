//! How scripts show events, messages and payloads: one short phrase each.

use taskhub_core::commit::{Open, OpenKind};
use taskhub_core::event::{EventKind, ExecutionStarted, HistoryEvent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::Name;
use taskhub_core::message::{Message, OutboxBody, OutboxItem, Outcome};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use super::words::DAY;

/// A payload as it is written in scripts, after a space; nothing if it is absent.
pub(crate) fn payload(payload: Option<&Payload>) -> String {
    const SHOWN_BYTES_MAX: usize = 120;
    match payload {
        None => String::new(),
        Some(payload) if payload.len() > SHOWN_BYTES_MAX => format!(" <{} bytes>", payload.len()),
        Some(payload) => format!(" \"{}\"", payload.to_text()),
    }
}

/// A time: of day if it is on the day of the script, without digits that are zero.
pub(crate) fn time(moment: Timestamp) -> String {
    let text = moment.to_string();
    let short = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    let today = short.strip_prefix(DAY).and_then(|text| text.strip_prefix('T'));
    today.map_or_else(|| format!("{short}Z"), str::to_owned)
}

pub(crate) fn failure(failure: &Failure) -> String {
    let last = if failure.non_retriable { " final" } else { "" };
    let cause = failure
        .inner
        .as_ref()
        .map(|inner| format!(" because {}", self::failure(inner)));
    format!(
        "{} \"{}\"{last}{}",
        failure.error_type,
        failure.message,
        cause.unwrap_or_default()
    )
}

fn version(version: Option<&Name>) -> String {
    version.map(|version| format!(" version {version}")).unwrap_or_default()
}

pub(crate) fn tags(tags: &Tags) -> String {
    let shown: Vec<String> = tags.iter().map(|(key, value)| format!(" tag {key}={value}")).collect();
    shown.concat()
}

fn numbered(name: &str, id: i32) -> String {
    if id < 0 {
        name.to_owned()
    } else {
        format!("{name} #{id}")
    }
}

/// One history event. The inputs of tasks and children are left out: dispatch and outbox show them.
pub(crate) fn event(event: &HistoryEvent, with_times: bool) -> String {
    let head = numbered(event.kind.name(), event.id);
    match &event.kind {
        EventKind::ExecutionStarted(start) => format!("{head} {}", started(start)),
        EventKind::OrchestratorStarted if with_times => format!("{head} {}", time(event.at)),
        EventKind::OrchestratorStarted => head,
        EventKind::TaskScheduled { name, .. } => format!("{head} {name}"),
        EventKind::TaskCompleted {
            task_scheduled_id: id,
            result,
        }
        | EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id: id,
            result,
        } => format!("{head} #{id}{}", payload(result.as_ref())),
        EventKind::TaskFailed {
            task_scheduled_id: id,
            failure: why,
        }
        | EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id: id,
            failure: why,
        } => format!("{head} #{id} {}", failure(why)),
        EventKind::TimerCreated { fire_at } => format!("{head} {}", time(*fire_at)),
        EventKind::TimerFired { timer_id, fire_at } => format!("{head} #{timer_id} {}", time(*fire_at)),
        EventKind::SubOrchestrationInstanceCreated { instance, name, .. } => format!("{head} {name} as {instance}"),
        EventKind::EventSent { instance, name, input } => {
            format!("{head} {instance} {name}{}", payload(input.as_ref()))
        }
        EventKind::EventRaised { name, input } => format!("{head} {name}{}", payload(input.as_ref())),
        EventKind::ExecutionSuspended { reason } | EventKind::ExecutionResumed { reason } => {
            format!("{head}{}", payload(reason.as_ref()))
        }
        EventKind::ExecutionTerminated { reason, recurse } => {
            let recursive = if *recurse { " recursive" } else { "" };
            format!("{head}{}{recursive}", payload(reason.as_ref()))
        }
        EventKind::ExecutionCompleted {
            status,
            result,
            failure: why,
        } => {
            let why = why.as_deref().map(|why| format!(" {}", failure(why)));
            format!("{head} {status}{}{}", payload(result.as_ref()), why.unwrap_or_default())
        }
    }
}

fn started(start: &ExecutionStarted) -> String {
    let parent = start.parent.as_ref();
    let parent = parent.map(|parent| format!(" for {} #{}", parent.instance, parent.task_id));
    format!(
        "{}{}{}{}{}",
        start.name,
        payload(start.input.as_ref()),
        version(start.version.as_ref()),
        tags(&start.tags),
        parent.unwrap_or_default(),
    )
}

/// An inbox message, with the events that a start takes over.
pub(crate) fn message(message: &Message) -> String {
    let mut text = event(&message.event, false);
    for carried in &message.carried {
        text += " + ";
        text += &event(carried, false);
    }
    text
}

/// What a turn opened, as its dispatch label and text.
pub(crate) fn opened(open: &Open) -> Option<(&'static str, String)> {
    let id = open.event_id;
    match &open.kind {
        OpenKind::Task {
            name,
            version: of,
            input,
            tags: labels,
            ..
        } => {
            let rest = format!("{}{}{}", payload(input.as_ref()), version(of.as_ref()), tags(labels));
            Some(("dispatch", format!("activity #{id} {name}{rest}")))
        }
        OpenKind::Timer { fire_at } => Some(("timer", format!("#{id} {}", time(*fire_at)))),
        // Its start is in the outbox.
        OpenKind::Child { .. } => None,
    }
}

/// What is no longer waited for.
pub(crate) fn closed(open: &Open) -> String {
    match &open.kind {
        OpenKind::Task { name, .. } => format!("activity #{} {name}", open.event_id),
        OpenKind::Timer { fire_at } => format!("timer #{} {}", open.event_id, time(*fire_at)),
        OpenKind::Child { instance } => format!("child #{} {instance}", open.event_id),
    }
}

pub(crate) fn outbox(item: &OutboxItem) -> String {
    let body = match &item.body {
        OutboxBody::Start(start) => {
            let link = if start.parent.is_some() { "" } else { " detached" };
            format!(
                "start {}{}{}{}{link}",
                start.name,
                payload(start.input.as_ref()),
                version(start.version.as_ref()),
                tags(&start.tags)
            )
        }
        OutboxBody::Event { name, input } => format!("event {name}{}", payload(input.as_ref())),
        OutboxBody::ChildEnded { task_id, outcome, .. } => match outcome {
            Outcome::Completed(result) => format!("child #{task_id} completed{}", payload(result.as_ref())),
            Outcome::Failed(why) => format!("child #{task_id} failed {}", failure(why)),
        },
        OutboxBody::Terminate { reason, recurse, .. } => {
            let recursive = if *recurse { " recursive" } else { "" };
            format!("terminate{}{recursive}", payload(reason.as_ref()))
        }
    };
    format!("to {}: {body}", item.target)
}
