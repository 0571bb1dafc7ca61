//! Runs stages one after the other and closes with the table.

use std::time::{Duration, Instant};

use crate::stage::{Skip, Stage, Tally};

/// What came of each stage so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    stage: Stage,
    tally: Tally,
    took: Duration,
}

impl Report {
    /// Runs one stage, announces it and holds it to its budget. True when nothing failed.
    pub(crate) fn run(&mut self, stage: Stage, work: impl FnOnce(Instant) -> Tally) -> bool {
        println!("\n== {} (budget {} s)", stage.name, stage.budget_s);
        let started = Instant::now();
        let mut tally = work(stage.deadline());
        let took = started.elapsed();
        if took > 2 * stage.budget() {
            tally.add_failure("more than twice over its time budget");
        } else if took > stage.budget() {
            println!(
                "warning: stage {} took {:.0} s, its budget is {} s: make it faster, or split it",
                stage.name,
                took.as_secs_f64(),
                stage.budget_s
            );
        }
        let clean = tally.failed == 0;
        self.rows.push(Row { stage, tally, took });
        clean
    }

    /// Notes a stage that is not run at all.
    pub(crate) fn leave_out(&mut self, stage: Stage, reason: &str) {
        println!("\n== {}: not run: {reason}", stage.name);
        let tally = Tally::skip(stage.name, reason);
        self.rows.push(Row { stage, tally, took: Duration::ZERO });
    }

    /// What a stage that was run counted.
    pub(crate) fn tally(&self, name: &str) -> Option<&Tally> {
        self.rows.iter().find(|row| row.stage.name == name).map(|row| &row.tally)
    }

    /// Counts a failure against a stage that is over.
    pub(crate) fn add_failure(&mut self, name: &str, problem: String) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.stage.name == name) {
            row.tally.add_failure(problem);
        }
    }

    /// Every skip, in order.
    pub(crate) fn skips(&self) -> impl Iterator<Item = &Skip> {
        self.rows.iter().flat_map(|row| &row.tally.skips)
    }

    /// Prints failures, the table and the closing line. True when nothing failed.
    pub(crate) fn close(&self) -> bool {
        for row in &self.rows {
            for problem in &row.tally.problems {
                println!("FAILED  {}: {problem}", row.stage.name);
            }
        }
        println!("\n{}", self.table());
        let failed: u64 = self.rows.iter().map(|row| row.tally.failed).sum();
        println!("{}", self.closing_line());
        failed == 0
    }

    fn closing_line(&self) -> String {
        let sum = |count: fn(&Tally) -> u64| self.rows.iter().map(|r| count(&r.tally)).sum::<u64>();
        format!(
            "{} passed, {} failed, {} skipped",
            sum(Tally::passed),
            sum(|tally| tally.failed),
            sum(|tally| tally.skips.len() as u64)
        )
    }

    fn table(&self) -> String {
        let head = ["stage", "ran", "passed", "failed", "skipped (why)", "seconds / budget"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
        let mut table = String::new();
        for row in &rows {
            for (cell, width) in row.iter().zip(widths) {
                let padding = " ".repeat(width - cell.chars().count());
                table.push_str(cell);
                table.push_str(&padding);
                table.push_str("  ");
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
        table
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let tally = &self.tally;
        [
            self.stage.name.to_owned(),
            (tally.passed() + tally.failed).to_string(),
            tally.passed().to_string(),
            tally.failed.to_string(),
            skipped(&tally.skips),
            format!("{:.1} / {}", self.took.as_secs_f64(), self.stage.budget_s),
        ]
    }
}

/// `3 (no kcat ×2; not root)`
fn skipped(skips: &[Skip]) -> String {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for skip in skips {
        match reasons.iter_mut().find(|(reason, _)| *reason == skip.reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((&skip.reason, 1)),
        }
    }
    let reasons: Vec<_> = reasons
        .into_iter()
        .map(|(reason, count)| match count {
            1 => reason.to_owned(),
            _ => format!("{reason} ×{count}"),
        })
        .collect();
    if reasons.is_empty() { "0".to_owned() } else { format!("{} ({})", skips.len(), reasons.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE: Stage = Stage { name: "unit", budget_s: 10 };

    #[test]
    fn the_closing_line_sums_the_stages() {
        let mut report = Report::default();
        assert!(report.run(STAGE, |_| Tally::pass()));
        assert!(!report.run(Stage { name: "other", budget_s: 10 }, |_| Tally::fail("broken")));
        report.leave_out(Stage { name: "power-cut", budget_s: 10 }, "not root");
        assert_eq!(report.closing_line(), "1 passed, 1 failed, 1 skipped");
        assert!(report.table().contains("1 (not root)"));
        assert!(!report.close());
    }

    #[test]
    fn twice_over_the_budget_fails() {
        let mut report = Report::default();
        let slow = Stage { name: "slow", budget_s: 0 };
        assert!(!report.run(slow, |_| Tally::pass()));
    }

    #[test]
    fn equal_reasons_are_told_once() {
        let skip = |name: &str, reason: &str| Skip { name: name.into(), reason: reason.into() };
        let skips = [skip("a", "no kcat"), skip("b", "no kcat"), skip("c", "not root")];
        assert_eq!(skipped(&skips), "3 (no kcat ×2; not root)");
    }
}
