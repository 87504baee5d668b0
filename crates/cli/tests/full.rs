//! The built binary on a disk that is full: a small file system in memory, in a namespace of its own, which needs
//! neither rights nor cleaning up. Where the system allows no such namespace there is nothing to be seen.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");

/// Refusals without a start that is taken in between, after which it is not only the log that is full, which is written back then.
const REFUSED_FOR_GOOD: usize = 1_000;

/// A shell in a folder that is a file system of 24 MiB; its `$1` is the binary. Absent where that cannot be had.
fn shell(folder: &Path, script: &str) -> Option<Command> {
    let mounted = "set -e; mount -t tmpfs -o size=24m tmpfs . && cd \"$PWD\"";
    let mut can = Command::new("unshare");
    can.args(["-rm", "sh", "-c", mounted])
        .current_dir(folder)
        .stderr(Stdio::null());
    if !can.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    let script = format!("{mounted}; {script}");
    command
        .args(["-rm", "sh", "-c", &script, "sh", TASKHUB])
        .current_dir(folder)
        .env("HOME", folder);
    Some(command)
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Status and body of the answer to a request.
fn call(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    answer(address, method, path, body, None).unwrap()
}

/// The same, if it comes in time.
fn answer(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
    within: Option<Duration>,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(within).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    Ok((status, body.to_owned()))
}

const START: &str = "/runtime/webhooks/durabletask/orchestrators/Fail";

fn start(address: &str) -> (u16, String) {
    call(address, "POST", START, &format!("\"{}\"", "x".repeat(50_000)))
}

/// Whether a start is refused for want of room. One that waits for some is given up: whoever comes next is told.
fn is_refused(address: &str) -> Option<bool> {
    let told = answer(address, "POST", START, "1", Some(Duration::from_millis(200)));
    told.ok().map(|(_, said)| said.contains("the store has no room left"))
}

/// Comes back once there is no room for good.
fn fill(address: &str) {
    let mut refused = 0;
    while refused < REFUSED_FOR_GOOD {
        match is_refused(address) {
            Some(true) => refused += 1,
            Some(false) => refused = 0,
            None => {}
        }
    }
}

#[test]
fn a_purge_makes_room_on_a_full_disk_and_everything_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = shell(
        folder.path(),
        "exec \"$1\" serve --store store --hub Full --auto-create-hubs --samples --port 0",
    ) else {
        return;
    };
    let mut server = Server(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    let mut lines = BufReader::new(server.0.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    let address = line.split(' ').find_map(|word| word.strip_prefix("http=")).unwrap();

    for round in 0..3 {
        let is_purged = AtomicBool::new(false);
        thread::scope(|scope| {
            // One of these waits for room when there is none, and hears in the end that it must ask again.
            scope.spawn(|| {
                while !is_purged.load(Ordering::Acquire) {
                    let (status, said) = start(address);
                    let is_late = status == 500 && said.contains("was not scheduled within");
                    assert!(matches!(status, 202 | 503) || is_late, "round {round}: {status} {said}");
                }
            });
            fill(address);
            let all = r#"{"all":true}"#;
            let (status, purged) = call(address, "POST", "/api/v1/hubs/Full/instances/purge", all);
            is_purged.store(true, Ordering::Release);
            assert_eq!(status, 200, "round {round}: {purged}");
            assert!(!purged.contains(r#""purged":0"#), "round {round}: {purged}");
        });
        // Writes go on without a restart.
        while start(address).0 != 202 {}
    }
}

#[test]
fn a_stopped_store_is_purged_on_a_full_disk() {
    let script = r#"
        durable() { verb=$1; shift; "$taskhub" durable "$verb" --store store --hub Full "$@"; }
        taskhub=$1
        { printf '"'; head -c 500000 /dev/zero | tr '\0' x; printf '"'; } > input.json
        for id in one two three; do
            durable start-new --function-name F --id $id --input @input.json
            durable terminate --id $id --reason over
        done
        cat /dev/zero > filler 2> /dev/null || echo full
        durable start-new --function-name F --id refused --input @input.json || echo "refused $?"
        durable purge-history
        durable start-new --function-name F --id later --input 1
        durable get-instances -o ids
    "#;
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = shell(folder.path(), script) else {
        return;
    };
    let output = command.output().unwrap();
    let (said, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    assert!(errors.contains("error[store-full]"), "{errors}");
    let (_, after) = said
        .split_once("full\nrefused 3\n")
        .unwrap_or_else(|| panic!("{said}{errors}"));
    assert!(after.contains("Instances deleted: 3\n"), "{said}");
    assert!(after.ends_with("\nlater\n"), "{said}");
}
