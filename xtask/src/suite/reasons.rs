//! Why tests do not pass: one committed sentence for each, in `xtask/suites/NAME.toml`.
//!
//! A failure that nobody has explained fails the run, and so does an explanation of something that
//! passes: the files never promise less, or more, than what is so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::results::{Outcome, Results};

/// The sentences, by the test's id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reasons {
    /// Tests that are not run: what they test is not there to be tested.
    not_applicable: BTreeMap<String, String>,
    /// Tests that are run and fail.
    failing: BTreeMap<String, String>,
}

impl Reasons {
    /// Reads the file of a suite.
    pub(super) fn load(root: &Path, suite: &str) -> Result<Reasons> {
        let path = format!("xtask/suites/{suite}.toml");
        let text = fs::read_to_string(root.join(&path)).with_context(|| path.clone())?;
        Reasons::parse(&text).context(path)
    }

    /// Reads two tables of strings, which is all of TOML that these files use.
    fn parse(text: &str) -> Result<Reasons> {
        let mut reasons = Reasons::default();
        let mut table = None;
        for line in text.lines().map(str::trim) {
            match line {
                "" => {}
                "[not-applicable]" => table = Some(&mut reasons.not_applicable),
                "[failing]" => table = Some(&mut reasons.failing),
                _ if line.starts_with('#') => {}
                _ => {
                    let (id, sentence) = pair(line).with_context(|| {
                        format!("`{line}` is neither a table's name nor `id = \"sentence\"`")
                    })?;
                    let table = table.as_mut().context("a reason before the first table")?;
                    if table.insert(id.to_owned(), sentence.to_owned()).is_some() {
                        bail!("two reasons for {id}");
                    }
                }
            }
        }
        Ok(reasons)
    }

    /// Why a test is not run.
    pub(super) fn not_applicable(&self, id: &str) -> Option<&str> {
        self.not_applicable.get(id).map(String::as_str)
    }

    /// Why a test fails.
    pub(super) fn failing(&self, id: &str) -> Option<&str> {
        self.failing.get(id).map(String::as_str)
    }

    /// Where the results and the sentences disagree; of a whole run, also sentences about nothing.
    pub(super) fn disagreements(&self, results: &Results, is_whole: bool) -> Vec<String> {
        let mut found = Vec::new();
        for row in &results.rows {
            let is_explained = self.failing.contains_key(&row.id);
            match row.outcome {
                Outcome::Failed if !is_explained => {
                    found.push(format!("{} fails: make it pass, or say why under [failing]", row.id));
                }
                Outcome::Passed | Outcome::NotApplicable if is_explained => {
                    found.push(format!("{} does not fail: take it out of [failing]", row.id));
                }
                _ => {}
            }
        }
        if is_whole {
            let ids = self.failing.keys().chain(self.not_applicable.keys());
            let unknown = ids.filter(|id| !results.rows.iter().any(|row| row.id == **id));
            found.extend(unknown.map(|id| format!("there is no {id}: take it out")));
        }
        found
    }
}

/// `id = "sentence"`, where the id may be quoted too.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (id, sentence) = line.split_once(" = ")?;
    let sentence = sentence.strip_prefix('"')?.strip_suffix('"')?;
    let id = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).unwrap_or(id);
    let is_plain = |text: &str| !text.is_empty() && !text.contains(['"', '\\']);
    (is_plain(id) && is_plain(sentence)).then_some((id, sentence))
}

#[cfg(test)]
mod tests {
    use super::super::results::Row;
    use super::*;

    const TEXT: &str = "# why\n[not-applicable]\n0115 = \"needs access control\"\n\n[failing]\n\
                        \"test_admin::test_groups\" = \"is not there yet\"\n0081 = \"no\"\n";

    #[test]
    fn the_two_tables_are_read() {
        let reasons = Reasons::parse(TEXT).unwrap();
        assert_eq!(reasons.not_applicable("0115"), Some("needs access control"));
        assert_eq!(reasons.failing("test_admin::test_groups"), Some("is not there yet"));
        assert_eq!(reasons.failing("0115"), None);
        let wrong =
            ["0001 = \"x\"\n", "[failing]\n0001 = x\n", "[other]\n", "[failing]\n1 = \"a\"\n1 = \"b\"\n"];
        for text in wrong {
            assert!(Reasons::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn results_and_reasons_must_agree() {
        let row = |id: &str, outcome| Row {
            id: id.to_owned(),
            name: String::new(),
            outcome,
            detail: String::new(),
        };
        let results = |rows| Results { of: "x 1".to_owned(), rows };
        let reasons = Reasons::parse(TEXT).unwrap();
        let agreed = results(vec![
            row("0115", Outcome::NotApplicable),
            row("0081", Outcome::Failed),
            row("test_admin::test_groups", Outcome::Failed),
        ]);
        assert_eq!(reasons.disagreements(&agreed, true), Vec::<String>::new());
        let part = results(vec![row("0001", Outcome::Failed), row("0081", Outcome::Passed)]);
        assert_eq!(reasons.disagreements(&part, false).len(), 2);
        assert_eq!(reasons.disagreements(&part, true).len(), 4);
    }
}
