//! HTTP/2 beside HTTP/1.1 on one port, with hyper's client for both.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use taskhub_server::{Config, Limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{HUB, Running, SURFACES, config};
use crate::trouble::{tls_connection, with_tls};

const RPC: &str = SURFACES[2];

/// A connection of HTTP/2, whose requests may be under way at the same time.
pub(crate) struct Two {
    sender: SendRequest<Full<Bytes>>,
    /// The client's tasks, which end with this.
    _tasks: JoinSet<()>,
}

impl Two {
    /// Connects in plain text, by prior knowledge.
    pub(crate) async fn connect(server: &Running) -> Self {
        Self::over(TcpStream::connect(server.address).await.unwrap()).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            let _ended = connection.await;
        });
        Self { sender, _tasks: tasks }
    }

    /// Sends a request, and gives the answer when its head has come.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.clone().send_request(request).await
    }

    /// The status and the body of an answer.
    pub(crate) async fn call(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.ask(request(method, path, "")).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// A request for this machine.
pub(crate) fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    to(&format!("http://localhost{path}"), method, body)
}

fn to(url: &str, method: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(url);
    request.body(Full::new(body.into())).unwrap()
}

/// Starts an instance that waits, and gives the path of a call that waits for its end.
pub(crate) async fn waiting(server: &Running, id: &str) -> String {
    let client = server.client();
    let id = client.start("WaitEvent", ()).id(id).await.unwrap();
    client.wait_for_start(&id).await.unwrap();
    format!("/api/v1/hubs/{HUB}/instances/{}/wait?timeout=230", id.id())
}

#[tokio::test]
async fn both_protocols_answer_alike_on_one_port() {
    let server = Running::start(config()).await;
    let two = Two::connect(&server).await;
    let body = format!("\"{}\"", "x".repeat(300_000));
    let path = format!("{RPC}/orchestrators/Echo/one?timeout=120");
    let started = two.ask(request("POST", &path, body.clone())).await.unwrap();
    assert_eq!(started.status(), StatusCode::OK);
    let echoed = started.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(echoed, body);
    for path in [
        format!("{RPC}/instances/one?showHistory=true"),
        format!("{RPC}/instances"),
        format!("/api/v1/hubs/{HUB}/instances?fields=input"),
        format!("/api/v1/hubs/{HUB}/instances/one/history"),
        format!("{RPC}/nowhere"),
        "/healthz".to_owned(),
    ] {
        let over_two = two.ask(request("GET", &path, "")).await.unwrap();
        let over_one = server.send("GET", &path, &[("host", "localhost")], "").await;
        assert_eq!(over_two.status(), over_one.status, "{path}");
        for (name, value) in &over_one.headers {
            let is_time = name == "date";
            assert!(is_time || over_two.headers().get(name) == Some(value), "{path}: {name}");
        }
        assert_eq!(over_two.headers().len(), over_one.headers.len(), "{path}");
        let body = over_two.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, over_one.body, "{path}");
    }
}

#[tokio::test]
async fn tls_agrees_on_the_protocol_and_serves_who_agrees_on_none() {
    let server = Running::start(with_tls()).await;
    for (offered, agreed) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = tls_connection(&server, offered).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        if agreed == Some(b"h2") {
            let two = Two::over(stream).await;
            assert_eq!(two.call("GET", "/healthz").await, (200, "healthy\n".to_owned()));
            let location = two
                .ask(to("https://localhost/orchestrators/Echo", "POST", ""))
                .await
                .unwrap();
            let location = location.headers()["location"].to_str().unwrap().to_owned();
            assert!(location.starts_with("https://localhost/"), "{location}");
        } else {
            let request = crate::support::request(server.address, "GET", "/healthz", &[], Bytes::new());
            assert_eq!(crate::support::exchange(stream, request).await.status, 200);
        }
    }
}

#[tokio::test]
async fn the_authority_is_the_host_and_the_border_holds() {
    let server = Running::start(config()).await;
    let two = Two::connect(&server).await;
    let list = format!("{RPC}/instances");
    let ask = async |url: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = to(url, "GET", "");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        two.ask(request).await.unwrap().status().as_u16()
    };
    let (own, foreign) = (format!("http://localhost{list}"), format!("http://evil.example{list}"));
    assert_eq!(ask(&own, &[]).await, 200);
    assert_eq!(ask(&foreign, &[]).await, 421, "a name that leads here");
    assert_eq!(ask(&own, &[("host", "localhost")]).await, 200);
    assert_eq!(ask(&own, &[("host", "evil.example")]).await, 421);
    assert_eq!(ask(&foreign, &[("host", "localhost")]).await, 421);
    assert_eq!(ask(&own, &[("host", "localhost"), ("host", "localhost")]).await, 400);
    let mut start = request("POST", "/orchestrators/Echo", "");
    start
        .headers_mut()
        .append("origin", "http://evil.example".parse().unwrap());
    assert_eq!(two.ask(start).await.unwrap().status(), 403);
    assert_eq!(two.call("GET", &list).await.1, "[]");
}

#[tokio::test]
async fn requests_of_a_connection_are_answered_at_once_and_not_in_turn() {
    let server = Running::start(config()).await;
    let two = Two::connect(&server).await;
    let path = waiting(&server, "waits").await;
    let mut waits = std::pin::pin!(two.call("GET", &path));
    tokio::select! {
        _ = waits.as_mut() => unreachable!("nothing has ended"),
        (status, _) = two.call("GET", "/healthz") => assert_eq!(status, 200),
    }
    let started = format!("{RPC}/instances/waits/raiseEvent/Go");
    let mut event = request("POST", &started, "1");
    event
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    assert_eq!(two.ask(event).await.unwrap().status(), 202);
    assert_eq!(waits.await.0, 200);
}

#[tokio::test]
async fn requests_count_as_connections_do_over_however_few_they_come() {
    let limits = Limits {
        connections_max: 3,
        ..Limits::default()
    };
    let server = Running::start(Config { limits, ..config() }).await;
    let path = waiting(&server, "waits").await;
    let two = Arc::new(Two::connect(&server).await);
    let mut waits = JoinSet::new();
    for _ in 0..3 {
        let (two, path) = (Arc::clone(&two), path.clone());
        waits.spawn(async move { two.call("GET", &path).await.0 });
    }
    // Until all three have come there is room for another.
    while two.call("GET", "/api/v1/hubs").await.0 == 200 {}
    let refused = two.ask(request("GET", "/api/v1/hubs", "")).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(
        server.call("GET", "/api/v1/hubs").await.status,
        503,
        "over another connection"
    );
    assert_eq!(two.call("GET", "/readyz").await.0, 200, "probes are answered");
    let id = taskhub::InstanceId::new("waits").unwrap();
    server.client().raise_event(&id, "Go", ()).await.unwrap();
    while let Some(status) = waits.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(two.call("GET", "/api/v1/hubs").await.0, 200, "the connection goes on");
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye_and_ends_what_is_under_way() {
    let mut config = config();
    config.limits.stop_timeout = Duration::from_hours(1);
    let mut server = Running::start(config).await;
    let path = waiting(&server, "waits").await;
    let two = Two::connect(&server).await;
    let mut waits = std::pin::pin!(two.call("GET", &path));
    tokio::select! {
        _ = waits.as_mut() => unreachable!("nothing has ended"),
        _ = two.call("GET", "/healthz") => {}
    }
    let idle = Two::connect(&server).await;
    assert_eq!(idle.call("GET", "/healthz").await.0, 200);
    let (status, ()) = tokio::join!(waits, server.stop());
    assert_eq!(status.0, 200, "a wait is told that the time is over");
    assert!(two.ask(request("GET", "/healthz", "")).await.is_err());
    assert!(idle.ask(request("GET", "/healthz", "")).await.is_err());
}

#[tokio::test]
async fn a_body_is_counted_and_timed_like_any_other() {
    let limits = Limits {
        body_bytes_max: 1_000,
        ..Limits::default()
    };
    let server = Running::start(Config { limits, ..config() }).await;
    let two = Two::connect(&server).await;
    for (bytes, status) in [(998, 202), (999, 413), (5_000_000, 413)] {
        let body = format!("\"{}\"", "x".repeat(bytes));
        let answer = two.ask(request("POST", "/orchestrators/Echo", body)).await.unwrap();
        assert_eq!(answer.status(), status, "{bytes}");
    }
}
