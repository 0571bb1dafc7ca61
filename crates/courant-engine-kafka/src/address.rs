//! What stands behind the scheme: addresses, a login before them, and options behind them.

use courant_engine::RemoteUrl;

use crate::options::{self, Mechanism, Options, Tls, decoded};
use crate::password;
use crate::servers::Servers;

/// Kafka's usual port.
const PORT: u16 = 9092;

/// Where the brokers are, how they are spoken to, and as whom.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) servers: Servers,
    /// `None`: nothing is encrypted.
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Option<Login>,
}

/// As whom. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) mechanism: Mechanism,
}

impl Address {
    /// What of it needs a client with OpenSSL, if anything does.
    pub(crate) fn needs_openssl(&self) -> Option<&'static str> {
        if self.tls.is_some() {
            return Some("TLS");
        }
        let login = self.login.as_ref()?;
        (login.mechanism != Mechanism::Plain).then_some("a login by SCRAM")
    }
}

/// Reads `[user[:password]@]host[:port][,host[:port]…][/][?option=value[&option=value…]]`. The error never shows the
/// login.
pub(crate) fn parse(url: &RemoteUrl) -> Result<Address, String> {
    parse_rest(url.secret_rest(), &password::of)
}

/// `variable` is what the environment says.
fn parse_rest(rest: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Address, String> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, more) = rest.split_at(end);
    // A password that is written as it is may end the addresses in the middle of it.
    if more.contains(['@', '#']) {
        return Err(
            "in a login and in an option, @ is written %40, / is %2F, ? is %3F and # is %23".to_owned()
        );
    }
    let options = match more.strip_prefix('/').unwrap_or(more) {
        "" => Options::default(),
        text => match text.strip_prefix('?') {
            Some(text) => options::parse(text)?,
            None => {
                let said =
                    "only options come behind the addresses, as ?tls=true; topics are named in the service";
                return Err(said.to_owned());
            }
        },
    };
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    let login = parse_login(login, &options, variable)?;
    let servers: Result<Vec<String>, String> = hosts.split(',').map(server).collect();
    let tls = options.tls;
    Ok(Address { servers: Servers::new(&servers?.join(","), tls.is_some()), tls, login })
}

fn parse_login(
    login: Option<&str>,
    options: &Options,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Login>, String> {
    let Some(login) = login else {
        return if options.mechanism.is_some() || options.password_env.is_some() {
            Err("sasl and password_env are about a login; write NAME@ or NAME:PASSWORD@ before the addresses"
                .to_owned())
        } else {
            Ok(None)
        };
    };
    let text = |text: &str| {
        decoded(text).ok_or_else(|| "in a login, % is written %25, @ is %40 and : is %3A".to_owned())
    };
    let (name, password) = match (login.split_once(':'), &options.password_env) {
        (Some((name, password)), None) => (text(name)?, text(password)?),
        (None, Some(named)) => {
            let found = variable(named);
            let said = "password_env names a variable of the environment that is not set, or is empty";
            (text(login)?, found.ok_or_else(|| said.to_owned())?)
        }
        (Some(_), Some(_)) => {
            return Err(
                "there is a password before the addresses, and password_env; keep one of them".to_owned()
            );
        }
        (None, None) => {
            return Err("a login is name:password, or a name alone with ?password_env=VARIABLE".to_owned());
        }
    };
    Ok(Some(Login { name, password, mechanism: options.mechanism.unwrap_or_default() }))
}

/// An address with its port.
fn server(text: &str) -> Result<String, String> {
    // The colons of an IPv6 address stand in brackets.
    let behind_brackets = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[behind_brackets..].rfind(':') {
        Some(colon) => {
            let at = behind_brackets + colon;
            (&text[..at], text[at + 1..].parse::<u16>().ok().filter(|port| *port > 0))
        }
        None => (text, Some(PORT)),
    };
    match port {
        Some(port) if !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(format!("{text:?} is no address; write host:port, for example 127.0.0.1:{PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In an environment with one password.
    fn read(rest: &str) -> Result<Address, String> {
        parse_rest(rest, &|variable| (variable == "BROKER_PASSWORD").then(|| "p@s:s".to_owned()))
    }

    fn address(rest: &str) -> Address {
        read(rest).unwrap_or_else(|reason| panic!("{rest}: {reason}"))
    }

    fn servers(rest: &str) -> String {
        address(rest).servers.all().to_owned()
    }

    #[test]
    fn addresses_get_the_usual_port() {
        assert_eq!(servers("127.0.0.1:9093"), "127.0.0.1:9093");
        assert_eq!(servers("one,two:1/"), "one:9092,two:1");
        assert_eq!(servers("[::1]"), "[::1]:9092");
        assert_eq!(servers("[::1]:9093,host"), "[::1]:9093,host:9092");
        assert_eq!(servers("one,two:1/?tls=true"), "one:9092,two:1");
    }

    #[test]
    fn a_login_may_have_any_character() {
        let address = address("ann:p%40s%3as@host");
        let login = address.login.expect("a login");
        assert_eq!((login.name.as_str(), login.password.as_str()), ("ann", "p@s:s"));
        assert_eq!(login.mechanism, Mechanism::Plain);
        assert_eq!(address.servers.all(), "host:9092");
    }

    #[test]
    fn a_password_may_stand_in_the_environment() {
        let login =
            address("a%3An@host?password_env=BROKER_PASSWORD&sasl=scram-sha-256").login.expect("a login");
        assert_eq!((login.name.as_str(), login.password.as_str()), ("a:n", "p@s:s"));
        assert_eq!(login.mechanism, Mechanism::ScramSha256);
    }

    #[test]
    fn tls_and_scram_need_openssl_and_nothing_else_does() {
        for (rest, part) in [
            ("host", None),
            ("ann:secret@host?sasl=plain&tls=false", None),
            ("host?tls=true", Some("TLS")),
            ("ann:secret@host?tls_ca=ca.pem&sasl=scram-sha-512", Some("TLS")),
            ("ann:secret@host?sasl=scram-sha-512", Some("a login by SCRAM")),
        ] {
            assert_eq!(address(rest).needs_openssl(), part, "{rest}");
            assert_eq!(address(rest).servers.has_tls(), part == Some("TLS"), "{rest}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_without_the_login() {
        for (rest, said) in [
            ("host:port", "no address"),
            ("host:0", "no address"),
            ("host,", "no address"),
            (":9092", "no address"),
            ("host/orders", "behind the addresses"),
            ("host?acks=1", "no option \"acks\""),
            ("host?tls=true#x", "%23"),
            ("secret@host", "name:password"),
            ("ann:secret%4@host", "%25"),
            ("ann:1?secret@host", "%3F"),
            ("ann:1/secret@host?tls=true", "%2F"),
            ("host?sasl=plain", "about a login"),
            ("host?password_env=SECRET", "about a login"),
            ("ann@host?password_env=MISSING", "not set"),
            ("ann:secret@host?password_env=BROKER_PASSWORD", "keep one"),
        ] {
            let Err(reason) = read(rest) else { panic!("{rest} is refused") };
            assert!(reason.contains(said), "{rest}: {reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
