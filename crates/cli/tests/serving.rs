//! `taskhub dev`, `serve` and `demo` from outside: what they say first, what they leave for others, how they end.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");

/// A server that runs until it is told to end.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(TASKHUB);
    command.args(args).current_dir(folder).env_clear().env("HOME", folder);
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same, with files of at most so many KiB; the limit can be lifted again.
fn limited(folder: &Path, kib: u32, args: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    // In blocks of 512 bytes.
    let limit = format!("ulimit -S -f {}; exec \"$@\"", 2 * kib);
    command.args(["-c", &limit, "sh", TASKHUB]).args(args);
    command.current_dir(folder).env_clear().env("HOME", folder);
    command
}

impl Server {
    fn start(folder: &Path, args: &[&str]) -> Self {
        Self::spawn(&mut command(folder, args))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The first line, and the address in it.
    fn listening(&mut self) -> (String, String) {
        let line = self.line();
        let address = line.split(' ').find_map(|word| word.strip_prefix("http="));
        let address = address.unwrap_or_else(|| panic!("no address in `{line}`")).to_owned();
        (line, address)
    }

    /// Sends a signal and waits for the end.
    fn end(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was ended is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Status line and body of the answer to a request.
fn call(address: &str, request: &str) -> (String, String) {
    answer(&mut ask(address, request, ""))
}

/// Sends a request, whose answer comes to the stream.
fn ask(address: &str, request: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn a_server_needs_no_home_that_it_may_write_to() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::write(&home, "a file").unwrap();
    let mut server = Server::spawn(command(folder.path(), &["dev", "--port", "0"]).env("HOME", &home));
    server.listening();
    let list = ["durable", "get-instances", "-o", "ids", "--verbose"];
    let output = command(folder.path(), &list).env("HOME", &home).output().unwrap();
    assert!(text(&output.stderr).ends_with("a server uses the store; the command is sent to it\n"));
    assert_eq!(server.end("-TERM"), Some(143));
}

#[test]
fn a_command_that_is_at_work_with_the_store_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join(".taskhub");
    std::fs::create_dir(&store).unwrap();
    let mut lock = std::fs::File::create_new(store.join("lock")).unwrap();
    lock.lock().unwrap();
    lock.write_all(b"4711\n").unwrap();
    let mut command = command(folder.path(), &["dev", "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server { child, lines };
    let mut log = log.lines().map(Result::unwrap);
    let waits = log.find(|line| line.contains("another process has the store, and is waited for pid=4711"));
    assert!(waits.is_some());
    drop(lock);
    server.listening();
    assert_eq!(server.end("-INT"), Some(130));
}

#[test]
fn dev_says_where_it_listens_runs_the_samples_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["dev", "--port", "0", "--ready-file", "ready.json", "--samples"];
    let mut server = Server::start(folder.path(), &args);
    let (line, address) = server.listening();
    assert_eq!(
        line,
        format!("listening http={address} hub=DurableFunctionsHub store=.taskhub")
    );

    let ready = std::fs::read_to_string(folder.path().join("ready.json")).unwrap();
    let store = folder.path().join(".taskhub");
    let pid = server.child.id();
    assert_eq!(
        ready,
        format!(
            "{{\"http\":\"{address}\",\"pid\":{pid},\"hub\":\"DurableFunctionsHub\",\"store\":\"{}\"}}\n",
            store.display()
        )
    );

    let wait = "POST /orchestrators/E1_HelloSequence/wait?timeout=120&retryInterval=0.5";
    let (status, body) = call(&address, wait);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(body, r#"["Hello Tokyo!","Hello Seattle!","Hello London!"]"#);

    let start = [
        "durable",
        "start-new",
        "--function-name",
        "E1_HelloSequence",
        "--id",
        "one",
        "--wait",
    ];
    let output = run(folder.path(), &start);
    let shown = text(&output.stdout);
    assert!(output.status.success() && text(&output.stderr).is_empty(), "{shown}");
    assert_eq!(
        shown.lines().nth(1),
        Some(r#"["Hello Tokyo!","Hello Seattle!","Hello London!"]"#)
    );
    let history = text(&run(folder.path(), &["durable", "get-history", "--id", "one"]).stdout);

    // Somebody else may have the function; until then the instance waits.
    let (_, body) = call(&address, "POST /orchestrators/NotHere/wait?timeout=0&retryInterval=0");
    assert!(body.starts_with("{\"id\":"), "{body}");

    assert_eq!(server.end("-TERM"), Some(143));
    for left in [
        store.join("server.json"),
        folder.path().join(format!(".local/state/taskhub/run/{pid}.json")),
    ] {
        assert!(!left.exists(), "{}", left.display());
    }
    // What the store holds is what the server showed.
    let pending = run(
        folder.path(),
        &["durable", "get-instances", "--runtime-status", "pending", "-o", "ids"],
    );
    assert_eq!(text(&pending.stdout).lines().count(), 1);
    assert_eq!(
        text(&run(folder.path(), &["durable", "get-history", "--id", "one"]).stdout),
        history
    );
    assert_eq!(history.matches("\"EventType\": \"TaskCompleted\"").count(), 3);
}

#[test]
fn func_start_is_dev_where_there_is_no_core_tools() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(TASKHUB, folder.path().join("func")).unwrap();
    let func = folder.path().join("func");
    let mut command = Command::new(func);
    command
        .args(["start", "--port", "0", "--useHttps", "--functions", "A"])
        .current_dir(folder.path())
        .env_clear();
    let mut child = command
        .env("HOME", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Server { child, lines };
    let (_, address) = server.listening();
    assert_eq!(call(&address, "GET /healthz").0, "HTTP/1.1 200 OK");
    assert_eq!(server.end("-INT"), Some(130));
}

#[test]
fn func_hands_on_to_the_next_one_on_the_path() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    for name in ["ours", "theirs"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink(TASKHUB, folder.path().join("ours/func")).unwrap();
    let theirs = folder.path().join("theirs/func");
    std::fs::write(&theirs, "#!/bin/sh\necho \"theirs: $*\"\nexit 7\n").unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{0}/ours:{0}/theirs", folder.path().display());
    let func = |args: &[&str]| {
        let mut command = Command::new(folder.path().join("ours/func"));
        command
            .args(args)
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path())
            .env("PATH", &path);
        command.output().unwrap()
    };
    let output = func(&["init", "--worker-runtime", "node"]);
    assert_eq!(text(&output.stdout), "theirs: init --worker-runtime node\n");
    assert_eq!(output.status.code(), Some(7));
    let ours = func(&["durable", "get-instances", "-o", "ids"]);
    assert!(ours.status.success() && ours.stdout.is_empty());
}

#[test]
fn an_ephemeral_server_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(
        folder.path(),
        &["serve", "--ephemeral", "--port", "0", "--hub", "Passing"],
    );
    let (line, address) = server.listening();
    assert!(line.contains(" hub=Passing store="), "{line}");
    let url = format!("http://{address}");
    let start = [
        "durable",
        "start-new",
        "--function-name",
        "F",
        "--id",
        "one",
        "-o",
        "ids",
        "--server",
        &url,
    ];
    let output = run(folder.path(), &[&start[..], &["--task-hub-name", "Passing"]].concat());
    assert_eq!(text(&output.stdout), "one\n", "{}", text(&output.stderr));
    let other = run(folder.path(), &[&start[..], &["--task-hub-name", "Other"]].concat());
    assert_eq!(other.status.code(), Some(4));
    assert!(
        text(&other.stderr).starts_with("error[hub-not-found]: "),
        "{}",
        text(&other.stderr)
    );
    let store = line.split("store=").nth(1).unwrap().to_owned();
    assert!(Path::new(&store).exists());
    assert_eq!(server.end("-INT"), Some(130));
    assert!(!Path::new(&store).exists() && !folder.path().join(".taskhub").exists());
}

#[test]
fn the_demo_goes_on_serving_until_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["demo"]);
    let url = loop {
        let line = server.line();
        if let Some(url) = line.strip_prefix("serving hub DemoHub at ") {
            break url.split(';').next().unwrap().to_owned();
        }
    };
    while server.line() != "Ctrl-C ends it" {}
    let list = [
        "durable",
        "get-instances",
        "--server",
        &url,
        "--task-hub-name",
        "DemoHub",
        "-o",
        "ids",
    ];
    assert_eq!(text(&run(folder.path(), &list).stdout).lines().count(), 3);
    let address = url.strip_prefix("http://").unwrap();
    let (_, body) = call(
        address,
        "POST /orchestrators/E1_HelloSequence/wait?timeout=120&retryInterval=0.5",
    );
    assert_eq!(body, r#"["Hello Tokyo!","Hello Seattle!","Hello London!"]"#);
    assert_eq!(server.end("-INT"), Some(0));
}

/// The ids in the store of a folder, nobody else having it.
fn ids(folder: &Path) -> Vec<String> {
    let output = run(folder, &["durable", "get-instances", "--all", "-o", "ids"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_store_and_loses_nothing() {
    let input = format!("\"{}\"", "x".repeat(50_000));
    let mut refused = 0;
    // Files grow in many places: each of them is the last one somewhere between these.
    for kib in (0..480).step_by(24) {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Vec::new();
        for id in ["one", "two", "three"] {
            let start = ["durable", "start-new", "--function-name", "F", "--id", id, "-o", "ids"];
            let output = limited(folder.path(), kib, &[&start[..], &["--input", &input]].concat())
                .output()
                .unwrap();
            let said = text(&output.stderr);
            match output.status.code() {
                Some(0) => {
                    assert_eq!(text(&output.stdout), format!("{id}\n"));
                    kept.push(id);
                }
                Some(3) => {
                    // A group that was refused in the middle may have left a part of it in the log, which is told first.
                    let is_told = said.lines().any(|line| line.starts_with("error[store-full]: "));
                    assert!(is_told, "{kib} KiB: {said}");
                    assert!(output.stdout.is_empty(), "{kib} KiB: {}", text(&output.stdout));
                    refused += 1;
                }
                code => panic!("{kib} KiB: ends with {code:?}: {said}"),
            }
        }
        assert_eq!(ids(folder.path()), kept, "{kib} KiB");
        let output = run(
            folder.path(),
            &["durable", "start-new", "--function-name", "F", "--id", "after"],
        );
        assert!(output.status.success(), "{kib} KiB: {}", text(&output.stderr));
        assert!(!folder.path().join(".taskhub/probe").exists());
    }
    assert!((1..60).contains(&refused), "{refused} were refused");
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_at_the_limit_on_the_size_of_files_refuses_work_and_goes_on_when_it_is_lifted() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::spawn(&mut limited(folder.path(), 2_000, &["dev", "--port", "0"]));
    let (_, address) = server.listening();
    let body = format!("\"{}\"", "x".repeat(200_000));
    let start = |id: &str| {
        ask(
            &address,
            &format!("POST /runtime/webhooks/durabletask/orchestrators/F/{id}"),
            &body,
        )
    };
    let mut waiting = Vec::new();
    let mut accepted = 0;
    // What is under way when the room ends waits for more; what comes then is refused. Whether an answer comes in
    // time decides no more than whether it is read here or in the end.
    let refusal = loop {
        let mut stream = start(&format!("i{}", waiting.len()));
        let patience = Some(Duration::from_millis(200));
        stream.set_read_timeout(patience).unwrap();
        match stream.peek(&mut [0; 12]).map(|_| answer(&mut stream)) {
            Ok((status, body)) if status == "HTTP/1.1 503 Service Unavailable" => break body,
            Ok((status, body)) => {
                assert_eq!(status, "HTTP/1.1 202 Accepted", "{body}");
                accepted += 1;
                assert!(accepted < 50, "there is no end of the room");
                waiting.push(None);
            }
            Err(_) => waiting.push(Some(stream)),
        }
    };
    let no_room = "the store is full";
    assert!(refusal.contains(no_room), "{refusal}");
    let raise = [
        "durable",
        "raise-event",
        "--id",
        "i0",
        "--event-name",
        "E",
        "--event-data",
        "1",
    ];
    let output = run(folder.path(), &raise);
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(3) && said.starts_with("error[store-full]: "),
        "{said}"
    );
    let (status, _) = call(&address, "GET /runtime/webhooks/durabletask/instances/i0");
    assert_eq!(status, "HTTP/1.1 202 Accepted", "reads go on");

    let pid = server.child.id().to_string();
    let lift = ["--fsize=unlimited", "--pid", &pid];
    assert!(Command::new("prlimit").args(lift).status().unwrap().success());
    // The write that finds out why it failed while the limit goes may be one of unknown outcome, which its caller is
    // told, and for which the hub reads all anew.
    let mut acknowledged = Vec::new();
    for (number, stream) in waiting.into_iter().enumerate() {
        let (status, body) = stream.map_or_else(
            || ("HTTP/1.1 202 Accepted".to_owned(), String::new()),
            |mut stream| {
                stream.set_read_timeout(None).unwrap();
                answer(&mut stream)
            },
        );
        if status == "HTTP/1.1 202 Accepted" {
            acknowledged.push(format!("i{number}"));
        } else {
            let is_told = body.contains(no_room) || body.contains("may or may not have taken effect");
            assert!(is_told, "{status}: {body}");
        }
    }
    // Work is taken again.
    while answer(&mut start("after")).0 != "HTTP/1.1 202 Accepted" {}
    acknowledged.push("after".to_owned());
    drop(server);
    let there = ids(folder.path());
    for id in acknowledged {
        assert!(there.contains(&id), "{id} is not among {there:?}");
    }
}

/// Nobody knows the functions when a command starts an instance on a stopped store, so it goes by the name it was
/// given (R77).
#[test]
fn an_instance_that_was_started_under_another_spelling_is_run_by_whoever_has_the_function() {
    let folder = tempfile::tempdir().unwrap();
    let start = [
        "durable",
        "start-new",
        "--function-name",
        "e1_HELLOsequence",
        "--id",
        "spelled",
    ];
    assert!(run(folder.path(), &start).status.success());
    let mut server = Server::start(folder.path(), &["dev", "--samples", "--port", "0"]);
    let (_, address) = server.listening();
    let instance = "/api/v1/hubs/DurableFunctionsHub/instances/spelled/wait?for=ended&timeout=60";
    let (_, ended) = call(&address, &format!("GET {instance}"));
    assert!(ended.contains(r#""name":"e1_HELLOsequence""#), "{ended}");
    assert!(ended.contains("Hello London!"), "{ended}");
    assert_eq!(server.end("-TERM"), Some(143));
}

#[test]
fn a_server_whose_store_is_taken_away_ends_and_says_what_is_gone() {
    for (what, why) in [
        (".taskhub", "store.db was removed"),
        (".taskhub/lock", "lock was removed"),
        (".taskhub/store.db-wal", "store.db-wal was removed"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path(), &["dev", "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let place = folder.path().join(what);
        if place.is_dir() {
            std::fs::remove_dir_all(place).unwrap();
        } else {
            std::fs::remove_file(place).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{what}: {}", text(&output.stderr));
        let said = format!(
            "error[store-lost]: the server ends: the files of the store in {}",
            folder.path().display()
        );
        let err = text(&output.stderr);
        assert!(err.contains(&said) && err.contains(why), "{what}: {err}");
    }
}

/// Threads of a process that serve hubs and write groups.
#[cfg(target_os = "linux")]
fn threads_of_hubs(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One that has just ended has no name any more.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    let ours = ["commits", "releases", "partitions"];
    let mut names: Vec<String> = names
        .map(|name| name.trim_end().to_owned())
        .filter(|name| ours.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    names.sort_unstable();
    names
}

#[test]
#[cfg(target_os = "linux")]
fn further_hubs_add_no_thread_and_share_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["dev", "--ephemeral", "--samples", "--port", "0"]);
    let (_, address) = server.listening();
    let pid = server.child.id();
    let before = threads_of_hubs(pid);
    assert_eq!(before, ["commits", "partitions-0", "releases"]);
    let syncs = || {
        let (_, figures) = call(&address, "GET /metrics");
        let line = figures
            .lines()
            .find(|line| line.starts_with("taskhub_store_syncs_total"));
        line.unwrap().split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    let start = |hub: usize, round: usize| {
        let path = format!("/runtime/webhooks/durabletask/orchestrators/E1_HelloSequence/i{round}?taskHub=Hub{hub}");
        ask(&address, &format!("POST {path}"), "")
    };
    // The first makes the hub.
    for hub in 0..20 {
        assert!(answer(&mut start(hub, 0)).0.contains("202"));
    }
    assert_eq!(threads_of_hubs(pid), before);
    let syncs_of = |hubs: usize| {
        let begin = syncs();
        for round in 0..10 {
            let round = 1 + round + 100 * hubs;
            let mut starts: Vec<_> = (0..20)
                .map(|number| start(number % hubs, round + 1_000 * number))
                .collect();
            for start in &mut starts {
                assert!(answer(start).0.contains("202"));
            }
        }
        syncs() - begin
    };
    let (one, twenty) = (syncs_of(1), syncs_of(20));
    assert!(
        2 * twenty <= 5 * one,
        "200 starts took {one} syncs on one hub, {twenty} on twenty"
    );
    assert_eq!(server.end("-TERM"), Some(143));
}
