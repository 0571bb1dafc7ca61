//! `courant.toml`: read whole, checked whole. A file with one bad line sets nothing.

use super::table::{Name, SETTINGS, Setting};
use super::value::Value;
use crate::exit::{Exit, Failure};
use crate::files;
use std::io;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The file that is read when none is named, if it is there.
pub(crate) const FILE_NAME: &str = "courant.toml";

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A settings file without mistakes.
#[derive(Debug)]
pub(crate) struct SettingsFile {
    pub(crate) path: PathBuf,
    entries: Vec<Entry>,
}

/// One setting in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    name: Name,
    pub(super) value: Value,
    /// Counts from 1.
    pub(super) line: usize,
}

/// Something in the file that cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    line: usize,
    sentence: String,
}

/// Why a settings file is of no use.
#[derive(Debug)]
pub(crate) enum FileError {
    /// It is not there, or it cannot be read.
    Unreadable { path: PathBuf, source: io::Error },
    /// It has mistakes, at least one; in the order of their lines.
    Mistaken { path: PathBuf, mistakes: Vec<Mistake> },
}

impl FileError {
    /// One sentence for each thing that is wrong.
    pub(crate) fn sentences(&self) -> Vec<String> {
        match self {
            Self::Unreadable { path, source } => {
                vec![format!("{}: the settings file cannot be read: {source}", path.display())]
            }
            Self::Mistaken { path, mistakes } => mistakes
                .iter()
                .map(|mistake| format!("{}:{}: {}", path.display(), mistake.line, mistake.sentence))
                .collect(),
        }
    }

    /// How a command ends for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            Self::Unreadable { .. } => Exit::Failed,
            Self::Mistaken { .. } => Exit::Usage,
        }
    }
}

impl From<FileError> for Failure {
    /// The first thing that is wrong; `courant config check` shows all of them.
    fn from(error: FileError) -> Self {
        Self::new(error.exit(), error.sentences().into_iter().next().unwrap_or_default())
    }
}

impl SettingsFile {
    /// Reads the file that is named, else the one of the working directory, if there is one.
    pub(crate) fn read(named: Option<&Path>) -> Result<Option<Self>, FileError> {
        let path = named.unwrap_or(Path::new(FILE_NAME));
        match files::read_text(path, FILE_BYTES_MAX) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(source) if named.is_none() && source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mistaken = |mistakes| FileError::Mistaken { path: path.to_owned(), mistakes };
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let sentence = format!(
                "this is not TOML: {}; write for example kafka = \"127.0.0.1:9092\"",
                error.message()
            );
            mistaken(vec![Mistake { line: line_of(text, at), sentence }])
        })?;
        let mut found = Found { text, entries: Vec::new(), mistakes: Vec::new() };
        found.table("", document.get_ref());
        if found.mistakes.is_empty() {
            return Ok(Self { path: path.to_owned(), entries: found.entries });
        }
        found.mistakes.sort_by_key(|mistake| mistake.line);
        Err(mistaken(found.mistakes))
    }

    /// How many settings it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, setting: &Setting) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == setting.name)
    }
}

/// What was met in a document so far.
struct Found<'a> {
    text: &'a str,
    entries: Vec<Entry>,
    mistakes: Vec<Mistake>,
}

impl Found<'_> {
    /// Takes what is in a table. The prefix is empty, or the table's name and a dot, so that the
    /// depth is that of the longest key of a setting.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let path = format!("{prefix}{}", key.get_ref());
            let line = line_of(self.text, key.span().start);
            self.entry(&path, line, value.get_ref());
        }
    }

    fn entry(&mut self, path: &str, line: usize, value: &DeValue<'_>) {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == path) {
            match setting.kind.read(value) {
                Ok(_) if self.entries.iter().any(|entry| entry.name == setting.name) => {
                    self.mistake(line, format!("{path} is set a second time; keep one of the two"));
                }
                Ok(value) => self.entries.push(Entry { name: setting.name, value, line }),
                Err(problem) => self.mistake(line, format!("{path} {problem}")),
            }
            return;
        }
        let prefix = format!("{path}.");
        let inside: Vec<&str> =
            SETTINGS.iter().map(|setting| setting.key).filter(|key| key.starts_with(&prefix)).collect();
        match value {
            _ if inside.is_empty() => {
                let keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
                self.mistake(line, format!("there is no setting {path}; there are {}", keys.join(", ")));
            }
            DeValue::Table(table) => self.table(&prefix, table),
            _ => self.mistake(line, format!("{path} is a table; set {} in it", inside.join(", "))),
        }
    }

    fn mistake(&mut self, line: usize, sentence: String) {
        self.mistakes.push(Mistake { line, sentence });
    }
}

/// The line of the byte at `at`, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SettingsFile, FileError> {
        SettingsFile::parse(Path::new("courant.toml"), text)
    }

    fn wrong(text: &str) -> Vec<String> {
        let error = parse(text).expect_err(text);
        assert_eq!(error.exit(), Exit::Usage);
        error.sentences()
    }

    #[test]
    fn settings_are_found_with_their_lines() {
        let text = "# a comment\nkafka = \"127.0.0.1:19092\"\ninsecure = true\n\n\
                    [group]\ninitial-rebalance-delay-ms = 3_000\n[offsets]\n";
        let file = parse(text).expect("a good file");
        assert_eq!(file.len(), 3);
        let entry = |name: Name| {
            let setting = SETTINGS.iter().find(|setting| setting.name == name).expect("a row");
            file.get(setting).map(|entry| (entry.value.to_string(), entry.line))
        };
        assert_eq!(entry(Name::Kafka), Some(("127.0.0.1:19092".to_owned(), 2)));
        assert_eq!(entry(Name::Insecure), Some(("true".to_owned(), 3)));
        assert_eq!(entry(Name::GroupInitialRebalanceDelayMs), Some(("3000".to_owned(), 6)));
        assert_eq!(entry(Name::Data), None);
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert_eq!(parse("").expect("an empty file").len(), 0);
    }

    #[test]
    fn servers_may_be_text_or_a_list() {
        for text in ["server = \"a:1,b:2\"\n", "server = [\"a:1\", \"b:2\"]\n"] {
            let file = parse(text).expect(text);
            assert_eq!(file.entries[0].value.to_string(), "a:1,b:2");
        }
        assert!(wrong("server = [1]\n")[0].contains("host:port"));
        assert!(wrong("server = []\n")[0].contains("host:port"));
    }

    #[test]
    fn an_unknown_key_is_told_which_there_are() {
        let said = wrong("data = \"d\"\nkafak = \"127.0.0.1:1\"\n");
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("courant.toml:2: there is no setting kafak; there are data, "),
            "{said:?}"
        );
        let said = wrong("[group]\nid = 1\n");
        assert!(said[0].starts_with("courant.toml:2: there is no setting group.id; "), "{said:?}");
        let said = wrong("[groups]\n");
        assert!(said[0].starts_with("courant.toml:1: there is no setting groups; "), "{said:?}");
    }

    #[test]
    fn wrong_types_and_values_are_told_what_is_allowed() {
        let said = |text: &str| wrong(text).swap_remove(0);
        assert_eq!(
            said("partitions = \"3\"\n"),
            "courant.toml:1: partitions is text: write a whole number from 1 to 10000, without quotes"
        );
        assert_eq!(
            said("\npartitions = 0\n"),
            "courant.toml:2: partitions is 0: write a whole number from 1 to 10000"
        );
        assert_eq!(
            said("kafka = 9092\n"),
            "courant.toml:1: kafka is a number: write HOST:PORT, for example 127.0.0.1:9092, in quotes"
        );
        assert_eq!(
            said("kafka = \"localhost\"\n"),
            "courant.toml:1: kafka is \"localhost\": write HOST:PORT, for example 127.0.0.1:9092"
        );
        assert_eq!(said("insecure = 1\n"), "courant.toml:1: insecure is a number: write true or false");
        assert_eq!(
            said("group = 3\n"),
            "courant.toml:1: group is a table; set group.initial-rebalance-delay-ms in it"
        );
    }

    #[test]
    fn all_mistakes_are_told_in_the_order_of_their_lines() {
        let said = wrong("zoo = 1\npartitions = -1\nhttp = true\n");
        let lines: Vec<&str> = said.iter().filter_map(|sentence| sentence.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "2", "3"]);
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        let said = wrong("kafka = \"127.0.0.1:1\"\ndata ./here\n");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("courant.toml:2: this is not TOML: "), "{said:?}");
    }

    #[test]
    fn one_setting_in_two_spellings_is_set_twice() {
        let text = "\"offsets.retention-minutes\" = 5\n[offsets]\nretention-minutes = 6\n";
        assert!(wrong(text)[0].contains("second time"));
    }
}
