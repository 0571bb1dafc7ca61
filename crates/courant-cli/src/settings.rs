//! The settings, and where each one comes from: a flag wins over its variable in the environment,
//! which wins over `courant.toml`, which wins over the default.

mod args;
mod docs;
mod file;
mod table;
mod value;

pub(crate) use args::{DataArgs, ServerArgs, ServerNamed, Where};
pub(crate) use docs::commented;
pub(crate) use file::{FILE_NAME, FileError, SettingsFile};
pub(crate) use table::Setting;
pub(crate) use value::Value;

use crate::cli::Global;
use courant_kafka::client::Address;
use courant_server::ServerConfig;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::{Name, SETTINGS};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    /// The variable of this name.
    Environment(&'static str),
    /// A line of a settings file, counted from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What holds for one setting.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    pub(crate) setting: &'static Setting,
    /// `None` where nobody set it and there is no default value.
    pub(crate) value: Option<Value>,
    pub(crate) origin: Origin,
}

impl Effective {
    fn of(setting: &'static Setting, given: Option<(&Value, Where)>, file: Option<&SettingsFile>) -> Self {
        if let Some((value, place)) = given {
            let origin = match place {
                Where::CommandLine => Origin::Flag,
                Where::Environment => Origin::Environment(setting.variable),
            };
            return Self { setting, value: Some(value.clone()), origin };
        }
        if let Some((file, entry)) = file.and_then(|file| Some((file, file.get(setting)?))) {
            let origin = Origin::File { path: file.path.clone(), line: entry.line };
            return Self { setting, value: Some(entry.value.clone()), origin };
        }
        Self { setting, value: setting.default(), origin: Origin::Default }
    }
}

/// What holds for all of them.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) all: Vec<Effective>,
    /// The file that was read, if there was one.
    pub(crate) file: Option<SettingsFile>,
}

impl Settings {
    /// Reads the settings file and puts it under what the command line and the environment say.
    pub(crate) fn read(global: &Global, args: &ServerArgs) -> Result<Self, FileError> {
        let file = SettingsFile::read(args.config.as_deref().or(global.config.as_deref()))?;
        let server = global.server_named.0.map(|place| (Value::Servers(global.server.clone()), place));
        let effective = |setting: &'static Setting| {
            let given = match (setting.name, &server) {
                (Name::Server, Some((value, place))) => Some((value, *place)),
                _ => args.given.get(setting),
            };
            Effective::of(setting, given, file.as_ref())
        };
        let all = SETTINGS.iter().map(effective).collect();
        Ok(Self { all, file })
    }

    /// What a server is started with.
    pub(crate) fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::local("./courant-data");
        for effective in &self.all {
            let Some(value) = effective.value.clone() else {
                continue;
            };
            match (effective.setting.name, value) {
                (Name::Data, Value::Directory(data)) => config.data = data,
                (Name::Kafka, Value::Text(address)) => config.kafka = address,
                (Name::Http, Value::Text(address)) => config.http = address,
                (Name::Advertise, Value::Text(address)) => config.advertise = Some(address),
                (Name::Partitions, Value::Count(count)) => config.partitions = count,
                (Name::AutoCreateTopics, Value::Switch(on)) => config.auto_create = on,
                (Name::Insecure, Value::Switch(on)) => config.insecure = on,
                (Name::Memory, Value::Size(bytes)) => config.memory = Some(bytes),
                (Name::GroupInitialRebalanceDelayMs, Value::Count(ms)) => {
                    config.group_initial_rebalance_delay = Duration::from_millis(u64::from(ms));
                }
                (Name::OffsetsRetentionMinutes, Value::Count(minutes)) => {
                    config.offsets_retention = Duration::from_secs(u64::from(minutes) * 60);
                }
                (Name::CompactionIntervalSeconds, Value::Count(seconds)) => {
                    config.compaction.interval = Duration::from_secs(u64::from(seconds));
                }
                (Name::CompactionBytesPerSecond, Value::Count(bytes)) => {
                    config.compaction.bytes_per_second = u64::from(bytes);
                }
                (Name::CompactionKeyBytes, Value::Count(bytes)) => {
                    config.compaction.key_bytes = bytes as usize;
                }
                (Name::ScrubIntervalSeconds, Value::Count(seconds)) => {
                    config.scrub_interval = Duration::from_secs(u64::from(seconds));
                }
                (Name::ScrubBytesPerSecond, Value::Count(bytes)) => {
                    config.scrub_bytes_per_second = u64::from(bytes);
                }
                (Name::ApiReadOnly, Value::Switch(on)) => config.api.read_only = on,
                (Name::ApiHosts, Value::Text(names)) => {
                    config.api.hosts = names.split(',').map(str::to_owned).collect();
                }
                (Name::TraceCorrelationHeader, Value::Text(name)) => {
                    config.api.traces.correlation_header = Some(name);
                }
                (Name::TraceIndexEvents, Value::Count(events)) => config.api.traces.events = events as usize,
                // The log filter and the tools' server are not the server's, and files of secrets have
                // to be read; a value of another kind than its setting's does not come out of the table.
                _ => {}
            }
        }
        config
    }

    /// What a server logs, if anybody said so.
    pub(crate) fn log(&self) -> Option<&str> {
        self.all.iter().find_map(|effective| match (effective.setting.name, &effective.value) {
            (Name::Log, Some(Value::Text(filter))) => Some(filter.as_str()),
            _ => None,
        })
    }

    /// The file with the tokens of the HTTP API, if anybody named one.
    pub(crate) fn token_file(&self) -> Option<&Path> {
        self.all.iter().find_map(|effective| match (effective.setting.name, &effective.value) {
            (Name::ApiTokenFile, Some(Value::Directory(file))) => Some(file.as_path()),
            _ => None,
        })
    }

    /// The file with the keys of services, if anybody named one.
    pub(crate) fn service_key_file(&self) -> Option<&Path> {
        self.all.iter().find_map(|effective| match (effective.setting.name, &effective.value) {
            (Name::ApiServiceKeyFile, Some(Value::Directory(file))) => Some(file.as_path()),
            _ => None,
        })
    }

    /// The files with the server's certificate and its key, as far as anybody named them.
    pub(crate) fn tls_files(&self) -> (Option<&Path>, Option<&Path>) {
        let file = |name: Name| {
            self.all.iter().find_map(|effective| match &effective.value {
                Some(Value::Directory(file)) if effective.setting.name == name => Some(file.as_path()),
                _ => None,
            })
        };
        (file(Name::TlsCert), file(Name::TlsKey))
    }

    /// The servers that the tools talk to, and whether somebody named them.
    pub(crate) fn servers(&self) -> Option<(&[Address], bool)> {
        self.all.iter().find_map(|effective| match (effective.setting.name, &effective.value) {
            (Name::Server, Some(Value::Servers(servers))) => {
                Some((servers.as_slice(), effective.origin != Origin::Default))
            }
            _ => None,
        })
    }
}

/// The global options of a tool, with the server of the settings file where neither the command
/// line nor the environment names one.
pub(crate) fn with_server_of_file(mut global: Global) -> Result<Global, FileError> {
    // Who names a server needs no file, and is not held up by a bad one.
    if global.server_named.0.is_some() {
        return Ok(global);
    }
    let file = SettingsFile::read(global.config.as_deref())?;
    let setting = SETTINGS.iter().find(|setting| setting.name == Name::Server);
    let entry = file.as_ref().zip(setting).and_then(|(file, setting)| file.get(setting));
    if let Some(Value::Servers(servers)) = entry.map(|entry| entry.value.clone()) {
        global.server = servers;
    }
    Ok(global)
}

/// The name of the settings file in sentences: the one that was read, or the usual one.
pub(crate) fn file_name(file: Option<&SettingsFile>) -> String {
    file.map_or(Path::new(FILE_NAME), |file| &file.path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use courant_core::trace::Tracer;
    use courant_server::{ApiSettings, CompactionSettings, ServiceKeys, TraceSettings};
    use tempfile::{TempDir, tempdir};

    /// What `serve` makes of a command line and a file.
    fn settings(arguments: &[&str], text: &str) -> (TempDir, Settings) {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("settings.toml");
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("a path of text");
        let line = [&["courant", "serve", "--config", path], arguments].concat();
        let cli = Cli::try_parse_from(line).expect("a good line");
        let Command::Serve(args) = cli.command else {
            panic!("not serve");
        };
        let settings = Settings::read(&cli.global, &args.settings).expect("good settings");
        (directory, settings)
    }

    fn origin(settings: &Settings, key: &str) -> String {
        let found = settings.all.iter().find(|effective| effective.setting.key == key);
        found.expect("a row").origin.to_string()
    }

    #[test]
    fn without_a_word_a_server_has_the_defaults_of_the_library() {
        let (_directory, settings) = settings(&[], "");
        assert_eq!(settings.server_config(), ServerConfig::local("./courant-data"));
        assert_eq!(settings.log(), None);
        let kafka = courant_kafka::KafkaConfig::default();
        let config = settings.server_config();
        assert_eq!(config.group_initial_rebalance_delay, kafka.group_initial_rebalance_delay);
        assert_eq!(config.offsets_retention, kafka.offsets_retention);
        assert_eq!(config.partitions, kafka.partitions);
        assert_eq!(config.auto_create, kafka.auto_create);
    }

    #[test]
    fn a_flag_wins_over_the_file_which_wins_over_the_default() {
        let text = "kafka = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\nlog = \"debug\"\nserver = \"box:3\"\n\
                    [group]\ninitial-rebalance-delay-ms = 0\n";
        let (_directory, settings) = settings(&["--kafka", "127.0.0.1:9"], text);
        let config = settings.server_config();
        assert_eq!(config.kafka, "127.0.0.1:9");
        assert_eq!(config.http, "127.0.0.1:2");
        assert_eq!(config.group_initial_rebalance_delay, Duration::ZERO);
        assert_eq!(settings.log(), Some("debug"));
        let (servers, named) = settings.servers().expect("a server");
        assert_eq!((servers[0].to_string(), named), ("box:3".to_owned(), true));
        assert_eq!(origin(&settings, "kafka"), "flag");
        assert!(origin(&settings, "http").ends_with("settings.toml:2"));
        assert_eq!(origin(&settings, "partitions"), "default");
    }

    #[test]
    fn every_setting_of_the_server_reaches_it() {
        let text = "data = \"d\"\nkafka = \"a:1\"\nhttp = \"a:2\"\nadvertise = \"a:3\"\npartitions = 4\n\
                    auto-create-topics = false\ninsecure = true\nmemory = \"640MiB\"\n[group]\ninitial-rebalance-delay-ms = 5\n[offsets]\nretention-minutes = 6\n\
                    [compaction]\ninterval-seconds = 9\nbytes-per-second = 80000\nkey-bytes = 2000000\n\
                    [scrub]\ninterval-seconds = 7\nbytes-per-second = 70000\n\
                    [api]\nread-only = true\nhosts = \"a.example,b.example\"\n\
                    [trace]\nindex-events = 10\ncorrelation-header = \"x-request-id\"\n";
        let (_directory, settings) = settings(&[], text);
        let expected = ServerConfig {
            data: PathBuf::from("d"),
            kafka: "a:1".to_owned(),
            http: "a:2".to_owned(),
            advertise: Some("a:3".to_owned()),
            tls: None,
            insecure: true,
            memory: Some(640 << 20),
            partitions: 4,
            auto_create: false,
            group_initial_rebalance_delay: Duration::from_millis(5),
            offsets_retention: Duration::from_secs(360),
            compaction: CompactionSettings {
                interval: Duration::from_secs(9),
                bytes_per_second: 80_000,
                key_bytes: 2_000_000,
            },
            scrub_interval: Duration::from_secs(7),
            scrub_bytes_per_second: 70_000,
            api: ApiSettings {
                read_only: true,
                hosts: vec!["a.example".to_owned(), "b.example".to_owned()],
                tokens: None,
                service_keys: ServiceKeys::default(),
                traces: TraceSettings { events: 10, correlation_header: Some("x-request-id".to_owned()) },
            },
            tracer: Tracer::default(),
        };
        assert_eq!(settings.server_config(), expected);
    }
}
