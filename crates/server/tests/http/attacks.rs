//! Callers that mean harm over HTTP/2, frame by frame: each costs a bounded amount, and others are served meanwhile.

use std::time::Duration;

use taskhub_server::{Config, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::{Running, config};
use crate::two::{Two, request, waiting};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Kinds of frames and their flags (RFC 9113).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const NONE: u8 = 0;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection whose frames are made by hand.
struct Raw {
    reading: OwnedReadHalf,
    writing: OwnedWriteHalf,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block: method by its place in the static table, path and authority as texts.
fn block(is_post: bool, path: &str) -> Vec<u8> {
    let mut block = vec![if is_post { 0x83 } else { 0x82 }, 0x86, 0x01, 9];
    block.extend(b"localhost");
    block.extend([0x04, u8::try_from(path.len()).unwrap()]);
    block.extend(path.as_bytes());
    block
}

/// A header that is not put into the table.
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut header = vec![0, u8::try_from(name.len()).unwrap()];
    header.extend(name.as_bytes());
    header.push(u8::try_from(value.len()).unwrap());
    header.extend(value.as_bytes());
    header
}

impl Raw {
    async fn connect(server: &Running) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (reading, mut writing) = stream.into_split();
        writing.write_all(PREFACE).await.unwrap();
        writing.write_all(&frame(SETTINGS, NONE, 0, &[])).await.unwrap();
        Self { reading, writing }
    }

    /// Sends; false if the connection has ended.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.writing.write_all(bytes).await.is_ok()
    }

    async fn get(&mut self, stream: u32, path: &str) -> bool {
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(false, path)))
            .await
    }

    /// The next frame; none if the connection has ended.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.reading.read_exact(&mut head).await.ok()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.reading.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            payload,
        })
    }

    /// The frames up to one of a kind, of a stream, with a flag; none if the connection ends before.
    async fn until(&mut self, kind: u8, stream: u32, flag: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind && frame.stream == stream && frame.flags & flag == flag {
                return Some(frame);
            }
        }
    }

    /// Waits until the server has read all that was sent; false if the connection has ended.
    async fn settle(&mut self) -> bool {
        self.send(&frame(PING, NONE, 0, &[7; 8])).await && self.until(PING, 0, ACK).await.is_some()
    }
}

#[tokio::test]
async fn who_wants_a_tunnel_is_told_that_there_is_none() {
    let server = Running::start(config()).await;
    let mut raw = Raw::connect(&server).await;
    // `:method` by its name's place and as a text, and `:authority`.
    let head = b"\x02\x07CONNECT\x01\x09localhost";
    assert!(raw.send(&frame(HEADERS, END_HEADERS, 1, head)).await);
    let answer = raw.until(HEADERS, 1, END_STREAM).await.unwrap();
    // The place of 404 in the static table.
    assert_eq!(answer.payload[0], 0x8d);
    assert!(raw.get(3, "/healthz").await);
    assert!(raw.until(DATA, 3, END_STREAM).await.is_some());
}

/// The server serves others.
async fn serves_others(server: &Running) {
    let two = Two::connect(server).await;
    assert_eq!(two.call("GET", "/readyz").await.0, 200);
    assert_eq!(server.call("GET", "/readyz").await.status, 200);
}

/// How often something was answered.
async fn answered(server: &Running, labels: &str) -> u64 {
    let text = server.call("GET", "/metrics").await.body;
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with(&format!("taskhub_http_requests_total{{{labels}}}")));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let server = Running::start(config()).await;
    let path = waiting(&server, "waits").await;
    let mut raw = Raw::connect(&server).await;
    let mut both = Vec::new();
    for stream in (1..20_001).step_by(2) {
        both.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(false, &path)));
        both.extend(frame(RST_STREAM, NONE, stream, &[0, 0, 0, 8]));
    }
    // It ends before all of them are taken, or behind them.
    let _ended = raw.send(&both).await;
    let goodbye = raw.until(GOAWAY, 0, NONE).await;
    assert!(
        goodbye.is_none_or(|frame| frame.payload[4..8] == [0, 0, 0, 11]),
        "enhance your calm"
    );
    assert!(!raw.settle().await);
    serves_others(&server).await;
}

#[tokio::test]
async fn requests_that_are_taken_back_one_by_one_end_the_connection() {
    let server = Running::start(config()).await;
    let path = waiting(&server, "waits").await;
    let mut raw = Raw::connect(&server).await;
    let mut count = 0;
    for stream in (1..).step_by(2) {
        // It is at work when the server has answered what comes behind it.
        let is_there = raw.get(stream, &path).await && raw.settle().await;
        if !is_there || !raw.send(&frame(RST_STREAM, NONE, stream, &[0, 0, 0, 8])).await {
            break;
        }
        count += 1;
    }
    assert!((50..=200).contains(&count), "{count} requests were taken back");
    serves_others(&server).await;
}

#[tokio::test]
async fn requests_that_are_taken_back_now_and_then_do_not_end_it() {
    let server = Running::start(config()).await;
    let path = waiting(&server, "waits").await;
    let mut raw = Raw::connect(&server).await;
    for stream in (1..1_200).step_by(4) {
        assert!(raw.get(stream, &path).await && raw.settle().await);
        assert!(raw.send(&frame(RST_STREAM, NONE, stream, &[0, 0, 0, 8])).await);
        assert!(raw.get(stream + 2, "/healthz").await);
        assert!(raw.until(DATA, stream + 2, END_STREAM).await.is_some());
    }
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let server = Running::start(config()).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(false, "/healthz")))
        .await;
    let part = frame(CONTINUATION, NONE, 1, &header("x", &"y".repeat(100)).repeat(100));
    let mut sent = 0;
    while raw.send(&part).await {
        sent += part.len();
        assert!(sent < 64 << 20, "it takes whatever comes");
    }
    serves_others(&server).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let server = Running::start(config()).await;
    let two = Two::connect(&server).await;
    let with = |count: usize, bytes: usize| {
        let mut request = request("GET", "/healthz", "");
        for number in 0..count {
            let name: http::HeaderName = format!("x-{number}").parse().unwrap();
            request.headers_mut().insert(name, "y".repeat(bytes).parse().unwrap());
        }
        request
    };
    for (count, bytes, status) in [(1, 60_000, 200), (1, 70_000, 431), (190, 1, 200), (210, 1, 431)] {
        let answer = two.ask(with(count, bytes)).await.unwrap();
        assert_eq!(answer.status(), status, "{count} of {bytes}");
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_go_on() {
    let server = Running::start(config()).await;
    let path = waiting(&server, "waits").await;
    let mut raw = Raw::connect(&server).await;
    for stream in (1..301).step_by(2) {
        assert!(raw.get(stream, &path).await);
    }
    // The hundred and first.
    let refused = raw.until(RST_STREAM, 201, NONE).await.unwrap();
    assert_eq!(refused.payload, [0, 0, 0, 7], "refused, so that it may be tried again");
    serves_others(&server).await;
    let id = taskhub::InstanceId::new("waits").unwrap();
    server.client().raise_event(&id, "Go", ()).await.unwrap();
    assert!(raw.until(HEADERS, 1, NONE).await.is_some());
    while answered(&server, "operation=\"own\",status=\"200\"").await < 100 {}
}

#[tokio::test]
async fn a_body_that_dribbles_is_given_up_and_the_connection_goes_on() {
    let limits = Limits {
        body_timeout: Duration::from_millis(100),
        body_bytes_per_second_min: 1 << 30,
        ..Limits::default()
    };
    let server = Running::start(Config { limits, ..config() }).await;
    let mut raw = Raw::connect(&server).await;
    assert!(
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block(true, "/orchestrators/Echo")))
            .await
    );
    while answered(&server, "operation=\"start\",status=\"408\"").await == 0 {
        assert!(raw.send(&frame(DATA, NONE, 1, b"1")).await);
    }
    assert!(raw.get(3, "/healthz").await);
    assert!(raw.until(DATA, 3, END_STREAM).await.is_some());
}

#[tokio::test]
async fn more_than_the_window_is_not_taken() {
    let server = Running::start(config()).await;
    let path = waiting(&server, "waits").await;
    let mut raw = Raw::connect(&server).await;
    // A body that nobody reads as long as its request waits.
    let head = [block(false, &path), header("content-type", "application/json")].concat();
    assert!(raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await);
    let mut sent = 0;
    loop {
        assert!(raw.send(&frame(DATA, NONE, 1, &[b'1'; 16 << 10])).await);
        sent += 16 << 10;
        assert!(sent <= 512 << 10, "it takes more than it said");
        assert!(raw.send(&frame(PING, NONE, 0, &[7; 8])).await);
        let frame = loop {
            let frame = raw.next().await.unwrap();
            if [RST_STREAM, PING].contains(&frame.kind) {
                break frame;
            }
        };
        if frame.kind == RST_STREAM {
            assert_eq!(frame.payload, [0, 0, 0, 3], "flow control");
            break;
        }
    }
    serves_others(&server).await;
}
