//! Protection against browsers: which host names the server accepts, and which pages may call it.
//!
//! A browser sends requests for any page that it shows, even to this machine, and even under a host name that the
//! page's owner controls. Other programs do not act for strangers in this way. Therefore a request without a key must
//! use a host name of this server, also for reads; this stops DNS rebinding, where a page's own host name resolves to
//! this machine. A changing request from a page of another origin is refused, with or without a key, unless that origin
//! is listed; so is a background read by a page of another site. Pages of other origins cannot read responses unless a
//! CORS header allows it.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName,
    HeaderValue, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Version};

use crate::config::Config;

/// The initiator of the request: the same origin, the same site, another site, or the user directly.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The mode of the request: navigation, or a read in the background.
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// The use of the response: a document in a window, in a frame, an image, a script, …
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Which pages may embed a response.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Whether a page of a public address may reach a private one.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const FORWARDED_HOST: &str = "x-forwarded-host";

/// The methods and headers that pages of listed origins may send and read.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
const SENT: HeaderValue =
    HeaderValue::from_static("content-type, x-functions-key, idempotency-key, x-ms-continuation-token, authorization");
const SHOWN: HeaderValue =
    HeaderValue::from_static("location, retry-after, warning, x-ms-continuation-token, x-taskhub-incomplete");
/// Seconds for which a browser may cache the answer to a preflight request.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// A host as in requests and URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// In small letters, without the dot at its end.
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Parses a host with or without a port. A user name or password before it is invalid.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host)?.strip_prefix(':') {
            // An empty port means the default port (RFC 3986).
            Some("") => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
            None if authority.as_str() == host => None,
            None => return None,
        };
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let found = Self { name, port };
        (found.is_name() || found.ip().is_some()).then_some(found)
    }

    /// Whether it can be the name of a host.
    fn is_name(&self) -> bool {
        let is_label = |label: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.len() <= 63 && label.bytes().all(fits)
        };
        self.name.len() <= 253 && self.name.split('.').all(is_label)
    }

    fn ip(&self) -> Option<IpAddr> {
        let name = self.name.as_str();
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let ip = match inner {
            Some(inner) => IpAddr::V6(inner.parse().ok()?),
            None => IpAddr::V4(name.parse().ok()?),
        };
        Some(ip.to_canonical())
    }

    fn is_loopback(&self) -> bool {
        self.name == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

/// Where a page comes from: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: &'static str,
    host: Host,
}

impl Origin {
    /// Reads an origin as browsers send it, or the origin of a URL that has no path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = ["http", "https"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(scheme))?;
        let host = Host::parse(rest.strip_suffix('/').unwrap_or(rest))?;
        Some(Self { scheme, host })
    }

    fn port(&self) -> u16 {
        self.port_of(&self.host)
    }

    fn port_of(&self, host: &Host) -> u16 {
        host.port.unwrap_or(if self.scheme == "https" { 443 } else { 80 })
    }

    /// Whether it is the one that is served under this host. The scheme may be another: that of what stands before us.
    fn is_of(&self, host: &Host) -> bool {
        self.host.name == host.name && self.port() == self.port_of(host)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host.name == other.host.name && self.port() == other.port()
    }
}

/// Why a request is not let over the border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The request has no host, several hosts or an invalid host.
    NoHost {
        /// What is wrong.
        why: &'static str,
    },
    /// The host does not belong to this server, and the request has no key.
    ForeignHost {
        /// The host that was named.
        host: String,
    },
    /// A page of another origin wants to change something, or one of another site to have something read.
    ForeignOrigin {
        /// The origin, if the browser sent it.
        origin: String,
    },
}

/// The rules of a server.
#[derive(Clone, Debug)]
pub(crate) struct Border {
    public: Option<Origin>,
    /// Host names that the server accepts besides its addresses; a name without a port matches every port.
    hosts: Vec<Host>,
    /// Origins whose pages may do what programs may.
    origins: Vec<Origin>,
    is_behind_proxy: bool,
}

/// How a request came over the border.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    /// The host it named, if that is one of the server's.
    pub(crate) host: Option<Host>,
    /// The address of the server that it came to.
    pub(crate) local: SocketAddr,
    /// What it named, for people.
    named: String,
    /// The origin of the page, if it is listed.
    listed: Option<HeaderValue>,
}

impl Border {
    /// The rules that a configuration has; entries that are none are left out, since they were refused before.
    pub(crate) fn new(config: &Config) -> Self {
        let hosts = config.allow_hosts.iter();
        let origins = config.cors.iter();
        Self {
            public: config.public_url.as_deref().and_then(Origin::parse),
            hosts: hosts.filter_map(|host| Host::parse(host)).collect(),
            origins: origins.filter_map(|origin| Origin::parse(origin)).collect(),
            is_behind_proxy: config.use_forwarded_host,
        }
    }

    /// Looks at a request that came to an address of the server, before anything is done for it. Probes tell nothing
    /// that a page could use, and may be asked for by any.
    pub(crate) fn look(&self, head: &Parts, local: SocketAddr, is_probe: bool) -> Result<Passage, Stopped> {
        let mut hosts = Vec::with_capacity(2);
        // Over HTTP/2 the pseudo-header `:authority` is in its stead, and is read as the URL's (RFC 9113).
        let is_named_by_url = head.version == Version::HTTP_2 && head.uri.authority().is_some();
        if !is_named_by_url || head.headers.contains_key(HOST) {
            hosts.push(host_of(&head.headers)?);
        }
        // It counts more than the header (RFC 9112), so that both have to be known.
        if let Some(authority) = head.uri.authority() {
            let authority = authority.as_str();
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let why = "the URL of the request contains an invalid host";
            hosts.insert(0, Host::parse(host).ok_or(Stopped::NoHost { why })?);
        }
        if self.is_behind_proxy
            && let Some(forwarded) = head.headers.get(FORWARDED_HOST)
        {
            let host = forwarded.to_str().ok().and_then(|text| Host::parse(text.trim()));
            let why = "the header `X-Forwarded-Host` contains an invalid host";
            hosts.push(host.ok_or(Stopped::NoHost { why })?);
        }
        let named = hosts.iter().find(|host| !self.knows(host, local)).or(hosts.first());
        let named = named.map(ToString::to_string).unwrap_or_default();
        let listed = self.origin(head, &hosts, is_probe)?;
        let are_known = hosts.iter().all(|host| self.knows(host, local));
        Ok(Passage {
            host: hosts.into_iter().next().filter(|_| are_known),
            local,
            named,
            listed,
        })
    }

    /// Whether a host is the server: a name of this machine, the address that the request came to, the public URL, or one
    /// that is listed.
    fn knows(&self, host: &Host, local: SocketAddr) -> bool {
        let is_listed = |known: &Host| known.name == host.name && known.port.is_none_or(|port| host.port == Some(port));
        host.is_loopback()
            || host.ip() == Some(local.ip().to_canonical())
            || self.public.as_ref().is_some_and(|public| public.host.name == host.name)
            || self.hosts.iter().any(is_listed)
    }

    /// The origin of the page that the request is for, if it is listed.
    fn origin(&self, head: &Parts, hosts: &[Host], is_probe: bool) -> Result<Option<HeaderValue>, Stopped> {
        let changes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&head.method);
        let stopped = |origin: String| Err(Stopped::ForeignOrigin { origin });
        let mut sites = head.headers.get_all(FETCH_SITE).iter();
        let is_foreign_site = sites.any(|site| ![&b"same-origin"[..], b"none"].contains(&site.as_bytes()));
        // A read can open a hub, whose pending work then runs, and its timing can reveal data. Therefore a page of
        // another site may navigate to an address here, but may not read it in the background.
        let is_stopped = changes || (is_foreign_site && !is_probe && !is_visit(&head.headers));
        let mut all = head.headers.get_all(ORIGIN).iter();
        let Some(value) = all.next() else {
            // A browser that sends no origin may still tell that another site asks.
            return if is_stopped && is_foreign_site {
                stopped("another site".to_owned())
            } else {
                Ok(None)
            };
        };
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let origin = Origin::parse(&text).filter(|_| all.next().is_none());
        let is_listed = |origin: &Origin| self.origins.iter().any(|listed| listed.is_same(origin));
        if origin.as_ref().is_some_and(is_listed) {
            return Ok(Some(value.clone()));
        }
        let is_own = |origin: &Origin| {
            let is_public = self.public.as_ref().is_some_and(|public| public.is_same(origin));
            is_public || hosts.iter().any(|host| origin.is_of(host))
        };
        if is_stopped && (is_foreign_site || !origin.as_ref().is_some_and(is_own)) {
            return stopped(text);
        }
        Ok(None)
    }
}

/// Whether the request is a navigation that shows the response in a window of its own.
fn is_visit(headers: &HeaderMap) -> bool {
    let only = |name: &HeaderName, value: &[u8]| headers.get_all(name).iter().all(|given| given.as_bytes() == value);
    headers.contains_key(FETCH_MODE) && only(&FETCH_MODE, b"navigate") && only(&FETCH_DEST, b"document")
}

/// Tells browsers that an answer is for pages of the server's own origin, unless something else was said, and of no other
/// kind than it says.
pub(crate) fn close(headers: &mut HeaderMap) {
    if !headers.contains_key(RESOURCE_POLICY) {
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The one host that a request names.
fn host_of(headers: &HeaderMap) -> Result<Host, Stopped> {
    let no_host = |why| Stopped::NoHost { why };
    let mut all = headers.get_all(HOST).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(no_host("expected exactly one header `Host`"));
    };
    let host = value.to_str().ok().and_then(|text| Host::parse(text.trim()));
    host.ok_or_else(|| no_host("the header `Host` contains an invalid host"))
}

impl Passage {
    /// Without a key only those go on who call the server by a name of its own.
    pub(crate) fn without_key(&self) -> Result<(), Stopped> {
        match self.host {
            Some(_) => Ok(()),
            None => Err(Stopped::ForeignHost {
                host: self.named.clone(),
            }),
        }
    }

    /// Whether a browser asks what a page of a listed origin may send.
    pub(crate) fn is_preflight(&self, head: &Parts) -> bool {
        self.listed.is_some()
            && head.method == Method::OPTIONS
            && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Tells the browser what a page of a listed origin may send.
    pub(crate) fn permit(head: &Parts, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if head.headers.contains_key(REQUEST_PRIVATE_NETWORK) {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }

    /// Tells the browser that a page of a listed origin may see the answer.
    pub(crate) fn show(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.listed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
            headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}
