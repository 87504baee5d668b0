//! The configuration of a server. This module reads neither the environment nor files; the caller does.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use taskhub_core::id::HubName;
use taskhub_core::limits;

/// The port every local example uses (H3).
pub const PORT_DEFAULT: u16 = 7071;

/// Everything that can be set. The default is a server for one machine: loopback, open, no keys.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, and named where it is set"
)]
pub struct Config {
    /// Where to listen. Port 0 takes any free one.
    pub address: SocketAddr,
    /// Who may call (H30). Without keys every surface is open.
    pub keys: Vec<Key>,
    /// Allows an address other than loopback without keys (A11).
    pub no_auth: bool,
    /// Serves TLS instead of plain HTTP.
    pub tls: Option<Tls>,
    /// `/orchestrators/{name}` without a prefix (H96). By default enabled only without keys.
    pub front_door: Option<bool>,
    /// Whether programs on this machine may use the local RPC surface without a key (H33, A17). Do not enable it behind
    /// a proxy on this machine, because every caller would look local. By default enabled only without keys.
    pub rpc_open_loopback: Option<bool>,
    /// Whether programs on other machines may use it; with keys they need one in its path (H4, H33).
    pub rpc_allow_remote: bool,
    /// Origin of all links, such as `https://hub.example.org`; absent: the host of the request if that is the server's, or
    /// else the address that the request came to (H43).
    pub public_url: Option<String>,
    /// Host names that requests without a key may use, with or without a port, besides the names of this machine, the
    /// address of the connection, and the host of `public_url`. All other names are refused, because an attacker can
    /// make a browser send any name.
    pub allow_hosts: Vec<String>,
    /// Origins such as `https://app.example.org` whose pages may do in a browser what programs may.
    pub cors: Vec<String>,
    /// Whether `X-Forwarded-Host` and `X-Forwarded-Proto` name the origin (H43); for servers behind a proxy.
    pub use_forwarded_host: bool,
    /// Surface of the links that calls over the RPC surface and the front door are given (H43).
    pub link_prefix: LinkPrefix,
    /// Name of the storage connection in links (H54).
    pub connection_name: String,
    /// Version of instances whose start names none (H62).
    pub default_version: Option<String>,
    /// Whether a start creates a hub that does not exist (H14). Takes effect with
    /// [`Server::with_hubs`](crate::Server::with_hubs).
    pub auto_create_hubs: bool,
    /// What a start does to a live instance with its id (H64).
    pub reuse: Reuse,
    /// All orchestrators there are; a start of another one is refused (H63). Absent: not known.
    pub strict_names: Option<Vec<String>>,
    /// Stores a payload that is a JSON string holding an object or array as that inner value (H17).
    pub unwrap_json_strings: bool,
    /// Answers `null` where the body would be empty, for the oldest clients (H40).
    pub null_bodies: bool,
    /// Limits of size and time.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
            keys: Vec::new(),
            no_auth: false,
            tls: None,
            front_door: None,
            rpc_open_loopback: None,
            rpc_allow_remote: false,
            public_url: None,
            allow_hosts: Vec::new(),
            cors: Vec::new(),
            use_forwarded_host: false,
            link_prefix: LinkPrefix::Webhook,
            connection_name: "Storage".to_owned(),
            default_version: None,
            auto_create_hubs: false,
            reuse: Reuse::NonRunningStates,
            strict_names: None,
            unwrap_json_strings: false,
            null_bodies: false,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Whether the front door is open (H96).
    pub(crate) fn has_front_door(&self) -> bool {
        self.front_door.unwrap_or(self.keys.is_empty())
    }

    /// Whether programs on this machine need no key for the RPC surface (A17).
    pub(crate) fn has_open_rpc(&self) -> bool {
        self.rpc_open_loopback.unwrap_or(self.keys.is_empty())
    }
}

/// Limits of size and time. Above each there is a clear refusal (P8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A start that is not begun by then, behind a disk that does not keep up, is taken back and refused (H66).
    pub start_timeout: Duration,
    /// Longest wait for an instance, and longest purge by filter, of one call (H67, H90).
    pub wait_max: Duration,
    /// Largest body (H19).
    pub body_bytes_max: usize,
    /// Maximum bytes of all bodies that are being read or not yet durable; above it, requests are answered 429 or 503.
    pub bodies_bytes_max: usize,
    /// Maximum bytes of all large responses that are being sent. The next one waits, and is answered 429 or 503 if that
    /// takes too long. A response above the maximum is sent while no other is.
    pub answers_bytes_max: usize,
    /// How long an answer waits for room.
    pub answer_patience: Duration,
    /// Time limit for receiving a body. Received bytes extend it, according to `body_bytes_per_second_min`.
    pub body_timeout: Duration,
    /// A body that comes more slowly is given up once `body_timeout` is over.
    pub body_bytes_per_second_min: usize,
    /// The head of a request must have come by then; also how long a connection may be idle.
    pub head_timeout: Duration,
    /// Time after which a connection is closed if its client reads nothing of the response.
    pub write_timeout: Duration,
    /// How long a key is waited with, right or wrong, that comes from an address which presented ten wrong ones within a
    /// minute.
    pub key_delay: Duration,
    /// Connections at once; when all are taken, the one that has been idle longest makes room for the next. If none is idle,
    /// a few more are taken for probes, and the rest waits in the system's queue.
    pub connections_max: usize,
    /// Connections of one address at once, or in IPv6 of one network of 64 bits.
    pub connections_of_address_max: usize,
    /// Hubs that are open at once; each has threads of its own.
    pub hubs_max: usize,
    /// Time that running requests get to finish when the server stops.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(30),
            wait_max: Duration::from_secs(230),
            body_bytes_max: limits::PAYLOAD_BYTES_MAX,
            bodies_bytes_max: 8 * limits::PAYLOAD_BYTES_MAX,
            answers_bytes_max: 8 * limits::PAYLOAD_BYTES_MAX,
            answer_patience: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_bytes_per_second_min: 16 << 10,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_mins(1),
            key_delay: Duration::from_secs(1),
            connections_max: 10_000,
            connections_of_address_max: 5_000,
            hubs_max: 100,
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// Surface that links lead to (H43).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkPrefix {
    /// `/runtime/webhooks/durabletask`.
    #[default]
    Webhook,
    /// `/admin/extensions/DurableTaskExtension`, as in the article.
    Classic,
}

/// What a start does to a live instance with its id (H64, R136).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// It is refused.
    #[default]
    NonRunningStates,
    /// The live one is terminated and replaced.
    AnyState,
}

/// A key that callers present as `?code=` or in the header `x-functions-key` (H30).
#[derive(Clone)]
pub struct Key {
    /// The secret that callers present. Never logged.
    pub(crate) value: String,
    /// Whether it opens what only the master key does.
    pub(crate) is_master: bool,
    /// Whether it opens reads only (H32).
    pub(crate) is_read_only: bool,
    /// The one hub it opens; absent: all (H32).
    pub(crate) hub: Option<HubName>,
}

impl Key {
    /// A system key; several may be valid at once, so that they can be changed without a pause (H32).
    pub fn system(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            is_master: false,
            is_read_only: false,
            hub: None,
        }
    }

    /// The master key: the only one for the client binding and for deleting hubs (H56).
    pub fn master(value: &str) -> Self {
        Self {
            is_master: true,
            ..Self::system(value)
        }
    }

    /// The same for reads only (H32).
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// The same for one hub only (H32).
    #[must_use]
    pub fn for_hub(mut self, hub: HubName) -> Self {
        self.hub = Some(hub);
        self
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Key")
            .field("is_master", &self.is_master)
            .field("is_read_only", &self.is_read_only)
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

/// Files of a certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
