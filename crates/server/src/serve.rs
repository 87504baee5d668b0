//! Listening. With `connection` the only place of the server with concurrency.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use taskhub_api::links::ClientBinding;
use taskhub_core::id::HubName;
use taskhub_engine::Hub;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::border::{Host, Origin};
use crate::config::Config;
use crate::connection::{self, told_if_panicked};
use crate::error::Error;
use crate::http;
use crate::hubs::{Hubs, OpenHub};
use crate::places::Places;
use crate::tls;

/// Pause after the system could not give us a connection, for example because files ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that is not listening yet: a hub and how to show it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use taskhub::Hub;
/// use taskhub_server::{Config, Server};
///
/// let hub = Hub::builder("SampleHub").open(".taskhub").await?;
/// Server::new(hub.engine().clone(), Config::default()).serve().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    config: Config,
    opener: Option<Opener>,
}

struct Opener(Arc<dyn OpenHub>);

impl std::fmt::Debug for Opener {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Opener")
    }
}

impl Server {
    /// A server in front of a hub.
    pub fn new(hub: Arc<Hub>, config: Config) -> Self {
        Self {
            hub,
            config,
            opener: None,
        }
    }

    /// Also serves the other hubs of the store, which are opened when they are first asked for; with
    /// [`Config::auto_create_hubs`] a start creates those that do not exist (H14).
    #[must_use]
    pub fn with_hubs(mut self, opener: Arc<dyn OpenHub>) -> Self {
        self.opener = Some(Opener(opener));
        self
    }

    /// Listens and serves until the task is dropped.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub async fn serve(self) -> Result<(), Error> {
        self.bind().await?.serve_until(std::future::pending()).await;
        Ok(())
    }

    /// Listens; calls are answered once the result is served.
    ///
    /// # Errors
    ///
    /// `address-in-use`, `address-unprotected`, `certificate-unusable`, or an invalid setting.
    pub async fn bind(self) -> Result<Listening, Error> {
        let Self { hub, config, opener } = self;
        check(&config)?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = config.address;
        let listening = TcpListener::bind(address).await;
        let listener = listening.map_err(|source| Error::Address { address, source })?;
        let local = listener
            .local_addr()
            .map_err(|source| Error::Address { address, source })?;
        let hubs = Hubs::new(hub, opener.map(|opener| opener.0), config.limits.hubs_max);
        Ok(Listening {
            app: Arc::new(App::new(config, hubs, local)),
            listener,
            tls,
        })
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let address = config.address;
    let is_local = address.ip().to_canonical().is_loopback();
    if !is_local && config.keys.is_empty() && !config.no_auth {
        return Err(Error::Unprotected { address });
    }
    let refused = |setting, given: &String, expected| {
        Err(Error::Setting {
            setting,
            given: given.clone(),
            expected,
        })
    };
    let is_origin = |url: &String| Origin::parse(url).is_some();
    if let Some(url) = config.public_url.as_ref().filter(|url| !is_origin(url)) {
        return refused("public_url", url, "an origin such as https://hub.example.org");
    }
    if let Some(host) = config.allow_hosts.iter().find(|host| Host::parse(host).is_none()) {
        return refused(
            "allow_hosts",
            host,
            "a host such as hub.example.org or hub.example.org:8080",
        );
    }
    if let Some(origin) = config.cors.iter().find(|origin| !is_origin(origin)) {
        return refused("cors", origin, "an origin such as https://app.example.org");
    }
    Ok(())
}

/// The client bindings of a server's hubs. Holding them keeps neither server nor hubs alive.
#[derive(Clone, Debug)]
pub struct ClientBindings(Weak<App>);

impl ClientBindings {
    /// What a client library for a hub is made from (H56), whether there is such a hub or not; absent when the
    /// server has ended.
    pub fn of(&self, hub: &HubName) -> Option<ClientBinding> {
        let app = self.0.upgrade()?;
        Some(http::client_binding(&app, hub))
    }
}

/// A server that listens.
pub struct Listening {
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Listening({})", self.app.address)
    }
}

impl Listening {
    /// Where it listens; tells the port if any free one was asked for.
    pub fn address(&self) -> SocketAddr {
        self.app.address
    }

    /// What a client library is made from (H56). The same is served to callers with the master key.
    pub fn client_binding(&self) -> ClientBinding {
        http::client_binding(&self.app, self.app.hubs.first())
    }

    /// The same for every hub of the server, for functions of this process in hubs that are opened later.
    pub fn client_bindings(&self) -> ClientBindings {
        ClientBindings(Arc::downgrade(&self.app))
    }

    /// Serves until `stop` is ready, then gives running requests some time to finish. Does not stop the hub.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) {
        let Self { app, listener, tls } = self;
        let limits = app.config.limits.clone();
        let places = Arc::new(Places::new(limits.connections_max, limits.connections_of_address_max));
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        tracing::info!(address = %app.address, hub = %app.hubs.first(), "listening");
        loop {
            while let Some(ended) = connections.try_join_next() {
                told_if_panicked(&ended);
            }
            let next = async {
                places.room().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                () = &mut stop => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = places.take(peer.ip()) else {
                        tracing::debug!(%peer, "too many connections from this address");
                        continue;
                    };
                    let (app, tls) = (Arc::clone(&app), tls.clone());
                    connections.spawn(connection::serve(app, stream, (peer, place), tls));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        app.close();
        let ending = async {
            while let Some(ended) = connections.join_next().await {
                told_if_panicked(&ended);
            }
        };
        if timeout(limits.stop_timeout, ending).await.is_err() {
            tracing::warn!("closing connections that did not finish in time");
        }
        tracing::info!("stopped listening");
    }
}
