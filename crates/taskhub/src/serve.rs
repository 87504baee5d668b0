//! A hub of this process on the network. With the feature `server`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use taskhub_server::{Config, Server};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::hub::Hub;
use crate::hub_error::HubError;

impl Hub {
    /// Serves the hub over HTTP: the management API of Durable Functions and our own, probes and figures. It listens when
    /// this returns, and its clients and activities hand out links from then on. With the feature `server`.
    ///
    /// ```
    /// use taskhub::server::Config;
    /// use taskhub::{Hub, Result};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let hub = Hub::builder("SampleHub").in_memory().await?; // or open(".taskhub"), which keeps it on disk
    /// let config = Config {
    ///     address: ([127, 0, 0, 1], 0).into(), // any free port; 7071 unless said otherwise
    ///     ..Config::default()
    /// };
    /// let server = hub.serve(config).await?;
    /// println!("http://{}", server.address());
    /// server.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `address-in-use`, `address-unprotected`, `certificate-unusable`, or a setting that is invalid.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with input and output enabled.
    pub async fn serve(&self, config: Config) -> Result<Served, HubError> {
        let listening = Server::new(Arc::clone(self.engine()), config).bind().await?;
        self.set_client_binding(listening.client_binding().into());
        let address = listening.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(listening.serve_until(async {
            let _told_or_dropped = stopped.await;
        }));
        Ok(Served { address, stop, task })
    }
}

/// A server in front of a hub, see [`Hub::serve`]. Dropping it cuts what is under way; [`Served::stop`] lets that end.
#[must_use = "dropping it ends the server"]
pub struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Served {
    /// Where it listens; tells the port if any free one was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, and gives running requests some time to finish. The hub keeps running.
    pub async fn stop(mut self) {
        // If the receiver is gone, the task has already ended.
        let _heard = self.stop.send(());
        let _ended = self.task.join_next().await;
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Served({})", self.address)
    }
}
