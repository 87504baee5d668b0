//! TLS by rustls with ring; which protocols and ciphers is left to its defaults.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;
use crate::error::Error;

/// The ALPN protocols, preferred first. Without ALPN, the first bytes of the client decide.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a connection is agreed on with.
///
/// # Errors
///
/// If a file cannot be read, or certificate and key do not fit.
pub(crate) fn acceptor(files: &Tls) -> Result<TlsAcceptor, Error> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, &error))?;
    // Named here, since another crate of the program may bring another one along.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&files.certificate, &error))?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Error {
    Error::Certificate {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
