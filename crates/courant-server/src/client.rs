//! The small client of the HTTP API that the command line has: a request, an answer, and the connection is
//! over.
//!
//! It speaks HTTP/1.0, in which an answer ends with its connection.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use courant_kafka::tls::{ClientSocket, ClientTls};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Characters of a problem's detail that are kept.
const DETAIL_CHARS_MAX: usize = 2000;

/// Where an HTTP API is, as `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl {
    /// As it stands in the URL, an IPv6 address in brackets.
    host: String,
    port: u16,
    /// Whether it says `https`.
    tls: bool,
}

/// Why something is no address of an HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidApiUrl {
    /// It has another form.
    #[error("write http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:8080")]
    Form,
}

impl FromStr for ApiUrl {
    type Err = InvalidApiUrl;

    fn from_str(text: &str) -> Result<Self, InvalidApiUrl> {
        let (authority, tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(authority), _) => (authority, false),
            (None, Some(authority)) => (authority, true),
            (None, None) => return Err(InvalidApiUrl::Form),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ if tls => (authority, "443"),
            _ => (authority, "80"),
        };
        let is_bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_inside = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'[' | b']');
        let is_host = if is_bracketed {
            host.bytes().all(is_inside)
        } else {
            !host.is_empty() && host.bytes().all(is_plain)
        };
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        match port {
            Some(port) if is_host => Ok(Self { host: host.to_owned(), port, tls }),
            _ => Err(InvalidApiUrl::Form),
        }
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Who asks an HTTP API.
#[derive(Clone)]
pub struct ApiClient {
    url: ApiUrl,
    token: Option<String>,
    timeout: Duration,
    tls: Option<ClientTls>,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Nobody is there.
    #[error("nothing answers at {url} ({source})")]
    Unreachable {
        /// Where.
        url: ApiUrl,
        /// What the system says.
        source: io::Error,
    },
    /// TLS is asked for, and nobody is named who may be believed.
    #[error("{url} is spoken to with TLS, and it is not said whom to trust")]
    NoAuthority {
        /// Where.
        url: ApiUrl,
    },
    /// Somebody is there, and there is no TLS with them.
    #[error("there is no TLS with {url}: {source}")]
    Tls {
        /// Where.
        url: ApiUrl,
        /// Why the server is not believed, or what it says.
        source: io::Error,
    },
    /// It takes too long.
    #[error("{url} does not answer within {after:?}")]
    TimedOut {
        /// Where.
        url: ApiUrl,
        /// How long it was waited for.
        after: Duration,
    },
    /// Something else is there.
    #[error("what answers at {url} is no HTTP API of Courant")]
    NotTheApi {
        /// Where.
        url: ApiUrl,
    },
    /// A token would end the line that it is sent in.
    #[error("the token cannot be sent: it has a character that no header takes")]
    Token,
    /// The server says what is wrong.
    #[error("{detail}")]
    Problem {
        /// The status of the answer.
        status: u16,
        /// The kind of problem, which never changes its meaning.
        code: String,
        /// What is wrong and what to do.
        detail: String,
    },
}

/// A problem on the wire.
#[derive(Deserialize)]
struct Written {
    code: String,
    detail: String,
}

impl ApiClient {
    /// Asks the server at `url`, in the name that `token` has there, and waits so long for each answer.
    #[must_use]
    pub fn new(url: ApiUrl, token: Option<String>, timeout: Duration) -> Self {
        Self { url, token, timeout, tls: None }
    }

    /// The same, for a URL with `https`: believes whom `tls` believes.
    #[must_use]
    pub fn with_tls(self, tls: Option<ClientTls>) -> Self {
        Self { tls, ..self }
    }

    /// Where it asks.
    #[must_use]
    pub fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// Asks for something below `/api/v1`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask("GET", path, None).await
    }

    /// Sends JSON to something below `/api/v1`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, ApiError> {
        self.ask("POST", path, Some(body.to_string())).await
    }

    /// Ends something below `/api/v1`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask("DELETE", path, None).await
    }

    /// The figures at `/metrics`, which are no JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn metrics(&self) -> Result<String, ApiError> {
        let page = self.answer(&self.request("GET", "/metrics", None)?).await?;
        String::from_utf8(page).map_err(|_| self.not_the_api())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, ApiError> {
        let request = self.request(method, &format!("/api/v1{path}"), body)?;
        serde_json::from_slice(&self.answer(&request).await?).map_err(|_| self.not_the_api())
    }

    /// The body of a good answer.
    async fn answer(&self, request: &str) -> Result<Vec<u8>, ApiError> {
        if self.url.tls && self.tls.is_none() {
            return Err(ApiError::NoAuthority { url: self.url.clone() });
        }
        let answer = match timeout(self.timeout, self.exchange(request)).await {
            Ok(Ok(answer)) => answer,
            // What is wrong with a certificate, or is no TLS, is wrong data and not a dead socket.
            Ok(Err(source)) if self.url.tls && source.kind() == io::ErrorKind::InvalidData => {
                return Err(ApiError::Tls { url: self.url.clone(), source });
            }
            Ok(Err(source)) => return Err(ApiError::Unreachable { url: self.url.clone(), source }),
            Err(_) => return Err(ApiError::TimedOut { url: self.url.clone(), after: self.timeout }),
        };
        let (status, body) = parsed(&answer).ok_or_else(|| self.not_the_api())?;
        if (200..300).contains(&status) {
            return Ok(body.to_vec());
        }
        let Written { code, detail } = serde_json::from_slice(body).map_err(|_| self.not_the_api())?;
        Err(ApiError::Problem { status, code, detail: detail.chars().take(DETAIL_CHARS_MAX).collect() })
    }

    fn not_the_api(&self) -> ApiError {
        ApiError::NotTheApi { url: self.url.clone() }
    }

    fn request(&self, method: &str, path: &str, body: Option<String>) -> Result<String, ApiError> {
        let ApiUrl { host, port, .. } = &self.url;
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}:{port}\r\n");
        if let Some(token) = &self.token {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(ApiError::Token);
            }
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        match body {
            Some(body) => {
                request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
                request += "\r\n";
                request += &body;
            }
            None => request += "\r\n",
        }
        Ok(request)
    }

    async fn exchange(&self, request: &str) -> io::Result<Vec<u8>> {
        let host = self.url.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.url.port)).await?;
        let tls = self.tls.as_ref().filter(|_| self.url.tls);
        let mut stream = ClientSocket::over(stream, host, tls).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        let read = stream.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut answer).await?;
        if read > ANSWER_BYTES_MAX {
            let sentence = format!("the answer has more than {ANSWER_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, sentence));
        }
        Ok(answer)
    }
}

/// Status and body of an answer.
fn parsed(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    Some((status, &answer[end + 4..]))
}

/// A name as one part of a path.
#[must_use]
pub fn path_part(name: &str) -> String {
    let mut part = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            part.push(char::from(byte));
        } else {
            part += &format!("%{byte:02X}");
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let shown = |text: &str| text.parse::<ApiUrl>().map(|url| url.to_string());
        assert_eq!(shown("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(shown("http://events.example/"), Ok("http://events.example:80".to_owned()));
        assert_eq!(shown("http://[::1]:8080/"), Ok("http://[::1]:8080".to_owned()));
        assert_eq!(shown("http://[::1]"), Ok("http://[::1]:80".to_owned()));
        assert_eq!(shown("https://events.example"), Ok("https://events.example:443".to_owned()));
        assert_eq!(shown("https://[::1]:8443/"), Ok("https://[::1]:8443".to_owned()));
        for bad in [
            "",
            "localhost:8080",
            "ftp://a:80",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:x",
            "http://a/b",
        ] {
            assert_eq!(shown(bad), Err(InvalidApiUrl::Form), "{bad}");
        }
        assert_eq!(shown("http://a\r\nX: y:80"), Err(InvalidApiUrl::Form));
    }

    #[test]
    fn names_in_a_path_are_encoded() {
        assert_eq!(path_part("a/b c?ä"), "a%2Fb%20c%3F%C3%A4");
        assert_eq!(path_part("order-7_1.x~"), "order-7_1.x~");
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(parsed(b"HTTP/1.0 404 Not Found\r\na: b\r\n\r\n{}"), Some((404, &b"{}"[..])));
        for bad in [&b"HTTP/1.0 200 OK\r\n"[..], b"SSH-2.0-x\r\n\r\n", b"\r\n\r\n", b""] {
            assert_eq!(parsed(bad), None);
        }
    }

    #[test]
    fn a_token_that_ends_its_line_is_not_sent() {
        let client = |token: &str| {
            let url = "http://localhost:8080".parse().expect("a URL");
            ApiClient::new(url, Some(token.to_owned()), Duration::from_secs(1))
        };
        let request = client("secret").request("GET", "/api/v1/health", None).expect("a request");
        let expected = "GET /api/v1/health HTTP/1.0\r\nHost: localhost:8080\r\n\
                        Authorization: Bearer secret\r\n\r\n";
        assert_eq!(request, expected);
        assert!(client("a\r\nb").request("GET", "/api/v1/health", None).is_err());
        assert!(!format!("{:?}", client("secret")).contains("secret"));
    }
}
