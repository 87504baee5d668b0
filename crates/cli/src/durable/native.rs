//! Instances in our own JSON (L62): payloads as JSON values, absent members null.

use taskhub_api::payload::Shown;
use taskhub_api::time::fine;
use taskhub_core::id::{HubName, Name};
use taskhub_core::payload::Payload;
use taskhub_core::time::Timestamp;

use super::json::Json;
use crate::hub_access::Record;

pub(crate) fn instance(hub: &HubName, record: &Record) -> Json {
    let info = &record.info;
    let text = |text: &str| Json::Text(text.to_owned());
    let time = |at: Timestamp| Json::Text(fine(at));
    let number = |number: u64| Json::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let tags = info.tags.iter().map(|(key, value)| (key.clone(), text(value)));
    let failure = info.failure.as_deref().map(|failure| {
        Json::object([
            ("errorType", text(&failure.error_type)),
            ("errorMessage", text(&failure.message)),
        ])
    });
    let stalled = info.stalled.as_deref().map(|stall| {
        Json::object([
            ("since", time(stall.since)),
            ("reason", text(&stall.reason)),
            ("attempts", number(stall.attempts.into())),
        ])
    });
    Json::object([
        ("hub", text(hub.as_str())),
        ("instanceId", text(info.instance.as_str())),
        ("executionId", Json::Text(info.execution.to_string())),
        ("name", text(info.name.as_str())),
        ("version", Json::text(info.version.as_ref().map(Name::as_str))),
        ("runtimeStatus", Json::Text(info.status.to_string())),
        ("createdTime", time(info.created_at)),
        ("lastUpdatedTime", time(info.updated_at)),
        ("completedTime", info.completed_at.map_or(Json::Null, time)),
        ("scheduledStartTime", info.scheduled_start.map_or(Json::Null, time)),
        ("input", payload(info.input.as_ref())),
        ("customStatus", payload(info.custom_status.as_ref())),
        ("output", payload(info.output.as_ref())),
        ("failure", failure.unwrap_or(Json::Null)),
        ("tags", Json::Object(tags.collect())),
        (
            "parentInstanceId",
            Json::text(info.parent.as_deref().map(|parent| parent.instance.as_str())),
        ),
        ("generation", number(u64::from(info.ordinal) + 1)),
        ("historyLength", number(record.history_events)),
        ("historyBytes", number(record.history_bytes)),
        // Only its worker knows which events an instance waits for.
        ("waitingFor", Json::Null),
        ("stalled", stalled.unwrap_or(Json::Null)),
    ])
}

/// A payload as JSON: unchanged if it is JSON that all clients can read, otherwise as a string (H51).
pub(crate) fn payload(payload: Option<&Payload>) -> Json {
    match (Shown::new(payload), payload) {
        (Shown::Json(json), _) => Json::Raw(json.get().to_owned()),
        // All of it, also where it is blank.
        (Shown::Text(_), Some(payload)) => Json::Text(payload.to_text()),
        (Shown::Absent | Shown::Text(_), _) => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_values_whatever_is_stored() {
        for (stored, shown) in [
            (r#"{"b": 1.0}"#, r#"{"b": 1.0}"#),
            ("[1,\n 2]", "[1,\n 2]"),
            ("It was time.", r#""It was time.""#),
            ("42", "42"),
        ] {
            assert_eq!(payload(Some(&Payload::text(stored))).pretty(0), shown);
        }
        assert_eq!(payload(None), Json::Null);
    }
}
