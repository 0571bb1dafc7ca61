//! The framework as a service uses it: on `memory:` and `embedded:`, with SQLite.

mod build_errors;
mod common;
mod compile_errors;
mod dead_letters;
mod effects;
mod examples;
mod ordering;
mod progress;
mod settling;
mod stopping;
mod tracing_ids;
mod without_store;
