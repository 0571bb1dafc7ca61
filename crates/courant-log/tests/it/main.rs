//! The log from outside: what it promises, and that it keeps it when the power goes.

mod basics;
mod crash;
mod damage;
mod durability;
mod groups;
mod ledger;
mod retention;
mod script;
mod support;
mod threads;
mod versions;
