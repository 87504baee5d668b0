//! The built binary from outside.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use taskhub_store::embedded::{EmbeddedOptions, EmbeddedStore};

const TASKHUB: &str = env!("CARGO_BIN_EXE_taskhub");

fn taskhub(args: &[&str]) -> Output {
    Command::new(TASKHUB).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn demo_runs_three_orchestrations_and_says_what_was_written() {
    let output = taskhub(&["demo", "--once"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for part in [
        r#"Completed: ["Hello Tokyo!","Hello Seattle!","Hello London!"]"#,
        "Completed: 42",
        r#"Completed: "Approved""#,
        "history of E1_HelloSequence",
        "TaskScheduled #2 E1_SayHello \"London\"",
        "written to disk: ",
        "bytes  store.db",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
}

#[test]
fn two_demos_at_once_do_not_disturb_each_other() {
    let demos: Vec<_> = (0..2)
        .map(|_| {
            Command::new(TASKHUB)
                .args(["demo", "--once"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for demo in demos {
        let output = demo.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).matches("Completed: ").count(), 3);
    }
}

#[test]
fn a_kept_demo_store_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().to_str().unwrap();
    for _ in 0..2 {
        let output = taskhub(&["demo", "--once", "--keep", keep]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("the store is kept"));
    }
    assert!(folder.path().join("store/store.db").exists());
}

#[test]
fn a_folder_that_cannot_be_a_store_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = taskhub(&["demo", "--keep", file.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(
        said.starts_with("error[store-unavailable]: cannot open the store in ")
            && said.contains(file.path().to_str().unwrap()),
        "{said}"
    );
}

#[test]
fn version_and_completions_are_printed() {
    assert_eq!(
        text(&taskhub(&["version"]).stdout),
        format!("taskhub {}\n", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = taskhub(&["completions", shell]);
        assert!(
            output.status.success() && text(&output.stdout).contains("demo"),
            "{shell}"
        );
    }
}

#[test]
#[cfg(unix)]
fn completions_are_for_the_program_as_it_was_called() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    std::os::unix::fs::symlink(TASKHUB, &hub).unwrap();
    let script = |program: &Path| {
        let output = Command::new(program).args(["completions", "fish"]).output().unwrap();
        text(&output.stdout)
    };
    let (own, called) = (script(Path::new(TASKHUB)), script(&hub));
    assert!(own.contains("complete -c taskhub ") && !own.contains("complete -c hub "));
    assert!(called.contains("complete -c hub ") && !called.contains("complete -c taskhub "));
}

#[test]
fn what_is_not_understood_is_named_and_exits_with_2() {
    for (args, named) in [
        (&["demmo"][..], "demmo"),
        (&["demo", "--kep"], "did you mean `--keep`?"),
        (&["completions", "csh"], "csh"),
        (&["store", "verify", "--jsno"], "did you mean `--json`?"),
        (&["serve", "--port", "many"], "expected a port number from 0 to 65535"),
    ] {
        let (code, shown, told) = tool(args);
        assert_eq!((code, shown.as_str()), (2, ""), "{args:?}");
        let [error, usage, hint] = told.lines().collect::<Vec<_>>()[..] else {
            panic!("{args:?}: {told}")
        };
        assert!(error.starts_with("error[usage]: ") && error.contains(named), "{told}");
        assert!(usage.starts_with("usage: taskhub "), "{told}");
        assert!(
            hint.starts_with("hint: run `taskhub ") && hint.ends_with(" --help`"),
            "{told}"
        );
    }
}

#[test]
fn the_name_of_a_group_alone_shows_its_page() {
    for (args, named) in [
        (&[][..], "Work with instances:"),
        (&["store"], "verify"),
        (&["shim"], "install"),
    ] {
        let (code, shown, told) = tool(args);
        assert_eq!((code, shown.as_str()), (2, ""), "{args:?}");
        assert!(told.contains("Usage: taskhub ") && told.contains(named), "{told}");
    }
}

#[test]
fn manual_pages_are_printed_or_written_for_every_command() {
    let (code, page, _) = tool(&["man"]);
    assert_eq!(code, 0);
    assert!(
        page.contains(".SH SUBCOMMANDS") && page.contains("taskhub\\-durable(1)"),
        "{page}"
    );
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let (code, shown, told) = tool(&["man", pages.to_str().unwrap()]);
    assert_eq!((code, shown.as_str(), told.as_str()), (0, "", ""));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("taskhub.1").contains("taskhub\\-serve(1)"));
    assert!(page("taskhub-store-repair.1").contains("\\-\\-accept\\-loss"));
    let verb = page("taskhub-durable-start-new.1");
    for part in [
        "\\-\\-function\\-name",
        "Exit codes:",
        "func durable start\\-new",
        concat!("\"taskhub ", env!("CARGO_PKG_VERSION"), "\""),
    ] {
        assert!(verb.contains(part), "`{part}` is missing in:\n{verb}");
    }

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, _, told) = tool(&["man", file.join("man1").to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        told.starts_with("error[output-failed]: cannot write the manual pages to "),
        "{told}"
    );
}

/// What bash proposes for the last word of each line.
#[test]
#[cfg(target_os = "linux")]
fn bash_completes_commands_options_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("taskhub.bash");
    std::fs::write(&script, taskhub(&["completions", "bash"]).stdout).unwrap();
    let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
               _taskhub taskhub \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; echo \"${COMPREPLY[@]}\"";
    for (words, proposed) in [
        (&["du"][..], "durable"),
        (&["durable", "get-"], "get-runtime-status get-history get-instances"),
        (
            &["durable", "get-instances", "--cr"],
            "--created-after --created-before",
        ),
        (&["durable", "get-instances", "--runtime-status", "r"], "running"),
        (
            &["durable", "start-new", "--if-exists", "re"],
            "reuse replace-ended replace-any",
        ),
        (&["durable", "get-history", "-o", "j"], "json jsonl"),
        (&["durable", "get-history", "--strict", "t"], "true"),
        (&["errors", "hub-n"], "hub-not-found"),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", ask, "bash"])
            .arg(&script)
            .arg("taskhub")
            .args(words);
        let output = bash.output().unwrap();
        let shown = text(&output.stdout);
        assert_eq!(shown.trim_end(), proposed, "{words:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_small_benchmark_reports_the_same_figures_as_a_table_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |extra: &[&str]| {
        let folder: &Path = folder.path();
        let fixed = ["bench", "latency", "--count", "5", "--folder", folder.to_str().unwrap()];
        let output = taskhub(&[&fixed[..], extra].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(bench(&[]).contains("groups                                     4.0000 each"));
    let json: serde_json::Value = serde_json::from_str(&bench(&["--json"])).unwrap();
    assert_eq!(json[1]["groups"]["value"], 4.0);
    assert_eq!(json[0]["groups"]["value"], 2.0);
}

#[test]
fn small_benchmarks_over_http_report_starts_reads_and_a_purge() {
    let bench = |words: &[&str]| -> serde_json::Value {
        let output = taskhub(&[&["bench", "--json"][..], words].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_str(&text(&output.stdout)).unwrap()
    };
    let runs = bench(&["http", "--count", "20", "--connections", "4"]);
    for run in [1, 2] {
        // A start is acknowledged behind the sync of its group, and four can share one.
        let syncs = runs[run]["syncs"]["value"].as_f64().unwrap();
        assert!(syncs >= 0.25, "{runs}");
        let share = runs[run]["share of the bare endpoint's rate"]["value"]
            .as_f64()
            .unwrap();
        assert!(share > 0.0, "{runs}");
    }
    let small = ["--count", "150", "--reads", "20", "--rate", "50", "--quiet", "0"];
    let runs = bench(&[&["http-size"][..], &small].concat());
    for run in [0, 1] {
        for figure in ["status by id p99", "page of 100 p99"] {
            assert!(runs[run][figure]["value"].as_f64().unwrap() > 0.0, "{runs}");
        }
    }
    for figure in ["purged", "starts before", "starts beside it"] {
        assert!(runs[2][figure]["value"].as_f64().unwrap() > 0.0, "{runs}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_that_cannot_be_written_is_no_success() {
    for args in [
        &["version"][..],
        &["errors"],
        &["completions", "bash"],
        &["--help"],
        &["demo", "--help"],
        &["man"],
        &["durable", "--help"],
        &["demo", "--once"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(TASKHUB).args(args).stdout(full).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error[output-failed]: "), "{args:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(TASKHUB).args(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

/// A folder with the demo's store, and the path of that store.
fn demo_store() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = taskhub(&["demo", "--once", "--keep", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let store = folder.path().join("store").to_str().unwrap().to_owned();
    (folder, store)
}

/// Exit code, standard output and standard error.
fn tool(args: &[&str]) -> (i32, String, String) {
    let output = taskhub(args);
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_store_is_verified_and_what_is_whole_is_saved() {
    let (folder, store) = demo_store();
    let (code, shown, _) = tool(&["store", "verify", "--store", &store]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("is whole ("), "{shown}");
    let export = folder.path().join("all.jsonl");
    let export = export.to_str().unwrap();
    let (code, _, told) = tool(&["store", "repair", "--store", &store, "--export", export]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("all 3 instances are in"), "{told}");
    let saved = std::fs::read_to_string(export).unwrap();
    let lines: Vec<serde_json::Value> = saved.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(line["hub"], "DemoHub");
        let events = line["histories"][0]["events"].as_array().unwrap();
        // In the form of Core Tools there is an event more for each turn.
        assert!(Some(events.len() as u64) > line["historyLength"].as_u64(), "{line}");
    }
    // What is there already is not written over.
    let (code, _, told) = tool(&["store", "repair", "--store", &store, "--export", export]);
    assert_eq!(code, 5, "{told}");
    assert!(told.contains("already exists"), "{told}");

    // One bit of one of them.
    let file = Path::new(&store).join("store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(7).position(|part| part == b"Seattle").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, shown, _) = tool(&["store", "verify", "--store", &store]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("wrong checksum in page"), "{shown}");
    assert!(shown.contains("things are wrong in the store"), "{shown}");
    let (code, shown, _) = tool(&["store", "verify", "--store", &store, "--json"]);
    assert_eq!(code, 1);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["problems"].as_array().unwrap().len() >= 2, "{shown}");
    let (code, rest, told) = tool(&["store", "repair", "--store", &store, "--export", "-"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("left out: hub `DemoHub`, instance `"), "{told}");
    // The others come out as they were.
    assert_eq!(rest.lines().count(), 2);
    assert!(rest.lines().all(|line| saved.contains(line)));

    // And go on without the one that did not.
    let (code, _, told) = tool(&["store", "repair", "--store", &store, "--rebuild"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("left out: hub `DemoHub`, instance `"), "{told}");
    assert!(told.contains("the store is written anew with 2 instances"), "{told}");
    let (code, shown, _) = tool(&["store", "verify", "--store", &store]);
    assert_eq!(code, 0, "{shown}");
    let (code, same, told) = tool(&["store", "repair", "--store", &store, "--rebuild", "--export", "-"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(same, rest);
    assert!(told.contains("store.db.damaged.2"), "{told}");
}

#[test]
fn the_figures_of_a_store_are_shown_beside_a_server_and_without() {
    let (_folder, store) = demo_store();
    let alone = tool(&["store", "show", "--store", &store]);
    assert_eq!(alone.0, 0, "{}", alone.2);
    let lines: Vec<&str> = alone.1.lines().collect();
    assert_eq!(lines[0], format!("store   {store}"));
    assert_eq!(lines[1], "format  2");
    assert!(lines[2].starts_with("size    ") && lines[2].ends_with(" of them free"));
    assert_eq!(lines[3], "log     0 bytes");
    assert_eq!(lines[4..], ["hub     DemoHub: 8 partitions, 3 instances (3 Completed)"]);
    let held = EmbeddedStore::open(Path::new(&store), EmbeddedOptions::default()).unwrap();
    let (code, shown, told) = tool(&["store", "show", "--store", &store, "--json"]);
    assert_eq!(code, 0, "{told}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["store"], store.as_str());
    assert_eq!(shown["format"], 2);
    assert!(shown["bytes"].as_u64() > shown["freeBytes"].as_u64(), "{shown}");
    assert!(shown["logBytes"].as_u64() > Some(0), "{shown}");
    let hub = &shown["hubs"][0];
    assert_eq!(
        (&hub["hub"], &hub["partitions"], &hub["instances"]),
        (&"DemoHub".into(), &8.into(), &3.into())
    );
    assert_eq!(hub["statuses"], serde_json::json!({"Completed": 3}));
    // What changes it is for one alone.
    let (code, _, told) = tool(&["store", "compact", "--store", &store]);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("store-locked"), "{told}");
    drop(held);
    assert_eq!(tool(&["store", "show", "--store", &store]), alone);
}

#[test]
fn a_store_is_compacted() {
    let (_folder, store) = demo_store();
    let input = format!("\"{}\"", "7".repeat(60_000));
    let durable = |words: &[&str]| {
        let place = ["--store", &store, "--task-hub-name", "DemoHub"];
        let (code, _, told) = tool(&[&["durable"], words, &place].concat());
        assert_eq!(code, 0, "{told}");
    };
    durable(&[
        "start-new",
        "--function-name",
        "Large",
        "--id",
        "large",
        "--input",
        &input,
    ]);
    durable(&["terminate", "--id", "large"]);
    durable(&["purge-history", "--yes"]);
    let free = |store: &str| {
        let (_, shown, _) = tool(&["store", "show", "--json", "--store", store]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        (shown["bytes"].as_u64().unwrap(), shown["freeBytes"].as_u64().unwrap())
    };
    let (bytes, free_bytes) = free(&store);
    assert!(free_bytes > 0);
    let (code, _, told) = tool(&["store", "compact", "--store", &store]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(free(&store), (bytes - free_bytes, 0), "{told}");
    assert!(told.contains(&format!("{free_bytes} were given back")), "{told}");
    let file = std::fs::metadata(Path::new(&store).join("store.db")).unwrap().len();
    assert_eq!(file, bytes - free_bytes);
}

#[test]
fn the_tools_of_a_store_say_what_they_need() {
    let (folder, store) = demo_store();
    let nowhere = folder.path().join("nowhere");
    let (code, _, told) = tool(&["store", "verify", "--store", nowhere.to_str().unwrap()]);
    assert_eq!(code, 4);
    assert!(told.contains("there is no store in"), "{told}");
    assert!(!nowhere.exists(), "nothing is made");
    let (code, _, told) = tool(&["store", "repair", "--store", &store]);
    assert_eq!(code, 2);
    assert!(told.contains("--accept-loss"), "{told}");
    let (code, _, told) = tool(&["store", "repair", "--store", &store, "--accept-loss"]);
    assert_eq!(code, 0);
    assert!(told.contains("the log lacks nothing"), "{told}");
    // One of another store.
    let other = demo_store();
    let place = Path::new(&other.1);
    let held = EmbeddedStore::open(place, EmbeddedOptions::default()).unwrap();
    std::fs::copy(place.join("store.db-wal"), Path::new(&store).join("store.db-wal")).unwrap();
    drop(held);
    let (code, shown, _) = tool(&["store", "verify", "--store", &store]);
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("the log and the database file do not belong together"),
        "{shown}"
    );
    let (code, _, told) = tool(&["store", "repair", "--store", &store, "--accept-loss"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("store.db-wal.damaged; it goes on with 3 instances, the last change"),
        "{told}"
    );
    let held = EmbeddedStore::open(Path::new(&store), EmbeddedOptions::default()).unwrap();
    // Looking is possible beside whoever has it, taking is not.
    let (code, shown, told) = tool(&["store", "verify", "--store", &store]);
    assert_eq!(code, 0, "{shown}{told}");
    let (code, _, told) = tool(&["store", "repair", "--store", &store, "--export", "-"]);
    assert_eq!(code, 3);
    assert!(told.contains("error[store-locked]"), "{told}");
    drop(held);
}

/// With this as its standard output; exit code and standard error.
fn tool_into(out: impl Into<Stdio>, args: &[&str]) -> (i32, String) {
    let output = Command::new(TASKHUB).args(args).stdout(out).output().unwrap();
    (output.status.code().unwrap(), text(&output.stderr))
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_tools_of_a_store_cannot_write_is_no_success() {
    let (folder, store) = demo_store();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let closed = || std::io::pipe().unwrap().1;
    for args in [
        &["store", "verify", "--store", &store][..],
        &["store", "verify", "--store", &store, "--json"],
        &["store", "repair", "--store", &store, "--export", "-"],
    ] {
        let (code, told) = tool_into(full(), args);
        assert_eq!(code, 1, "{args:?}: {told}");
        assert!(
            told.contains("output-failed") && told.contains("cannot write"),
            "{told}"
        );
        assert!(!told.contains("instances are in"), "{told}");
        assert_eq!(tool_into(closed(), args), (141, String::new()), "{args:?}");
    }
    // A file that may not grow, as on a full disk.
    let export = folder.path().join("all.jsonl");
    let limited = "ulimit -f 0; exec \"$@\"";
    let args = [
        "-c", limited, "sh", TASKHUB, "store", "repair", "--store", &store, "--export",
    ];
    let output = Command::new("sh").args(args).arg(&export).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("error[output-failed]: cannot write") && told.contains("all.jsonl"),
        "{told}"
    );
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["store"], "nothing is left of it");
    // What another attempt has left is named.
    std::fs::write(folder.path().join("all.jsonl.part"), "").unwrap();
    let (code, _, told) = tool(&[
        "store",
        "repair",
        "--store",
        &store,
        "--export",
        export.to_str().unwrap(),
    ]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("all.jsonl.part: "), "{told}");
}

#[test]
fn a_check_that_is_asked_for_json_says_in_json_why_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let (code, shown, told) = tool(&["store", "verify", "--json", "--store", nowhere.to_str().unwrap()]);
    assert_eq!((code, shown.as_str()), (4, ""));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["error"]["code"], "file-not-found", "{told}");
    assert_eq!(told["error"]["exitCode"], 4);
}
