//! The management API over real connections: the article line by line, the table of states and operations,
//! and what the rules say beyond them.

#![expect(clippy::unwrap_used, reason = "what a test cannot make fails the test")]

mod access;
mod library;
mod script;
mod states;
mod support;
mod trouble;
mod wire;

use support::{Running, SURFACES, config};

#[tokio::test]
async fn the_article_line_by_line() {
    for base in SURFACES {
        let server = Running::start(config()).await;
        let count = script::run(&server, include_str!("cases/annex-a.txt"), base).await;
        assert!(count > 100, "{count} exchanges");
    }
}

#[tokio::test]
async fn our_own_api() {
    let server = Running::start(config()).await;
    let base = format!("/api/v1/hubs/{}", support::HUB);
    let count = script::run(&server, include_str!("cases/api-v1.txt"), &base).await;
    assert!(count > 40, "{count} exchanges");
}

#[tokio::test]
async fn wrong_input_is_answered_with_what_is_wrong_and_changes_nothing() {
    for base in SURFACES {
        let server = Running::start(config()).await;
        let client = server.client();
        let there = taskhub::StartOptions::new().instance_id("there");
        let id = client.start_new_with("WaitEvent", 1, there).await.unwrap();
        client.wait_for_start(&id).await.unwrap();
        let before = client.get_status_all().await.unwrap();
        let count = script::run(&server, include_str!("cases/bad-input.txt"), base).await;
        assert!(count > 40, "{count} exchanges");
        assert_eq!(client.get_status_all().await.unwrap(), before);
    }
}
