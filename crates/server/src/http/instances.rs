//! Starting, waiting for, and looking at instances: O1, O2, O3, O16.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, LOCATION, RETRY_AFTER};
use hyper::body::Incoming;
use serde::Serialize;
use taskhub_api::id::{self, BadId};
use taskhub_api::instance::InstanceStatus;
use taskhub_api::payload::Shown;
use taskhub_api::time::just_after;
use taskhub_core::event::Tags;
use taskhub_core::id::{IdempotencyKey, InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::query::{Cursor, Filter, Payloads};
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_engine::{Error as EngineError, Hub, WaitFor};
use tokio::time::sleep;

use super::history::HistoryView;
use super::listing::{Form, Listing, Wanted};
use super::payload::look_through;
use super::problem::Problem;
use super::query::{Query, no_status};
use super::respond::{self, Response};
use super::room::{self, History, payloads, with_room};
use super::streamed;
use super::{Asked, Surface, header, idempotency_key, payload, time, token};
use crate::answers::Room;
use crate::config::Reuse;

/// Seconds after which a started instance is worth a look (H61).
const RETRY_AFTER_START: &str = "10";
/// Seconds after which one that was looked at is (H70).
const RETRY_AFTER_STATUS: &str = "5";

/// The article's defaults (H96).
const FRONT_DOOR_TIMEOUT: Duration = Duration::from_secs(10);
const FRONT_DOOR_INTERVAL: Duration = Duration::from_secs(1);

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-ms-continuation-token");
const FAILURE_AS_500: &str = "returnInternalServerErrorOnFailure";

/// O1: starts an instance, and waits for its end if a time is given.
pub(super) async fn start(
    asked: &Asked<'_>,
    body: &mut Incoming,
    name: &str,
    instance: Option<&str>,
) -> Result<Response, Problem> {
    // Wrong times are refused before anything is started (H67). The sample behind the front door has none.
    let wait = match asked.surface {
        Surface::FrontDoor => None,
        Surface::Webhook | Surface::Classic | Surface::Rpc => wait_times(&asked.query, None)?,
    };
    let started = begin(asked, body, name, instance).await?;
    finish(asked, started, wait).await
}

/// The front door's `/wait`: starts an instance and waits for its end (H96).
pub(super) async fn start_and_wait(asked: &Asked<'_>, body: &mut Incoming, name: &str) -> Result<Response, Problem> {
    let wait = wait_times(&asked.query, Some(FRONT_DOOR_TIMEOUT))?;
    let started = begin(asked, body, name, None).await?;
    finish(asked, started, wait).await
}

/// How long to wait, if at all. The interval is only validated: the server is notified of the end and does not poll.
fn wait_times(query: &Query, default: Option<Duration>) -> Result<Option<Duration>, Problem> {
    let polling = query.seconds("pollingInterval")?;
    let interval = match polling {
        Some(interval) => Some(interval),
        None => query.seconds("retryInterval")?,
    };
    let Some(wait) = query.seconds("timeout")?.or(default) else {
        return Ok(None);
    };
    // Who names a shorter time and no interval has not asked for a contradiction.
    let interval = interval.unwrap_or_else(|| FRONT_DOOR_INTERVAL.min(wait));
    if interval > wait {
        let (wait, interval) = (wait.as_secs_f64(), interval.as_secs_f64());
        let what = format!("Total timeout {wait} should be bigger than retry timeout {interval}");
        return Err(Problem::argument(what));
    }
    Ok(Some(wait))
}

/// An instance that is durable.
struct Started {
    hub: Arc<Hub>,
    instance: InstanceId,
}

async fn begin(asked: &Asked<'_>, body: &mut Incoming, name: &str, instance: Option<&str>) -> Result<Started, Problem> {
    let app = asked.app;
    let body = payload::read(app, body).await?;
    let request = start_request(asked, &body.bytes, name, instance)?;
    let hub = if app.config.auto_create_hubs {
        app.hubs.find_or_create(&asked.hub).await?
    } else {
        app.hubs.find(&asked.hub).await?
    };
    let hub =
        hub.ok_or_else(|| Problem::argument(format!("task hub '{}' does not exist on this server", asked.hub)))?;
    let instance = request.instance.clone();
    let limit = app.config.limits.start_timeout;
    // It counts until it is durable, however long the caller waits.
    let held: taskhub_engine::hub::Held = Box::new(body.reserved);
    hub.start_until(request, sleep(limit), Some(held)).await?;
    Ok(Started { hub, instance })
}

fn start_request(asked: &Asked<'_>, body: &Bytes, name: &str, instance: Option<&str>) -> Result<StartRequest, Problem> {
    let (app, query) = (asked.app, &asked.query);
    let name = known_name(asked, name)?;
    let key = idempotency_key(asked.head)?;
    let version = query.filled("version").or(app.config.default_version.as_deref());
    Ok(StartRequest {
        instance: instance_id(
            instance.filter(|id| !id.is_empty()),
            key.as_ref().map(IdempotencyKey::as_str),
        )?,
        name,
        version: version.map(Name::new).transpose().map_err(EngineError::from)?,
        input: payload::of_body(body, app.config.unwrap_json_strings)?,
        tags: Tags::new(),
        scheduled_start: scheduled_start(asked)?,
        execution: None,
        reuse: reuse(asked)?,
        key,
        repeats: Repeats::Always,
    })
}

/// The name, if there is such a function as far as that is known (H63), in the spelling that is known (R77).
fn known_name(asked: &Asked<'_>, name: &str) -> Result<Name, Problem> {
    let name = Name::new(name).map_err(EngineError::from)?;
    let Some(names) = &asked.app.config.strict_names else {
        return Ok(name);
    };
    let Some(known) = names.iter().find(|known| name.eq_ignore_case(known)) else {
        let known = names.join(", ");
        let what = format!("The function '{name}' doesn't exist. The known functions are: {known}.");
        return Err(Problem::argument(what));
    };
    Ok(Name::new(known).map_err(EngineError::from)?)
}

/// When to start. A time that cannot be read is refused: to start at once is not what was meant.
fn scheduled_start(asked: &Asked<'_>) -> Result<Option<Timestamp>, Problem> {
    let moment = asked.query.time("scheduledStartTime", time::now());
    moment.map_err(|text| {
        Problem::argument(format!(
            "invalid `scheduledStartTime`: expected a time such as 2026-01-31T12:00:00Z, got `{text}`"
        ))
    })
}

/// What may become of an instance with this id: as this call says, else as the server is set (H64, H65).
fn reuse(asked: &Asked<'_>) -> Result<ReusePolicy, Problem> {
    let dedupe = asked.query.statuses_in(&["dedupe"]);
    if let Some(word) = dedupe.unknown.first() {
        // To overlook a word here would be to replace an instance that it was to protect.
        return Err(Problem::argument(format!("`dedupe`: {}", no_status(word))));
    }
    if !dedupe.known.is_empty() {
        let replaceable = RuntimeStatus::ALL
            .into_iter()
            .filter(|status| !dedupe.known.contains(status));
        return Ok(ReusePolicy::Replace(replaceable.collect()));
    }
    Ok(match asked.app.config.reuse {
        Reuse::NonRunningStates => ReusePolicy::ReplaceEnded,
        Reuse::AnyState => ReusePolicy::ReplaceAny,
    })
}

/// The id of a new instance: the given one, one derived from the key, or a random one (H21, H22, A31).
fn instance_id(given: Option<&str>, key: Option<&str>) -> Result<InstanceId, Problem> {
    let Some(given) = given else {
        return Ok(id::fresh(key).map_err(EngineError::from)?);
    };
    id::check(given).map_err(|bad| {
        Problem::argument(match bad {
            BadId::Entity => "Orchestration instance ids must not start with @.",
            BadId::Character(_) => "Orchestration instance ids must not contain /, \\, #, ?, or control characters.",
            BadId::Dots => "Orchestration instance ids must not be . or .., to which no URL leads.",
            BadId::Length => "Instance ID lengths must not exceed 256 characters.",
        })
    })
}

/// Answers a start: at once, or when the instance has ended or the time is over (H61, H67).
async fn finish(asked: &Asked<'_>, started: Started, wait: Option<Duration>) -> Result<Response, Problem> {
    let has_ended = match wait {
        None => false,
        Some(wait) => ends_within(asked, &started, wait).await,
    };
    if !has_ended {
        return Ok(accepted(asked, &started.instance));
    }
    let (hub, instance) = (&started.hub, &started.instance);
    let read = || async { hub.info(instance).await.map_err(Problem::from) };
    match with_room(asked.app, read).await? {
        // It was purged since.
        (None, _) => Ok(accepted(asked, instance)),
        (Some(info), room) if info.status == RuntimeStatus::Completed => {
            let output = look_through(&info, || Shown::new(info.output.as_ref()));
            Ok(respond::json_of(StatusCode::OK, &output, info.output.iter(), room))
        }
        (Some(info), room) => show(asked, hub, info, room).await,
    }
}

/// Waits for the end of an instance. After an error the answer is the same as after the time limit, because the
/// instance was started.
async fn ends_within(asked: &Asked<'_>, started: &Started, wait: Duration) -> bool {
    let wait = wait.min(asked.app.config.limits.wait_max);
    tokio::select! {
        biased;
        ended = started.hub.wait(&started.instance, WaitFor::Ended) => ended.is_ok(),
        () = asked.app.enough(wait) => false,
    }
}

/// The 202 that tells where the instance is managed (H54, H61).
fn accepted(asked: &Asked<'_>, instance: &InstanceId) -> Response {
    let fails = asked.query.flag(FAILURE_AS_500).unwrap_or_default();
    let payload = asked.links.management(instance.as_str(), fails);
    let mut response = respond::json(StatusCode::ACCEPTED, &payload);
    respond::set(&mut response, LOCATION, &payload.status_query_get_uri);
    respond::set(&mut response, RETRY_AFTER, RETRY_AFTER_START);
    response
}

/// O2: the status of an instance.
pub(super) async fn status(asked: &Asked<'_>, instance: &str) -> Result<Response, Problem> {
    let Some((hub, instance)) = asked.find(instance).await? else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    let read = || async { hub.info(&instance).await.map_err(Problem::from) };
    match with_room(asked.app, read).await? {
        (None, _) => Ok(respond::empty(StatusCode::NOT_FOUND)),
        (Some(info), room) => show(asked, &hub, info, room).await,
    }
}

/// The status with its code and headers (H70).
async fn show(asked: &Asked<'_>, hub: &Arc<Hub>, info: InstanceInfo, mut room: Room) -> Result<Response, Problem> {
    let query = &asked.query;
    let view = HistoryView::of_query(query);
    let history = match view {
        // What has not begun has no history, nor a member for it (H57).
        Some(_) if info.status != RuntimeStatus::Pending => {
            room::history(asked.app, hub, &info.instance, &mut room).await?
        }
        Some(_) | None => None,
    };
    let show_input = query.flag("showInput").unwrap_or(true);
    let code = code(query, info.status);
    let shown = look_through(&info, || InstanceStatus::new(&info, show_input));
    let mut response = match (view, history) {
        (Some(view), Some(History::Long(events))) => {
            // Made of texts, numbers and JSON that was checked, which can always be written.
            let head = serde_json::to_vec(&shown).unwrap_or_default();
            drop(shown);
            let outline = streamed::outline(&events, view).await?;
            room::grow(asked.app, &mut room, outline.bytes_max)?;
            let text = streamed::Status::new(head, &events, (view, outline), room);
            respond::json_parts(code, streamed::parts(text))
        }
        (Some(view), Some(History::Whole(events))) if !events.is_empty() => {
            let history = view.of(&events);
            respond::json_of(code, &shown.with_history(Some(&history)), payloads(&info), room)
        }
        (_, _) => respond::json_of(code, &shown, payloads(&info), room),
    };
    if code == StatusCode::ACCEPTED {
        respond::set(&mut response, LOCATION, &asked.links.this(asked.head));
        respond::set(&mut response, RETRY_AFTER, RETRY_AFTER_STATUS);
    }
    Ok(response)
}

/// The code of a status (H70).
fn code(query: &Query, status: RuntimeStatus) -> StatusCode {
    let fails = query.flag(FAILURE_AS_500).unwrap_or_default();
    match status {
        RuntimeStatus::Pending | RuntimeStatus::Running | RuntimeStatus::Suspended | RuntimeStatus::ContinuedAsNew => {
            StatusCode::ACCEPTED
        }
        RuntimeStatus::Failed if fails => StatusCode::INTERNAL_SERVER_ERROR,
        RuntimeStatus::Failed | RuntimeStatus::Completed | RuntimeStatus::Terminated | RuntimeStatus::Canceled => {
            StatusCode::OK
        }
    }
}

/// O3: a page of statuses, and the token of the next one (H75, H76).
pub(super) async fn list(asked: &Asked<'_>) -> Result<Response, Problem> {
    let query = &asked.query;
    let token = header(asked.head, TOKEN_HEADER.as_str())?;
    let (filter, ignored) = filter(asked);
    let after = token.map(|token| token::read(token, &asked.hub, &filter)).transpose();
    let after = after.map_err(|refused| Problem::argument(refused.to_string()))?;
    let (mut response, next) = match asked.hub().await? {
        None => (respond::json(StatusCode::OK, &[(); 0]), None),
        Some(hub) => {
            let input = query.flag("showInput").unwrap_or(true);
            let wanted = Wanted {
                hub,
                filter: filter.clone(),
                payloads: Payloads { input, output: true },
            };
            rows(asked, wanted, after, query.top("top")).await?
        }
    };
    let token = next
        .map(|next| token::write(&next, &asked.hub, &filter))
        .unwrap_or_default();
    respond::set(&mut response, TOKEN_HEADER, &token);
    for ignored in &ignored {
        respond::warn(&mut response, &ignored.to_string());
    }
    Ok(response)
}

/// So many rows behind a place, and where the next ones begin. Clients that read one page alone must see as many as they
/// asked for, so those that are too large to be held at once are sent while they are read.
async fn rows(
    asked: &Asked<'_>,
    wanted: Wanted,
    after: Option<Cursor>,
    rows_max: usize,
) -> Result<(Response, Option<Cursor>), Problem> {
    let read = || async { wanted.page(after.clone(), rows_max).await.map_err(Problem::from) };
    let (page, room) = with_room(asked.app, read).await?;
    if let Some(next) = page.next.clone().filter(|_| page.rows.len() < rows_max) {
        // The store ended it by its size.
        let outline = wanted.outline(next, rows_max - page.rows.len()).await?;
        if let Some(last) = outline.rows.last() {
            let last = Cursor::of(last);
            let input = wanted.payloads.input;
            let form = Form {
                open: "[",
                row: Box::new(move |info, text, is_first| {
                    let status = look_through(info, || InstanceStatus::new(info, input));
                    streamed::item(text, is_first, &status);
                }),
                close: "]",
            };
            let listing = Listing::new(wanted, page, Some(last), form, room);
            return Ok((
                respond::json_parts(StatusCode::OK, streamed::parts(listing)),
                outline.next,
            ));
        }
    }
    let shown: Vec<_> = page
        .rows
        .iter()
        .map(|info| look_through(info, || InstanceStatus::new(info, wanted.payloads.input)))
        .collect();
    let payloads = page.rows.iter().flat_map(payloads);
    Ok((respond::json_of(StatusCode::OK, &shown, payloads, room), page.next))
}

/// A complete list, marked by an empty continuation token (H76).
pub(super) fn last_page(rows: &impl Serialize) -> Response {
    let mut response = respond::json(StatusCode::OK, rows);
    respond::set(&mut response, TOKEN_HEADER, "");
    response
}

/// A filter that was given and could not be read. A list is not restricted by it, which its answer tells.
#[derive(Debug)]
pub(super) struct Ignored {
    pub(super) name: &'static str,
    pub(super) value: String,
    kind: &'static str,
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, kind } = self;
        write!(out, "{name} is ignored: '{value}' is not a valid {kind}")
    }
}

/// The filters that lists and purges share, and those that could not be read. Both limits of time are inclusive (H75).
pub(super) fn filter(asked: &Asked<'_>) -> (Filter, Vec<Ignored>) {
    let (query, now) = (&asked.query, time::now());
    let mut ignored = Vec::new();
    let mut time = |name| match query.time(name, now) {
        Ok(moment) => moment,
        Err(text) => {
            ignored.push(Ignored {
                name,
                value: text.to_owned(),
                kind: "time",
            });
            None
        }
    };
    let (from, to) = (time("createdTimeFrom"), time("createdTimeTo"));
    let statuses = query.statuses();
    if !statuses.unknown.is_empty() {
        ignored.push(Ignored {
            name: "runtimeStatus",
            value: statuses.unknown.join(","),
            kind: "status",
        });
    }
    let filter = Filter {
        created_from: from,
        created_before: to.map(just_after),
        statuses: statuses.known,
        name: query.filled("name").map(str::to_owned),
        id_prefix: query.filled("instanceIdPrefix").map(str::to_owned),
    };
    (filter, ignored)
}
