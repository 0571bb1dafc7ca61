//! The framework as a service uses it: on `memory:` and `embedded:`, with SQLite.

mod absent_engine;
mod asked_from_outside;
mod bank;
mod bank_books;
mod broker_down;
mod build_errors;
mod common;
mod dead_letters;
mod effects;
mod examples;
mod one_key_failing;
mod ordering;
mod progress;
mod settling;
mod stopping;
mod tracing_ids;
mod without_store;
