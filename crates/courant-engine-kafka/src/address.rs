//! What stands behind the scheme: addresses, and a login before them.

use courant_engine::RemoteUrl;

/// Kafka's usual port.
const PORT: u16 = 9092;

/// Where the brokers are, and as whom they are spoken to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `host:port`, separated by commas.
    pub(crate) servers: String,
    /// Name and password.
    pub(crate) login: Option<(String, String)>,
}

/// Reads `[user:password@]host[:port][,host[:port]…]`. The error never shows the login.
pub(crate) fn parse(url: &RemoteUrl) -> Result<Address, String> {
    parse_rest(url.secret_rest())
}

fn parse_rest(rest: &str) -> Result<Address, String> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, more) = rest.split_at(end);
    if !matches!(more, "" | "/") {
        return Err("nothing comes behind the addresses; topics are named in the service".to_owned());
    }
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(parse_login(login)?), hosts),
        None => (None, authority),
    };
    let servers: Result<Vec<String>, String> = hosts.split(',').map(server).collect();
    Ok(Address { servers: servers?.join(","), login })
}

fn parse_login(login: &str) -> Result<(String, String), String> {
    let Some((name, password)) = login.split_once(':') else {
        return Err("a login is name:password".to_owned());
    };
    let decoded =
        |text| decoded(text).ok_or("in a login, % is written %25, @ is %40 and : is %3A".to_owned());
    Ok((decoded(name)?, decoded(password)?))
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

/// The text that percent signs stand for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(rest: &str) -> String {
        parse_rest(rest).expect("an address").servers
    }

    #[test]
    fn addresses_get_the_usual_port() {
        assert_eq!(servers("127.0.0.1:9093"), "127.0.0.1:9093");
        assert_eq!(servers("one,two:1/"), "one:9092,two:1");
        assert_eq!(servers("[::1]"), "[::1]:9092");
        assert_eq!(servers("[::1]:9093,host"), "[::1]:9093,host:9092");
    }

    #[test]
    fn a_login_may_have_any_character() {
        let address = parse_rest("ann:p%40s%3as@host").expect("an address");
        assert_eq!(address.login, Some(("ann".to_owned(), "p@s:s".to_owned())));
        assert_eq!(address.servers, "host:9092");
    }

    #[test]
    fn what_cannot_be_used_is_named_without_the_login() {
        for (rest, said) in [
            ("host:port", "no address"),
            ("host:0", "no address"),
            ("host,", "no address"),
            (":9092", "no address"),
            ("host/orders", "behind the addresses"),
            ("host?acks=1", "behind the addresses"),
            ("secret@host", "name:password"),
            ("ann:secret%4@host", "%25"),
        ] {
            let Err(reason) = parse_rest(rest) else { panic!("{rest} is refused") };
            assert!(reason.contains(said), "{rest}: {reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
