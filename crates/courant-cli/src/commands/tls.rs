//! TLS: the files of the server's certificate and its key, read at the start and again when they change; and whom the
//! tools believe to be a server.

use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::settings::Settings;
use courant_kafka::tls::{ClientTls, InvalidIdentity, ServerTls};
use jiff::Timestamp;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

/// Bytes of one of these files: long chains of certificates fit.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Permissions of a key that are refused: any for users who neither own it nor are in its group.
const OTHERS: u32 = 0o007;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How many seconds before its end a certificate is warned of, and how often.
const END_IS_NEAR: i64 = 14 * 24 * 60 * 60;
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// Whom the tools believe, if the command line or the environment says so; else nothing is encrypted.
pub(super) fn trusted(global: &Global) -> Result<Option<ClientTls>, Failure> {
    let Some(file) = global.tls_ca.as_deref() else { return Ok(None) };
    let failure = |reason: &dyn fmt::Display| {
        Failure::new(Exit::Usage, format!("--tls-ca {}: {reason}", file.display()))
    };
    let (bytes, _) = files::read_with_mode(file, FILE_BYTES_MAX).map_err(|error| failure(&error))?;
    ClientTls::trusting(&bytes).map(Some).map_err(|error| failure(&error))
}

/// What the server shows and keeps for itself; `None` where it speaks without TLS.
pub(super) fn identity(settings: &Settings) -> Result<Option<Identity>, Failure> {
    let (certificate, key) = match settings.tls_files() {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate.to_owned(), key.to_owned()),
        (Some(_), None) => return Err(alone("--tls-cert", "--tls-key", "the key of the certificate")),
        (None, Some(_)) => return Err(alone("--tls-key", "--tls-cert", "the certificate of the key")),
    };
    let files = Files { certificate, key };
    let contents = files.read().map_err(|sentence| Failure::new(Exit::Usage, sentence))?;
    let tls = ServerTls::new(&contents.certificate, &contents.key, Timestamp::now())
        .map_err(|error| Failure::new(Exit::Usage, files.wrong(&error)))?;
    Ok(Some(Identity { files, contents, tls, reminded: None }))
}

fn alone(given: &str, missing: &str, what: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{given} needs {missing} FILE: {what}"))
}

/// Where they are.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What stands in them. It is never shown.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    /// `Err`: a sentence on the file that cannot be used.
    fn read(&self) -> Result<Contents, String> {
        let read = |flag: &str, path: &Path| {
            files::read_with_mode(path, FILE_BYTES_MAX)
                .map_err(|error| format!("{flag} {}: {error}", path.display()))
        };
        let (certificate, _) = read("--tls-cert", &self.certificate)?;
        let (key, mode) = read("--tls-key", &self.key)?;
        if mode & OTHERS != 0 {
            let path = self.key.display();
            return Err(format!(
                "--tls-key {path}: other users of this machine may use it (its mode is {:o}); say `chmod o= {path}`",
                mode & 0o777
            ));
        }
        Ok(Contents { certificate, key })
    }

    fn wrong(&self, error: &InvalidIdentity) -> String {
        if error.is_of_the_key() {
            return format!("--tls-key {}: {error}", self.key.display());
        }
        format!("--tls-cert {}: {error}", self.certificate.display())
    }
}

/// The certificate of a server and its key, with the files that they come from.
pub(super) struct Identity {
    files: Files,
    contents: Contents,
    tls: ServerTls,
    /// When the end of the certificate was last warned of.
    reminded: Option<Instant>,
}

impl Identity {
    /// What the server shakes hands with.
    pub(super) fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// The certificate and its chain, as they stand in the file.
    pub(super) fn certificate(&self) -> &[u8] {
        &self.contents.certificate
    }

    /// Takes what the files say whenever that changes, and warns of the certificate's end. Never comes back.
    pub(super) async fn follow(mut self) {
        let mut complaint = None;
        loop {
            self.remind();
            tokio::time::sleep(LOOK).await;
            match self.look().await {
                Ok(false) => complaint = None,
                Ok(true) => {
                    (complaint, self.reminded) = (None, None);
                    info!("TLS: another certificate is in use, good until {}", self.tls.validity().until);
                }
                // Once: it is met by every look until somebody mends it.
                Err(sentence) if complaint.as_ref() == Some(&sentence) => {}
                Err(sentence) => {
                    warn!("TLS: {sentence}; the certificate that was read before stays in use");
                    complaint = Some(sentence);
                }
            }
        }
    }

    /// Whether the files have changed, and what they say is in use.
    async fn look(&mut self) -> Result<bool, String> {
        let files = self.files.clone();
        let read = spawn_blocking(move || files.read()).await;
        let contents = read.map_err(|error| format!("looking at its files ended early: {error}"))??;
        if contents == self.contents {
            return Ok(false);
        }
        // One file may have been written and the other not yet: then they do not fit, until the next look.
        self.tls
            .replace(&contents.certificate, &contents.key, Timestamp::now())
            .map_err(|error| self.files.wrong(&error))?;
        self.contents = contents;
        Ok(true)
    }

    fn remind(&mut self) {
        let until = self.tls.validity().until;
        if !ends_soon(until) || self.reminded.is_some_and(|last| last.elapsed() < REMINDER) {
            return;
        }
        self.reminded = Some(Instant::now());
        warn!("TLS: the certificate is good until {until}; behind that clients refuse it");
    }
}

/// Whether a certificate has to be renewed now.
pub(super) fn ends_soon(until: Timestamp) -> bool {
    until.as_second().saturating_sub(Timestamp::now().as_second()) < END_IS_NEAR
}
