//! The management API of the built binary, over real connections (http-api.md): the article line by line, the table
//! of states and operations, what the links of a start do, wrong input, and our own API.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

mod announced;
mod bodies;
#[path = "../../../taskhub/tests/library/documents/mod.rs"]
mod documents;
mod script;
mod states;
mod support;
mod values;

use support::{HUB, SURFACES, Server};

#[test]
fn the_article_line_by_line() {
    for base in SURFACES {
        let count = script::run(&Server::start(), include_str!("cases/annex-a.txt"), base, |_| {});
        assert!(count > 100, "{count} exchanges");
    }
}

/// What the links of a 202 are worth, however it came about.
#[test]
fn a_start_that_waits_answers_with_the_output_or_with_links_that_do_what_they_say() {
    let text = include_str!("cases/links.txt");
    for base in SURFACES {
        let count = script::run(&Server::start(), text, base, |_| {});
        assert!(count > 35, "{count} exchanges");
    }
    // The front door, as the article prints it: `/orchestrators/E1_HelloSequence/wait?timeout=2&retryInterval=0.5`.
    let text = text.replace(
        "POST {base}/orchestrators/WaitEvent?",
        "POST /orchestrators/WaitEvent/wait?",
    );
    let text = text.replace(
        "POST {base}/orchestrators/E1_HelloSequence?",
        "POST /orchestrators/E1_HelloSequence/wait?",
    );
    assert!(!text.contains("{base}/orchestrators"));
    script::run(&Server::start(), &text, SURFACES[0], |_| {});
}

#[test]
fn functions_are_found_by_any_spelling_of_their_names() {
    for base in SURFACES {
        let count = script::run(&Server::start(), include_str!("cases/names.txt"), base, |_| {});
        assert!(count > 8, "{count} exchanges");
    }
}

#[test]
fn our_own_api() {
    let base = format!("/api/v1/hubs/{HUB}");
    let count = script::run(&Server::start(), include_str!("cases/api-v1.txt"), &base, |_| {});
    assert!(count > 40, "{count} exchanges");
}

/// A server with an instance that waits for the event `Go`, which wrong calls may hit.
fn with_instance() -> Server {
    let server = Server::start();
    let path = format!("{}/orchestrators/WaitEvent/there", SURFACES[0]);
    assert_eq!(server.send("POST", &path, &[], "1").status, 202);
    server.wait("there", "started");
    server
}

#[test]
fn wrong_input_is_answered_with_what_is_wrong_and_changes_nothing() {
    for base in SURFACES {
        let server = with_instance();
        let before = server.contents();
        let count = script::run(&server, include_str!("cases/bad-input.txt"), base, |title| {
            assert_eq!(server.contents(), before, "after `{title}` on {base}");
        });
        assert!(count > 40, "{count} exchanges");
    }
}
