//! The border to browsers: every route, with every kind of key, host and origin, is answered as the rules say.
//!
//! The routes are read from the server's source, so that a new one without a line here fails the test.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::body::Bytes;
use taskhub_core::id::HubName;
use taskhub_server::{Config, Key, Limits};
use tokio::net::TcpStream;

use crate::support::{Answer, HUB, Running, SURFACES, config, exchange, request};

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Shows instances.
    Reads,
    /// Changes them.
    Changes,
    /// Needs the master key, and shows.
    ShowsAsMaster,
    /// Needs the master key, and changes.
    ChangesAsMaster,
}

use Kind::{Changes, ChangesAsMaster, Reads, ShowsAsMaster};

/// Routes of the management API: as the source has them, the method, the path behind the prefix, and what it does.
const MANAGEMENT: &[(&str, &str, &str, Kind)] = &[
    (
        r#"("POST", "orchestrators", [name]) if !name.is_empty()"#,
        "POST",
        "/orchestrators/Echo",
        Changes,
    ),
    (
        r#"("POST", "orchestrators", [name, instance]) if !name.is_empty()"#,
        "POST",
        "/orchestrators/Echo/x1",
        Changes,
    ),
    (r#"(_, "instances", rest)"#, "GET", "/instances", Reads),
    (r#"("GET", "entities", [_name, _key])"#, "GET", "/entities/a/b", Reads),
    (r#"("GET", "entities", [] | [_])"#, "GET", "/entities", Reads),
    (
        r#"("POST" | "DELETE", "entities", [_name, _key])"#,
        "POST",
        "/entities/a/b",
        Changes,
    ),
    (r#"(_, "makeprimary", [])"#, "POST", "/makeprimary", Changes),
    (
        r#"("GET", "clientbinding", [])"#,
        "GET",
        "/clientbinding",
        ShowsAsMaster,
    ),
    (
        r#"("DELETE", "taskhubs", [hub])"#,
        "DELETE",
        "/taskhubs/TestTaskHub",
        ChangesAsMaster,
    ),
    (r#"("GET", [], _)"#, "GET", "/instances", Reads),
    (
        r#"("DELETE", [], _)"#,
        "DELETE",
        "/instances?createdTimeFrom=2100-01-01",
        Changes,
    ),
    (r#"("GET", [_], _)"#, "GET", "/instances/x1", Reads),
    (r#"("DELETE", [_], _)"#, "DELETE", "/instances/none", Changes),
    (
        r#"("POST", [_, _, event], Some("raiseevent")) if !event.is_empty()"#,
        "POST",
        "/instances/none/raiseEvent/Go",
        Changes,
    ),
    (
        r#"("POST", [_, _], Some("terminate"))"#,
        "POST",
        "/instances/none/terminate",
        Changes,
    ),
    (
        r#"("POST", [_, _], Some("suspend"))"#,
        "POST",
        "/instances/none/suspend",
        Changes,
    ),
    (
        r#"("POST", [_, _], Some("resume"))"#,
        "POST",
        "/instances/none/resume",
        Changes,
    ),
    (
        r#"("POST", [_, _], Some("rewind"))"#,
        "POST",
        "/instances/none/rewind",
        Changes,
    ),
    (
        r#"("POST", [_, _], Some("restart"))"#,
        "POST",
        "/instances/none/restart",
        Changes,
    ),
];

/// Routes of the front door.
const FRONT_DOOR: &[(&str, &str, &str, Kind)] = &[
    (
        r#"("POST", "orchestrators", [name]) if !name.is_empty()"#,
        "POST",
        "/orchestrators/Echo",
        Changes,
    ),
    (
        r#"("POST", "orchestrators", [name, word]) if !name.is_empty() && word.eq_ignore_ascii_case("wait")"#,
        "POST",
        "/api/orchestrators/Echo/wait",
        Changes,
    ),
];

/// Routes of our own API.
const OWN: &[(&str, &str, &str, Kind)] = &[
    (r#"(&Method::GET, ["hubs"])"#, "GET", "/hubs", Reads),
    (
        r#"(&Method::DELETE, ["hubs", hub])"#,
        "DELETE",
        "/hubs/TestTaskHub",
        ChangesAsMaster,
    ),
    (
        r#"(&Method::GET, ["hubs", hub, "stats"])"#,
        "GET",
        "/hubs/TestTaskHub/stats",
        Reads,
    ),
    (
        r#"(&Method::GET, ["hubs", hub, "instances"])"#,
        "GET",
        "/hubs/TestTaskHub/instances",
        Reads,
    ),
    (
        r#"(&Method::POST, ["hubs", hub, "instances"])"#,
        "POST",
        "/hubs/TestTaskHub/instances",
        Changes,
    ),
    (
        r#"(&Method::POST, ["hubs", hub, "instances", "purge"])"#,
        "POST",
        "/hubs/TestTaskHub/instances/purge",
        Changes,
    ),
    (
        r#"(&Method::GET, ["hubs", hub, "instances", id])"#,
        "GET",
        "/hubs/TestTaskHub/instances/x1",
        Reads,
    ),
    (
        r#"(&Method::DELETE, ["hubs", hub, "instances", id])"#,
        "DELETE",
        "/hubs/TestTaskHub/instances/none",
        Changes,
    ),
    (
        r#"(&Method::GET, ["hubs", hub, "instances", id, "history"])"#,
        "GET",
        "/hubs/TestTaskHub/instances/x1/history",
        Reads,
    ),
    (
        r#"(&Method::GET, ["hubs", hub, "instances", id, "wait"])"#,
        "GET",
        "/hubs/TestTaskHub/instances/none/wait?timeout=0",
        Reads,
    ),
    (
        r#"(&Method::POST, ["hubs", hub, "instances", id, action])"#,
        "POST",
        "/hubs/TestTaskHub/instances/none/terminate",
        Changes,
    ),
];

/// The patterns of a `match` on methods and paths in a source file.
fn patterns<'s>(source: &'s str, begins: &[&str]) -> BTreeSet<&'s str> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = source.lines().map(str::trim).filter(|line| {
        let is_route = begins.iter().any(|begin| line.starts_with(begin));
        is_route && line.contains(" => ")
    });
    lines
        .map(|line| line.split(" => ").next().unwrap_or_default())
        .collect()
}

#[test]
fn every_route_of_the_source_is_in_the_tables() {
    let routes = include_str!("../../src/http/routes.rs");
    let known = |tables: &[&[(&'static str, &str, &str, Kind)]]| -> BTreeSet<&'static str> {
        tables
            .iter()
            .flat_map(|table| table.iter())
            .map(|(pattern, ..)| *pattern)
            .collect()
    };
    let words = ["(\"GET\"", "(\"POST\"", "(\"DELETE\"", "(_, \""];
    assert_eq!(patterns(routes, &words), known(&[MANAGEMENT, FRONT_DOOR]));
    let api = include_str!("../../src/http/api/mod.rs");
    assert_eq!(patterns(api, &["(&Method::"]), known(&[OWN]));
}

/// A door of the server, and whether it has rules of its own for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Webhook,
    Rpc,
    Front,
    Own,
    Metrics,
    /// Needs no key.
    Probe,
}

/// Everything that can be called.
fn calls() -> Vec<(Door, &'static str, String, Kind)> {
    let mut all = Vec::new();
    let mut add = |door, prefix: &str, table: &[(&str, &'static str, &str, Kind)]| {
        for (_, method, path, kind) in table {
            all.push((door, *method, format!("{prefix}{path}"), *kind));
        }
    };
    add(Door::Webhook, SURFACES[0], MANAGEMENT);
    add(Door::Webhook, SURFACES[1], MANAGEMENT);
    add(Door::Rpc, SURFACES[2], MANAGEMENT);
    add(Door::Front, "", FRONT_DOOR);
    add(Door::Own, "/api/v1", OWN);
    for probe in ["/healthz", "/readyz", "/", "/nowhere"] {
        add(Door::Probe, "", &[("", "GET", probe, Reads)]);
    }
    add(Door::Probe, "", &[("", "POST", "/nowhere", Changes)]);
    add(Door::Metrics, "", &[("", "GET", "/metrics", Reads)]);
    all
}

const KEYS: [Option<&str>; 5] = [None, Some("wrong"), Some("elsewhere"), Some("system"), Some("master")];
const HOSTS: [&[&str]; 5] = [&["own"], &["localhost"], &["evil.example"], &[], &["own", "own"]];
const ORIGINS: [&[(&str, &str)]; 12] = [
    &[],
    &[("origin", "own")],
    &[("origin", "https://app.example")],
    &[("origin", "http://evil.example")],
    &[("origin", "null")],
    &[("origin", "own"), ("sec-fetch-site", "same-site")],
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
    &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")],
    &[
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "iframe"),
    ],
    &[
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ],
    &[("sec-fetch-site", "same-origin"), ("origin", "own")],
];

/// The status that the rules ask for; absent if the call comes through to what it is about.
fn ruled(
    has_keys: bool,
    (door, path, kind): (Door, &str, Kind),
    key: Option<&str>,
    hosts: &[&str],
    origin: &[(&str, &str)],
) -> Option<u16> {
    if hosts.len() != 1 {
        return Some(400);
    }
    let changes = matches!(kind, Changes | ChangesAsMaster);
    let is_listed = origin.contains(&("origin", "https://app.example"));
    // The own origin is that of the host that was called, whatever it is.
    let is_page_of_host = |value: &str| value == "own" || value.strip_prefix("http://") == hosts.first().copied();
    let is_foreign = origin.iter().any(|(name, value)| match *name {
        "origin" => !is_page_of_host(value),
        "sec-fetch-site" => *value != "same-origin",
        _ => false,
    });
    let is_foreign_site = origin
        .iter()
        .any(|(_, value)| ["same-site", "cross-site"].contains(value));
    let is_read_behind_the_back = is_foreign_site
        && !origin.contains(&("sec-fetch-dest", "document"))
        && !["/healthz", "/readyz"].contains(&path);
    if (changes && is_foreign || is_read_behind_the_back) && !is_listed {
        return Some(403);
    }
    let is_foreign_host = hosts == ["evil.example"];
    if !has_keys || door == Door::Probe {
        return is_foreign_host.then_some(421);
    }
    if door == Door::Front {
        return Some(404);
    }
    match key {
        None | Some("wrong") => Some(401),
        Some("master") => None,
        _ if matches!(kind, ShowsAsMaster | ChangesAsMaster) => Some(401),
        // What is about no one hub opens with any key.
        Some("elsewhere") if door != Door::Metrics && path != "/api/v1/hubs" => Some(403),
        Some(_) => None,
    }
}

async fn called(
    server: &Running,
    call: &(Door, &'static str, String, Kind),
    key: Option<&str>,
    hosts: &[&str],
    origin: &[(&str, &str)],
) -> Answer {
    let (door, method, path, _) = call;
    let own = server.address.to_string();
    let host = |host: &str| if host == "own" { own.clone() } else { host.to_owned() };
    let path = match key {
        // The RPC surface takes it in its path.
        Some(key) if *door == Door::Rpc => path.replacen("/durabletask", &format!("/durabletask/~{key}"), 1),
        _ => path.clone(),
    };
    let mut headers: Vec<(&str, String)> = hosts.iter().map(|name| ("host", host(name))).collect();
    for (name, value) in origin {
        let page = format!("http://{}", host(hosts.first().unwrap_or(&"own")));
        headers.push((name, if *value == "own" { page } else { (*value).to_owned() }));
    }
    if *door == Door::Own && *method == "POST" {
        headers.push(("content-type", "application/json".to_owned()));
    }
    if let Some(key) = key {
        headers.push(("x-functions-key", key.to_owned()));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = Bytes::from(if *door == Door::Own && *method == "POST" {
        "{}"
    } else {
        ""
    });
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut request = request(server.address, method, &path, &headers, body);
    if hosts.is_empty() {
        request.headers_mut().remove("host");
    }
    exchange(stream, request).await
}

#[tokio::test]
async fn every_route_is_answered_as_the_rules_say_to_whoever_calls() {
    let listed = || Config {
        cors: vec!["https://app.example".to_owned()],
        limits: Limits {
            key_delay: Duration::ZERO,
            ..Limits::default()
        },
        ..config()
    };
    let open = Running::start(listed()).await;
    let keyed = Running::start(Config {
        keys: vec![
            Key::system("system"),
            Key::system("elsewhere").for_hub(HubName::new("OtherHub").unwrap()),
            Key::master("master"),
        ],
        ..listed()
    })
    .await;
    let mut count = 0;
    for call in calls() {
        for hosts in HOSTS {
            for origin in ORIGINS {
                for key in KEYS {
                    let servers: &[(bool, &Running)] = match key {
                        None => &[(false, &open), (true, &keyed)],
                        Some(_) => &[(true, &keyed)],
                    };
                    for (has_keys, server) in servers {
                        let told = || format!("{call:?}, keys {has_keys}, key {key:?}, host {hosts:?}, {origin:?}");
                        let answer = called(server, &call, key, hosts, origin).await;
                        let ruled = ruled(*has_keys, (call.0, &call.2, call.3), key, hosts, origin);
                        let status = answer.status.as_u16();
                        match ruled {
                            Some(ruled) => assert_eq!(status, ruled, "{}", told()),
                            None => assert!(![401, 403, 421].contains(&status), "{status}: {}", told()),
                        }
                        let is_shown = answer.header("access-control-allow-origin");
                        let is_listed = origin.contains(&("origin", "https://app.example")) && hosts.len() == 1;
                        assert_eq!(is_shown, is_listed.then_some("https://app.example"), "{}", told());
                        let policy = if is_listed { "cross-origin" } else { "same-origin" };
                        assert_eq!(
                            answer.header("cross-origin-resource-policy"),
                            Some(policy),
                            "{}",
                            told()
                        );
                        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{}", told());
                        count += 1;
                    }
                }
            }
        }
    }
    assert!(count > 15_000, "{count}");
}

#[tokio::test]
async fn the_server_answers_to_its_own_names_alone() {
    let named = Config {
        public_url: Some("https://hub.example.org".to_owned()),
        allow_hosts: vec!["taskhub".to_owned(), "Other.example:81".to_owned()],
        ..config()
    };
    let server = Running::start(named).await;
    let port = server.address.port();
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST.", 200),
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("127.8.9.1:7071", 200),
        ("[::1]:7071", 200),
        ("[::ffff:127.0.0.1]", 200),
        ("hub.example.org", 200),
        ("hub.example.org:8080", 200),
        ("taskhub:9", 200),
        ("other.example:81", 200),
        ("other.example", 421),
        ("evil.example", 421),
        (&format!("evil.example:{port}"), 421),
        ("localhost.evil.example", 421),
        ("evil-localhost", 421),
        ("127.0.0.1.evil.example", 421),
        ("0.0.0.0", 421),
        ("0", 421),
        ("127.1", 421),
        ("2130706433", 421),
        ("0x7f000001", 421),
        ("10.0.0.1", 421),
        ("169.254.169.254", 421),
        ("[fe80::1]", 421),
        ("", 400),
        ("a b", 400),
        ("user@localhost", 400),
        ("user:secret@localhost", 400),
        ("localhost:", 200),
        ("localhost:x", 400),
        ("localhost:65536", 400),
        ("localhost/", 400),
        ("localhost,localhost", 400),
    ] {
        let answer = server.send("GET", "/healthz", &[("host", host)], "").await;
        assert_eq!(answer.status.as_u16(), status, "{host}: {}", answer.body);
    }
    let absolute = async |url: &str, host: &str| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let request = request(server.address, "GET", url, &[("host", host)], Bytes::new());
        exchange(stream, request).await.status.as_u16()
    };
    assert_eq!(absolute("http://localhost/healthz", "localhost").await, 200);
    assert_eq!(absolute("http://evil.example/healthz", "localhost").await, 421);
    assert_eq!(absolute("http://localhost/healthz", "evil.example").await, 421);
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_do_what_programs_may() {
    let server = Running::start(Config {
        cors: vec!["https://App.example:8443/".to_owned()],
        ..config()
    })
    .await;
    let path = format!("{}/orchestrators/Echo", SURFACES[0]);
    let asked = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-private-network", "true"),
        ]
    };
    let answer = server
        .send("OPTIONS", &path, &asked("https://app.example:8443"), "")
        .await;
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example:8443"),
        ("access-control-allow-methods", "GET, POST, DELETE"),
        ("access-control-allow-private-network", "true"),
        ("vary", "origin"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("x-functions-key") && allowed.contains("content-type"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    for other in [
        "https://app.example",
        "http://app.example:8443",
        "https://evil.example",
        "null",
    ] {
        let answer = server.send("OPTIONS", &path, &asked(other), "").await;
        assert_eq!(answer.status, 404, "{other}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{other}");
        let answer = server.send("POST", &path, &[("origin", other)], "").await;
        assert_eq!(answer.status, 403, "{other}");
        assert_eq!(answer.json()["error"]["code"], "origin-not-allowed");
    }
    let answer = server
        .send("POST", &path, &[("origin", "https://app.example:8443")], "")
        .await;
    assert_eq!(answer.status, 202);
    assert!(
        answer
            .header("access-control-expose-headers")
            .unwrap()
            .contains("location")
    );
    let foreign_host = [
        ("host", "evil.example"),
        asked("https://app.example:8443")[0],
        asked("")[1],
    ];
    assert_eq!(server.send("OPTIONS", &path, &foreign_host, "").await.status, 421);
}

#[tokio::test]
async fn our_own_api_takes_json_that_says_so() {
    let server = Running::start(config()).await;
    let purge = format!("/api/v1/hubs/{HUB}/instances/purge");
    let terminate = format!("/api/v1/hubs/{HUB}/instances/none/terminate");
    for (media, status) in [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/json ; charset=utf-8", 200),
        ("text/plain", 415),
        ("text/plain;application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("", 415),
    ] {
        let answer = server
            .send("POST", &purge, &[("content-type", media)], r#"{"all":true}"#)
            .await;
        assert_eq!(answer.status.as_u16(), status, "{media}: {}", answer.body);
        let answer = server.send("POST", &terminate, &[("content-type", media)], "").await;
        assert_eq!(answer.status.as_u16(), if status == 200 { 404 } else { 415 }, "{media}");
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut untyped = request(server.address, "POST", &purge, &[], r#"{"all":true}"#.into());
    untyped.headers_mut().remove("content-type");
    let answer = exchange(stream, untyped).await;
    assert_eq!(answer.status, 415);
    assert!(
        answer
            .body
            .contains("needs the header `Content-Type: application/json`"),
        "{}",
        answer.body
    );
    assert_eq!(server.call("POST", &terminate).await.status, 404);
}

#[tokio::test]
async fn links_carry_a_system_key_and_a_host_of_the_server() {
    let keys = vec![
        Key::system("system"),
        Key::system("second"),
        Key::system("reader").read_only(),
        Key::master("master"),
    ];
    let server = Running::start(Config { keys, ..config() }).await;
    let own = server.address.to_string();
    let location = async |path: &str, headers: &[(&str, &str)]| {
        let method = if path.contains("/orchestrators/") {
            "POST"
        } else {
            "GET"
        };
        let answer = server.send(method, path, headers, "").await;
        assert_eq!(answer.status, 202, "{path}");
        for secret in ["master", "second", "evil", "secret@"] {
            let texts = [answer.body.as_str(), answer.header("location").unwrap()];
            assert!(texts.iter().all(|text| !text.contains(secret)), "{secret}: {answer:?}");
        }
        answer.header("location").unwrap().to_owned()
    };
    for (number, base) in SURFACES.iter().enumerate() {
        let prefix = |key: &str| {
            if number == 2 {
                format!("{base}/~{key}")
            } else {
                (*base).to_owned()
            }
        };
        for (place, key) in ["system", "second", "master"].into_iter().enumerate() {
            let path = format!("{}/orchestrators/WaitEvent/x{number}{place}?CODE={key}", prefix(key));
            let link = location(&path, &[("host", "evil.example")]).await;
            assert!(
                link.starts_with(&format!("http://{own}/")) && link.ends_with("&code=system"),
                "{link}"
            );
            let path = format!(
                "{}/instances/x{number}{place}?showInput=false&Code={key}&c%6Fde=x",
                prefix(key)
            );
            let link = location(&path, &[("host", "localhost:9"), ("x-functions-key", key)]).await;
            assert!(
                link.starts_with("http://localhost:9/") && link.contains("?showInput=false&code=system"),
                "{link}"
            );
            // The link works.
            let path = link.strip_prefix("http://localhost:9").unwrap();
            assert_eq!(server.call("GET", path).await.status, 202, "{path}");
        }
    }
    // What begins with the sign of the key is an id there.
    for (number, base) in SURFACES.iter().enumerate() {
        let prefix = if number == 2 {
            format!("{base}/~second")
        } else {
            (*base).to_owned()
        };
        let id = format!("~id{number}");
        location(&format!("{prefix}/orchestrators/WaitEvent/{id}?code=second"), &[]).await;
        let link = location(&format!("{prefix}/instances/{id}?code=second"), &[]).await;
        assert!(link.contains(&format!("/instances/{id}?code=system")), "{link}");
    }
    let absolute = "http://user:secret@localhost/runtime/webhooks/durabletask/orchestrators/WaitEvent?code=second";
    let link = location(absolute, &[("host", "localhost")]).await;
    assert!(link.starts_with("http://localhost/"), "{link}");
    let link = location(&format!("{}/instances/x00?code=reader", SURFACES[0]), &[]).await;
    assert!(
        link.ends_with("?code=reader"),
        "a reader gets no key that opens more: {link}"
    );
}
