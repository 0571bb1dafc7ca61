//! What a setting may be, how it is read, and how it is shown.

use courant_kafka::client::Address;
use std::fmt;
use std::path::PathBuf;
use toml::de::DeValue;
use tracing_subscriber::EnvFilter;

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    /// A file that is there.
    File,
    /// Names of hosts, without ports.
    Names,
    /// The name of a header of events.
    Header,
    /// An address to listen on.
    Listen,
    /// An address that clients are told.
    Advertised,
    /// Addresses of servers.
    Servers,
    /// A whole number within these bounds, both allowed.
    Count {
        min: u32,
        max: u32,
    },
    /// Bytes, as a number or with a unit.
    Size {
        min: usize,
    },
    /// On or off.
    Switch,
    /// What is logged.
    Filter,
}

/// What a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Directory(PathBuf),
    Text(String),
    Servers(Vec<Address>),
    Count(u32),
    /// Bytes.
    Size(usize),
    Switch(bool),
}

impl Kind {
    /// Reads a value as it stands on the command line.
    ///
    /// # Errors
    /// What is allowed, as half a sentence.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let is_allowed = match self {
            Self::Directory | Self::File => !text.is_empty(),
            Self::Names => text.split(',').all(is_host),
            Self::Header => is_header(text),
            Self::Listen => is_host_and_port(text),
            Self::Advertised => text.parse::<Address>().is_ok(),
            Self::Filter => EnvFilter::try_new(text).is_ok(),
            Self::Servers => return servers(text).ok_or_else(|| self.allowed()),
            Self::Count { .. } => return self.count(text, 10).ok_or_else(|| self.allowed()),
            Self::Size { min } => {
                let size = size(text).filter(|bytes| *bytes >= min);
                return size.map(Value::Size).ok_or_else(|| self.allowed());
            }
            Self::Switch => {
                let switch = text.parse::<bool>().map(Value::Switch);
                return switch.map_err(|_| self.allowed());
            }
        };
        match (is_allowed, self) {
            (true, Self::Directory | Self::File) => Ok(Value::Directory(PathBuf::from(text))),
            (true, _) => Ok(Value::Text(text.to_owned())),
            (false, _) => Err(self.allowed()),
        }
    }

    /// Reads a value of a settings file.
    ///
    /// # Errors
    /// What the value is and what is allowed, to go on after the setting's name.
    pub(super) fn read(self, value: &DeValue<'_>) -> Result<Value, String> {
        match (self, value) {
            (Self::Count { .. }, DeValue::Integer(number)) => self
                .count(number.as_str(), number.radix())
                .ok_or_else(|| format!("is {}: {}", number.as_str(), self.allowed())),
            (Self::Size { .. }, DeValue::Integer(number)) if number.radix() == 10 => {
                self.parse(number.as_str()).map_err(|allowed| format!("is {}: {allowed}", number.as_str()))
            }
            (Self::Switch, DeValue::Boolean(on)) => Ok(Value::Switch(*on)),
            (Self::Servers, DeValue::Array(items)) => {
                let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
                let servers = items.and_then(|items| servers(&items.join(",")));
                servers.ok_or_else(|| format!("is a list with something else in it: {}", self.allowed()))
            }
            (Self::Count { .. } | Self::Switch, _) => Err(self.wrong_type(value)),
            (_, DeValue::String(text)) => {
                self.parse(text).map_err(|allowed| format!("is {text:?}: {allowed}"))
            }
            (_, _) => Err(self.wrong_type(value)),
        }
    }

    fn wrong_type(self, value: &DeValue<'_>) -> String {
        let found = match value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let quotes = match (self, value) {
            (Self::Count { .. } | Self::Switch, DeValue::String(_)) => ", without quotes",
            (Self::Count { .. } | Self::Switch, _) => "",
            (_, _) => ", in quotes",
        };
        format!("is {found}: {}{quotes}", self.allowed())
    }

    fn count(self, digits: &str, radix: u32) -> Option<Value> {
        let Self::Count { min, max } = self else {
            return None;
        };
        let number = u32::from_str_radix(digits, radix).ok()?;
        (min..=max).contains(&number).then_some(Value::Count(number))
    }

    /// What to write instead of a value that is refused.
    fn allowed(self) -> String {
        match self {
            Self::Directory => "name a directory, for example ./courant-data".to_owned(),
            Self::File => "name a file, for example ./tokens".to_owned(),
            Self::Names => {
                "write names without ports, several with commas, for example events.example".to_owned()
            }
            Self::Header => {
                format!(
                    "write the name of a header, up to {HEADER_BYTES_MAX} characters, for example x-request-id"
                )
            }
            Self::Listen => "write HOST:PORT, for example 127.0.0.1:9092".to_owned(),
            Self::Advertised => {
                "write HOST:PORT with a port from 1 to 65535, for example events.example:9092".to_owned()
            }
            Self::Servers => {
                "write host:port, courant://host:port or kafka://host:port, several with commas".to_owned()
            }
            Self::Count { min, max } => format!("write a whole number from {min} to {max}"),
            Self::Size { min } => {
                format!("write a size from {} on, for example 1GiB", Value::Size(min))
            }
            Self::Switch => "write true or false".to_owned(),
            Self::Filter => "write for example info or courant_kafka=debug,info".to_owned(),
        }
    }
}

/// Reads a switch that the environment sets, where programs have more words for it than a settings file. Set to
/// nothing is off.
///
/// # Errors
/// What is allowed: a slip such as `flase` must not open a server to everybody.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" | "" => Ok(false),
        _ => Err(Kind::Switch.allowed()),
    }
}

/// Reads a switch that takes a value, because it is on where nobody sets it. Set to nothing it is neither: a variable
/// that a script has left empty says neither what holds without it nor the opposite.
///
/// # Errors
/// What is allowed.
pub(super) fn switch_with_value(text: &str) -> Result<bool, String> {
    if text.is_empty() { Err(Kind::Switch.allowed()) } else { switch(text) }
}

/// Whether something stands before the last colon, and a port, or 0, after it.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let digits_only = port.bytes().all(|byte| byte.is_ascii_digit());
        !host.is_empty() && digits_only && port.parse::<u16>().is_ok()
    })
}

/// Whether it may be the name of a host; a port or an address in brackets is none.
fn is_host(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_legal)
}

/// Bytes of the name of a header.
const HEADER_BYTES_MAX: usize = 128;

/// Whether it may be the name of a header: something that can be seen.
fn is_header(text: &str) -> bool {
    (1..=HEADER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Units of sizes, the largest one first.
const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads a number of bytes, such as 268435456 or 256MiB.
fn size(text: &str) -> Option<usize> {
    let with_unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(*name)?, *unit)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse::<usize>().ok()?.checked_mul(unit)).flatten()
}

/// Reads a list; it is never empty.
fn servers(text: &str) -> Option<Value> {
    let servers: Option<Vec<Address>> = text.split(',').map(|server| server.trim().parse().ok()).collect();
    servers.map(Value::Servers)
}

impl Value {
    /// As it appears in JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Count(number) => (*number).into(),
            Self::Switch(on) => (*on).into(),
            _ => self.to_string().into(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Text(text) => f.write_str(text),
            Self::Count(number) => write!(f, "{number}"),
            Self::Size(bytes) => {
                let fits = |(_, unit): &&(&str, usize)| *bytes > 0 && bytes.is_multiple_of(*unit);
                match UNITS.iter().find(fits) {
                    Some((name, unit)) => write!(f, "{}{name}", bytes / unit),
                    None => write!(f, "{bytes}"),
                }
            }
            Self::Switch(on) => write!(f, "{on}"),
            Self::Servers(servers) => {
                let servers: Vec<String> = servers.iter().map(Address::to_string).collect();
                f.write_str(&servers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_have_a_port() {
        for good in ["127.0.0.1:9092", "localhost:0", "[::1]:9092", "0.0.0.0:65535"] {
            assert_eq!(Kind::Listen.parse(good), Ok(Value::Text(good.to_owned())));
        }
        for bad in ["", "localhost", ":9092", "host:", "host:65536", "host:+1", "host:kafka"] {
            let allowed = Kind::Listen.parse(bad).expect_err(bad);
            assert!(allowed.contains("HOST:PORT"), "{allowed}");
        }
    }

    #[test]
    fn headers_have_names_that_can_be_seen() {
        assert_eq!(Kind::Header.parse("x-request-id"), Ok(Value::Text("x-request-id".to_owned())));
        let long = "x".repeat(HEADER_BYTES_MAX + 1);
        for bad in ["", "a b", "\u{e4}", long.as_str()] {
            let allowed = Kind::Header.parse(bad).expect_err(bad);
            assert!(allowed.contains("name of a header"), "{allowed}");
        }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let kind = Kind::Count { min: 1, max: 10 };
        assert_eq!(kind.parse("10"), Ok(Value::Count(10)));
        for bad in ["0", "11", "-1", "1.5", "", "one", "99999999999999999999"] {
            assert_eq!(kind.parse(bad), Err("write a whole number from 1 to 10".to_owned()), "{bad}");
        }
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        let kind = Kind::Size { min: 192 << 20 };
        for (text, bytes, shown) in [
            ("192MiB", 192 << 20, "192MiB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("209715200", 200 << 20, "200MiB"),
            ("209715201", (200 << 20) + 1, "209715201"),
        ] {
            let size = kind.parse(text).expect(text);
            assert_eq!((&size, size.to_string().as_str()), (&Value::Size(bytes), shown));
        }
        for bad in ["191MiB", "0", "", "MiB", "-1", "+300MiB", "1.5GiB", "300 MiB", "300mb", "99999999999GiB"]
        {
            let allowed = kind.parse(bad).expect_err(bad);
            assert_eq!(allowed, "write a size from 192MiB on, for example 1GiB", "{bad}");
        }
    }

    #[test]
    fn servers_are_a_list() {
        let parsed = Kind::Servers.parse("kafka://a:1, b:2").expect("two servers");
        assert_eq!(parsed.to_string(), "a:1,b:2");
        assert!(Kind::Servers.parse("").is_err());
        assert!(Kind::Servers.parse("a:1,,b:2").is_err());
    }

    #[test]
    fn a_switch_of_the_environment_is_one_of_a_few_words() {
        for (text, is_on) in [("true", true), ("Yes", true), ("on", true), ("1", true), ("FALSE", false)] {
            assert_eq!(switch(text), Ok(is_on), "{text}");
        }
        for off in ["no", "off", "0", ""] {
            assert_eq!(switch(off), Ok(false), "{off:?}");
        }
        for bad in ["flase", "disabled", "none", "2", " "] {
            assert_eq!(switch(bad), Err("write true or false".to_owned()), "{bad:?}");
        }
    }

    #[test]
    fn numbers_and_switches_are_themselves_in_json() {
        assert_eq!(Value::Count(3).json(), 3);
        assert_eq!(Value::Switch(true).json(), true);
        assert_eq!(Value::Text("x".to_owned()).json(), "x");
    }
}
