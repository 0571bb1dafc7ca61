//! What a handler returns: events to publish, or why it failed.

use crate::outbox::{Outbox, PublishError};
use crate::{Event, HandlerError};

/// Events to publish with the transaction: none, one, or several.
pub trait IntoOutbox {
    /// Publishes them, in order.
    ///
    /// # Errors
    /// One of them cannot be published.
    fn into_outbox(self, outbox: &mut Outbox) -> Result<(), PublishError>;
}

impl IntoOutbox for () {
    fn into_outbox(self, _: &mut Outbox) -> Result<(), PublishError> {
        Ok(())
    }
}

impl<E: Event> IntoOutbox for E {
    fn into_outbox(self, outbox: &mut Outbox) -> Result<(), PublishError> {
        outbox.publish(&self).map(drop)
    }
}

impl<I: IntoOutbox> IntoOutbox for Option<I> {
    fn into_outbox(self, outbox: &mut Outbox) -> Result<(), PublishError> {
        self.map_or(Ok(()), |events| events.into_outbox(outbox))
    }
}

impl<I: IntoOutbox> IntoOutbox for Vec<I> {
    fn into_outbox(self, outbox: &mut Outbox) -> Result<(), PublishError> {
        self.into_iter().try_for_each(|events| events.into_outbox(outbox))
    }
}

macro_rules! tuple {
    ($($part:ident)+) => {
        impl<$($part: IntoOutbox),+> IntoOutbox for ($($part,)+) {
            #[allow(non_snake_case, reason = "the parts are called as their types are")]
            fn into_outbox(self, outbox: &mut Outbox) -> Result<(), PublishError> {
                let ($($part,)+) = self;
                $($part.into_outbox(outbox)?;)+
                Ok(())
            }
        }
    };
}

tuple!(I0);
tuple!(I0 I1);
tuple!(I0 I1 I2);
tuple!(I0 I1 I2 I3);
tuple!(I0 I1 I2 I3 I4);
tuple!(I0 I1 I2 I3 I4 I5);

/// What a handler may return: events to publish, or a `Result` of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned from a handler",
    label = "a handler returns events, or a `Result` of events and an error",
    note = "it returns nothing, an event, an `Option`, a `Vec` or a tuple of events, or a `Result` of these",
    note = "the error of a `Result` is a `HandlerError` or implements `std::error::Error`; a mere text becomes one by `HandlerError::retry(text)` or one of its sisters"
)]
pub trait IntoOutcome {
    /// Publishes what there is to publish.
    ///
    /// # Errors
    /// The handler failed, or one of its events cannot be published.
    fn into_outcome(self, outbox: &mut Outbox) -> Result<(), HandlerError>;
}

impl<I: IntoOutbox> IntoOutcome for I {
    fn into_outcome(self, outbox: &mut Outbox) -> Result<(), HandlerError> {
        self.into_outbox(outbox).map_err(HandlerError::from)
    }
}

impl<I: IntoOutbox, X: Into<HandlerError>> IntoOutcome for Result<I, X> {
    fn into_outcome(self, outbox: &mut Outbox) -> Result<(), HandlerError> {
        match self {
            Ok(events) => events.into_outbox(outbox).map_err(HandlerError::from),
            Err(error) => Err(error.into()),
        }
    }
}
