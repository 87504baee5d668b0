//! Who may call: keys on each surface, the RPC surface, the front door (H30–H33, H96, A17).

use std::time::Duration;

use taskhub_server::{Config, Key, Limits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Running, SURFACES, config};

const WEBHOOK: &str = SURFACES[0];
const RPC: &str = SURFACES[2];

fn with_keys() -> Config {
    Config {
        keys: vec![
            Key::system("old-key"),
            Key::system("new&key"),
            Key::system("reader").read_only(),
            Key::master("master"),
        ],
        rpc_open_loopback: Some(true),
        ..config()
    }
}

#[tokio::test]
async fn both_webhook_surfaces_need_a_key_before_anything_else() {
    let server = Running::start(with_keys()).await;
    for base in &SURFACES[..2] {
        for path in [
            "/instances/x",
            "/no/such/route",
            "/instances/%ff",
            "/instances?taskHub=1",
            "/instances?reason=%ff",
        ] {
            let sep = if path.contains('?') { '&' } else { '?' };
            for (query, headers) in [
                (String::new(), vec![]),
                (format!("{sep}code=wrong"), vec![]),
                (String::new(), vec![("x-functions-key", "wrong")]),
            ] {
                let answer = server.send("GET", &format!("{base}{path}{query}"), &headers, "").await;
                assert_eq!(answer.status, 401, "{base}{path}{query}");
                assert_eq!(answer.body, "");
            }
        }
        for query in ["code=old-key&reason=%ff", "%ff=1&code=old-key"] {
            let answer = server.call("GET", &format!("{base}/instances?{query}")).await;
            assert_eq!(answer.status, 400, "the key is right, {query} is not");
        }
        for key in ["old-key", "new%26key", "reader", "master"] {
            let answer = server.call("GET", &format!("{base}/instances?code={key}")).await;
            assert_eq!(answer.status, 200, "{key}");
        }
        let path = format!("{base}/instances");
        let answer = server.send("GET", &path, &[("x-functions-key", "new&key")], "").await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_key_may_have_any_letters_wherever_it_is_presented() {
    let server = Running::start(Config {
        keys: vec![Key::system("Schlüssel")],
        ..config()
    })
    .await;
    for path in [
        format!("{WEBHOOK}/instances"),
        "/api/v1/hubs".to_owned(),
        "/metrics".to_owned(),
    ] {
        let answer = server.send("GET", &path, &[("x-functions-key", "Schlüssel")], "").await;
        assert_eq!(answer.status, 200, "{path}");
        let answer = server.call("GET", &format!("{path}?code=Schl%C3%BCssel")).await;
        assert_eq!(answer.status, 200, "{path}");
        let answer = server.send("GET", &path, &[("x-functions-key", "Schlussel")], "").await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let path = format!("{RPC}/~Schl%C3%BCssel/instances");
    assert_eq!(server.call("GET", &path).await.status, 200);
}

#[tokio::test]
async fn links_carry_a_system_key_whatever_was_presented() {
    let server = Running::start(with_keys()).await;
    let answer = server
        .call("POST", &format!("{WEBHOOK}/orchestrators/Echo?code=new%26key"))
        .await;
    let location = answer.header("location").unwrap().to_owned();
    assert!(
        location.ends_with("?taskHub=TestTaskHub&connection=Storage&code=old-key"),
        "{location}"
    );
    let path = location.split_once("7.0.0.1").unwrap().1;
    let path = &path[path.find('/').unwrap()..];
    assert!(server.call("GET", path).await.status.is_success());
    let local = server.call("POST", &format!("{RPC}/orchestrators/Echo")).await;
    assert!(local.header("location").unwrap().ends_with("&code=old-key"));
}

#[tokio::test]
async fn a_reading_key_reads_and_a_hub_key_opens_its_hub() {
    let hub = taskhub_core::id::HubName::new("OtherHub").unwrap();
    let mut config = with_keys();
    config.keys.push(Key::system("elsewhere").for_hub(hub.clone()));
    config.keys.push(Key::master("other-master").for_hub(hub));
    let server = Running::start(config).await;
    let code = async |method: &str, path: &str| server.call(method, &format!("{WEBHOOK}{path}")).await.status.as_u16();
    assert_eq!(code("GET", "/instances?code=reader").await, 200);
    assert_eq!(code("POST", "/orchestrators/Echo?code=reader").await, 403);
    assert_eq!(code("GET", "/instances?code=elsewhere").await, 403);
    assert_eq!(code("GET", "/instances?code=elsewhere&taskHub=otherhub").await, 200);
    assert_eq!(code("GET", "/clientbinding?code=old-key").await, 401);
    for query in ["", "&taskHub=OtherHub"] {
        let path = format!("/taskhubs/TestTaskHub?confirm=TestTaskHub&code=other-master{query}");
        assert_eq!(code("DELETE", &path).await, 403, "{path}");
    }
    assert_eq!(
        server.call("GET", "/api/v1/hubs?code=elsewhere").await.body,
        r#"{"items":[],"cursor":null}"#
    );
    assert_eq!(
        code("DELETE", "/taskhubs/TestTaskHub?confirm=TestTaskHub&code=old-key").await,
        401
    );
    assert_eq!(
        code("DELETE", "/taskhubs/TestTaskHub?confirm=TestTaskHub&code=master").await,
        200
    );
}

#[tokio::test]
async fn the_rpc_surface_takes_a_key_in_its_path_where_it_is_not_open() {
    let closed = Config {
        rpc_open_loopback: Some(false),
        ..with_keys()
    };
    let server = Running::start(closed).await;
    let code = async |path: &str| server.call("GET", path).await.status.as_u16();
    assert_eq!(code("/durabletask/instances/").await, 401);
    assert_eq!(code("/durabletask/~wrong/instances/").await, 401);
    assert_eq!(code("/durabletask/~old-key/instances/").await, 200);
    assert_eq!(code("/durabletask/~new%26key/@TestTaskHub/instances/").await, 200);
    let without_keys = Config {
        rpc_open_loopback: Some(false),
        ..config()
    };
    let server = Running::start(without_keys).await;
    assert_eq!(server.call("GET", "/durabletask/instances/").await.status, 404);
}

#[tokio::test]
async fn the_front_door_is_closed_where_there_are_keys_unless_it_is_opened() {
    let path = "/orchestrators/Echo";
    assert_eq!(Running::start(with_keys()).await.call("POST", path).await.status, 404);
    let open = Config {
        front_door: Some(true),
        ..with_keys()
    };
    let server = Running::start(open).await;
    assert_eq!(server.call("POST", path).await.status, 401);
    assert_eq!(server.call("POST", &format!("{path}?code=old-key")).await.status, 202);
    let shut = Config {
        front_door: Some(false),
        ..config()
    };
    assert_eq!(Running::start(shut).await.call("POST", path).await.status, 404);
}

#[tokio::test]
async fn the_client_binding_holds_what_client_libraries_need() {
    let server = Running::start(with_keys()).await;
    let answer = server
        .call("GET", &format!("{WEBHOOK}/clientbinding?code=master"))
        .await;
    assert_eq!(answer.status, 200);
    let origin = format!("http://{}", server.address);
    let query = "taskHub=TestTaskHub&connection=Storage&code=old-key";
    let binding = answer.json();
    assert_eq!(binding["taskHubName"], "TestTaskHub");
    let urls = &binding["managementUrls"];
    assert_eq!(urls["id"], "INSTANCEID");
    assert_eq!(
        urls["statusQueryGetUri"],
        format!("{origin}{WEBHOOK}/instances/INSTANCEID?{query}")
    );
    let create = format!("{origin}{WEBHOOK}/orchestrators/{{functionName}}[/{{instanceId}}]");
    assert_eq!(
        binding["creationUrls"]["createNewInstancePostUri"],
        format!("{create}?{query}")
    );
    let wait = "timeout={timeoutInSeconds}&pollingInterval={intervalInSeconds}";
    assert_eq!(
        binding["creationUrls"]["createAndWaitOnNewInstancePostUri"],
        format!("{create}?{wait}&{query}")
    );
    assert_eq!(binding["baseUrl"], format!("{origin}{WEBHOOK}"));
    assert_eq!(binding["requiredQueryStringParameters"], query);
    assert_eq!(binding["rpcBaseUrl"], format!("{origin}/durabletask/"));
    let members: Vec<&str> = answer.body.matches("Uri\":").collect();
    assert_eq!(members.len(), 10);
    assert!(!answer.body.contains("master"));
}

#[tokio::test]
async fn our_own_api_takes_a_key_in_any_of_three_places() {
    let server = Running::start(with_keys()).await;
    let path = "/api/v1/hubs/TestTaskHub/instances";
    let denied = server.call("GET", path).await;
    assert_eq!(
        (denied.status.as_u16(), denied.json()["error"]["code"].as_str()),
        (401, Some("not-authenticated"))
    );
    for headers in [("x-functions-key", "reader"), ("authorization", "Bearer reader")] {
        assert_eq!(server.send("GET", path, &[headers], "").await.status, 200);
    }
    assert_eq!(server.call("GET", &format!("{path}?code=reader")).await.status, 200);
    assert_eq!(server.call("GET", &format!("{path}?name=%ff")).await.status, 401);
    let broken = server.call("GET", &format!("{path}?name=%ff&code=reader")).await;
    assert_eq!(
        (broken.status.as_u16(), broken.json()["error"]["message"].as_str()),
        (400, Some("the query is not valid UTF-8"))
    );
    let body = r#"{"name":"Echo"}"#;
    let denied = server.send("POST", &format!("{path}?code=reader"), &[], body).await;
    assert_eq!(
        (denied.status.as_u16(), denied.json()["error"]["code"].as_str()),
        (403, Some("not-allowed"))
    );
    assert_eq!(
        server
            .send("POST", &format!("{path}?code=old-key"), &[], body)
            .await
            .status,
        201
    );
    let delete = "/api/v1/hubs/TestTaskHub?confirm=TestTaskHub";
    assert_eq!(
        server.call("DELETE", &format!("{delete}&code=old-key")).await.status,
        401
    );
    assert_eq!(
        server.call("DELETE", &format!("{delete}&code=master")).await.status,
        200
    );
}

#[tokio::test]
async fn figures_need_a_key_and_health_does_not() {
    let server = Running::start(with_keys()).await;
    let code = async |path: &str| server.call("GET", path).await.status.as_u16();
    assert_eq!(code("/metrics").await, 401);
    assert_eq!(code("/metrics?code=old-key").await, 200);
    assert_eq!((code("/healthz").await, code("/readyz").await), (200, 200));
}

#[tokio::test]
async fn keys_are_not_guessed_any_faster_than_they_are_waited_with() {
    let limits = Limits {
        // So long that nobody waits for its end.
        key_delay: Duration::from_hours(1),
        ..Limits::default()
    };
    let server = Running::start(Config { limits, ..with_keys() }).await;
    let path = format!("{WEBHOOK}/instances");
    assert_eq!(server.call("GET", &format!("{path}?code=reader")).await.status, 200);
    for number in 0..10 {
        let answer = server.call("GET", &format!("{path}?code=guess{number}")).await;
        assert_eq!(answer.status, 401, "{number}");
    }
    // From now on a right one is not told from a wrong one, on any surface; ten wait.
    let mut waiting = Vec::new();
    for (number, path) in [
        format!("{path}?code=guess"),
        format!("{path}?code=old-key"),
        "/api/v1/hubs?code=old-key".to_owned(),
        "/metrics?code=guess".to_owned(),
        format!("{RPC}/~old-key/instances"),
    ]
    .iter()
    .cycle()
    .take(10)
    .enumerate()
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push((number, stream));
    }
    // When all of them wait, the next is turned away; one that came before them waits itself, and is given up.
    let next = format!("{path}?code=master");
    let is_turned_away = async || {
        let answer = timeout(Duration::from_millis(200), server.call("GET", &next)).await;
        answer.is_ok_and(|answer| answer.status == 429)
    };
    while !is_turned_away().await {}
    // Who is known from here, or presents no key, notices nothing.
    assert_eq!(server.call("GET", &format!("{path}?code=reader")).await.status, 200);
    assert_eq!(server.call("GET", "/healthz").await.status, 200);
    assert_eq!(server.call("GET", &path).await.status, 401);
    assert_eq!(server.call("GET", &format!("{RPC}/instances")).await.status, 200);
}
