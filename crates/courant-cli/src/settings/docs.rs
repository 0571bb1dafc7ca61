//! A `courant.toml` with every setting in it, all of them comments.

use super::table::{Fallback, SETTINGS, Setting};
use super::value::Kind;
use std::fmt::Write as _;

/// The text of the file. Each line that sets something shows the default, or an example where
/// there is none, so that taking away the `#` changes as little as possible.
pub(crate) fn commented() -> String {
    let mut text = String::from(
        "# The settings of Courant. A flag wins over its variable in the environment, which wins over\n\
         # this file, which wins over the default. `courant config show --origin` says what holds.\n",
    );
    let mut table = None;
    for setting in &SETTINGS {
        let (of, key) = match setting.key.split_once('.') {
            Some((of, key)) => (Some(of), key),
            None => (None, setting.key),
        };
        if let Some(of) = of.filter(|_| of != table) {
            // Writing to a string does not fail.
            let _ = write!(text, "\n[{of}]");
        }
        table = of;
        let _ = write!(
            text,
            "\n# {}.\n# --{}, {}{}\n# {key} = {}\n",
            setting.doc,
            setting.flag,
            setting.variable,
            meaning(setting),
            literal(setting),
        );
    }
    text
}

fn meaning(setting: &Setting) -> String {
    match setting.fallback {
        Fallback::Value(_) => String::new(),
        Fallback::Means { meaning, .. } => format!("; without a value: {meaning}"),
    }
}

fn literal(setting: &Setting) -> String {
    let text = match setting.fallback {
        Fallback::Value(text) => text,
        Fallback::Means { example, .. } => example,
    };
    match setting.kind {
        Kind::Count { .. } | Kind::Switch => text.to_owned(),
        // The table's texts hold nothing that TOML would want escaped.
        _ => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    /// Every key, with the tables that they stand in.
    fn keys(text: &str) -> Vec<String> {
        let document = DeTable::parse(text).expect("TOML");
        let mut keys = Vec::new();
        for (key, value) in document.get_ref().iter() {
            match value.get_ref().as_table() {
                None => keys.push(key.get_ref().to_string()),
                Some(table) => {
                    keys.extend(table.keys().map(|inner| format!("{}.{}", key.get_ref(), inner.get_ref())));
                }
            }
        }
        keys.sort();
        keys
    }

    #[test]
    fn as_it_is_it_sets_nothing() {
        assert!(keys(&commented()).is_empty());
    }

    #[test]
    fn without_the_marks_it_sets_everything() {
        let set: Vec<String> = commented()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(inner) if inner.contains(" = ") => inner.to_owned(),
                _ => line.to_owned(),
            })
            .collect();
        let mut expected: Vec<String> = SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
        expected.sort();
        assert_eq!(keys(&set.join("\n")), expected);
    }

    #[test]
    fn lines_fit_a_terminal() {
        for line in commented().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
