//! The headers in front of every request and response.
//!
//! Request header v1 (classic) and v2 (flexible), response header v0 and v1.
//! Header v0 of requests belonged to ControlledShutdown v0 alone and is gone
//! with it. The client id stays a classic string in v2 (KIP-482), and the
//! response to ApiVersions has header v0 in every version (KIP-511), as a
//! client reads it before it knows what the broker speaks.

use super::field::{Field, Format, TaggedFields};
use super::versions::range_of;
use super::{ApiKey, Reader, WireError, Writer};

/// Form of the client id: classic and nullable in every header version.
const CLIENT_ID: Format = Format { version: 0, flexible: false, nullable: true };

/// What stands in front of a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// Version of the body and, in effect, of the response.
    pub api_version: i16,
    /// Number the response has to repeat.
    pub correlation_id: i32,
    /// Name the client gives itself, if any.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Reads a header.
    ///
    /// Of a request whose API or version is not supported, only key, version
    /// and correlation id are certain; then the client id is a best effort,
    /// and the rest of the input means nothing.
    ///
    /// # Errors
    /// The input is too short, or the rest of a supported request's header is
    /// malformed.
    pub fn parse(reader: &mut Reader) -> Result<Self, WireError> {
        let api_key = ApiKey(i16::from_be_bytes(reader.take_array()?));
        let api_version = i16::from_be_bytes(reader.take_array()?);
        let correlation_id = i32::from_be_bytes(reader.take_array()?);
        let client_id = <Option<String>>::decode(reader, CLIENT_ID);
        let range = range_of(api_key).filter(|range| range.serves(api_version));
        let client_id = match range {
            Some(_) => client_id?,
            None => client_id.unwrap_or(None),
        };
        if range.is_some_and(|range| api_version >= range.flexible_from) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }

    /// Writes the header.
    ///
    /// # Errors
    /// The client id is too long.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), WireError> {
        writer.put(&self.api_key.0.to_be_bytes());
        writer.put(&self.api_version.to_be_bytes());
        writer.put(&self.correlation_id.to_be_bytes());
        self.client_id.encode(writer, CLIENT_ID)?;
        if is_flexible(self.api_key, self.api_version) {
            TaggedFields::new().write(writer)?;
        }
        Ok(())
    }
}

/// What stands in front of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The request's number.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of the response to `key` in `version`.
    ///
    /// # Errors
    /// The input is too short or malformed.
    pub fn parse(reader: &mut Reader, key: ApiKey, version: i16) -> Result<Self, WireError> {
        let correlation_id = i32::from_be_bytes(reader.take_array()?);
        if has_response_tags(key, version) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes the header of the response to `key` in `version`.
    ///
    /// # Errors
    /// The message is too long.
    pub fn encode(self, writer: &mut Writer, key: ApiKey, version: i16) -> Result<(), WireError> {
        writer.put(&self.correlation_id.to_be_bytes());
        if has_response_tags(key, version) {
            TaggedFields::new().write(writer)?;
        }
        Ok(())
    }
}

/// Whether the API is known and flexible in `version`.
fn is_flexible(key: ApiKey, version: i16) -> bool {
    range_of(key).is_some_and(|range| version >= range.flexible_from)
}

/// Whether the response has header v1.
fn has_response_tags(key: ApiKey, version: i16) -> bool {
    key != ApiKey::API_VERSIONS && is_flexible(key, version)
}
