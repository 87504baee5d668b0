//! Bodies that are too large, that come slowly, and that never come whole. The limits of time are tested in the
//! process of `crates/server/tests/http/wire.rs`, where they can be short.

use crate::support::{Connection, HUB, SURFACES, Server};
use crate::with_instance;

/// Largest body (H19).
const BODY_BYTES_MAX: usize = 64 << 20;

/// A connection on which a start of `id` has been announced with so many bytes, of which none is sent.
fn announce(server: &Server, base: &str, id: &str, bytes: usize) -> Connection {
    open(server, &format!("{base}/orchestrators/Echo/{id}"), "", bytes)
}

/// A connection on which so many bytes have been announced to a path, of which none is sent. Further headers end in
/// a line end.
fn open(server: &Server, path: &str, headers: &str, bytes: usize) -> Connection {
    let mut connection = server.connect();
    connection.write(&format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {bytes}\r\n\r\n",
        server.address
    ));
    connection
}

#[test]
fn a_body_above_the_limit_is_refused_and_changes_nothing() {
    let server = with_instance();
    let before = server.contents();
    let body = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX - 1));
    assert_eq!(body.len(), BODY_BYTES_MAX + 1);
    for base in SURFACES {
        let mut connection = announce(&server, base, "large", body.len());
        connection.write(&body);
        let answer = connection.answer();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (
                413,
                "{\"Message\":\"The payload is larger than the limit.\",\
                 \"ExceptionMessage\":\"at most 67108864 bytes are accepted\",\
                 \"ExceptionType\":\"System.ArgumentException\",\"StackTrace\":null}"
            )
        );
        assert_eq!(server.contents(), before);
    }
    let path = format!("/api/v1/hubs/{HUB}/instances");
    let answer = server.send("POST", &path, &[], &body);
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (413, &"payload-too-large".into())
    );
    assert_eq!(server.contents(), before);
}

/// More than the buffers between the two take, so that a server that reads none of it would reset the connection.
#[test]
fn a_body_that_nobody_wants_does_not_keep_its_sender_from_the_answer() {
    let server = with_instance();
    let body = "x".repeat(16 << 20);
    for base in SURFACES {
        for (path, status) in [
            (format!("{base}/nowhere"), 404),
            (format!("{base}/instances/nobody/terminate"), 404),
            (format!("{base}/instances/there/suspend"), 202),
            (format!("{base}/orchestrators/%ff"), 400),
            ("/nowhere".to_owned(), 404),
            ("/api/v1/nowhere".to_owned(), 404),
        ] {
            let mut connection = open(&server, &path, "", body.len());
            connection.write(&body);
            assert_eq!(connection.answer().status, status, "{path}");
        }
    }
}

/// The answer stands in the place of `100 Continue`, so nothing is sent in vain.
#[test]
fn a_sender_that_asks_first_is_refused_before_it_sends() {
    let server = with_instance();
    for (path, status) in [
        (format!("{}/orchestrators/Echo", SURFACES[0]), 413),
        (format!("{}/instances/nobody/resume", SURFACES[0]), 404),
        (format!("/api/v1/hubs/{HUB}/instances"), 413),
    ] {
        let connection = open(&server, &path, "expect: 100-continue\r\n", BODY_BYTES_MAX + 1);
        assert_eq!(connection.answer().status, status, "{path}");
    }
}

#[test]
fn a_body_that_comes_slowly_keeps_nobody_waiting_and_one_that_breaks_off_changes_nothing() {
    let server = with_instance();
    let before = server.contents();
    let text = "[\"slow\"]";
    for base in SURFACES {
        let id = base.rsplit('/').next().unwrap();
        let mut slow = announce(&server, base, id, text.len());
        slow.write(&text[..3]);
        let mut broken = announce(&server, base, "broken", text.len());
        broken.write(&text[..3]);
        broken.end();
        let answer = broken.answer();
        assert_eq!(answer.status, 400);
        let problem = answer.json();
        assert_eq!(problem["ExceptionMessage"], "the body of the request is incomplete");
        // Meanwhile others are served, and nothing of either is there.
        assert_eq!(server.contents(), before);
        slow.write(&text[3..]);
        assert_eq!(slow.answer().status, 202);
        server.wait(id, "ended");
        let status = server.call("GET", &format!("{base}/instances/{id}"));
        assert_eq!(status.json()["output"], serde_json::json!(["slow"]));
        assert_eq!(server.call("DELETE", &format!("{base}/instances/{id}")).status, 200);
    }
    assert_eq!(server.contents(), before);
}

#[test]
fn a_value_that_is_nested_too_deep_is_refused_wherever_it_comes_in() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let server = with_instance();
    let own = format!("/api/v1/hubs/{HUB}/instances");
    let json = [("content-type", "application/json")];
    for (levels, codes) in [(1_000, [400, 400]), (121, [400, 400]), (120, [202, 201])] {
        let value = nested(levels);
        for base in SURFACES {
            let answer = server.send("POST", &format!("{base}/orchestrators/Echo"), &[], &value);
            assert_eq!(answer.status, codes[0], "{levels} levels on {base}");
            let path = format!("{base}/instances/there/raiseEvent/Other");
            assert_eq!(server.send("POST", &path, &json, &value).status, codes[0]);
        }
        let body = format!("{{\"name\":\"Echo\",\"input\":{value}}}");
        let answer = server.send("POST", &own, &[], &body);
        assert_eq!(answer.status, codes[1], "{levels} levels: {answer:?}");
        let body = format!("{{\"name\":\"Other\",\"input\":{value}}}");
        let answer = server.send("POST", &format!("{own}/there/raise"), &[], &body);
        assert_eq!(answer.status == 200, levels == 120, "{answer:?}");
        if levels > 120 {
            assert_eq!(answer.json()["error"]["code"], "payload-too-deep");
            let told = format!("the payload is nested {levels} levels deep, and at most 120 are accepted");
            assert_eq!(answer.json()["error"]["message"], told);
        }
    }
}
