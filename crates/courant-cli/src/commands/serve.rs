//! `courant serve`: the server in this process, until a signal ends it.

use super::telemetry::Telemetry;
use super::tls::{self, Identity};
use crate::banner::{self, Banner};
use crate::cli::{Global, Serve};
use crate::exit::{Exit, Failure, note};
use crate::files;
use crate::settings::Settings;
use courant_server::{ApiTokens, Server, ServerConfig, ServiceKeys, StartError};
use jiff::Timestamp;
use std::io::{self, IsTerminal};
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Serves until SIGTERM or SIGINT. The first one ends it in order, the second one at once.
pub(super) fn run(global: &Global, args: &Serve) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.settings)?;
    log_to_stderr(global, settings.log())?;
    plant();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))?;
    let mut config = settings.server_config();
    config.api.tokens = settings.token_file().map(tokens).transpose()?;
    config.api.service_keys = settings.service_key_file().map(keys).transpose()?.unwrap_or_default();
    warn_of_readers(&settings);
    let identity = tls::identity(&settings)?;
    config.tls = identity.as_ref().map(Identity::tls);
    let telemetry = Telemetry::start("courant")?;
    config.tracer = telemetry.tracer();
    let ended = runtime.block_on(serve(global, config, identity));
    // After a second signal something may still be busy, and the process ends without it.
    runtime.shutdown_background();
    telemetry.end(&ended);
    ended
}

/// Breaks the guarantee of the server that the environment names. Only builds for tests can.
#[cfg(feature = "planted-defects")]
fn plant() {
    use courant_server::planted::{self, Defect};

    let name = std::env::var("COURANT_PLANTED_DEFECT").unwrap_or_default();
    if let Some(defect) = Defect::ALL.into_iter().find(|defect| defect.name() == name) {
        planted::plant(defect);
    }
}

#[cfg(not(feature = "planted-defects"))]
fn plant() {}

/// Bytes of a file of tokens or of keys: a hundred of the longest tokens fit.
const TOKEN_FILE_BYTES_MAX: u64 = 256 * 1024;

/// The tokens of a file. What stands in it is in no sentence.
pub(super) fn tokens(file: &Path) -> Result<ApiTokens, Failure> {
    let named = |reason: String| format!("--api-token-file {}: {reason}", file.display());
    let text = files::read_text(file, TOKEN_FILE_BYTES_MAX)
        .map_err(|error| Failure::new(Exit::Usage, named(error.to_string())))?;
    ApiTokens::parse(&text).map_err(|error| Failure::new(Exit::Usage, named(error.to_string())))
}

/// The keys of services in a file. What stands in it is in no sentence.
pub(super) fn keys(file: &Path) -> Result<ServiceKeys, Failure> {
    let named = |reason: String| format!("--api-service-key-file {}: {reason}", file.display());
    let text = files::read_text(file, TOKEN_FILE_BYTES_MAX)
        .map_err(|error| Failure::new(Exit::Usage, named(error.to_string())))?;
    ServiceKeys::parse(&text).map_err(|error| Failure::new(Exit::Usage, named(error.to_string())))
}

/// Warns of secrets that every user of the machine may read. A start is not refused for it: the mode of a file that is
/// mounted may be up to others.
fn warn_of_readers(settings: &Settings) {
    let secrets = [
        ("--api-token-file", settings.token_file()),
        ("--api-service-key-file", settings.service_key_file()),
    ];
    for (flag, file) in secrets {
        if let Some(file) = file
            && let Some(mode) = files::mode_for_others(file)
        {
            let file = file.display();
            tracing::warn!(
                "{flag} {file}: other users of this machine may use it (its mode is {mode:o}); say `chmod o= {file}`"
            );
        }
    }
}

async fn serve(global: &Global, config: ServerConfig, identity: Option<Identity>) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (data, advertise, tls) = (config.data.clone(), config.advertise.clone(), config.tls.clone());
    let server = tokio::select! {
        started = Server::start(config) => {
            started.map_err(|error| Failure::new(exit_of(&error), error.to_string()))?
        }
        () = signals.next() => {
            note(format_args!("Stopped before it was ready."));
            return Ok(Exit::Ok);
        }
    };
    greet(global, &data, advertise.as_deref(), tls.map(|tls| tls.validity().until), &server);
    if let Some(identity) = identity {
        // Ends with the runtime.
        tokio::spawn(identity.follow());
    }
    signals.next().await;
    if !global.quiet {
        note(format_args!("Stopping; a second signal stops at once."));
    }
    tokio::select! {
        () = server.stop() => Ok(Exit::Ok),
        () = signals.next() => Ok(Exit::Interrupted),
    }
}

/// A setting that can never work is the command line's fault; everything else is the machine's.
pub(super) fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Address { .. }
        | StartError::Exposed { .. }
        | StartError::Advertise(_)
        | StartError::Hosts { .. }
        | StartError::OneAddress { .. }
        | StartError::Memory { .. }
        | StartError::Partitions { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// The banner, and `ready` as the last line of all.
fn greet(
    global: &Global,
    data: &Path,
    advertise: Option<&str>,
    tls_until: Option<Timestamp>,
    server: &Server,
) {
    let addresses = (server.kafka_addresses().first(), server.http_addresses().first());
    if let (Some(&kafka), Some(&http)) = addresses {
        let recovery = banner::recovery(server.recovery());
        let banner = Banner { kafka, http, advertise, tls_until, data, recovery };
        note(format_args!("{}ready", banner.text(!global.quiet)));
    }
}

/// The signals that end a process in order.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be handled: {error}")))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Ends with the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Log lines go to stderr; stdout is for data.
pub(super) fn log_to_stderr(global: &Global, filter: Option<&str>) -> Result<(), Failure> {
    let by_verbosity = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let filter =
        EnvFilter::try_new(filter.filter(|f| !f.is_empty()).unwrap_or(by_verbosity)).map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!(
                    "the log filter cannot be read: {error}; write for example info or \
                 courant_kafka=debug,info"
                ),
            )
        })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // A line that cannot be written would be told of on stderr, and where that is gone, by a panic of whoever
        // has logged.
        .log_internal_errors(false)
        .try_init()
        .map_err(|error| Failure::new(Exit::Failed, format!("no log: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_wrong_usage() {
        let partitions = StartError::Partitions { got: 0, max: 10 };
        assert_eq!(exit_of(&partitions), Exit::Usage);
        let used = StartError::InUse { flag: "--kafka", address: ([127, 0, 0, 1], 9092).into() };
        assert_eq!(exit_of(&used), Exit::Failed);
    }
}
