//! `courant config show|check|docs`

use super::{serve, tls};
use crate::cli::{Config, ConfigCheck, ConfigShow, Global};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, list};
use crate::settings::{Effective, Settings, commented, file_name};
use courant_server::Server;
use serde::Serialize;
use std::io::{self, Write};

/// Runs one of the commands about settings. No server is asked.
pub(super) fn run(global: &Global, command: Config) -> Result<Exit, Failure> {
    match command {
        Config::Show(args) => show(global, &args),
        Config::Check(args) => check(global, &args),
        Config::Docs => docs(),
    }
}

/// A setting in `config show`.
#[derive(Debug, Serialize)]
struct Shown {
    setting: &'static str,
    /// `None` where nobody set it and there is no default value.
    value: Option<serde_json::Value>,
    /// The value as text, for the table.
    #[serde(skip)]
    text: String,
}

impl Shown {
    fn of(effective: &Effective) -> Self {
        Self {
            setting: effective.setting.key,
            value: effective.value.as_ref().map(|value| value.json()),
            text: effective.value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        }
    }
}

impl Row for Shown {
    const TITLES: &'static [&'static str] = &["setting", "value"];

    fn cells(&self) -> Vec<String> {
        vec![self.setting.to_owned(), self.text.clone()]
    }
}

/// A setting in `config show --origin`.
#[derive(Debug, Serialize)]
struct Traced {
    #[serde(flatten)]
    shown: Shown,
    /// `flag`, `environment NAME`, `FILE:LINE` or `default`.
    origin: String,
}

impl Row for Traced {
    const TITLES: &'static [&'static str] = &["setting", "value", "origin"];

    fn cells(&self) -> Vec<String> {
        let mut cells = self.shown.cells();
        cells.push(self.origin.clone());
        cells
    }
}

fn show(global: &Global, args: &ConfigShow) -> Result<Exit, Failure> {
    let settings = Settings::read(global, &args.settings)?;
    let format = Format::or_default(global.output);
    let mut out = io::stdout().lock();
    let shown = settings.all.iter();
    let written = if args.origin {
        let rows: Vec<Traced> = shown
            .map(|effective| Traced { shown: Shown::of(effective), origin: effective.origin.to_string() })
            .collect();
        list(&mut out, format, &rows)
    } else {
        let rows: Vec<Shown> = shown.map(Shown::of).collect();
        list(&mut out, format, &rows)
    };
    written.map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

fn check(global: &Global, args: &ConfigCheck) -> Result<Exit, Failure> {
    // What the command line and the environment set was checked when it was read.
    let settings = match Settings::read(global, &args.settings) {
        Ok(settings) => settings,
        Err(error) => {
            for sentence in error.sentences() {
                Failure::new(error.exit(), sentence).report();
            }
            return Ok(error.exit());
        }
    };
    let refused = refused(&settings);
    if !refused.is_empty() {
        refused.iter().for_each(Failure::report);
        return Ok(Exit::Usage);
    }
    if !global.quiet {
        let name = file_name(settings.file.as_ref());
        match &settings.file {
            Some(file) => note(format_args!("{name}: {} set, no mistakes.", settings_of(file.len()))),
            None => note(format_args!("There is no {name} here, and no mistake elsewhere.")),
        }
    }
    Ok(Exit::Ok)
}

/// What a server would refuse although each setting can be read: settings that do not go together, and files that cannot
/// be used.
fn refused(settings: &Settings) -> Vec<Failure> {
    let unfit = Server::check(&settings.server_config()).err();
    let unfit = unfit.map(|error| Failure::new(Exit::Usage, error.to_string()));
    let tokens = settings.token_file().and_then(|file| serve::tokens(file).err());
    let keys = settings.service_key_file().and_then(|file| serve::keys(file).err());
    let identity = tls::identity(settings).err();
    [unfit, tokens, keys, identity].into_iter().flatten().collect()
}

fn settings_of(count: usize) -> String {
    match count {
        1 => "1 setting is".to_owned(),
        count => format!("{count} settings are"),
    }
}

fn docs() -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(commented().as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_the_origin_only_on_request() {
        let shown = || Shown { setting: "partitions", value: Some(3.into()), text: "3".to_owned() };
        let json = serde_json::to_string(&shown()).expect("json");
        assert_eq!(json, r#"{"setting":"partitions","value":3}"#);
        let traced = Traced { shown: shown(), origin: "courant.toml:4".to_owned() };
        let json = serde_json::to_string(&traced).expect("json");
        assert_eq!(json, r#"{"setting":"partitions","value":3,"origin":"courant.toml:4"}"#);
        assert_eq!(traced.cells(), ["partitions", "3", "courant.toml:4"]);
    }
}
