//! The built binary on a disk that is full: a small file system in memory, in a namespace of its own, which needs
//! neither rights nor cleaning up. Where the system allows no such namespace there is nothing to be seen.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");

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

/// Serves, and serves again. A server that ends leaves its disk to the next one.
const SERVES: &str = "while :; do \
    \"$1\" serve --store store --hub Full --auto-create-hubs --samples --port 0 --ready-file ready & \
    echo $!; wait; done";

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
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(within).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

const START: &str = "/runtime/webhooks/durabletask/orchestrators/Fail";

fn start(address: &str) -> (u16, String) {
    call(address, "POST", START, &format!("\"{}\"", "x".repeat(50_000)))
}

/// Takes all the room that is left, so that there is none for good; answers the starts that were taken.
fn fill(address: &str, root: &Path) -> usize {
    let mut taken = 0;
    loop {
        match start(address) {
            (202, _) => taken += 1,
            (503, _) => break,
            (status, said) => panic!("{status} {said}"),
        }
    }
    // Answered when the server has settled: while it does, what it keeps is anybody's for a moment.
    let (status, said) = call(address, "POST", &format!("{INSTANCES}/nobody/terminate"), "");
    assert_eq!(status, 404, "{said}");
    let mut filler = fs::File::options()
        .create(true)
        .append(true)
        .open(root.join("filler"))
        .unwrap();
    while filler.write_all(&[0; 4 << 10]).is_ok() {}
    taken
}

/// A server on a small disk, which is started again whenever it is killed.
struct Restarted {
    shell: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pid: String,
    address: String,
}

impl Restarted {
    fn new(mut command: Command) -> Self {
        let mut shell = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut server = Self {
            shell,
            lines,
            pid: String::new(),
            address: String::new(),
        };
        server.comes();
        server
    }

    fn comes(&mut self) {
        let mut next = || self.lines.next().unwrap().unwrap();
        self.pid = next();
        let line = next();
        let address = line.split(' ').find_map(|word| word.strip_prefix("http="));
        address.unwrap().clone_into(&mut self.address);
    }

    fn kill(&self) {
        assert!(Command::new("kill").args(["-9", &self.pid]).status().unwrap().success());
    }

    /// Its disk, as this process sees it.
    fn root(&self) -> PathBuf {
        Path::new("/proc").join(&self.pid).join("cwd")
    }

    fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        call(&self.address, method, path, body)
    }

    fn status_of(&self, instance: &str) -> String {
        let (_, record) = self.call("GET", &format!("{INSTANCES}/{instance}"), "");
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        record["runtimeStatus"].as_str().unwrap().to_owned()
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        // The shell first, which would start another.
        let _gone = self.shell.kill();
        let _gone = self.shell.wait();
        let _gone = Command::new("kill").args(["-9", &self.pid]).status();
    }
}

const INSTANCES: &str = "/runtime/webhooks/durabletask/instances";
const PURGE: &str = "/api/v1/hubs/Full/instances/purge";
const ALL: &str = r#"{"all":true}"#;

#[test]
fn a_purge_makes_room_on_a_full_disk_and_everything_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = shell(folder.path(), SERVES) else {
        return;
    };
    let server = Restarted::new(command);
    for round in 0..3 {
        assert!(fill(&server.address, &server.root()) > 0, "round {round}");
        for _ in 0..100 {
            let (status, said) = start(&server.address);
            assert_eq!(status, 503, "{said}");
            assert!(said.contains("the store is full"), "{said}");
        }
        let (status, why) = server.call("GET", "/readyz", "");
        assert_eq!(
            (status, why.as_str()),
            (503, "not ready: the store of hub Full is full\n")
        );
        assert_eq!(server.call("GET", "/healthz", "").0, 200);
        let (status, purged) = server.call("POST", PURGE, ALL);
        assert_eq!(status, 200, "round {round}: {purged}");
        assert!(!purged.contains(r#""purged":0"#), "round {round}: {purged}");
        // Writes go on without a restart.
        while start(&server.address).0 != 202 {}
        assert_eq!(server.call("GET", "/readyz", "").0, 200);
        fs::remove_file(server.root().join("filler")).unwrap();
    }
}

#[test]
fn a_server_that_is_killed_on_a_full_disk_comes_back_and_the_operator_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = shell(folder.path(), SERVES) else {
        return;
    };
    let mut server = Restarted::new(command);
    let live: Vec<String> = (0..100).map(|number| format!("live-{number}")).collect();
    for instance in &live {
        let path = format!("/runtime/webhooks/durabletask/orchestrators/WaitEvent/{instance}");
        assert_eq!(server.call("POST", &path, "1").0, 202);
    }
    let taken = fill(&server.address, &server.root());
    assert!(taken > 0);
    server.kill();
    server.comes();
    assert_eq!(server.call("GET", "/readyz", "").0, 503, "it is full from the start");
    let word = fs::read_to_string(server.root().join("store/server.json")).unwrap();
    assert!(word.contains(&server.address), "commands find it: {word}");
    let (status, said) = start(&server.address);
    assert_eq!(status, 503, "{said}");
    assert!(live.iter().all(|instance| server.status_of(instance) == "Running"));
    let (_, all) = server.call("GET", &format!("{INSTANCES}?showInput=false&top=10000"), "");
    let all: Vec<serde_json::Value> = serde_json::from_str(&all).unwrap();
    assert!(all.len() >= live.len() + taken, "{} of {taken}", all.len());

    let terminate = |server: &Restarted, instance: &str| {
        let path = format!("{INSTANCES}/{instance}/terminate?reason=full");
        answer(&server.address, "POST", &path, "", None)
    };
    // Killed while that is under way: each that was acknowledged stays ended.
    let acknowledged: Vec<&String> = thread::scope(|scope| {
        let halves = live.chunks(25).enumerate().map(|(number, some)| {
            let server = &server;
            scope.spawn(move || {
                let mut acknowledged = Vec::new();
                for instance in some {
                    match terminate(server, instance) {
                        Ok((202, _)) => acknowledged.push(instance),
                        Ok((status, said)) => panic!("{instance}: {status} {said}"),
                        Err(_gone) => break,
                    }
                    if number == 0 && acknowledged.len() == 10 {
                        server.kill();
                    }
                }
                acknowledged
            })
        });
        let halves: Vec<_> = halves.collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!((10..100).contains(&acknowledged.len()), "{}", acknowledged.len());
    server.comes();
    for instance in &acknowledged {
        assert_eq!(server.status_of(instance), "Terminated", "{instance}");
    }
    for instance in &live {
        // 410: it took effect, and the answer was lost.
        let (status, said) = terminate(&server, instance).unwrap();
        assert!(status == 202 || status == 410, "{instance}: {status} {said}");
        assert_eq!(server.status_of(instance), "Terminated");
    }
    thread::scope(|scope| {
        scope.spawn(|| answer(&server.address, "POST", PURGE, ALL, None));
        server.kill();
    });
    server.comes();
    let (status, purged) = server.call("POST", PURGE, ALL);
    assert_eq!(status, 200, "{purged}");
    let (_, left) = server.call("GET", INSTANCES, "");
    assert_eq!(left, "[]");
    while start(&server.address).0 != 202 {}
    assert_eq!(server.call("GET", "/readyz", "").0, 200);
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
