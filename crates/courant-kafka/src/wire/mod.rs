//! The Kafka wire protocol: a table-driven codec without I/O.
//!
//! Invariants, for any input:
//! * reading never panics, and never reserves memory for a count or a length
//!   that the input cannot hold;
//! * a decoded response is followed by nothing ([`decode_body`]); what follows a request is not
//!   looked at ([`decode_request`]);
//! * record batches are slices of the frame they came in ([`Reader`]), and are
//!   referenced, not copied, by the frame they leave in ([`Writer`]).
//!
//! Nesting is as deep as the tables are, never as deep as the input says.

mod api_key;
mod error;
mod error_code;
mod field;
mod header;
#[cfg(test)]
mod hostile_tests;
mod message;
pub mod messages;
#[cfg(test)]
mod oracle_tests;
mod reader;
#[cfg(test)]
mod sampler;
mod versions;
mod writer;

pub use api_key::ApiKey;
pub use error::WireError;
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader};
pub use message::{Message, Request, Response};
pub use reader::Reader;
pub use versions::{ApiRange, range_of, supported_apis};
pub use writer::{MAX_MESSAGE_BYTES, SHARE_FROM_BYTES, Writer};

use bytes::Bytes;

/// Reads a body: a message that fills the rest of the input.
///
/// # Errors
/// The version is not supported, or the input is not exactly one message of
/// it.
pub fn decode_body<M: Message>(reader: &mut Reader, version: i16) -> Result<M, WireError> {
    check_version::<M>(version)?;
    let message = M::decode(reader, version)?;
    reader.finish()?;
    Ok(message)
}

/// Reads the body of a request.
///
/// What stands behind it is left alone, as Kafka does: librdkafka 2.12 writes the count of an empty list
/// of topics four bytes long where one is meant, which makes a Metadata request for all topics with three
/// bytes behind it.
///
/// # Errors
/// The version is not supported, or the input does not begin with a request of it.
pub fn decode_request<R: Request>(reader: &mut Reader, version: i16) -> Result<R, WireError> {
    check_version::<R>(version)?;
    R::decode(reader, version)
}

/// Writes a request as a whole frame, length and header included.
///
/// # Errors
/// The version is not supported, or a field is null or too long for it.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Vec<Bytes>, WireError> {
    check_version::<R>(version)?;
    let mut writer = Writer::new();
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
    };
    header.encode(&mut writer)?;
    request.encode(&mut writer, version)?;
    Ok(writer.finish_frame())
}

/// Writes a response as a whole frame, length and header included.
///
/// # Errors
/// The version is not supported, or a field is null or too long for it.
pub fn encode_response<R: Response>(
    response: &R,
    version: i16,
    correlation_id: i32,
) -> Result<Vec<Bytes>, WireError> {
    check_version::<R>(version)?;
    let mut writer = Writer::new();
    ResponseHeader { correlation_id }.encode(&mut writer, R::KEY, version)?;
    response.encode(&mut writer, version)?;
    Ok(writer.finish_frame())
}

/// Reads a response from a frame without its length: the header, then a body
/// that fills the rest.
///
/// # Errors
/// The version is not supported, or the frame is not such a response.
pub fn decode_response<R: Response>(frame: Bytes, version: i16) -> Result<(ResponseHeader, R), WireError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::parse(&mut reader, R::KEY, version)?;
    let body = decode_body(&mut reader, version)?;
    Ok((header, body))
}

fn check_version<M: Message>(version: i16) -> Result<(), WireError> {
    let versions = M::VERSIONS;
    if versions.contains(&version) {
        return Ok(());
    }
    Err(WireError::UnsupportedVersion { version, min: *versions.start(), max: *versions.end() })
}
