//! What comes of `python/facts.py`.

use serde_json::{Value, json};

use crate::{greetings, history_of_hello, waits};

pub(crate) fn facts() -> Value {
    json!({
        "results": results(),
        "failures": failures(),
        "control": control(),
        "waits": waits(),
        "starts": starts(),
        "ended": ended(),
        "lists": lists(),
        "purges": purges(),
    })
}

/// This client encodes inputs and the data of events twice: what comes is a text that holds JSON.
fn results() -> Value {
    json!({
        "waited": [200, greetings()],
        "status": ["E1_HelloSequence", "hello", "Completed", "{\"n\": 1}", greetings(), null],
        "times": true,
        "history": history_of_hello(r#""{\"n\": 1}""#),
        // It does not send that it wants no inputs.
        "hidden": ["{\"n\": 1}", false],
        "noInput": [null, null],
        "anyInput": "[0, false, \"text\", {\"a\": 1.5}, null]",
    })
}

fn failures() -> Value {
    json!({
        "status": ["Failed", "SampleFailure: \"it broke\""],
        "waited": [500, "failed", "Failed", "SampleFailure: \"it broke\""],
        "byActivity": "TaskFailed: activity `ReadJsonFile` failed: Error: cannot read \"missing.json\"",
        "events": [
            ["ExecutionStarted", null],
            ["TaskFailed", "cannot read \"missing.json\""],
            ["ExecutionCompleted", null],
        ],
    })
}

fn control() -> Value {
    let no_boolean = "TaskFailed: event `Approval` failed: DeserializationError: cannot read the payload of event `Approval` \
                      as `bool`: invalid type: string \"true\", expected a boolean at line 1 column 6; it is `\"true\"`";
    json!({
        "customStatus": "waiting for approval of a request",
        // The event's data was `True`.
        "approval": ["Failed", no_boolean],
        "suspended": ["Running", "Suspended", "Running"],
        "event": ["Completed", "{\"answer\": 42}"],
        "terminated": ["Terminated", "salt & pepper"],
    })
}

fn starts() -> Value {
    let live = "error: {'Message': 'An Orchestration instance with the status Running already exists.', \
                'ExceptionMessage': 'cannot start `live`: it already exists and is Running', 'ExceptionType': \
                'DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException', 'StackTrace': None}";
    json!({
        "ownId": true,
        "at": "error: Orchestration instance ids must not start with @.",
        "tooLong": "error: Instance ID lengths must not exceed 256 characters.",
        // It does not encode ids, so this one leads to a path that does not exist: 404, without a text to show.
        "slash": "error: None",
        "live": live,
        "ended": ["ended", "2"],
    })
}

fn ended() -> Value {
    let missing = "error: No instance with ID 'missing' found.";
    let rewind = "error: Received unexpected payload from the durable-extension: [501, {'Message': 'Rewind is not \
                  supported by the underlying storage provider.', 'ExceptionMessage': 'this version of the server does not support it', 'ExceptionType': 'System.NotImplementedException', 'StackTrace': None}]";
    let not_yet = "error: The operation failed with an unexpected status code 501";
    json!({
        // It takes 410 for success, but of events.
        "over": {
            "suspend": "nothing",
            "resume": "nothing",
            "terminate": "nothing",
            "event": "error: Instance with ID over is gone: either completed or failed",
            "rewind": rewind,
            "restart": not_yet,
        },
        "unchanged": "Completed",
        "missing": {
            "suspend": missing,
            "resume": missing,
            "terminate": missing,
            "event": "error: No instance with ID missing found.",
            "rewind": rewind,
            "restart": not_yet,
        },
        "missingStatus": [false, null],
        "entity": false,
        "signal": not_yet,
    })
}

fn lists() -> Value {
    let narrow: Vec<String> = (0..10).map(|number| format!("many-{number:03}")).collect();
    json!({
        "before": 12,
        // There are 117, and 105 with the prefix: it reads the first page only.
        "all": 100,
        "prefix": 100,
        "narrow": narrow,
        "failed": ["approval", "failed", "failed-activity"],
        "two": ["approval", "failed", "failed-activity", "terminated"],
        "window": 10,
        "old": [],
    })
}

fn purges() -> Value {
    json!({
        "one": 1,
        "again": 0,
        "gone": false,
        "live": "error: The operation failed with an unexpected status code 412",
        "unbounded": "error: created_time_from is required when purging instance history",
        "old": 0,
        "running": 0,
        "failed": 3,
        // All pages of them, also those that it does not list.
        "completed": 110,
        "ended": 1,
        "endedAgain": 0,
        "left": ["Running", "Running"],
    })
}
