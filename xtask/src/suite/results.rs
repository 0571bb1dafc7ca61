//! What came of the tests of a suite, and how that is kept between runs.

use anyhow::{Context as _, Result, anyhow, bail};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The suite itself said so; nothing else counts as passed.
    Passed,
    Failed,
    /// It was not run, or it skipped itself, because what it tests is not there to be tested.
    NotApplicable,
}

const WORDS: [(Outcome, &str); 3] =
    [(Outcome::Passed, "passed"), (Outcome::Failed, "failed"), (Outcome::NotApplicable, "not applicable")];

impl Outcome {
    /// The word for it on the page and in the file.
    pub(super) fn word(self) -> &'static str {
        WORDS.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| *word)
    }
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// What the suite calls it by.
    pub(super) id: String,
    /// What else it is called; may be empty.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// What a failed test said, why another one is not applicable, what one that passed left out.
    pub(super) detail: String,
}

/// All tests of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Results {
    /// The suite and its version.
    pub(super) of: String,
    pub(super) rows: Vec<Row>,
}

impl Results {
    /// `88 of 90 passed, 2 failed; 13 more are not applicable`
    pub(super) fn summary(&self) -> String {
        let count = |outcome| self.rows.iter().filter(|row| row.outcome == outcome).count();
        let (passed, failed) = (count(Outcome::Passed), count(Outcome::Failed));
        let others = count(Outcome::NotApplicable);
        format!("{passed} of {} passed, {failed} failed; {others} more are not applicable", passed + failed)
    }

    /// A line for the suite, and a line of four fields for each test, with tabs between them.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{}\n", field(&self.of));
        for row in &self.rows {
            let fields: [&str; 4] = [&row.id, &row.name, row.outcome.word(), &row.detail];
            text.push_str(&fields.map(field).join("\t"));
            text.push('\n');
        }
        text
    }

    /// Reads what [`Results::to_text`] has written.
    pub(super) fn parse(text: &str) -> Result<Results> {
        let mut lines = text.lines();
        let of = lines.next().context("results without a suite")?.to_owned();
        Ok(Results { of, rows: lines.map(row).collect::<Result<_>>()? })
    }
}

fn row(line: &str) -> Result<Row> {
    let fields: Vec<_> = line.split('\t').map(str::to_owned).collect();
    let [id, name, word, detail] =
        <[String; 4]>::try_from(fields).map_err(|_| anyhow!("`{line}` has not four fields"))?;
    let Some((outcome, _)) = WORDS.iter().find(|(_, known)| *known == word) else {
        bail!("`{word}` is no outcome");
    };
    Ok(Row { id, name, outcome: *outcome, detail })
}

/// Fields are separated by what they must not contain.
fn field(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_survive_a_file() {
        let row = |id: &str, outcome, detail: &str| Row {
            id: id.to_owned(),
            name: String::new(),
            outcome,
            detail: detail.to_owned(),
        };
        let results = Results {
            of: "librdkafka 2.12.1".to_owned(),
            rows: vec![
                row("0001", Outcome::Passed, ""),
                row("0115", Outcome::NotApplicable, "needs access control"),
                row("0081", Outcome::Failed, "at test.c:1: no"),
            ],
        };
        assert_eq!(Results::parse(&results.to_text()).unwrap(), results);
        assert_eq!(results.summary(), "1 of 2 passed, 1 failed; 1 more are not applicable");
        assert!(Results::parse("a\nb\tc\n").is_err());
        assert!(Results::parse("a\n1\tname\tperhaps\twhy\n").is_err());
    }

    #[test]
    fn what_a_test_says_stays_in_its_field() {
        assert_eq!(field(" two\tlines\n of it "), "two lines of it");
    }
}
