//! The options of an address. Those that the driver does not know it would write into the log, with their values, of
//! which one may be a password: `?sslpassword=`.

/// What the driver knows, besides `options[NAME]`.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// What other clients know, and the store does without: it has bounds of its own, and looks for the server that writes.
/// Nothing is less safe without them.
const DONE_WITHOUT: [&str; 12] = [
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "sslcompression",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// An address with the options that the driver knows. `None` where it has others than these and those that are done
/// without.
pub(super) fn with_known_options(url: &str) -> Option<String> {
    let is_known = |name: &str| KNOWN.contains(&name) || is_setting(name);
    crate::address::with_known_options(url, is_known, &DONE_WITHOUT)
}

/// `options[NAME]`, as it is or with its brackets as an address has them in its strict form.
fn is_setting(name: &str) -> bool {
    ["options[", "options%5B", "options%5b"].iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: the password of a TLS key stood in the log of a service. Cause: the driver writes options there that it
    /// does not know, as they are. Fix: it hears of none of these.
    #[test]
    fn the_driver_hears_of_no_option_that_it_does_not_know() {
        for (url, heard) in [
            ("postgres://u@host/db", Some("postgres://u@host/db")),
            ("postgres://u@host/db?sslmode=require", Some("postgres://u@host/db?sslmode=require")),
            (
                "postgres://host/db?connect_timeout=5&user=u&keepalives=1&password=s%26t",
                Some("postgres://host/db?user=u&password=s%26t"),
            ),
            (
                "postgres://host/db?options[a]=b&options%5Bc%5D=d",
                Some("postgres://host/db?options[a]=b&options%5Bc%5D=d"),
            ),
            ("postgres://host/db?&sslmode=require&", Some("postgres://host/db?sslmode=require")),
            ("postgres://host/db?user=u#end", Some("postgres://host/db?user=u#end")),
            ("postgres://host/db?sslpassword=secret", None),
            ("postgres://host/db?sslmod=verify-full", None),
            ("postgres://host/db?channel_binding=require", None),
            ("postgres://host/db?password=sec&ret", None),
            ("postgres://host/db?=secret", None),
        ] {
            assert_eq!(with_known_options(url).as_deref(), heard, "{url}");
        }
    }
}
