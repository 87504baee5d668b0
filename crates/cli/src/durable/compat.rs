//! Instances and history events in the JSON of Core Tools (L33, L34).

use taskhub_api::history::ends_turn;
use taskhub_api::time::fine;
use taskhub_core::event::{EventKind, HistoryEvent, Parent, Tags};
use taskhub_core::failure::Failure;
use taskhub_core::id::{ExecutionId, InstanceId, Name};
use taskhub_core::payload::Payload;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;

use super::json::Json;

/// The time of an end that has not come.
const NO_TIME: &str = "0001-01-01T00:00:00";

/// An instance. What is not to be shown is taken out before.
pub(crate) fn instance(info: &InstanceInfo, history_bytes: u64) -> Json {
    let size = Json::Number(i64::try_from(history_bytes).unwrap_or(i64::MAX));
    let completed = info.completed_at.filter(|_| info.status.is_terminal());
    let version = info.version.as_ref().map_or("", Name::as_str);
    let mut members = vec![
        (
            "CompletedTime",
            Json::Text(completed.map_or_else(|| NO_TIME.to_owned(), fine)),
        ),
        ("CompressedSize", size.clone()),
        ("CreatedTime", time(info.created_at)),
        ("Input", payload(info.input.as_ref())),
        ("LastUpdatedTime", time(info.updated_at)),
        ("Name", Json::Text(info.name.to_string())),
        ("OrchestrationInstance", execution(&info.instance, info.execution)),
        ("OrchestrationStatus", status(info.status)),
        ("Output", payload(info.output.as_ref())),
        ("ParentInstance", parent(info.parent.as_deref())),
        ("Size", size),
        ("Status", payload(info.custom_status.as_ref())),
        ("Tags", tags(&info.tags)),
        ("Version", Json::Text(version.to_owned())),
    ];
    if info.ordinal > 0 {
        members.push(("Generation", Json::Number(info.ordinal.into())));
    }
    if let Some(at) = info.scheduled_start {
        members.push(("ScheduledStartTime", time(at)));
    }
    if let Some(failure) = &info.failure {
        members.push(("FailureDetails", failure_details(failure)));
    }
    members.push(("RuntimeStatus", Json::Text(info.status.to_string())));
    object(members)
}

/// The history of an execution. After the last event of each turn comes its end, which is not stored.
pub(crate) fn history(events: &[HistoryEvent], shows_task_inputs: bool) -> Vec<Json> {
    let mut values = Vec::with_capacity(events.len() + events.len() / 2);
    for (index, event) in events.iter().enumerate() {
        values.push(of_event(event, shows_task_inputs));
        if ends_turn(events, index) {
            values.push(with_envelope("OrchestratorCompleted", Vec::new(), -1, event.at));
        }
    }
    values
}

fn of_event(event: &HistoryEvent, shows_task_inputs: bool) -> Json {
    let members = match &event.kind {
        EventKind::ExecutionStarted(started) => vec![
            ("ParentInstance", parent(started.parent.as_ref())),
            ("Name", name(&started.name)),
            ("Version", version(started.version.as_ref())),
            ("Input", payload(started.input.as_ref())),
            ("Tags", tags(&started.tags)),
        ],
        EventKind::OrchestratorStarted => Vec::new(),
        EventKind::TaskScheduled {
            name: task,
            version: of,
            input,
            tags: _,
        } => vec![
            ("Name", name(task)),
            ("Version", version(of.as_ref())),
            ("Input", payload(input.as_ref().filter(|_| shows_task_inputs))),
        ],
        EventKind::TaskCompleted {
            task_scheduled_id: of,
            result,
        }
        | EventKind::SubOrchestrationInstanceCompleted {
            task_scheduled_id: of,
            result,
        } => vec![("TaskScheduledId", number(*of)), ("Result", payload(result.as_ref()))],
        EventKind::TaskFailed {
            task_scheduled_id: of,
            failure,
        }
        | EventKind::SubOrchestrationInstanceFailed {
            task_scheduled_id: of,
            failure,
        } => vec![
            ("TaskScheduledId", number(*of)),
            ("Reason", Json::Text(failure.message.clone())),
            ("Details", Json::Text(failure.long_text())),
            ("FailureDetails", failure_details(failure)),
        ],
        EventKind::TimerCreated { fire_at } => vec![("FireAt", time(*fire_at))],
        EventKind::TimerFired { timer_id, fire_at } => vec![("TimerId", number(*timer_id)), ("FireAt", time(*fire_at))],
        EventKind::SubOrchestrationInstanceCreated {
            instance,
            name: child,
            version: of,
            input,
            tags: _,
        } => vec![
            ("Name", name(child)),
            ("Version", version(of.as_ref())),
            ("InstanceId", Json::Text(instance.to_string())),
            ("Input", payload(input.as_ref())),
        ],
        EventKind::EventSent {
            instance,
            name: event,
            input,
        } => vec![
            ("InstanceId", Json::Text(instance.to_string())),
            ("Name", name(event)),
            ("Input", payload(input.as_ref())),
        ],
        EventKind::EventRaised { name: event, input } => {
            vec![("Name", name(event)), ("Input", payload(input.as_ref()))]
        }
        EventKind::ExecutionSuspended { reason } | EventKind::ExecutionResumed { reason } => {
            vec![("Reason", payload(reason.as_ref()))]
        }
        EventKind::ExecutionTerminated { reason, recurse: _ } => vec![("Input", payload(reason.as_ref()))],
        EventKind::ExecutionCompleted {
            status: end,
            result,
            failure,
        } => {
            let mut members = vec![
                ("OrchestrationStatus", status(*end)),
                ("Result", payload(result.as_ref())),
            ];
            if let Some(failure) = failure {
                members.push(("FailureDetails", failure_details(failure)));
            }
            members
        }
    };
    with_envelope(event.kind.name(), members, event.id, event.at)
}

fn with_envelope(kind: &str, members: Vec<(&str, Json)>, id: i32, at: Timestamp) -> Json {
    let mut all = vec![("EventType", Json::Text(kind.to_owned()))];
    all.extend(members);
    all.extend([
        ("EventId", number(id)),
        ("IsPlayed", Json::Bool(false)),
        ("Timestamp", time(at)),
    ]);
    object(all)
}

fn object(members: Vec<(&str, Json)>) -> Json {
    Json::Object(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn number(number: i32) -> Json {
    Json::Number(number.into())
}

fn name(name: &Name) -> Json {
    Json::Text(name.to_string())
}

fn version(version: Option<&Name>) -> Json {
    Json::text(version.map(Name::as_str))
}

fn time(at: Timestamp) -> Json {
    Json::Text(fine(at))
}

fn status(status: RuntimeStatus) -> Json {
    Json::Number(status.number().into())
}

/// A text that holds what is stored.
fn payload(payload: Option<&Payload>) -> Json {
    Json::text(payload.map(Payload::to_text))
}

fn tags(tags: &Tags) -> Json {
    if tags.is_empty() {
        return Json::Null;
    }
    let members = tags.iter().map(|(key, value)| (key.clone(), Json::Text(value.clone())));
    Json::Object(members.collect())
}

fn execution(instance: &InstanceId, execution: ExecutionId) -> Json {
    Json::object([
        ("InstanceId", Json::Text(instance.to_string())),
        ("ExecutionId", Json::Text(execution.to_string())),
    ])
}

fn parent(parent: Option<&Parent>) -> Json {
    parent.map_or(Json::Null, |parent| {
        Json::object([
            ("Name", name(&parent.name)),
            ("OrchestrationInstance", execution(&parent.instance, parent.execution)),
            ("TaskScheduleId", number(parent.task_id)),
            ("Version", version(parent.version.as_ref())),
        ])
    })
}

fn failure_details(failure: &Failure) -> Json {
    Json::object([
        ("ErrorType", Json::Text(failure.error_type.clone())),
        ("ErrorMessage", Json::Text(failure.message.clone())),
        ("StackTrace", Json::text(failure.stack_trace.as_deref())),
        (
            "InnerFailure",
            failure.inner.as_deref().map_or(Json::Null, failure_details),
        ),
        ("IsNonRetriable", Json::Bool(failure.non_retriable)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: EventKind) -> String {
        let at = Timestamp::parse("2026-11-22T23:40:12.5Z").unwrap();
        of_event(&HistoryEvent { id: 3, at, kind }, false).compact()
    }

    fn id(text: &str) -> InstanceId {
        InstanceId::new(text).unwrap()
    }

    fn named(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn each_kind_of_event_has_the_members_of_core_tools() {
        let input = Some(Payload::text(r#"{"n":1}"#));
        let failure = Failure {
            stack_trace: Some("at x".to_owned()),
            ..Failure::new("E", "broken").caused_by(Failure::new("I", "inner").non_retriable())
        };
        let details = r#"{"ErrorType":"E","ErrorMessage":"broken","StackTrace":"at x","InnerFailure":{"ErrorType":"I","ErrorMessage":"inner","StackTrace":null,"InnerFailure":null,"IsNonRetriable":true},"IsNonRetriable":false}"#;
        let fire_at = Timestamp::parse("2026-11-23T00:00:00Z").unwrap();
        let cases = [
            (EventKind::OrchestratorStarted, r#""EventType":"OrchestratorStarted""#.to_owned()),
            (
                EventKind::TaskScheduled { name: named("A"), version: None, input: input.clone(), tags: Tags::new() },
                r#""EventType":"TaskScheduled","Name":"A","Version":null,"Input":null"#.to_owned(),
            ),
            (
                EventKind::TaskCompleted { task_scheduled_id: 0, result: input.clone() },
                r#""EventType":"TaskCompleted","TaskScheduledId":0,"Result":"{\"n\":1}""#.to_owned(),
            ),
            (
                EventKind::TaskFailed { task_scheduled_id: 0, failure: Box::new(failure.clone()) },
                format!(r#""EventType":"TaskFailed","TaskScheduledId":0,"Reason":"broken","Details":"E: broken\n ---> I: inner\nat x","FailureDetails":{details}"#),
            ),
            (
                EventKind::SubOrchestrationInstanceCreated { instance: id("c"), name: named("C"), version: Some(named("2")), input: None, tags: Tags::new() },
                r#""EventType":"SubOrchestrationInstanceCreated","Name":"C","Version":"2","InstanceId":"c","Input":null"#.to_owned(),
            ),
            (
                EventKind::SubOrchestrationInstanceCompleted { task_scheduled_id: 1, result: None },
                r#""EventType":"SubOrchestrationInstanceCompleted","TaskScheduledId":1,"Result":null"#.to_owned(),
            ),
            (
                EventKind::SubOrchestrationInstanceFailed { task_scheduled_id: 1, failure: Box::new(failure.clone()) },
                format!(r#""EventType":"SubOrchestrationInstanceFailed","TaskScheduledId":1,"Reason":"broken","Details":"E: broken\n ---> I: inner\nat x","FailureDetails":{details}"#),
            ),
            (EventKind::TimerCreated { fire_at }, r#""EventType":"TimerCreated","FireAt":"2026-11-23T00:00:00Z""#.to_owned()),
            (EventKind::TimerFired { timer_id: 2, fire_at }, r#""EventType":"TimerFired","TimerId":2,"FireAt":"2026-11-23T00:00:00Z""#.to_owned()),
            (EventKind::EventRaised { name: named("E"), input: input.clone() }, r#""EventType":"EventRaised","Name":"E","Input":"{\"n\":1}""#.to_owned()),
            (
                EventKind::EventSent { instance: id("o"), name: named("E"), input: None },
                r#""EventType":"EventSent","InstanceId":"o","Name":"E","Input":null"#.to_owned(),
            ),
            (EventKind::ExecutionSuspended { reason: Some(Payload::text("why")) }, r#""EventType":"ExecutionSuspended","Reason":"why""#.to_owned()),
            (EventKind::ExecutionResumed { reason: None }, r#""EventType":"ExecutionResumed","Reason":null"#.to_owned()),
            (EventKind::ExecutionTerminated { reason: Some(Payload::text("why")), recurse: true }, r#""EventType":"ExecutionTerminated","Input":"why""#.to_owned()),
            (
                EventKind::ExecutionCompleted { status: RuntimeStatus::Completed, result: input, failure: None },
                r#""EventType":"ExecutionCompleted","OrchestrationStatus":1,"Result":"{\"n\":1}""#.to_owned(),
            ),
            (
                EventKind::ExecutionCompleted { status: RuntimeStatus::Failed, result: None, failure: Some(Box::new(failure)) },
                format!(r#""EventType":"ExecutionCompleted","OrchestrationStatus":3,"Result":null,"FailureDetails":{details}"#),
            ),
        ];
        for (kind, members) in cases {
            assert_eq!(
                line(kind),
                format!(r#"{{{members},"EventId":3,"IsPlayed":false,"Timestamp":"2026-11-22T23:40:12.5Z"}}"#)
            );
        }
    }
}
