//! The table of states and operations, every cell on every prefix.

use taskhub::InstanceId;

use crate::support::{Answer, Running, SURFACES, config, exchange, request};

/// The operations, in the order of the table; `{id}` is the instance.
const OPERATIONS: [(&str, &str); 10] = [
    ("POST", "/orchestrators/Echo/{id}?scheduledStartTime=2999-01-01"),
    ("GET", "/instances/{id}"),
    ("POST", "/instances/{id}/raiseEvent/Unheard"),
    ("POST", "/instances/{id}/terminate?reason=r"),
    ("POST", "/instances/{id}/suspend?reason=r"),
    ("POST", "/instances/{id}/resume?reason=r"),
    ("POST", "/instances/{id}/rewind?reason=r"),
    ("POST", "/instances/{id}/restart"),
    ("DELETE", "/instances/{id}"),
    ("DELETE", "/instances?createdTimeFrom=0001-01-01&instanceIdPrefix={id}"),
];

/// The state an instance is in after an operation that had an effect.
fn state_after(operation: usize, before: &str) -> Option<&'static str> {
    match (operation, before) {
        // A start replaces it by one that waits for its moment.
        (0, _) | (2, "Pending") => Some("Pending"),
        // What is suspended here was so after its first turn.
        (2 | 5, "Running") | (5, "Suspended") => Some("Running"),
        (3, _) => Some("Terminated"),
        (4, _) => Some("Suspended"),
        (8 | 9, _) => None,
        _ => panic!("the table says that operation {operation} changes an instance that is {before}"),
    }
}

/// Makes an instance that is in a state.
async fn bring_about(server: &Running, base: &str, state: &str, id: &str) {
    let start = async |name: &str, query: &str| {
        let path = format!("{base}/orchestrators/{name}/{id}{query}");
        assert_eq!(server.call("POST", &path).await.status, 202, "{path}");
    };
    let control = async |verb: &str| {
        let path = format!("{base}/instances/{id}/{verb}");
        assert_eq!(server.call("POST", &path).await.status, 202, "{path}");
    };
    let client = server.client();
    let instance = InstanceId::new(id).unwrap();
    match state {
        "missing" => {}
        "Pending" => start("Echo", "?scheduledStartTime=2999-01-01").await,
        "Completed" => {
            start("Echo", "").await;
            client.wait_for_end(&instance).await.unwrap();
        }
        "Failed" => {
            start("Fail", "").await;
            client.wait_for_end(&instance).await.unwrap();
        }
        "Running" | "Suspended" | "Terminated" => {
            start("WaitEvent", "").await;
            client.wait_for_start(&instance).await.unwrap();
            match state {
                "Suspended" => control("suspend").await,
                "Terminated" => control("terminate").await,
                _ => {}
            }
        }
        _ => panic!("{state}"),
    }
}

fn state_in(answer: &Answer) -> Option<String> {
    if answer.status == 404 {
        return None;
    }
    let status = answer.json();
    Some(status["runtimeStatus"].as_str().unwrap().to_owned())
}

/// What every answer of an operation must look like.
fn check_form(operation: usize, answer: &Answer, place: &str) {
    let status = answer.status.as_u16();
    let has_body = match (operation, status) {
        (_, 400..) if [409, 412, 501].contains(&status) => true,
        (0 | 1 | 8 | 9, 200..=299) => true,
        _ => false,
    };
    let kind = answer.header("content-type");
    assert_eq!(kind, has_body.then_some("application/json; charset=utf-8"), "{place}");
    assert_eq!(answer.body.is_empty(), !has_body, "{place}");
    let retry_after = match (operation, status) {
        (0, 202) => Some("10"),
        (1, 202) => Some("5"),
        _ => None,
    };
    assert_eq!(answer.header("retry-after"), retry_after, "{place}");
    assert_eq!(answer.header("location").is_some(), retry_after.is_some(), "{place}");
}

#[tokio::test]
async fn every_cell_of_the_table() {
    let server = Running::start(config()).await;
    let table = include_str!("cases/states.txt");
    let mut cells = 0;
    for (index, base) in SURFACES.into_iter().enumerate() {
        for row in table.lines().filter(|line| !line.starts_with('#')) {
            let (state, expected) = row.split_once('|').unwrap();
            let state = state.trim();
            let expected: Vec<&str> = expected.split('|').map(str::trim).collect();
            assert_eq!(expected.len(), OPERATIONS.len());
            for (operation, (cell, (method, path))) in expected.iter().zip(OPERATIONS).enumerate() {
                let id = format!("{state}-{operation}-{index}-");
                bring_about(&server, base, state, &id).await;
                let path = format!("{base}{}", path.replace("{id}", &id));
                let answer = server.call(method, &path).await;
                let place = format!("{method} {path} on {state}: {answer:?}");
                let (code, is_without_effect) = match cell.split_once(' ') {
                    Some((code, "=")) => (code, true),
                    _ => (*cell, false),
                };
                assert_eq!(answer.status.as_str(), code, "{place}");
                check_form(operation, &answer, &place);
                let after = state_in(&server.call("GET", &format!("{base}/instances/{id}")).await);
                let unchanged = (state != "missing").then(|| state.to_owned());
                let is_change = operation != 1 && !is_without_effect && (state != "missing" || operation == 0);
                let wanted = if is_change {
                    state_after(operation, state).map(str::to_owned)
                } else {
                    unchanged
                };
                assert_eq!(after, wanted, "afterwards, {place}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 3 * 7 * 10);
}

#[tokio::test]
async fn of_two_quick_terminates_the_second_is_too_late() {
    let server = Running::start(config()).await;
    let [base, ..] = SURFACES;
    bring_about(&server, base, "Running", "i").await;
    let path = format!("{base}/instances/i/terminate");
    let (one, other) = tokio::join!(server.call("POST", &path), server.call("POST", &path));
    let mut codes = [one.status.as_u16(), other.status.as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [202, 410]);
}

/// S-singleton-race: of many starts that race on an id one wins, and the others hear who did.
#[tokio::test]
async fn s_singleton_race() {
    const RACERS: usize = 50;
    let server = Running::start(config()).await;
    let address = server.address;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..RACERS {
        racers.spawn(async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let path = format!("{}/orchestrators/WaitEvent/same", SURFACES[2]);
            exchange(stream, request(address, "POST", &path, &[], bytes::Bytes::new())).await
        });
    }
    let answers = racers.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
    assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
    assert!(lost.iter().all(|answer| answer.status == 409), "{lost:?}");
    assert_eq!(server.client().get_status_all().await.unwrap().len(), 1);
}

/// S-purge-filter: a purge takes what its filter says, counts it, and takes nothing that lives.
#[tokio::test]
async fn s_purge_filter() {
    let server = Running::start(config()).await;
    let base = SURFACES[0];
    for (id, state) in [
        ("a-1", "Completed"),
        ("a-2", "Failed"),
        ("a-3", "Terminated"),
        ("a-4", "Running"),
        ("b-1", "Completed"),
    ] {
        bring_about(&server, base, state, id).await;
    }
    let purge = async |query: &str| {
        let path = format!("{base}/instances?createdTimeFrom=2000-01-01{query}");
        let answer = server.call("DELETE", &path).await;
        (answer.status.as_u16(), answer.body)
    };
    let left = async || {
        let rows = server.client().get_status_all().await.unwrap();
        let ids: Vec<String> = rows.iter().map(|row| row.instance.to_string()).collect();
        ids.join(" ")
    };
    let gone = |count: u32| (200, format!("{{\"instancesDeleted\":{count}}}"));
    assert_eq!(purge("&createdTimeTo=2001-01-01").await, (404, String::new()));
    assert_eq!(left().await, "a-1 a-2 a-3 a-4 b-1");
    assert_eq!(
        purge("&instanceIdPrefix=a-&runtimeStatus=failed,Terminated,Running").await,
        gone(2)
    );
    assert_eq!(left().await, "a-1 a-4 b-1");
    assert_eq!(purge("&instanceIdPrefix=a-").await, gone(1));
    assert_eq!(left().await, "a-4 b-1");
    assert_eq!(purge("").await, gone(1));
    assert_eq!(left().await, "a-4");
}
