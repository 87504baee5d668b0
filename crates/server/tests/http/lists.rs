//! A first page holds what was asked for however large its rows are, and is sent while it is read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskhub::{Hub, Raw, Registry, Store};
use taskhub_core::payload::Payload;
use taskhub_samples::{Files, Purger, register};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{HUB, Running, SURFACES, config};
use crate::trouble::Gated;

const RPC: &str = SURFACES[2];
const MIB: usize = 1 << 20;

/// A server whose hub has ended instances `i000`, `i001`, … with an input and an output of so many bytes each.
pub(crate) async fn with_rows(store: Gated, rows: usize, bytes: usize) -> Running {
    let registry = register(Registry::new(), &Purger::default(), &Files::below("."));
    let hub = Hub::builder(HUB)
        .registry(registry)
        .open_in(&Store::over(Arc::new(store)))
        .await
        .unwrap();
    let server = Running::serve(hub, config()).await;
    let input = Payload::text(&format!("\"{}\"", "x".repeat(bytes - 2)));
    for row in 0..rows {
        add(&server, &format!("i{row:03}"), &input).await;
    }
    server
}

async fn add(server: &Running, id: &str, input: &Payload) {
    let echoed = server.client().start("Echo", Raw::from(input.clone())).id(id);
    echoed.await.unwrap().wait_for_end().await.unwrap();
}

fn ids(body: &str) -> Vec<String> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    rows.iter()
        .map(|row| row["instanceId"].as_str().unwrap().to_owned())
        .collect()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|row| format!("i{row:03}")).collect()
}

#[tokio::test]
async fn a_first_page_of_large_rows_holds_all_that_were_asked_for() {
    let server = with_rows(Gated::open(), 6, 5 * MIB).await;
    for base in SURFACES {
        let answer = server.call("GET", &format!("{base}/instances/")).await;
        assert_eq!(ids(&answer.body), numbered(0..6));
        assert_eq!(answer.header("x-ms-continuation-token"), Some(""));
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        assert!(answer.body.len() > 6 * 2 * 5 * MIB, "inputs and outputs are whole");
    }
    // The token says where the range ends, and stands in the head of an answer that is not read yet.
    let first = server.call("GET", &format!("{RPC}/instances?top=4")).await;
    assert_eq!(ids(&first.body), numbered(0..4));
    let token = first.header("x-ms-continuation-token").unwrap();
    let path = format!("{RPC}/instances?top=4");
    let rest = server
        .send("GET", &path, &[("x-ms-continuation-token", token)], "")
        .await;
    assert_eq!(ids(&rest.body), numbered(4..6));
    assert_eq!(rest.header("x-ms-continuation-token"), Some(""));
}

#[tokio::test]
async fn a_page_of_a_hundred_has_a_hundred_rows_some_of_them_large() {
    let server = with_rows(Gated::open(), 2, 9 * MIB).await;
    for row in 2..101 {
        add(&server, &format!("i{row:03}"), &Payload::text("1")).await;
    }
    let answer = server.call("GET", &format!("{RPC}/instances")).await;
    assert_eq!(ids(&answer.body), numbered(0..100));
    assert_ne!(answer.header("x-ms-continuation-token"), Some(""));
    let path =
        format!("{RPC}/instances?createdTimeFrom=2000-01-01&instanceIdPrefix=i0&runtimeStatus=Completed&name=Echo");
    assert_eq!(ids(&server.call("GET", &path).await.body), numbered(0..100));
}

#[tokio::test]
async fn inputs_that_are_not_shown_are_not_read() {
    let store = Gated::open();
    let pages = Arc::clone(&store.pages);
    let server = with_rows(store, 3, 12 * MIB).await;
    let before = pages.load(Ordering::Acquire);
    let answer = server
        .call("GET", &format!("{RPC}/instances?showInput=false&top=1"))
        .await;
    assert_eq!(pages.load(Ordering::Acquire) - before, 1);
    assert!(answer.header("content-length").is_some());
    assert!(answer.json()[0]["input"].is_null());
    // With inputs the second row would not fit into the first page.
    let answer = server
        .call("GET", &format!("{RPC}/instances?showInput=false&top=2"))
        .await;
    assert_eq!(pages.load(Ordering::Acquire) - before, 2);
    assert_eq!(ids(&answer.body), numbered(0..2));
}

/// Sends the head of a request for a list, and gives the connection on which the answer comes.
async fn asked(server: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET {RPC}/instances HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn rows_are_read_when_their_turn_has_come() {
    let store = Gated::open();
    let pages = Arc::clone(&store.pages);
    let server = with_rows(store, 8, 9 * MIB).await;
    let before = pages.load(Ordering::Acquire);
    let mut stream = asked(&server).await;
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    // One page, the range of the list, and at most what the buffers of the connection take of the next.
    let read = pages.load(Ordering::Acquire) - before;
    assert!(read <= 5, "{read} pages were read for a caller that takes nothing");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"]\r\n0\r\n\r\n"));
    assert_eq!(pages.load(Ordering::Acquire) - before, 9);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_on_is_cut_and_not_ended() {
    let mut store = Gated::open();
    let pages = Arc::clone(&store.pages);
    store.pages_max = 4;
    let server = with_rows(store, 6, 9 * MIB).await;
    assert_eq!(pages.load(Ordering::Acquire), 0);
    let mut stream = asked(&server).await;
    let mut answer = Vec::new();
    // How a cut shows, as an end or as an error, is the system's affair.
    let _cut = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(!answer.ends_with(b"0\r\n\r\n"), "the answer has no end");
    assert!(!answer.ends_with(b"]"), "nor has the list");
    assert!(answer.len() > 2 * 18 * MIB, "what could be read was sent");
}

#[tokio::test]
async fn what_changes_while_a_list_is_sent_is_left_out_or_shown_whole() {
    let server = with_rows(Gated::open(), 6, 9 * MIB).await;
    let mut stream = asked(&server).await;
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    // The range is read by now, the rows at its end are not.
    let gone = taskhub::InstanceId::new("i005").unwrap();
    server.client().purge_instance_history(&gone).await.unwrap();
    add(&server, "new", &Payload::text("1")).await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    for (id, is_shown) in [("i000", true), ("i004", true), ("i005", false), ("new", false)] {
        assert_eq!(rest.contains(&format!("\"instanceId\":\"{id}\"")), is_shown, "{id}");
    }
    assert!(rest.ends_with("]\r\n0\r\n\r\n"));
}
