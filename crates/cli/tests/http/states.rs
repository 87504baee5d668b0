//! The table of states and operations, every cell on every prefix.

use std::thread;

use crate::support::{Answer, HUB, SURFACES, Server};

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
fn bring_about(server: &Server, base: &str, state: &str, id: &str) {
    let start = |name: &str, query: &str| {
        let path = format!("{base}/orchestrators/{name}/{id}{query}");
        assert_eq!(server.call("POST", &path).status, 202, "{path}");
    };
    let control = |verb: &str| {
        let path = format!("{base}/instances/{id}/{verb}");
        assert_eq!(server.call("POST", &path).status, 202, "{path}");
    };
    match state {
        "missing" => {}
        "Pending" => start("Echo", "?scheduledStartTime=2999-01-01"),
        "Completed" => {
            start("Echo", "");
            server.wait(id, "ended");
        }
        "Failed" => {
            start("Fail", "");
            server.wait(id, "ended");
        }
        "Running" | "Suspended" | "Terminated" => {
            start("WaitEvent", "");
            server.wait(id, "started");
            match state {
                "Suspended" => control("suspend"),
                "Terminated" => control("terminate"),
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
    let status = answer.status;
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

#[test]
fn every_cell_of_the_table() {
    let server = Server::start();
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
                bring_about(&server, base, state, &id);
                let instance = format!("{base}/instances/{id}");
                let whole = || server.call("GET", &format!("{instance}?showHistory=full")).body;
                let before = whole();
                let path = format!("{base}{}", path.replace("{id}", &id));
                let answer = server.call(method, &path);
                let place = format!("{method} {path} on {state}: {answer:?}");
                let (code, is_without_effect) = match cell.split_once(' ') {
                    Some((code, "=")) => (code, true),
                    _ => (*cell, false),
                };
                assert_eq!(answer.status.to_string(), code, "{place}");
                check_form(operation, &answer, &place);
                if answer.status >= 400 {
                    assert_eq!(whole(), before, "a refusal changes nothing, {place}");
                }
                let after = state_in(&server.call("GET", &instance));
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

/// The answers to many calls that race.
fn at_once(server: &Server, path: &str, count: usize) -> Vec<Answer> {
    thread::scope(|scope| {
        let calls: Vec<_> = (0..count).map(|_| scope.spawn(|| server.call("POST", path))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

/// All instances there are, in the order of their creation.
fn ids(server: &Server) -> String {
    let list = server.call("GET", &format!("/api/v1/hubs/{HUB}/instances")).json();
    let rows = list["items"].as_array().unwrap().iter();
    let ids: Vec<&str> = rows.map(|row| row["instanceId"].as_str().unwrap()).collect();
    ids.join(" ")
}

#[test]
fn of_two_quick_terminates_the_second_is_too_late() {
    let server = Server::start();
    let [base, ..] = SURFACES;
    bring_about(&server, base, "Running", "i");
    let path = format!("{base}/instances/i/terminate");
    let mut codes: Vec<u16> = at_once(&server, &path, 2).iter().map(|answer| answer.status).collect();
    codes.sort_unstable();
    assert_eq!(codes, [202, 410]);
}

/// S-singleton-race: of many starts that race on an id one wins, and the others hear who did.
#[test]
fn s_singleton_race() {
    const RACERS: usize = 50;
    let server = Server::start();
    let path = format!("{}/orchestrators/WaitEvent/same", SURFACES[2]);
    let answers = at_once(&server, &path, RACERS);
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
    assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
    assert!(lost.iter().all(|answer| answer.status == 409), "{lost:?}");
    assert_eq!(ids(&server), "same");
}

/// S-purge-filter: a purge takes what its filter says, counts it, and takes nothing that lives.
#[test]
fn s_purge_filter() {
    let server = Server::start();
    let base = SURFACES[0];
    for (id, state) in [
        ("a-1", "Completed"),
        ("a-2", "Failed"),
        ("a-3", "Terminated"),
        ("a-4", "Running"),
        ("b-1", "Completed"),
    ] {
        bring_about(&server, base, state, id);
    }
    let purge = |query: &str| {
        let path = format!("{base}/instances?createdTimeFrom=2000-01-01{query}");
        let answer = server.call("DELETE", &path);
        (answer.status, answer.body)
    };
    let left = || ids(&server);
    let gone = |count: u32| (200, format!("{{\"instancesDeleted\":{count}}}"));
    assert_eq!(purge("&createdTimeTo=2001-01-01"), (404, String::new()));
    assert_eq!(left(), "a-1 a-2 a-3 a-4 b-1");
    assert_eq!(
        purge("&instanceIdPrefix=a-&runtimeStatus=failed,Terminated,Running"),
        gone(2)
    );
    assert_eq!(left(), "a-1 a-4 b-1");
    assert_eq!(purge("&instanceIdPrefix=a-"), gone(1));
    assert_eq!(left(), "a-4 b-1");
    assert_eq!(purge(""), gone(1));
    assert_eq!(left(), "a-4");
}
