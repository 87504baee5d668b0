//! Values of queries: what was encoded in them belongs to them (H9).

use crate::support::{HUB, Running, SURFACES, config};

/// Ids that differ in blanks and in what follows them.
const IDS: [&str; 5] = ["Order%201", "Orders-1", "Order", "keep", "%20first"];

/// Starts `Echo` under each of the ids, and waits for the ends.
async fn ended(server: &Running) {
    for id in IDS {
        let path = format!("{}/orchestrators/Echo/{id}?timeout=60", SURFACES[0]);
        assert_eq!(server.call("POST", &path).await.status, 200, "{id}");
    }
}

/// Ids of a list, in alphabetical order.
async fn ids(server: &Running, path: &str) -> Vec<String> {
    let answer = server.call("GET", path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let json = answer.json();
    let rows = json.get("items").unwrap_or(&json).as_array().unwrap();
    let mut ids: Vec<String> = rows
        .iter()
        .map(|row| row["instanceId"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_blank_in_a_prefix_belongs_to_it() {
    for base in SURFACES {
        let server = Running::start(config()).await;
        ended(&server).await;
        for (prefix, found) in [
            ("Order%20", &["Order 1"][..]),
            ("Order+", &["Order 1"]),
            ("Order", &["Order", "Order 1", "Orders-1"]),
            ("%20", &[" first"]),
            ("%09", &[]),
            ("keep%0a", &[]),
        ] {
            let own = format!("/api/v1/hubs/{HUB}/instances?idPrefix={prefix}");
            assert_eq!(ids(&server, &own).await, found, "{prefix}");
            let path = format!("{base}/instances?instanceIdPrefix={prefix}");
            assert_eq!(ids(&server, &path).await, found, "{prefix}");
        }
        let purge = format!("{base}/instances?createdTimeFrom=2000-01-01&instanceIdPrefix=");
        let answer = server.call("DELETE", &format!("{purge}Order%20")).await;
        assert_eq!(answer.body, "{\"instancesDeleted\":1}");
        let answer = server.call("DELETE", &format!("{purge}%20")).await;
        assert_eq!(answer.body, "{\"instancesDeleted\":1}");
        assert_eq!(server.call("DELETE", &format!("{purge}%20")).await.status, 404);
        let left = ids(&server, &format!("{base}/instances")).await;
        assert_eq!(left, ["Order", "Orders-1", "keep"]);
    }
}

#[tokio::test]
async fn a_blank_in_a_name_belongs_to_it() {
    let server = Running::start(config()).await;
    server
        .call("POST", &format!("{}/orchestrators/Echo/e", SURFACES[0]))
        .await;
    for (name, found) in [("Echo", &["e"][..]), ("Echo%20", &[]), ("%20Echo", &[]), ("+", &[])] {
        for path in [
            format!("/api/v1/hubs/{HUB}/instances?name={name}"),
            format!("{}/instances?name={name}", SURFACES[1]),
        ] {
            assert_eq!(ids(&server, &path).await, found, "{path}");
        }
    }
}

#[tokio::test]
async fn blanks_of_a_reason_and_a_version_are_kept() {
    let server = Running::start(config()).await;
    for (at, base) in SURFACES.iter().enumerate() {
        let start = format!("{base}/orchestrators/WaitEvent/w{at}?version=%201.0+");
        assert_eq!(server.call("POST", &start).await.status, 202);
        let path = format!("{base}/instances/w{at}/terminate?reason=%20two%20spaces%20");
        assert_eq!(server.call("POST", &path).await.status, 202);
        let status = server.call("GET", &format!("{base}/instances/w{at}")).await.json();
        assert_eq!(status["output"], " two spaces ");
        let own = format!("/api/v1/hubs/{HUB}/instances/w{at}");
        assert_eq!(server.call("GET", &own).await.json()["version"], " 1.0 ");
    }
}

#[tokio::test]
async fn blanks_around_what_is_no_text_do_not_matter() {
    let server = Running::start(config()).await;
    ended(&server).await;
    let base = SURFACES[2];
    for query in [
        "top=%202+",
        "top=+2",
        "top=2&taskHub=%20",
        "top=2&taskHub=+&connection=+",
    ] {
        let found = ids(&server, &format!("{base}/instances?{query}")).await;
        assert_eq!(found.len(), 2, "{query}");
    }
    let path = format!("{base}/instances?showInput=%20false&runtimeStatus=%20completed");
    assert_eq!(ids(&server, &path).await.len(), IDS.len());
    let own = format!("/api/v1/hubs/{HUB}/instances?limit=%202");
    assert_eq!(ids(&server, &own).await.len(), 2);
}
