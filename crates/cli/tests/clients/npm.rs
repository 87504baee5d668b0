//! What comes of `npm/facts.mjs`.

use serde_json::{Value, json};

use crate::{greetings, history_of_hello, waits};

/// Which addresses of the binding the client takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    Rpc,
    Webhook,
}

impl Surface {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Webhook => "webhook",
        }
    }
}

pub(crate) fn facts(surface: Surface) -> Value {
    json!({
        "results": results(surface),
        "failures": failures(),
        "control": control(),
        "waits": waits(),
        // This client knows no other address without the host's variable, unless a request has come by one.
        "links": {"unasked": "http://localhost:7071", "asked": true},
        "starts": starts(),
        "ended": ended(),
        "lists": lists(),
        "purges": purges(surface),
    })
}

fn results(surface: Surface) -> Value {
    // Over RPC this client does not send that it wants no inputs.
    let hidden = match surface {
        Surface::Rpc => json!([{"n": 1}, false, true]),
        Surface::Webhook => json!([null, false, false]),
    };
    json!({
        "waited": [200, greetings()],
        "status": ["E1_HelloSequence", "hello", "Completed", {"n": 1}, greetings(), null],
        "times": true,
        "history": history_of_hello("{\"n\":1}"),
        "hidden": hidden,
        // This client sends an empty text where it is given no input.
        "noInput": ["", ""],
        "anyInput": [0, false, "text", {"a": 1.5}, null],
    })
}

fn failure(kind: &str, message: &str, inner: &Value) -> Value {
    json!({
        "ErrorType": kind,
        "ErrorMessage": message,
        "StackTrace": null,
        "InnerFailure": inner,
        "IsNonRetriable": false,
    })
}

fn history_of_a_failed_activity() -> Value {
    let missing = "No such file or directory (os error 2)";
    let cause = failure("std::io::error::Error", missing, &Value::Null);
    let unread = failure("Error", "cannot read missing.json", &cause);
    let failed = "activity `ReadJsonFile` failed: Error: cannot read missing.json";
    json!([
        {
            "EventType": "ExecutionStarted",
            "Input": "\"missing.json\"",
            "Correlation": null,
            "ScheduledStartTime": null,
            "Generation": 0,
            "FunctionName": "Counter",
        },
        {
            "EventType": "TaskFailed",
            "Reason": "cannot read missing.json",
            "Details": format!("Error: cannot read missing.json\n ---> std::io::error::Error: {missing}"),
            "FailureDetails": unread.clone(),
            "FunctionName": "ReadJsonFile",
            "Input": "\"missing.json\"",
        },
        {
            "EventType": "ExecutionCompleted",
            "OrchestrationStatus": "Failed",
            "Result": null,
            "FailureDetails": failure("TaskFailed", failed, &unread),
        },
    ])
}

fn failures() -> Value {
    json!({
        "status": ["Failed", "SampleFailure: it broke"],
        "waited": [500, "failed", "Failed", "SampleFailure: it broke"],
        "byActivity": "TaskFailed: activity `ReadJsonFile` failed: Error: cannot read missing.json",
        "history": history_of_a_failed_activity(),
    })
}

fn control() -> Value {
    json!({
        "customStatus": ["waiting for approval of a holiday", "Approved", "Approved"],
        "suspended": ["Running", "Suspended", "Running"],
        "event": ["Completed", {"answer": 42}],
        "terminated": ["Terminated", "no longer needed"],
        // The reason was `salt & pepper`: this client does not encode the sign, and what stands before it comes whole.
        "cut": "salt ",
    })
}

fn unexpected(status: u16, details: &str) -> String {
    format!("error: The operation failed with an unexpected status code: {status}. Details: {details}")
}

fn refused_argument(what: &str) -> String {
    let message = "One or more of the arguments submitted is incorrect";
    unexpected(
        400,
        &format!(
            r#"{{"Message":"{message}","ExceptionMessage":"{what}","ExceptionType":"System.ArgumentException","StackTrace":null}}"#
        ),
    )
}

/// What is said of an instance that does not exist.
fn unknown(id: &str) -> String {
    format!(
        "error: DurableClient error: Durable Functions extension replied with HTTP 404 response. This usually means we \
         could not find any data associated with the instanceId provided: {id}."
    )
}

fn starts() -> Value {
    let live = r#"{"Message":"An Orchestration instance with the status Running already exists.","ExceptionMessage":"cannot start `live`: it already exists and is Running","ExceptionType":"DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException","StackTrace":null}"#;
    json!({
        "ownId": true,
        "at": refused_argument("Orchestration instance ids must not start with @."),
        "tooLong": refused_argument("Instance ID lengths must not exceed 256 characters."),
        // This client does not encode ids, so this one leads to a path that does not exist.
        "slash": unexpected(404, "\"\""),
        "live": unexpected(409, live),
        "ended": ["ended", 2],
    })
}

fn ended() -> Value {
    let missing = "error: No instance with ID 'missing' found.";
    // This client makes a text of the error object.
    let rewind = "error: [object Object]";
    let signal = r#"{"Message":"Signal entity is not supported by the underlying storage provider.","ExceptionMessage":"this version of the server does not support it","ExceptionType":"System.NotImplementedException","StackTrace":null}"#;
    json!({
        // This client takes 410 for success.
        "over": {
            "suspend": "nothing",
            "resume": "nothing",
            "terminate": "nothing",
            "event": "nothing",
            "rewind": rewind,
        },
        "unchanged": "Completed",
        "missing": {
            "suspend": missing,
            "resume": missing,
            "terminate": missing,
            "event": missing,
            "rewind": rewind,
            "status": unknown("missing"),
        },
        "entity": {"entityExists": false},
        "signal": unexpected(501, signal),
    })
}

fn lists() -> Value {
    json!({
        // It follows the token of the first page.
        "all": [105, true],
        "failed": ["failed", "failed-activity"],
        "two": ["cut", "failed", "failed-activity", "terminated"],
        "completed": 112,
        "window": 105,
        "old": [],
    })
}

fn purges(surface: Surface) -> Value {
    let live = "\"Only orchestrations in a terminal state can be purged, but the orchestration with instance ID live has \
                status Running\"";
    let unbounded = match surface {
        Surface::Rpc => unexpected(400, "\"Please provide value for 'createdTimeFrom' parameter.\""),
        // Here this client looks itself.
        Surface::Webhook => "error: createdTimeFrom must be a valid Date".to_owned(),
    };
    json!({
        "one": 1,
        "again": 0,
        "gone": unknown("hello"),
        "live": unexpected(412, live),
        "unbounded": unbounded,
        "old": 0,
        "running": 0,
        "failed": 2,
        "ended": 113,
        "endedAgain": 0,
        "left": ["Running", "Running"],
    })
}
