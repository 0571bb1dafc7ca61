//! The tests of librdkafka's suite, as its own table in `tests/test.c` lists them.
//!
//! A test is asked for by the number that its name begins with; several tests may share one.

use anyhow::{Context as _, Result, ensure};

const TABLE_START: &str = "struct test tests[] = {";
const TABLE_END: &str = "{NULL}};";
/// The scenario of a test that names none.
pub(super) const DEFAULT_SCENARIO: &str = "default";

/// One number, with those of its tests that need a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) number: String,
    pub(super) tests: Vec<Case>,
}

/// A test that needs a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// The full name, with its number.
    pub(super) name: String,
    /// Settings of the broker that it can be run with, by the suite's names for them.
    pub(super) scenarios: Vec<String>,
    /// librdkafka is known to fail it, and its suite leaves it out.
    pub(super) is_known_issue: bool,
}

impl Number {
    /// The names of its tests, without the number.
    pub(super) fn name(&self) -> String {
        let names = self.tests.iter().map(|case| case.name[self.number.len()..].trim_start_matches('_'));
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Every number that needs a broker, in the order of `test.c`.
pub(super) fn numbers(source: &str) -> Result<Vec<Number>> {
    let table = source.split_once(TABLE_START).and_then(|(_, rest)| rest.split_once(TABLE_END));
    let (table, _) = table.context("tests/test.c has no table of tests")?;
    let mut numbers: Vec<Number> = Vec::new();
    for entry in table.split("_TEST(").skip(1) {
        let words: Vec<_> = entry.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).collect();
        let name = words.first().copied().unwrap_or_default();
        let number = name.split('_').next().unwrap_or_default();
        ensure!(!number.is_empty(), "tests/test.c has a test without a name");
        if words.contains(&"TEST_F_LOCAL") || words.contains(&"TEST_F_MANUAL") {
            continue;
        }
        let case = Case {
            name: name.to_owned(),
            scenarios: scenarios(entry),
            is_known_issue: words.contains(&"TEST_F_KNOWN_ISSUE"),
        };
        match numbers.iter_mut().find(|known| known.number == number) {
            Some(known) => known.tests.push(case),
            None => numbers.push(Number { number: number.to_owned(), tests: vec![case] }),
        }
    }
    Ok(numbers)
}

fn scenarios(entry: &str) -> Vec<String> {
    let named = entry.split_once(".scenario").and_then(|(_, rest)| rest.split('"').nth(1));
    named.unwrap_or(DEFAULT_SCENARIO).split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
#define _TEST(NAME, FLAGS, ...) {.name = # NAME},
struct test tests[] = {
    {.name = "<MAIN>", .flags = TEST_F_LOCAL},
    _TEST(0001_multiobj, 0),
    _TEST(0004_conf, TEST_F_LOCAL),
    _TEST(0011_produce_batch,
          0,
          /* Produces a lot of messages */
          _THRES(.ucpu = 40.0, .scpu = 8.0)),
    _TEST(0045_subscribe_update, 0, TEST_BRKVER(0, 9, 0, 0)),
    _TEST(0045_subscribe_update_topic_remove,
          0,
          TEST_BRKVER(0, 9, 0, 0),
          .scenario = "noautocreate"),
    _TEST(0045_subscribe_update_mock, TEST_F_LOCAL),
    _TEST(0047_partial_buf_tmout, TEST_F_KNOWN_ISSUE),
    _TEST(0055_producer_latency, TEST_F_KNOWN_ISSUE_WIN32),
    _TEST(0103_transactions, 0, .scenario = "default,ak23"),
    /* Manual tests */
    _TEST(8000_idle, TEST_F_MANUAL),

    {NULL}};
_TEST(9999_elsewhere, 0)
"#;

    #[test]
    fn what_needs_a_broker_is_listed() {
        let numbers = numbers(SOURCE).unwrap();
        let names: Vec<_> = numbers.iter().map(|n| format!("{} {}", n.number, n.name())).collect();
        assert_eq!(
            names,
            [
                "0001 multiobj",
                "0011 produce_batch",
                "0045 subscribe_update, subscribe_update_topic_remove",
                "0047 partial_buf_tmout",
                "0055 producer_latency",
                "0103 transactions",
            ]
        );
        assert_eq!(numbers[2].tests[0].scenarios, ["default"]);
        assert_eq!(numbers[2].tests[1].scenarios, ["noautocreate"]);
        assert_eq!(numbers[5].tests[0].scenarios, ["default", "ak23"]);
        assert!(numbers[3].tests[0].is_known_issue && !numbers[4].tests[0].is_known_issue);
        assert!(super::numbers("int main() {}").is_err());
    }
}
