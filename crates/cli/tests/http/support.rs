//! The built binary as a server on a free port of this machine, and a client that sends what it is told, byte for
//! byte.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// The hub of all tests.
pub(crate) const HUB: &str = "TestTaskHub";

/// The prefixes of the management API (H1).
pub(crate) const SURFACES: [&str; 3] = [
    "/runtime/webhooks/durabletask",
    "/admin/extensions/DurableTaskExtension",
    "/durabletask",
];

/// An answer that has not come by then fails its test. Nothing passes by waiting for it.
const PATIENCE: Duration = Duration::from_mins(2);

/// `taskhub dev` in a folder of its own, which runs the samples until it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        // What `dev` creates by itself would hide that a wrong hub was asked for.
        Self::start_in(tempfile::tempdir().unwrap(), &["--auto-create-hubs=false"])
    }

    /// One in a folder that holds something already, with further options.
    pub(crate) fn start_in(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskhub"));
        command
            .args(["dev", "--samples", "--port", "0", "--ready-file", "ready.json"])
            .args(["--hub", HUB, "--log-level", "error"])
            .args(options)
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut first);
        let mut server = Self {
            child,
            address: String::new(),
            folder,
        };
        assert!(read.unwrap() > 0, "the server ended before it listened");
        let ready = std::fs::read(server.folder.path().join("ready.json")).unwrap();
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        ready["http"].as_str().unwrap().clone_into(&mut server.address);
        server
    }

    /// Where its store is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// One that runs already, until it is dropped.
    pub(crate) fn running(child: Child, address: String, folder: tempfile::TempDir) -> Self {
        Self { child, address, folder }
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Connection(stream)
    }

    /// Sends a request without body.
    pub(crate) fn call(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], "")
    }

    /// Sends a request; a path may be a whole link.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let path = path.strip_prefix(&self.origin()).unwrap_or(path);
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if path.starts_with("/api/v1") && !headers.iter().any(|(name, _)| *name == "content-type") {
            head.push_str("content-type: application/json\r\n");
        }
        let length = body.len();
        let mut connection = self.connect();
        connection.write(&format!("{head}connection: close\r\ncontent-length: {length}\r\n\r\n"));
        connection.write(body);
        connection.answer()
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until an instance has begun or ended.
    pub(crate) fn wait(&self, id: &str, until: &str) {
        let path = format!("/api/v1/hubs/{HUB}/instances/{id}/wait?for={until}&timeout=60");
        let answer = self.call("GET", &path);
        // The rest may hold numbers that no type does.
        let is_met = answer.body.starts_with(r#"{"isMet":true,"#);
        assert!(answer.status == 200 && is_met, "{id}: {answer:?}");
    }

    /// All that can be seen of the store: its hubs, and the instances of this one with their payloads and histories.
    pub(crate) fn contents(&self) -> String {
        let read = |path: &str| {
            let answer = self.call("GET", path);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            answer
        };
        let instances = format!("/api/v1/hubs/{HUB}/instances");
        let list = read(&format!(
            "{instances}?limit=1000&fields=input,output,customStatus&payloads=text"
        ));
        let mut contents = read("/api/v1/hubs").body;
        for row in list.json()["items"].as_array().unwrap() {
            let id = row["instanceId"].as_str().unwrap();
            writeln!(contents, "\n{row}").unwrap();
            contents.push_str(&read(&format!("{instances}/{id}/history")).body);
        }
        contents
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A connection to the server.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Says that nothing more comes; the answer can still be read.
    pub(crate) fn end(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// The answer to the last request that is sent over it.
    pub(crate) fn answer(mut self) -> Answer {
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (first, headers) = head.split_once("\r\n").unwrap();
        let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
        let answer = Answer {
            status: first.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.lines().filter_map(header).collect(),
            body: body.to_owned(),
        };
        let length = body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()), "{answer:?}");
        answer
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}
