//! Layers: what stands around handlers, such as a timeout, a span, a limit or figures.
//!
//! ```text
//!   retry ─▶ dead letter ─▶ transaction ─▶ layers ─▶ handler
//! ```
//!
//! The order is a matter of types, so that nobody can invert it: a layer is given one [`Call`], which it
//! can hand on once, and which nobody can copy; and it gives back a [`Handled`], which nobody can make.
//! Trying again and setting aside is the business of the [`Subscription`](crate::Subscription).
//!
//! A layer is a [`tower_layer::Layer`] around [`Next`], so most of what is written for tower fits. An
//! asynchronous function becomes one by [`from_fn`]. Here is one that counts what handlers come to:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use courant::layer::{Call, Handled, Next, from_fn};
//! use courant::prelude::*;
//!
//! #[derive(Default)]
//! struct Figures {
//!     handled: AtomicU64,
//!     failed: AtomicU64,
//! }
//!
//! async fn count(figures: Arc<Figures>, call: Call, next: Next) -> Result<Handled, HandlerError> {
//!     let result = next.run(call).await;
//!     let figure = if result.is_ok() { &figures.handled } else { &figures.failed };
//!     figure.fetch_add(1, Ordering::Relaxed);
//!     result
//! }
//!
//! let figures = Arc::new(Figures::default());
//! let counting = {
//!     let figures = figures.clone();
//!     from_fn(move |call, next| count(figures.clone(), call, next))
//! };
//! let app = App::new("billing").layer(counting);
//! ```
//!
//! What a layer adds to [`Call::extensions_mut`], the handler can ask for as [`Extension`].
//!
//! Layers run inside the handler's transaction, which is committed behind them and not limited by them. One
//! that fails has the transaction rolled back; one that stops the handler in the middle, as a timeout does,
//! has its connection closed as well, because nobody knows what is left on it.

mod call;
mod extension;
mod layered;
mod next;
mod timeout;
mod trace;

pub use self::call::{Call, Handled};
pub use self::extension::{Extension, Extensions};
pub(crate) use self::layered::layered;
pub use self::next::{FromFn, FromFnService, HandlerLayer, Next, from_fn};
pub use self::timeout::{Timeout, TimeoutService};
pub use self::trace::{Trace, TraceService};
