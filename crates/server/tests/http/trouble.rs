//! A store that does not answer, a hub that is stopped, addresses and certificates that cannot be used,
//! TLS, and hubs that are opened on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use taskhub::{EngineError, Hub, Registry, Timestamp};
use taskhub_core::id::{HubName, InstanceNumber};
use taskhub_core::query::Payloads;
use taskhub_core::status::RuntimeStatus;
use taskhub_samples::{Files, Purger, register};
use taskhub_server::{Config, Error, Key, Limits, OpenHub, Opening, Server, Tls};
use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore, Synchronous};
use taskhub_store::layer::Layer;
use taskhub_store::mem::MemStore;
use taskhub_store::{
    Error as StoreError, Extent, FingerprintPage, Fut, Group, IdPage, InstancePage, PartitionKey, Selection, Store,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::support::{self, HUB, Running, SURFACES, config, exchange, request};

const RPC: &str = SURFACES[2];

/// A store whose commits and questions wait until they are let through.
pub(crate) struct Gated {
    store: MemStore,
    pub(crate) commits: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    /// A damaged page keeps what is new from being written.
    pub(crate) is_damaged: Arc<AtomicBool>,
    /// Questions of purges that came to the gate.
    purging: Arc<AtomicUsize>,
    /// Pages that were asked for.
    pub(crate) pages: Arc<AtomicUsize>,
    /// Pages that are given before the store fails.
    pub(crate) pages_max: usize,
}

impl Gated {
    /// Both gates open.
    pub(crate) fn open() -> Self {
        Self {
            store: MemStore::empty(),
            commits: Arc::new(Semaphore::new(1)),
            queries: Arc::new(Semaphore::new(1)),
            is_damaged: Arc::default(),
            purging: Arc::default(),
            pages: Arc::default(),
            pages_max: usize::MAX,
        }
    }
}

impl Layer for Gated {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    fn commit(&self, group: Arc<Group>) -> Fut<'_, ()> {
        Box::pin(async move {
            let _open = self.commits.acquire().await;
            if self.is_damaged.load(Ordering::Acquire) {
                return Err(StoreError::Corrupt {
                    place: "the test".to_owned(),
                    what: "wrong checksum in page 7".to_owned(),
                    extent: Extent::Pages,
                });
            }
            self.store.commit(group).await
        })
    }

    fn list<'a>(&'a self, which: &'a Selection, payloads: Payloads) -> Fut<'a, InstancePage> {
        Box::pin(async move {
            if self.pages.fetch_add(1, Ordering::AcqRel) >= self.pages_max {
                return Err(StoreError::Unavailable {
                    source: "no more pages".into(),
                });
            }
            let _open = self.queries.acquire().await;
            self.store.list(which, payloads).await
        })
    }

    fn list_ids<'a>(&'a self, which: &'a Selection) -> Fut<'a, IdPage> {
        Box::pin(async move {
            self.purging.fetch_add(1, Ordering::AcqRel);
            let _open = self.queries.acquire().await;
            self.store.list_ids(which).await
        })
    }

    fn counts<'a>(&'a self, hub: &'a HubName) -> Fut<'a, Vec<(RuntimeStatus, u64)>> {
        Box::pin(async move {
            let _open = self.queries.acquire().await;
            self.store.counts(hub).await
        })
    }

    fn fingerprints<'a>(
        &'a self,
        partition: &'a PartitionKey,
        after: Option<InstanceNumber>,
        rows_max: usize,
    ) -> Fut<'a, FingerprintPage> {
        Box::pin(async move {
            let _open = self.queries.acquire().await;
            self.store.fingerprints(partition, after, rows_max).await
        })
    }
}

/// The settings of a server that does not wait long for one thing. What can be there in time or not is asked of
/// another server, so that it does not matter how fast it is.
fn hasty(limit: impl FnOnce(&mut Limits) -> &mut Duration) -> Config {
    let mut config = config();
    *limit(&mut config.limits) = Duration::from_millis(20);
    config
}

#[tokio::test]
async fn a_start_that_is_begun_is_answered_when_it_is_durable_however_long_that_takes() {
    let store = Gated::open();
    let gate = Arc::clone(&store.commits);
    gate.forget_permits(1);
    let hub = Hub::builder(HUB)
        .open_in(&taskhub::Store::over(Arc::new(store)))
        .await
        .unwrap();
    let server = Arc::new(Running::serve(hub, config()).await);
    let path = format!("{RPC}/orchestrators/Slow/one?scheduledStartTime=2999-01-01");
    let mut starting = JoinSet::new();
    starting.spawn({
        let (server, path) = (Arc::clone(&server), path.clone());
        async move { server.call("POST", &path).await }
    });
    // Nothing is durable, so nobody is told anything of it.
    let info = format!("{RPC}/instances/one");
    let asked = timeout(Duration::from_millis(20), server.call("GET", &info)).await;
    assert!(asked.is_err() || asked.is_ok_and(|answer| answer.status == 404));
    assert!(starting.try_join_next().is_none());
    gate.add_permits(1);
    assert_eq!(starting.join_next().await.unwrap().unwrap().status, 202);
    assert_eq!(server.call("POST", &path).await.status, 409);
    assert_eq!(server.call("GET", &info).await.status, 202);
}

#[tokio::test]
async fn a_purge_that_takes_too_long_says_that_it_is_not_complete() {
    let store = Gated::open();
    let gate = Arc::clone(&store.queries);
    let hub = Hub::builder(HUB)
        .open_in(&taskhub::Store::over(Arc::new(store)))
        .await
        .unwrap();
    let server = Running::serve(hub, config()).await;
    let hasty = server.beside(hasty(|limits| &mut limits.wait_max)).await;
    let id = server.client().start_new("Missing", ()).await.unwrap();
    server.client().wait_for_end(&id).await.unwrap();
    let path = format!("{RPC}/instances?createdTimeFrom=2000-01-01");
    let pass = gate.acquire().await.unwrap();
    let answer = hasty.call("DELETE", &path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-taskhub-incomplete")),
        (404, Some("true"))
    );
    let body = r#"{"all":true}"#;
    let answer = hasty
        .send("POST", "/api/v1/hubs/TestTaskHub/instances/purge", &[], body)
        .await;
    assert_eq!(answer.body, r#"{"purged":0,"rows":0,"isComplete":false}"#);
    drop(pass);
    let answer = server.call("DELETE", &path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-taskhub-incomplete")),
        (200, None)
    );
    assert_eq!(answer.body, r#"{"instancesDeleted":1}"#);
}

#[tokio::test]
async fn a_purge_ends_when_the_server_stops_and_says_that_it_is_not_complete() {
    let store = Gated::open();
    let (gate, purging) = (Arc::clone(&store.queries), Arc::clone(&store.purging));
    let hub = Hub::builder(HUB)
        .open_in(&taskhub::Store::over(Arc::new(store)))
        .await
        .unwrap();
    let mut server = Running::serve(hub, config()).await;
    let _pass = gate.acquire().await.unwrap();
    let path = format!("{RPC}/instances?createdTimeFrom=2000-01-01");
    let stream = TcpStream::connect(server.address).await.unwrap();
    let purge = request(server.address, "DELETE", &path, &[], bytes::Bytes::new());
    let stop = async {
        // The purge has asked for its first page, which does not come.
        while purging.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        server.stop().await;
    };
    let (answer, ()) = tokio::join!(exchange(stream, purge), stop);
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-taskhub-incomplete")),
        (404, Some("true"))
    );
}

/// The file may not grow beyond a limit, which is what a full disk is to SQLite.
#[tokio::test]
async fn a_full_disk_is_named_and_refuses_all_that_adds_work_until_a_purge_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        synchronous: Synchronous::Off,
        bytes_max: Some(2 << 20),
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open(folder.path(), options).unwrap();
    let registry = register(Registry::new(), &Purger::default(), &Files::below("."));
    let hub = Hub::builder(HUB)
        .registry(registry)
        .open_in(&taskhub::Store::over(Arc::new(store)));
    let hub = hub.await.unwrap();
    let id = hub.client().start("WaitEvent", 1).id("there").await.unwrap();
    hub.client().wait_for_start(&id).await.unwrap();
    // Stored three times: as input, as output and in the history. So there is room for two, and not for three.
    let echoed = "x".repeat(210 << 10);
    for name in ["one", "two"] {
        let id = hub.client().start("Echo", echoed.as_str()).id(name).await.unwrap();
        hub.client().wait_for_end(&id).await.unwrap();
    }
    let server = Running::serve(hub, config()).await;
    let all = async || {
        let list = server
            .call("GET", "/api/v1/hubs/TestTaskHub/instances?fields=input")
            .await;
        let history = server
            .call("GET", "/api/v1/hubs/TestTaskHub/instances/there/history")
            .await;
        (list.body, history.body)
    };
    let before = all().await;

    // Who comes first hears it as well, and nobody waits for long.
    let start = format!("{RPC}/orchestrators/Echo");
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    assert_eq!(server.call("GET", "/readyz").await.status, 200);
    let first = server.send("POST", &start, &[], large).await;
    let refused = server.call("POST", &start).await;
    let event = server
        .call("POST", &format!("{RPC}/instances/there/raiseEvent/Go"))
        .await;
    let said = taskhub_store::Error::Full.to_string();
    for answer in [first, refused, event] {
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json()["ExceptionMessage"], said);
    }
    let body = r#"{"name":"Go"}"#;
    let raise = "/api/v1/hubs/TestTaskHub/instances/there/raise";
    let answer = server.send("POST", raise, &[], body).await;
    assert_eq!(answer.status, 503);
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["message"]),
        (&"store-full".into(), &said.clone().into())
    );
    assert_eq!(all().await, before);
    let ready = server.call("GET", "/readyz").await;
    let why = "not ready: the store of hub TestTaskHub is full\n";
    assert_eq!((ready.status.as_u16(), ready.body.as_str()), (503, why));
    assert_eq!(server.call("GET", "/healthz").await.status, 200);

    // What an operator does meanwhile.
    for verb in ["suspend", "resume"] {
        let done = server.call("POST", &format!("{RPC}/instances/there/{verb}")).await;
        assert_eq!(done.status, 202, "{verb}: {}", done.body);
    }
    let purged = server.call("DELETE", &format!("{RPC}/instances/one")).await;
    assert_eq!(purged.body, r#"{"instancesDeleted":1}"#);
    let purge = "/api/v1/hubs/TestTaskHub/instances/purge";
    let purged = server.send("POST", purge, &[], r#"{"all":true}"#).await;
    assert!(purged.body.starts_with(r#"{"purged":1,"#), "{}", purged.body);
    let echoed = format!("\"{echoed}\"");
    let started = loop {
        let answer = server.send("POST", &start, &[], echoed.clone()).await;
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(started.status, 202, "writes go on without a restart: {}", started.body);
    assert_eq!(server.call("GET", "/readyz").await.status, 200);
    let ended = server.call("POST", &format!("{RPC}/instances/there/terminate")).await;
    assert_eq!(ended.status, 202);
}

#[tokio::test]
async fn a_hub_that_is_stopped_sends_callers_away() {
    let server = Running::start(config()).await;
    assert_eq!(server.call("GET", "/readyz").await.status, 200);
    server.hub.stop(Duration::ZERO).await.unwrap();
    let answer = server.call("POST", &format!("{RPC}/orchestrators/Echo")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let problem = answer.json();
    assert_eq!(problem["Message"], "The server cannot take the request now.");
    assert_eq!(problem["ExceptionType"], "System.InvalidOperationException");
    let answer = server
        .call("POST", "/api/v1/hubs/TestTaskHub/instances/x/terminate")
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "hub-stopped");
    assert_eq!(server.call("GET", "/readyz").await.status, 503);
    assert_eq!(server.call("GET", "/healthz").await.status, 200);
}

async fn refused(config: Config) -> Error {
    let hub = Hub::builder(HUB).in_memory().await.unwrap();
    Server::new(Arc::clone(hub.engine()), config).bind().await.unwrap_err()
}

#[tokio::test]
async fn an_address_others_can_reach_needs_keys_or_a_word() {
    let everywhere = || Config {
        address: ([0, 0, 0, 0], 0).into(),
        ..config()
    };
    assert_eq!(refused(everywhere()).await.code(), "address-unprotected");
    let hub = Hub::builder(HUB).in_memory().await.unwrap();
    let with_key = Config {
        keys: vec![Key::system("k")],
        ..everywhere()
    };
    let with_word = Config {
        no_auth: true,
        ..everywhere()
    };
    for config in [with_key, with_word] {
        assert!(Server::new(Arc::clone(hub.engine()), config).bind().await.is_ok());
    }
}

#[tokio::test]
async fn a_server_that_cannot_come_up_says_why() {
    let running = Running::start(config()).await;
    let taken = Config {
        address: running.address,
        ..config()
    };
    assert_eq!(refused(taken).await.code(), "address-in-use");
    let missing = Config {
        tls: Some(Tls {
            certificate: "no/such/file.pem".into(),
            key: "no/such/key.pem".into(),
        }),
        ..config()
    };
    assert_eq!(refused(missing).await.code(), "certificate-unusable");
    let no_certificate = Config {
        tls: Some(Tls {
            certificate: file("key.pem"),
            key: file("key.pem"),
        }),
        ..config()
    };
    assert_eq!(refused(no_certificate).await.code(), "certificate-unusable");
    for url in [
        "hub.example.org",
        "https://",
        "https:///",
        "https://:8080",
        "https://hub.example.org/path",
        "https://hub.example.org?query",
        "https://user:secret@hub.example.org",
        "https://hub example.org",
        "https://hub..example.org",
        "https://hub$.example.org",
        "https://hub.example.org:0",
        "https://hub.example.org:65536",
        "https://[::1",
        "https://[not-an-address]",
        "https://::1",
    ] {
        let config = Config {
            public_url: Some(url.to_owned()),
            ..config()
        };
        assert_eq!(refused(config).await.code(), "invalid-argument", "{url}");
    }
}

fn file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/http/certificate")
        .join(name)
}

pub(crate) fn with_tls() -> Config {
    Config {
        tls: Some(Tls {
            certificate: file("certificate.pem"),
            key: file("key.pem"),
        }),
        ..config()
    }
}

/// A connection on which these protocols are offered.
pub(crate) async fn tls_connection(server: &Running, offered: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(file("certificate.pem")).unwrap();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    connector.connect(name, stream).await.unwrap()
}

/// Sends a request over a connection of its own.
async fn call_over_tls(server: &Running, method: &str, path: &str) -> support::Answer {
    let stream = tls_connection(server, &[]).await;
    exchange(stream, request(server.address, method, path, &[], bytes::Bytes::new())).await
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_tls() {
    let server = Running::start(with_tls()).await;
    let answer = call_over_tls(&server, "POST", &format!("{RPC}/orchestrators/Echo")).await;
    assert_eq!(answer.status, 202);
    assert!(answer.header("location").unwrap().starts_with("https://127.0.0.1:"));
}

#[tokio::test]
async fn who_has_not_agreed_on_tls_does_not_keep_a_server_from_stopping() {
    let mut config = with_tls();
    config.limits.head_timeout = Duration::from_hours(1);
    config.limits.stop_timeout = Duration::from_hours(1);
    let mut server = Running::start(config).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    // Who comes later has been served, so the silent one has been taken in as well.
    assert_eq!(call_over_tls(&server, "GET", "/healthz").await.status, 200);
    let stopped = tokio::time::timeout(Duration::from_mins(1), server.stop()).await;
    assert!(stopped.is_ok(), "it waits for {silent:?}");
}

/// Opens hubs without functions on a store.
struct Opener(Arc<dyn Store>);

impl OpenHub for Opener {
    fn open<'a>(&'a self, name: &'a HubName) -> Opening<'a> {
        Box::pin(async {
            let opened = Hub::builder(name.as_str())
                .open_in(&taskhub::Store::over(Arc::clone(&self.0)))
                .await;
            opened
                .map(|hub| Arc::clone(hub.engine()))
                .map_err(|_| EngineError::Stopped)
        })
    }
}

async fn with_hubs(store: &Arc<dyn Store>, auto_create_hubs: bool) -> Running {
    let hub = Hub::builder(HUB)
        .open_in(&taskhub::Store::over(Arc::clone(store)))
        .await
        .unwrap();
    let limits = Limits {
        hubs_max: 3,
        ..Limits::default()
    };
    let config = Config {
        auto_create_hubs,
        limits,
        ..config()
    };
    let server = Server::new(Arc::clone(hub.engine()), config).with_hubs(Arc::new(Opener(Arc::clone(store))));
    Running::of(hub, server).await
}

#[tokio::test]
async fn a_start_creates_a_hub_where_that_is_switched_on() {
    let store: Arc<dyn Store> = Arc::new(MemStore::empty());
    let start = format!("{RPC}/orchestrators/Later/one?taskHub=SecondHub&scheduledStartTime=2999-01-01");
    let get = format!("{RPC}/instances/one?taskHub=secondhub");
    {
        let server = with_hubs(&store, false).await;
        assert_eq!(server.call("POST", &start).await.status, 400);
        assert_eq!(server.call("GET", &get).await.status, 404);
    }
    let server = with_hubs(&store, true).await;
    assert_eq!(server.call("GET", &get).await.status, 404, "a read creates nothing");
    let answer = server.call("POST", &start).await;
    assert_eq!(answer.status, 202);
    assert!(answer.header("location").unwrap().contains("taskHub=SecondHub&"));
    assert_eq!(server.call("GET", &get).await.status, 202);
    assert_eq!(server.call("GET", &format!("{RPC}/instances/one")).await.status, 404);
    let names = server.call("GET", "/api/v1/hubs").await.json();
    assert_eq!(names["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        server
            .call("DELETE", "/api/v1/hubs/SecondHub?confirm=SecondHub")
            .await
            .status,
        200
    );
    assert_eq!(server.call("GET", &get).await.status, 404);
}

#[tokio::test]
async fn so_many_hubs_are_opened_and_no_more() {
    let store: Arc<dyn Store> = Arc::new(MemStore::empty());
    let server = with_hubs(&store, true).await;
    let start = |hub: &str| format!("{RPC}/orchestrators/Later?taskHub={hub}&scheduledStartTime=2999-01-01");
    for hub in ["Second", "Third"] {
        assert_eq!(server.call("POST", &start(hub)).await.status, 202, "{hub}");
    }
    let answer = server.call("POST", &start("Fourth")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert!(answer.body.contains("3 hubs are open"), "{}", answer.body);
    let own = server
        .send("POST", "/api/v1/hubs/Fourth/instances", &[], r#"{"name":"Later"}"#)
        .await;
    assert_eq!(own.json()["error"]["code"], "overloaded");
    assert_eq!(
        server.call("POST", &start("Third")).await.status,
        202,
        "those that are open go on"
    );
    let names = server.call("GET", "/api/v1/hubs").await.json();
    assert_eq!(names["items"].as_array().unwrap().len(), 3, "and none was created");
    let delete = "/api/v1/hubs/Second?confirm=Second";
    assert_eq!(server.call("DELETE", delete).await.status, 200);
    assert_eq!(
        server.call("POST", &start("Fourth")).await.status,
        202,
        "there is room again"
    );
}

#[tokio::test]
async fn a_hub_that_the_store_has_already_is_opened_when_it_is_asked_for() {
    let store: Arc<dyn Store> = Arc::new(MemStore::empty());
    let other = Hub::builder("SecondHub")
        .open_in(&taskhub::Store::over(Arc::clone(&store)))
        .await
        .unwrap();
    let at = Timestamp::parse("2999-01-01T00:00:00Z").unwrap();
    other.client().start("Later", ()).id("one").at(at).await.unwrap();
    other.stop(Duration::ZERO).await.unwrap();
    drop(other);
    let server = with_hubs(&store, false).await;
    let answer = server
        .call("GET", &format!("{RPC}/instances/one?taskHub=SecondHub"))
        .await;
    assert_eq!(answer.status, 202);
    let answer = server
        .call("POST", &format!("{RPC}/instances/one/terminate?taskHub=SecondHub"))
        .await;
    assert_eq!(answer.status, 202);
}

/// A connection from an address of this machine, as if it were another's.
async fn from_address(server: &Running, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Asks over a connection that stays open; nothing if it was closed.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    // A connection that was closed takes it or not.
    let _closed = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => break,
            Ok(bytes) => answer.extend_from_slice(&part[..bytes]),
        }
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                break;
            }
        }
    }
    String::from_utf8(answer).unwrap()
}

/// A request that is at work until the instance has ended.
fn waiting(id: &str) -> String {
    format!("GET /api/v1/hubs/{HUB}/instances/{id}/wait?timeout=230 HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn with_connections(most: usize, of_address: usize) -> Config {
    let limits = Limits {
        connections_max: most,
        connections_of_address_max: of_address,
        head_timeout: Duration::from_hours(1),
        ..Limits::default()
    };
    Config { limits, ..config() }
}

#[tokio::test]
async fn idle_connections_make_room_and_those_at_work_are_kept() {
    let server = Running::start(with_connections(4, 4)).await;
    loop {
        let id = server.client().start_new("WaitEvent", ()).await.unwrap();
        let mut at_work = from_address(&server, 1).await;
        let wait = waiting(id.id().as_str());
        at_work.write_all(wait.as_bytes()).await.unwrap();
        // They say nothing, as an attacker's would.
        let mut idle = Vec::new();
        for _ in 0..100 {
            idle.push(from_address(&server, 1).await);
        }
        let mut newcomer = from_address(&server, 2).await;
        assert!(ask(&mut newcomer, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        assert_eq!(
            ask(&mut idle[0], "GET /healthz").await,
            "",
            "the one that was idle longest was closed"
        );
        server.client().raise_event(&id, "Go", ()).await.unwrap();
        // Unless its request was not read before the others came, it was kept.
        if ask(&mut at_work, "GET /healthz").await.starts_with("HTTP/1.1 200") {
            break;
        }
    }
}

#[tokio::test]
async fn when_all_connections_are_at_work_probes_are_answered() {
    let server = Running::start(with_connections(3, 100)).await;
    loop {
        let id = server.client().start_new("WaitEvent", ()).await.unwrap();
        let mut at_work = Vec::new();
        for _ in 0..3 {
            let mut stream = from_address(&server, 1).await;
            stream.write_all(waiting(id.id().as_str()).as_bytes()).await.unwrap();
            at_work.push(stream);
        }
        let mut next = from_address(&server, 1).await;
        let refused = ask(&mut next, "GET /api/v1/hubs").await;
        let mut probes = Vec::new();
        for probe in ["/healthz", "/readyz"] {
            let mut next = from_address(&server, 1).await;
            probes.push(ask(&mut next, &format!("GET {probe}")).await);
        }
        server.client().raise_event(&id, "Go", ()).await.unwrap();
        let mut kept = 0;
        for stream in &mut at_work {
            kept += usize::from(ask(stream, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        }
        assert!(
            probes.iter().all(|answer| answer.starts_with("HTTP/1.1 200")),
            "{probes:?}"
        );
        // Unless one of their requests was not read before the next came, there was no place but for probes.
        if kept == 3 {
            assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
            assert!(refused.contains("connection: close") && refused.contains("too many connections are open"));
            break;
        }
    }
}

#[tokio::test]
async fn no_address_takes_more_than_its_share_of_the_connections() {
    let server = Running::start(with_connections(100, 2)).await;
    let id = server.client().start_new("WaitEvent", ()).await.unwrap();
    let wait = waiting(id.id().as_str());
    let mut at_work = Vec::new();
    for _ in 0..2 {
        let mut stream = from_address(&server, 1).await;
        stream.write_all(wait.as_bytes()).await.unwrap();
        at_work.push(stream);
    }
    // Until both wait, one of them may be idle, and make room.
    while !ask(&mut from_address(&server, 1).await, "GET /healthz")
        .await
        .is_empty()
    {
        for stream in &mut at_work {
            *stream = from_address(&server, 1).await;
            stream.write_all(wait.as_bytes()).await.unwrap();
        }
    }
    let mut other = from_address(&server, 2).await;
    assert!(ask(&mut other, "GET /healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_dribbles_is_given_up_although_something_always_comes() {
    let limits = Limits {
        body_timeout: Duration::from_millis(300),
        body_bytes_per_second_min: 1 << 30,
        ..Limits::default()
    };
    let server = Running::start(Config { limits, ..config() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /durabletask/orchestrators/Echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let dribble = async {
        // Without an end, if it is not given up. Whether the answer comes through before the connection is cut is the
        // system's business.
        while writing.write_all(b"1").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        read = reading.read_exact(&mut answer) => assert!(read.is_err() || answer == *b"HTTP/1.1 408"),
        () = dribble => {}
    }
}
