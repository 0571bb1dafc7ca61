//! What the compiler says about services that are written wrong.
//!
//! These are the errors of the crate `courant`, and they stand here because its own tests have every engine:
//! each run of the compiler on these programs would build them all.

mod compile_errors;
