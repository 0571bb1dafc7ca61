//! Whether a service has a store, as a type.

use courant_sql::{Store, Transaction};

use crate::tx::Slot;

/// A service without a store: its effects may repeat, and nothing can be parked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

/// What a service keeps its state in: a [`Store`], or [`NoStore`].
pub trait Backing: Send + Sync + 'static {
    /// Where the transaction of a call is.
    #[doc(hidden)]
    type Lease: Send + Sync + 'static;

    /// There is a store.
    const IS_STORE: bool;

    /// Why events cannot be handled together in one of its transactions; `None`: they can.
    const NOT_SHARED: Option<&'static str>;
}

impl<D: Store> Backing for D {
    type Lease = Slot<D>;

    const IS_STORE: bool = true;
    const NOT_SHARED: Option<&'static str> = <D::Transaction as Transaction>::NOT_SHARED;
}

impl Backing for NoStore {
    type Lease = ();

    const IS_STORE: bool = false;
    const NOT_SHARED: Option<&'static str> = None;
}
