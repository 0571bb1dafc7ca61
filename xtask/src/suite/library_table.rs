//! What each client library has been seen to do: the acceptance tests write a line for each case that
//! they have tried, `client<TAB>case<TAB>passed` or `client<TAB>case<TAB>unsupported: reason`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::prepare;

use super::page::table_row;

/// Where the tests of the last run have written.
pub(super) fn file(root: &Path) -> PathBuf {
    super::folder(root, "clients").join("results.tsv")
}

/// The same place, cleared: what the tests of the next run add to.
pub(crate) fn fresh_file(root: &Path) -> Result<PathBuf> {
    let file = file(root);
    prepare::empty(&super::folder(root, "clients"))?;
    Ok(file)
}

/// A case that one client has been put through.
#[derive(Debug, PartialEq, Eq)]
struct Tried<'a> {
    client: &'a str,
    case: &'a str,
    /// Why the library cannot do it; nothing when it did.
    unsupported: Option<&'a str>,
}

/// A table of cases and clients, with the reasons below it.
pub(super) fn section(text: &str) -> Result<String> {
    let tried = text.lines().map(parse).collect::<Result<Vec<_>>>()?;
    let clients = in_order(tried.iter().map(|tried| tried.client));
    let cases = in_order(tried.iter().map(|tried| tried.case));
    let mut reasons: Vec<&str> = Vec::new();
    let head: Vec<&str> = ["Case"].into_iter().chain(clients.iter().copied()).collect();
    let mut body = table_row(&head);
    body.push_str(&format!("|---|{}\n", "---|".repeat(clients.len())));
    for case in cases {
        let cells: Vec<String> =
            clients.iter().map(|client| cell(&tried, client, case, &mut reasons)).collect();
        let cells: Vec<&str> = [case].into_iter().chain(cells.iter().map(String::as_str)).collect();
        body.push_str(&table_row(&cells));
    }
    if !reasons.is_empty() {
        body.push('\n');
    }
    for (at, reason) in reasons.iter().enumerate() {
        body.push_str(&format!("{}. {reason}\n", at + 1));
    }
    Ok(body)
}

fn parse(line: &str) -> Result<Tried<'_>> {
    let mut fields = line.split('\t');
    let mut next = || fields.next().with_context(|| format!("`{line}` has not three fields"));
    let (client, case, result) = (next()?, next()?, next()?);
    let unsupported = match result.split_once(": ") {
        None if result == "passed" => None,
        Some(("unsupported", reason)) => Some(reason),
        _ => bail!("`{result}` is neither `passed` nor `unsupported: reason`"),
    };
    Ok(Tried { client, case, unsupported })
}

/// `yes`, `no` with the number of its reason, or nothing where it was not tried. What one test has
/// found missing is missing, whatever others could do.
fn cell<'a>(tried: &[Tried<'a>], client: &str, case: &str, reasons: &mut Vec<&'a str>) -> String {
    let mut found = tried.iter().filter(|tried| tried.client == client && tried.case == case).peekable();
    if found.peek().is_none() {
        return String::new();
    }
    let Some(reason) = found.find_map(|tried| tried.unsupported) else {
        return "yes".to_owned();
    };
    let known = reasons.iter().position(|known| *known == reason);
    let at = known.unwrap_or_else(|| {
        reasons.push(reason);
        reasons.len() - 1
    });
    format!("no ({})", at + 1)
}

/// Each once, in the order of the alphabet: tests write in any order.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_and_clients_make_a_table() {
        let section = section(
            "kafkajs\tgroups\tpassed\nkafkajs\tzstd\tunsupported: has no zstd\n\
             aiokafka\tgroups\tpassed\nkafkajs\tgroups\tpassed\n",
        )
        .unwrap();
        assert_eq!(
            section,
            "| Case | aiokafka | kafkajs |\n|---|---|---|\n| groups | yes | yes |\n\
             | zstd | | no (1) |\n\n1. has no zstd\n"
        );
        assert!(super::section("kafkajs\tgroups\n").is_err());
        assert!(super::section("kafkajs\tgroups\tfailed\n").is_err());
    }
}
