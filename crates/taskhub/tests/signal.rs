//! A process that is told to end stops its hub.

#![cfg(unix)]

use std::process::Command;
use std::time::Duration;

use futures_util::FutureExt;
use taskhub::{Hub, OrchestrationContext, Result};

async fn nothing(_: OrchestrationContext, (): ()) -> Result<()> {
    Ok(())
}

#[tokio::test]
async fn sigterm_stops_the_hub() {
    let hub = Hub::builder("SampleHub")
        .orchestrator("Nothing", nothing)
        .in_memory()
        .await
        .unwrap();
    let mut stopped = Box::pin(hub.stop_on_signal(Duration::ZERO));
    // The first poll begins to listen, so the signal does not end this process.
    assert!((&mut stopped).now_or_never().is_none());
    let pid = std::process::id().to_string(); // tidy:allow: it is sent a signal
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    stopped.await.unwrap();
    let error = hub.client().start_new("Nothing", ()).await.unwrap_err();
    assert_eq!(error.code(), "hub-stopped");
}
