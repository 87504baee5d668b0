//! What the library makes of a server's client binding, against what the server itself says (H97).

use std::time::Duration;

use taskhub::{CheckStatus, CheckStatusResponse, ClientBinding, Hub, Instance, InstanceId};

use crate::support::{Running, SURFACES, config};

const WEBHOOK: &str = SURFACES[0];

/// A server whose hub knows of it.
async fn served() -> Running {
    let server = Running::start(config()).await;
    server
        .hub
        .set_client_binding(ClientBinding::parse(&server.binding).unwrap());
    server
}

fn header<'a>(response: &'a CheckStatusResponse, name: &str) -> Option<&'a str> {
    let found = response.headers.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn the_library_makes_the_links_that_the_server_gives_out() {
    let server = served().await;
    let started = server
        .call("POST", &format!("{WEBHOOK}/orchestrators/WaitEvent/order%2017"))
        .await;
    let id = InstanceId::new("order 17").unwrap();
    let payload = server.client().create_http_management_payload(&id).unwrap();
    assert_eq!(serde_json::to_string(&payload).unwrap(), started.body);
    let response = server.client().create_check_status_response(&id).unwrap();
    assert_eq!(response.status, 202);
    assert_eq!(response.body, started.body);
    for name in ["location", "retry-after", "content-type"] {
        assert_eq!(header(&response, name), started.header(name), "{name}");
    }
    let weak = server.client().downgrade();
    assert_eq!(
        weak.upgrade().unwrap().create_http_management_payload(&id).unwrap(),
        payload
    );
}

#[tokio::test]
async fn waiting_answers_with_output_status_or_links() {
    let server = served().await;
    let client = server.client();
    let now = |wait: CheckStatus| wait.timeout(Duration::ZERO).retry_interval(Duration::ZERO);
    let patient = |wait: CheckStatus| wait;
    let start = async |name: &str, input: &str| client.start_new(name, input).await.unwrap();
    let get = async |id: &Instance| server.call("GET", &format!("{WEBHOOK}/instances/{id}")).await.body;
    let wait = async |id: &Instance, times: fn(CheckStatus) -> CheckStatus| {
        let wait = client.wait_for_completion_or_create_check_status_response(id);
        times(wait).await.unwrap()
    };

    let done = start("HelloWorld", "Ada").await;
    let response = wait(&done, patient).await;
    assert_eq!((response.status, response.body.as_str()), (200, "\"Hello Ada!\""));
    assert_eq!(
        header(&response, "content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(header(&response, "location"), None);

    let failed = start("Fail", "broken").await;
    let response = wait(&failed, patient).await;
    assert_eq!(response.status, 500);
    assert_eq!(response.body, get(&failed).await);

    let endless = start("WaitEvent", "in").await;
    let response = wait(&endless, now).await;
    assert_eq!(response.status, 202);
    let payload = client.create_http_management_payload(&endless).unwrap();
    assert_eq!(
        header(&response, "location"),
        Some(payload.status_query_get_uri.as_str())
    );

    client.terminate(&endless).reason("enough, \"really\"").await.unwrap();
    let response = wait(&endless, now).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body, get(&endless).await);

    let nobody = InstanceId::new("nobody").unwrap();
    let waited = client.wait_for_completion_or_create_check_status_response(&nobody);
    assert_eq!(now(waited).await.unwrap_err().code(), "instance-not-found");
}

#[tokio::test]
async fn an_interval_above_the_wait_is_refused_before_anything_is_asked() {
    let server = served().await;
    let id = InstanceId::new("nobody").unwrap();
    let client = server.client();
    let waited = client
        .wait_for_completion_or_create_check_status_response(&id)
        .timeout(Duration::from_secs(2))
        .retry_interval(Duration::from_secs(3));
    let error = waited.await.unwrap_err();
    assert_eq!(error.code(), "invalid-argument");
    assert_eq!(
        error.to_string(),
        "Total timeout 2 should be bigger than retry timeout 3"
    );
}

#[tokio::test]
async fn an_activity_sends_the_links_of_its_instance_away() {
    let server = served().await;
    let start = server.client().start("AnnounceInstance", ()).id("announced");
    let id = start.await.unwrap();
    let sent: serde_json::Value = server.client().wait_for_completion(&id).await.unwrap();
    assert_eq!(sent["id"], "announced");
    let url = sent["payload"]["statusQueryGetUri"].as_str().unwrap();
    let path = &url[url.find(WEBHOOK).unwrap()..];
    assert_eq!(server.call("GET", path).await.json()["name"], "AnnounceInstance");
}

#[tokio::test]
async fn without_a_server_there_are_no_links() {
    let hub = Hub::builder("SampleHub").in_memory().await.unwrap();
    let id = InstanceId::new("i").unwrap();
    let refused = hub.client().create_http_management_payload(&id).unwrap_err();
    assert_eq!(refused.code(), "not-served");
}
