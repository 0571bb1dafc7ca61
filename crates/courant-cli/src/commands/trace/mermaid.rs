//! A trace in the language of Mermaid, which documents and issues draw.

use super::Node;
use super::sequence::told;
use std::fmt::Write as _;

/// The tree as a flowchart.
pub(super) fn tree(nodes: &[Node]) -> String {
    let mut text = "flowchart TD\n".to_owned();
    // Writing to a string does not fail.
    for node in nodes {
        let (n, place) = (node.n, quoted(&node.place()));
        let _ = match &node.dead_letter {
            Some(dead) => writeln!(text, "  n{n}{{{{\"{}<br/>{place}\"}}}}", quoted(&dead.sentence())),
            None => {
                let source = node.actor().map_or_else(String::new, |name| format!("<br/>{}", quoted(&name)));
                writeln!(text, "  n{n}[\"{}{source}<br/>{place}\"]", quoted(&node.name()))
            }
        };
        match (node.parent, node.parent_state.as_str()) {
            (Some(parent), _) => {
                let _ = writeln!(text, "  n{parent} --> n{n}");
            }
            (None, "unknown") => {
                let _ = writeln!(text, "  u{n}([\"cause not indexed\"]) -.-> n{n}");
            }
            (None, _) => {}
        }
    }
    text
}

/// The sequence as a sequence diagram.
pub(super) fn sequence(nodes: &[Node]) -> String {
    let told = told(nodes);
    let mut actors: Vec<&str> = Vec::new();
    for name in told.iter().flat_map(|one| [one.from.as_str(), one.to.as_str()]) {
        if !actors.contains(&name) {
            actors.push(name);
        }
    }
    let mut text = "sequenceDiagram\n".to_owned();
    for (number, name) in actors.iter().enumerate() {
        let _ = writeln!(text, "  participant a{number} as {}", quoted(name));
    }
    let number = |name: &str| actors.iter().position(|known| *known == name).unwrap_or_default();
    for one in &told {
        let (from, to) = (number(&one.from), number(&one.to));
        let _ = match &one.node.dead_letter {
            Some(dead) => writeln!(text, "  a{from}-xa{to}: {}", quoted(&dead.sentence())),
            None => writeln!(text, "  a{from}->>a{to}: {}", quoted(&one.node.name())),
        };
    }
    text
}

/// A text in which nothing means anything to Mermaid.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '"' | '<' | '>' | '#' | ';' | '&' | '%' | '`' => {
                let _ = write!(quoted, "#{};", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dead, node};
    use super::*;

    #[test]
    fn a_tree_is_a_flowchart() {
        let mut root = node(0, None, 0, "order \"placed\"", "shop");
        root.parent_state = "unknown".to_owned();
        let text = tree(&[root, dead(1, 0, 1)]);
        let expected = "flowchart TD\n  \
            n0[\"order #34;placed#34;<br/>shop<br/>t/0@0\"]\n  \
            u0([\"cause not indexed\"]) -.-> n0\n  \
            n1{{\"billing gave up: Declined: no\\u{1b}[31m (5 attempts)<br/>t/0@1\"}}\n  \
            n0 --> n1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_sequence_is_a_sequence_diagram() {
        let nodes = [node(0, None, 0, "placed", "shop;drop"), node(1, Some(0), 1, "paid", "payments")];
        let expected = "sequenceDiagram\n  \
            participant a0 as shop#59;drop\n  \
            participant a1 as payments\n  \
            participant a2 as topic t\n  \
            a0->>a1: placed\n  \
            a1->>a2: paid\n";
        assert_eq!(sequence(&nodes), expected);
    }
}
