//! Large bodies and answers: what they take is counted, until they are durable and until they are sent.

use std::sync::Arc;
use std::time::Duration;

use taskhub::{Hub, Registry, Store};
use taskhub_samples::{Files, Purger, register};
use taskhub_server::{Config, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::{HUB, Running, SURFACES, config};
use crate::trouble::Gated;

const RPC: &str = SURFACES[2];
/// More than the buffers of a connection hold.
const LARGE: usize = 16 << 20;

fn with_limits(set: impl FnOnce(&mut Limits)) -> Config {
    let mut config = config();
    set(&mut config.limits);
    config
}

/// A caller that asks and takes nothing of the answer but its first byte.
async fn slow_caller(server: &Running, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).await.unwrap();
    stream
}

async fn server_with_large_value(set: impl FnOnce(&mut Limits)) -> Running {
    let registry = register(Registry::new(), &Purger::default(), &Files::below("."));
    let hub = Hub::builder(HUB).registry(registry).in_memory().await.unwrap();
    let value = "x".repeat(LARGE);
    let id = hub.client().start("WaitEvent", value).id("large").await.unwrap();
    hub.client().wait_for_start(&id).await.unwrap();
    Running::serve(hub, with_limits(set)).await
}

#[tokio::test]
async fn large_answers_wait_for_each_other_and_then_their_callers_are_sent_away() {
    let server = server_with_large_value(|limits| {
        limits.answers_bytes_max = LARGE + LARGE / 2;
        limits.answer_patience = Duration::from_millis(20);
    })
    .await;
    let status = format!("{RPC}/instances/large");
    let own = format!("/api/v1/hubs/{HUB}/instances");
    let slow = slow_caller(&server, &status).await;
    for path in [&status, &format!("{RPC}/instances")] {
        let answer = server.call("GET", path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (503, Some("1")),
            "{path}"
        );
    }
    for path in [
        format!("{own}/large?fields=input"),
        format!("{own}/large/wait?for=started"),
        format!("{own}/large/history"),
        own,
    ] {
        let answer = server.call("GET", &path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (429, Some("1")),
            "{path}"
        );
    }
    assert_eq!(
        server.call("GET", "/readyz").await.status,
        200,
        "small ones wait for nobody"
    );
    drop(slow);
    loop {
        let answer = server.call("GET", &status).await;
        if answer.status == 202 {
            assert!(answer.body.contains(&"x".repeat(LARGE)));
            break;
        }
    }
}

/// So does one that is sent while it is read, and a history beside a record that is small.
#[tokio::test]
async fn a_long_list_takes_room_until_it_is_sent_and_a_history_waits_for_it() {
    let server = server_with_large_value(|limits| {
        limits.answers_bytes_max = LARGE + LARGE / 2;
        limits.answer_patience = Duration::from_millis(20);
    })
    .await;
    let client = server.client();
    let start = async |id: &str, value: String| {
        let id = client.start("WaitEvent", value).id(id).await.unwrap();
        client.wait_for_start(&id).await.unwrap();
        id
    };
    start("also-large", "x".repeat(LARGE)).await;
    let told = start("told", String::new()).await;
    client.raise_event(&told, "Told", "x".repeat(LARGE / 4)).await.unwrap();
    let record = format!("{RPC}/instances/told");
    let history = format!("/api/v1/hubs/{HUB}/instances/told/history?from=2");
    while !server.call("GET", &history).await.body.contains("xxx") {}

    let slow = slow_caller(&server, &format!("{RPC}/instances")).await;
    assert_eq!(server.call("GET", &record).await.status, 202);
    for path in [format!("{RPC}/instances/large"), record + "?showHistory=true"] {
        assert_eq!(server.call("GET", &path).await.status, 503, "{path}");
    }
    drop(slow);
}

/// One that waits for room gets it, and holds nothing of what it waits with.
#[tokio::test]
async fn a_large_answer_is_sent_when_its_turn_comes() {
    let server = server_with_large_value(|limits| limits.answers_bytes_max = LARGE).await;
    let path = format!("{RPC}/instances/large?showHistory=true");
    let answers = futures_of(8, || server.call("GET", &path)).await;
    assert!(
        answers.iter().all(|status| *status == 202 || *status == 503),
        "{answers:?}"
    );
    let path = format!("{RPC}/instances/large");
    let answers = futures_of(8, || server.call("GET", &path)).await;
    assert_eq!(answers, [202; 8]);
}

async fn futures_of<F: Future<Output = crate::support::Answer>>(count: usize, make: impl Fn() -> F) -> Vec<u16> {
    let mut left: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut statuses = Vec::new();
    std::future::poll_fn(|context| {
        left.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                statuses.push(answer.status.as_u16());
                false
            }
            std::task::Poll::Pending => true,
        });
        if left.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    statuses
}

#[tokio::test]
async fn a_body_counts_until_it_is_durable_however_long_its_caller_waits() {
    let store = Gated::open();
    let gate = Arc::clone(&store.commits);
    gate.forget_permits(1);
    let hub = Hub::builder(HUB).open_in(&Store::over(Arc::new(store))).await.unwrap();
    let server = Arc::new(
        Running::serve(
            hub,
            with_limits(|limits| {
                limits.bodies_bytes_max = 25;
            }),
        )
        .await,
    );
    let own = format!("/api/v1/hubs/{HUB}/instances");
    let path = format!("{RPC}/orchestrators/Slow?scheduledStartTime=2999-01-01");
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let (caller, path) = (Arc::clone(&server), path.clone());
        callers.spawn(async move { caller.send("POST", &path, &[], "[1,2,3,4,5]").await.status.as_u16() });
    }
    assert_eq!(
        callers.join_next().await.unwrap().unwrap(),
        503,
        "there is room for two"
    );
    // The two go away, and what they asked for is still on its way to the disk.
    callers.shutdown().await;
    let body = r#"{"name":"Slow"}"#;
    assert_eq!(server.send("POST", &own, &[], body).await.status, 429);
    gate.add_permits(1);
    while server.send("POST", &path, &[], "[1,2,3,4,5]").await.status == 503 {}
}
