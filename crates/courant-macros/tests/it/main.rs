//! What the compiler says about services that are written wrong.
//!
//! These are the errors of the crate `courant`. They stand with the derives, of which many of them are.

mod compile_errors;
