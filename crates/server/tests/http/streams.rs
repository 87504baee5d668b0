//! Lists and histories that are sent while they are read: whole, in bounded memory, or cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use taskhub::{Hub, Registry};
use taskhub_core::limits;
use taskhub_samples::{Files, Purger, register};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::lists::with_rows;
use crate::support::{HUB, Running, SURFACES, config};
use crate::trouble::Gated;
use crate::two::{Two, request};

const RPC: &str = SURFACES[2];
const MIB: usize = 1 << 20;

fn all() -> String {
    format!("/api/v1/hubs/{HUB}/instances?limit=all")
}

fn ids(body: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(body).unwrap();
    assert_eq!(list["cursor"], Value::Null);
    let rows = list["items"].as_array().unwrap().iter();
    rows.map(|row| row["instanceId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn all_of_a_list_come_page_by_page_over_either_protocol() {
    let store = Gated::open();
    let pages = Arc::clone(&store.pages);
    let rows = 2 * limits::PAGE_ROWS_MAX + 1;
    let server = with_rows(store, rows, 3).await;
    let before = pages.load(Ordering::Acquire);
    let over_one = server.call("GET", &all()).await;
    assert_eq!(pages.load(Ordering::Acquire) - before, 3);
    assert_eq!(over_one.header("transfer-encoding"), Some("chunked"));
    assert_eq!(over_one.header("content-length"), None);
    let shown = ids(&over_one.body);
    assert_eq!(shown.len(), rows);
    assert!(shown.is_sorted_by_key(|id| id[1..].parse::<usize>().unwrap()));
    let (status, over_two) = Two::connect(&server).await.call("GET", &all()).await;
    assert_eq!((status, over_two), (200, over_one.body.clone()));
    // Each row is as a page has it.
    let page = server.call("GET", &all().replace("all", "1000")).await.json();
    let whole: Value = serde_json::from_str(&over_one.body).unwrap();
    assert_eq!(
        page["items"].as_array().unwrap()[..],
        whole["items"].as_array().unwrap()[..1_000]
    );
    let filtered = server.call("GET", &format!("{}&idPrefix=i20", all())).await;
    assert_eq!(ids(&filtered.body).len(), 11);
    assert!(
        filtered.header("content-length").is_some(),
        "what fits into a page has a length"
    );
}

/// A caller over either protocol that takes the first bytes of an answer, and nothing more for now.
enum Slow {
    One(TcpStream),
    Two(Two, hyper::body::Incoming),
}

impl Slow {
    async fn ask(server: &Running, path: &str, is_two: bool) -> Self {
        if is_two {
            let two = Two::connect(server).await;
            let mut body = two.ask(request("GET", path, "")).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            return Self::Two(two, body);
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        Self::One(stream)
    }

    /// Takes the rest; none if it is cut.
    async fn rest(self) -> Option<usize> {
        match self {
            Self::One(mut stream) => {
                let mut rest = Vec::new();
                let _ended = stream.read_to_end(&mut rest).await;
                rest.ends_with(b"\r\n0\r\n\r\n").then_some(rest.len())
            }
            Self::Two(_two, body) => body.collect().await.ok().map(|whole| whole.to_bytes().len()),
        }
    }
}

#[tokio::test]
async fn pages_of_all_are_read_when_their_turn_has_come() {
    let store = Gated::open();
    let pages = Arc::clone(&store.pages);
    let server = with_rows(store, 8, 9 * MIB).await;
    for is_two in [false, true] {
        let before = pages.load(Ordering::Acquire);
        let path = format!("{}&fields=input,output", all());
        let slow = Slow::ask(&server, &path, is_two).await;
        let read = pages.load(Ordering::Acquire) - before;
        assert!(read <= 3, "{read} pages were read for a caller that takes nothing");
        assert!(slow.rest().await.is_some_and(|bytes| bytes > 8 * 2 * 9 * MIB - MIB));
        assert_eq!(pages.load(Ordering::Acquire) - before, 8);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_reading() {
    let store = Gated::open();
    let pages = Arc::clone(&store.pages);
    let server = with_rows(store, 8, 9 * MIB).await;
    for is_two in [false, true] {
        let before = pages.load(Ordering::Acquire);
        drop(Slow::ask(&server, &format!("{}&fields=input,output", all()), is_two).await);
        // It ends when the connection does, which is counted.
        let open = "taskhub_http_connections 1\n";
        while !server.call("GET", "/metrics").await.body.contains(open) {}
        assert!(pages.load(Ordering::Acquire) - before < 8);
    }
}

#[tokio::test]
async fn what_cannot_be_read_on_is_cut_over_either_protocol() {
    for is_two in [false, true] {
        let mut store = Gated::open();
        store.pages_max = 4;
        let server = with_rows(store, 6, 9 * MIB).await;
        let slow = Slow::ask(&server, &format!("{}&fields=input,output", all()), is_two).await;
        assert_eq!(slow.rest().await, None);
        assert_eq!(server.call("GET", "/healthz").await.status, 200);
    }
}

/// A server with an instance whose history is longer than what is read of one at once: `events` that hold `bytes` each.
async fn with_history(folder: &TempDir, events: usize, bytes: usize) -> Running {
    let registry = register(Registry::new(), &Purger::default(), &Files::below("."));
    let hub = Hub::builder(HUB).registry(registry).open(folder.path()).await.unwrap();
    let server = Running::serve(hub, config()).await;
    let client = server.client();
    let id = client.start("WaitEvent", ()).id("long").await.unwrap();
    client.wait_for_start(&id).await.unwrap();
    for number in 0..events {
        let value = format!("{number} {}", "x".repeat(bytes));
        client.raise_event(&id, "Told", value).await.unwrap();
    }
    // Events are in the history once a turn has seen them.
    let path = format!("/api/v1/hubs/{HUB}/instances/long");
    while server.call("GET", &path).await.json()["historyLength"]
        .as_u64()
        .unwrap()
        < events as u64
    {}
    server
}

#[tokio::test]
async fn a_long_history_comes_whole_on_every_surface() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_history(&folder, 12, 2 * MIB).await;
    let path = format!("/api/v1/hubs/{HUB}/instances/long/history");
    let mut parts = Vec::new();
    let mut from = json!(0);
    while from != Value::Null {
        let part = server.call("GET", &format!("{path}?from={from}")).await.json();
        parts.extend(part["items"].as_array().unwrap().clone());
        from = part["nextFrom"].clone();
    }
    for is_from in [0, 3] {
        let whole = server.call("GET", &format!("{path}?limit=all&from={is_from}")).await;
        assert_eq!(whole.header("transfer-encoding"), Some("chunked"));
        let whole = whole.json();
        assert_eq!(whole["nextFrom"], Value::Null);
        assert_eq!(whole["items"].as_array().unwrap()[..], parts[is_from..]);
    }
    let status = server
        .call("GET", &format!("{RPC}/instances/long?showHistory=true"))
        .await;
    assert_eq!((status.status.as_u16(), status.header("content-length")), (202, None));
    assert!(status.header("location").is_some());
    let status = status.json();
    assert_eq!(status["historyEvents"], status["history"]);
    let events = status["history"].as_array().unwrap();
    let raised = events.iter().filter(|event| event["EventType"] == "EventRaised");
    let inputs: Vec<&str> = raised.map(|event| event["Input"].as_str().unwrap()).collect();
    assert_eq!(inputs.len(), 12);
    assert!(
        inputs
            .iter()
            .enumerate()
            .all(|(number, input)| input.starts_with(&format!("\"{number} xxx")))
    );
    let short = server.call("GET", &format!("{path}?limit=all&from=13")).await;
    assert!(
        short.header("content-length").is_some(),
        "what is read at once has a length"
    );
}

#[tokio::test]
async fn a_history_that_goes_while_it_is_read_is_cut() {
    let path = format!("/api/v1/hubs/{HUB}/instances/long/history?limit=all");
    for is_two in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let server = with_history(&folder, 12, 2 * MIB).await;
        let slow = Slow::ask(&server, &path, is_two).await;
        let client = server.client();
        let id = taskhub::InstanceId::new("long").unwrap();
        client.terminate(&id).await.unwrap();
        client.wait_for_end(&id).await.unwrap();
        client.purge_instance_history(&id).await.unwrap();
        assert_eq!(slow.rest().await, None);
    }
}
