//! The table macro every message is written with, and the traits it
//! implements.
//!
//! A table line is
//! `name: Type, FROM..=TO [, tag N] [, null N] [, default EXPR];`
//!
//! * `FROM..=TO`: the versions that carry the field. In all other versions
//!   it is neither written nor read, and has its default after decoding.
//! * `tag N`: a tagged field (KIP-482), written only if it differs from its
//!   default. Tags have to ascend within a table.
//! * `null N`: an `Option` may be null from version N on (otherwise in every
//!   version that carries it).
//! * `default EXPR`: otherwise `Default::default()` of the type. A nullable
//!   string defaults to null also where Kafka's schema says empty, so that an
//!   absent transactional id or error text is never taken for an empty one.
//!
//! Untagged fields are written in table order, which is the schema's order.

use super::{ApiKey, Reader, WireError, Writer};
use std::ops::RangeInclusive;

/// A struct that travels in a request or a response.
pub trait Message: Sized {
    /// The versions the table describes.
    const VERSIONS: RangeInclusive<i16>;

    /// The first flexible version (KIP-482): compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16;

    /// Reads the message. Does not check `version` against
    /// [`VERSIONS`](Self::VERSIONS), nor that the input ends here;
    /// [`decode_body`](super::decode_body) does both.
    ///
    /// # Errors
    /// The input is not a message of this type and version.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, WireError>;

    /// Writes the message. Fields `version` does not carry are left out
    /// silently.
    ///
    /// # Errors
    /// A field is null or too long for `version`.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), WireError>;
}

/// The body of a request.
pub trait Request: Message {
    /// The API the request belongs to.
    const KEY: ApiKey;

    /// The body of its response, always of the same version.
    type Response: Response;
}

/// The body of a response.
pub trait Response: Message {
    /// The API the response belongs to.
    const KEY: ApiKey;
}

/// Turns one table into a struct and its codec; see the module's text.
macro_rules! wire_message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident : $min:literal ..= $max:literal , flexible $flexible:literal {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $ty:ty , $from:literal ..= $to:literal
                $(, tag $tag:literal)? $(, null $null:literal)? $(, default $default:expr)? ;
            )*
        }
    ) => {
        $(#[$meta])*
        #[doc = ""]
        #[doc = concat!(
            "Versions ", stringify!($min), " to ", stringify!($max),
            ", flexible from ", stringify!($flexible), "."
        )]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[doc = ""]
                #[doc = concat!("Versions ", stringify!($from), " to ", stringify!($to), ".")]
                pub $field: $ty,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $(
                        $field: $crate::wire::message::last_of!(
                            <$ty as Default>::default() $(, $default)?
                        ),
                    )*
                }
            }
        }

        impl $crate::wire::Message for $name {
            const VERSIONS: std::ops::RangeInclusive<i16> = $min..=$max;
            const FLEXIBLE_FROM: i16 = $flexible;

            fn decode(
                reader: &mut $crate::wire::Reader,
                version: i16,
            ) -> Result<Self, $crate::wire::WireError> {
                let flexible = version >= Self::FLEXIBLE_FROM;
                let mut message = Self::default();
                $(
                    $crate::wire::message::if_untagged! { ($($tag)?)
                        if ($from..=$to).contains(&version) {
                            let null_from = $crate::wire::message::last_of!($from $(, $null)?);
                            message.$field = $crate::wire::field::Field::decode(
                                reader,
                                $crate::wire::field::Format {
                                    version,
                                    flexible,
                                    nullable: version >= null_from,
                                },
                            )?;
                        }
                    }
                )*
                if flexible {
                    reader.tagged_fields(|_tag, _value| {
                        $(
                            $crate::wire::message::if_tagged! { ($($tag)?)
                                if _tag == $crate::wire::message::last_of!(0 $(, $tag)?)
                                    && ($from..=$to).contains(&version)
                                {
                                    message.$field = $crate::wire::field::Field::decode(
                                        _value,
                                        $crate::wire::field::Format {
                                            version,
                                            flexible,
                                            nullable: true,
                                        },
                                    )?;
                                    return Ok(true);
                                }
                            }
                        )*
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            fn encode(
                &self,
                writer: &mut $crate::wire::Writer,
                version: i16,
            ) -> Result<(), $crate::wire::WireError> {
                let flexible = version >= Self::FLEXIBLE_FROM;
                $(
                    $crate::wire::message::if_untagged! { ($($tag)?)
                        if ($from..=$to).contains(&version) {
                            let null_from = $crate::wire::message::last_of!($from $(, $null)?);
                            $crate::wire::field::Field::encode(
                                &self.$field,
                                writer,
                                $crate::wire::field::Format {
                                    version,
                                    flexible,
                                    nullable: version >= null_from,
                                },
                            )?;
                        }
                    }
                )*
                if flexible {
                    let mut tags = $crate::wire::field::TaggedFields::new();
                    $(
                        $crate::wire::message::if_tagged! { ($($tag)?)
                            let default: $ty = $crate::wire::message::last_of!(
                                <$ty as Default>::default() $(, $default)?
                            );
                            if ($from..=$to).contains(&version) && self.$field != default {
                                tags.add(
                                    $crate::wire::message::last_of!(0 $(, $tag)?),
                                    &self.$field,
                                    $crate::wire::field::Format {
                                        version,
                                        flexible,
                                        nullable: true,
                                    },
                                )?;
                            }
                        }
                    )*
                    tags.write(writer)?;
                }
                Ok(())
            }
        }

        impl $crate::wire::field::Field for $name {
            fn min_bytes(format: $crate::wire::field::Format) -> usize {
                let version = format.version;
                let flexible = version >= <Self as $crate::wire::Message>::FLEXIBLE_FROM;
                // The count of the tagged fields is one byte at least.
                let mut bytes = usize::from(flexible);
                $(
                    $crate::wire::message::if_untagged! { ($($tag)?)
                        if ($from..=$to).contains(&version) {
                            bytes += <$ty as $crate::wire::field::Field>::min_bytes(
                                $crate::wire::field::Format {
                                    version,
                                    flexible,
                                    nullable: true,
                                },
                            );
                        }
                    }
                )*
                bytes
            }

            fn decode(
                reader: &mut $crate::wire::Reader,
                format: $crate::wire::field::Format,
            ) -> Result<Self, $crate::wire::WireError> {
                <Self as $crate::wire::Message>::decode(reader, format.version)
            }

            fn encode(
                &self,
                writer: &mut $crate::wire::Writer,
                format: $crate::wire::field::Format,
            ) -> Result<(), $crate::wire::WireError> {
                <Self as $crate::wire::Message>::encode(self, writer, format.version)
            }
        }

        #[cfg(test)]
        impl $crate::wire::sampler::Sample for $name {
            fn sample(
                sampler: &mut $crate::wire::sampler::Sampler,
                _default: &Self,
                format: $crate::wire::field::Format,
            ) -> Self {
                let version = format.version;
                let flexible = version >= <Self as $crate::wire::Message>::FLEXIBLE_FROM;
                let mut message = Self::default();
                $(
                    if ($from..=$to).contains(&version) {
                        let null_from = $crate::wire::message::last_of!($from $(, $null)?);
                        message.$field = $crate::wire::sampler::Sample::sample(
                            sampler,
                            &message.$field,
                            $crate::wire::field::Format {
                                version,
                                flexible,
                                nullable: version >= null_from,
                            },
                        );
                    }
                )*
                message
            }
        }
    };
}

/// Names the request and the response of one API.
macro_rules! wire_api {
    ($key:ident : $request:ident => $response:ident) => {
        impl $crate::wire::Request for $request {
            const KEY: $crate::wire::ApiKey = $crate::wire::ApiKey::$key;
            type Response = $response;
        }

        impl $crate::wire::Response for $response {
            const KEY: $crate::wire::ApiKey = $crate::wire::ApiKey::$key;
        }
    };
}

/// Expands to its body unless a tag is given.
macro_rules! if_untagged {
    (() $($body:tt)*) => { $($body)* };
    (($tag:literal) $($body:tt)*) => {};
}

/// Expands to its body if a tag is given.
macro_rules! if_tagged {
    (() $($body:tt)*) => {};
    (($tag:literal) $($body:tt)*) => { $($body)* };
}

/// Expands to the last of one or two expressions: a default and what
/// overrides it.
macro_rules! last_of {
    ($first:expr) => {
        $first
    };
    ($first:expr, $last:expr) => {
        $last
    };
}

pub(crate) use {if_tagged, if_untagged, last_of, wire_api, wire_message};
