//! Each sample once, under a virtual clock.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use taskhub::testing::TestHub;
use taskhub::{Hub, Registry, RuntimeStatus, STOP_PERIOD, Timestamp};
use taskhub_samples::approval::{Decision, Request};
use taskhub_samples::monitor::Watch;
use taskhub_samples::scheduled_purge::{Schedule, next_time};
use taskhub_samples::{Files, Purger, register};
use tempfile::TempDir;

const DAY: Duration = Duration::from_hours(24);

fn hub() -> TestHub {
    TestHub::new(register(Registry::new(), &Purger::default(), &Files::below("/")))
}

/// A folder whose name does not begin with a dot, as samples see none of those.
fn scratch_folder() -> TempDir {
    match tempfile::Builder::new().prefix("samples").tempdir() {
        Ok(folder) => folder,
        Err(error) => panic!("{error}"),
    }
}

/// The path of something in a folder.
fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_string_lossy().into_owned()
}

#[test]
fn hello_world_greets_its_input() {
    for (input, greeting) in [
        (json!("Ada"), "Hello Ada!"),
        (Value::Null, "Hello World!"),
        (json!({"counter": 1}), "Hello {\"counter\":1}!"),
    ] {
        assert_eq!(
            hub().run_orchestrator::<String, _>("HelloWorld", input).unwrap(),
            greeting
        );
    }
}

#[test]
fn what_is_passed_on_is_not_written_anew() {
    let text = r#"{"b": 1.10, "a": 123456789012345678901234567890}"#;
    let folder = scratch_folder();
    let file = path(&folder, "data.json");
    fs::write(&file, format!("{text}\n")).unwrap();
    let data: Box<RawValue> = hub().run_orchestrator("Counter", file).unwrap();
    assert_eq!(data.get(), text);
    let greeting: String = hub().run_orchestrator("HelloWorld", data).unwrap();
    assert_eq!(greeting, format!("Hello {text}!"));
}

#[test]
fn the_sequence_greets_three_cities() {
    let greetings: Vec<String> = hub().run_orchestrator("E1_HelloSequence", ()).unwrap();
    assert_eq!(greetings, ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);
}

#[test]
fn echo_returns_what_it_was_given() {
    let mut hub = hub();
    for input in [json!({"b": 1, "a": [2, null]}), Value::Null] {
        assert_eq!(hub.run_orchestrator::<Value, _>("Echo", &input).unwrap(), input);
    }
}

#[test]
fn wait_event_returns_the_payload_of_go() {
    let mut hub = hub();
    let id = hub.start("WaitEvent", ());
    hub.run();
    hub.raise_event(&id, "go", json!({"x": 1})).unwrap();
    hub.run();
    assert_eq!(hub.output::<Value>(&id).unwrap(), json!({"x": 1}));
}

#[test]
fn fail_fails_with_its_input() {
    let failure = hub().run_orchestrator::<(), _>("Fail", "so be it").unwrap_err();
    assert_eq!(failure.to_string(), "SampleFailure: so be it");
}

#[test]
fn counter_reads_a_file() {
    let folder = scratch_folder();
    fs::write(path(&folder, "data.json"), r#"{"counter": 3}"#).unwrap();
    let data: Value = hub().run_orchestrator("Counter", path(&folder, "data.json")).unwrap();
    assert_eq!(data, json!({"counter": 3}));
    let failure = hub()
        .run_orchestrator::<Value, _>("Counter", path(&folder, "none.json"))
        .unwrap_err();
    assert!(failure.message.contains("cannot read"), "{failure}");
}

#[test]
fn no_sample_looks_at_files_outside_its_folder() {
    let scratch = scratch_folder();
    let inside = scratch.path().join("inside");
    fs::create_dir_all(inside.join("below")).unwrap();
    fs::create_dir(scratch.path().join("inside-not")).unwrap();
    for (name, text) in [
        ("secret.json", "1"),
        ("inside/a.json", "2"),
        ("inside/below/b.json", "33"),
    ] {
        fs::write(scratch.path().join(name), text).unwrap();
    }
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    fs::write(inside.join("large.json"), large).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.json", inside.join("link.json")).unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        std::os::unix::fs::symlink("below/b.json", inside.join("near.json")).unwrap();
    }
    let files = || Files::below(&inside).without(inside.join("store"));
    let run = |name: &str, input: Value| {
        let mut hub = TestHub::new(register(Registry::new(), &Purger::default(), &files()));
        hub.run_orchestrator::<Value, _>(name, input)
    };
    let absolute = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    for (path, number) in [
        ("a.json".to_owned(), 2),
        ("below/../a.json".to_owned(), 2),
        (absolute("inside/below/b.json"), 33),
        #[cfg(unix)]
        ("near.json".to_owned(), 33),
    ] {
        assert_eq!(run("Counter", json!(path)).unwrap(), json!(number), "{path}");
    }
    fs::create_dir(inside.join(".taskhub")).unwrap();
    fs::create_dir(inside.join("store")).unwrap();
    for name in [
        ".taskhub/server.json",
        ".env",
        "local.settings.json",
        "store/server.json",
    ] {
        fs::write(inside.join(name), "5").unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(".taskhub/server.json", inside.join("seen.json")).unwrap();
    for outside in [
        ".taskhub/server.json".to_owned(),
        "below/../.taskhub/server.json".to_owned(),
        ".env".to_owned(),
        "Local.Settings.json".to_owned(),
        "local.settings.json".to_owned(),
        "store/server.json".to_owned(),
        "store".to_owned(),
        #[cfg(unix)]
        "seen.json".to_owned(),
        "../secret.json".to_owned(),
        "below/../../secret.json".to_owned(),
        absolute("secret.json"),
        absolute("inside-not"),
        absolute("no-such-file"),
        "/etc/passwd".to_owned(),
        "/".to_owned(),
        "..".to_owned(),
        #[cfg(unix)]
        "link.json".to_owned(),
        #[cfg(unix)]
        "up/secret.json".to_owned(),
    ] {
        let said = "is not below the folder that the samples may look at";
        for (name, input) in [
            ("Counter", json!(outside)),
            ("FanOutFiles", json!(outside)),
            ("Monitor", json!({"path": outside})),
        ] {
            let failure = run(name, input).unwrap_err();
            assert!(failure.to_string().contains(said), "{name} {outside}: {failure}");
            assert!(
                !failure.to_string().contains(&*inside.to_string_lossy()) || outside.starts_with('/'),
                "{failure}"
            );
        }
    }
    for (path, said) in [
        ("large.json", "has more than 1 MiB"),
        ("below", "is no regular file"),
        ("none.json", "cannot read none.json"),
    ] {
        let failure = run("Counter", json!(path)).unwrap_err();
        assert!(failure.to_string().contains(said), "{path}: {failure}");
    }
    // What is listed is of the folder: two files and the large one, and no link.
    assert_eq!(run("FanOutFiles", json!(".")).unwrap(), json!(1 + 2 + (1 << 20) + 2));
}

#[test]
fn an_approval_in_time_decides() {
    for (answer, decision) in [(true, Decision::Approved), (false, Decision::Rejected)] {
        let mut hub = hub();
        let id = hub.start(
            "ApprovalFlow",
            Request {
                what: "holidays".to_owned(),
                timeout_seconds: 60,
            },
        );
        hub.settle();
        assert_eq!(hub.custom_status(&id).unwrap(), "\"waiting for approval of holidays\"");
        hub.raise_event(&id, "Approval", answer).unwrap();
        hub.settle();
        assert_eq!(hub.output::<Decision>(&id).unwrap(), decision);
    }
}

#[test]
fn without_an_approval_it_is_escalated() {
    let mut hub = hub();
    assert_eq!(
        hub.run_orchestrator::<Decision, _>("ApprovalFlow", ()).unwrap(),
        Decision::Escalated
    );
    assert_eq!(hub.call_count("Escalate"), 1);
}

#[test]
fn fan_out_adds_up_all_files() {
    let folder = scratch_folder();
    fs::create_dir_all(path(&folder, "below")).unwrap();
    for (name, size) in [("a", 10), ("b", 20), ("below/c", 12)] {
        fs::write(path(&folder, name), vec![0; size]).unwrap();
    }
    let mut hub = hub();
    assert_eq!(
        hub.run_orchestrator::<u64, _>("FanOutFiles", path(&folder, ""))
            .unwrap(),
        42
    );
    assert_eq!(hub.call_count("FileSize"), 3);
}

#[test]
fn the_monitor_looks_until_the_file_is_there() {
    let watch = |looks_left| Watch {
        path: "report.pdf".to_owned(),
        interval_seconds: 3600,
        looks_left,
    };
    let mut hub = hub();
    let mut looks = 0;
    hub.fake_activity("FileExists", move |_: String| {
        looks += 1;
        Ok::<_, taskhub::Error>(looks == 4)
    });
    let id = hub.start("Monitor", watch(9));
    hub.run();
    assert!(hub.output::<bool>(&id).unwrap());
    assert_eq!(hub.earlier_histories(&id).len(), 3);
    hub.fake_activity("FileExists", |_: String| Ok::<_, taskhub::Error>(false));
    assert!(!hub.run_orchestrator::<bool, _>("Monitor", watch(2)).unwrap());
}

#[test]
fn the_singleton_counts_until_it_is_stopped() {
    let mut hub = hub();
    let id = hub.start_as("singleton", "Singleton", ());
    hub.advance(Duration::from_secs(10 * 60 + 5));
    hub.raise_event(&id, "Stop", ()).unwrap();
    hub.settle();
    assert_eq!(hub.output::<u64>(&id).unwrap(), 10);
}

#[test]
fn the_scheduled_purge_comes_at_noon_each_day() {
    let purger = Purger::default();
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    purger.connect(move |before| {
        seen.lock().unwrap().push(before.to_string());
        async { Ok(7) }
    });
    let mut hub = TestHub::new(register(Registry::new(), &purger, &Files::below("/")));
    let id = hub.start(
        "ScheduledPurge",
        Schedule {
            keep_days: 10,
            ..Schedule::default()
        },
    );
    hub.advance(DAY * 3);
    assert_eq!(hub.status(&id), RuntimeStatus::Running);
    assert_eq!(hub.custom_status(&id).unwrap(), "\"7 instances purged\"");
    let days: Vec<String> = times.lock().unwrap().iter().map(|time| time[..16].to_owned()).collect();
    assert_eq!(days, ["2023-12-22T12:00", "2023-12-23T12:00", "2023-12-24T12:00"]);
}

#[tokio::test]
async fn a_connected_purger_does_not_keep_the_hub() {
    let folder = scratch_folder();
    for _ in 0..2 {
        let purger = Purger::default();
        let builder = Hub::builder("SampleHub").registry(register(Registry::new(), &purger, &Files::below("/")));
        let hub = builder.open(path(&folder, "store")).await.unwrap();
        let client = hub.client();
        purger.connect_client(&client);
        let ended = client.start_new("E1_HelloSequence", ()).await.unwrap();
        client.wait_for_end(&ended).await.unwrap();
        hub.stop(STOP_PERIOD).await.unwrap();
    }
}

#[test]
fn a_purger_that_is_not_connected_is_tried_again() {
    let purger = Purger::default();
    let mut hub = TestHub::new(register(Registry::new(), &purger, &Files::below("/")));
    let id = hub.start("ScheduledPurge", ());
    hub.advance(DAY / 2 + Duration::from_secs(30));
    assert_eq!(hub.call_count("PurgeOldInstances"), 1);
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    purger.connect(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { Ok(0) }
    });
    hub.advance(Duration::from_hours(1));
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert_eq!(hub.status(&id), RuntimeStatus::Running);
}

#[test]
fn cron_expressions_name_moments_in_utc() {
    let now = Timestamp::parse("2024-02-28T12:00:00Z").unwrap();
    let next = |cron: &str| next_time(cron, now).map(|next| next.to_string());
    assert_eq!(next("0 0 12 * * *").unwrap(), "2024-02-29T12:00:00.0000000Z");
    assert_eq!(next("30 15 * * * *").unwrap(), "2024-02-28T12:15:30.0000000Z");
    assert_eq!(next("0 0 0 * * MON").unwrap(), "2024-03-04T00:00:00.0000000Z");
    assert_eq!(next("0 0 12 13 * 5").unwrap(), "2024-09-13T12:00:00.0000000Z");
    for bad in [
        "every noon",
        "61 0 12 * * *",
        "0 0 12 * * 7",
        "0 0 12 L * *",
        "@daily",
        "0 0 0 30 2 *",
        "0 0 0 31 4,6,9,11 *",
    ] {
        let error = next(bad).unwrap_err();
        assert_eq!(error.error_type(), "BadSchedule");
        let said = error.to_string();
        assert!(said.contains(&format!("`{bad}` is no schedule: ")), "{said}");
        assert!(said.ends_with("such as `0 0 12 * * *`"), "{said}");
    }
}
