//! What the compiler says about services that are written wrong.
//!
//! They are the errors of the crate `courant` and of its derives. Neither has them among its own tests: what a crate of
//! derives needs for tests is built for the compiler, and so once more, with all that it builds on.

mod compile_errors;
