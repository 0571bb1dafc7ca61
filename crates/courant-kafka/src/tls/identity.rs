//! Reads a certificate and its key, and makes of them what handshakes are made with.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};

use super::Validity;

/// Why a certificate or its key is of no use, to go on behind the name of the file. Nothing of a key is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIdentity {
    /// No certificate in the file.
    #[error("there is no certificate in it; write PEM, which begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// PEM with mistakes where the certificate should be.
    #[error("it is not PEM as it should be: {reason}")]
    CertificatePem {
        /// What is wrong.
        reason: &'static str,
    },
    /// Something else in the place of a certificate.
    #[error("the first certificate in it cannot be read")]
    Certificate,
    /// A certificate whose time is over.
    #[error("the certificate was good until {until}; have it renewed")]
    Expired {
        /// Its last second.
        until: Timestamp,
    },
    /// A certificate whose time has not come.
    #[error("the certificate is good from {from} on; look at the clock of this machine")]
    NotYet {
        /// Its first second.
        from: Timestamp,
    },
    /// No key in the file.
    #[error(
        "there is no private key in it; write PEM, which begins with -----BEGIN PRIVATE KEY-----, without a \
         passphrase"
    )]
    NoKey,
    /// PEM with mistakes where the key should be.
    #[error("it is not PEM as it should be: {reason}")]
    KeyPem {
        /// What is wrong.
        reason: &'static str,
    },
    /// A key that nobody here can sign with.
    #[error(
        "the private key in it cannot be used; it can be of RSA with 2048 bits or more, ECDSA or Ed25519"
    )]
    Key,
    /// A key of another certificate.
    #[error("the private key in it does not belong to the certificate")]
    Mismatch,
    /// Both are good, and TLS cannot be spoken with them.
    #[error("TLS cannot be spoken with it: {0}")]
    Unusable(#[source] rustls::Error),
}

impl InvalidIdentity {
    /// Whether it is the file of the key that has to be changed, and not that of the certificate.
    #[must_use]
    pub fn is_of_the_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::KeyPem { .. } | Self::Key | Self::Mismatch)
    }
}

/// What handshakes are made with, and how long that is good.
pub(super) fn read(
    certificate: &[u8],
    key: &[u8],
    now: Timestamp,
) -> Result<(Arc<ServerConfig>, Validity), InvalidIdentity> {
    let chain = chain(certificate)?;
    let validity = chain.first().and_then(Validity::of).ok_or(InvalidIdentity::Certificate)?;
    if now > validity.until {
        return Err(InvalidIdentity::Expired { until: validity.until });
    }
    if now < validity.from {
        return Err(InvalidIdentity::NotYet { from: validity.from });
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => InvalidIdentity::NoKey,
        error => InvalidIdentity::KeyPem { reason: reason(&error) },
    })?;
    let provider = Arc::new(ring::default_provider());
    let key = provider.key_provider.load_private_key(key).map_err(|_| InvalidIdentity::Key)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => return Err(InvalidIdentity::Mismatch),
        Err(_) => return Err(InvalidIdentity::Certificate),
    }
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(InvalidIdentity::Unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok((Arc::new(config), validity))
}

/// The certificates of a file, of which there is at least one.
pub(super) fn chain(certificate: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidIdentity> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(InvalidIdentity::NoCertificate),
        Ok(chain) => Ok(chain),
        Err(error) => Err(InvalidIdentity::CertificatePem { reason: reason(&error) }),
    }
}

/// What is wrong with PEM, without a word of what stands there: it may be a key.
fn reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line has no end",
        pem::Error::Base64Decode(_) => "what stands between BEGIN and END is no base64",
        _ => "it cannot be read",
    }
}
