//! Serves the samples of the article on an embedded store in `.taskhub`, until Ctrl-C.
//!
//! `cargo run -p taskhub-server --example serve`, then in another shell
//! `curl -X POST 'localhost:7071/orchestrators/E1_HelloSequence/wait?timeout=2&retryInterval=0.5'`.

use std::sync::Arc;

use taskhub::{ClientBinding, Hub, Registry, STOP_PERIOD};
use taskhub_samples::{Files, Purger, register};
use taskhub_server::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let purger = Purger::default();
    let hub = Hub::builder("SampleHub")
        .registry(register(Registry::new(), &purger, &Files::below(".")))
        .open(".taskhub")
        .await?;
    purger.connect_client(&hub.client());
    let server = Server::new(Arc::clone(hub.engine()), Config::default()).bind().await?;
    hub.set_client_binding(ClientBinding::parse(&server.client_binding())?);
    server
        .serve_until(async {
            let _told_or_deaf = tokio::signal::ctrl_c().await;
        })
        .await;
    hub.stop(STOP_PERIOD).await?;
    Ok(())
}
