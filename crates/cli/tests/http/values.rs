//! Texts come back byte for byte, over HTTP and on the command line: started with, raised, shown, listed, in histories.

use std::process::Command;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::documents::{document, double, random};
use crate::support::{HUB, SURFACES, Server};

/// What is looked at of an instance.
#[derive(Deserialize)]
struct Shown {
    #[serde(alias = "instanceId")]
    id: String,
    input: Box<RawValue>,
    output: Box<RawValue>,
    #[serde(default, rename = "historyEvents")]
    history: Vec<Event>,
}

/// What is looked at of an event.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(default, rename = "EventType")]
    kind: String,
    input: Option<String>,
    result: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

/// A list of random texts, and one of random doubles as Rust writes them.
fn texts(count: usize) -> String {
    let mut rng = random();
    let documents: Vec<String> = (0..count).map(|_| document(&mut rng)).collect();
    let doubles: Vec<String> = (0..count).map(|_| format!("{:?}", double(&mut rng))).collect();
    format!("[{},\n[{}]]", documents.join(", "), doubles.join(","))
}

fn read<'t, T: Deserialize<'t>>(text: &'t str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn texts_come_back_byte_for_byte_over_http() {
    let server = Server::start();
    let json = [("content-type", "application/json")];
    for base in SURFACES {
        let surface = base.rsplit('/').next().unwrap();
        for round in 0..10 {
            let text = texts(400);
            let echo = format!("{surface}-{round}");
            let waits = format!("{echo}-waits");
            for (name, id) in [("Echo", &echo), ("WaitEvent", &waits)] {
                // White space around a value is no part of it.
                let body = format!(" {text}\r\n");
                let answer = server.send("POST", &format!("{base}/orchestrators/{name}/{id}"), &[], &body);
                assert_eq!(answer.status, 202);
            }
            let path = format!("{base}/instances/{waits}/raiseEvent/Go");
            assert_eq!(server.send("POST", &path, &json, &text).status, 202);
            for id in [&echo, &waits] {
                server.wait(id, "ended");
                let path = format!("{base}/instances/{id}?showHistory=true&showHistoryOutput=true");
                let answer = server.call("GET", &path);
                let shown: Shown = read(&answer.body);
                is_shown(&shown, &text);
            }
            let path = format!("{base}/instances?instanceIdPrefix={echo}");
            let answer = server.call("GET", &path);
            let list: Vec<Shown> = read(&answer.body);
            assert_eq!(list.len(), 2);
            for shown in &list {
                is_shown(shown, &text);
            }
            for id in [&echo, &waits] {
                assert_eq!(server.call("DELETE", &format!("{base}/instances/{id}")).status, 200);
            }
        }
    }
    let text = texts(400);
    let path = "/orchestrators/Echo/wait?timeout=60";
    assert_eq!(server.send("POST", path, &json, &text).body, text);
}

fn is_shown(
    Shown {
        id,
        input,
        output,
        history,
    }: &Shown,
    text: &str,
) {
    assert_eq!(input.get(), text, "{id}");
    assert_eq!(output.get(), text, "{id}");
    for Event { kind, input, result } in history {
        assert!(input.as_ref().is_none_or(|input| input == text), "{id}: {kind}");
        let result = result.as_deref();
        assert!(result.is_none_or(|result| result.get() == text), "{id}: {kind}");
    }
}

#[test]
fn texts_come_back_byte_for_byte_over_our_own_api() {
    #[derive(Deserialize)]
    struct Texts {
        input: String,
        output: String,
    }
    let server = Server::start();
    let base = format!("/api/v1/hubs/{HUB}/instances");
    for round in 0..10 {
        let text = texts(400);
        for (name, id) in [("Echo", "echo"), ("WaitEvent", "waits")] {
            let body = format!(r#"{{"name":"{name}","instanceId":"{id}-{round}","input": {text} }}"#);
            assert_eq!(server.send("POST", &base, &[], &body).status, 201);
        }
        let body = format!(r#"{{"input":{text},"name":"Go"}}"#);
        let path = format!("{base}/waits-{round}/raise");
        assert_eq!(server.send("POST", &path, &[], &body).status, 200);
        for id in ["echo", "waits"] {
            server.wait(&format!("{id}-{round}"), "ended");
            let path = format!("{base}/{id}-{round}?fields=input,output");
            is_shown(&read(&server.call("GET", &path).body), &text);
            let answer = server.call("GET", &format!("{path}&payloads=text"));
            let Texts { input, output } = read(&answer.body);
            assert_eq!((input.as_str(), output.as_str()), (text.as_str(), text.as_str()));
        }
        let path = format!("{base}?idPrefix=waits-{round}&fields=input,output");
        let answer = server.call("GET", &path);
        let list: Page<Shown> = read(&answer.body);
        for shown in &list.items {
            is_shown(shown, &text);
        }
    }
}

/// Runs a command in the folder of a server, or of a store that nobody has.
fn run(folder: &std::path::Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskhub"));
    command.arg("durable").args(args).args(["--task-hub-name", HUB]);
    command.current_dir(folder).env_clear().env("HOME", folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn texts_come_back_byte_for_byte_on_the_command_line() {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Compat {
        input: Option<String>,
        result: Option<String>,
        output: Option<String>,
    }
    let server = Server::start();
    let alone = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let text = texts(600);
        for (folder, is_served) in [(server.folder(), true), (alone.path(), false)] {
            std::fs::write(folder.join("text.json"), format!("\u{feff}\n{text}\n")).unwrap();
            let id = format!("waits-{round}");
            let start = [
                "start-new",
                "--function-name",
                "WaitEvent",
                "--id",
                &id,
                "--input",
                "@text.json",
            ];
            run(folder, &start);
            let raise = [
                "raise-event",
                "--id",
                &id,
                "--event-name",
                "Go",
                "--event-data",
                "@text.json",
            ];
            run(folder, &raise);
            if is_served {
                server.wait(&id, "ended");
            }
            let output = if is_served { text.as_str() } else { "null" };

            let status = ["get-runtime-status", "--id", &id, "--show-input", "--show-output"];
            let Compat {
                input, output: shown, ..
            } = read(&run(folder, &status));
            assert_eq!(input.as_deref(), Some(text.as_str()));
            assert_eq!(shown.as_deref(), is_served.then_some(output));

            let shown = run(folder, &[&status[..], &["-o", "json"]].concat());
            let shown: Shown = read(&shown);
            assert_eq!((shown.input.get(), shown.output.get()), (text.as_str(), output));

            // On one line, line ends between the parts of a value are blanks.
            let one_line = |text: &str| text.replace(['\n', '\r'], " ");
            for args in [&status[..], &["get-instances", "--all"]] {
                let lines = run(folder, &[args, &["-o", "jsonl"]].concat());
                let shown = lines.lines().map(read::<Shown>).find(|shown| shown.id == id).unwrap();
                assert_eq!(shown.input.get(), one_line(&text));
                assert_eq!(shown.output.get(), one_line(output));
            }

            let history: Vec<Compat> = read(&run(folder, &["get-history", "--id", &id]));
            let payloads = history.into_iter().flat_map(|event| [event.input, event.result]);
            let payloads: Vec<String> = payloads.flatten().collect();
            assert_eq!(payloads.len(), if is_served { 3 } else { 0 });
            assert!(payloads.iter().all(|payload| *payload == text));
        }
    }
    // Inline, without quotes that a shell takes away.
    for number in [
        "117.63331139400017",
        "-0.0",
        "1e400",
        "123456789012345678901234567890.10",
    ] {
        let id = format!("number{number}");
        let start = [
            "start-new",
            "--function-name",
            "Echo",
            "--id",
            &id,
            "--input",
            number,
            "--wait",
        ];
        assert!(run(server.folder(), &start).ends_with(&format!("\n{number}\n")));
    }
}
