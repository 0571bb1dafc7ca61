//! What is sent: events, commands, and what they are about.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A fact that has happened, or a [`Command`]: what handlers are called with and what they return.
///
/// It is derived, never written by hand, so that the name on the wire stands where the type does:
///
/// ```
/// use courant::prelude::*;
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
/// struct OrderPlaced {
///     order_id: String,
///     cents: i64,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "an event is expected here, and `{Self}` is none",
    note = "a type becomes an event by `#[derive(Event, Serialize, Deserialize)]` and `#[event(type = \"…\", topic = \"…\", key = …)]`",
    note = "the first argument of a handler is its event, as `E` or as `Envelope<E>`; `State`, `Tx` and the others follow it",
    note = "a handler returns nothing, an event, an `Option`, a `Vec` or a tuple of events, or a `Result` of these"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire.
    const TYPE: &'static str;
    /// Where it goes.
    const TOPIC: &'static str;
    /// The consumer that owns a command; `None` for a fact, which everybody may hear.
    const OWNER: Option<&'static str> = None;

    /// What it is about: events with one key keep their order. `None` when order does not matter.
    fn key(&self) -> Option<Key>;
}

/// A request to the one consumer that may do it, and may refuse.
///
/// It is derived, and names its owner: the consumer that handles it, and no other. Its header `ce_kind` says
/// `command`. A service that handles it in a subscription of another name, or twice, is not built.
///
/// The answer is an event like any other. It has the correlation id of the command, and the command's id as
/// its causation id, so that whoever asked knows it again:
///
/// ```
/// use courant::prelude::*;
///
/// #[derive(Command, Serialize, Deserialize)]
/// #[command(type = "shop.take-payment", topic = "shop.payments", key = order_id, owner = "payments")]
/// struct TakePayment {
///     order_id: String,
/// }
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(type = "shop.payment-taken", topic = "shop.payments-taken", key = order_id)]
/// struct PaymentTaken {
///     order_id: String,
/// }
///
/// // Of the subscription "payments".
/// async fn take(command: TakePayment) -> PaymentTaken {
///     PaymentTaken { order_id: command.order_id }
/// }
///
/// // Of whoever asked: the causation id is the id of the command that this answers.
/// async fn go_on(taken: PaymentTaken, meta: Meta) {
///     println!("{} answers {:?}", taken.order_id, meta.causation_id());
/// }
/// ```
pub trait Command: Event {}

/// What an event is about, as it is written on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The text of a value: a `String` as it is, a number in decimal, a UUID with its dashes.
    pub fn of<V: fmt::Display + ?Sized>(value: &V) -> Self {
        Self(Bytes::from(value.to_string()))
    }

    /// The bytes of a key that another program wrote.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_text_of_its_field() {
        assert_eq!(Key::of("k-1").as_text(), Some("k-1"));
        assert_eq!(Key::of(&42_u32).as_bytes().as_ref(), b"42");
        let foreign = Key::from_bytes(Bytes::from_static(&[0xff, b'a']));
        assert_eq!(foreign.as_text(), None);
        assert_eq!(foreign.to_string(), "\u{fffd}a");
    }
}
