//! Serves the samples of the article on an embedded store in `.taskhub`, until Ctrl-C.
//!
//! `cargo run -p taskhub-server --example serve`, then in another shell
//! `curl -X POST 'localhost:7071/orchestrators/E1_HelloSequence/wait?timeout=2&retryInterval=0.5'`.

use taskhub::server::Config;
use taskhub::{Hub, Registry, STOP_PERIOD};
use taskhub_samples::{Files, Purger, register};

#[tokio::main]
async fn main() -> taskhub::Result<()> {
    let purger = Purger::default();
    let hub = Hub::builder("SampleHub")
        .registry(register(Registry::new(), &purger, &Files::below(".")))
        .open(".taskhub")
        .await?;
    purger.connect_client(&hub.client());
    let _server = hub.serve(Config::default()).await?;
    hub.stop_on_signal(STOP_PERIOD).await?;
    Ok(())
}
