//! Starts over HTTP, each acknowledged when it is durable, beside an endpoint that does nothing.
//!
//! The same client sends the same requests over as many connections to both, in the process of the servers: the
//! share that is left of the bare endpoint's rate is what a start costs beyond HTTP.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use taskhub::Hub;
use taskhub_api::client::HttpAnswer;
use taskhub_server::{Config, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::measure::{Reading, Spread, now};
use super::report::{Run, to_f64};
use crate::hub_access::http::{Credentials, Http, request};
use crate::report::{Result, Trouble};
use crate::stop::Stop;

/// An orchestrator that returns immediately, and one whose scheduled start is far in the future.
const STARTS: [(&str, &str); 2] = [
    (
        "starts that run and end",
        "/runtime/webhooks/durabletask/orchestrators/Steps",
    ),
    (
        "starts for a later time",
        "/runtime/webhooks/durabletask/orchestrators/Steps?scheduledStartTime=2999-01-01",
    ),
];

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Number of starts of each kind.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) count: usize,
    /// Number of connections, each with one request at a time.
    #[arg(long, default_value_t = 256)]
    pub(crate) connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            count: 50_000,
            connections: 256,
        }
    }
}

pub(crate) async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Run>> {
    let (hub, store) = super::open(folder, "http", |builder| builder).await?;
    let mut tasks = JoinSet::new();
    let address = serve(&hub, &mut tasks).await?;
    let [(_, path), _] = STARTS;
    let model = start(&client(address)?, path).await?;
    let bare = serve_bare(model.body, &mut tasks).await?;
    // What the first requests pay for and the others do not.
    many(bare, path, 2_000, settings.connections).await?;
    many(address, path, 2_000, settings.connections).await?;
    let begin = now();
    let mut spread = many(bare, path, settings.count, settings.connections).await?;
    let rate = to_f64(settings.count) / begin.elapsed().as_secs_f64();
    let mut run = Run::new(format!(
        "http: an endpoint that does nothing, {} connections",
        settings.connections
    ));
    run.add("requests", rate, "/s")
        .add_ms("latency p50", spread.percentile(50))
        .add_ms("latency p99", spread.percentile(99));
    let mut runs = vec![run];
    for (what, path) in STARTS {
        let before = Reading::now(store.as_ref());
        let mut spread = many(address, path, settings.count, settings.connections).await?;
        let used = before.until_now(store.as_ref());
        let starts = to_f64(settings.count) / used.wall.as_secs_f64();
        let mut run = Run::new(format!("http: {what}, {} connections", settings.connections));
        run.add("acknowledged starts", starts, "/s")
            .add("share of the bare endpoint's rate", 100.0 * starts / rate, "%")
            .add("syncs", to_f64(used.syncs) / to_f64(settings.count), "each")
            .add_ms("latency p50", spread.percentile(50))
            .add_ms("latency p99", spread.percentile(99));
        runs.push(run);
    }
    tasks.shutdown().await;
    hub.stop(taskhub::STOP_PERIOD).await?;
    Ok(runs)
}

/// Puts a server in front of a hub, on a free port of this machine; it ends with the set.
pub(super) async fn serve(hub: &Hub, tasks: &mut JoinSet<()>) -> Result<SocketAddr> {
    let config = Config {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..Config::default()
    };
    let listening = Server::new(Arc::clone(hub.engine()), config).bind().await?;
    let address = listening.address();
    tasks.spawn(listening.serve_until(std::future::pending()));
    Ok(address)
}

/// An endpoint that reads a request and gives always the same answer.
async fn serve_bare(answer: Bytes, tasks: &mut JoinSet<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            // As our own server sets it (A11).
            let _best_effort = stream.set_nodelay(true);
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    let _whole = request.into_body().collect().await;
                    let mut response = Response::new(Full::new(answer));
                    *response.status_mut() = StatusCode::ACCEPTED;
                    Ok::<_, Infallible>(response)
                }
            });
            connections.spawn(async move {
                // A client that goes away has all it wanted.
                let _gone = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(address)
}

/// A connection to a server of this process.
pub(super) fn client(address: SocketAddr) -> Result<Http> {
    Http::new(&format!("http://{address}"), &Credentials::default())
        .map_err(|stop| unanswered("a server of the benchmark", stop))
}

/// What a benchmark says when a call of its own fails.
pub(super) fn unanswered(what: &str, stop: Stop) -> Trouble {
    Trouble::while_trying(format!("{what} failed"), std::io::Error::other(stop.message))
}

/// Starts one, and checks that this was acknowledged.
pub(super) async fn start(client: &Http, path: &str) -> Result<HttpAnswer> {
    let ask = request(Method::POST, path).json(Bytes::from_static(b"0"));
    let answer = client.ask(ask).await.map_err(|stop| unanswered("a start", stop))?;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "a start was refused");
    Ok(answer)
}

/// A connection that has one request under way at a time. A client that pools connections does more beside, which would be measured
/// as well.
struct Lane {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    _driven: JoinSet<()>,
}

impl Lane {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let host = HeaderValue::try_from(address.to_string()).map_err(std::io::Error::other)?;
        let mut driven = JoinSet::new();
        driven.spawn(async move {
            // The caller that waits for the answer receives the error.
            let _told = connection.await;
        });
        Ok(Self {
            sender,
            host,
            _driven: driven,
        })
    }

    /// Starts one, and checks that this was acknowledged.
    async fn start(&mut self, path: &'static str) -> Result<()> {
        let mut request = hyper::Request::new(Full::new(Bytes::from_static(b"0")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.sender.send_request(request).await.map_err(failed)?;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "a start was refused");
        answer.into_body().collect().await.map_err(failed)?;
        Ok(())
    }
}

fn failed(error: hyper::Error) -> Trouble {
    Trouble::while_trying("a start failed".to_owned(), std::io::Error::other(error))
}

/// Sends starts over several connections; returns the duration of each.
async fn many(address: SocketAddr, path: &'static str, count: usize, connections: usize) -> Result<Spread> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut lanes = JoinSet::new();
    for _ in 0..connections.min(count) {
        let begun = Arc::clone(&begun);
        lanes.spawn(async move {
            let mut lane = Lane::open(address).await?;
            let mut taken = Vec::new();
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                let sent = now();
                lane.start(path).await?;
                taken.push(sent.elapsed());
            }
            Ok::<_, Trouble>(taken)
        });
    }
    let mut spread = Spread::default();
    while let Some(taken) = lanes.join_next().await {
        for sample in taken?? {
            spread.add(sample);
        }
    }
    Ok(spread)
}
