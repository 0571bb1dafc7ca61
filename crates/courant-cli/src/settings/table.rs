//! The list of the settings. The command line, `courant.toml`, `courant config` and the README's
//! table follow from it.

use super::value::{Kind, Value};

/// Names a setting in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Data,
    Kafka,
    Http,
    Advertise,
    Partitions,
    AutoCreateTopics,
    Insecure,
    Memory,
    Log,
    GroupInitialRebalanceDelayMs,
    OffsetsRetentionMinutes,
    CompactionIntervalSeconds,
    CompactionBytesPerSecond,
    CompactionKeyBytes,
    ScrubIntervalSeconds,
    ScrubBytesPerSecond,
    ApiReadOnly,
    ApiTokenFile,
    ApiHosts,
    ApiServiceKeyFile,
    TraceCorrelationHeader,
    TraceIndexEvents,
    TlsCert,
    TlsKey,
    Server,
}

/// What holds when nobody sets a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// This value.
    Value(&'static str),
    /// No value, which has a meaning of its own. The example is what a value may look like.
    Means { meaning: &'static str, example: &'static str },
}

/// One setting, with its name in each of the places where it can be set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: Name,
    /// In `courant.toml`, where a dot separates a table from what is in it.
    pub(crate) key: &'static str,
    /// On the command line, without the dashes.
    pub(crate) flag: &'static str,
    /// In the environment.
    pub(crate) variable: &'static str,
    pub(crate) kind: Kind,
    /// What stands for the value in help; empty for a switch that takes none, because it is off unless it is named.
    pub(crate) placeholder: &'static str,
    pub(crate) fallback: Fallback,
    /// One sentence without its full stop.
    pub(crate) doc: &'static str,
}

impl Setting {
    /// The default, if it is a value.
    pub(crate) fn default(&self) -> Option<Value> {
        match self.fallback {
            Fallback::Value(text) => self.kind.parse(text).ok(),
            Fallback::Means { .. } => None,
        }
    }

    /// Whether it is about the server; otherwise it is about the tools that talk to one.
    pub(crate) fn is_of_the_server(&self) -> bool {
        self.name != Name::Server
    }
}

/// All of them, in the order in which they are shown. Those of a table in `courant.toml` stand
/// together, after those of none.
pub(crate) static SETTINGS: [Setting; 25] = [
    Setting {
        name: Name::Data,
        key: "data",
        flag: "data",
        variable: "COURANT_DATA",
        kind: Kind::Directory,
        placeholder: "DIR",
        fallback: Fallback::Value("./courant-data"),
        doc: "Where the log is kept; made if it is missing",
    },
    Setting {
        name: Name::Kafka,
        key: "kafka",
        flag: "kafka",
        variable: "COURANT_KAFKA",
        kind: Kind::Listen,
        placeholder: "ADDR",
        fallback: Fallback::Value("127.0.0.1:9092"),
        doc: "Where Kafka clients connect; port 0 takes a free one",
    },
    Setting {
        name: Name::Http,
        key: "http",
        flag: "http",
        variable: "COURANT_HTTP",
        kind: Kind::Listen,
        placeholder: "ADDR",
        fallback: Fallback::Value("127.0.0.1:8080"),
        doc: "Where /api/v1, /livez, /readyz and /metrics answer; port 0 takes a free one",
    },
    Setting {
        name: Name::Advertise,
        key: "advertise",
        flag: "advertise",
        variable: "COURANT_ADVERTISE",
        kind: Kind::Advertised,
        placeholder: "HOST:PORT",
        fallback: Fallback::Means { meaning: "the one they connect to", example: "events.example:9092" },
        doc: "The address that clients are told to use",
    },
    Setting {
        name: Name::Partitions,
        key: "partitions",
        flag: "partitions",
        variable: "COURANT_PARTITIONS",
        kind: Kind::Count { min: 1, max: 10_000 },
        placeholder: "N",
        fallback: Fallback::Value("1"),
        doc: "Partitions of a topic that is created without saying how many",
    },
    Setting {
        name: Name::AutoCreateTopics,
        key: "auto-create-topics",
        flag: "auto-create-topics",
        variable: "COURANT_AUTO_CREATE_TOPICS",
        kind: Kind::Switch,
        placeholder: "BOOL",
        fallback: Fallback::Value("true"),
        doc: "Whether a topic that is not there is created when a Kafka client asks for it",
    },
    Setting {
        name: Name::Insecure,
        key: "insecure",
        flag: "insecure",
        variable: "COURANT_INSECURE",
        kind: Kind::Switch,
        placeholder: "",
        fallback: Fallback::Value("false"),
        doc: "Allow addresses that other machines can reach, although nobody is asked to log in",
    },
    Setting {
        name: Name::Memory,
        key: "memory",
        flag: "memory",
        variable: "COURANT_MEMORY",
        kind: Kind::Size { min: courant_server::MEMORY_MIN },
        placeholder: "SIZE",
        fallback: Fallback::Means { meaning: "each part has its bounds", example: "1GiB" },
        doc: "Memory that the server may take beside the program and what is stored; 576MiB or more",
    },
    Setting {
        name: Name::Log,
        key: "log",
        flag: "log",
        variable: "COURANT_LOG",
        kind: Kind::Filter,
        placeholder: "FILTER",
        fallback: Fallback::Means { meaning: "info", example: "courant_kafka=debug,info" },
        doc: "What is logged to stderr, such as debug or courant_kafka=debug,info",
    },
    Setting {
        name: Name::Server,
        key: "server",
        flag: "server",
        variable: "COURANT_SERVER",
        kind: Kind::Servers,
        placeholder: "ADDR",
        fallback: Fallback::Value("127.0.0.1:9092"),
        doc: "The server that the tools talk to; several with commas",
    },
    Setting {
        name: Name::GroupInitialRebalanceDelayMs,
        key: "group.initial-rebalance-delay-ms",
        flag: "group-initial-rebalance-delay-ms",
        variable: "COURANT_GROUP_INITIAL_REBALANCE_DELAY_MS",
        kind: Kind::Count { min: 0, max: 300_000 },
        placeholder: "MS",
        fallback: Fallback::Value("100"),
        doc: "Milliseconds that the first member of an empty consumer group waits for others",
    },
    Setting {
        name: Name::OffsetsRetentionMinutes,
        key: "offsets.retention-minutes",
        flag: "offsets-retention-minutes",
        variable: "COURANT_OFFSETS_RETENTION_MINUTES",
        kind: Kind::Count { min: 1, max: 2_147_483_647 },
        placeholder: "MINUTES",
        fallback: Fallback::Value("10080"),
        doc: "Minutes for which the offsets of a consumer group without members are kept",
    },
    Setting {
        name: Name::CompactionIntervalSeconds,
        key: "compaction.interval-seconds",
        flag: "compaction-interval-seconds",
        variable: "COURANT_COMPACTION_INTERVAL_SECONDS",
        kind: Kind::Count { min: 1, max: 2_147_483_647 },
        placeholder: "SECONDS",
        fallback: Fallback::Value("15"),
        doc: "Seconds between two looks for topics that are due for compaction",
    },
    Setting {
        name: Name::CompactionBytesPerSecond,
        key: "compaction.bytes-per-second",
        flag: "compaction-bytes-per-second",
        variable: "COURANT_COMPACTION_BYTES_PER_SECOND",
        kind: Kind::Count { min: 0, max: u32::MAX },
        placeholder: "BYTES",
        fallback: Fallback::Value("67108864"),
        doc: "Bytes that compaction reads and writes in a second at most; 0: as many as it can",
    },
    Setting {
        name: Name::CompactionKeyBytes,
        key: "compaction.key-bytes",
        flag: "compaction-key-bytes",
        variable: "COURANT_COMPACTION_KEY_BYTES",
        kind: Kind::Count { min: 1_048_576, max: u32::MAX },
        placeholder: "BYTES",
        fallback: Fallback::Value("134217728"),
        doc: "Memory that compaction may keep keys in, at most 64 bytes for each",
    },
    Setting {
        name: Name::ScrubIntervalSeconds,
        key: "scrub.interval-seconds",
        flag: "scrub-interval-seconds",
        variable: "COURANT_SCRUB_INTERVAL_SECONDS",
        kind: Kind::Count { min: 0, max: 2_147_483_647 },
        placeholder: "SECONDS",
        fallback: Fallback::Value("604800"),
        doc: "Seconds between two looks at everything stored, for damage that no reader has met; 0: none",
    },
    Setting {
        name: Name::ScrubBytesPerSecond,
        key: "scrub.bytes-per-second",
        flag: "scrub-bytes-per-second",
        variable: "COURANT_SCRUB_BYTES_PER_SECOND",
        kind: Kind::Count { min: 65_536, max: u32::MAX },
        placeholder: "BYTES",
        fallback: Fallback::Value("8388608"),
        doc: "Bytes that such a look reads in a second at most",
    },
    Setting {
        name: Name::ApiReadOnly,
        key: "api.read-only",
        flag: "api-read-only",
        variable: "COURANT_API_READ_ONLY",
        kind: Kind::Switch,
        placeholder: "",
        fallback: Fallback::Value("false"),
        doc: "Refuse every change by the HTTP API",
    },
    Setting {
        name: Name::ApiTokenFile,
        key: "api.token-file",
        flag: "api-token-file",
        variable: "COURANT_API_TOKEN_FILE",
        kind: Kind::File,
        placeholder: "FILE",
        fallback: Fallback::Means { meaning: "nobody is asked for one", example: "./tokens" },
        doc: "File with the tokens of who may use the HTTP API, NAME TOKEN on each line",
    },
    Setting {
        name: Name::ApiHosts,
        key: "api.hosts",
        flag: "api-hosts",
        variable: "COURANT_API_HOSTS",
        kind: Kind::Names,
        placeholder: "NAMES",
        fallback: Fallback::Means { meaning: "localhost and addresses alone", example: "events.example" },
        doc: "Names that the HTTP API is reached by; several with commas",
    },
    Setting {
        name: Name::ApiServiceKeyFile,
        key: "api.service-key-file",
        flag: "api-service-key-file",
        variable: "COURANT_API_SERVICE_KEY_FILE",
        kind: Kind::File,
        placeholder: "FILE",
        fallback: Fallback::Means { meaning: "services are only shown", example: "./service-keys" },
        doc: "File with the keys of services whose dead letters the HTTP API looks after, SERVICE KEY a line",
    },
    Setting {
        name: Name::TraceCorrelationHeader,
        key: "trace.correlation-header",
        flag: "trace-correlation-header",
        variable: "COURANT_TRACE_CORRELATION_HEADER",
        kind: Kind::Header,
        placeholder: "NAME",
        fallback: Fallback::Means { meaning: "none", example: "x-request-id" },
        doc: "Header that joins events to traces where they say neither a correlation id nor a traceparent",
    },
    Setting {
        name: Name::TraceIndexEvents,
        key: "trace.index-events",
        flag: "trace-index-events",
        variable: "COURANT_TRACE_INDEX_EVENTS",
        kind: Kind::Count { min: 0, max: 10_000_000 },
        placeholder: "N",
        fallback: Fallback::Value("225000"),
        doc: "Events that the index of traces has at most, some 200 bytes of memory for each; 0: no index",
    },
    Setting {
        name: Name::TlsCert,
        key: "tls.cert",
        flag: "tls-cert",
        variable: "COURANT_TLS_CERT",
        kind: Kind::File,
        placeholder: "FILE",
        fallback: Fallback::Means { meaning: "no TLS", example: "./server.pem" },
        doc: "Certificate with its chain in PEM, for TLS on the Kafka and the HTTP port; read again on changes",
    },
    Setting {
        name: Name::TlsKey,
        key: "tls.key",
        flag: "tls-key",
        variable: "COURANT_TLS_KEY",
        kind: Kind::File,
        placeholder: "FILE",
        fallback: Fallback::Means { meaning: "no TLS", example: "./server-key.pem" },
        doc: "Private key of that certificate in PEM, which no other user of the machine may read",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The page that shows the table to people.
    const README: &str = include_str!("../../../../README.md");

    #[test]
    fn every_default_and_every_example_is_allowed() {
        for setting in &SETTINGS {
            let text = match setting.fallback {
                Fallback::Value(text) => text,
                Fallback::Means { example, .. } => example,
            };
            assert!(setting.kind.parse(text).is_ok(), "{}: {text}", setting.key);
        }
    }

    #[test]
    fn names_follow_from_the_key_and_are_given_once() {
        let mut keys = BTreeSet::new();
        for setting in &SETTINGS {
            assert!(keys.insert(setting.key), "{} twice", setting.key);
            let flag = setting.key.replace('.', "-");
            assert_eq!(setting.flag, flag);
            assert_eq!(setting.variable, format!("COURANT_{}", flag.to_uppercase().replace('-', "_")));
            assert!(!setting.doc.ends_with('.'), "{}", setting.key);
        }
    }

    /// A switch that is on without being named could not be turned off by naming it.
    #[test]
    fn a_switch_takes_a_value_if_it_is_on_by_default() {
        for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::Switch) {
            let is_on = setting.fallback == Fallback::Value("true");
            assert_eq!(!setting.placeholder.is_empty(), is_on, "{}", setting.key);
        }
    }

    #[test]
    fn settings_of_a_table_stand_together_at_the_end() {
        let tables: Vec<Option<&str>> =
            SETTINGS.iter().map(|setting| setting.key.split_once('.').map(|(table, _)| table)).collect();
        let mut met = Vec::new();
        for table in tables {
            if met.last() != Some(&table) {
                assert!(!met.contains(&table), "{table:?} comes in two places");
                met.push(table);
            }
        }
        assert_eq!(met[0], None);
    }

    #[test]
    fn the_readme_has_a_row_for_each() {
        for setting in &SETTINGS {
            let flag = match setting.placeholder {
                "" => format!("--{}", setting.flag),
                placeholder => format!("--{} {placeholder}", setting.flag),
            };
            let fallback = match setting.fallback {
                Fallback::Value(text) => format!("`{text}`"),
                Fallback::Means { meaning, .. } => meaning.to_owned(),
            };
            let row = format!(
                "| `{}` | `{flag}` | `{}` | {fallback} | {} |",
                setting.key, setting.variable, setting.doc
            );
            assert!(README.lines().any(|line| line == row), "README.md lacks the row\n{row}");
        }
    }

    #[test]
    fn bounds_are_those_of_the_server() {
        let memory = SETTINGS.iter().find(|setting| setting.name == Name::Memory).expect("a row");
        let least = memory.doc.rsplit("; ").next().and_then(|words| words.split(' ').next());
        let least = least.map(|size| memory.kind.parse(size));
        assert_eq!(least, Some(Ok(Value::Size(courant_server::MEMORY_MIN))));
        let limits = courant_kafka::Limits::default();
        let partitions = SETTINGS.iter().find(|setting| setting.name == Name::Partitions).expect("a row");
        assert_eq!(partitions.kind, Kind::Count { min: 1, max: limits.partitions_per_topic_max });
    }
}
