//! docs/compatibility.md: what is written by hand stays, what stands between two marks is the last
//! run's.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::library_table;
use super::reasons::Reasons;
use super::results::{Outcome, Results};

const PAGE: &str = "docs/compatibility.md";
const SUITES: [&str; 2] = ["librdkafka", "rdkafka-crate"];

/// Where the results of a suite's last whole run are.
pub(super) fn saved(root: &Path, suite: &str) -> PathBuf {
    super::folder(root, suite).join("results.tsv")
}

/// Writes the sections that there are results for.
pub(super) fn write(root: &Path) -> Result<()> {
    let path = root.join(PAGE);
    let mut page = fs::read_to_string(&path).context(PAGE)?;
    if let Some(text) = read(&library_table::file(root))? {
        page = with_section(&page, "clients", &library_table::section(&text)?)?;
    }
    for suite in SUITES {
        if let Some(text) = read(&saved(root, suite))? {
            let results = Results::parse(&text).with_context(|| format!("the results of {suite}"))?;
            let reasons = Reasons::load(root, suite)?;
            page = with_section(&page, suite, &section(&results, &reasons))?;
        }
    }
    fs::write(&path, page).context(PAGE)?;
    println!("wrote {PAGE}");
    Ok(())
}

/// The text of a file; `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The page with `body` between the marks of a section.
fn with_section(page: &str, name: &str, body: &str) -> Result<String> {
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let parts = page.split_once(&start).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) =
        parts.with_context(|| format!("{PAGE} has no lines `{}` and `{end}`", start.trim()))?;
    Ok(format!("{before}{start}\n{body}\n{end}{after}"))
}

fn section(results: &Results, reasons: &Reasons) -> String {
    let mut body = format!("{}: **{}**.\n\n", results.of, results.summary());
    body.push_str("| Test | Result | |\n|---|---|---|\n");
    for row in &results.rows {
        let why: &str = match row.outcome {
            Outcome::Passed => &row.detail,
            Outcome::Failed => reasons.failing(&row.id).unwrap_or("Nobody has said why yet."),
            Outcome::NotApplicable => reasons.not_applicable(&row.id).unwrap_or(&row.detail),
        };
        let test = format!("{} {}", row.id, row.name);
        body.push_str(&table_row(&[test.trim(), row.outcome.word(), why]));
    }
    body
}

/// A row of a Markdown table.
pub(super) fn table_row(cells: &[&str]) -> String {
    let mut row = "|".to_owned();
    for cell in cells {
        if !cell.is_empty() {
            row.push(' ');
            row.push_str(&cell.replace('|', "\\|"));
        }
        row.push_str(" |");
    }
    row.push('\n');
    row
}

#[cfg(test)]
mod tests {
    use super::super::results::Row;
    use super::*;

    #[test]
    fn what_is_written_by_hand_stays() {
        let page = "# A\n<!-- x -->\nold\n<!-- end of x -->\n\nend\n";
        let new = with_section(page, "x", "| new |\n").unwrap();
        assert_eq!(new, "# A\n<!-- x -->\n\n| new |\n\n<!-- end of x -->\n\nend\n");
        assert_eq!(with_section(&new, "x", "| new |\n").unwrap(), new);
        assert!(with_section(page, "y", "").is_err());
    }

    #[test]
    fn a_failure_is_explained_by_the_committed_sentence() {
        let row = |id: &str, outcome, detail: &str| Row {
            id: id.to_owned(),
            name: "name".to_owned(),
            outcome,
            detail: detail.to_owned(),
        };
        let results = Results {
            of: "librdkafka 2".to_owned(),
            rows: vec![
                row("0001", Outcome::Passed, ""),
                row("0002", Outcome::Failed, "at 0x7ffe: no"),
                row("0003", Outcome::NotApplicable, "needs a|b"),
            ],
        };
        let section = section(&results, &Reasons::default());
        assert!(section.contains("| 0001 name | passed | |\n"), "{section}");
        assert!(section.contains("| 0002 name | failed | Nobody has said why yet. |\n"), "{section}");
        assert!(section.contains("| 0003 name | not applicable | needs a\\|b |\n"), "{section}");
    }
}
