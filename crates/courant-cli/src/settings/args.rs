//! The settings on the command line and in the environment. clap reads both, from the table.

use super::table::{Fallback, Name, SETTINGS, Setting};
use super::value::{self, Kind, Value};
use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;

/// What a server is told when it is started, and what is checked before.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// File with settings [env: COURANT_CONFIG=] [default: courant.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) given: Given,
}

/// The settings of a server that the command line or the environment sets.
#[derive(Debug, Default)]
pub(crate) struct Given(Vec<(Name, Value, Where)>);

/// Where clap found a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    CommandLine,
    Environment,
}

impl Where {
    /// `None`: nobody set it.
    fn of(matches: &ArgMatches, id: &str) -> Option<Self> {
        match matches.value_source(id)? {
            ValueSource::CommandLine => Some(Self::CommandLine),
            ValueSource::EnvVariable => Some(Self::Environment),
            _ => None,
        }
    }
}

impl Given {
    pub(super) fn get(&self, setting: &Setting) -> Option<(&Value, Where)> {
        let found = self.0.iter().find(|(name, _, _)| *name == setting.name);
        found.map(|(_, value, place)| (value, *place))
    }
}

/// The one setting of a server that says where its data is.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// File with settings [env: COURANT_CONFIG=] [default: courant.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: GivenData,
}

impl From<DataArgs> for ServerArgs {
    fn from(args: DataArgs) -> Self {
        Self { config: args.config, given: args.given.0 }
    }
}

/// The data directory, if the command line or the environment names one.
#[derive(Debug, Default)]
struct GivenData(Given);

impl FromArgMatches for GivenData {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Given::of(matches, |setting| setting.name == Name::Data)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for GivenData {
    fn augment_args(command: Command) -> Command {
        let data = SETTINGS.iter().filter(|setting| setting.name == Name::Data);
        // Who only looks at it makes none.
        command.args(data.map(|setting| arg(setting).help("Where the log is kept")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Given {
    /// What is set of the settings that are asked for.
    fn of(matches: &ArgMatches, asked: impl Fn(&Setting) -> bool) -> Self {
        let mut given = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| asked(setting)) {
            let value = match setting.kind {
                Kind::Switch => matches.get_one::<bool>(setting.key).copied().map(Value::Switch),
                _ => matches.get_one::<Value>(setting.key).cloned(),
            };
            if let (Some(value), Some(place)) = (value, Where::of(matches, setting.key)) {
                given.push((setting.name, value, place));
            }
        }
        Self(given)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::of(matches, Setting::is_of_the_server))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().filter(|setting| setting.is_of_the_server()).map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.key).long(setting.flag).env(setting.variable).help(setting.doc);
    let kind = setting.kind;
    let arg = match kind {
        Kind::Switch if setting.placeholder.is_empty() => {
            return arg.action(ArgAction::SetTrue).value_parser(move |text: &str| {
                value::switch(text).map_err(|allowed| named(setting, text, allowed))
            });
        }
        Kind::Switch => arg.value_parser(move |text: &str| {
            value::switch_with_value(text).map_err(|allowed| named(setting, text, allowed))
        }),
        // A directory or a file need not have a name of text.
        Kind::Directory | Kind::File => arg.value_parser(PathBufValueParser::new().map(Value::Directory)),
        _ => arg.value_parser(move |text: &str| {
            kind.parse(text).map_err(|allowed| named(setting, text, allowed))
        }),
    };
    let arg = arg.value_name(setting.placeholder);
    match setting.fallback {
        Fallback::Value(text) => arg.default_value(text),
        Fallback::Means { meaning, .. } => arg.help(format!("{} [default: {meaning}]", setting.doc)),
    }
}

/// What is allowed instead of a value that the environment may have: clap says which flag it would be, also where
/// nobody has given one.
fn named(setting: &Setting, text: &str, allowed: String) -> String {
    let is_set = std::env::var_os(setting.variable).is_some_and(|value| value == text);
    if is_set { format!("{allowed} ({} is set to it)", setting.variable) } else { allowed }
}

/// Whether and where `--server` was set. Adds no argument of its own, and has to stand before the
/// one it looks at, because clap forgets where a value came from when the value is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerNamed(pub(crate) Option<Where>);

impl ServerNamed {
    const ID: &'static str = "server";
}

impl FromArgMatches for ServerNamed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Where::of(matches, Self::ID)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServerNamed {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Result<Given, clap::Error> {
        let command = Given::augment_args(Command::new("t"));
        let matches = command.try_get_matches_from(line.split(' '))?;
        Given::from_arg_matches(&matches)
    }

    fn get(given: &Given, key: &str) -> Option<(String, Where)> {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).expect("a row");
        given.get(setting).map(|(value, place)| (value.to_string(), place))
    }

    #[test]
    fn flags_are_taken_and_defaults_are_not() {
        let given = given("t --kafka 127.0.0.1:0 --insecure --offsets-retention-minutes 60 --data d")
            .expect("good flags");
        let flag = |text: &str| Some((text.to_owned(), Where::CommandLine));
        assert_eq!(get(&given, "kafka"), flag("127.0.0.1:0"));
        assert_eq!(get(&given, "insecure"), flag("true"));
        assert_eq!(get(&given, "offsets.retention-minutes"), flag("60"));
        assert_eq!(get(&given, "data"), flag("d"));
        assert_eq!(get(&given, "http"), None);
        assert_eq!(get(&given, "advertise"), None);
    }

    #[test]
    fn what_is_on_by_default_is_turned_off_by_a_word() {
        let get = |line: &str| get(&given(line).expect(line), "auto-create-topics");
        let flag = |text: &str| Some((text.to_owned(), Where::CommandLine));
        assert_eq!(get("t"), None);
        assert_eq!(get("t --auto-create-topics false"), flag("false"));
        assert_eq!(get("t --auto-create-topics=off"), flag("false"));
        assert_eq!(get("t --auto-create-topics true"), flag("true"));
    }

    #[test]
    fn a_bad_value_is_told_what_is_allowed() {
        for (line, allowed) in [
            ("t --partitions 0", "from 1 to 10000"),
            ("t --kafka localhost", "HOST:PORT"),
            ("t --advertise host:0", "1 to 65535"),
            ("t --auto-create-topics=", "true or false"),
            ("t --auto-create-topics flase", "true or false"),
        ] {
            let said = given(line).expect_err(line).to_string();
            assert!(said.contains(allowed), "{said}");
        }
    }
}
