//! Why a server does not come up.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error as ThisError;

/// Why a server does not come up, or ends.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The address is reachable from other machines, but no keys are configured (A11).
    #[error("{address} is reachable from other machines, but the server has no keys")]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// The certificate cannot be used.
    #[error("cannot use the certificate in {file}: {reason}")]
    Certificate {
        /// The file with the trouble.
        file: PathBuf,
        /// The reason, for people.
        reason: String,
    },
    /// A setting is not what it should be.
    #[error("invalid setting `{setting}`: expected {expected}, got `{given}`")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it is.
        given: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Error {
    /// The stable word of the condition (A10).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address-in-use",
            Self::Unprotected { .. } => "address-unprotected",
            Self::Certificate { .. } => "certificate-unusable",
            Self::Setting { .. } => "invalid-argument",
        }
    }
}
