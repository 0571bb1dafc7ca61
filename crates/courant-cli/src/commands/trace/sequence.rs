//! A trace as a sequence: who tells whom, in the order of time.

use super::{Node, apart};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A pause that is worth a line of its own, in milliseconds.
const IDLE_MS: i64 = 10_000;

/// Somebody tells something to somebody.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) node: &'a Node,
    pub(super) from: String,
    /// Who has done something with it, or else the topic that it is in.
    pub(super) to: String,
}

/// Everything that is told, in the order of time.
pub(super) fn told(nodes: &[Node]) -> Vec<Told<'_>> {
    let mut children: Vec<Vec<&Node>> = vec![Vec::new(); nodes.len()];
    for node in nodes {
        if let Some(siblings) = node.parent.and_then(|parent| children.get_mut(parent)) {
            siblings.push(node);
        }
    }
    let nobody = || "(unknown)".to_owned();
    let mut told = Vec::new();
    for (node, children) in nodes.iter().zip(&children) {
        if node.dead_letter.is_some() {
            // It was told already: what is new is who gave up.
            let (from, to) = (format!("topic {}", topic(node)), node.actor().unwrap_or_else(nobody));
            told.push(Told { node, from, to });
            continue;
        }
        let from = node.actor().unwrap_or_else(nobody);
        let effects = children.iter().filter(|child| child.dead_letter.is_none());
        let readers: BTreeSet<String> = effects.filter_map(|child| child.actor()).collect();
        if readers.is_empty() {
            let to = format!("topic {}", topic(node));
            told.push(Told { node, from: from.clone(), to });
        }
        told.extend(readers.into_iter().map(|to| Told { node, from: from.clone(), to }));
    }
    // Those at the same time keep the order of causes.
    told.sort_by_key(|one| one.node.at());
    told
}

/// The topic that a record is in; that of a dead letter is where its event was.
fn topic(node: &Node) -> String {
    let of_event = node.dead_letter.as_ref().and_then(|dead| dead.topic.as_deref());
    super::short(of_event.or(node.topic.as_deref()).unwrap_or("-"))
}

/// The sequence as text.
pub(super) fn drawn(nodes: &[Node]) -> String {
    let told = told(nodes);
    let first = told.iter().find_map(|one| one.node.at());
    let width = told.iter().map(|one| one.from.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut before = first;
    // Writing to a string does not fail.
    for one in &told {
        let at = one.node.at();
        let idle_ms = at.zip(before).map(|(at, before)| at.as_millisecond() - before.as_millisecond());
        if let Some(ms) = idle_ms.filter(|ms| *ms >= IDLE_MS) {
            let _ = writeln!(text, "{:>10}  ⋮ {} idle", "", apart(ms));
        }
        let since = at.zip(first).map(|(at, first)| at.as_millisecond() - first.as_millisecond());
        let since = since.map_or_else(|| "-".to_owned(), |ms| format!("+{}", apart(ms)));
        let (from, to) = (&one.from, &one.to);
        let _ = match &one.node.dead_letter {
            Some(dead) => writeln!(text, "{since:>10}  {from:>width$} ──✗ {to}  {}", dead.sentence()),
            None => {
                let again = if one.node.duplicate { "  (duplicate)" } else { "" };
                writeln!(text, "{since:>10}  {from:>width$} ── {} ──▶ {to}{again}", one.node.name())
            }
        };
        before = at.or(before);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dead, node};
    use super::*;

    #[test]
    fn each_event_goes_to_whoever_did_something_with_it() {
        let mut late = node(3, Some(1), 2, "shipped", "shipping");
        late.time = Some("2026-01-31T08:05:00.000Z".to_owned());
        let nodes = [
            node(0, None, 0, "placed", "shop"),
            node(1, Some(0), 1, "paid", "payments"),
            dead(2, 0, 1),
            late,
        ];
        let expected = "      +0ms      shop ── placed ──▶ payments\n\
                        \u{20}  +1.000s  payments ── paid ──▶ shipping\n\
                        \u{20}  +2.000s   topic t ──✗ billing  billing gave up: Declined: no\\u{1b}[31m (5 attempts)\n\
                        \u{20}           ⋮ 4m 58s idle\n\
                        \u{20}   +5m 0s  shipping ── shipped ──▶ topic t\n";
        assert_eq!(drawn(&nodes), expected);
    }

    #[test]
    fn two_readers_are_two_arrows() {
        let nodes = [
            node(0, None, 0, "placed", "shop"),
            node(1, Some(0), 1, "paid", "payments"),
            node(2, Some(0), 1, "reserved", "stock"),
            node(3, Some(0), 1, "counted", "stock"),
        ];
        let of_root: Vec<_> =
            told(&nodes).into_iter().filter(|one| one.node.n == 0).map(|one| one.to).collect();
        assert_eq!(of_root, ["payments", "stock"]);
    }
}
