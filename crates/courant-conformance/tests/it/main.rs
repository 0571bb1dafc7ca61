//! The engines and stores of this workspace against their contracts, and the scenarios of these against
//! engines and stores that lie.

mod adapters;
mod engines;
mod liar;
mod lies;
mod lying_publish;
mod lying_store;
mod lying_subscription;
#[cfg(feature = "mariadb")]
mod mariadb;
mod mutants;
#[cfg(feature = "postgres")]
mod postgres;
mod store_lies;
mod store_mutants;
mod stores;
