//! Files and folders of other users: what they lay in our way is not followed, read or believed.
//!
//! Acting as several users takes root; without it the cases with another user are left out, which is said.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");
/// Two users that need no name.
const MINE: u32 = 64_001;
const OTHER: u32 = 64_002;

/// Whether this may act as other users.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        std::io::stderr()
            .write_all(b"left out: it takes root to act as another user\n")
            .unwrap();
    }
    is_root
}

/// A command as a user, in a folder; the binary is copied to where every user may run it.
fn func(root: &Path, user: Option<u32>, folder: &Path, args: &[&str]) -> Output {
    let program = root.join("taskhub");
    if !program.exists() {
        fs::copy(TASKHUB, &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(program);
    command.arg("durable").args(args).current_dir(folder).env_clear();
    command
        .env("HOME", folder)
        .env("TASKHUB_KEY", "a secret of the environment");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    loop {
        match command.output() {
            // A process that another test starts has the copy open for a moment.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => return output.unwrap(),
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder that all users may enter.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    scratch
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
}

const START: [&str; 4] = ["start-new", "--function-name", "F", "--id=one"];
const LIST: [&str; 3] = ["get-instances", "-o", "ids"];

#[test]
fn a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays() {
    let scratch = scratch();
    let (folder, victim) = (scratch.path().join("project"), scratch.path().join("victim"));
    fs::create_dir(&folder).unwrap();
    assert!(func(scratch.path(), None, &folder, &START).status.success());
    let store = folder.join(".taskhub");
    fs::write(&victim, "mine").unwrap();
    fs::remove_file(store.join("lock")).unwrap();
    symlink(&victim, store.join("lock")).unwrap();
    let output = func(scratch.path(), None, &folder, &LIST);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("lock: it is a symbolic link"),
        "{}",
        text(&output)
    );
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
}

#[test]
fn a_store_is_closed_to_others_whatever_the_umask() {
    let scratch = scratch();
    let folder = scratch.path().join("project");
    fs::create_dir(&folder).unwrap();
    // Not a copy: that may be busy for a moment, which the shell does not tell apart.
    let line = format!("umask 0; exec {TASKHUB} durable start-new --function-name F");
    let output = Command::new("sh")
        .args(["-c", &line])
        .current_dir(&folder)
        .env_clear()
        .env("HOME", &folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let store = folder.join(".taskhub");
    assert_eq!(mode(&store), 0o700);
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn what_another_user_left_in_a_parent_folder_does_not_count() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let above = scratch.path().join("shared");
    let mine = above.join("mine");
    fs::create_dir_all(&mine).unwrap();
    give(&above, OTHER);
    give(&mine, MINE);
    assert!(func(scratch.path(), Some(OTHER), &above, &START).status.success());
    for (name, content) in [
        (
            "host.json",
            r#"{"version": "2.0", "extensions": {"durableTask": {"hubName": "Theirs"}}}"#,
        ),
        (
            "local.settings.json",
            r#"{"Values": {"AzureWebJobsStorage": "Server=http://192.0.2.1:7071"}}"#,
        ),
    ] {
        fs::write(above.join(name), content).unwrap();
        give(&above.join(name), OTHER);
    }
    let output = func(scratch.path(), Some(MINE), &mine, &LIST);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(0), 0),
        "{}",
        text(&output)
    );
    let output = func(scratch.path(), Some(MINE), &mine, &START);
    assert!(output.status.success(), "{}", text(&output));
    assert!(mine.join(".taskhub/store.db").exists(), "the store is made here");
    // What the user, or root, has there counts as before.
    fs::remove_dir_all(mine.join(".taskhub")).unwrap();
    for user in [MINE, 0] {
        give(&above.join("host.json"), user);
        let output = func(scratch.path(), Some(MINE), &mine, &["get-instances", "--verbose"]);
        assert!(text(&output).contains("Theirs"), "{user}: {}", text(&output));
    }
}

#[test]
fn a_key_of_the_environment_does_not_follow_another_user_s_settings() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let theirs = scratch.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = theirs.join("local.settings.json");
    fs::write(
        &settings,
        format!(r#"{{"Values": {{"AzureWebJobsStorage": "http://{address}"}}}}"#),
    )
    .unwrap();
    for (owner, is_sent) in [(OTHER, false), (MINE, true), (0, true)] {
        give(&settings, owner);
        let heard = std::thread::scope(|scope| {
            let hears = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                let bytes = std::io::Read::read(&mut stream, &mut head).unwrap();
                String::from_utf8_lossy(&head[..bytes]).into_owned()
            });
            func(scratch.path(), Some(MINE), &theirs, &LIST);
            hears.join().unwrap()
        });
        assert!(heard.starts_with("GET /"), "{owner}: {heard}");
        assert_eq!(
            heard.contains("a secret of the environment"),
            is_sent,
            "{owner}: {heard}"
        );
    }
}

#[test]
fn another_user_s_store_is_neither_opened_nor_changed() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let theirs = scratch.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    give(&theirs, OTHER);
    assert!(func(scratch.path(), Some(OTHER), &theirs, &START).status.success());
    let store = theirs.join(".taskhub");
    for open in [0o700, 0o755, 0o777] {
        fs::set_permissions(&store, Permissions::from_mode(open)).unwrap();
        let before = fs::read(store.join("lock")).unwrap();
        let folder = store.to_str().unwrap();
        let output = func(
            scratch.path(),
            Some(MINE),
            scratch.path(),
            &["get-instances", "--store", folder],
        );
        assert_eq!(output.status.code(), Some(3), "{open:o}: {}", text(&output));
        assert_eq!(fs::read(store.join("lock")).unwrap(), before, "{open:o}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let scratch = scratch();
    let key = scratch.path().join("system.key");
    fs::write(&key, "letmein-letmein-letmein").unwrap();
    let args = [
        "get-instances",
        "--server",
        "http://127.0.0.1:1",
        "--key-file",
        "system.key",
    ];
    for (mode, is_taken) in [
        (0o600, true),
        (0o400, true),
        (0o640, false),
        (0o644, false),
        (0o604, false),
        (0o620, false),
    ] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let said = text(&func(scratch.path(), None, scratch.path(), &args));
        assert_eq!(said.contains("cannot reach"), is_taken, "{mode:o}: {said}");
        let refused = format!("others can read the key in {} (mode {mode:04o})", key.display());
        assert_eq!(
            said.contains(&refused) && said.contains("chmod 600"),
            !is_taken,
            "{mode:o}: {said}"
        );
    }
}

#[test]
fn the_key_of_the_environment_is_sent_to_no_other_machine_in_clear() {
    let scratch = scratch();
    let ask = |url: &str| {
        let output = func(
            scratch.path(),
            None,
            scratch.path(),
            &["get-instances", "--server", url],
        );
        (output.status.code(), text(&output))
    };
    for url in [
        "http://192.0.2.1:7071",
        "http://hub.example",
        "http://localhost.example:1",
        "http://127.0.0.1.example",
    ] {
        let (code, said) = ask(url);
        assert_eq!(code, Some(6), "{url}: {said}");
        assert!(
            said.contains(&format!("TASKHUB_KEY is not sent to {url}")) && said.contains("--key-file"),
            "{said}"
        );
    }
    for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
        assert!(ask(url).1.contains("cannot reach"), "{url}");
    }
}

/// The binary, which is ended when it waits for the other end of a pipe.
fn patiently(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", TASKHUB]).args(args).current_dir(folder).env_clear();
    command
        .env("HOME", folder)
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for (name, is_told) in [
        ("host.json", true),
        ("local.settings.json", true),
        (".taskhub/server.json", false),
    ] {
        let scratch = scratch();
        fs::create_dir(scratch.path().join(".taskhub")).unwrap();
        fs::set_permissions(scratch.path().join(".taskhub"), Permissions::from_mode(0o700)).unwrap();
        make_pipe(&scratch.path().join(name));
        let output = patiently(scratch.path(), &[&["durable"], &START[..]].concat());
        let said = text(&output);
        assert_ne!(output.status.code(), Some(124), "{name}: {said}");
        assert_eq!(said.contains("not a regular file"), is_told, "{name}: {said}");
    }
    let scratch = scratch();
    make_pipe(&scratch.path().join("key"));
    let output = patiently(
        scratch.path(),
        &["serve", "--store", "s", "--port", "0", "--key-file", "key"],
    );
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot read the key in") && said.contains("not a regular file"),
        "{said}"
    );
}

/// As secrets are handed to containers: everybody there may read them, and nobody can change that.
#[cfg(target_os = "linux")]
#[test]
fn a_key_that_others_can_read_is_taken_from_a_file_system_that_is_read_only() {
    let has_namespaces = Command::new("unshare").args(["-rm", "true"]).status();
    if !has_namespaces.is_ok_and(|status| status.success()) {
        let why = b"left out: it takes a namespace of its own to mount something\n";
        std::io::stderr().write_all(why).unwrap();
        return;
    }
    let scratch = scratch();
    let serve = |mode: &str, then: &str| {
        // What is wrong with the certificate is said once the key is read.
        let script = format!(
            "set -e; mkdir -p s; mount -t tmpfs tmpfs s; printf 'a key of a container' > s/key; chmod {mode} s/key; {then}; \
             exec \"$1\" serve --store store --port 0 --key-file s/key --cert none"
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, "sh", TASKHUB]);
        text(&command.current_dir(scratch.path()).output().unwrap())
    };
    let read_only = "mount -o remount,ro s";
    for (mode, then, is_taken) in [
        ("444", "true", false),
        ("444", read_only, true),
        ("644", read_only, true),
        ("664", read_only, false),
        ("400", "true", true),
    ] {
        let said = serve(mode, then);
        let told = if is_taken {
            "`--cert-key` need each other"
        } else {
            "others can read the key"
        };
        assert!(said.contains(told), "{mode}, {then}: {said}");
    }
}
