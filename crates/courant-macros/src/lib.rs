//! The derives of the framework: what an event is called, where it goes and what it is about.
//!
//! They write one small `impl` each and hide nothing. What they refuse, they refuse with a sentence
//! that says what to write instead; the sentences are compared in `courant`'s tests.

mod attribute;
mod expand;
mod names;

use proc_macro::TokenStream;

/// Makes a type an event: a fact that has happened.
///
/// ```text
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
/// struct OrderPlaced { order_id: String, cents: i64 }
/// ```
///
/// `type` is the event's name on the wire, `topic` where it goes, and `key` the field that says what
/// it is about: events with one key keep their order. `no_key` in its place says that order does not
/// matter.
#[proc_macro_derive(Event, attributes(event, personal))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), attribute::Kind::Event).into()
}

/// Makes a type a command: a request to the one consumer that owns it.
///
/// As `Event`, with the attribute `#[command(…)]`, and with `owner`, the consumer that may handle it:
///
/// ```text
/// #[derive(Command, Serialize, Deserialize)]
/// #[command(type = "shop.take-payment", topic = "shop.payments", key = order_id, owner = "payments")]
/// struct TakePayment { order_id: String, cents: i64 }
/// ```
#[proc_macro_derive(Command, attributes(command, personal))]
pub fn derive_command(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), attribute::Kind::Command).into()
}
