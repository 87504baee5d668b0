//! What all requests share: hubs, keys, settings, figures, and whether the server is stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::answers::Answers;
use crate::auth::Keys;
use crate::border::Border;
use crate::config::Config;
use crate::guess::Guesses;
use crate::hubs::Hubs;
use crate::metrics::Metrics;

/// Shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) border: Border,
    pub(crate) guesses: Guesses,
    pub(crate) hubs: Hubs,
    pub(crate) metrics: Metrics,
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// Becomes true when the server stops.
    closing: watch::Sender<bool>,
    /// Bytes of the bodies that are being read, or wait to become durable.
    body_bytes: Arc<AtomicUsize>,
    /// Room for large answers.
    pub(crate) answers: Answers,
}

impl App {
    pub(crate) fn new(config: Config, hubs: Hubs, address: SocketAddr) -> Self {
        Self {
            answers: Answers::new(&config.limits),
            keys: Keys::new(config.keys.clone()),
            border: Border::new(&config),
            guesses: Guesses::default(),
            config,
            hubs,
            metrics: Metrics::default(),
            address,
            closing: watch::Sender::new(false),
            body_bytes: Arc::default(),
        }
    }

    /// Notifies waiting requests that the server stops.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until the server stops.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender is part of `self`, so it outlives this wait.
        let _closed = closing.wait_for(|closing| *closing).await;
    }

    /// Waits as long as a call may take, or until the server stops.
    pub(crate) async fn enough(&self, limit: Duration) {
        tokio::select! {
            () = sleep(limit) => {}
            () = self.closed() => {}
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// A share of the memory for bodies, empty at first.
    pub(crate) fn reserve(&self) -> Reserved {
        Reserved {
            all: Arc::clone(&self.body_bytes),
            bytes_max: self.config.limits.bodies_bytes_max,
            bytes: 0,
        }
    }
}

/// Memory that a body takes; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    all: Arc<AtomicUsize>,
    bytes_max: usize,
    bytes: usize,
}

impl Reserved {
    /// Takes more; false if that is more than all bodies together may have (P8).
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.all.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        taken + bytes <= self.bytes_max
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
