//! Serves one connection with HTTP/1.1 or HTTP/2, depending on its first bytes, and enforces the limits of both.
//! [`crate::flow`] tracks its running requests.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::config::Limits;
use crate::flow::{Ends, Shared};
use crate::guess::now;
use crate::http::{self, Response};
use crate::patience::Patience;
use crate::places::Place;

/// Request line and headers together (H19), and a little for what comes with them.
const HEAD_BYTES_MAX: usize = 65 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 200;

/// Requests of one connection that are answered at the same time. The next ones wait until the caller has an answer.
pub(crate) const STREAMS_MAX: u32 = 100;
/// Bytes of bodies that a connection may send before they are read; also those of one stream, since one alone may take all.
const WINDOW_BYTES: u32 = 256 << 10;
/// Longest frame that a caller may send. The smallest that the protocol allows, so that streams take turns.
const FRAME_BYTES_MAX: u32 = 16 << 10;
/// Bytes of a response that are buffered in a stream for the client's window, not counting the piece that exceeds it.
const SEND_BYTES_MAX: usize = 64 << 10;
/// Streams that were opened and reset before we saw them; one more ends the connection.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that were reset because the caller broke the protocol on them; one more ends the connection.
const RESETS_OF_ERRORS_MAX: usize = 100;
/// Time without data from the client, while requests are running, after which the server sends a PING.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time that the client has to answer the PING.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The tasks of a connection's streams, which end with it.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl Streams {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            told_if_panicked(&ended);
        }
        tasks.spawn(stream);
    }
}

pub(crate) fn told_if_panicked(ended: &Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an internal assertion failed in a connection");
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    app: Arc<App>,
    stream: TcpStream,
    (peer, place): (SocketAddr, Place),
    tls: Option<TlsAcceptor>,
) {
    let counted = Arc::clone(&app);
    let _counted = counted.metrics.connection();
    let ends = Ends {
        peer,
        local: stream.local_addr().unwrap_or(app.address),
        is_spare: false,
    };
    // Small answers would wait for the caller's acknowledgement otherwise (A11).
    let _best_effort = stream.set_nodelay(true);
    let head_timeout = app.config.limits.head_timeout;
    let Some(acceptor) = tls else {
        return converse(stream, Shared::new(app, place, ends), answer).await;
    };
    let agreed = tokio::select! {
        agreed = timeout(head_timeout, acceptor.accept(stream)) => agreed,
        // Nothing was asked for yet, so there is nothing to wait for.
        () = app.closed() => return,
        () = place.ended() => return,
    };
    match agreed {
        Ok(Ok(stream)) => converse(stream, Shared::new(app, place, ends), answer).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "the TLS handshake did not finish in time"),
    }
}

fn builder(streams: Streams, limits: &Limits) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_OF_ERRORS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn answer(app: Arc<App>, request: Request<Incoming>, ends: Ends) -> Response {
    http::answer(&app, request, ends).await
}

/// Answers the requests of a connection.
async fn converse<F: Future<Output = Response> + Send + 'static>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    shared: Arc<Shared>,
    answer: impl Fn(Arc<App>, Request<Incoming>, Ends) -> F,
) {
    let (app, peer) = (&shared.app, shared.ends.peer);
    let service = service_fn(|request: Request<Incoming>| {
        let work = shared.begin(request.version());
        let has_too_many = request.headers().len() > HEADERS_MAX;
        let answered = answer(Arc::clone(app), request, work.ends());
        async move {
            let response = if has_too_many {
                http::too_many_headers()
            } else {
                answered.await
            };
            Ok::<_, Infallible>(work.send(response))
        }
    });
    let streams = Streams::default();
    let builder = builder(streams.clone(), &app.config.limits);
    let stream = TokioIo::new(Patience::new(stream, app.config.limits.write_timeout));
    let mut conversation = pin!(builder.serve_connection(stream, service));
    let mut ending_since = None;
    loop {
        tokio::select! {
            ended = conversation.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection ended early");
                }
                break;
            }
            () = app.closed(), if ending_since.is_none() => {}
            () = shared.place.ended(), if ending_since.is_none() => {}
            due = shared.due(ending_since) => {
                if let Err(why) = due {
                    tracing::debug!(%peer, why, "closing a connection");
                    break;
                }
            }
        }
        // The running request is the last one.
        conversation.as_mut().graceful_shutdown();
        ending_since = Some(now());
    }
    streams.tasks().abort_all();
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use bytes::{Bytes, BytesMut};
    use http_body_util::{BodyExt, Empty};
    use hyper::StatusCode;
    use hyper::client::conn::{http1, http2};
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::{advance, pause};

    use super::*;
    use crate::config::Config;
    use crate::flow::FAREWELL;
    use crate::http::respond::{Parts, json_parts, text};
    use crate::hubs::Hubs;
    use crate::places::Places;

    /// Bytes that are on their way in a connection of a test.
    const WIRE_BYTES: usize = 1 << 10;

    /// A connection that is served: the caller's end, and the moment at which it ended.
    struct Served {
        stream: DuplexStream,
        tasks: JoinSet<Duration>,
    }

    /// A hub to serve. From here on, the paused clock advances when all tasks are idle.
    async fn house() -> taskhub::Hub {
        let hub = taskhub::Hub::builder("SampleHub").in_memory().await.unwrap();
        pause();
        hub
    }

    impl Served {
        /// Serves a connection by a handler.
        fn by<F: Future<Output = Response> + Send + 'static>(
            hub: &taskhub::Hub,
            answer: impl Fn(Arc<App>, Request<Incoming>, Ends) -> F + Send + Sync + 'static,
        ) -> Self {
            let address = "127.0.0.1:7071".parse().unwrap();
            let hubs = Hubs::new(Arc::clone(hub.engine()), None, 1);
            let ends = Ends {
                peer: address,
                local: address,
                is_spare: false,
            };
            let app = Arc::new(App::new(Config::default(), hubs, address));
            let place = Arc::new(Places::new(10, 10)).take(address.ip()).unwrap();
            let shared = Shared::new(app, place, ends);
            let (stream, ours) = duplex(WIRE_BYTES);
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let began = now();
                converse(ours, shared, answer).await;
                now() - began
            });
            Self { stream, tasks }
        }

        async fn ended_after(mut self) -> Duration {
            self.tasks.join_next().await.unwrap().unwrap()
        }
    }

    fn well(_: Arc<App>, _: Request<Incoming>, _: Ends) -> impl Future<Output = Response> + Send + 'static {
        std::future::ready(text(StatusCode::OK, "text/plain", "well".to_owned()))
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// Settings that let nothing of an answer come.
    const NO_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    const GET: &[u8] = b"\x00\x00\x10\x01\x05\x00\x00\x00\x01\x82\x86\x84\x01\x0b127.0.0.1:1";

    /// Takes what comes until the connection ends.
    async fn taken(stream: &mut DuplexStream) -> Vec<u8> {
        let mut taken = Vec::new();
        let _ended = stream.read_to_end(&mut taken).await;
        taken
    }

    #[tokio::test]
    async fn a_connection_on_which_no_request_comes_ends_in_time() {
        let house = house().await;
        let limit = Limits::default().head_timeout;
        let whole = [PREFACE, SETTINGS].concat();
        for said in [&b""[..], &PREFACE[..10], PREFACE, &whole, b"GET / HTTP/1.1\r\nhost: x"] {
            let mut served = Served::by(&house, well);
            served.stream.write_all(said).await.unwrap();
            taken(&mut served.stream).await;
            assert_eq!(served.ended_after().await.as_secs(), limit.as_secs(), "{said:?}");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_is_told_to_end_and_then_cut() {
        let house = house().await;
        let limit = Limits::default().head_timeout + FAREWELL;
        let mut served = Served::by(&house, well);
        served
            .stream
            .write_all(&[PREFACE, SETTINGS, GET].concat())
            .await
            .unwrap();
        // It answers neither the goodbye nor the question whether it is there.
        let all = taken(&mut served.stream).await;
        assert!(all.windows(4).any(|part| part == b"well"));
        assert_eq!(served.ended_after().await.as_secs(), limit.as_secs());
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_let_go() {
        let house = house().await;
        let limit = Limits::default().write_timeout;
        let mut served = Served::by(&house, well);
        served
            .stream
            .write_all(&[PREFACE, NO_WINDOW, GET].concat())
            .await
            .unwrap();
        // Without this, the connection would stay open forever, because it answers every PING.
        let answering = async {
            let mut seen = BytesMut::new();
            loop {
                while seen.len() >= 9 && seen.len() >= 9 + usize::from(seen[2]) {
                    let frame = seen.split_to(9 + usize::from(seen[2]));
                    if frame[3] == 6 && frame[4] == 0 {
                        let pong = [&frame[..4], &[1], &frame[5..]].concat();
                        served.stream.write_all(&pong).await.unwrap();
                    }
                }
                if served.stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                    return;
                }
            }
        };
        answering.await;
        assert_eq!(served.ended_after().await.as_secs(), limit.as_secs());
    }

    #[tokio::test]
    async fn who_is_gone_without_a_word_is_noticed_while_a_request_waits() {
        let house = house().await;
        let served = Served::by(&house, |_, _, _| pending());
        let Served { mut stream, mut tasks } = served;
        stream.write_all(&[PREFACE, SETTINGS, GET].concat()).await.unwrap();
        taken(&mut stream).await;
        let ended = tasks.join_next().await.unwrap().unwrap();
        let limit = PING_INTERVAL + PING_TIMEOUT;
        assert!(ended <= limit + FAREWELL, "{ended:?}");
    }

    /// What a test sends, part by part.
    fn parts(mut told: mpsc::Receiver<Bytes>) -> Parts {
        Parts::new(async move {
            match told.recv().await {
                Some(part) => Ok((part, Some(parts(told)))),
                None => Ok((Bytes::new(), None)),
            }
        })
    }

    /// A connection with one response, and the channel that supplies the body of the response.
    fn events(house: &taskhub::Hub) -> (Served, mpsc::Sender<Bytes>) {
        let (tell, told) = mpsc::channel(1);
        let told = Mutex::new(Some(told));
        let served = Served::by(house, move |_, _, _| {
            let told = told.lock().unwrap().take().unwrap();
            std::future::ready(json_parts(StatusCode::OK, parts(told)))
        });
        (served, tell)
    }

    /// Asks over either protocol, and gives the body as it comes.
    async fn ask(stream: DuplexStream, is_two: bool, clients: &mut JoinSet<()>) -> Incoming {
        let (stream, request) = (
            TokioIo::new(stream),
            Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap(),
        );
        let answer = if is_two {
            let (mut sender, client) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            clients.spawn(async {
                let _ended = client.await;
            });
            let answer = sender.send_request(request).await;
            clients.spawn(async {
                let _kept: http2::SendRequest<_> = pending_with(sender).await;
            });
            answer
        } else {
            let (mut sender, client) = http1::handshake(stream).await.unwrap();
            clients.spawn(async {
                let _ended = client.await;
            });
            sender.send_request(request).await
        };
        answer.unwrap().into_body()
    }

    async fn pending_with<T>(kept: T) -> T {
        pending::<()>().await;
        kept
    }

    #[tokio::test]
    async fn events_come_when_they_happen_however_long_that_takes() {
        let house = house().await;
        for is_two in [false, true] {
            let (served, tell) = events(&house);
            let mut clients = JoinSet::new();
            let mut body = ask(served.stream, is_two, &mut clients).await;
            for event in ["one", "two", "three"] {
                // Longer than any limit that there is.
                advance(Duration::from_hours(10)).await;
                tell.send(event.into()).await.unwrap();
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), event);
            }
            drop(tell);
            assert!(body.collect().await.unwrap().to_bytes().is_empty());
        }
    }

    #[tokio::test]
    async fn nothing_is_made_for_a_caller_who_takes_nothing_and_in_the_end_it_is_let_go() {
        let house = house().await;
        for is_two in [false, true] {
            let (served, tell) = events(&house);
            let Served { stream, mut tasks } = served;
            let mut clients = JoinSet::new();
            let body = ask(stream, is_two, &mut clients).await;
            let mut made = 0;
            // The receiver goes when the connection is cut.
            while tell.send(vec![b'x'; PART].into()).await.is_ok() {
                made += PART;
            }
            let ended = tasks.join_next().await.unwrap().unwrap();
            let limit = Limits::default().write_timeout;
            assert_eq!(ended.as_secs(), limit.as_secs(), "{is_two}");
            // The bytes held by the connection, in transit, and buffered by the test's client.
            let most = 2 * (SEND_BYTES_MAX + HEAD_BYTES_MAX) + CLIENT_BYTES;
            assert!(made <= most, "{made} bytes were made for nobody, {is_two}");
            assert!(body.collect().await.is_err(), "what is cut has no end");
        }
    }

    const PART: usize = 10_000;
    /// Bytes that hyper's client lets come to a stream, and to a connection.
    const CLIENT_BYTES: usize = 2 << 20;

    #[tokio::test]
    async fn a_caller_who_goes_away_ends_what_is_made_for_it() {
        let house = house().await;
        for is_two in [false, true] {
            let (served, tell) = events(&house);
            let mut clients = JoinSet::new();
            let mut body = ask(served.stream, is_two, &mut clients).await;
            tell.send("one".into()).await.unwrap();
            body.frame().await.unwrap().unwrap();
            drop(body);
            clients.shutdown().await;
            tell.closed().await;
        }
    }
}
