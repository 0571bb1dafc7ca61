//! The options of an address. Those that the driver does not know it would write into the log, with their values, of
//! which one may be a password: `?sslpassword=`.

use crate::address::Use;

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
const DONE_WITHOUT: [&str; 15] = [
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "pool_timeout",
    "socket_timeout",
    "sslcompression",
    "sslnegotiation",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "uselibpqcompat",
];

/// What asks for nothing that the store does not do, with these values alone.
const ASKS_FOR_NOTHING: [(&str, &str); 6] = [
    ("channel_binding", "disable"),
    ("channel_binding", "prefer"),
    ("gssencmode", "disable"),
    ("gssencmode", "prefer"),
    ("pgbouncer", "false"),
    ("schema", "public"),
];

const EXPECTED: &str = "a Postgres database whose options are known: sslmode, sslrootcert, sslcert, sslkey, host, \
     hostaddr, port, dbname, user, password, application_name, options, options[NAME], statement-cache-capacity";

const NO_BINDING: &str = "a Postgres database that the store can use: it does not do channel_binding. Leave that out, \
     and write sslmode=verify-full, which proves who the server is";

const NO_GSS: &str = "a Postgres database that the store can use: it does not do gssencmode=require. Leave that out, \
     and write sslmode=verify-full";

const NO_POOLER: &str = "a Postgres database that the store can use: the address is one of a pooler that gives each \
     transaction another connection (pgbouncer, supa). Write the direct one, or that of a pooler that keeps sessions";

const NO_SCHEMA: &str = "a Postgres database that the store can use: it does not know schema. Write \
     options[search_path]=NAME";

const NO_LIMIT: &str = "a Postgres database that the store can use: it does not know connection_limit. Leave that out: \
     the program says how many connections there are";

/// What addresses of providers and of other clients have and is not left out in silence, and what to do about it.
const TOLD: [(&str, &str); 6] = [
    ("channel_binding", NO_BINDING),
    ("gssencmode", NO_GSS),
    ("pgbouncer", NO_POOLER),
    ("supa", NO_POOLER),
    ("schema", NO_SCHEMA),
    ("connection_limit", NO_LIMIT),
];

/// An address with the options that the driver knows.
///
/// # Errors
/// What it has to be the address of, where it has others than these and those that are done without: who asks for
/// `channel_binding`, or writes `sslmod`, is not to have less than that.
pub(super) fn with_known_options(url: &str) -> Result<String, &'static str> {
    crate::address::with_known_options(url, use_of).map_err(expected)
}

fn use_of(name: &str, value: &str) -> Use {
    if KNOWN.contains(&name) || is_setting(name) {
        Use::Heard
    } else if DONE_WITHOUT.contains(&name) || ASKS_FOR_NOTHING.contains(&(name, value)) {
        Use::DoneWithout
    } else {
        Use::Refused
    }
}

/// A name is not said that others may not know as one: it may be a piece of a password.
fn expected(refused: &str) -> &'static str {
    let told = TOLD.iter().find(|(name, _)| *name == refused);
    told.map_or(EXPECTED, |(_, expected)| *expected)
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
            ("postgres://host/db?channel_binding=prefer&schema=public", Some("postgres://host/db?")),
            ("postgres://host/db?gssencmode=prefer&sslnegotiation=direct", Some("postgres://host/db?")),
            // Nothing would be encrypted.
            ("postgres://host/db?gssencmode=require", None),
            ("postgres://host/db?schema=shop", None),
            ("postgres://host/db?sslpassword=secret", None),
            ("postgres://host/db?sslmod=verify-full", None),
            ("postgres://host/db?channel_binding=require", None),
            ("postgres://host/db?password=sec&ret", None),
            ("postgres://host/db?=secret", None),
        ] {
            assert_eq!(with_known_options(url).ok().as_deref(), heard, "{url}");
        }
    }

    /// Symptom: the address that a provider gives was refused, and nothing said for which option, or what to do. Cause:
    /// one text for all. Fix: those that many addresses have are named, each with what to write instead.
    #[test]
    fn what_addresses_of_providers_have_is_told_with_what_to_do() {
        for (options, told) in [
            ("sslmode=require&channel_binding=require", "sslmode=verify-full"),
            ("gssencmode=require", "gssencmode=require"),
            ("pgbouncer=true&connect_timeout=15", "keeps sessions"),
            ("sslmode=require&supa=base-pooler.x", "keeps sessions"),
            ("schema=shop", "options[search_path]"),
            ("connection_limit=1", "connection_limit"),
            ("sslpassword=secret", "options are known"),
            ("password=sec&ret", "options are known"),
        ] {
            let said = with_known_options(&format!("postgres://host/db?{options}")).expect_err(options);
            assert!(said.contains(told), "{options}: {said}");
        }
    }
}
