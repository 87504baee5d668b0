//! Taskhub's own API under `/api/v1`, which the command line uses with a running server. Unlike the management API, it
//! is strict: it refuses everything that it does not understand, and each refusal has the same code word as everywhere
//! in the product (A10).

mod handlers;
mod refused;

use std::sync::Arc;

use http::Method;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use hyper::body::{Body, Incoming};
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId};
use taskhub_engine::Hub;

use self::refused::Refused;
use super::path::Segment;
use super::query::Query;
use super::respond::Response;
use super::{idempotency_key, payload};
use crate::app::App;
use crate::auth::{Denied, Grant, Need};
use crate::border::Stopped;

/// What a call is about, and all a handler needs.
struct Call<'a> {
    app: &'a App,
    query: Query,
    grant: Grant,
    /// The key of the header.
    key: Option<IdempotencyKey>,
}

/// Names of the query of a list.
const LISTED: &[&str] = &[
    "createdFrom",
    "createdTo",
    "cursor",
    "fields",
    "idPrefix",
    "limit",
    "name",
    "payloads",
    "status",
];
/// Names of the query of a wait.
const WAITED: &[&str] = &["fields", "for", "payloads", "timeout"];
/// Names of a query that say what of an instance is shown.
const SHOWN: &[&str] = &["fields", "payloads"];

/// Answers a call; `rest` is the path behind the prefix.
pub(super) async fn answer(
    app: &App,
    head: &Parts,
    body: &mut Incoming,
    (rest, query): (&[Segment], Query),
    grant: Grant,
) -> Response {
    let answered = perform(app, head, body, (rest, query), grant).await;
    answered.unwrap_or_else(|refused| refused.answer())
}

/// The response, on every surface, to a request that the border refuses.
pub(super) fn stopped(stopped: &Stopped) -> Response {
    Refused::from(stopped).answer()
}

/// The response to a caller without permission.
pub(super) fn denied(denied: Denied) -> Response {
    Refused::from(denied).answer()
}

async fn perform(
    app: &App,
    head: &Parts,
    body: &mut Incoming,
    (rest, query): (&[Segment], Query),
    grant: Grant,
) -> Result<Response, Refused> {
    let query = query.whole()?;
    let key = idempotency_key(head)?;
    let call = Call { app, query, grant, key };
    let rest: Option<Vec<&str>> = rest.iter().map(Option::as_deref).collect();
    let rest = rest.ok_or_else(|| Refused::argument("the path is not valid percent-encoded UTF-8"))?;
    check_type(head, body)?;
    match (&head.method, rest.as_slice()) {
        (&Method::GET, ["hubs"]) => handlers::hubs(call.taking(&[])?).await,
        (&Method::DELETE, ["hubs", hub]) => handlers::delete_hub(call.taking(&["confirm"])?, hub).await,
        (&Method::GET, ["hubs", hub, "stats"]) => handlers::stats(call.taking(&[])?, hub).await,
        (&Method::GET, ["hubs", hub, "instances"]) => handlers::list(call.taking(LISTED)?, hub).await,
        (&Method::POST, ["hubs", hub, "instances"]) => {
            handlers::start(call.taking(&[])?, hub, payload::read(app, body).await?).await
        }
        (&Method::POST, ["hubs", hub, "instances", "purge"]) => {
            handlers::purge_many(call.taking(&[])?, hub, payload::read(app, body).await?.bytes).await
        }
        (&Method::GET, ["hubs", hub, "instances", id]) => handlers::show(call.taking(SHOWN)?, hub, id).await,
        (&Method::DELETE, ["hubs", hub, "instances", id]) => handlers::purge(call.taking(&[])?, hub, id).await,
        (&Method::GET, ["hubs", hub, "instances", id, "history"]) => {
            handlers::history(call.taking(&["from", "limit"])?, hub, id).await
        }
        (&Method::GET, ["hubs", hub, "instances", id, "wait"]) => handlers::wait(call.taking(WAITED)?, hub, id).await,
        (&Method::POST, ["hubs", hub, "instances", id, action]) => {
            handlers::act(call.taking(&[])?, hub, id, action, payload::read(app, body).await?).await
        }
        (_, _) => Err(Refused::no_route()),
    }
}

/// Requires a JSON body with the right content type: a browser sends bodies of other types for any page without a
/// preflight request.
fn check_type(head: &Parts, body: &Incoming) -> Result<(), Refused> {
    let given = head.headers.get(CONTENT_TYPE);
    let media = given.map(|value| value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default());
    match media {
        Some(media) if media.trim_ascii().eq_ignore_ascii_case(b"application/json") => Ok(()),
        None if body.is_end_stream() => Ok(()),
        None => Err(Refused::media_type("no content type")),
        Some(media) => Err(Refused::media_type(&format!(
            "the content type `{}`",
            String::from_utf8_lossy(media)
        ))),
    }
}

impl Call<'_> {
    /// The call, if its query has no names but these and the key's. A misspelt filter would restrict nothing.
    fn taking(&self, names: &[&str]) -> Result<&Self, Refused> {
        let Some(other) = self.query.other_than(&[names, &["code"]].concat()) else {
            return Ok(self);
        };
        let expected = match names {
            [] => "this call takes no parameter but `code`".to_owned(),
            names => format!("expected one of `{}` and `code`", names.join("`, `")),
        };
        Err(Refused::argument(format!(
            "unknown query parameter `{other}`: {expected}"
        )))
    }

    /// The idempotency key of the body or of the header.
    fn key(&self, of_body: Option<&str>) -> Result<Option<IdempotencyKey>, Refused> {
        let of_body = of_body.map(IdempotencyKey::new).transpose()?;
        match (of_body, &self.key) {
            (Some(body), Some(header)) if body != *header => Err(Refused::argument(format!(
                "the request has two idempotency keys: `idempotencyKey` is `{body}`, the header `Idempotency-Key` is \
                `{header}`"
            ))),
            (Some(key), _) => Ok(Some(key)),
            (None, header) => Ok(header.clone()),
        }
    }

    /// The hub of a path, for a caller who may do this in it.
    async fn hub(&self, name: &str, need: Need) -> Result<Arc<Hub>, Refused> {
        let name = self.allowed(name, need)?;
        let hub = self.app.hubs.find(&name).await?;
        hub.ok_or_else(|| Refused::no_hub(&name))
    }

    /// The name of a hub, for a caller who may do this in it.
    fn allowed(&self, name: &str, need: Need) -> Result<HubName, Refused> {
        let name = HubName::new(name)?;
        self.grant.check(need, &name)?;
        Ok(name)
    }

    /// The hub and the instance of a path.
    async fn instance(&self, hub: &str, id: &str, need: Need) -> Result<(Arc<Hub>, InstanceId), Refused> {
        let hub = self.hub(hub, need).await?;
        Ok((hub, InstanceId::new(id)?))
    }
}
