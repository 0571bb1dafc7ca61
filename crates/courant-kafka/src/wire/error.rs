//! Why a message cannot be read or written.

/// A message that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The input ends within a field.
    #[error("the message ends early: {needed} bytes needed, {remaining} left")]
    Truncated {
        /// Bytes the field takes.
        needed: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// The input goes on after the end of the message.
    #[error("{bytes} bytes follow the end of the message")]
    TrailingBytes {
        /// Bytes left.
        bytes: usize,
    },
    /// An array claims more elements than the input can hold.
    #[error("an array claims {count} elements with {remaining} bytes left")]
    CountTooLarge {
        /// Elements claimed.
        count: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// More elements in the arrays of one message than its receiver takes.
    #[error("an array has {count} elements where {left} more are taken")]
    TooManyElements {
        /// Elements of the array.
        count: usize,
        /// Elements that the arrays before it left.
        left: usize,
    },
    /// A length below -1.
    #[error("a length is negative: {length}")]
    NegativeLength {
        /// The length.
        length: i32,
    },
    /// Null where the version does not allow it.
    #[error("null in a field that cannot be null")]
    UnexpectedNull,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A varint of more than 32 bits.
    #[error("a varint has more than 32 bits")]
    VarintTooLong,
    /// Tags that do not ascend.
    #[error("tagged field {tag} is repeated or out of order")]
    TagOrder {
        /// The tag.
        tag: u32,
    },
    /// A string, an array or a message above the protocol's limit.
    #[error("{bytes} bytes where {max} are the limit")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A version the message's table does not describe.
    #[error("version {version} is not supported; {min} to {max} are")]
    UnsupportedVersion {
        /// The version.
        version: i16,
        /// Lowest version.
        min: i16,
        /// Highest version.
        max: i16,
    },
}
