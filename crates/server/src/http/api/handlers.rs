//! What our own API does: each decodes, calls the hub, encodes.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use taskhub_api::calls::{
    Acted, HistoryPartBody, HubBody, HubDeleted, IfExists, Items, PurgeBody, PurgedBody, RaiseBody, ReasonBody,
    StartBody, StartedBody, Stats, Waited,
};
use taskhub_api::instance::{Fields, Instance};
use taskhub_api::time::just_after;
use taskhub_api::{id as ids, status};
use taskhub_core::date::read as read_moment;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId, Name};
use taskhub_core::json;
use taskhub_core::limits;
use taskhub_core::message::{ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;
use taskhub_core::query::{Cursor, Filter, Page, Payloads};
use taskhub_core::refusal::Refusal;
use taskhub_core::status::{InstanceInfo, RuntimeStatus};
use taskhub_core::time::Timestamp;
use taskhub_engine::hub::HistoryRange;
use taskhub_engine::{Error as EngineError, Hub, WaitFor};
use tokio::time::sleep;

use super::super::listing::{Form, Listing, Wanted};
use super::super::payload::{Taken, look_through};
use super::super::query::{Query, no_status};
use super::super::respond::{self, Response};
use super::super::room::{self, HISTORY_BYTES_MAX, payloads, with_room};
use super::super::streamed::{self, Complete, Events};
use super::super::{payload, time, token};
use super::Call;
use super::refused::{Refused, without_folder};
use crate::answers::Room;
use crate::auth::Need;
use crate::config::Reuse;

/// What `limit` says where all is wanted.
const ALL: &str = "all";
/// Default and maximum number of history events in one response.
const EVENTS_MAX: usize = 10_000;

pub(super) async fn hubs(call: &Call<'_>) -> Result<Response, Refused> {
    let hubs = call.app.hubs.all().await?;
    let opened = hubs
        .into_iter()
        .filter(|hub| call.grant.check(Need::Read, &hub.name).is_ok());
    let shown = opened.map(|hub| HubBody {
        is_default: hub.name == *call.app.hubs.first(),
        name: hub.name.to_string(),
        partitions: hub.partitions,
        created_time: hub.created_at,
    });
    let list = Items {
        items: shown.collect(),
        cursor: None,
    };
    Ok(respond::json(StatusCode::OK, &list))
}

pub(super) async fn delete_hub(call: &Call<'_>, hub: &str) -> Result<Response, Refused> {
    let hub = call.allowed(hub, Need::Master)?;
    let confirmed = call.query.text("confirm").map(HubName::new);
    if !confirmed.is_some_and(|name| name.is_ok_and(|name| name == hub)) {
        return Err(Refused::argument(format!(
            "to delete hub {hub}, add confirm={hub} to the query"
        )));
    }
    if !call.app.hubs.delete(&hub).await? {
        return Err(Refused::no_hub(&hub));
    }
    Ok(respond::json(
        StatusCode::OK,
        &HubDeleted {
            deleted: hub.as_str().into(),
        },
    ))
}

pub(super) async fn stats(call: &Call<'_>, hub: &str) -> Result<Response, Refused> {
    let hub = call.hub(hub, Need::Read).await?;
    let counts = hub.counts().await?;
    let stats = Stats {
        hub: hub.name().as_str().into(),
        instances: counts.iter().map(|(_, count)| count).sum(),
        by_status: counts
            .iter()
            .map(|(status, count)| (status::word(*status).into(), *count))
            .collect(),
    };
    Ok(respond::json(StatusCode::OK, &stats))
}

pub(super) async fn list(call: &Call<'_>, hub: &str) -> Result<Response, Refused> {
    let hub = call.hub(hub, Need::Read).await?;
    let query = &call.query;
    let filter = filter(query)?;
    let after = query
        .filled("cursor")
        .map(|cursor| token::read(cursor, hub.name(), &filter))
        .transpose();
    let after = after.map_err(|refused| Refused::argument(refused.to_string()))?;
    let fields = Fields {
        is_list: true,
        ..fields(query)?.unwrap_or_default()
    };
    if query.filled("limit") == Some(ALL) {
        return list_all(call, hub, filter, after, fields).await;
    }
    let rows_max = whole(query, "limit", 1..=limits::PAGE_ROWS_MAX)?.unwrap_or(100);
    let read = || async {
        hub.query(filter.clone(), after.clone(), rows_max)
            .await
            .map_err(Refused::from)
    };
    let (page, room) = with_room(call.app, read).await?;
    Ok(items(&hub, &page, &filter, fields, room))
}

/// One page of a list.
fn items(hub: &Hub, page: &Page, filter: &Filter, fields: Fields, room: Room) -> Response {
    let shown = page.rows.iter().map(|info| shown(hub.name(), info, fields));
    let list = Items {
        items: shown.collect(),
        cursor: page.next.as_ref().map(|next| token::write(next, hub.name(), filter)),
    };
    respond::json_of(StatusCode::OK, &list, page.rows.iter().flat_map(payloads), room)
}

/// All instances. A list of more than one page is streamed; instances that are started meanwhile come at the end.
async fn list_all(
    call: &Call<'_>,
    hub: Arc<Hub>,
    filter: Filter,
    after: Option<Cursor>,
    fields: Fields,
) -> Result<Response, Refused> {
    let wanted = Wanted {
        hub: Arc::clone(&hub),
        filter: filter.clone(),
        payloads: Payloads::ALL,
    };
    let read = || async {
        wanted
            .page(after.clone(), limits::PAGE_ROWS_MAX)
            .await
            .map_err(Refused::from)
    };
    let (page, mut room) = with_room(call.app, read).await?;
    if page.next.is_none() {
        return Ok(items(&hub, &page, &filter, fields, room));
    }
    // The pages behind the first may be larger.
    room::grow(call.app, &mut room, limits::PAGE_BYTES_MAX)?;
    let form = Form {
        open: r#"{"items":["#,
        row: Box::new(move |info, text, is_first| {
            streamed::item(text, is_first, &shown(hub.name(), info, fields));
        }),
        close: r#"],"cursor":null}"#,
    };
    let listing = Listing::new(wanted, page, None, form, room);
    Ok(respond::json_parts(StatusCode::OK, streamed::parts(listing)))
}

pub(super) async fn show(call: &Call<'_>, hub: &str, id: &str) -> Result<Response, Refused> {
    let (hub, instance) = call.instance(hub, id, Need::Read).await?;
    let fields = single(&call.query)?;
    // The record is shared by all who look at it; the state is read for each, so there is room for it first.
    let (_, room) = with_room(call.app, || async { hub.info(&instance).await.map_err(Refused::from) }).await?;
    let state = hub.state(&instance).await?;
    let state = state.ok_or_else(|| Refused::no_instance(&instance))?;
    let shown = shown(hub.name(), &state.info, fields);
    let shown = shown.with_history(state.history_events.into(), state.history_bytes);
    Ok(respond::json_of(StatusCode::OK, &shown, payloads(&state.info), room))
}

pub(super) async fn history(call: &Call<'_>, hub: &str, id: &str) -> Result<Response, Refused> {
    let (hub, instance) = call.instance(hub, id, Need::Read).await?;
    let from = whole(&call.query, "from", 0..=usize::MAX)?.unwrap_or_default();
    let is_all = call.query.filled("limit") == Some(ALL);
    let limit = if is_all {
        usize::MAX
    } else {
        whole(&call.query, "limit", 1..=EVENTS_MAX)?.unwrap_or(EVENTS_MAX)
    };
    let first = u32::try_from(from).unwrap_or(u32::MAX);
    let range = HistoryRange {
        from: first,
        events_max: u32::try_from(limit).unwrap_or(u32::MAX),
        bytes_max: HISTORY_BYTES_MAX,
    };
    let read = || async { hub.history_part(&instance, range).await.map_err(Refused::from) };
    let (part, room) = with_room(call.app, read).await?;
    let part = part.ok_or_else(|| Refused::no_instance(&instance))?;
    let next = from.saturating_add(part.events.len().min(limit));
    let has_more = !part.events.is_empty() && next < part.total as usize;
    if is_all && has_more {
        let text = Complete::new(Events::new(hub, instance, first, part), room);
        return Ok(respond::json_parts(StatusCode::OK, streamed::parts(text)));
    }
    let shown = HistoryPartBody {
        items: part.events.iter().take(limit).map(Into::into).collect(),
        next_from: has_more.then_some(next),
    };
    Ok(respond::json_of(StatusCode::OK, &shown, std::iter::empty(), room))
}

pub(super) async fn wait(call: &Call<'_>, hub: &str, id: &str) -> Result<Response, Refused> {
    let (hub, instance) = call.instance(hub, id, Need::Read).await?;
    let wait = match call.query.filled("for") {
        None | Some("ended") => WaitFor::Ended,
        Some("started") => WaitFor::Started,
        Some(other) => {
            return Err(Refused::argument(format!(
                "invalid `for`: expected ended or started, got `{other}`"
            )));
        }
    };
    let limit = call.app.config.limits.wait_max;
    let given = call.query.seconds("timeout").map_err(Refused::from)?;
    let patience = given.unwrap_or(Duration::MAX).min(limit);
    let fields = single(&call.query)?;
    let is_met = tokio::select! {
        biased;
        met = hub.wait(&instance, wait) => met.map(|_| true)?,
        () = call.app.enough(patience) => false,
    };
    let (info, room) = with_room(call.app, || async { hub.info(&instance).await.map_err(Refused::from) }).await?;
    let info = info.ok_or_else(|| Refused::no_instance(&instance))?;
    let instance = shown(hub.name(), &info, fields);
    let waited = Waited { is_met, instance };
    Ok(respond::json_of(StatusCode::OK, &waited, payloads(&info), room))
}

pub(super) async fn start(call: &Call<'_>, hub: &str, taken: Taken) -> Result<Response, Refused> {
    let name = call.allowed(hub, Need::Write)?;
    let body: StartBody<'_> = read(&taken.bytes)?;
    let hub = if call.app.config.auto_create_hubs {
        call.app.hubs.find_or_create(&name).await?
    } else {
        call.app.hubs.find(&name).await?
    };
    let hub = hub.ok_or_else(|| Refused::no_hub(&name))?;
    let if_exists = body.if_exists;
    let request = start_request(call, body)?;
    let instance = request.instance.clone();
    let limit = call.app.config.limits.start_timeout;
    let held: taskhub_engine::hub::Held = Box::new(taken.reserved);
    let is_new = match hub.start_until(request, sleep(limit), Some(held)).await {
        Ok(()) => true,
        Err(EngineError::Refused(Refusal::InstanceExists { .. })) if if_exists == IfExists::Reuse => false,
        Err(error) => return Err(error.into()),
    };
    let shown = StartedBody {
        hub: hub.name().as_str().into(),
        instance_id: instance.as_str().into(),
        is_new,
    };
    let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(respond::json(code, &shown))
}

fn start_request(call: &Call<'_>, body: StartBody<'_>) -> Result<StartRequest, Refused> {
    let key = call.key(body.idempotency_key.as_deref())?;
    let config = &call.app.config;
    let reuse = match (body.if_exists, config.reuse) {
        (IfExists::Error | IfExists::Reuse, _) => ReusePolicy::Replace(Vec::new()),
        (IfExists::ReplaceEnded, _) | (IfExists::Default, Reuse::NonRunningStates) => ReusePolicy::ReplaceEnded,
        (IfExists::ReplaceAny, _) | (IfExists::Default, Reuse::AnyState) => ReusePolicy::ReplaceAny,
    };
    let version = body.version.as_deref().or(config.default_version.as_deref());
    let at = body.scheduled_start_time.as_deref();
    Ok(StartRequest {
        instance: match body.instance_id {
            Some(id) => new_instance_id(&id)?,
            None => ids::fresh(key.as_ref().map(IdempotencyKey::as_str))?,
        },
        name: Name::new(&body.name)?,
        version: version.map(Name::new).transpose()?,
        input: body.input.as_deref().map(payload::of_json).transpose()?,
        tags: body.tags,
        scheduled_start: at.map(|text| moment("scheduledStartTime", text)).transpose()?,
        execution: None,
        reuse,
        key,
        repeats: body.repeats.into(),
    })
}

/// An id that is given to a new instance: over HTTP it may not have what would break paths (H21).
fn new_instance_id(id: &str) -> Result<InstanceId, Refusal> {
    if ids::forbidden(id).is_some() {
        let why = "it contains /, \\, #, ? or a control character";
        return Err(Refusal::InvalidInstanceId {
            given: id.to_owned(),
            why,
        });
    }
    let instance = InstanceId::new(id)?;
    instance.check_new()?;
    Ok(instance)
}

/// What changes one instance.
pub(super) async fn act(call: &Call<'_>, hub: &str, id: &str, action: &str, taken: Taken) -> Result<Response, Refused> {
    let body = taken.bytes;
    let (hub, instance) = call.instance(hub, id, Need::Write).await?;
    let reason = |body: &ReasonBody<'_>| body.reason.as_deref().map(Payload::text);
    match action {
        "raise" => {
            let body: RaiseBody<'_> = read(&body)?;
            let key = call.key(body.idempotency_key.as_deref())?;
            let input = body.input.as_deref().map(payload::of_json).transpose()?;
            let event = (Name::new(&body.name)?, input);
            hub.raise_event_holding(&instance, event, key, Box::new(taken.reserved))
                .await?;
        }
        "terminate" => {
            let body: ReasonBody<'_> = read_or_default(&body)?;
            hub.terminate(&instance, reason(&body), body.recursive).await?;
        }
        "suspend" => {
            let body: ReasonBody<'_> = read_or_default(&body)?;
            hub.suspend(&instance, reason(&body)).await?;
        }
        "resume" => {
            let body: ReasonBody<'_> = read_or_default(&body)?;
            hub.resume(&instance, reason(&body)).await?;
        }
        _ => return Err(Refused::no_route()),
    }
    let acted = Acted {
        hub: hub.name().as_str().into(),
        instance_id: instance.as_str().into(),
    };
    Ok(respond::json(StatusCode::OK, &acted))
}

pub(super) async fn purge(call: &Call<'_>, hub: &str, id: &str) -> Result<Response, Refused> {
    let (hub, instance) = call.instance(hub, id, Need::Write).await?;
    let purged = hub.purge(&instance).await?;
    if purged.count == 0 {
        return Err(Refused::no_instance(&instance));
    }
    Ok(respond::json(StatusCode::OK, &removed(purged)))
}

pub(super) async fn purge_many(call: &Call<'_>, hub: &str, body: Bytes) -> Result<Response, Refused> {
    let hub = call.hub(hub, Need::Write).await?;
    let body: PurgeBody<'_> = read(&body)?;
    for (name, text) in [("name", &body.name), ("idPrefix", &body.id_prefix)] {
        if text.as_ref().is_some_and(|text| text.is_empty()) {
            // An empty variable in a script must not purge everything.
            return Err(Refused::argument(format!(
                "`{name}` is empty: leave it out or give it a value"
            )));
        }
    }
    let filter = Filter {
        created_from: body
            .created_from
            .as_deref()
            .map(|text| moment("createdFrom", text))
            .transpose()?,
        created_before: body
            .created_to
            .as_deref()
            .map(|text| moment("createdTo", text))
            .transpose()?
            .map(just_after),
        statuses: statuses(body.statuses.iter().map(AsRef::as_ref))?,
        name: body.name.map(Cow::into_owned),
        id_prefix: body.id_prefix.map(Cow::into_owned),
    };
    if filter == Filter::default() && !body.all {
        return Err(Refused::argument(
            "the purge has no filter; add `all` to purge all ended instances",
        ));
    }
    let enough = call.app.enough(call.app.config.limits.wait_max);
    let purged = hub.purge_where_until(filter, enough).await?;
    Ok(respond::json(StatusCode::OK, &removed(purged)))
}

fn removed(purged: taskhub_engine::hub::Purged) -> PurgedBody {
    PurgedBody {
        purged: purged.count,
        rows: purged.rows,
        is_complete: purged.is_complete,
    }
}

/// The filter of a list. Both times are inclusive, as in the management API.
fn filter(query: &Query) -> Result<Filter, Refused> {
    let now = time::now();
    let time = |name| query.time(name, now).map_err(|text| no_moment(name, text));
    Ok(Filter {
        created_from: time("createdFrom")?,
        created_before: time("createdTo")?.map(just_after),
        statuses: statuses(
            query
                .filled("status")
                .unwrap_or_default()
                .split(',')
                .filter(|word| !word.is_empty()),
        )?,
        name: query.filled("name").map(str::to_owned),
        id_prefix: query.filled("idPrefix").map(str::to_owned),
    })
}

fn statuses<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<RuntimeStatus>, Refused> {
    let unknown = |word: &str| Refused::argument(no_status(word));
    words
        .map(|word| status::read(word.trim()).ok_or_else(|| unknown(word)))
        .collect()
}

fn moment(name: &str, text: &str) -> Result<Timestamp, Refused> {
    read_moment(text, time::now()).ok_or_else(|| no_moment(name, text))
}

fn no_moment(name: &str, text: &str) -> Refused {
    Refused::argument(format!(
        "invalid `{name}`: expected a time such as 2026-01-31T12:00:00Z, got `{text}`"
    ))
}

/// A whole number within limits.
fn whole(query: &Query, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, Refused> {
    let Some(text) = query.filled(name) else {
        return Ok(None);
    };
    let number: Option<usize> = text.trim().parse().ok();
    let fits = number.filter(|number| range.contains(number));
    let (least, most) = range.into_inner();
    let or = if name == "limit" { " or `all`" } else { "" };
    let refused = || {
        Refused::argument(format!(
            "invalid `{name}`: expected a whole number from {least} to {most}{or}, got `{text}`"
        ))
    };
    fits.map(Some).ok_or_else(refused)
}

/// An instance; the reason why it was set aside does not contain the path of the store.
fn shown<'a>(hub: &'a HubName, info: &'a InstanceInfo, fields: Fields) -> Instance<'a> {
    let show = || Instance::new(hub, info, fields);
    let mut shown = if fields.as_text {
        show()
    } else {
        look_through(info, show)
    };
    if let Some(stall) = &mut shown.stalled {
        stall.reason = without_folder(&stall.reason).into();
    }
    shown
}

/// The requested payloads, if the request names them.
fn fields(query: &Query) -> Result<Option<Fields>, Refused> {
    let as_text = match query.filled("payloads") {
        None | Some("json") => false,
        Some("text") => true,
        Some(other) => {
            return Err(Refused::argument(format!(
                "invalid `payloads`: expected json or text, got `{other}`"
            )));
        }
    };
    let mut fields = Fields {
        as_text,
        ..Fields::default()
    };
    let Some(names) = query.text("fields") else {
        return Ok(None);
    };
    for name in names.split(',').filter(|name| !name.is_empty()) {
        match name {
            "input" => fields.input = true,
            "output" => fields.output = true,
            "customStatus" => fields.custom_status = true,
            other => return Err(Refused::argument(format!("unknown field `{other}`"))),
        }
    }
    Ok(Some(fields))
}

/// One instance is shown with all its payloads, unless some are named.
fn single(query: &Query) -> Result<Fields, Refused> {
    let all = Fields {
        input: true,
        output: true,
        custom_status: true,
        as_text: query.filled("payloads") == Some("text"),
        is_list: false,
    };
    Ok(fields(query)?.unwrap_or(all))
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    let unreadable = |error: &dyn std::fmt::Display| Refused::argument(format!("cannot read the body: {error}"));
    let text = json::text(body).map_err(|error| unreadable(&error))?;
    if text.trim_start().starts_with('[') {
        // Serde would read an array as the members in their order.
        return Err(unreadable(&"expected an object, got an array"));
    }
    serde_json::from_str(&text).map_err(|error| unreadable(&error))
}

fn read_or_default<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Refused> {
    if body.is_empty() { Ok(T::default()) } else { read(body) }
}
