//! What `courant serve` says when it is up: where it is, and lines to paste into another terminal.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use courant_server::RecoveryReport;
use jiff::Timestamp;

/// The address of a client that is told nothing, as in `--server`'s default.
const DEFAULT_SERVER: &str = "127.0.0.1:9092";

/// What the banner names.
#[derive(Clone, Debug)]
pub(crate) struct Banner<'a> {
    /// Where Kafka clients connect.
    pub(crate) kafka: SocketAddr,
    /// Where HTTP answers.
    pub(crate) http: SocketAddr,
    /// What clients are told to use, if it is not the above.
    pub(crate) advertise: Option<&'a str>,
    /// Until when the certificate is good, where TLS is spoken.
    pub(crate) tls_until: Option<Timestamp>,
    pub(crate) data: &'a Path,
    /// What the start found, when the last stop was not in order.
    pub(crate) recovery: Option<String>,
}

/// One sentence on a replayed journal; `None` when there was nothing to replay.
pub(crate) fn recovery(report: &RecoveryReport) -> Option<String> {
    if report.replayed_groups == 0 && !report.torn_tail {
        return None;
    }
    let kib = report.replayed_bytes.div_ceil(1024);
    let torn = if report.torn_tail { "; an unacknowledged last write was dropped" } else { "" };
    Some(format!("{kib} KiB replayed from the journal{torn}"))
}

impl Banner<'_> {
    /// The lines before `ready`. Programs read the lines `kafka` and `http`: they keep their form.
    pub(crate) fn text(&self, with_examples: bool) -> String {
        let mut text = String::new();
        let client = match self.advertise {
            Some(advertise) => advertise.to_owned(),
            None => reachable(self.kafka).to_string(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "courant {}", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(text, "  kafka    {}", self.kafka);
        let scheme = if self.tls_until.is_some() { "https" } else { "http" };
        let _ = writeln!(text, "  http     {scheme}://{}", self.http);
        if let Some(advertise) = self.advertise {
            let _ = writeln!(text, "  clients  {advertise}");
        }
        let _ = writeln!(text, "  data     {}", self.data.display());
        let _ = match self.tls_until {
            Some(until) => writeln!(text, "  tls      on; the certificate is good until {until}"),
            None => writeln!(text, "  tls      off"),
        };
        if let Some(recovery) = &self.recovery {
            let _ = writeln!(text, "  recovery {recovery}");
        }
        if with_examples {
            let server = if client == DEFAULT_SERVER { String::new() } else { format!(" --server {client}") };
            let (ssl, ca) = match self.tls_until {
                Some(_) => (" -X security.protocol=ssl -X ssl.ca.location=CA.pem", " --tls-ca CA.pem"),
                None => ("", ""),
            };
            let _ = writeln!(text, "Try, in another terminal:");
            let _ = writeln!(text, "  echo hello | kcat -b {client}{ssl} -t demo -P");
            let _ = writeln!(text, "  courant tail demo --from start --follow{server}{ca}");
            let _ = writeln!(
                text,
                "Look at it: {scheme}://{} in a browser. Ctrl-C stops the server.",
                reachable(self.http)
            );
        }
        text
    }
}

/// An address to connect to, for one that listens everywhere.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(kafka: &str, advertise: Option<&str>) -> String {
        let banner = Banner {
            kafka: kafka.parse().expect("an address"),
            http: "127.0.0.1:43211".parse().expect("an address"),
            advertise,
            tls_until: None,
            data: Path::new("./courant-data"),
            recovery: None,
        };
        banner.text(true)
    }

    #[test]
    fn addresses_have_lines_of_their_own() {
        let text = banner("127.0.0.1:41233", None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"  kafka    127.0.0.1:41233"), "{text}");
        assert!(lines.contains(&"  http     http://127.0.0.1:43211"), "{text}");
        assert!(text.contains("kcat -b 127.0.0.1:41233 -t demo -P"), "{text}");
        assert!(text.contains("--follow --server 127.0.0.1:41233"), "{text}");
        assert!(text.contains("http://127.0.0.1:43211 in a browser"), "{text}");
        assert!(lines.len() <= 14, "it fits on a screen");
    }

    #[test]
    fn whether_tls_is_spoken_has_a_line() {
        assert!(banner("127.0.0.1:9092", None).contains("\n  tls      off\n"));
        let banner = Banner {
            kafka: "127.0.0.1:9092".parse().expect("an address"),
            http: "127.0.0.1:8443".parse().expect("an address"),
            advertise: None,
            tls_until: "2027-01-31T12:00:00Z".parse().ok(),
            data: Path::new("./courant-data"),
            recovery: None,
        };
        let text = banner.text(true);
        assert!(
            text.contains("\n  tls      on; the certificate is good until 2027-01-31T12:00:00Z\n"),
            "{text}"
        );
        assert!(text.contains("\n  http     https://127.0.0.1:8443\n"), "{text}");
        assert!(text.contains("security.protocol=ssl") && text.contains("--follow --tls-ca"), "{text}");
        assert!(text.contains("Look at it: https://127.0.0.1:8443"), "{text}");
    }

    #[test]
    fn examples_name_an_address_that_a_client_can_use() {
        assert!(banner("127.0.0.1:9092", None).contains("--follow\n"));
        assert!(banner("0.0.0.0:9092", None).contains("kcat -b 127.0.0.1:9092"));
        assert!(banner("[::]:9092", None).contains("kcat -b [::1]:9092"));
        assert!(banner("0.0.0.0:9092", Some("box:9092")).contains("kcat -b box:9092"));
    }
}
