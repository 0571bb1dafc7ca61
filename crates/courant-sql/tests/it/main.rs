//! The store on real databases: what commits together, what survives, what is refused. The cases stand in
//! `cases`, and are compiled once for each store, beside what that store needs for them.
#![allow(clippy::duplicate_mod, reason = "a case has other types on each store")]

mod given;
#[cfg(feature = "mariadb")]
mod mariadb;
#[cfg(feature = "postgres")]
mod postgres;
mod soaking;
#[cfg(feature = "sqlite")]
mod sqlite;
