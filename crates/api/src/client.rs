//! Calls to a server: a request and its whole answer, over HTTP or HTTPS.
//!
//! The client is hyper's pooled one with rustls. It follows no redirects and uses no proxies: a key goes to the server
//! that was named and nowhere else. A certificate is checked against the authorities that the system trusts and those
//! that were added to them.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::CertificateError;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The header that carries a key.
const KEY: HeaderName = HeaderName::from_static("x-functions-key");

/// A server, and the connections to it.
#[derive(Clone, Debug)]
pub struct HttpClient {
    connections: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Base,
    key: Option<HeaderValue>,
    answer_bytes_max: usize,
}

/// Where a server is.
#[derive(Clone, Debug)]
struct Base {
    scheme: Scheme,
    /// Host and port.
    authority: String,
    /// Where its surfaces begin: empty, or with a slash in front and none at the end.
    path: String,
}

/// Certificate authorities to trust in addition to those of the system.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// A request to a server.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// The reason why a call has no response. The texts complete a sentence that names the server, such as "cannot reach
/// the server at …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the server.
    #[error("invalid server URL `{url}`: expected one such as http://localhost:7071 or https://hub.example.org")]
    Url {
        /// As it was given.
        url: String,
    },
    /// The key or another header that was given.
    #[error("the value of the header {name} has characters that a header cannot hold")]
    Header {
        /// Its name.
        name: HeaderName,
    },
    /// The file of additional authorities contains no certificate.
    #[error(
        "it contains no certificate: expected one or more in PEM form, between `-----BEGIN CERTIFICATE-----` and \
        `-----END CERTIFICATE-----`"
    )]
    NoCertificate,
    /// One of them cannot be read.
    #[error("it contains something that is not a certificate: {why}")]
    BadCertificate {
        /// What is wrong with it.
        why: String,
    },
    /// The authorities that the system trusts cannot be read, and none was added.
    #[error("no trusted certificate authorities were found on this system{why}")]
    NoAuthorities {
        /// Empty, or a colon and the reason.
        why: String,
    },
    /// No trusted authority issued the server's certificate.
    #[error("its certificate was not issued by a trusted authority")]
    Untrusted,
    /// The server's certificate is that of another server.
    #[error("its certificate is for {presented}, not for {expected}")]
    WrongName {
        /// The host that was asked.
        expected: String,
        /// The names in the certificate, with commas between them.
        presented: String,
    },
    /// Something else is wrong with the certificate or the handshake.
    #[error("the TLS handshake failed: {why}")]
    Tls {
        /// What is wrong.
        why: String,
    },
    /// What was taken for TLS is not.
    #[error("it does not speak TLS at this port")]
    NotTls,
    /// What was taken for HTTP is not.
    #[error("its answer is not HTTP")]
    NotHttp,
    /// No answer came in time; the request may have taken effect.
    #[error("it did not answer within {} seconds", limit.as_secs())]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is larger than this client accepts.
    #[error("its answer is larger than {bytes_max} bytes")]
    TooLarge {
        /// The most bytes that are accepted.
        bytes_max: usize,
    },
    /// No connection came about, or it broke; a request that was under way may have taken effect.
    #[error("{why}")]
    Unreachable {
        /// What the system says.
        why: String,
    },
}

impl Authorities {
    /// Those of a PEM text.
    ///
    /// # Errors
    ///
    /// [`Error::NoCertificate`] and [`Error::BadCertificate`].
    pub fn of_pem(text: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::BadCertificate { why };
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let found = found.map_err(|error| bad(error.to_string()))?;
        if found.is_empty() {
            return Err(Error::NoCertificate);
        }
        let mut checked = RootCertStore::empty();
        for certificate in &found {
            let not_x509 = |_| bad("its content is not a valid X.509 certificate".to_owned());
            checked.add(certificate.clone()).map_err(not_x509)?;
        }
        Ok(Self(found))
    }

    /// These, and those that the system trusts.
    fn with_those_of_system(&self) -> Result<RootCertStore, Error> {
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // The system's store may contain an unreadable certificate among hundreds; it is ignored, so nothing is trusted
        // because of it.
        let (_added, _ignored) = roots.add_parsable_certificates(system.certs);
        let (_added, _ignored) = roots.add_parsable_certificates(self.0.iter().cloned());
        if roots.is_empty() {
            let why = system.errors.first().map(|error| format!(": {error}"));
            return Err(Error::NoAuthorities {
                why: why.unwrap_or_default(),
            });
        }
        Ok(roots)
    }
}

impl HttpRequest {
    /// A request without a body. The path is encoded, begins with a slash, and may have a query.
    pub fn new(method: Method, path: impl Into<String>, timeout: Duration) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout,
        }
    }

    /// The same with a body, which is JSON.
    #[must_use]
    pub fn json(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let json = HeaderValue::from_static("application/json");
        Self { body, ..self }.header(CONTENT_TYPE, json)
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same with another time within which the whole answer must be there.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl Base {
    fn of(url: &str) -> Result<Self, Error> {
        // What stands before an `@` may be a secret.
        let shown = url.rsplit_once('@').map(|(_, host)| format!("…@{host}"));
        let invalid = || Error::Url {
            url: shown.clone().unwrap_or_else(|| url.to_owned()),
        };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let scheme = uri
            .scheme()
            .filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let (Some(scheme), Some(authority), None) = (scheme, authority, uri.query()) else {
            return Err(invalid());
        };
        let path = uri.path().trim_matches('/');
        Ok(Self {
            scheme: scheme.clone(),
            authority: authority.to_string(),
            path: if path.is_empty() {
                String::new()
            } else {
                format!("/{path}")
            },
        })
    }

    fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    fn to(&self, path: &str) -> Result<Uri, Error> {
        let url = format!("{}://{}{}{path}", self.scheme, self.authority, self.path);
        url.parse().map_err(|_| Error::Url { url })
    }
}

impl HttpClient {
    /// A client of the server at a URL; nothing is sent yet. No answer may have more bytes than said.
    ///
    /// # Errors
    ///
    /// [`Error::Url`], [`Error::NoAuthorities`].
    pub fn new(url: &str, authorities: &Authorities, answer_bytes_max: usize) -> Result<Self, Error> {
        let base = Base::of(url)?;
        let roots = if base.is_tls() {
            authorities.with_those_of_system()?
        } else {
            RootCertStore::empty()
        };
        // Named here, since another crate of the program may bring another one along.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls { why: error.to_string() })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        // Small requests would wait for the other's acknowledgement otherwise (A11).
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            connections: legacy::Client::builder(TokioExecutor::new()).build(connector),
            base,
            key: None,
            answer_bytes_max,
        })
    }

    /// The same with a key, which every request then carries.
    ///
    /// # Errors
    ///
    /// [`Error::Header`] if it cannot be sent.
    pub fn with_key(self, key: &str) -> Result<Self, Error> {
        let mut key = HeaderValue::from_str(key).map_err(|_| Error::Header { name: KEY })?;
        key.set_sensitive(true);
        Ok(Self { key: Some(key), ..self })
    }

    /// Checks whether a connection to the server is possible, without sending anything.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`].
    pub async fn reach(&self) -> Result<(), Error> {
        let uri = self.base.to("/")?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if self.base.is_tls() { 443 } else { 80 });
        match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
            Ok(Ok(_closed_again)) => Ok(()),
            Ok(Err(error)) => Err(explained(&error, &self.base)),
            Err(_) => Err(explained(&io::Error::from(io::ErrorKind::TimedOut), &self.base)),
        }
    }

    /// Sends a request and waits for the whole response. A response with an error status is returned as a response.
    ///
    /// # Errors
    ///
    /// If the response did not arrive completely. Reconnects only if the server had closed the connection before
    /// anything was sent, so a request is never sent twice.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpAnswer, Error> {
        let limit = request.timeout;
        let answer = timeout(limit, self.exchange(request)).await;
        answer.unwrap_or(Err(Error::TimedOut { limit }))
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpAnswer, Error> {
        let mut sent = http::Request::new(Full::new(request.body));
        *sent.method_mut() = request.method;
        *sent.uri_mut() = self.base.to(&request.path)?;
        *sent.headers_mut() = request.headers;
        if let Some(key) = &self.key {
            sent.headers_mut().insert(KEY, key.clone());
        }
        let answer = self.connections.request(sent).await;
        let (head, body) = answer.map_err(|error| explained(&error, &self.base))?.into_parts();
        let body = Limited::new(body, self.answer_bytes_max).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Error::TooLarge {
                bytes_max: self.answer_bytes_max,
            },
            None => explained(error.as_ref(), &self.base),
        })?;
        Ok(HttpAnswer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

/// An error and its causes, also those that an I/O error hides.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    successors(Some(error), |error: &&'e (dyn StdError + 'static)| {
        let error: &'e (dyn StdError + 'static) = *error;
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match within {
            Some(within) => Some(within as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// What an error of a connection means.
fn explained(error: &(dyn StdError + 'static), base: &Base) -> Error {
    let mut last = error;
    for cause in causes(error) {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return explained_tls(error, base);
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            return Error::NotHttp;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::TimedOut
        {
            let seconds = CONNECT_TIMEOUT.as_secs();
            return Error::Unreachable {
                why: format!("connecting took longer than {seconds} seconds"),
            };
        }
        last = cause;
    }
    Error::Unreachable { why: last.to_string() }
}

fn explained_tls(error: &rustls::Error, base: &Base) -> Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Error::Untrusted,
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            // `DnsName("a.example")`, `IpAddress(10.0.0.1)`
            let names = presented.iter().map(|name| {
                let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
                inner.unwrap_or(name).trim_matches('"')
            });
            Error::WrongName {
                expected: expected.to_str().into_owned(),
                presented: names.collect::<Vec<_>>().join(", "),
            }
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => Error::WrongName {
            expected: base.authority.clone(),
            presented: "another name".to_owned(),
        },
        rustls::Error::InvalidMessage(_) => Error::NotTls,
        error => Error::Tls { why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_path() {
        for (url, to) in [
            ("http://localhost:7071", "http://localhost:7071/x?y"),
            ("https://hub.example.org/", "https://hub.example.org/x?y"),
            ("https://[::1]:7071/behind/it//", "https://[::1]:7071/behind/it/x?y"),
        ] {
            assert_eq!(Base::of(url).unwrap().to("/x?y").unwrap(), to);
        }
        for url in [
            "localhost:7071",
            "ftp://localhost",
            "https://",
            "http://user:secret@localhost",
            "http://localhost?x=y",
            "http://local host",
            "/x",
            "",
        ] {
            assert!(matches!(Base::of(url), Err(Error::Url { .. })), "{url}");
        }
    }

    #[test]
    fn what_holds_no_certificate_adds_no_authority() {
        for text in [
            "",
            "a text",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(
                matches!(Authorities::of_pem(text.as_bytes()), Err(Error::NoCertificate)),
                "{text}"
            );
        }
        for text in [
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
        ] {
            assert!(
                matches!(Authorities::of_pem(text.as_bytes()), Err(Error::BadCertificate { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_refused() {
        let client = HttpClient::new("http://localhost", &Authorities::default(), 1).unwrap();
        assert!(matches!(client.clone().with_key("a\nb"), Err(Error::Header { .. })));
        let client = client.with_key("secret").unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
