//! Links: absolute, keyed, and leading to the surface the caller knows (H31, H43, H54–H56).

use std::net::SocketAddr;

use http::HeaderMap;
use http::request::Parts;
use taskhub_api::links::{ClientBinding, CreationUrls, HttpManagementPayload, PLACEHOLDER};
use taskhub_api::percent::{decode, encode};
use taskhub_core::id::HubName;

use super::routes::Surface;
use crate::app::App;
use crate::auth::Grant;
use crate::border::Host;
use crate::config::LinkPrefix;

pub(crate) const WEBHOOK: &str = "/runtime/webhooks/durabletask";
pub(crate) const CLASSIC: &str = "/admin/extensions/DurableTaskExtension";

/// For whom links are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) grant: &'a Grant,
    /// The host by which the server was called, if it is one of its own.
    pub(crate) host: Option<&'a Host>,
    /// The address that was called.
    pub(crate) local: SocketAddr,
    /// What the request said, if there is one.
    pub(crate) headers: Option<&'a HeaderMap>,
}

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
    /// The key that they carry, encoded.
    key: Option<String>,
    /// By which door the caller came.
    surface: Surface,
}

impl Links {
    /// Links to a hub for a caller who came by a surface and may do this. They carry a system key, never the caller's.
    pub(crate) fn new(app: &App, caller: &Caller<'_>, surface: Surface, hub: &HubName) -> Self {
        let origin = origin(app, caller);
        let prefix = match (surface, app.config.link_prefix) {
            (Surface::Webhook, _) | (Surface::Rpc | Surface::FrontDoor, LinkPrefix::Webhook) => WEBHOOK,
            (Surface::Classic, _) | (Surface::Rpc | Surface::FrontDoor, LinkPrefix::Classic) => CLASSIC,
        };
        let key = app.keys.for_links(hub, caller.grant).map(encode);
        let code = key.as_ref().map(|key| format!("&code={key}")).unwrap_or_default();
        let connection = encode(&app.config.connection_name);
        Self {
            base: format!("{origin}{prefix}"),
            query: format!("taskHub={hub}&connection={connection}{code}"),
            rpc_base: rpc_base(app, &origin, hub, key.as_deref()),
            hub: hub.clone(),
            key,
            surface,
            origin,
        }
    }

    /// The management payload of an instance (H54).
    pub(crate) fn management(&self, id: &str, fails_with_500: bool) -> HttpManagementPayload {
        let status_query = if fails_with_500 {
            "&returnInternalServerErrorOnFailure=true"
        } else {
            ""
        };
        HttpManagementPayload::new(&self.base, id, &self.query, status_query)
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

    /// This very request, absolute (H70), but for the key.
    pub(crate) fn this(&self, request: &Parts) -> String {
        let key = self.key.as_deref();
        let mut path = String::new();
        // Of the RPC surface the first segment behind the prefix may be the key; elsewhere such a one is an id or a name.
        let mut is_first = self.surface == Surface::Rpc;
        for (number, segment) in request.uri.path().split('/').skip(1).enumerate() {
            let may_be_key = is_first && number > 0;
            if may_be_key && !segment.is_empty() {
                is_first = false;
            }
            match key {
                _ if !(may_be_key && is_key(segment)) => path.extend(["/", segment]),
                Some(key) => path.extend(["/~", key]),
                None => {}
            }
        }
        let query = request.uri.query().unwrap_or_default();
        let own = query.split('&').filter(|pair| !pair.is_empty() && !is_code(pair));
        let code = key.map(|key| format!("code={key}"));
        let query: Vec<&str> = own.chain(code.as_deref()).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{mark}{}", self.origin, query.join("&"))
    }
}

/// Whether a segment of a path is the key of the RPC surface (H4).
pub(super) fn is_key(segment: &str) -> bool {
    segment.starts_with('~') || segment.to_ascii_lowercase().starts_with("%7e")
}

/// Whether a pair of a query is the key.
fn is_code(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    decode(&name).is_some_and(|name| name.eq_ignore_ascii_case("code"))
}

/// The URL of the local RPC surface for clients; absent if they could not use it (H4, H56, A17).
fn rpc_base(app: &App, origin: &str, hub: &HubName, key: Option<&str>) -> Option<String> {
    let mut base = format!("{origin}/durabletask/");
    if !app.config.has_open_rpc() {
        base = format!("{base}~{}/", key?);
    }
    if hub != app.hubs.first() {
        base = format!("{base}@{hub}/");
    }
    Some(base)
}

/// Scheme and host that links begin with (H43). A host that the caller made up is not handed on.
fn origin(app: &App, caller: &Caller<'_>) -> String {
    if let Some(url) = &app.config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    if app.config.use_forwarded_host
        && let Some(headers) = caller.headers
        && let Some(host) = header(headers, "x-forwarded-host").and_then(Host::parse)
        && let Some(proto) = header(headers, "x-forwarded-proto").and_then(scheme)
    {
        return format!("{proto}://{host}");
    }
    let scheme = if app.config.tls.is_some() { "https" } else { "http" };
    let own = || own_host(caller.local);
    let host = caller.host.map_or_else(own, ToString::to_string);
    format!("{scheme}://{host}")
}

/// The server's address as a caller on this machine would write it.
fn own_host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
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
