//! The address of a server, as it may stand in a message: that of another database than the one that is meant, too.

/// An address without its login and without its options, of which one may be a password (`?password=`).
pub(crate) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (place, options) = rest.split_at(end);
    // Behind a `?` an `@` belongs to an option, or the `?` to a login that is written as it is.
    if options.contains('@') {
        return format!("{scheme}…");
    }
    let place = match place.rsplit_once('@') {
        Some((_, place)) => format!("…@{place}"),
        // What stands where a port should, and is none, may be the password of a login without its host.
        None if !scheme.is_empty() && !has_port_or_none(place) => "…".to_owned(),
        None => place.to_owned(),
    };
    let options = if options.is_empty() { "" } else { "?…" };
    format!("{scheme}{place}{options}")
}

/// What becomes of an option of an address.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The driver knows it.
    Heard,
    /// Nothing is less safe without it.
    DoneWithout,
    /// Who writes it is not to have less than that.
    Refused,
}

/// An address with those of its options that the driver is to hear of; `use_of` says what becomes of a name and its
/// value.
///
/// # Errors
/// The name of the first option that is refused. It may be a piece of a password with an `&` in it.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
pub(crate) fn with_known_options(url: &str, use_of: impl Fn(&str, &str) -> Use) -> Result<String, &str> {
    let end = url.find('#').unwrap_or(url.len());
    let (url, fragment) = url.split_at(end);
    let Some((place, options)) = url.split_once('?') else { return Ok(format!("{url}{fragment}")) };
    let mut kept = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match use_of(name, value) {
            Use::Heard => kept.push(option),
            Use::DoneWithout => {}
            Use::Refused => return Err(name),
        }
    }
    Ok(format!("{place}?{}{fragment}", kept.join("&")))
}

/// Whether nothing stands behind the host of a place, or a port does.
fn has_port_or_none(place: &str) -> bool {
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    // An address of the sixth version has colons of its own, in brackets.
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    behind.split_once(':').is_none_or(|(_, port)| {
        // A larger number is no port, and refused as one that is none.
        port.is_empty() || (port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: an address with a wrong option was refused with the password that stood in another option. Cause: what
    /// stands behind an `@` was taken for no secret. Fix: options are not shown, nor what is no port.
    #[test]
    fn a_password_stands_in_no_message() {
        for (url, shown) in [
            ("postgres://u:secret@host:1/db", "postgres://…@host:1/db"),
            ("mysql://u:s@cret@host/db", "mysql://…@host/db"),
            ("postgres://host/db", "postgres://host/db"),
            ("postgres://host/db?user=u&password=secret", "postgres://host/db?…"),
            ("postgres://u@host/db?password=secret", "postgres://…@host/db?…"),
            ("postgres://u@host/db?password=s@cret", "postgres://…"),
            ("mariadb://u:s?cret@host/db", "mariadb://…"),
            ("postgres://host/db#secret", "postgres://host/db?…"),
            ("postgres://u:secret/db", "postgres://…"),
            ("postgres://u:secret#host/db", "postgres://…?…"),
            ("postgres://u:20261130/db", "postgres://…"),
            ("postgres://host:5432/db?password=secret", "postgres://host:5432/db?…"),
            ("postgres://[::1]:5432/db", "postgres://[::1]:5432/db"),
            ("postgres://[::1]/a:b", "postgres://[::1]/a:b"),
            ("sqlite:x", "sqlite:x"),
            ("postgres:u:secret@host/db", "…@host/db"),
            ("postgres:host/db?password=secret", "postgres:host/db?…"),
        ] {
            assert_eq!(without_secrets(url), shown, "{url}");
        }
    }
}
