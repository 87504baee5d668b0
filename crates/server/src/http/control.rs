//! Events, control and removal of instances: O4–O7, O10, O11.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use hyper::body::Incoming;
use taskhub_api::removal::PurgeResult;
use taskhub_api::status::word;
use taskhub_core::id::Name;
use taskhub_core::payload::Payload;
use taskhub_core::refusal::Refusal;
use taskhub_engine::Error as EngineError;

use super::instances::{Ignored, filter};
use super::problem::Problem;
use super::respond::{self, Response};
use super::{Asked, idempotency_key, payload};

const INCOMPLETE: HeaderName = HeaderName::from_static("x-taskhub-incomplete");

/// O4: raises an event. The checks come in the order of H80.
pub(super) async fn raise_event(
    asked: &Asked<'_>,
    body: &mut Incoming,
    instance: &str,
    event: &str,
) -> Result<Response, Problem> {
    let body = payload::read(asked.app, body).await?;
    let Some((hub, instance)) = asked.find(instance).await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    let key = idempotency_key(asked.head)?;
    match hub.info(&instance).await? {
        None => return Ok(respond::empty(StatusCode::NOT_FOUND)),
        // A repetition of what was accepted before the end is accepted; only the hub knows.
        Some(info) if info.status.is_terminal() && key.is_none() => return Ok(respond::empty(StatusCode::GONE)),
        Some(_) => {}
    }
    if !body.bytes.is_empty() {
        check_content_type(asked)?;
    }
    let input = payload::of_body(&body.bytes, asked.app.config.unwrap_json_strings)?;
    let event = Name::new(event).map_err(EngineError::from)?;
    let held = Box::new(body.reserved);
    settle(hub.raise_event_holding(&instance, (event, input), key, held).await)
}

/// Parameters and letter case of the media type do not matter.
fn check_content_type(asked: &Asked<'_>) -> Result<(), Problem> {
    let given = asked.head.headers.get(CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::content_type(given))
}

/// O5: ends an instance (H83).
pub(super) async fn terminate(asked: &Asked<'_>, instance: &str) -> Result<Response, Problem> {
    let Some((hub, instance)) = asked.find(instance).await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    let recurse = asked.query.flag("recurse").unwrap_or_default();
    settle(hub.terminate(&instance, reason(asked), recurse).await)
}

/// O6: sets an instance aside (H84).
pub(super) async fn suspend(asked: &Asked<'_>, instance: &str) -> Result<Response, Problem> {
    let Some((hub, instance)) = asked.find(instance).await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    settle(hub.suspend(&instance, reason(asked)).await)
}

/// O7: lets it go on (H84).
pub(super) async fn resume(asked: &Asked<'_>, instance: &str) -> Result<Response, Problem> {
    let Some((hub, instance)) = asked.find(instance).await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    settle(hub.resume(&instance, reason(asked)).await)
}

fn reason(asked: &Asked<'_>) -> Option<Payload> {
    asked.query.text("reason").map(Payload::text)
}

/// The answers of all control requests (H80, H83, H84): 202, 404 and 410, each empty.
fn settle(outcome: Result<(), EngineError>) -> Result<Response, Problem> {
    match outcome {
        Ok(()) => Ok(respond::empty(StatusCode::ACCEPTED)),
        Err(EngineError::Refused(Refusal::InstanceNotFound { .. })) => Ok(respond::empty(StatusCode::NOT_FOUND)),
        Err(EngineError::Refused(Refusal::InstanceNotLive { .. })) => Ok(respond::empty(StatusCode::GONE)),
        Err(error) => Err(error.into()),
    }
}

/// O10: removes an ended instance (H88).
pub(super) async fn purge(asked: &Asked<'_>, instance: &str) -> Result<Response, Problem> {
    if instance.starts_with('@') {
        // The state of an entity; entities do not exist yet.
        return Ok(respond::json(StatusCode::OK, &PurgeResult { instances_deleted: 0 }));
    }
    let Some((hub, instance)) = asked.find(instance).await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    match hub.purge(&instance).await {
        Ok(purged) => Ok(purge_result(purged.count)),
        Err(EngineError::Refused(Refusal::InstanceLive { instance, status })) => {
            let status = word(status);
            let what = format!(
                "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID \
                 {instance} has status {status}"
            );
            Ok(respond::json(StatusCode::PRECONDITION_FAILED, &what))
        }
        Err(error) => Err(error.into()),
    }
}

/// O11: removes the ended instances among those of a period (H89, H90).
pub(super) async fn purge_many(asked: &Asked<'_>) -> Result<Response, Problem> {
    let (filter, ignored) = filter(asked);
    for Ignored { name, value, .. } in &ignored {
        let unreadable = format!("The value '{value}' of '{name}' could not be read as a time.");
        match *name {
            "createdTimeFrom" => return Ok(respond::json(StatusCode::BAD_REQUEST, &unreadable)),
            "createdTimeTo" => return Err(Problem::argument(unreadable)),
            _ => {}
        }
    }
    if filter.created_from.is_none() {
        let what = "Please provide value for 'createdTimeFrom' parameter.";
        return Ok(respond::json(StatusCode::BAD_REQUEST, &what));
    }
    if asked.query.statuses().is_present && filter.statuses.is_empty() {
        // A typing error must not purge everything (H12).
        return Err(Problem::argument("`runtimeStatus` contains no known status"));
    }
    let Some(hub) = asked.hub().await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    let enough = asked.app.enough(asked.app.config.limits.wait_max);
    let purged = hub.purge_where_until(filter, enough).await?;
    let mut response = purge_result(purged.count);
    if !purged.is_complete {
        respond::set(&mut response, INCOMPLETE, "true");
    }
    for ignored in &ignored {
        respond::warn(&mut response, &ignored.to_string());
    }
    Ok(response)
}

/// None is "not found", which clients show as 0 (H88, H89).
fn purge_result(count: u64) -> Response {
    if count == 0 {
        return respond::empty(StatusCode::NOT_FOUND);
    }
    respond::json(
        StatusCode::OK,
        &PurgeResult {
            instances_deleted: count,
        },
    )
}
