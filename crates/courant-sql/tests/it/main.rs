//! The store on real files: what commits together, what survives, what is refused.

mod busy;
mod dead_letters;
mod fencing;
mod inbox;
mod outbox;
mod parking;
mod pruning;
mod redrive;
mod schema;
mod support;
mod transactions;
