//! Tracks the running requests of a connection, so that an idle or blocked connection is closed in time.
//!
//! hyper bounds how long an HTTP/1.1 connection takes for a head, but not how long one takes to say which protocol it
//! speaks, nor how long an HTTP/2 connection is idle, nor how long its caller leaves an answer lying; and a connection of
//! HTTP/2 carries many requests. So its requests and answers are counted here.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::Version;
use hyper::body::Body;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::config::Limits;
use crate::guess::now;
use crate::http::Response;
use crate::places::Place;

/// Requests that a caller took back, beyond those whose answer it took whole; one more ends the connection. Each has made us
/// work for nothing.
const CANCELLED_MAX: u32 = 100;
/// Time after which a connection without running requests is closed if the client does not react to the graceful
/// shutdown.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// The two ends of a connection, and what a request of it may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The caller's.
    pub(crate) peer: SocketAddr,
    /// The server's.
    pub(crate) local: SocketAddr,
    /// Whether all places are taken, so that probes alone are answered.
    pub(crate) is_spare: bool,
}

/// What the requests of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) app: Arc<App>,
    pub(crate) place: Place,
    pub(crate) ends: Ends,
    flow: Mutex<Flow>,
    /// Tells that the client cancelled too many requests.
    excess: Notify,
}

/// The running requests of a connection.
#[derive(Debug)]
struct Flow {
    protocol: Protocol,
    /// Requests that are not answered whole.
    at_work: usize,
    /// The time since which no request is running.
    idle_since: Instant,
    /// Answers, each with the moment since which it waits for the caller; absent where it waits for us.
    answers: HashMap<u64, Option<Instant>>,
    /// Numbers the answers.
    next: u64,
    cancelled: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// No request has come whole.
    Unknown,
    /// HTTP/1.x, for which hyper keeps the time.
    One,
    Two,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing before this moment.
    At(Instant),
    /// No request is running: begin the graceful shutdown.
    Idle,
    /// It is cut, for this reason.
    Cut(&'static str),
    /// Others see to it.
    Never,
}

impl Flow {
    fn new(now: Instant) -> Self {
        Self {
            protocol: Protocol::Unknown,
            at_work: 0,
            idle_since: now,
            answers: HashMap::new(),
            next: 0,
            cancelled: 0,
        }
    }

    /// Returns the due action; `ending_since` is the beginning of the graceful shutdown.
    fn due(&self, now: Instant, limits: &Limits, ending_since: Option<Instant>) -> Due {
        let is_over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        match (self.protocol, ending_since) {
            (Protocol::One, _) => return Due::Never,
            (Protocol::Unknown, _) if is_over(self.idle_since, limits.head_timeout) => {
                return Due::Cut("no request arrived in time");
            }
            (Protocol::Unknown, None) => return Due::At(self.idle_since + limits.head_timeout),
            (Protocol::Unknown | Protocol::Two, _) => {}
        }
        if self.at_work == 0 {
            let limit = ending_since.map_or(limits.head_timeout, |_| FAREWELL);
            let since = ending_since.map_or(self.idle_since, |since| since.max(self.idle_since));
            return match ending_since {
                Some(_) if is_over(since, limit) => Due::Cut("the client did not close the connection"),
                None if is_over(since, limit) => Due::Idle,
                _ => Due::At(since + limit),
            };
        }
        let oldest = self.answers.values().flatten().min().copied();
        if oldest.is_some_and(|since| is_over(since, limits.write_timeout)) {
            return Due::Cut("the client stopped reading the response");
        }
        // The deadline of every request that begins from now on is later than this.
        let quiet = if ending_since.is_some() {
            FAREWELL
        } else {
            limits.head_timeout
        };
        let next = now + quiet.min(limits.write_timeout);
        Due::At(oldest.map_or(next, |since| next.min(since + limits.write_timeout)))
    }
}

impl Shared {
    pub(crate) fn new(app: Arc<App>, place: Place, ends: Ends) -> Arc<Self> {
        Arc::new(Self {
            app,
            place,
            ends,
            flow: Mutex::new(Flow::new(now())),
            excess: Notify::new(),
        })
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing was under way for too long.
    ///
    /// # Errors
    ///
    /// Why the connection is to be cut, if that comes first.
    pub(crate) async fn due(&self, ending_since: Option<Instant>) -> Result<(), &'static str> {
        loop {
            let due = self.flow().due(now(), &self.app.config.limits, ending_since);
            let next = match due {
                Due::At(next) => next,
                Due::Idle => return Ok(()),
                Due::Cut(why) => return Err(why),
                Due::Never => return pending().await,
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.excess.notified() => return Err("the client cancelled too many requests"),
            }
        }
    }

    /// Puts a request down that has come.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> Work {
        let is_two = version == Version::HTTP_2;
        {
            let mut flow = self.flow();
            flow.protocol = if is_two { Protocol::Two } else { Protocol::One };
            flow.at_work += 1;
        }
        Work {
            is_spare: !self.place.begin(),
            shared: Arc::clone(self),
            is_two,
            is_done: false,
        }
    }
}

/// A request, from its head until its answer is sent.
#[derive(Debug)]
pub(crate) struct Work {
    shared: Arc<Shared>,
    is_two: bool,
    /// Whether all places were taken when it came.
    is_spare: bool,
    /// Whether the caller has its answer.
    is_done: bool,
}

impl Work {
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            is_spare: self.is_spare,
            ..self.shared.ends
        }
    }

    /// The answer, which tells how far it is.
    pub(crate) fn send(mut self, mut answer: Response) -> Response {
        self.is_done = answer.body().is_end_stream();
        let number = self.is_two.then(|| {
            let mut flow = self.shared.flow();
            flow.next += 1;
            let number = flow.next;
            flow.answers.insert(number, Some(now()));
            number
        });
        answer.body_mut().track(Sending { work: self, number });
        answer
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.shared.place.rest();
        let mut flow = self.shared.flow();
        flow.at_work -= 1;
        if !self.is_two {
            return;
        }
        if flow.at_work == 0 {
            flow.idle_since = now();
        }
        if self.is_done {
            flow.cancelled = flow.cancelled.saturating_sub(1);
            return;
        }
        flow.cancelled += 1;
        if flow.cancelled > CANCELLED_MAX {
            self.shared.excess.notify_one();
        }
    }
}

/// An answer on its way. Over HTTP/1.1 the connection tells whether its caller takes it; the streams of HTTP/2 have each a
/// window of their own, so that it is seen here.
#[derive(Debug)]
pub(crate) struct Sending {
    work: Work,
    /// Over HTTP/2: its number.
    number: Option<u64>,
}

impl Sending {
    /// A piece was passed on; the connection requests the next one when the client has read the previous ones.
    pub(crate) fn waits_for_caller(&self) {
        self.set(Some(now));
    }

    /// There is nothing to send yet.
    pub(crate) fn waits_for_us(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<fn() -> Instant>) {
        let Some(number) = self.number else { return };
        self.work.shared.flow().answers.insert(number, since.map(|now| now()));
    }

    /// The last piece. Over HTTP/2 it waits for the caller's window, so that its request is at work until it is written.
    pub(crate) fn last(mut self, piece: Bytes) -> Bytes {
        self.work.is_done = true;
        if self.number.is_none() {
            return piece;
        }
        Bytes::from_owner(Last { piece, _sending: self })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.work.shared.flow().answers.remove(&number);
        }
    }
}

struct Last {
    piece: Bytes,
    _sending: Sending,
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}
