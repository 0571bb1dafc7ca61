//! Who may ask for what, decided before anything of a request is read but its head.
//!
//! The `Host` check is against DNS rebinding: a page of another site whose name suddenly stands for this
//! machine is of the same origin as the server, for the browser, and only the name gives it away. An
//! address cannot be rebound, so addresses are always allowed. The `Origin` check is against pages of
//! other sites that send what they may not read the answer of.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use courant_core::headers::TRACEPARENT;
use courant_core::trace::{Active, TraceContext};

use super::access::ApiSettings;
use super::problem::{
    BODY_TOO_LARGE, HOST_NOT_ALLOWED, ORIGIN_NOT_ALLOWED, Problem, READ_ONLY, UNAUTHORIZED,
};
use super::route::{Access, Route};
use super::{ApiState, PREFIX};
use crate::connections::Peer;
use crate::planted::{Defect, is_planted};

/// What stands before a handler.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) state: ApiState,
    pub(super) route: &'static Route,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Whose credential came with the request; `None` where none is needed.
    pub(crate) name: Option<String>,
    pub(crate) address: Option<SocketAddr>,
}

/// Lets a request through to its handler, with its [`Caller`], or answers it.
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let admitted = admit(guard.state.settings(), guard.route.access, request.headers());
    let admitted = admitted.and_then(|name| {
        check_length(request.headers(), guard.route.body_bytes_max())?;
        Ok(name)
    });
    match admitted {
        Ok(name) => {
            let address = request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0.0);
            request.extensions_mut().insert(Caller { name, address });
            let span = begin(&guard, request.headers_mut());
            let response = next.run(request).await;
            if let Some(mut span) = span {
                span.status(response.status().as_u16());
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Begins the span of a request, below what the client says of its own. What is published by the request is
/// made in it, and so it takes the place of the client's.
fn begin(guard: &Guard, headers: &mut HeaderMap) -> Option<Active> {
    let parent = TraceContext::of(headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()));
    let parent = parent.filter(|_| !is_planted(Defect::SpansWithoutParents));
    let (method, path) = (guard.route.method.word().to_ascii_uppercase(), guard.route.path);
    let span = guard.state.status().tracer().http(&method, &format!("{PREFIX}{path}"), parent)?;
    if let Ok(value) = HeaderValue::from_str(&span.context().to_string())
        && !is_planted(Defect::OutsideOfSpans)
    {
        headers.insert(TRACEPARENT, value);
    }
    Some(span)
}

/// Whether who sends these headers may read what is not in the table of routes.
pub(super) fn may_read(settings: &ApiSettings, headers: &HeaderMap) -> Result<(), Problem> {
    admit(settings, Access::Read, headers).map(|_| ())
}

/// Refuses a body that says it is too large, before any of it is read. One that does not say it is cut off
/// where it becomes so.
fn check_length(headers: &HeaderMap, bytes_max: usize) -> Result<(), Problem> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > bytes_max as u64 => {
            let sentence = format!("a body of {length} bytes is announced, and {bytes_max} are read here");
            Err(Problem::new(&BODY_TOO_LARGE, sentence))
        }
        _ => Ok(()),
    }
}

/// The name of who asks, where the settings want one.
fn admit(settings: &ApiSettings, access: Access, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let host = check_host(settings, headers)?;
    match access {
        Access::Stream | Access::Change => check_origin(headers, host)?,
        Access::Read => check_embedded(headers)?,
        Access::Open => {}
    }
    let name = match (&settings.tokens, access) {
        (None, _) | (_, Access::Open) => None,
        (Some(tokens), _) => {
            let name = bearer(headers).and_then(|token| tokens.name_of(token));
            let problem = || {
                let sentence = "send a token of the server's token file, as `Authorization: Bearer TOKEN`";
                Problem::new(&UNAUTHORIZED, sentence)
            };
            Some(name.ok_or_else(problem)?.to_owned())
        }
    };
    if access == Access::Change && settings.read_only {
        let sentence = "the server was started with --api-read-only; nothing was changed";
        return Err(Problem::new(&READ_ONLY, sentence));
    }
    Ok(name)
}

/// The `Host` header, if the server is known by that name.
fn check_host<'a>(settings: &ApiSettings, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
    let refused = |sentence: String| Problem::new(&HOST_NOT_ALLOWED, sentence);
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(refused("send one Host header".to_owned()));
    };
    let host = host.to_str().map_err(|_| refused("the Host header is no name".to_owned()))?;
    let name = without_port(host);
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address = inner.unwrap_or(name).parse::<IpAddr>().is_ok();
    let is_known = |known: &String| known.eq_ignore_ascii_case(name);
    if is_address || name.eq_ignore_ascii_case("localhost") || settings.hosts.iter().any(is_known) {
        return Ok(host);
    }
    Err(refused(format!(
        "this server is not known as {name:?}; if it is that, start it with --api-hosts {name}"
    )))
}

/// Browsers say which page a request is from. Other programs need not.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    // Behind a proxy that ends TLS the schemes differ, so only what follows them is compared.
    let is_own = |origin: &str| {
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    };
    for origin in headers.get_all(header::ORIGIN) {
        if !origin.to_str().is_ok_and(is_own) && !is_planted(Defect::AnyOrigin) {
            return Err(of_other_site());
        }
    }
    if is_of_other_site(headers) { Err(of_other_site()) } else { Ok(()) }
}

/// A page of another site cannot read what it has embedded, but it can make the server work, and see how long
/// that takes. Whoever follows a link to an answer may see it.
fn check_embedded(headers: &HeaderMap) -> Result<(), Problem> {
    let is_visit = headers.get("sec-fetch-dest").is_some_and(|place| place == "document");
    if is_of_other_site(headers) && !is_visit { Err(of_other_site()) } else { Ok(()) }
}

/// Whether a browser says that a page of another site has caused the request.
fn is_of_other_site(headers: &HeaderMap) -> bool {
    headers.get_all("sec-fetch-site").iter().any(|site| site != "same-origin" && site != "none")
}

fn of_other_site() -> Problem {
    let sentence = "a browser sent this for a page of another site; use the server's own pages, or a program \
                    that is no browser";
    Problem::new(&ORIGIN_NOT_ALLOWED, sentence)
}

/// The name in `name:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_bare_ipv6(host) => name,
        _ => host,
    }
}

/// An IPv6 address without brackets, which has no port.
fn is_bare_ipv6(host: &str) -> bool {
    !host.starts_with('[') && host.matches(':').count() > 1
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiTokens;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a header's name");
            let value: HeaderValue = value.parse().expect("a header's value");
            headers.append(name, value);
        }
        headers
    }

    #[track_caller]
    fn refused(settings: &ApiSettings, access: Access, lines: &[(&str, &str)], code: &str) {
        let refused = admit(settings, access, &headers(lines)).expect_err(code);
        assert_eq!(refused.kind.code, code, "{lines:?}");
    }

    #[track_caller]
    fn admitted(settings: &ApiSettings, access: Access, lines: &[(&str, &str)]) -> Option<String> {
        admit(settings, access, &headers(lines)).expect("it is let in")
    }

    #[test]
    fn the_server_answers_to_its_own_names_only() {
        let mut settings = ApiSettings::default();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "10.1.2.3:80"] {
            admitted(&settings, Access::Open, &[("host", host)]);
        }
        for host in
            ["[::1", "127.0.0.1]", "[[::1]]", "127.0.0.1.", "localhost:8080:80", "localhost:x", "localhost@x"]
        {
            refused(&settings, Access::Open, &[("host", host)], "host_not_allowed");
        }
        for host in ["rebound.example", "localhost.rebound.example:8080", "127.0.0.1.example", "", "[::1].x"]
        {
            refused(&settings, Access::Open, &[("host", host)], "host_not_allowed");
        }
        refused(&settings, Access::Open, &[], "host_not_allowed");
        let two = [("host", "localhost"), ("host", "localhost")];
        refused(&settings, Access::Open, &two, "host_not_allowed");
        settings.hosts.push("events.example".to_owned());
        admitted(&settings, Access::Open, &[("host", "Events.example:8080")]);
        refused(&settings, Access::Open, &[("host", "other.example")], "host_not_allowed");
    }

    #[test]
    fn pages_of_other_sites_change_nothing_and_listen_to_nothing() {
        let settings = ApiSettings::default();
        let host = ("host", "localhost:8080");
        for access in [Access::Change, Access::Stream] {
            for origin in ["http://evil.example", "null", "http://localhost:8081", "localhost:8080"] {
                refused(&settings, access, &[host, ("origin", origin)], "origin_not_allowed");
            }
            refused(&settings, access, &[host, ("sec-fetch-site", "cross-site")], "origin_not_allowed");
            refused(&settings, access, &[host, ("sec-fetch-site", "same-site")], "origin_not_allowed");
            admitted(&settings, access, &[host, ("origin", "http://localhost:8080")]);
            admitted(&settings, access, &[host, ("origin", "https://localhost:8080")]);
            admitted(&settings, access, &[host, ("sec-fetch-site", "same-origin")]);
            admitted(&settings, access, &[host]);
        }
        admitted(&settings, Access::Read, &[host, ("origin", "http://evil.example")]);
        let embedded = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "image")];
        refused(&settings, Access::Read, &embedded, "origin_not_allowed");
        let followed = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")];
        admitted(&settings, Access::Read, &followed);
        refused(&settings, Access::Stream, &followed, "origin_not_allowed");
        // An origin is a scheme, a name and a port, whatever the name looks like.
        let host = ("host", "[::1]:8080");
        admitted(&settings, Access::Change, &[host, ("origin", "http://[::1]:8080")]);
        for origin in ["http://[::1]", "http://[::1]:8081", "http://[::2]:8080", "http://x://[::1]:8080"] {
            refused(&settings, Access::Change, &[host, ("origin", origin)], "origin_not_allowed");
        }
        let two = [host, ("origin", "http://[::1]:8080"), ("origin", "http://evil.example")];
        refused(&settings, Access::Change, &two, "origin_not_allowed");
    }

    #[test]
    fn a_body_that_is_too_large_is_refused_by_what_it_says() {
        let length = |length: &str| check_length(&headers(&[("content-length", length)]), 100);
        length("100").expect("as much as there may be");
        assert_eq!(length("101").expect_err("more").kind.code, "body_too_large");
        check_length(&HeaderMap::new(), 100).expect("it does not say");
    }

    #[test]
    fn in_read_only_mode_everything_can_be_read() {
        let settings = ApiSettings { read_only: true, ..ApiSettings::default() };
        let host = [("host", "localhost")];
        refused(&settings, Access::Change, &host, "read_only");
        for access in [Access::Open, Access::Read, Access::Stream] {
            admitted(&settings, access, &host);
        }
    }

    #[test]
    fn a_token_file_is_a_door_and_says_who_came() {
        let tokens = ApiTokens::parse("ci 0123456789abcdef").expect("a good file");
        let settings = ApiSettings { tokens: Some(tokens), ..ApiSettings::default() };
        let host = ("host", "localhost");
        for value in ["Bearer 0123456789abcdeg", "Basic 0123456789abcdef", "0123456789abcdef", "Bearer "] {
            refused(&settings, Access::Read, &[host, ("authorization", value)], "unauthorized");
        }
        refused(&settings, Access::Change, &[host], "unauthorized");
        assert_eq!(admitted(&settings, Access::Open, &[host]), None);
        let with = [host, ("authorization", "bearer 0123456789abcdef")];
        assert_eq!(admitted(&settings, Access::Change, &with), Some("ci".to_owned()));
    }
}
