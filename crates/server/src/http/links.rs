//! Links: absolute, keyed, and leading to the surface the caller knows (H31, H43, H54–H56).

use std::net::SocketAddr;

use http::HeaderMap;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use taskhub_core::id::HubName;

use super::path::encode;
use super::routes::Surface;
use super::shapes::{ClientBinding, CreationUrls, ManagementPayload};
use crate::app::App;
use crate::config::LinkPrefix;

pub(crate) const WEBHOOK: &str = "/runtime/webhooks/durabletask";
pub(crate) const CLASSIC: &str = "/admin/extensions/DurableTaskExtension";

/// What client libraries replace by the id (H56).
const PLACEHOLDER: &str = "INSTANCEID";

/// Makes the links of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    origin: String,
    /// Origin and prefix.
    base: String,
    /// The query that every link has.
    query: String,
    hub: HubName,
    rpc_base: Option<String>,
}

impl Links {
    /// Links to a hub for a caller who came by a surface and presented this key.
    pub(crate) fn new(app: &App, request: &Parts, surface: Surface, hub: &HubName, key: Option<&str>) -> Self {
        let origin = origin(app, request);
        let prefix = match (surface, app.config.link_prefix) {
            (Surface::Webhook, _) | (Surface::Rpc | Surface::FrontDoor, LinkPrefix::Webhook) => WEBHOOK,
            (Surface::Classic, _) | (Surface::Rpc | Surface::FrontDoor, LinkPrefix::Classic) => CLASSIC,
        };
        let key = key.or_else(|| app.keys.for_links(hub));
        let code = key.map(|key| format!("&code={}", encode(key))).unwrap_or_default();
        let connection = encode(&app.config.connection_name);
        Self {
            base: format!("{origin}{prefix}"),
            query: format!("taskHub={hub}&connection={connection}{code}"),
            rpc_base: rpc_base(app, &origin, hub),
            hub: hub.clone(),
            origin,
        }
    }

    /// The management payload of an instance (H54).
    pub(crate) fn management(&self, id: &str, fails_with_500: bool) -> ManagementPayload {
        let instance = format!("{}/instances/{}", self.base, encode(id));
        let query = &self.query;
        let control = |verb: &str| format!("{instance}/{verb}?reason={{text}}&{query}");
        let status_extra = if fails_with_500 {
            "&returnInternalServerErrorOnFailure=true"
        } else {
            ""
        };
        ManagementPayload {
            id: id.to_owned(),
            status_query_get_uri: format!("{instance}?{query}{status_extra}"),
            send_event_post_uri: format!("{instance}/raiseEvent/{{eventName}}?{query}"),
            terminate_post_uri: control("terminate"),
            rewind_post_uri: control("rewind"),
            purge_history_delete_uri: format!("{instance}?{query}"),
            restart_post_uri: format!("{instance}/restart?{query}"),
            suspend_post_uri: control("suspend"),
            resume_post_uri: control("resume"),
        }
    }

    /// What a client library is made from (H56).
    pub(crate) fn binding(&self) -> ClientBinding {
        let create = format!("{}/orchestrators/{{functionName}}[/{{instanceId}}]", self.base);
        let query = &self.query;
        let wait = "timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}";
        ClientBinding {
            task_hub_name: self.hub.to_string(),
            creation_urls: CreationUrls {
                create_new_instance_post_uri: format!("{create}?{query}"),
                create_and_wait_on_new_instance_post_uri: format!("{create}?{wait}&{query}"),
            },
            management_urls: self.management(PLACEHOLDER, false),
            base_url: self.base.clone(),
            required_query_string_parameters: query.clone(),
            rpc_base_url: self.rpc_base.clone(),
        }
    }

    /// This very request, absolute (H70).
    pub(crate) fn this(&self, request: &Parts) -> String {
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
        format!("{}{path}", self.origin)
    }
}

/// The local RPC surface as clients are told of it; absent if they could not use it (H4, H56, A17).
fn rpc_base(app: &App, origin: &str, hub: &HubName) -> Option<String> {
    let mut base = format!("{origin}/durabletask/");
    if !app.config.has_open_rpc() {
        let key = app.keys.for_links(hub)?;
        base = format!("{base}~{}/", encode(key));
    }
    if hub != app.hubs.first() {
        base = format!("{base}@{hub}/");
    }
    Some(base)
}

/// Scheme and host that links begin with (H43).
fn origin(app: &App, request: &Parts) -> String {
    if let Some(url) = &app.config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    if app.config.use_forwarded_host
        && let Some(host) = host(&request.headers, "x-forwarded-host")
        && let Some(proto) = header(&request.headers, "x-forwarded-proto").and_then(scheme)
    {
        return format!("{proto}://{host}");
    }
    let scheme = if app.config.tls.is_some() { "https" } else { "http" };
    let host = request
        .uri
        .authority()
        .map(ToString::to_string)
        .or_else(|| host(&request.headers, HOST.as_str()))
        .unwrap_or_else(|| own_host(app.address));
    format!("{scheme}://{host}")
}

/// The server's address as a caller on this machine would write it.
fn own_host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
}

/// A header that names a host, unless it holds something else.
fn host(headers: &HeaderMap, name: &str) -> Option<String> {
    let host = header(headers, name)?;
    let authority: Authority = host.parse().ok()?;
    (!authority.as_str().contains('@')).then(|| authority.to_string())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

/// A scheme in any letter case.
fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"]
        .into_iter()
        .find(|scheme| scheme.eq_ignore_ascii_case(text))
}
