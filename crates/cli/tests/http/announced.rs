//! The links that functions in the server's process hand out (H54, H97): those of the server they run in.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Answer, HUB, SURFACES, Server};

/// What the sample that sends the links of its own instance away has sent.
fn announce(server: &Server, query: &str, headers: &[(&str, &str)]) -> Value {
    let path = format!("/orchestrators/AnnounceInstance/wait?timeout=60&retryInterval=0.5{query}");
    sent(&server.send("POST", &path, headers, ""))
}

fn sent(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let sent = answer.json();
    assert_eq!(sent["id"], sent["payload"]["id"]);
    sent
}

/// All links, each checked to lead to the instance at this origin with this query.
fn links(sent: &Value, origin: &str, query: &str) -> Vec<String> {
    let instance = format!("{origin}{}/instances/{}", SURFACES[0], sent["id"].as_str().unwrap());
    let payload = sent["payload"].as_object().unwrap();
    let links = payload.iter().filter(|(name, _)| *name != "id");
    let links: Vec<String> = links.map(|(_, link)| link.as_str().unwrap().to_owned()).collect();
    assert_eq!(links.len(), 8, "{links:?}");
    for link in &links {
        assert!(link.starts_with(&instance) && link.ends_with(query), "{link}");
    }
    links
}

/// Follows the link to the status.
fn check_status(server: &Server, sent: &Value) {
    let link = sent["payload"]["statusQueryGetUri"].as_str().unwrap();
    let status = server.call("GET", link).json();
    assert_eq!(
        (&status["name"], &status["instanceId"]),
        (&Value::from("AnnounceInstance"), &sent["id"])
    );
}

#[test]
fn functions_hand_out_links_to_the_server_they_run_in() {
    let server = Server::start();
    let sent = announce(&server, "", &[]);
    links(&sent, &server.origin(), &format!("taskHub={HUB}&connection=Storage"));
    check_status(&server, &sent);
}

#[test]
fn in_each_hub_they_are_those_of_the_hub() {
    let server = Server::start_in(tempfile::tempdir().unwrap(), &[]);
    for hub in ["Another", "Third"] {
        let sent = announce(&server, &format!("&taskHub={hub}"), &[]);
        links(&sent, &server.origin(), &format!("taskHub={hub}&connection=Storage"));
        check_status(&server, &sent);
    }
}

#[test]
fn with_keys_they_carry_the_one_that_opens_them() {
    let folder = tempfile::tempdir().unwrap();
    for (name, key) in [("system.key", "let+me"), ("master.key", "everything")] {
        let path = folder.path().join(name);
        std::fs::write(&path, key).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let keys = ["--key-file", "system.key", "--master-key-file", "master.key"];
    let server = Server::start_in(folder, &keys);
    let path = format!("{}/orchestrators/AnnounceInstance?timeout=60", SURFACES[0]);
    let answer = server.send("POST", &path, &[("x-functions-key", "everything")], "");
    let sent = sent(&answer);
    links(&sent, &server.origin(), "&code=let%2Bme");
    check_status(&server, &sent);
}

#[test]
fn behind_a_proxy_they_have_its_origin() {
    let options = ["--public-url", "https://hub.example.org"];
    let server = Server::start_in(tempfile::tempdir().unwrap(), &options);
    let sent = announce(&server, "", &[]);
    links(
        &sent,
        "https://hub.example.org",
        &format!("taskHub={HUB}&connection=Storage"),
    );
}

/// What was started while nobody served the hub begins before its server listens.
#[test]
fn work_that_waited_for_the_server_has_them_too() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..20).map(|number| format!("waiting-{number}")).collect();
    for id in &ids {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskhub"));
        command
            .args([
                "durable",
                "start-new",
                "--function-name",
                "AnnounceInstance",
                "--id",
                id,
            ])
            .args(["--store", ".taskhub", "--task-hub-name", HUB])
            .current_dir(folder.path())
            .env_clear();
        assert!(command.output().unwrap().status.success());
    }
    let server = Server::start_in(folder, &[]);
    for id in &ids {
        server.wait(id, "ended");
        let path = format!("/api/v1/hubs/{HUB}/instances/{id}?fields=output");
        let shown = server.call("GET", &path).json();
        assert_eq!(shown["runtimeStatus"], "Completed", "{shown}");
        links(&shown["output"], &server.origin(), "&connection=Storage");
    }
}

#[test]
fn the_demo_hands_out_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskhub"));
    command
        .arg("demo")
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| {
        let address = line.strip_prefix("serving hub DemoHub at http://")?;
        address.split(';').next().map(str::to_owned)
    });
    let server = Server::running(child, address.unwrap(), folder);
    let sent = announce(&server, "", &[]);
    links(&sent, &server.origin(), "taskHub=DemoHub&connection=Storage");
    check_status(&server, &sent);
}
