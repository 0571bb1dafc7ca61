//! Handlers: plain `async fn`s, called with one event and what else they ask for.
//!
//! What makes a function a handler is spread over four traits, so that each mistake has an error of
//! its own: [`Handler`] is the shape of the function, [`Arguments`] what it asks for,
//! [`IntoOutcome`] what it returns, and that its future can be sent is asked for by itself.

mod arguments;
mod extract;
mod invoke;
mod outcome;

use std::future::Future;

pub use self::arguments::{Arguments, FirstArgument, Free, OneTransaction, Taken, WithoutTransaction};
pub use self::extract::{Direct, Extract, Given, InTransaction, Provides, State, StoreOf};
pub(crate) use self::invoke::{CallFailure, Caught, Erased, Invoke};
pub use self::outcome::{IntoOutbox, IntoOutcome};

/// A function that can be a handler: 1 to 7 arguments, and asynchronous.
///
/// It is implemented for functions and closures, and for nothing else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an `async fn` with an event and up to six more arguments",
    note = "a handler is written `async fn name(event: E, …) -> …`: its event first, then extractors such as `State<T>`, `Tx<D>` or `Meta`"
)]
pub trait Handler<A>: Send + Sync + 'static {
    /// What it returns.
    type Output;
    /// What it returns it by.
    type Future: Future<Output = Self::Output>;

    /// Calls it.
    fn call(&self, arguments: A) -> Self::Future;
}

macro_rules! handler {
    ($($argument:ident)+) => {
        impl<F, Fut, $($argument),+> Handler<($($argument,)+)> for F
        where
            F: Fn($($argument),+) -> Fut + Send + Sync + 'static,
            Fut: Future,
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, reason = "the arguments are called as their types are")]
            fn call(&self, ($($argument,)+): ($($argument,)+)) -> Fut {
                self($($argument),+)
            }
        }
    };
}

handler!(A0);
handler!(A0 A1);
handler!(A0 A1 A2);
handler!(A0 A1 A2 A3);
handler!(A0 A1 A2 A3 A4);
handler!(A0 A1 A2 A3 A4 A5);
handler!(A0 A1 A2 A3 A4 A5 A6);
