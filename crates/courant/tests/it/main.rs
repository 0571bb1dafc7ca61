//! The framework as a service uses it: on `memory:`, `embedded:` and a server, with every database.
//!
//! What concerns the database stands in `cases`, and is compiled once for each of them, beside what that
//! database needs for it: a service is written for one.
#![allow(clippy::duplicate_mod, reason = "a case has another database each time")]

mod absent_engine;
mod asking;
mod bank;
mod bank_books;
mod build_errors;
mod channel;
mod commands;
mod editing;
mod evolving;
mod examples;
mod full;
mod given;
mod layers;
#[cfg(feature = "listen")]
mod listening;
mod mapping;
#[cfg(feature = "mariadb")]
mod mariadb;
mod moving;
mod one_handler;
mod one_key_failing;
mod parked;
mod pieces;
mod planted;
mod poor_engine;
#[cfg(feature = "postgres")]
mod postgres;
mod redrive_results;
mod reminding;
mod retention_gap;
mod server;
mod serving;
mod settling;
mod signals;
mod spans;
mod sqlite;
mod stalls;
mod topics_anew;
mod tracing_ids;
mod without_store;

use sqlite::common;
