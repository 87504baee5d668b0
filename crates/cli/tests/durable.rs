//! `func durable …` from outside: the built binary against a store of its own, what it prints and how it ends
//! compared line by line (cli.md §17).
//!
//! Each file in `tests/durable/` is a script: `$` begins a command, `>` a line of standard output, `!` one of
//! standard error, `=` the exit code (0 if left out), `#` a remark. `file NAME TEXT`, `length NAME BYTES`,
//! `env NAME VALUE`, `in FOLDER`, `link NAME FOLDER`, `move FROM TO`, `server FOLDER OPTIONS` and `kill` prepare what
//! follows; `absent PATH` says what must not be there, and from `unchanged FOLDER` on no command may change what the store in the folder holds. Ids,
//! times and tokens that differ from run to run are shown as `<id>`, `<time>`, `<date>` and `<token>`; `$TOKEN` in a
//! command is the last token that was printed, `$HOME` the folder of the script, in which `certificate` has those of servers, `$PORT` the port of the last server.
//! `UPDATE=1 cargo test` writes what is printed now.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod contents;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpSocket;

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");

/// Runs a script in a folder of its own.
struct Runner {
    servers: Vec<Server>,
    /// Those of servers that were killed: nobody else gets them while the script runs.
    ports: Vec<TcpSocket>,
    folder: tempfile::TempDir,
    inside: PathBuf,
    env: Vec<(String, String)>,
    token: String,
    /// A store that no command may change, and what it held.
    kept: Option<(PathBuf, String)>,
}

impl Runner {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["app", "home", "bin", "certificate"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificate");
        for file in std::fs::read_dir(certificates).unwrap() {
            let file = file.unwrap();
            let copy = folder.path().join("certificate").join(file.file_name());
            std::fs::copy(file.path(), &copy).unwrap();
            keep_secret(&copy);
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(TASKHUB, folder.path().join("bin/func")).unwrap();
        let inside = folder.path().join("app");
        Self {
            servers: Vec::new(),
            ports: Vec::new(),
            folder,
            inside,
            env: Vec::new(),
            token: String::new(),
            kept: None,
        }
    }

    /// Starts a server in a folder, with options.
    fn serve(&mut self, line: &str) {
        let (folder, options) = line.split_once(' ').unwrap_or((line, ""));
        let options = options.replace("$HOME", self.folder.path().to_str().unwrap());
        let options: Vec<&str> = options.split(' ').filter(|word| !word.is_empty()).collect();
        self.servers.push(Server::start(self.folder.path(), folder, &options));
    }

    fn run(&mut self, line: &str) -> String {
        let home = self.folder.path().to_str().unwrap().to_owned();
        let line = line.replace("$TOKEN", &self.token).replace("$HOME", &home);
        let port = self.servers.last().map_or("", |server| &server.port);
        let line = line.replace("$PORT", port);
        let (line, input) = match line.split_once(" <<< ") {
            Some((line, input)) => (line.to_owned(), Some(input.to_owned())),
            None => (line, None),
        };
        let said = line.clone();
        let mut words = split(&line).into_iter();
        let program = match words.next().as_deref() {
            Some("taskhub") => PathBuf::from(TASKHUB),
            Some(other) => self.folder.path().join("bin").join(other),
            None => panic!("`{line}` names no program"),
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(&self.inside)
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("PATH", self.folder.path().join("bin"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing has closed its end.
        let _closed = std::io::Write::write_all(&mut stdin, input.unwrap_or_default().as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(
            out.is_empty() || out.ends_with('\n'),
            "{line}: {out:?} does not end with a line"
        );
        if let Some((_, rest)) = out.split_once("next set of results: '") {
            rest.split('\'').next().unwrap_or_default().clone_into(&mut self.token);
        }
        let mut shown = String::new();
        for (mark, text) in [('>', out), ('!', err)] {
            for line in text.lines() {
                let line = self.steady(line, &said);
                writeln!(shown, "{mark} {line}").unwrap();
            }
        }
        match output.status.code() {
            Some(0) => {}
            code => writeln!(shown, "= {}", code.unwrap()).unwrap(),
        }
        if let Some((store, held)) = &self.kept {
            assert_eq!(&contents::of(store), held, "{line} changed what the store holds");
        }
        shown
    }

    /// The line without what differs from run to run.
    fn steady(&self, line: &str, command: &str) -> String {
        let line = line.replace(self.folder.path().to_str().unwrap(), "$HOME");
        let line = match (line.find("results: '"), self.token.is_empty()) {
            (Some(_), false) => line.replace(&self.token, "<token>"),
            _ => line,
        };
        let digits = [("127.0.0.1:", "<port>"), ("process ", "<pid>"), ("--port ", "<port>")];
        let hidden = |line: String, (behind, shown)| hide_digits(&line, behind, shown);
        let line = digits.into_iter().fold(line, hidden);
        let line = match line.split_once("\"continuationToken\": \"") {
            Some((head, _)) => format!("{head}\"continuationToken\": \"<token>\""),
            None => line,
        };
        mask(&line, command)
    }
}

/// Splits a line as a shell does, as far as the scripts need it.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The line with the digits behind a text replaced.
fn hide_digits(line: &str, behind: &str, shown: &str) -> String {
    let mut parts = line.split(behind);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str(behind);
        out.push_str(if rest.len() < part.len() { shown } else { "" });
        out.push_str(rest);
    }
    out
}

/// Random ids become `<id>`, moments of this century `<time>`, dates in sentences `<date>`.
fn mask(line: &str, command: &str) -> String {
    let bytes = line.as_bytes();
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &line[at..];
        let hex = rest.bytes().take_while(|b| is_hex(b)).count();
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric() || out.ends_with("Event_");
        // One that the command names is no random one.
        if hex == 32 && begins && !command.contains(&rest[..hex]) {
            out.push_str("<id>");
            at += hex;
        } else if let Some(length) = iso_length(rest) {
            out.push_str("<time>");
            at += length;
        } else if is_date(rest) {
            out.push_str("<date>");
            at += 19;
        } else {
            let c = rest.chars().next().unwrap();
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

fn matches(text: &str, pattern: &str) -> bool {
    let is_like = |(b, p): (u8, u8)| if p == b'9' { b.is_ascii_digit() } else { b == p };
    text.len() >= pattern.len() && text.bytes().zip(pattern.bytes()).all(is_like)
}

/// Of a moment that ends with `Z` and is not far from now.
fn iso_length(text: &str) -> Option<usize> {
    let is_moment = matches(text, "2099-99-99T99:99:99") || matches(text, "2999-99-99T99:99:99");
    let end = text.find('Z').filter(|end| is_moment && *end < 28)?;
    let fraction = text.get(19..end)?;
    let is_fraction = fraction.is_empty() || fraction[1..].bytes().all(|b| b.is_ascii_digit());
    // Moments that a script itself names are not those of this run.
    (is_fraction && !text.starts_with("2018")).then_some(end + 1)
}

fn is_date(text: &str) -> bool {
    matches(text, "99/99/2999 99:99:99") && !text[6..].starts_with("2018")
}

/// A server in the folder of the script, which its commands find by the lock of the store.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(home: &Path, folder: &str, options: &[&str]) -> Self {
        std::fs::create_dir_all(home.join(folder)).unwrap();
        let mut command = Command::new(TASKHUB);
        let mut child = command
            .args(["dev", "--port", "0", "--log-level", "error"])
            .args(options)
            .current_dir(home.join(folder))
            .env_clear()
            .env("HOME", home.join("home"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let first = BufReader::new(child.stdout.take().unwrap()).lines().next();
        let first = first.unwrap().unwrap();
        let address = first.strip_prefix("listening http=127.0.0.1:").unwrap();
        let port = address.split(' ').next().unwrap().to_owned();
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which a test that needs it has noticed.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A port that is taken, and on which nobody listens; 0 is any that is free.
fn unheard(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    socket
}

/// Closes a file to others, as one keeps a key.
fn keep_secret(path: &Path) {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Who holds the store while a script runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Server,
    /// One that speaks HTTPS, with a certificate of an authority that the system does not know.
    TlsServer,
}

fn check(path: &Path, beside: Beside) {
    let script = std::fs::read_to_string(path).unwrap();
    let mut runner = Runner::new();
    match beside {
        Beside::Nobody => {}
        Beside::Server => runner.serve("app --store .taskhub"),
        Beside::TlsServer => {
            let authority = runner.folder.path().join("certificate/ca.pem");
            let authority = authority.to_str().unwrap().to_owned();
            runner.env.push(("TASKHUB_CA_FILE".to_owned(), authority));
            let tls = "--cert $HOME/certificate/server.pem --cert-key $HOME/certificate/server-key.pem";
            runner.serve(&format!("app --store .taskhub {tls}"));
        }
    }
    let mut shown = String::new();
    for line in script.lines() {
        let verb = line.split(' ').next().unwrap_or_default();
        if ["!", ">", "="].contains(&verb) {
            continue;
        }
        shown.push_str(line);
        shown.push('\n');
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest);
        match verb {
            "" | "#" => {}
            "$" => {
                let answer = runner.run(rest);
                shown.push_str(&answer);
            }
            "file" => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let path = runner.inside.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let text = text.replace("\\n", "\n").replace("\\u{feff}", "\u{feff}");
                std::fs::write(&path, text).unwrap();
                if path.extension().is_some_and(|extension| extension == "key") {
                    keep_secret(&path);
                }
            }
            "server" => runner.serve(rest),
            // The last one first; it has no time to tidy up.
            "kill" => {
                let port = runner.servers.pop().unwrap().port.parse().unwrap();
                runner.ports.push(unheard(port));
            }
            "unchanged" => {
                let store = runner.folder.path().join(rest);
                let held = contents::of(&store);
                runner.kept = Some((store, held));
            }
            // A file of many bytes that takes no room, or one that is cut short.
            "length" => {
                let (name, bytes) = rest.split_once(' ').unwrap();
                let mut options = std::fs::File::options();
                let options = options.write(true).create(true).truncate(false);
                let file = options.open(runner.inside.join(name)).unwrap();
                file.set_len(bytes.parse().unwrap()).unwrap();
            }
            "env" => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                let home = runner.folder.path().to_str().unwrap().to_owned();
                runner.env.retain(|(known, _)| known != name);
                if !value.is_empty() {
                    runner.env.push((name.to_owned(), value.replace("$HOME", &home)));
                }
            }
            "in" => {
                runner.inside = runner.folder.path().join(rest);
                std::fs::create_dir_all(&runner.inside).unwrap();
            }
            "link" | "move" => {
                let (one, other) = rest.split_once(' ').unwrap();
                let (one, other) = (runner.folder.path().join(one), runner.folder.path().join(other));
                match verb {
                    #[cfg(unix)]
                    "link" => std::os::unix::fs::symlink(other, one).unwrap(),
                    _ => std::fs::rename(one, other).unwrap(),
                }
            }
            // The server has made its store.
            "absent" if beside != Beside::Nobody => {}
            "absent" => {
                let path = runner.inside.join(rest);
                assert!(!path.exists(), "{}: {rest} exists", path.display());
            }
            other => panic!("{}: `{other}` begins no line", path.display()),
        }
    }
    if beside == Beside::Nobody && std::env::vars_os().any(|(name, _)| name == "UPDATE") {
        std::fs::write(path, shown).unwrap();
        return;
    }
    let shown = without_reasons(&shown);
    // The server has made the default hub, so nobody need be told of others.
    let is_same = |line: &&str| beside == Beside::Nobody || !line.starts_with("! hint: task hub '");
    let shown: Vec<&str> = shown.lines().filter(is_same).collect();
    let script: Vec<&str> = script.lines().filter(is_same).collect();
    let name = path.file_name().unwrap().display();
    for (number, (is, was)) in shown.iter().zip(&script).enumerate() {
        assert_eq!(is, was, "{name}:{}", number + 1);
    }
    assert_eq!(shown.len(), script.len(), "{name} is of another length");
}

/// The same without what a server says of work for functions that it has not: a stopped store does not know who has them.
fn without_reasons(shown: &str) -> String {
    const REASON: &str = "no worker has the orchestrator";
    let mut parts = shown.split("\"stalled\":");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str("\"stalled\":");
        match part.split_once('}') {
            Some((stall, rest)) if stall.contains(REASON) => {
                kept.push_str(if stall.starts_with(' ') { " null" } else { "null" });
                kept.push_str(rest);
            }
            _ => kept.push_str(part),
        }
    }
    kept
}

macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            #[cfg(unix)]
            fn $name() {
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durable/");
                check(&Path::new(folder).join(concat!(stringify!($name), ".txt")), Beside::Nobody);
            }
        )*

        #[test]
        fn every_script_is_run() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durable/");
            let files = std::fs::read_dir(folder).unwrap();
            let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
            let mut there: Vec<String> = names.collect();
            there.sort();
            assert_eq!(there, [$(stringify!($name)),*]);
        }
    };
}

scripts! {
    article beside bulk connections doubts errors forms grammar help hubs inputs names paging projects refused reuse
    servers settings shim tls unknown waits
}

/// The same scripts with the same answers beside a running server (L27), over HTTP and over HTTPS: all those that are not
/// about finding the store itself.
macro_rules! beside_a_server {
    ($($name:ident)*) => {
        mod beside_a_server {
            beside_a_server!(in Server: $($name)*);
        }
        mod beside_a_server_with_tls {
            beside_a_server!(in TlsServer: $($name)*);
        }
    };
    (in $beside:ident: $($name:ident)*) => {
        $(
            #[test]
            #[cfg(unix)]
            fn $name() {
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durable/");
                let script = std::path::Path::new(folder).join(concat!(stringify!($name), ".txt"));
                super::check(&script, super::Beside::$beside);
            }
        )*
    };
}

beside_a_server! {
    article bulk doubts forms grammar hubs inputs paging reuse unknown
}

/// A store of its own, and a command in it.
#[cfg(unix)]
fn in_folder(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(TASKHUB);
    command.args(args).current_dir(folder).env_clear().env("HOME", folder);
    command
}

#[test]
#[cfg(unix)]
fn a_reader_that_went_away_ends_a_command_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = in_folder(folder.path(), &["durable", "get-instances"]);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// Starts an instance and waits for it: the command, once it has said that it started, and its further lines.
#[cfg(unix)]
fn start_and_wait(folder: &Path) -> (Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let start = ["durable", "start-new", "--function-name", "F", "--id", "one", "--wait"];
    let mut command = in_folder(folder, &start);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("Started 'F' at "));
    (child, lines)
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_a_wait_and_leaves_the_store_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let (child, _lines) = start_and_wait(folder.path());
    let other = in_folder(folder.path(), &["durable", "get-instances", "-o", "ids"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(other.stdout).unwrap(), "one\n");
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "no server holds the store: the instance stays Pending until one does\ninstance 'one' goes on\n"
    );
}

#[test]
#[cfg(unix)]
fn a_wait_ends_when_the_instance_does_and_its_exit_code_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = start_and_wait(folder.path());
    let end = ["durable", "terminate", "--id", "one", "--reason", "enough"];
    assert!(in_folder(folder.path(), &end).output().unwrap().status.success());
    assert_eq!(child.wait().unwrap().code(), Some(11));
    assert_eq!(lines.next().unwrap().unwrap(), "enough");
}

#[test]
#[cfg(unix)]
fn commands_at_the_same_time_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let start = ["durable", "start-new", "--function-name", "F", "-o", "ids"];
    let children: Vec<_> = (0..8)
        .map(|_| {
            in_folder(folder.path(), &start)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8(output.stderr).unwrap());
    }
    let all = in_folder(folder.path(), &["durable", "get-instances", "--all", "-o", "ids"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), 8);
}

#[test]
#[cfg(unix)]
fn a_store_that_somebody_else_holds_is_named_with_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let start = ["durable", "start-new", "--function-name", "F", "-o", "ids"];
    assert!(in_folder(folder.path(), &start).output().unwrap().status.success());
    let place = folder.path().join(".taskhub/lock");
    let lock = std::fs::File::options().read(true).write(true).open(&place).unwrap();
    lock.lock().unwrap();
    std::fs::write(&place, "4711\n").unwrap();
    let store = folder.path().join(".taskhub");
    let expected = format!(
        "error[store-locked]: the store in {} is held by process 4711, which does not answer\n",
        store.display()
    );
    // A server on its way out leaves word for a while, and listens no longer.
    let unheard = unheard(0);
    let gone = unheard.local_addr().unwrap();
    let word = format!(r#"{{"http":"{gone}","pid":4711,"hub":"DurableFunctionsHub","store":""}}"#);
    for word in [None, Some(word)] {
        if let Some(word) = word {
            std::fs::write(store.join("server.json"), word).unwrap();
        }
        let output = in_folder(folder.path(), &["durable", "get-instances"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    }
}

#[test]
#[cfg(unix)]
fn a_store_that_is_none_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join(".taskhub");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("store.db"), "this is no database, but a text of some length").unwrap();
    for args in [
        &["durable", "get-instances"][..],
        &["durable", "start-new", "--function-name", "F"],
    ] {
        let output = in_folder(folder.path(), args).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with("error[store-corrupt]: cannot open the store: "),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let text = std::fs::read_to_string(store.join("store.db")).unwrap();
    assert_eq!(text, "this is no database, but a text of some length");
}

#[test]
#[cfg(unix)]
fn commands_give_back_what_they_take_also_when_they_are_refused() {
    use taskhub_core::id::HubName;
    use taskhub_core::time::Timestamp;
    use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};
    use taskhub_store::{Claim, Lease, NodeId, PartitionKey, Previous, Store as _};
    let folder = tempfile::tempdir().unwrap();
    let start = ["durable", "start-new", "--function-name", "F", "--id", "one", "--input"];
    for (args, code) in [
        ([&start[..], &["1"]].concat(), 0),
        ([&start[..], &["2"]].concat(), 5),
        (vec!["durable", "terminate", "--id", "one"], 0),
        (vec!["durable", "raise-event", "--id", "one", "--strict"], 1),
        (vec!["durable", "purge-history"], 0),
    ] {
        let output = in_folder(folder.path(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let store = EmbeddedStore::open(&folder.path().join(".taskhub"), EmbeddedOptions::default()).unwrap();
        let hub = HubName::new("DurableFunctionsHub").unwrap();
        let key = |index| PartitionKey {
            hub: hub.clone(),
            index,
        };
        let keys: Vec<_> = (0..taskhub_store::PARTITIONS_DEFAULT).map(key).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let claim = Claim::new(NodeId(1), &keys, Timestamp::from_ticks(0));
            let leases = store.claim(&claim).await.unwrap().leases;
            let is_clean = |lease: &Lease| lease.previous == Previous::Nobody;
            assert!(leases.iter().all(is_clean), "{args:?}");
            store.release(&leases).await.unwrap();
        });
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_hub_at_work_is_deleted_once_its_name_is_typed_and_others_need_not_wait_for_that() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| in_folder(folder.path(), args).output().unwrap();
    for (typed, code) in [("Other\n", 1), ("\u{4}", 1), ("DurableFunctionsHub\n", 0)] {
        let start = ["durable", "start-new", "--function-name", "F", "--id", "one"];
        assert!(run(&start).status.success());
        // On a terminal of its own.
        let line = format!("{TASKHUB} durable delete-task-hub");
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut keys, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = Vec::new();
        while !seen.ends_with(b"Type the name to delete it: ") {
            let mut byte = [0];
            shown.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        let list = run(&["durable", "get-instances", "-o", "ids"]);
        assert_eq!(String::from_utf8(list.stdout).unwrap(), "one\n");
        keys.write_all(typed.as_bytes()).unwrap();
        let mut rest = String::new();
        shown.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest}");
        let left = run(&["durable", "get-instances", "-o", "ids"]);
        let is_left = String::from_utf8(left.stdout).unwrap() == "one\n";
        assert_eq!(is_left, code != 0, "{rest}");
    }
}
