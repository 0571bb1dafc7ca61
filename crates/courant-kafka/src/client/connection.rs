//! One connection to one server: one request at a time, and answers of bounded size.

use super::{Address, CallError};
use crate::tls::{ClientSocket, ClientTls};
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{ErrorCode, Message, Request, Response, WireError, decode_response, encode_request};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest answer that is read.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How far the buffer runs ahead of the bytes that have arrived, at first. It doubles with them, so
/// an answer that is announced and never sent costs next to nothing.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// Bytes of the correlation id, which every answer begins with.
const CORRELATION_BYTES: usize = 4;

/// Name that the server's logs and metrics show for this client (KIP-511).
const SOFTWARE_NAME: &str = "courant";

/// A connection whose server has said what it speaks.
#[derive(Debug)]
pub struct Connection {
    stream: ClientSocket,
    address: String,
    client_id: String,
    timeout: Duration,
    /// API key to the lowest and highest version that the server offers.
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
    /// A request was written and its answer not read: whatever comes next is not for us to guess.
    broken: bool,
}

impl Connection {
    /// Connects, and asks which versions the server speaks.
    ///
    /// # Errors
    /// Nothing answers in `limit`, or what answers is no Kafka server.
    pub async fn open(
        address: &Address,
        client_id: &str,
        limit: Duration,
        tls: Option<&ClientTls>,
    ) -> Result<Self, CallError> {
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let stream = match timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let stream = stream
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| CallError::Unreachable { address: address.to_string(), source })?;
        let shaken = match timeout(limit, ClientSocket::over(stream, &address.host, tls)).await {
            Ok(shaken) => shaken,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let stream = shaken.map_err(|source| CallError::Tls { address: address.to_string(), source })?;
        let mut connection = Self {
            stream,
            address: address.to_string(),
            client_id: client_id.to_owned(),
            timeout: limit,
            versions: BTreeMap::new(),
            correlation_id: 0,
            broken: false,
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    /// Whether the next request can be sent here.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.broken
    }

    /// The highest version of an API that both sides know, not above `version_max`.
    ///
    /// # Errors
    /// [`CallError::Unsupported`].
    pub fn version_of<R: Request>(&self, version_max: i16) -> Result<i16, CallError> {
        let unsupported = || CallError::Unsupported { address: self.address.clone(), api: R::KEY.name() };
        let (min, max) = self.versions.get(&R::KEY.0).ok_or_else(unsupported)?;
        let version = (*max).min(*R::VERSIONS.end()).min(version_max);
        if version < *min || version < *R::VERSIONS.start() {
            return Err(unsupported());
        }
        Ok(version)
    }

    /// Sends a request in `version` and waits for its answer.
    ///
    /// A call that fails, or that is dropped before it ends, leaves the connection unusable.
    ///
    /// # Errors
    /// No answer in time, a broken connection, or an answer that is none.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, CallError> {
        let frame = self.exchange(request, version).await?;
        self.read_body(R::KEY.name(), frame, version)
    }

    /// Asks with the newest ApiVersions; a server that does not know it says so in version 0.
    async fn negotiate(&mut self) -> Result<(), CallError> {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let newest = *ApiVersionsRequest::VERSIONS.end();
        let mut frame = self.exchange(&request, newest).await?;
        let mut version = newest;
        if leading_error_code(&frame) == Some(ErrorCode::UNSUPPORTED_VERSION) {
            version = 0;
            frame = self.exchange(&request, version).await?;
        }
        let response: ApiVersionsResponse = self.read_body("ApiVersions", frame, version)?;
        if response.error_code != 0 {
            let code = ErrorCode(response.error_code);
            return Err(self.not_kafka(format!("it answers ApiVersions with {code}")));
        }
        self.versions =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    /// Writes a request and reads the frame of its answer, without the length.
    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, CallError> {
        let api = R::KEY.name();
        if self.broken {
            return Err(self.lost(io::ErrorKind::NotConnected.into()));
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let id = self.correlation_id;
        let chunks = encode_request(request, version, id, Some(&self.client_id))
            .map_err(|source| CallError::Unwritable { api, source })?;
        self.broken = true;
        let stream = &mut self.stream;
        let answer = async move {
            for chunk in &chunks {
                stream.write_all(chunk).await?;
            }
            stream.flush().await?;
            read_frame(stream).await
        };
        let frame = match timeout(self.timeout, answer).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(FrameError::Io(source))) => return Err(self.lost(source)),
            Ok(Err(FrameError::Length(length))) => return Err(self.bad_length(length)),
            Err(_) => {
                return Err(CallError::TimedOut { address: self.address.clone(), api, after: self.timeout });
            }
        };
        let answered = frame.first_chunk::<CORRELATION_BYTES>().copied();
        if answered.map(i32::from_be_bytes) != Some(id) {
            return Err(self.not_kafka("it answers another request than was sent".to_owned()));
        }
        self.broken = false;
        Ok(frame)
    }

    fn read_body<R: Response>(&mut self, api: &str, frame: Bytes, version: i16) -> Result<R, CallError> {
        match decode_response::<R>(frame, version) {
            Ok((_, body)) => Ok(body),
            Err(error) => {
                self.broken = true;
                Err(self.unreadable(api, &error))
            }
        }
    }

    fn unreadable(&self, api: &str, error: &WireError) -> CallError {
        self.not_kafka(format!("its answer to {api} cannot be read: {error}"))
    }

    fn lost(&self, source: io::Error) -> CallError {
        // A server of another protocol often hangs up at the first request.
        if self.versions.is_empty() && source.kind() == io::ErrorKind::UnexpectedEof {
            let hint = match self.stream {
                ClientSocket::Plain(_) => ", as servers with TLS do",
                ClientSocket::Tls(_) => "",
            };
            return self.not_kafka(format!("it hung up at the first request{hint}"));
        }
        CallError::Lost { address: self.address.clone(), source }
    }

    fn bad_length(&self, length: i32) -> CallError {
        // The first bytes of an HTTP or TLS answer read as a length of hundreds of megabytes.
        if length.to_be_bytes() == *b"HTTP" {
            return self.not_kafka("it answers by HTTP".to_owned());
        }
        match u64::try_from(length) {
            Ok(bytes) if bytes > 0 && !self.versions.is_empty() => {
                CallError::TooLarge { address: self.address.clone(), bytes, max: RESPONSE_BYTES_MAX }
            }
            _ => self.not_kafka(format!("it announces an answer of {length} bytes")),
        }
    }

    fn not_kafka(&self, reason: String) -> CallError {
        CallError::NotKafka { address: self.address.clone(), reason }
    }
}

/// Why there is no frame.
enum FrameError {
    Io(io::Error),
    /// The length is negative, too small to be an answer, or above the bound.
    Length(i32),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a length and as many bytes. The memory grows with the bytes that arrive.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, FrameError> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await?;
    let length = i32::from_be_bytes(length);
    let bytes = usize::try_from(length).map_err(|_| FrameError::Length(length))?;
    if !(CORRELATION_BYTES..=RESPONSE_BYTES_MAX).contains(&bytes) {
        return Err(FrameError::Length(length));
    }
    let mut frame = BytesMut::new();
    while frame.len() < bytes {
        let missing = bytes - frame.len();
        if frame.capacity() == frame.len() {
            frame.reserve(missing.min(READ_AHEAD_BYTES.max(frame.len())));
        }
        let mut rest = (&mut *stream).take(missing as u64);
        if rest.read_buf(&mut frame).await? == 0 {
            return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(frame.freeze())
}

/// The error code of an ApiVersions answer, which stands first in every version.
fn leading_error_code(frame: &[u8]) -> Option<ErrorCode> {
    let after_id = frame.get(CORRELATION_BYTES..)?;
    let code = after_id.first_chunk::<2>().copied()?;
    Some(ErrorCode(i16::from_be_bytes(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_response;
    use crate::wire::messages::{ApiVersion, MetadataRequest};
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A server that gives these answers, one per request, and then hangs up.
    async fn serve(answers: Vec<Vec<u8>>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            for answer in answers {
                let length = stream.read_i32().await.expect("a request");
                let mut request = vec![0; usize::try_from(length).expect("a length")];
                stream.read_exact(&mut request).await.expect("a request");
                stream.write_all(&answer).await.expect("the client reads");
            }
        });
        Address { host: "127.0.0.1".to_owned(), port }
    }

    fn api_versions(error_code: ErrorCode, version: i16, correlation_id: i32) -> Vec<u8> {
        let response = ApiVersionsResponse {
            error_code: error_code.0,
            api_keys: vec![ApiVersion { api_key: 3, min_version: 0, max_version: 9 }],
            ..ApiVersionsResponse::default()
        };
        encode_response(&response, version, correlation_id).expect("a response").concat()
    }

    async fn open(answers: Vec<Vec<u8>>) -> Result<Connection, CallError> {
        Connection::open(&serve(answers).await, "test", LIMIT, None).await
    }

    #[tokio::test]
    async fn takes_the_highest_version_that_both_know() {
        let connection = open(vec![api_versions(ErrorCode::NONE, 4, 1)]).await.expect("a Kafka server");
        let version = connection.version_of::<MetadataRequest>(i16::MAX);
        assert_eq!(version.expect("offered"), 9);
        let version = connection.version_of::<MetadataRequest>(5);
        assert_eq!(version.expect("offered"), 5);
        assert!(matches!(
            connection.version_of::<crate::wire::messages::FetchRequest>(i16::MAX),
            Err(CallError::Unsupported { api: "Fetch", .. })
        ));
    }

    #[tokio::test]
    async fn falls_back_to_version_0_when_told_so() {
        let connection = open(vec![
            api_versions(ErrorCode::UNSUPPORTED_VERSION, 0, 1),
            api_versions(ErrorCode::NONE, 0, 2),
        ])
        .await
        .expect("an older Kafka server");
        assert!(connection.is_usable());
    }

    #[tokio::test]
    async fn other_protocols_are_named_as_such() {
        let strangers = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46],
            vec![0xff; 16],
            vec![0; 16],
            Vec::new(),
        ];
        for answer in strangers {
            let error = open(vec![answer.clone()]).await.expect_err("not Kafka");
            assert!(matches!(error, CallError::NotKafka { .. }), "{answer:?}: {error}");
            let is_http = answer.starts_with(b"HTTP");
            assert_eq!(error.to_string().ends_with("it answers by HTTP"), is_http, "{error}");
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_announced_and_not_sent_is_an_end_of_file() {
        let mut announced: &[u8] = &[0x03, 0xff, 0xff, 0xff, 0, 0, 0, 1];
        let error = read_frame(&mut announced).await.expect_err("cut off");
        assert!(matches!(error, FrameError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn a_whole_frame_is_read_and_nothing_after_it() {
        let body = vec![7_u8; 200_000];
        let mut bytes = 200_000_i32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&body);
        bytes.push(9);
        let mut input: &[u8] = &bytes;
        let Ok(frame) = read_frame(&mut input).await else {
            panic!("a whole frame");
        };
        assert_eq!(frame, body);
        assert_eq!(input, [9]);
    }

    #[tokio::test]
    async fn a_lost_connection_is_not_used_again() {
        let mut connection = open(vec![api_versions(ErrorCode::NONE, 4, 1)]).await.expect("a Kafka server");
        let request = MetadataRequest::default();
        let first = connection.call(&request, 1).await;
        assert!(matches!(first, Err(CallError::Lost { .. })));
        assert!(!connection.is_usable());
        let second = connection.call(&request, 1).await;
        assert!(matches!(second, Err(CallError::Lost { .. })));
    }
}
