//! What a handler can ask for besides its event.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use courant_sql::Store;

use super::arguments::{Free, Taken};
use crate::layer::Extensions;
use crate::publisher::Publisher;
use crate::store::Backing;
use crate::subscription::{AtLeastOnce, Once};
use crate::tx::{Slot, Tx};
use crate::{HandlerError, Meta};

/// An argument of a handler behind its event, in a service with store `S` and state `T`, of a
/// subscription in mode `M`.
#[diagnostic::on_unimplemented(
    message = "a handler cannot be given `{Self}`",
    label = "neither the event in the first place nor an extractor behind it",
    note = "the event is the first argument; behind it a handler can ask for `Meta`, `State<T>`, `Tx<D>`, `Extension<X>` and, on a subscription that is `.at_least_once()`, for `Publisher`"
)]
pub trait Extract<S: Backing, T, M>: Sized + Send + 'static {
    /// [`Free`], except for what takes the transaction.
    type Takes;

    /// Takes what it needs.
    ///
    /// # Errors
    /// It cannot be had.
    fn extract(given: &Given<S, T>) -> Result<Self, HandlerError>;
}

/// What is there for the arguments of one call.
pub struct Given<S: Backing, T> {
    pub(crate) meta: Meta,
    pub(crate) state: Arc<T>,
    pub(crate) lease: S::Lease,
    pub(crate) publisher: Publisher,
    /// What layers have added.
    pub(crate) extensions: Extensions,
}

impl<S: Backing, T> Given<S, T> {
    /// What comes with the event.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The state of the service.
    pub fn state(&self) -> &T {
        &self.state
    }
}

impl<S: Backing, T> fmt::Debug for Given<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl<S: Backing, T, M> Extract<S, T, M> for Meta {
    type Takes = Free;

    fn extract(given: &Given<S, T>) -> Result<Self, HandlerError> {
        Ok(given.meta.clone())
    }
}

/// A part of the service's state, given with [`App::state`](crate::App::state).
#[derive(Clone, Debug)]
pub struct State<P>(pub P);

impl<P> Deref for State<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0
    }
}

/// A state that has a `P` for handlers. Every state has itself; one that has parts says so by
/// implementing this for each of them.
#[diagnostic::on_unimplemented(
    message = "the service has no state `{P}`",
    label = "a handler asks for `State<{P}>`, and the state of the service is `{Self}`",
    note = "give it with `.state(…)` on the App before `.subscribe(…)`; if it is a part of the state, implement `Provides<{P}>` for the whole"
)]
pub trait Provides<P> {
    /// The part.
    fn provide(&self) -> P;
}

impl<P: Clone> Provides<P> for P {
    fn provide(&self) -> P {
        self.clone()
    }
}

impl<S: Backing, T: Provides<P>, M, P: Send + 'static> Extract<S, T, M> for State<P> {
    type Takes = Free;

    fn extract(given: &Given<S, T>) -> Result<Self, HandlerError> {
        Ok(Self(T::provide(&given.state)))
    }
}

/// The store of the service is a `D`.
#[diagnostic::on_unimplemented(
    message = "the service has no `{D}`",
    label = "a handler asks for `Tx<{D}>`, and the store of the service is `{Self}`",
    note = "give the App `.store(…)` with a `{D}` before `.subscribe(…)`, or ask for the `Tx` of the store that it has"
)]
pub trait StoreOf<D: Store>: Backing {
    /// Where the transaction is.
    #[doc(hidden)]
    fn slot(lease: &Self::Lease) -> &Slot<D>;
}

impl<D: Store> StoreOf<D> for D {
    fn slot(lease: &Slot<D>) -> &Slot<D> {
        lease
    }
}

/// Handlers of this kind of subscription run in a transaction.
#[diagnostic::on_unimplemented(
    message = "handlers of this subscription have no transaction",
    label = "a handler asks for `Tx`, and its subscription is `.at_least_once()`",
    note = "leave `.at_least_once()` away: then what the handler changes and what it publishes takes effect once"
)]
pub trait InTransaction {}

impl InTransaction for Once {}

impl<S: StoreOf<D>, T, M: InTransaction, D: Store> Extract<S, T, M> for Tx<D> {
    type Takes = Taken;

    fn extract(given: &Given<S, T>) -> Result<Self, HandlerError> {
        S::slot(&given.lease).lend().ok_or_else(|| HandlerError::retry("the transaction is lent already"))
    }
}

/// Handlers of this kind of subscription may publish past the transaction.
#[diagnostic::on_unimplemented(
    message = "handlers of this subscription cannot publish past their transaction",
    label = "a handler asks for `Publisher`, and its subscription is not `.at_least_once()`",
    note = "return the events from the handler, or publish them with `tx.publish(&event)?`: then they leave exactly if the transaction commits",
    note = "what may be sent twice, and also when the handler fails later, belongs into a subscription that is `.at_least_once()`"
)]
pub trait Direct {}

impl Direct for AtLeastOnce {}

impl<S: Backing, T, M: Direct> Extract<S, T, M> for Publisher {
    type Takes = Free;

    fn extract(given: &Given<S, T>) -> Result<Self, HandlerError> {
        Ok(given.publisher.clone())
    }
}
