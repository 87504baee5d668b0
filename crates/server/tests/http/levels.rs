//! How deep JSON is nested in what the server shows: never deeper than all clients can read.

use taskhub_core::event::Tags;
use taskhub_core::id::{InstanceId, Name};
use taskhub_core::message::{Repeats, ReusePolicy, StartRequest};
use taskhub_core::payload::Payload;

use crate::support::{HUB, Running, SURFACES, config};

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// How deep an answer is nested itself.
fn levels(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or_default(),
        serde_json::Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or_default(),
        _ => 0,
    }
}

#[tokio::test]
async fn a_list_can_be_read_whatever_is_stored() {
    let server = Running::start(config()).await;
    // As a version without the limit may have stored it.
    let request = StartRequest {
        instance: InstanceId::new("deep").unwrap(),
        name: Name::new("Echo").unwrap(),
        version: None,
        input: Some(Payload::text(&nested(1_000))),
        tags: Tags::new(),
        scheduled_start: None,
        execution: None,
        reuse: ReusePolicy::default(),
        key: None,
        repeats: Repeats::default(),
    };
    server.hub.engine().start(request).await.unwrap();
    let start = format!("{}/orchestrators/WaitEvent/reason", SURFACES[0]);
    assert_eq!(server.send("POST", &start, &[], nested(120)).await.status, 202);
    let reason = nested(121).replace('[', "%5B").replace(']', "%5D");
    let path = format!("{}/instances/reason/terminate?reason={reason}", SURFACES[0]);
    assert_eq!(server.call("POST", &path).await.status, 202);
    for base in SURFACES {
        let list = server.call("GET", &format!("{base}/instances")).await.json();
        // The record and the list are two levels more.
        assert_eq!(levels(&list), 122);
        assert_eq!(list[0]["input"], nested(1_000));
        assert_eq!(list[1]["output"], nested(121));
        let path = format!("{base}/instances/reason?showHistory=true&showHistoryOutput=true");
        assert!(levels(&server.call("GET", &path).await.json()) <= 124);
    }
    let own = format!("/api/v1/hubs/{HUB}/instances?fields=input,output");
    let list = server.call("GET", &own).await.json();
    assert_eq!(list["items"][0]["input"], nested(1_000));
    assert!(levels(&list) <= 124);
}
