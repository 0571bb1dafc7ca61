//! A trace as a tree: effects below their causes.

use super::{Node, apart, short};
use std::fmt::Write as _;

/// Depth up to which effects are moved to the right.
const INDENTED_MAX: usize = 40;

/// The tree as text, a line for each event and one more for each failure.
pub(super) fn drawn(nodes: &[Node]) -> String {
    let mut last_child = vec![None; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        if let Some(last) = node.parent.and_then(|parent| last_child.get_mut(parent)) {
            *last = Some(index);
        }
    }
    let mut text = String::new();
    // What stands before the effects of each event.
    let mut before: Vec<String> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let parent = node.parent.and_then(|parent| Some((before.get(parent)?, nodes.get(parent)?)));
        let (branch, below) = match parent {
            None => (String::new(), String::new()),
            Some((before, _)) if node.depth > INDENTED_MAX => {
                (format!("{before}({}) ", node.depth), before.clone())
            }
            Some((before, _)) => {
                let is_last = node.parent.and_then(|parent| last_child.get(parent)) == Some(&Some(index));
                let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                (format!("{before}{branch}"), format!("{before}{below}"))
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{branch}{}", line(node, parent.map(|(_, parent)| parent)));
        before.push(below);
    }
    text
}

fn line(node: &Node, parent: Option<&Node>) -> String {
    let mut line = String::new();
    if node.parent_state == "unknown" {
        let cause = node.causation_id.as_deref().or(node.event_id.as_deref()).unwrap_or("?");
        let _ = write!(line, "[cause {} is not indexed] ", short(cause));
    }
    match &node.dead_letter {
        Some(dead) => line.push_str(&format!("✗ {}", dead.sentence())),
        None => line.push_str(&node.name()),
    }
    if node.dead_letter.is_none()
        && let Some(source) = node.actor()
    {
        let _ = write!(line, "  {source}");
    }
    let _ = write!(line, "  {}", node.place());
    match (node.at(), parent.and_then(Node::at)) {
        (Some(at), Some(cause)) => {
            let ms = at.as_millisecond().saturating_sub(cause.as_millisecond());
            let sign = if ms < 0 { "" } else { "+" };
            let _ = write!(line, "  {sign}{}", apart(ms));
        }
        (Some(_), None) => {
            let _ = write!(line, "  {}", short(node.time.as_deref().unwrap_or_default()));
        }
        (None, _) => {}
    }
    if let Some(key) = node.key.as_ref().filter(|_| parent.is_none_or(|parent| parent.key != node.key)) {
        let _ = write!(line, "  key {}", short(key));
    }
    if node.duplicate {
        line.push_str("  (duplicate)");
    }
    if let Some(gone) = &node.gone {
        let _ = write!(line, "  {}", short(gone));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dead, node};
    use super::*;

    #[test]
    fn effects_stand_below_their_causes() {
        let mut root = node(0, None, 0, "order.placed", "shop");
        root.key = Some("7".to_owned());
        let mut shipped = node(4, Some(0), 1, "order.shipped", "shipping");
        shipped.duplicate = true;
        let mut unknown = node(5, None, 0, "late\u{1b}", "shop");
        (unknown.parent_state, unknown.causation_id) = ("unknown".to_owned(), Some("9".to_owned()));
        let billed = node(2, Some(1), 2, "billed", "billing");
        let nodes =
            [root, node(1, Some(0), 1, "payment.taken", "payments"), billed, dead(3, 0, 1), shipped, unknown];
        let expected = "order.placed  shop  t/0@0  2026-01-31T08:00:00.000Z  key 7\n\
                        ├─ payment.taken  payments  t/0@1  +1.000s\n\
                        │  └─ billed  billing  t/0@2  +1.000s\n\
                        ├─ ✗ billing gave up: Declined: no\\u{1b}[31m (5 attempts)  t/0@3  +3.000s\n\
                        └─ order.shipped  shipping  t/0@4  +4.000s  (duplicate)\n\
                        [cause 9 is not indexed] late\\u{1b}  shop  t/0@5  2026-01-31T08:00:05.000Z\n";
        assert_eq!(drawn(&nodes), expected);
    }

    #[test]
    fn a_deep_tree_stays_in_sight() {
        let nodes: Vec<_> =
            (0..5_000).map(|n: usize| node(n, n.checked_sub(1), n, "next", "relay")).collect();
        let text = drawn(&nodes);
        assert_eq!(text.lines().count(), 5_000);
        assert!(text.lines().all(|line| line.chars().count() < 250));
        assert!(text.lines().last().is_some_and(|line| line.contains("(4999) next")));
    }
}
