//! How each type of a table travels, in classic and in flexible versions.

use super::WireError;
use super::reader::Reader;
use super::writer::Writer;
use bytes::Bytes;
use uuid::Uuid;

/// Longest string of the protocol, in bytes: the limit of the classic length,
/// which flexible versions keep.
const MAX_STRING_BYTES: usize = 0x7fff;

/// Most elements to reserve room for before any of them has been read. A
/// longer array grows by what really arrives.
const MAX_INITIAL_CAPACITY: usize = 1024;

/// In which form a field travels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Version of the message.
    pub(crate) version: i16,
    /// Whether lengths are compact.
    pub(crate) flexible: bool,
    /// Whether an `Option` may be null.
    pub(crate) nullable: bool,
}

/// A type a table may use.
pub(crate) trait Field: Sized {
    /// Fewest bytes a value can take: a lower bound, used to refuse counts
    /// that cannot be true.
    fn min_bytes(format: Format) -> usize;

    /// Reads a value.
    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError>;

    /// Writes the value.
    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError>;
}

macro_rules! number {
    ($($ty:ty),*) => {
        $(
            impl Field for $ty {
                fn min_bytes(_format: Format) -> usize {
                    size_of::<$ty>()
                }

                fn decode(reader: &mut Reader, _format: Format) -> Result<Self, WireError> {
                    Ok(<$ty>::from_be_bytes(reader.take_array()?))
                }

                fn encode(&self, writer: &mut Writer, _format: Format) -> Result<(), WireError> {
                    writer.put(&self.to_be_bytes());
                    Ok(())
                }
            }
        )*
    };
}

number!(i8, i16, u16, i32, i64);

impl Field for bool {
    fn min_bytes(_format: Format) -> usize {
        1
    }

    fn decode(reader: &mut Reader, _format: Format) -> Result<Self, WireError> {
        let [byte] = reader.take_array()?;
        Ok(byte != 0)
    }

    fn encode(&self, writer: &mut Writer, _format: Format) -> Result<(), WireError> {
        writer.put(&[u8::from(*self)]);
        Ok(())
    }
}

impl Field for Uuid {
    fn min_bytes(_format: Format) -> usize {
        16
    }

    fn decode(reader: &mut Reader, _format: Format) -> Result<Self, WireError> {
        Ok(Uuid::from_bytes(reader.take_array()?))
    }

    fn encode(&self, writer: &mut Writer, _format: Format) -> Result<(), WireError> {
        writer.put(self.as_bytes());
        Ok(())
    }
}

impl Field for Option<String> {
    fn min_bytes(format: Format) -> usize {
        if format.flexible { 1 } else { 2 }
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        let length = if format.flexible { reader.compact_length()? } else { reader.length16()? };
        let Some(length) = length else {
            return null(format);
        };
        if length > MAX_STRING_BYTES {
            return Err(WireError::TooLong { bytes: length, max: MAX_STRING_BYTES });
        }
        reader.take_string(length).map(Some)
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        match self {
            Some(text) => put_string(text, writer, format),
            None => put_null(writer, format, &(-1_i16).to_be_bytes()),
        }
    }
}

impl Field for String {
    fn min_bytes(format: Format) -> usize {
        <Option<String>>::min_bytes(format)
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        <Option<String>>::decode(reader, format)?.ok_or(WireError::UnexpectedNull)
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        put_string(self, writer, format)
    }
}

impl Field for Option<Bytes> {
    fn min_bytes(format: Format) -> usize {
        length_bytes(format)
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        match length(reader, format)? {
            Some(length) => reader.take(length).map(Some),
            None => null(format),
        }
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        match self {
            Some(bytes) => put_bytes(bytes, writer, format),
            None => put_null(writer, format, &(-1_i32).to_be_bytes()),
        }
    }
}

impl Field for Bytes {
    fn min_bytes(format: Format) -> usize {
        length_bytes(format)
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        <Option<Bytes>>::decode(reader, format)?.ok_or(WireError::UnexpectedNull)
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        put_bytes(self, writer, format)
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn min_bytes(format: Format) -> usize {
        length_bytes(format)
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        let Some(count) = length(reader, format)? else {
            return null(format);
        };
        let element = Format { nullable: false, ..format };
        let min_bytes = T::min_bytes(element);
        let capacity = initial_capacity(count, min_bytes, reader.remaining())?;
        reader.spend_elements(count)?;
        let mut values = Vec::with_capacity(capacity);
        for _ in 0..count {
            values.push(T::decode(reader, element)?);
        }
        Ok(Some(values))
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        match self {
            Some(values) => put_array(values, writer, format),
            None => put_null(writer, format, &(-1_i32).to_be_bytes()),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn min_bytes(format: Format) -> usize {
        length_bytes(format)
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        <Option<Vec<T>>>::decode(reader, format)?.ok_or(WireError::UnexpectedNull)
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        put_array(self, writer, format)
    }
}

/// Room to reserve for an array of `count` elements of at least `min_bytes`
/// each, with `remaining` bytes of input left.
///
/// # Errors
/// The input cannot hold `count` elements.
pub(crate) fn initial_capacity(count: usize, min_bytes: usize, remaining: usize) -> Result<usize, WireError> {
    if count > remaining / min_bytes.max(1) {
        return Err(WireError::CountTooLarge { count, remaining });
    }
    Ok(count.min(MAX_INITIAL_CAPACITY))
}

/// The tagged fields at the end of a struct, while they are written.
#[derive(Debug)]
pub(crate) struct TaggedFields {
    count: u32,
    body: Writer,
}

impl TaggedFields {
    /// No tagged field.
    pub(crate) fn new() -> Self {
        Self { count: 0, body: Writer::unframed() }
    }

    /// Adds one field. Tags have to ascend.
    pub(crate) fn add<F: Field>(&mut self, tag: u32, field: &F, format: Format) -> Result<(), WireError> {
        let mut value = Writer::unframed();
        field.encode(&mut value, format)?;
        self.count += 1;
        self.body.put_uvarint(tag);
        self.body.put_uvarint(length32(value.len())?);
        self.body.append(value)
    }

    /// Writes the count and the fields added.
    pub(crate) fn write(&mut self, writer: &mut Writer) -> Result<(), WireError> {
        writer.put_uvarint(self.count);
        writer.append(std::mem::replace(&mut self.body, Writer::unframed()))
    }
}

/// Null, where it is allowed.
fn null<T>(format: Format) -> Result<Option<T>, WireError> {
    if format.nullable { Ok(None) } else { Err(WireError::UnexpectedNull) }
}

/// Writes null, where it is allowed: zero, or the `classic` length of -1.
fn put_null(writer: &mut Writer, format: Format, classic: &[u8]) -> Result<(), WireError> {
    if !format.nullable {
        return Err(WireError::UnexpectedNull);
    }
    if format.flexible {
        writer.put_uvarint(0);
    } else {
        writer.put(classic);
    }
    Ok(())
}

/// Fewest bytes of the length of an array or of bytes.
fn length_bytes(format: Format) -> usize {
    if format.flexible { 1 } else { 4 }
}

/// Length of an array or of bytes; `None` is null.
fn length(reader: &mut Reader, format: Format) -> Result<Option<usize>, WireError> {
    if format.flexible { reader.compact_length() } else { reader.length32() }
}

/// `length` as the protocol counts it: at most `i32::MAX`.
fn length32(length: usize) -> Result<u32, WireError> {
    match i32::try_from(length) {
        Ok(length) => Ok(length.unsigned_abs()),
        Err(_) => Err(WireError::TooLong { bytes: length, max: i32::MAX.unsigned_abs() as usize }),
    }
}

fn put_length(length: usize, writer: &mut Writer, format: Format) -> Result<(), WireError> {
    let length = length32(length)?;
    if format.flexible {
        writer.put_uvarint(length + 1);
    } else {
        writer.put(&length.to_be_bytes());
    }
    Ok(())
}

fn put_string(text: &str, writer: &mut Writer, format: Format) -> Result<(), WireError> {
    let length = match u16::try_from(text.len()) {
        Ok(length) if text.len() <= MAX_STRING_BYTES => length,
        _ => {
            return Err(WireError::TooLong { bytes: text.len(), max: MAX_STRING_BYTES });
        }
    };
    if format.flexible {
        writer.put_uvarint(u32::from(length) + 1);
    } else {
        writer.put(&length.to_be_bytes());
    }
    writer.put(text.as_bytes());
    Ok(())
}

fn put_bytes(bytes: &Bytes, writer: &mut Writer, format: Format) -> Result<(), WireError> {
    put_length(bytes.len(), writer, format)?;
    writer.put_shared(bytes)
}

fn put_array<T: Field>(values: &[T], writer: &mut Writer, format: Format) -> Result<(), WireError> {
    put_length(values.len(), writer, format)?;
    let element = Format { nullable: false, ..format };
    for value in values {
        value.encode(writer, element)?;
        writer.check_length()?;
    }
    Ok(())
}
