//! A real server on a free port of this machine, and a client that sends what it is told, byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use taskhub::{Client, Hub, Registry};
use taskhub_samples::{Files, Purger, register};
use taskhub_server::{Config, Server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The hub of all tests.
pub(crate) const HUB: &str = "TestTaskHub";

/// The prefixes of the management API (H1).
pub(crate) const SURFACES: [&str; 3] = [
    "/runtime/webhooks/durabletask",
    "/admin/extensions/DurableTaskExtension",
    "/durabletask",
];

/// A server that serves, until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Arc<Hub>,
    pub(crate) binding: String,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Serves a hub of sample functions in memory.
    pub(crate) async fn start(config: Config) -> Self {
        let registry = register(Registry::new(), &Purger::default(), &Files::below("."));
        let hub = Hub::builder(HUB).registry(registry).in_memory().await.unwrap();
        Self::serve(hub, config).await
    }

    /// Serves a hub.
    pub(crate) async fn serve(hub: Hub, config: Config) -> Self {
        let server = Server::new(Arc::clone(hub.engine()), config);
        Self::of(hub, server).await
    }

    /// Another server in front of the same hub.
    pub(crate) async fn beside(&self, config: Config) -> Self {
        let server = Server::new(Arc::clone(self.hub.engine()), config);
        Self::of(Arc::clone(&self.hub), server).await
    }

    /// Serves with a server that was set up already.
    pub(crate) async fn of(hub: impl Into<Arc<Hub>>, server: Server) -> Self {
        let listening = server.bind().await.unwrap();
        let address = listening.address();
        let binding = serde_json::to_string(&listening.client_binding()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(listening.serve_until(async {
            let _stopped_or_dropped = stopped.await;
        }));
        Self {
            address,
            hub: hub.into(),
            binding,
            stop: Some(stop),
            tasks,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.hub.client()
    }

    /// Stops listening and waits for what is under way.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Sends a request without body.
    pub(crate) async fn call(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], "").await
    }

    /// Sends a request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        exchange(stream, request(self.address, method, path, headers, body.into())).await
    }
}

/// A free port of this machine, and everything else as it is by default.
pub(crate) fn config() -> Config {
    Config {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..Config::default()
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, value.as_bytes());
    }
    let is_typed = headers.iter().any(|(name, _)| *name == "content-type");
    if path.starts_with("/api/v1") && !body.is_empty() && !is_typed {
        request = request.header("content-type", "application/json");
    }
    request.body(Full::new(body)).unwrap()
}

/// Sends one request over a connection and reads the answer.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Answer {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(async {
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    });
    tokio::select! {
        answer = answered.as_mut() => answer,
        _ended = connection.as_mut() => answered.await,
    }
}
