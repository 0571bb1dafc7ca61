//! TLS for rows: the certificate of a server, and sockets that speak it. The certificates are those of the tests.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const AUTHORITY: &[u8] = include_bytes!("../../crates/courant-kafka/tests/certificates/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../crates/courant-kafka/tests/certificates/server.pem");
const KEY: &[u8] = include_bytes!("../../crates/courant-kafka/tests/certificates/server-key.pem");

/// A name that the certificate is good for.
const NAME: &str = "localhost";

/// The files of a server, and who believes it.
pub(crate) struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    client: Client,
}

impl Identity {
    /// Writes the files into this directory.
    pub(crate) fn in_directory(directory: &Path) -> Result<Identity> {
        let (certificate, key) = (directory.join("server.pem"), directory.join("server-key.pem"));
        let cannot = || format!("the files of TLS cannot be written to {}", directory.display());
        fs::write(&certificate, CERTIFICATE).with_context(cannot)?;
        fs::write(&key, KEY).with_context(cannot)?;
        // Others may not read it, or the server refuses it.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).with_context(cannot)?;
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(AUTHORITY).map_err(|error| anyhow!("{error}"))?;
        roots.add(authority)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Identity { certificate, key, client: Client(Arc::new(config)) })
    }

    /// What a server is told on its command line.
    pub(crate) fn flags(&self) -> [&Path; 4] {
        [Path::new("--tls-cert"), &self.certificate, Path::new("--tls-key"), &self.key]
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

/// Who believes a server.
#[derive(Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

/// A socket, with TLS or without.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// Over this connection. A handshake is made by what is written first.
    pub(crate) fn over(stream: TcpStream, tls: Option<&Client>) -> Result<Socket> {
        let Some(Client(config)) = tls else { return Ok(Socket::Plain(stream)) };
        let name = ServerName::try_from(NAME).context("a name")?;
        let session = ClientConnection::new(Arc::clone(config), name)?;
        Ok(Socket::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    /// Reads the same connection. With TLS nobody else can read what one end has the keys of.
    pub(crate) fn reader(&self) -> Result<TcpStream> {
        match self {
            Socket::Plain(stream) => stream.try_clone().context("the connection"),
            Socket::Tls(_) => bail!("a connection with TLS has one reader"),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.read(bytes),
            Socket::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(stream) => stream.flush(),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}
