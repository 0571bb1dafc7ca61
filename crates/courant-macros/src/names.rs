//! Which names an event's type, its topic and a command's owner may have.

use syn::{LitStr, Result};

/// Longest name, in bytes: Kafka's limit for topics.
const NAME_BYTES_MAX: usize = 249;

/// A topic or a consumer: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
pub(crate) fn check_name(what: &str, name: &LitStr) -> Result<()> {
    let value = name.value();
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if value.is_empty() || value.len() > NAME_BYTES_MAX || value == "." || value == ".." {
        let said = format!("{what} has 1 to {NAME_BYTES_MAX} characters, and is neither \".\" nor \"..\"");
        return Err(syn::Error::new(name.span(), said));
    }
    match value.chars().find(|c| !is_legal(*c)) {
        Some(c) => {
            let said = format!("{what} consists of ASCII letters, digits, '.', '_' and '-'; it has {c:?}");
            Err(syn::Error::new(name.span(), said))
        }
        None => Ok(()),
    }
}

/// An event's type: small letters, digits and `-` in parts that dots separate, so that no two types
/// differ by their case alone.
pub(crate) fn check_type(name: &LitStr) -> Result<()> {
    let value = name.value();
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let are_parts_legal = value.split('.').all(|part| !part.is_empty() && part.chars().all(is_legal));
    if value.len() <= NAME_BYTES_MAX && are_parts_legal {
        return Ok(());
    }
    let said = "a type is written in small letters, digits and '-', in parts that dots separate, \
                as in \"shop.order-placed\"";
    Err(syn::Error::new(name.span(), said))
}
