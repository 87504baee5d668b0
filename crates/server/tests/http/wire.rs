//! What the rules say beyond the article: paths, ids, bodies, links, times, limits.

use std::time::Duration;

use taskhub_server::{Config, Limits, LinkPrefix, Reuse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, HUB, Running, SURFACES, config};

const RPC: &str = SURFACES[2];

fn is_problem(answer: &Answer, status: u16, text: &str) -> bool {
    let object = answer.json();
    let members: Vec<&String> = object.as_object().unwrap().keys().collect();
    answer.status == status
        && members.len() == 4
        && object["StackTrace"].is_null()
        && [&object["Message"], &object["ExceptionMessage"]]
            .iter()
            .any(|found| found.as_str().unwrap().contains(text))
}

#[tokio::test]
async fn ids_are_checked_by_starts_and_simply_not_found_elsewhere() {
    let server = Running::start(config()).await;
    let long = "x".repeat(257);
    for (id, text) in [
        ("@x", "must not start with @."),
        ("a%2Fb", "must not contain"),
        ("a%5Cb", "must not contain"),
        ("a%23b", "must not contain"),
        ("a%3Fb", "must not contain"),
        ("a%00b", "must not contain"),
        ("a%C2%85b", "must not contain"),
        (".", "must not be . or .."),
        ("%2e%2E", "must not be . or .."),
        (long.as_str(), "must not exceed 256 characters"),
    ] {
        let answer = server.call("POST", &format!("{RPC}/orchestrators/Echo/{id}")).await;
        assert!(is_problem(&answer, 400, text), "{id}: {answer:?}");
        let answer = server.call("GET", &format!("{RPC}/instances/{id}")).await;
        assert_eq!(answer.status, 404, "{id}");
    }
    let longest = "%F0%9F%9A%80".repeat(256);
    for id in [longest.as_str(), "a@b", "a%20b", "a+b", "%2541", "...", ".a", "%252e"] {
        let answer = server.call("POST", &format!("{RPC}/orchestrators/Echo/{id}")).await;
        assert_eq!(answer.status, 202, "{id}");
        let location = answer.header("location").unwrap();
        let path = &location[location.find("/runtime").unwrap()..];
        assert!(server.call("GET", path).await.status.is_success(), "{id}");
    }
    let answer = server.call("GET", &format!("{RPC}/instances/%zz")).await;
    assert!(is_problem(&answer, 400, "the path is not valid percent-encoded UTF-8"));
}

#[tokio::test]
async fn routes_match_without_case_and_nothing_else_matches() {
    let server = Running::start(config()).await;
    for base in SURFACES {
        for path in [
            format!("{base}/instances"),
            format!("{}/INSTANCES/", base.to_uppercase()),
            format!("/{base}//instances//"),
        ] {
            assert_eq!(server.call("GET", &path).await.status, 200, "{path}");
        }
        for (method, path) in [
            ("PUT", "/instances/x"),
            ("POST", "/instances/x"),
            ("GET", "/orchestrators/Echo"),
            ("POST", "/orchestrators//Echo"),
            ("GET", "/instances//x"),
            ("POST", "/instances/x/raiseEvent"),
            ("POST", "/instances/x/frobnicate"),
            ("GET", ""),
        ] {
            let answer = server.call(method, &format!("{base}{path}")).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body.as_str()),
                (404, ""),
                "{method} {path}"
            );
            assert_eq!(answer.header("content-length"), Some("0"));
        }
    }
    assert_eq!(server.call("GET", "/").await.status, 404);
}

#[tokio::test]
async fn bodies_are_kept_byte_for_byte_or_refused() {
    let server = Running::start(config()).await;
    let start = async |body: Vec<u8>| {
        let path = format!("{RPC}/orchestrators/Echo?timeout=120");
        server
            .send("POST", &path, &[("content-type", "text/whatever")], body)
            .await
    };
    for text in [
        "0",
        "false",
        "\"text\"",
        "[]",
        "{}",
        "1.5",
        "12345678901234567890",
        "1.10",
        "\"2018-03-10T10:01:00Z\"",
        "{\"b\": 1, \"a\":2, \"b\":3}",
    ] {
        let answer = start(text.as_bytes().to_vec()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, text));
    }
    assert_eq!(start(b"\xef\xbb\xbf [1] \n".to_vec()).await.body, "[1]");
    let utf_16: Vec<u8> = "\u{feff}{\"\u{e9}\": [1.10,]} // one"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    assert_eq!(start(utf_16).await.body, "{\"\u{e9}\": [1.10 ]}");
    assert_eq!(start(b"".to_vec()).await.body, "null");
    for bad in [
        &b"{"[..],
        b"[1] x",
        b"\"\xff\"",
        b"nonsense",
        b"{'a':1}",
        b"{a:1}",
        b"NaN",
        b"\xff\xfe[",
    ] {
        assert!(is_problem(&start(bad.to_vec()).await, 400, "Invalid JSON content"));
    }
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
    assert_eq!(start(nested(120)).await.status, 200);
    let told = "the payload is nested 121 levels deep, and at most 120 are accepted";
    assert!(is_problem(&start(nested(121)).await, 400, told));
}

#[tokio::test]
async fn a_chunked_body_is_read_like_any_other() {
    let server = Running::start(config()).await;
    let head =
        format!("POST {RPC}/orchestrators/Echo?timeout=120 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let body = "transfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n";
    let answer = raw(&server, &format!("{head}{body}")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n[1,2]"),
        "{answer}"
    );
}

/// Sends bytes and reads until the server closes.
async fn raw(server: &Running, bytes: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> Config {
    let mut config = config();
    change(&mut config.limits);
    config
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken_and_a_larger_one_is_refused() {
    let server = Running::start(with_limits(|limits| limits.body_bytes_max = 100)).await;
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let start = async |body: String| {
        server
            .send("POST", &format!("{RPC}/orchestrators/Echo"), &[], body)
            .await
    };
    assert_eq!(start(text(100)).await.status, 202);
    for length in [101, 150, 199] {
        assert!(
            is_problem(&start(text(length)).await, 413, "larger than the limit"),
            "{length}"
        );
    }
    let path = format!("{RPC}/instances?instanceIdPrefix=");
    assert_eq!(server.call("GET", &path).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn all_bodies_together_have_a_limit() {
    let server = Running::start(with_limits(|limits| limits.bodies_bytes_max = 10)).await;
    let start = async |body: &'static str| {
        server
            .send("POST", &format!("{RPC}/orchestrators/Echo"), &[], body)
            .await
    };
    let answer = start("[1,2,3,4,5,6]").await;
    assert!(is_problem(&answer, 503, "cannot take the request now"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let own = format!("/api/v1/hubs/{HUB}/instances");
    let answer = server.send("POST", &own, &[], r#"{"name":"Echo"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")));
    assert_eq!(answer.json()["error"]["code"], "overloaded");
    assert_eq!(start("[1,2,3]").await.status, 202, "what was refused was given back");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Running::start(with_limits(|limits| limits.body_timeout = Duration::from_millis(20))).await;
    let head = format!("POST {RPC}/orchestrators/Echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[1");
    let answer = raw(&server, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("the body of the request did not arrive in time"),
        "{answer}"
    );
    assert_eq!(server.call("GET", &format!("{RPC}/instances")).await.body, "[]");
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let server = Running::start(with_limits(|limits| limits.head_timeout = Duration::from_millis(20))).await;
    let answer = raw(&server, "GET /healthz HTTP/1.1\r\nhost").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_head_of_64_kib_is_read_and_a_larger_one_is_refused() {
    let server = Running::start(config()).await;
    let filler = "x".repeat(60 << 10);
    let answer = server.send("GET", "/healthz", &[("x-filler", &filler)], "").await;
    assert_eq!(answer.status, 200);
    let filler = "x".repeat(140 << 10);
    let answer = server.send("GET", "/healthz", &[("x-filler", &filler)], "").await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn links_begin_with_what_the_caller_can_reach() {
    let location = async |config: Config, headers: &[(&str, &str)], path: &str| {
        let server = Running::start(config).await;
        let answer = server.send("POST", path, headers, "").await;
        let location = answer.header("location").unwrap().to_owned();
        location[..location.find("/instances").unwrap()].to_owned()
    };
    let start = format!("{RPC}/orchestrators/Echo");
    let named = |more: Config| Config {
        allow_hosts: vec!["hub.local".to_owned(), "x".to_owned(), "hub.example.org".to_owned()],
        ..more
    };
    let plain = location(named(config()), &[("host", "hub.local:81")], &start).await;
    assert_eq!(plain, "http://hub.local:81/runtime/webhooks/durabletask");
    let classic = Config {
        link_prefix: LinkPrefix::Classic,
        ..config()
    };
    let classic = location(classic, &[("host", "localhost:7071")], "/orchestrators/Echo").await;
    assert_eq!(classic, "http://localhost:7071/admin/extensions/DurableTaskExtension");
    let forwarded = [
        ("x-forwarded-host", "hub.example.org:8443"),
        ("x-forwarded-proto", "https"),
        ("host", "x"),
    ];
    let behind = || Config {
        use_forwarded_host: true,
        ..named(config())
    };
    let found = location(behind(), &forwarded, &start).await;
    assert_eq!(found, "https://hub.example.org:8443/runtime/webhooks/durabletask");
    let shouted = [forwarded[0], ("x-forwarded-proto", "HTTPS"), forwarded[2]];
    assert_eq!(location(behind(), &shouted, &start).await, found);
    let found = location(named(config()), &forwarded, &start).await;
    assert_eq!(found, "http://x/runtime/webhooks/durabletask");
    let half = location(behind(), &[forwarded[0], forwarded[2]], &start).await;
    assert_eq!(half, "http://x/runtime/webhooks/durabletask");
    let named = Config {
        public_url: Some("https://hub.example.org/".to_owned()),
        ..behind()
    };
    let found = location(named, &forwarded, &start).await;
    assert_eq!(found, "https://hub.example.org/runtime/webhooks/durabletask");
}

#[tokio::test]
async fn a_start_says_what_may_become_of_an_instance_in_its_way() {
    let server = Running::start(config()).await;
    let start = async |query: &str| {
        let answer = server
            .call("POST", &format!("{RPC}/orchestrators/WaitEvent/one{query}"))
            .await;
        answer.status.as_u16()
    };
    assert_eq!(start("").await, 202);
    assert_eq!(start("").await, 409);
    assert_eq!(
        start("?dedupe=Completed,failed").await,
        202,
        "a live one is none of these"
    );
    assert_eq!(
        server
            .call("POST", &format!("{RPC}/instances/one/terminate"))
            .await
            .status,
        202
    );
    assert_eq!(start("?dedupe=terminated").await, 409);
    assert_eq!(
        start("?dedupe=completed,terminatde").await,
        400,
        "a typing error replaces nothing"
    );
    assert_eq!(
        start("?scheduledStartTime=tomorrow").await,
        400,
        "and does not start at once"
    );
    assert_eq!(start("").await, 202);
    let any = Config {
        reuse: Reuse::AnyState,
        ..config()
    };
    let server = Running::start(any).await;
    for _ in 0..2 {
        let answer = server.call("POST", &format!("{RPC}/orchestrators/WaitEvent/one")).await;
        assert_eq!(answer.status, 202);
    }
}

#[tokio::test]
async fn a_start_that_is_repeated_with_its_key_is_one_start() {
    let server = Running::start(config()).await;
    let key = [("idempotency-key", "order 17")];
    let start = async || {
        let answer = server
            .send("POST", &format!("{RPC}/orchestrators/WaitEvent"), &key, "")
            .await;
        (answer.status.as_u16(), answer.json()["id"].as_str().unwrap().to_owned())
    };
    let first = start().await;
    assert_eq!(first.0, 202);
    assert_eq!(start().await, first);
    let all = server.call("GET", &format!("{RPC}/instances")).await;
    assert_eq!(all.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn hubs_are_named_in_any_case_and_others_look_empty() {
    let server = Running::start(config()).await;
    let code = async |method: &str, path: &str| server.call(method, &format!("{RPC}{path}")).await.status.as_u16();
    assert_eq!(
        code("POST", "/orchestrators/Echo/x?taskHub=TESTtaskhub&taskHub=Other").await,
        202
    );
    assert_eq!(code("GET", "/instances/x?taskHub=").await / 100, 2);
    assert_eq!(code("GET", "/instances/x?taskHub=OtherHub").await, 404);
    assert_eq!(
        server
            .call("GET", &format!("{RPC}/instances?taskHub=OtherHub"))
            .await
            .body,
        "[]"
    );
    for (method, path) in [
        ("POST", "/instances/x/terminate?taskHub=OtherHub"),
        ("POST", "/instances/x/raiseEvent/e?taskHub=OtherHub"),
        ("DELETE", "/instances/x?taskHub=OtherHub"),
        ("DELETE", "/instances?createdTimeFrom=2000-01-01&taskHub=OtherHub"),
    ] {
        assert_eq!(code(method, path).await, 404, "{path}");
    }
    let missing = server
        .call("POST", &format!("{RPC}/orchestrators/Echo?taskHub=OtherHub"))
        .await;
    assert!(is_problem(&missing, 400, "task hub 'OtherHub' does not exist"));
    let bad = server.call("GET", &format!("{RPC}/instances?taskHub=my-hub")).await;
    assert!(is_problem(
        &bad,
        400,
        "invalid hub name `my-hub`: expected 3 to 50 ASCII letters and digits"
    ));
    assert_eq!(code("GET", "/@OtherHub/instances/x").await, 404);
}

#[tokio::test]
async fn names_are_checked_where_all_are_known() {
    let strict = Config {
        strict_names: Some(vec!["Echo".to_owned(), "Fail".to_owned()]),
        ..config()
    };
    let server = Running::start(strict).await;
    let answer = server.call("POST", &format!("{RPC}/orchestrators/Ecko")).await;
    assert!(is_problem(
        &answer,
        400,
        "'Ecko' doesn't exist. The known functions are: Echo, Fail."
    ));
    assert_eq!(
        server.call("POST", &format!("{RPC}/orchestrators/Echo")).await.status,
        202
    );
    let spelled = server.call("POST", &format!("{RPC}/orchestrators/eCHO/spelled")).await;
    assert_eq!(spelled.status, 202);
    let status = server.call("GET", &format!("{RPC}/instances/spelled")).await;
    assert_eq!(status.json()["name"], "Echo");
}

#[tokio::test]
async fn the_oldest_clients_are_sent_null_and_python_values_are_unwrapped() {
    let kind = Config {
        null_bodies: true,
        unwrap_json_strings: true,
        ..config()
    };
    let server = Running::start(kind).await;
    let answer = server.call("GET", &format!("{RPC}/instances/nobody")).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (404, "null"));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let path = format!("{RPC}/orchestrators/Echo?timeout=120");
    let answer = server.send("POST", &path, &[], "\"[1, 2, 3]\"").await;
    assert_eq!(answer.body, "[1, 2, 3]");
}

#[tokio::test]
async fn waiting_ends_when_the_server_stops() {
    // Where it can be, at an address of this test alone: the port is anybody's once it has stopped.
    let own = if cfg!(target_os = "linux") { 2 } else { 1 };
    let config = Config {
        address: ([127, 0, 0, own], 0).into(),
        ..config()
    };
    let mut server = Running::start(config).await;
    let address = server.address;
    let path = format!("{RPC}/orchestrators/WaitEvent/long?timeout=200");
    let stream = TcpStream::connect(address).await.unwrap();
    let request = crate::support::request(address, "POST", &path, &[], bytes::Bytes::new());
    let client = server.client();
    let stop = async {
        // The call waits once its instance has begun.
        let id = taskhub::InstanceId::new("long").unwrap();
        while client.wait_for_start(&id).await.is_err() {
            tokio::task::yield_now().await;
        }
        server.stop().await;
    };
    let (answer, ()) = tokio::join!(crate::support::exchange(stream, request), stop);
    assert_eq!(answer.status, 202);
    assert!(TcpStream::connect(address).await.is_err());
}

/// The figure that a server shows to the only one that is connected.
const ONE_CONNECTION: &str = "taskhub_http_connections 1";

#[tokio::test]
async fn a_caller_that_goes_away_disturbs_nothing_and_is_not_waited_for() {
    let server = Running::start(config()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST {RPC}/orchestrators/WaitEvent/left?timeout=200 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let id = taskhub::InstanceId::new("left").unwrap();
    while server.client().wait_for_start(&id).await.is_err() {
        tokio::task::yield_now().await;
    }
    drop(stream);
    // Its connection ends, and then only the one that asks is left.
    while !server
        .call("GET", "/metrics")
        .await
        .body
        .lines()
        .any(|line| line == ONE_CONNECTION)
    {}
    assert_eq!(server.call("GET", &format!("{RPC}/instances/left")).await.status, 202);
}

#[tokio::test]
async fn a_page_has_a_hundred_rows_or_as_many_as_are_asked_for_up_to_a_thousand() {
    let server = Running::start(config()).await;
    for _ in 0..101 {
        server.client().start_new("WaitEvent", ()).await.unwrap();
    }
    for (top, rows) in [
        ("", 100),
        ("0", 100),
        ("-7", 100),
        ("9.5", 100),
        ("3", 3),
        ("1001", 101),
        ("99999999999999999999", 101),
        ("-99999999999999999999", 100),
    ] {
        let page = server.call("GET", &format!("{RPC}/instances?top={top}")).await;
        assert_eq!(page.json().as_array().unwrap().len(), rows, "top={top}");
    }
}

#[tokio::test]
async fn figures_tell_what_was_done() {
    let server = Running::start(config()).await;
    assert_eq!(
        server
            .call("POST", &format!("{RPC}/orchestrators/Echo?timeout=120"))
            .await
            .status,
        200
    );
    // The connection of the start is about to end.
    let answer = loop {
        let answer = server.call("GET", "/metrics").await;
        if answer.body.lines().any(|line| line == ONE_CONNECTION) {
            break answer;
        }
    };
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    for line in [
        "taskhub_http_requests_total{operation=\"start\",status=\"200\"} 1",
        "taskhub_turns_total{hub=\"TestTaskHub\"} 1",
        "taskhub_instances{hub=\"TestTaskHub\",status=\"Completed\"} 1",
    ] {
        assert!(
            answer.body.lines().any(|found| found == line),
            "{line} in\n{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = Running::start(config()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        while !answer.ends_with("healthy\n") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "it was closed: {answer}");
            answer.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}
