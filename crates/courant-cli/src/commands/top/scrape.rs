//! Lines of OpenMetrics, as a server's `/metrics` has them.

/// One line that is a figure.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

impl Sample<'_> {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }

    /// The value, if it is a whole number, exact in all of its bits.
    pub(super) fn count(&self) -> Option<u64> {
        self.value.parse().ok()
    }

    pub(super) fn number(&self) -> Option<f64> {
        self.value.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// Every figure of a page; what is none is passed over.
pub(super) fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.push((label, value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?;
    Some(Sample { name, labels, value })
}

/// A label's value, and what comes behind its closing quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_with_their_labels() {
        let page = "# HELP a What it is\n# TYPE a gauge\na 9007199254740993\n\
                    b{topic=\"o\\\"r\\\\d\\ners, {x}=\\\"\",partition=\"3\"} 2.5\nnothing\nc{broken=\"\n# EOF\n";
        let found: Vec<_> = samples(page).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].name, found[0].count()), ("a", Some(9_007_199_254_740_993)));
        assert_eq!(found[1].label("topic"), Some("o\"r\\d\ners, {x}=\""));
        assert_eq!((found[1].label("partition"), found[1].label("group")), (Some("3"), None));
        assert_eq!((found[1].count(), found[1].number()), (None, Some(2.5)));
    }
}
