//! The other end: TLS for the small clients of the command line.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::InvalidIdentity;
use super::identity::chain;

/// Whom a client believes to be the server that it looks for.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAuthority {
    /// The file holds no certificates.
    #[error(transparent)]
    File(#[from] InvalidIdentity),
    /// One of its certificates is none of an authority, or TLS cannot be spoken.
    #[error("it cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl ClientTls {
    /// Believes servers whose certificate leads to one of these, in PEM.
    ///
    /// # Errors
    /// Why that is nobody.
    pub fn trusting(authorities: &[u8]) -> Result<Self, InvalidAuthority> {
        let mut roots = RootCertStore::empty();
        for authority in chain(authorities)? {
            roots.add(authority)?;
        }
        let config = builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Believes whoever has the key of this very certificate, the first one in PEM, whatever name it has: for looking
    /// at a server whose file this is.
    ///
    /// # Errors
    /// Why that is nobody.
    pub fn of_the_server(certificate: &[u8]) -> Result<Self, InvalidAuthority> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let certificate = chain(certificate)?.swap_remove(0);
        let config = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly { certificate, algorithms }))
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands with a server that is reached as `host`.
    ///
    /// # Errors
    /// What the socket says, or why the server is not believed.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<ClientSocket> {
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        let stream = TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await?;
        Ok(ClientSocket::Tls(Box::new(stream)))
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
}

/// Believes one certificate.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if **end_entity == *self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A socket of a client, with TLS or without.
#[derive(Debug)]
pub enum ClientSocket {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientSocket {
    /// Shakes hands over a connection, if anybody asks for TLS.
    ///
    /// # Errors
    /// As [`ClientTls::connect`].
    pub async fn over(stream: TcpStream, host: &str, tls: Option<&ClientTls>) -> io::Result<Self> {
        match tls {
            None => Ok(Self::Plain(stream)),
            Some(tls) => tls.connect(host, stream).await,
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
