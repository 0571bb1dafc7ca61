//! The command line of this process, and what is shown of one that cannot be read.

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue};

use super::Cli;

/// Reads it. Where it cannot be read, or asks for help alone, the process ends here.
pub(crate) fn read() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| without_login(error).exit())
}

/// The message about a value repeats it. Of an address only what may stand in logs is repeated: it may have come from
/// the environment of a service.
fn without_login(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let shown = text(ContextKind::InvalidValue).and_then(|value| shown(argument, value));
    if let Some(shown) = shown {
        error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    }
    error
}

/// An address without its login and its options. `None`: the value is none, or has neither.
fn shown(argument: &str, value: &str) -> Option<String> {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if argument.starts_with("--server") || argument.starts_with("--engine") => {
            (String::new(), value)
        }
        None => return None,
    };
    let (before, options) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    // An '@' behind a '?' belongs to either.
    let (login, address) = match before.rsplit_once('@') {
        _ if options.contains('@') => ("***", ""),
        Some((_, address)) => ("***@", address),
        None => ("", before),
    };
    let options = if options.is_empty() { "" } else { "?***" };
    let shown = format!("{scheme}{login}{address}{options}");
    (shown != value).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &[&str]) -> String {
        let line = [&["courant"][..], line].concat();
        without_login(Cli::try_parse_from(line).expect_err("it cannot be read")).to_string()
    }

    /// Symptom: `courant topic list --server kafka://me:secret@host` was refused with the password in the message,
    /// and so was what COURANT_SERVER or COURANT_OUTBOX says. Cause: clap repeats a value that it cannot read. Fix: it
    /// is given one without the login.
    #[test]
    fn an_address_that_is_refused_is_shown_without_its_login() {
        for (address, shown) in [
            ("kafka://me:secret@host:9092", "'kafka://***@host:9092'"),
            ("me:secret@host", "'***@host'"),
            ("kafka://me:se?cret@host", "'kafka://***?***'"),
            ("kafka://host?password=secret", "'kafka://host?***'"),
            ("http://host:1", "'http://host:1'"),
        ] {
            let said = said(&["topic", "list", "--server", address]);
            assert!(said.contains(shown) && said.contains("--server"), "{said}");
            assert!(!said.contains("secret") && !said.contains("cret@"), "{said}");
        }
        // What is no address stays as it is.
        assert!(said(&["topic", "list", "--timeout", "me@home"]).contains("'me@home'"));
    }

    #[cfg(feature = "sql")]
    #[test]
    fn so_is_that_of_a_database() {
        let said =
            said(&["relay", "--to", "memory:", "--outbox", "oracle://me:secret@host/shop?password=secret"]);
        assert!(said.contains("'oracle://***@host/shop?***'"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
