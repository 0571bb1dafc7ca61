//! What librdkafka is told.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::address::Address;
use crate::limits::{
    AHEAD_BYTES_MAX, AHEAD_RECORDS_MAX, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, HEARTBEAT, POLL_INTERVAL_MAX,
    QUEUE_KIB_MAX, QUEUE_RECORDS_MAX, RECORD_BYTES_MAX, SESSION_MAX,
};
use crate::servers::Servers;

/// The group that the client for looking names. It never joins one: librdkafka wants a name before it
/// reads anything.
const LOOKING_GROUP: &str = "courant-looking";

/// How long a member of a group may be silent before its partitions go to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Without a heartbeat: its process or its network is gone. Brokers have bounds of their own for it.
    pub session: Duration,
    /// Without a look at the group: the thread that follows it hangs. At least as long as `session`. How
    /// long a handler takes does not count.
    pub poll_interval: Duration,
}

impl Default for Silence {
    fn default() -> Self {
        Self { session: SESSION_MAX, poll_interval: POLL_INTERVAL_MAX }
    }
}

/// What all clients have in common.
fn common(address: &Address) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.servers.all())
        .set("client.id", "courant")
        .set("socket.keepalive.enable", "true")
        .set("allow.auto.create.topics", "false")
        // A server that is started again is found soon.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000");
    config.set(
        "security.protocol",
        match (&address.tls, &address.login) {
            (None, None) => "PLAINTEXT",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), None) => "SSL",
            (Some(_), Some(_)) => "SASL_SSL",
        },
    );
    // That the certificate is looked at, and the name in it, is what the client does unless it is told otherwise.
    if let Some(authorities) = address.tls.as_ref().and_then(|tls| tls.authorities.as_deref()) {
        config.set("ssl.ca.location", file(authorities));
    }
    if let Some(login) = &address.login {
        config
            .set("sasl.mechanism", login.mechanism.name())
            .set("sasl.username", login.name.as_str())
            .set("sasl.password", login.password.as_str());
    }
    config
}

/// A path that librdkafka takes for one: `probe` is a word to it, and stands for all whom the system trusts.
fn file(path: &str) -> &str {
    if path == "probe" { "./probe" } else { path }
}

/// For a client that administers.
pub(crate) fn admin(address: &Address) -> ClientConfig {
    common(address)
}

/// For a consumer of whatever kind. It never chooses where to begin, and never commits by itself.
fn consumer(address: &Address) -> ClientConfig {
    let mut config = common(address);
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.error.backoff.ms", "100");
    config
}

/// For a client that looks at topics, offsets and single records.
pub(crate) fn looking(address: &Address) -> ClientConfig {
    let mut config = consumer(address);
    config.set("group.id", LOOKING_GROUP).set("enable.partition.eof", "true");
    config
}

/// For a client that keeps or tells what a group has committed, without being in it.
pub(crate) fn committing(address: &Address, group: &str) -> ClientConfig {
    let mut config = consumer(address);
    config.set("group.id", group);
    config
}

/// For a member of a group.
pub(crate) fn member(address: &Address, group: &str, silence: Silence) -> ClientConfig {
    let Silence { session, poll_interval } = silence;
    let mut config = consumer(address);
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session.as_millis().to_string())
        .set("max.poll.interval.ms", poll_interval.as_millis().to_string())
        .set("heartbeat.interval.ms", HEARTBEAT.min(session / 3).as_millis().to_string())
        .set("queued.min.messages", AHEAD_RECORDS_MAX.to_string())
        .set("queued.max.messages.kbytes", (AHEAD_BYTES_MAX / 1024).to_string())
        // Whoever reads slowly is served again as soon as there is room.
        .set("fetch.queue.backoff.ms", "10");
    config
}

/// For a producer. `batch_records` is 1 where a topic takes less than a batch.
///
/// What is sent waits without an end for its answer, and a batch that is refused ends the producer: so
/// nothing overtakes what is before it in its partition. `publish` has its own patience.
pub(crate) fn producer(address: &Address, batch_records: usize) -> ClientConfig {
    let mut config = common(address);
    config
        .set("enable.idempotence", "true")
        .set("enable.gapless.guarantee", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("compression.type", "none")
        .set("linger.ms", "1")
        .set("batch.num.messages", batch_records.min(BATCH_RECORDS_MAX).to_string())
        .set("batch.size", BATCH_BYTES_MAX.to_string())
        .set("message.max.bytes", (RECORD_BYTES_MAX + 1024 * 1024).to_string())
        .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX.to_string());
    config
}

/// A client of whose events only those about its connections concern anybody.
#[derive(Clone, Debug)]
pub(crate) struct Quiet(Servers);

impl Quiet {
    pub(crate) fn new(address: &Address) -> Self {
        Self(address.servers.clone())
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// What librdkafka writes goes where everything is written. Its warnings are mostly about connections
/// that it makes again.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "{message}");
        }
        _ => tracing::debug!(facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use courant_engine::EngineUrl;

    use super::*;
    use crate::address;

    fn authorities(url: &str) -> Option<String> {
        let EngineUrl::Remote(remote) = url.parse::<EngineUrl>().expect("a URL") else {
            panic!("{url} is a server")
        };
        let address = address::parse(&remote).unwrap_or_else(|reason| panic!("{url}: {reason}"));
        looking(&address).get("ssl.ca.location").map(str::to_owned)
    }

    /// Symptom: a file of authorities by the name of `probe` was not read, and everybody was believed whom the system
    /// trusts. Cause: the name is a word of librdkafka. Fix: it is given a path that is none.
    #[test]
    fn no_name_of_a_file_stands_for_all_whom_the_system_trusts() {
        for (url, expected) in [
            ("kafka://host?tls_ca=probe", Some("./probe")),
            ("kafka://host?tls_ca=%70robe", Some("./probe")),
            ("kafka://host?tls_ca=/etc/probe", Some("/etc/probe")),
            ("kafka://host?tls_ca=ca.pem", Some("ca.pem")),
            ("kafka://host?tls=true", None),
        ] {
            assert_eq!(authorities(url).as_deref(), expected, "{url}");
        }
    }
}
