//! Values of queries: what was encoded in them belongs to them (H9), and what of them is read as a time (H11).

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

#[tokio::test]
async fn our_own_api_refuses_names_that_it_does_not_know() {
    let server = Running::start(config()).await;
    let hub = format!("/api/v1/hubs/{HUB}");
    for (method, path, said) in [
        (
            "GET",
            "/api/v1/hubs?taskHub=A".to_owned(),
            "unknown query parameter `taskHub`: this call takes no parameter but `code`",
        ),
        (
            "GET",
            format!("{hub}/instances?IDPREFIX=a&instanceIdPrefix=b"),
            "unknown query parameter `instanceIdPrefix`: expected one of `createdFrom`, `createdTo`, `cursor`, \
            `fields`, \
             `idPrefix`, `limit`, `name`, `payloads`, `status` and `code`",
        ),
        (
            "GET",
            format!("{hub}/instances/a?showHistory=true"),
            "unknown query parameter `showHistory`: expected one of `fields`, `payloads` and `code`",
        ),
        (
            "GET",
            format!("{hub}/instances/a/history?form=1"),
            "unknown query parameter `form`: expected one of `from`, `limit` and `code`",
        ),
        (
            "DELETE",
            format!("{hub}?confirm={HUB}&dryRun=true"),
            "unknown query parameter `dryRun`: expected one of `confirm` and `code`",
        ),
        (
            "POST",
            format!("{hub}/instances/a/terminate?reason=why"),
            "unknown query parameter `reason`: this call takes no parameter but `code`",
        ),
    ] {
        let answer = server.call(method, &path).await;
        assert_eq!(answer.status, 400, "{path}");
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["code"], &error["message"]),
            (&"invalid-argument".into(), &said.into()),
            "{path}"
        );
    }
    let words = format!("{hub}/instances?status=completed,done");
    let said = "unknown status `done`: expected one of Running, Completed, ";
    assert!(server.call("GET", &words).await.body.contains(said));
    let known = format!("{hub}/instances?status=completed&code=none");
    assert_eq!(server.call("GET", &known).await.status, 200);
}

/// Forms of 10:01 on 10 March 2100, as they stand in a URL.
const FORMS: [&str; 14] = [
    "2100-03-10T10:01:00Z",
    "2100-3-10+10:01",
    "2100-03-10T11:01:00+01:00",
    "2100-03-10T11:01:00%2B1",
    "03/10/2100+10:01:00",
    "3/10/2100%2010:01",
    "2100/03/10+10:01:00",
    "3/10/2100+10:01+AM",
    "03.10.2100+10:01",
    "10+March+2100+10:01",
    "Mar+10,+2100+10:01",
    "Wed,+10+Mar+2100+10:01:00+GMT",
    "Wed,%2010%20Mar%202100%2010:01:00%20GMT",
    "++2100-03-10++10:01:00++",
];

#[tokio::test]
async fn a_filter_takes_a_time_in_every_form_that_there_is() {
    let server = Running::start(config()).await;
    server
        .call("POST", &format!("{}/orchestrators/Echo/e?timeout=60", SURFACES[0]))
        .await;
    for form in FORMS {
        for base in SURFACES {
            let path = format!("{base}/instances?createdTimeFrom={form}");
            let answer = server.call("GET", &path).await;
            assert_eq!((answer.body.as_str(), answer.header("warning")), ("[]", None), "{path}");
            assert_eq!(
                ids(&server, &format!("{base}/instances?createdTimeTo={form}")).await,
                ["e"]
            );
            let purge = format!("{base}/instances?createdTimeFrom=2000-01-01&createdTimeTo=2000-01-02");
            assert_eq!(server.call("DELETE", &purge).await.status, 404);
            let purge = format!("{base}/instances?createdTimeFrom={form}");
            assert_eq!(server.call("DELETE", &purge).await.status, 404, "{purge}");
        }
        let own = format!("/api/v1/hubs/{HUB}/instances");
        assert!(ids(&server, &format!("{own}?createdFrom={form}")).await.is_empty());
        assert_eq!(ids(&server, &format!("{own}?createdTo={form}")).await, ["e"]);
        let path = format!(
            "{}/orchestrators/Echo/later?scheduledStartTime={form}&dedupe=failed",
            SURFACES[0]
        );
        assert_eq!(server.call("POST", &path).await.status, 202);
        let later = server.call("GET", &format!("{own}/later")).await.json();
        assert_eq!(later["scheduledStartTime"], "2100-03-10T10:01:00Z", "{form}");
        let path = format!("{}/instances/later/terminate", SURFACES[0]);
        assert_eq!(server.call("POST", &path).await.status, 202);
        let path = format!("{}/instances/later", SURFACES[0]);
        assert_eq!(server.call("DELETE", &path).await.status, 200);
    }
}

#[tokio::test]
async fn a_list_tells_which_filter_it_could_not_read_and_a_purge_refuses_it() {
    let server = Running::start(config()).await;
    server
        .call("POST", &format!("{}/orchestrators/Echo/e?timeout=60", SURFACES[0]))
        .await;
    for base in SURFACES {
        for (query, warnings) in [
            (
                "createdTimeFrom=soon",
                &["299 - \"createdTimeFrom is ignored: 'soon' is not a valid time\""][..],
            ),
            (
                "createdTimeTo=13/10/2100",
                &["299 - \"createdTimeTo is ignored: '13/10/2100' is not a valid time\""],
            ),
            (
                "createdTimeFrom=20181310",
                &["299 - \"createdTimeFrom is ignored: '20181310' is not a valid time\""],
            ),
            (
                "createdTimeFrom=%0d%0aX:%22&createdTimeTo=%C3%BC",
                &[
                    "299 - \"createdTimeFrom is ignored: '%0D%0AX:\\\"' is not a valid time\"",
                    "299 - \"createdTimeTo is ignored: '%C3%BC' is not a valid time\"",
                ],
            ),
            (
                "runtimeStatus=completed,Compleded&runtimeStatus=x",
                &["299 - \"runtimeStatus is ignored: 'Compleded,x' is not a valid status\""],
            ),
            ("createdTimeFrom=&createdTimeTo=3/10/2100&runtimeStatus=Completed", &[]),
        ] {
            let answer = server.call("GET", &format!("{base}/instances?{query}")).await;
            let told: Vec<_> = answer.headers.get_all("warning").iter().collect();
            assert_eq!(told, warnings, "{query}");
            assert_eq!(answer.json().as_array().unwrap().len(), 1, "{query}");
        }
        let purge = format!("{base}/instances?createdTimeFrom=");
        for (value, told) in [
            (
                "soon",
                "\"The value 'soon' of 'createdTimeFrom' could not be read as a time.\"",
            ),
            (
                "%20",
                "\"The value ' ' of 'createdTimeFrom' could not be read as a time.\"",
            ),
            ("", "\"Please provide value for 'createdTimeFrom' parameter.\""),
        ] {
            let answer = server.call("DELETE", &format!("{purge}{value}")).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (400, told));
        }
        let answer = server
            .call("DELETE", &format!("{purge}2000-01-01&createdTimeTo=2/30/2100"))
            .await;
        assert_eq!(answer.status, 400);
        let told = "The value '2/30/2100' of 'createdTimeTo' could not be read as a time.";
        assert_eq!(answer.json()["ExceptionMessage"], told);
    }
    let own = format!("/api/v1/hubs/{HUB}/instances");
    for (path, told) in [
        (
            "createdFrom=soon",
            "invalid `createdFrom`: expected a time such as 2026-01-31T12:00:00Z, got `soon`",
        ),
        (
            "createdTo=20181310",
            "invalid `createdTo`: expected a time such as 2026-01-31T12:00:00Z, got `20181310`",
        ),
    ] {
        let answer = server.call("GET", &format!("{own}?{path}")).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["message"]),
            (400, &told.into())
        );
    }
    let body = r#"{"createdFrom":"3/10/2100","createdTo":"later"}"#;
    let answer = server.send("POST", &format!("{own}/purge"), &[], body).await;
    assert_eq!(
        answer.json()["error"]["message"],
        "invalid `createdTo`: expected a time such as 2026-01-31T12:00:00Z, \
        got `later`"
    );
    let body = "\u{feff}{\"createdFrom\":\"3/10/2100\"}";
    assert_eq!(
        server.send("POST", &format!("{own}/purge"), &[], body).await.status,
        200
    );
    let body = r#"{"createdFrom":"Wed, 10 Mar 2100 10:01:00 GMT"}"#;
    let answer = server.send("POST", &format!("{own}/purge"), &[], body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["purged"]), (200, &0.into()));
}

/// What is stored together is read together, and no more of it is shown than is asked for.
#[tokio::test]
async fn a_history_is_shown_by_parts_of_the_length_that_is_asked_for() {
    let server = Running::start(config()).await;
    ended(&server).await;
    let history = format!("/api/v1/hubs/{HUB}/instances/keep/history");
    let whole = server.call("GET", &history).await.json();
    let whole = whole["items"].as_array().unwrap();
    assert!(whole.len() > 2);
    for from in 0..whole.len() {
        let part = server
            .call("GET", &format!("{history}?limit=1&from={from}"))
            .await
            .json();
        assert_eq!(part["items"].as_array().unwrap(), &whole[from..=from]);
        let next = Some(from + 1).filter(|next| *next < whole.len());
        assert_eq!(part["nextFrom"].as_u64(), next.map(|next| next as u64), "{part}");
    }
}
