//! What layers give to those behind them, by its type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;

use crate::HandlerError;
use crate::handler::{Extract, Free, Given};
use crate::store::Backing;

/// Values of one call, of each type one.
#[derive(Default)]
pub struct Extensions(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Extensions {
    /// Adds a value. Gives back the one of its type that was there.
    pub fn insert<X: Send + Sync + 'static>(&mut self, value: X) -> Option<X> {
        let before = self.0.insert(TypeId::of::<X>(), Box::new(value))?;
        before.downcast::<X>().ok().map(|before| *before)
    }

    /// The value of this type.
    pub fn get<X: Send + Sync + 'static>(&self) -> Option<&X> {
        self.0.get(&TypeId::of::<X>())?.downcast_ref()
    }

    /// Takes the value of this type out.
    pub fn remove<X: Send + Sync + 'static>(&mut self) -> Option<X> {
        self.0.remove(&TypeId::of::<X>())?.downcast::<X>().ok().map(|value| *value)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("values", &self.0.len()).finish_non_exhaustive()
    }
}

/// A value that a layer has added to the call, as an argument of a handler.
///
/// A call without it fails, and is tried again: say in the layer that it is always there.
#[derive(Clone, Copy, Debug)]
pub struct Extension<X>(pub X);

impl<S: Backing, T, M, X: Clone + Send + Sync + 'static> Extract<S, T, M> for Extension<X> {
    type Takes = Free;

    fn extract(given: &Given<S, T>) -> Result<Self, HandlerError> {
        let value = given.extensions.get::<X>().cloned();
        value.map(Self).ok_or_else(|| {
            HandlerError::retry(format!(
                "no layer has added a {} to the call: do that with call.extensions_mut().insert(…)",
                std::any::type_name::<X>()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_type_there_is_one_value() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.insert(1_u32), None);
        assert_eq!(extensions.insert("text"), None);
        assert_eq!(extensions.insert(2_u32), Some(1));
        assert_eq!((extensions.get::<u32>(), extensions.get::<u64>()), (Some(&2), None));
        assert_eq!((extensions.remove::<u32>(), extensions.remove::<u32>()), (Some(2), None));
        assert_eq!(extensions.get::<&str>(), Some(&"text"));
    }
}
