//! What a handler may ask for, all of it together: its event first, at most one transaction.

use super::extract::{Extract, Given};
use crate::store::Backing;
use crate::{Envelope, Event, HandlerError};

/// The arguments of a handler in a service with store `S` and state `T`, of a subscription in mode `M`.
pub trait Arguments<S: Backing, T, M>: Sized + Send + 'static {
    /// The event.
    type Event: Event;
    /// Which of the arguments take the transaction.
    type Takes;

    /// Puts them together.
    ///
    /// # Errors
    /// One of them cannot be had.
    fn gather(event: Envelope<Self::Event>, given: &Given<S, T>) -> Result<Self, HandlerError>;
}

/// What a handler's first argument is: an event, alone or in its [`Envelope`].
pub trait FirstArgument: Sized + Send + 'static {
    /// The event.
    type Event: Event;

    /// Takes what it needs.
    fn from_envelope(envelope: Envelope<Self::Event>) -> Self;
}

impl<E: Event> FirstArgument for E {
    type Event = E;

    fn from_envelope(envelope: Envelope<E>) -> Self {
        envelope.into_data()
    }
}

impl<E: Event> FirstArgument for Envelope<E> {
    type Event = E;

    fn from_envelope(envelope: Envelope<E>) -> Self {
        envelope
    }
}

/// An argument that leaves the transaction to others.
#[derive(Debug)]
pub enum Free {}

/// An argument that takes the transaction.
#[derive(Debug)]
pub enum Taken {}

/// At most one argument takes the transaction.
pub trait OneTransaction {}

/// None of these arguments takes the transaction.
#[diagnostic::on_unimplemented(
    message = "a handler has one transaction, and two of its arguments take it",
    label = "the second `Tx` of this handler has nothing left to take",
    note = "ask for `Tx` once, and hand on `&mut *tx` to the functions that need it"
)]
pub trait WithoutTransaction {}

impl OneTransaction for () {}
impl<R: OneTransaction> OneTransaction for (Free, R) {}
impl<R: WithoutTransaction> OneTransaction for (Taken, R) {}
impl WithoutTransaction for () {}
impl<R: WithoutTransaction> WithoutTransaction for (Free, R) {}

macro_rules! takes {
    () => { () };
    ($first:ident $($rest:ident)*) => {
        (<$first as Extract<S, T, M>>::Takes, takes!($($rest)*))
    };
}

macro_rules! arguments {
    ($($extractor:ident)*) => {
        impl<S, T, M, A0, $($extractor),*> Arguments<S, T, M> for (A0, $($extractor,)*)
        where
            S: Backing,
            A0: FirstArgument,
            $($extractor: Extract<S, T, M>,)*
        {
            type Event = A0::Event;
            type Takes = takes!($($extractor)*);

            #[allow(unused_variables, reason = "an event alone needs nothing else")]
            fn gather(event: Envelope<A0::Event>, given: &Given<S, T>) -> Result<Self, HandlerError> {
                Ok((A0::from_envelope(event), $($extractor::extract(given)?,)*))
            }
        }
    };
}

arguments!();
arguments!(A1);
arguments!(A1 A2);
arguments!(A1 A2 A3);
arguments!(A1 A2 A3 A4);
arguments!(A1 A2 A3 A4 A5);
arguments!(A1 A2 A3 A4 A5 A6);
