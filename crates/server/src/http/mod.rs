//! The management API of Durable Functions over HTTP, on its three prefixes and at the front door. A
//! handler decodes, calls the hub, and encodes; it decides nothing.

mod api;
mod control;
mod history;
mod instances;
mod links;
mod listing;
mod path;
mod payload;
mod probes;
mod problem;
mod query;
pub(crate) mod respond;
mod room;
mod routes;
mod streamed;
mod time;
pub mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, RETRY_AFTER};
use http::request::Parts;
use http::{StatusCode, Version};
use hyper::Request;
use hyper::body::Incoming;
use taskhub_core::id::{HubName, IdempotencyKey, InstanceId};
use taskhub_engine::{Error as EngineError, Hub};

use uuid::Uuid;

use crate::app::App;
use crate::auth::{Denied, Grant};
use crate::border::{self, Passage};
use crate::flow::Ends;
use crate::guess::{self, Turn};
use crate::metrics::Timer;

use links::{Caller, Links};
use problem::Problem;
use query::Query;
pub(crate) use respond::Response;
use routes::{Call, Operation, Place, Surface};
use taskhub_api::links::ClientBinding;
use taskhub_api::removal::DeletedHub;

/// The header for the key, an alternative to `?code=` (H30).
const KEY_HEADER: &str = "x-functions-key";

/// Answers one request. It never fails: every error is a response.
pub(crate) async fn answer(app: &App, request: Request<Incoming>, ends: Ends) -> Response {
    let (head, mut body) = request.into_parts();
    let timer = Timer::begin();
    let place = Place::find(path::split(head.uri.path()));
    let is_probe = matches!(place, Place::Health | Place::Ready);
    let (word, mut response) = match app.border.look(&head, ends.local, is_probe) {
        Ok(passage) => {
            let (word, mut response) = if ends.is_spare && !is_probe {
                ("refused", Problem::busy("too many connections are open").answer())
            } else if passage.is_preflight(&head) {
                ("preflight", permit(&head, &passage))
            } else {
                enter(app, &head, &mut body, (place, &passage), ends.peer).await
            };
            // An HTTP/2 connection stays open, because its other requests are not affected.
            if ends.is_spare && head.version < Version::HTTP_2 {
                respond::set(&mut response, CONNECTION, "close");
            }
            passage.show(response.headers_mut());
            (word, response)
        }
        Err(stopped) => ("stopped", api::stopped(&stopped)),
    };
    border::close(response.headers_mut());
    if response.status() != StatusCode::REQUEST_TIMEOUT {
        payload::pass_over(app, &head, &mut body).await;
    }
    let status = response.status().as_u16();
    app.metrics.end(&timer, word, status);
    if tracing::enabled!(tracing::Level::DEBUG) {
        // The query is left out, since it may hold a key, and so may the path.
        let path = without_key(head.uri.path());
        let invocation = invocation(&head);
        tracing::debug!(method = %head.method, path, status, operation = word, invocation, "answered");
    }
    response
}

/// The answer to a request that has more headers than it may.
pub(crate) fn too_many_headers() -> Response {
    respond::empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
}

/// Tells a browser what a page of a listed origin may send.
fn permit(head: &Parts, passage: &Passage) -> Response {
    if let Err(stopped) = passage.without_key() {
        return api::stopped(&stopped);
    }
    let mut response = respond::empty(StatusCode::NO_CONTENT);
    Passage::permit(head, response.headers_mut());
    response
}

/// Answers a request that came over the border, if its caller may come in by this door.
async fn enter(
    app: &App,
    head: &Parts,
    body: &mut Incoming,
    (place, passage): (Place, &Passage),
    peer: SocketAddr,
) -> (&'static str, Response) {
    let query = Query::parse(head.uri.query().unwrap_or_default());
    // Before anything else is looked at (H30), and once.
    let key = presented(head, &query, &place).map(|key| Presented {
        place: app.keys.place(key),
    });
    if let Err(refused) = slow_down(app, key, peer).await {
        return ("denied", refused);
    }
    let grant = match admit(app, &place, key, peer) {
        Ok(grant) => grant,
        Err(refused) => return ("denied", refused),
    };
    if grant.is_keyless()
        && let Err(stopped) = passage.without_key()
    {
        return ("stopped", api::stopped(&stopped));
    }
    match place {
        Place::Management(call) => {
            let mut word = "unknown";
            let door = Door { grant, passage };
            let answered = manage(app, head, body, (call, query), &door, &mut word).await;
            let response = answered.unwrap_or_else(|problem| problem.answer());
            let response = if app.config.null_bodies {
                respond::or_null(response)
            } else {
                response
            };
            (word, response)
        }
        Place::Own(rest) => ("own", api::answer(app, head, body, (&rest, query), grant).await),
        Place::Health => ("health", probes::health(app)),
        Place::Ready => ("ready", probes::ready(app).await),
        Place::Metrics => ("metrics", probes::metrics(app).await),
        Place::Nowhere => ("unknown", respond::empty(StatusCode::NOT_FOUND)),
    }
}

/// Delays the check of a key if its address has presented too many wrong keys.
async fn slow_down(app: &App, key: Option<Presented>, peer: SocketAddr) -> Result<(), Response> {
    let (Some(Presented { place }), false) = (key, app.keys.is_empty()) else {
        return Ok(());
    };
    match app.guesses.turn(peer.ip(), place, guess::now()) {
        Turn::Now => {}
        Turn::Wait(_waiting) => app.enough(app.config.limits.key_delay).await,
        Turn::TooMany => {
            let mut refused = respond::empty(StatusCode::TOO_MANY_REQUESTS);
            respond::set(&mut refused, RETRY_AFTER, "60");
            return Err(refused);
        }
    }
    if let Some(place) = place {
        app.guesses.opened(peer.ip(), place, guess::now());
    }
    Ok(())
}

/// A key that a caller presented.
#[derive(Clone, Copy)]
struct Presented {
    /// Its place among the valid ones, if it is one of them.
    place: Option<usize>,
}

/// How a caller came in.
struct Door<'a> {
    grant: Grant,
    passage: &'a Passage,
}

/// A path as it may be logged: the RPC surface takes keys in it (H4), which are never logged (H30).
fn without_key(path: &str) -> String {
    let shown = path
        .split('/')
        .map(|segment| if links::is_key(segment) { "~" } else { segment });
    shown.collect::<Vec<_>>().join("/")
}

/// The id that the Python client sends of the invocation it belongs to, if it is one (H20).
fn invocation(head: &Parts) -> Option<String> {
    let id = head.headers.get("x-azure-functions-invocationid")?.to_str().ok()?;
    Uuid::parse_str(id).ok().map(|id| id.to_string())
}

/// The client binding of a hub (H56), for operators.
pub(crate) fn client_binding(app: &App, hub: &HubName) -> ClientBinding {
    let caller = Caller {
        grant: &Grant::Local,
        host: None,
        local: app.address,
        headers: None,
    };
    Links::new(app, &caller, Surface::Webhook, hub).binding()
}

/// A call that was let in, and what of it its handler needs.
struct Asked<'a> {
    app: &'a App,
    head: &'a Parts,
    surface: Surface,
    query: Query,
    hub: HubName,
    links: Links,
}

impl Asked<'_> {
    /// The hub, if it exists; reads and control requests find nothing in one that does not (H14).
    async fn hub(&self) -> Result<Option<Arc<Hub>>, Problem> {
        Ok(self.app.hubs.find(&self.hub).await?)
    }

    /// The hub and the id of an instance; absent if the hub does not exist or this can be no id (H21).
    async fn find(&self, instance: &str) -> Result<Option<(Arc<Hub>, InstanceId)>, Problem> {
        let Ok(instance) = InstanceId::new(instance) else {
            return Ok(None);
        };
        Ok(self.hub().await?.map(|hub| (hub, instance)))
    }
}

async fn manage(
    app: &App,
    head: &Parts,
    body: &mut Incoming,
    (call, query): (Call, Query),
    door: &Door<'_>,
    word: &mut &'static str,
) -> Result<Response, Problem> {
    let query = query.whole()?;
    let rest: Option<Vec<String>> = call.rest.iter().cloned().collect();
    let rest = rest.ok_or_else(|| Problem::argument("the path is not valid percent-encoded UTF-8"))?;
    let Some(operation) = Operation::find(call.surface, &head.method, &rest) else {
        return Ok(respond::empty(StatusCode::NOT_FOUND));
    };
    *word = operation.word();
    // The one that is deleted is the one that the key must open.
    let hub = match &operation {
        Operation::DeleteHub { hub } => checked_hub_name(hub)?,
        _ => hub_name(app, &query, &call)?,
    };
    if let Err(denied) = door.grant.check(operation.need(), &hub) {
        return Ok(respond::empty(status_of(denied)));
    }
    let caller = Caller {
        grant: &door.grant,
        host: door.passage.host.as_ref(),
        local: door.passage.local,
        headers: Some(&head.headers),
    };
    let asked = Asked {
        links: Links::new(app, &caller, call.surface, &hub),
        app,
        head,
        surface: call.surface,
        query,
        hub,
    };
    perform(&asked, operation, body).await
}

async fn perform(asked: &Asked<'_>, operation: Operation, body: &mut Incoming) -> Result<Response, Problem> {
    match operation {
        Operation::Start { name, instance } => instances::start(asked, body, &name, instance.as_deref()).await,
        Operation::StartAndWait { name } => instances::start_and_wait(asked, body, &name).await,
        Operation::Status { instance } => instances::status(asked, &instance).await,
        Operation::List => instances::list(asked).await,
        Operation::RaiseEvent { instance, event } => control::raise_event(asked, body, &instance, &event).await,
        Operation::Terminate { instance } => control::terminate(asked, &instance).await,
        Operation::Suspend { instance } => control::suspend(asked, &instance).await,
        Operation::Resume { instance } => control::resume(asked, &instance).await,
        Operation::PurgeOne { instance } => control::purge(asked, &instance).await,
        Operation::PurgeMany => control::purge_many(asked).await,
        Operation::NotYet { what } => Err(Problem::not_implemented(what)),
        Operation::ReadEntity => Ok(respond::empty(StatusCode::NOT_FOUND)),
        Operation::ListEntities => Ok(instances::last_page(&[(); 0])),
        Operation::MakePrimary => Err(Problem::no_lease()),
        Operation::ClientBinding => Ok(respond::json(StatusCode::OK, &asked.links.binding())),
        Operation::DeleteHub { .. } => delete_hub(asked).await,
    }
}

/// O18: the hub and everything in it, if the caller repeats its name.
async fn delete_hub(asked: &Asked<'_>) -> Result<Response, Problem> {
    let hub = &asked.hub;
    let confirmed = asked.query.text("confirm").map(HubName::new);
    if !confirmed.is_some_and(|name| name.is_ok_and(|name| name == *hub)) {
        return Err(Problem::argument(format!(
            "to delete hub {hub}, add confirm={hub} to the query"
        )));
    }
    if asked.app.hubs.delete(hub).await? {
        Ok(respond::json(StatusCode::OK, &DeletedHub::new(hub)))
    } else {
        Ok(respond::empty(StatusCode::NOT_FOUND))
    }
}

/// The key in path, query or header.
fn presented<'a>(head: &'a Parts, query: &'a Query, place: &'a Place) -> Option<&'a str> {
    let in_path = match place {
        Place::Management(call) => call.key.as_deref(),
        _ => None,
    };
    let header = |name: &str| header(head, name).ok().flatten();
    let bearer = || match place {
        Place::Own(_) => header(AUTHORIZATION.as_str())?.strip_prefix("Bearer "),
        _ => None,
    };
    in_path
        .or_else(|| query.filled("code"))
        .or_else(|| header(KEY_HEADER))
        .or_else(bearer)
}

/// A header as text, if it is there and not empty. It is UTF-8, as paths and queries are (H8, H9): to overlook a key
/// or a token because of an umlaut would be to do something else than was asked for.
fn header<'a>(head: &'a Parts, name: &str) -> Result<Option<&'a str>, Problem> {
    let value = head
        .headers
        .get(name)
        .map(|value| std::str::from_utf8(value.as_bytes()));
    let text = value.transpose();
    let text = text.map_err(|_| Problem::argument(format!("the header `{name}` is not valid UTF-8")))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// The idempotency key of a call (H65). An empty key is an error, because it usually comes from an empty variable.
fn idempotency_key(head: &Parts) -> Result<Option<IdempotencyKey>, Problem> {
    const NAME: &str = "idempotency-key";
    match head.headers.get_all(NAME).iter().count() {
        0 => Ok(None),
        1 => {
            let text = header(head, NAME)?.unwrap_or_default();
            Ok(Some(IdempotencyKey::new(text).map_err(EngineError::from)?))
        }
        count => Err(Problem::argument(format!(
            "the header `{NAME}` occurs {count} times; expected at most one"
        ))),
    }
}

/// Whether a caller may come in by a door at all (H30, H33, H96, A17).
#[expect(
    clippy::result_large_err,
    reason = "what is refused has its answer, and that is sent at once"
)]
fn admit(app: &App, place: &Place, presented: Option<Presented>, peer: SocketAddr) -> Result<Grant, Response> {
    let by_key = || app.keys.admit(presented.and_then(|key| key.place));
    match place {
        Place::Management(call) => admit_to(app, call.surface, presented, peer).map_err(respond::empty),
        Place::Own(_) => by_key().map_err(api::denied),
        Place::Metrics => by_key().map_err(|denied| respond::empty(status_of(denied))),
        // They tell nothing about instances, and watchers have no key.
        Place::Health | Place::Ready | Place::Nowhere => Ok(Grant::Local),
    }
}

/// Whether a caller may come in by a door of the management API.
fn admit_to(app: &App, surface: Surface, presented: Option<Presented>, peer: SocketAddr) -> Result<Grant, StatusCode> {
    let by_key = || app.keys.admit(presented.and_then(|key| key.place)).map_err(status_of);
    match surface {
        Surface::Webhook | Surface::Classic => by_key(),
        Surface::FrontDoor if app.config.has_front_door() => by_key(),
        Surface::FrontDoor => Err(StatusCode::NOT_FOUND),
        Surface::Rpc => {
            let is_local = peer.ip().to_canonical().is_loopback();
            if !is_local && !app.config.rpc_allow_remote {
                return Err(StatusCode::NOT_FOUND);
            }
            match presented {
                Some(_) if !app.keys.is_empty() => by_key(),
                _ if is_local && app.config.has_open_rpc() => Ok(Grant::Local.or_open(app)),
                _ if app.keys.is_empty() && !is_local => Ok(Grant::Open),
                _ if app.keys.is_empty() => Err(StatusCode::NOT_FOUND),
                _ => Err(StatusCode::UNAUTHORIZED),
            }
        }
    }
}

impl Grant {
    /// Without keys everything is open, here too.
    fn or_open(self, app: &App) -> Self {
        if app.keys.is_empty() { Self::Open } else { self }
    }
}

fn status_of(denied: Denied) -> StatusCode {
    match denied {
        Denied::Unknown => StatusCode::UNAUTHORIZED,
        Denied::NotAllowed => StatusCode::FORBIDDEN,
    }
}

/// The hub of a call: from the query, from the path, or the default hub; a blank name counts as absent (H13).
fn hub_name(app: &App, query: &Query, call: &Call) -> Result<HubName, Problem> {
    let is_name = |name: &&str| !name.trim().is_empty();
    let given = query.text("taskHub").filter(is_name).or(call.hub.as_deref());
    match given.filter(is_name) {
        // The default hub's name as it was created, since it is shown in links.
        Some(name) => checked_hub_name(name).map(|name| {
            if name == *app.hubs.first() {
                app.hubs.first().clone()
            } else {
                name
            }
        }),
        None => Ok(app.hubs.first().clone()),
    }
}

fn checked_hub_name(name: &str) -> Result<HubName, Problem> {
    Ok(HubName::new(name).map_err(EngineError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Key};
    use crate::hubs::Hubs;

    const HERE: &str = "127.0.0.1:5000";
    const MAPPED: &str = "[::ffff:127.0.0.1]:5000";
    const ELSEWHERE: &str = "192.0.2.7:5000";

    async fn app(config: Config) -> App {
        let hub = taskhub::Hub::builder("SampleHub").in_memory().await.unwrap();
        App::new(
            config,
            Hubs::new(Arc::clone(hub.engine()), None, 1),
            HERE.parse().unwrap(),
        )
    }

    /// The status a call over the RPC surface is turned away with; 0 if it is let in.
    fn rpc(app: &App, key: Option<&str>, peer: &str) -> u16 {
        let key = key.map(|key| Presented {
            place: app.keys.place(key),
        });
        let admitted = admit_to(app, Surface::Rpc, key, peer.parse().unwrap());
        admitted.map_or_else(|status| status.as_u16(), |_| 0)
    }

    #[tokio::test]
    async fn the_rpc_surface_is_for_this_machine_unless_told_otherwise() {
        let open = app(Config::default()).await;
        assert_eq!(
            [HERE, MAPPED, ELSEWHERE].map(|peer| rpc(&open, None, peer)),
            [0, 0, 404]
        );
        let remote = app(Config {
            rpc_allow_remote: true,
            ..Config::default()
        });
        assert_eq!(rpc(&remote.await, None, ELSEWHERE), 0);
    }

    #[tokio::test]
    async fn with_keys_the_rpc_surface_needs_one_but_where_it_is_opened_for_this_machine() {
        let keys = || vec![Key::system("k")];
        let closed = app(Config {
            keys: keys(),
            ..Config::default()
        })
        .await;
        assert_eq!([HERE, ELSEWHERE].map(|peer| rpc(&closed, None, peer)), [401, 404]);
        assert_eq!([HERE, ELSEWHERE].map(|peer| rpc(&closed, Some("k"), peer)), [0, 404]);
        let open = app(Config {
            keys: keys(),
            rpc_open_loopback: Some(true),
            rpc_allow_remote: true,
            ..Config::default()
        })
        .await;
        assert_eq!(
            [HERE, MAPPED, ELSEWHERE].map(|peer| rpc(&open, None, peer)),
            [0, 0, 401]
        );
        assert_eq!(
            [HERE, ELSEWHERE].map(|peer| rpc(&open, Some("wrong"), peer)),
            [401, 401]
        );
        assert_eq!([HERE, ELSEWHERE].map(|peer| rpc(&open, Some("k"), peer)), [0, 0]);
    }

    #[test]
    fn a_key_in_a_path_is_not_logged() {
        assert_eq!(
            without_key("/durabletask/~secret/@Hub/instances/"),
            "/durabletask/~/@Hub/instances/"
        );
        assert_eq!(
            without_key("/durabletask/%7Esecret/instances"),
            "/durabletask/~/instances"
        );
        assert_eq!(without_key("/durabletask/instances/a~b"), "/durabletask/instances/a~b");
    }
}
