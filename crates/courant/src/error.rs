//! What a handler says when it could not do its work.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Any error, as handlers meet them.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Why an event was not handled, and what is to happen to it.
///
/// Every error converts with `?`, and then means: try again, as the subscription's [`Retry`] says.
/// Where that is not what is meant, one of the functions here says so. Whatever it is, the
/// handler's transaction is rolled back, and nothing of what it published leaves.
///
/// [`Retry`]: crate::Retry
pub struct HandlerError {
    verdict: Verdict,
    cause: BoxError,
    error_type: &'static str,
}

/// What is to happen to an event that was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again when the subscription's policy says so.
    Retry,
    /// Try again after this time, and after 30 days at the latest, whatever the policy says; it counts as an attempt.
    RetryAfter(Duration),
    /// Trying again is no use: set it and its key aside until a person decides.
    Park,
    /// Trying again is no use, and what comes after does not depend on it: a dead letter.
    DeadLetter,
    /// It is none of this consumer's business after all: count it as handled.
    Skip,
}

impl HandlerError {
    /// It may go better next time.
    pub fn retry(cause: impl Into<BoxError>) -> Self {
        Self::with(Verdict::Retry, cause)
    }

    /// It may go better then, and not before. 30 days are the longest delay, and a longer one means them.
    pub fn retry_after(cause: impl Into<BoxError>, delay: Duration) -> Self {
        Self::with(Verdict::RetryAfter(delay), cause)
    }

    /// It will not go better, and later events of the key must wait until somebody has decided.
    pub fn park(cause: impl Into<BoxError>) -> Self {
        Self::with(Verdict::Park, cause)
    }

    /// It will not go better, and later events of the key do not depend on it.
    pub fn dead_letter(cause: impl Into<BoxError>) -> Self {
        Self::with(Verdict::DeadLetter, cause)
    }

    /// There is nothing to do for it. The transaction is rolled back, and it counts as handled.
    pub fn skip(reason: impl Into<BoxError>) -> Self {
        Self::with(Verdict::Skip, reason)
    }

    fn with(verdict: Verdict, cause: impl Into<BoxError>) -> Self {
        Self { verdict, cause: cause.into(), error_type: "message" }
    }

    /// A failure of this kind, which no error's type is. It may go better next time.
    pub(crate) fn of_kind(error_type: &'static str, cause: impl Into<BoxError>) -> Self {
        Self { verdict: Verdict::Retry, cause: cause.into(), error_type }
    }

    /// What a layer says. What the handler said is taken out of it again, as it was.
    pub(crate) fn of_layer(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Carried>() {
            Ok(carried) => {
                let Carried(error) = *carried;
                error
            }
            Err(cause) => Self::of_kind("layer", cause),
        }
    }

    /// What is to happen to the event.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The name of the error's type, by which failures are grouped; `message` for a mere text.
    pub fn error_type(&self) -> &'static str {
        self.error_type
    }

    /// It comes of a database that has no room: nothing that the handler has done.
    pub(crate) fn lacks_room(&self) -> bool {
        courant_sql::lacks_room(&*self.cause)
    }

    /// The error and what caused it, from the outside in.
    pub fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.cause.to_string()];
        let mut source = self.cause.source();
        while let Some(error) = source.filter(|_| chain.len() < CHAIN_MAX) {
            chain.push(error.to_string());
            source = error.source();
        }
        chain
    }
}

/// Most causes of an error that are kept.
const CHAIN_MAX: usize = 16;

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { verdict: Verdict::Retry, cause: Box::new(error), error_type: std::any::type_name::<E>() }
    }
}

/// What a handler said, on its way through layers that hand on any error.
struct Carried(HandlerError);

impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        Box::new(Carried(error))
    }
}

impl Error for Carried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.source()
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.cause, f)
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain().join(": "))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("verdict", &self.verdict)
            .field("error_type", &self.error_type)
            .field("chain", &self.chain())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the till is closed")]
    struct Closed(#[source] std::io::Error);

    fn question_mark() -> Result<(), HandlerError> {
        Err::<(), _>(Closed(std::io::Error::other("no power")))?;
        Ok(())
    }

    #[test]
    fn an_error_that_converts_is_tried_again_and_keeps_its_causes() {
        let error = question_mark().expect_err("fails");
        assert_eq!(error.verdict(), Verdict::Retry);
        assert_eq!(error.chain(), ["the till is closed", "no power"]);
        assert!(error.error_type().ends_with("Closed"), "{error:?}");
        assert_eq!(error.to_string(), "the till is closed: no power");
    }

    #[test]
    fn each_function_says_what_is_to_happen() {
        let delay = Duration::from_secs(3);
        let cases = [
            (HandlerError::retry("a"), Verdict::Retry),
            (HandlerError::retry_after("a", delay), Verdict::RetryAfter(delay)),
            (HandlerError::park("a"), Verdict::Park),
            (HandlerError::dead_letter(String::from("a")), Verdict::DeadLetter),
            (HandlerError::skip("a"), Verdict::Skip),
        ];
        for (error, verdict) in cases {
            assert_eq!(error.verdict(), verdict);
            assert_eq!(error.error_type(), "message");
            assert_eq!(error.chain(), ["a"]);
        }
    }

    #[test]
    fn what_a_handler_said_comes_through_layers_as_it_was() {
        let boxed = BoxError::from(HandlerError::skip("not ours"));
        assert_eq!(boxed.to_string(), "not ours");
        let error = HandlerError::of_layer(boxed);
        assert_eq!((error.verdict(), error.error_type()), (Verdict::Skip, "message"));
        let of_layer = HandlerError::of_layer(std::io::Error::other("no room"));
        assert_eq!((of_layer.verdict(), of_layer.error_type()), (Verdict::Retry, "layer"));
        assert_eq!(of_layer.chain(), ["no room"]);
    }
}
